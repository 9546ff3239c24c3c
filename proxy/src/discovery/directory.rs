//! What is known of destinations: the table that workers look into for each connection and request.
//!
//! A directory is immutable and replaced whole by the control thread, at most once for a batch of news, so
//! a lookup takes no lock, allocates nothing and waits for nobody. Services are meant by a number that stays
//! theirs for the life of the process; the snapshot in force says which upstream that is, so that a directory and a
//! snapshot of different age never disagree about *which* service is meant.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use outrigger_config::model::Endpoint;

/// See the module.
#[derive(Default)]
pub struct Directory {
    addresses: HashMap<SocketAddr, Arc<Entry>, Quick>,
    /// `host:port` in lower case, sorted.
    names: Vec<(Box<str>, Arc<Entry>)>,
}

/// What is known of one destination.
#[derive(Debug)]
pub struct Entry {
    /// Where it leads.
    pub verdict: Verdict,
    /// Set by whoever looks it up; taken by the control thread, which forgets what nobody uses.
    used: AtomicBool,
}

/// Where a destination leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// To a port of a Service.
    Service {
        /// Its number.
        slot: u32,
        /// The caller chose this endpoint itself; `None`: it is chosen for each request.
        pinned: Option<Arc<Endpoint>>,
    },
    /// To a pod of no Service.
    Pod(Arc<Endpoint>),
    /// Out of the mesh, to the address itself.
    Outside,
    /// Out of the mesh, to what the name resolves to, best first; empty: to nothing.
    Name(Arc<[Arc<Endpoint>]>),
}

impl Entry {
    /// One that nobody has used.
    #[must_use]
    pub fn new(verdict: Verdict) -> Arc<Self> {
        Arc::new(Self { verdict, used: AtomicBool::new(false) })
    }

    fn touch(&self) {
        // Read first: a store by every request would take the cache line from the other workers each time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last time that this was asked.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl Directory {
    /// A directory of these. Names are `host:port` in lower case.
    #[must_use]
    pub fn new(
        addresses: impl IntoIterator<Item = (SocketAddr, Arc<Entry>)>,
        names: impl IntoIterator<Item = (Box<str>, Arc<Entry>)>,
    ) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let mut table = HashMap::with_hasher(Quick::default());
        table.extend(addresses);
        Self { addresses: table, names }
    }

    /// Where connections to `address` go.
    #[must_use]
    pub fn address(&self, address: SocketAddr) -> Option<&Verdict> {
        let entry = self.addresses.get(&address)?;
        entry.touch();
        Some(&entry.verdict)
    }

    /// Where requests for `host` (any case) at `port` (digits) go.
    #[must_use]
    pub fn name(&self, host: &str, port: &str) -> Option<&Verdict> {
        let wanted = || host.bytes().map(|b| b.to_ascii_lowercase()).chain(std::iter::once(b':')).chain(port.bytes());
        let found = self.names.binary_search_by(|(key, _)| key.bytes().cmp(wanted())).ok()?;
        let entry = &self.names[found].1;
        entry.touch();
        Some(&entry.verdict)
    }

    /// Whether `address` is known or leads somewhere; asking is no use.
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Destinations known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len() + self.names.len()
    }

    /// True if nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A hash of addresses: a multiplication for each eight bytes, seeded so that nobody can aim at one bucket.
#[derive(Clone)]
struct Quick(u64);

impl Default for Quick {
    fn default() -> Self {
        Self(fastrand::u64(..))
    }
}

impl BuildHasher for Quick {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        /// Odd, and with no pattern: the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        // Both halves: high bits depend on all of the word, and the table takes its bucket from the low ones.
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.fold(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.fold(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.fold(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.fold(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.fold(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_found_and_use_is_noted() {
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:80".parse().unwrap(), "[fd00::1]:80".parse().unwrap());
        let outside = Entry::new(Verdict::Outside);
        let service = Entry::new(Verdict::Service { slot: 7, pinned: None });
        let directory = Directory::new(
            [(a, Arc::clone(&outside)), (b, Arc::clone(&service))],
            [("payments.shop:8080".into(), Arc::clone(&service)), ("a:80".into(), Arc::clone(&outside))],
        );
        assert_eq!(directory.address(a), Some(&Verdict::Outside));
        assert_eq!(directory.address(b), Some(&Verdict::Service { slot: 7, pinned: None }));
        assert_eq!(directory.address("10.0.0.1:81".parse().unwrap()), None);
        assert_eq!(directory.name("Payments.SHOP", "8080"), Some(&Verdict::Service { slot: 7, pinned: None }));
        assert_eq!(directory.name("payments.shop", "808"), None);
        assert_eq!(directory.name("payments.shop", ""), None);
        assert!(outside.take_used());
        assert!(!outside.take_used());
    }

    #[test]
    fn neighbouring_addresses_spread() {
        let quick = Quick::default();
        let low = |n: u32| {
            let address = SocketAddr::from((n.to_be_bytes(), 80));
            quick.hash_one(address) & 1023
        };
        let mut buckets = [0_u32; 1024];
        (0..65_536).for_each(|n| buckets[low(0x0a00_0000 + n) as usize] += 1);
        assert!(buckets.iter().all(|n| *n < 3 * 64), "{:?}", buckets.iter().max());
    }
}
