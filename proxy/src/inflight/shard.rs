//! The requests that one worker has in flight.
//!
//! Its lock is taken by its worker alone, but for a look-up whose identifier may be here: a filter beside the table says of
//! nearly all others that it is not. So what a request writes are cache lines of its own worker, and workers meet at those of
//! a request that is asked about.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{Entry, SAME, lock};

/// Counts of keys by their lowest bits, 1 KiB. With a thousand requests in flight, look-ups for others take the lock nearly always;
/// that costs time, and no more than having no filter.
const FILTER: usize = 256;

/// See the module.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    table: Mutex<Table>,
    /// Keys in the table, by their lowest bits. Written under the lock.
    filter: [AtomicU32; FILTER],
    /// Requests in flight, in the table or not.
    pub(super) present: AtomicUsize,
    /// Requests that ever came.
    pub(super) entered: AtomicU64,
    /// Requests that cannot be found.
    pub(super) unindexed: AtomicU64,
}

/// Requests by the hashes of their identifiers, which are keyed: no second hash is needed.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashMap<u64, Slot, BuildHasherDefault<Hashed>>,
    /// Requests in it.
    requests: usize,
}

/// The requests of one key. Mostly there is one, and no list.
#[derive(Debug)]
pub(super) struct Slot {
    first: Arc<Entry>,
    more: Vec<Arc<Entry>>,
    /// There were more than [`SAME`]: nothing is known of all of them.
    pub(super) crowded: bool,
}

/// Takes a hash for what it is.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            filter: [const { AtomicU32::new(0) }; FILTER],
            present: AtomicUsize::new(0),
            entered: AtomicU64::new(0),
            unindexed: AtomicU64::new(0),
        }
    }
}

impl Shard {
    /// Takes a request in under its keys, unless there are `capacity` already.
    pub(super) fn insert(&self, keys: impl Iterator<Item = u64>, entry: &Arc<Entry>, capacity: usize) -> bool {
        let mut table = lock(&self.table);
        if table.requests >= capacity {
            return false;
        }
        table.requests += 1;
        for key in keys {
            // Whoever looks for it was caused by it, hence comes after this.
            self.count(key, |n| n + 1);
            if table.insert(key, entry) {
                self.unindexed.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Forgets a request that [`Shard::insert`] took in under these keys.
    pub(super) fn remove(&self, keys: impl Iterator<Item = u64>, entry: &Arc<Entry>) {
        let mut table = lock(&self.table);
        table.requests -= 1;
        for key in keys {
            self.count(key, |n| n - 1);
            table.remove(key, entry);
        }
    }

    /// What there is under `key`, if there may be something.
    pub(super) fn look(&self, key: u64) -> Option<MutexGuard<'_, Table>> {
        (self.cell(key).load(Ordering::Acquire) > 0).then(|| lock(&self.table))
    }

    /// Any request of the table.
    pub(super) fn any(&self) -> Option<Arc<Entry>> {
        lock(&self.table).slots.values().next().map(|slot| Arc::clone(&slot.first))
    }

    /// True if the table is empty, and the filter knows.
    #[cfg(test)]
    pub(super) fn is_clear(&self) -> bool {
        let table = lock(&self.table);
        let clear = self.filter.iter().all(|n| n.load(Ordering::Relaxed) == 0);
        table.slots.is_empty() && table.requests == 0 && clear
    }

    fn cell(&self, key: u64) -> &AtomicU32 {
        &self.filter[usize::from(key as u8)]
    }

    fn count(&self, key: u64, change: impl FnOnce(u32) -> u32) {
        // Only who holds the lock writes it.
        let cell = self.cell(key);
        cell.store(change(cell.load(Ordering::Relaxed)), Ordering::Release);
    }
}

impl Table {
    /// The slot of a key.
    pub(super) fn get(&self, key: u64) -> Option<&Slot> {
        self.slots.get(&key)
    }

    /// True if the slot is too full to take it.
    fn insert(&mut self, key: u64, entry: &Arc<Entry>) -> bool {
        match self.slots.entry(key) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Slot { first: Arc::clone(entry), more: Vec::new(), crowded: false });
                false
            }
            hash_map::Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                let fits = slot.more.len() + 1 < SAME;
                if fits {
                    slot.more.push(Arc::clone(entry));
                } else {
                    slot.crowded = true;
                }
                !fits
            }
        }
    }

    fn remove(&mut self, key: u64, entry: &Arc<Entry>) {
        let hash_map::Entry::Occupied(mut occupied) = self.slots.entry(key) else { return };
        let slot = occupied.get_mut();
        if !Arc::ptr_eq(&slot.first, entry) {
            slot.more.retain(|e| !Arc::ptr_eq(e, entry));
        } else if let Some(next) = slot.more.pop() {
            slot.first = next;
        } else {
            occupied.remove();
        }
    }
}

impl Slot {
    /// All requests of it that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.first).chain(&self.more)
    }
}
