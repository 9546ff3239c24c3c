//! The good answers, in a bounded piece of memory.
//!
//! One per proxy: what one worker has seen helps all. Of a resource there are a few variants (RFC 9111 4.1),
//! by caller, rule and the fields that its latest answer varies by; what was longest of no use goes first. A look-up is one lock
//! and one hash, and takes place only when a request has failed; a recording takes two.
//!
//! Bounds: [`CAPACITY`] bytes for answers, fields and keys, as much as a quarter of that again for answers
//! under way, [`VARIANTS`] for a resource.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{mark, record::Asked};
use crate::{error::Reason, http::ResponseHead};

/// Memory for good answers: next to nothing beside an app, and some hundred ordinary answers.
pub const CAPACITY: usize = 16 * 1024 * 1024;
/// Variants of one resource, callers and rules included; the oldest goes.
pub const VARIANTS: usize = 32;
/// What an answer costs beside its bytes: the nodes of two maps.
const OVERHEAD: usize = 256;

/// One good answer.
#[derive(Debug)]
pub struct Good {
    head: ResponseHead,
    /// Its body.
    pub body: Bytes,
    /// How old it was when it came.
    age: Duration,
    came: Instant,
    /// For how long it may be used.
    usable: Duration,
}

impl Good {
    pub(super) fn new(head: ResponseHead, body: Bytes, age: Duration, came: Instant, usable: Duration) -> Self {
        Self { head, body, age, came, usable }
    }

    /// Writes its head over `head`, as an answer in place of a failure of `reason`: with `age` (RFC 9111
    /// 5.1) and marked. Correlation is the caller's business.
    pub fn write(&self, reason: Reason, now: Instant, head: &mut ResponseHead) {
        head.clone_from(&self.head);
        let age = self.age.saturating_add(now.saturating_duration_since(self.came)).as_secs();
        head.headers.append(b"age", itoa::Buffer::new().format(age).as_bytes());
        mark(head, reason);
    }

    fn is_usable(&self, keep: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.came) <= keep.min(self.usable)
    }

    fn size(&self) -> usize {
        self.body.len() + self.head.headers.list_size() + self.head.reason.len() + OVERHEAD
    }
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    kept: Mutex<Kept>,
    capacity: usize,
    /// Bytes of recordings under way.
    lent: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    nodes: HashMap<Arc<[u8]>, Node>,
    /// By the time of their last use.
    order: BTreeMap<u64, Arc<[u8]>>,
    tick: u64,
    bytes: usize,
}

/// All answers for one resource.
#[derive(Debug)]
struct Node {
    vary: Box<[Box<[u8]>]>,
    variants: Vec<(Vec<u8>, Arc<Good>)>,
    used: u64,
    size: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Store {
    /// A store of at most `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { kept: Mutex::default(), capacity, lent: AtomicUsize::new(0) }
    }

    /// The last good answer to `asked`, if it is no older than `keep`.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>, keep: Duration, now: Instant) -> Option<Arc<Good>> {
        if !asked.takes_kept() {
            return None;
        }
        let key = asked.key()?;
        let mut kept = self.lock();
        let node = kept.nodes.get(&*key)?;
        let values = asked.values(&node.vary)?;
        let good = node.variants.iter().find(|(v, _)| *v == values).map(|(_, good)| Arc::clone(good))?;
        if !good.is_usable(keep, now) {
            return None;
        }
        kept.touch(&key);
        Some(good)
    }

    /// Bytes in use, recordings under way included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes + self.lent.load(Ordering::Relaxed)
    }

    /// Forgets a resource. To be called when an unsafe method succeeded on it (RFC 9111 4.4): what is kept is
    /// then known to be out of date.
    pub fn forget(&self, asked: &Asked<'_>) {
        if let Some(key) = asked.key() {
            self.lock().take(&key);
        }
    }

    /// The answer with this `ETag` came less than `time` ago, and can still be used for that.
    pub(super) fn has(&self, key: &[u8], values: &[u8], tag: &[u8], time: Duration, now: Instant) -> bool {
        let kept = self.lock();
        let good = kept.nodes.get(key).and_then(|n| n.variants.iter().find(|(v, _)| *v == values));
        good.is_some_and(|(_, good)| good.is_usable(time, now) && good.head.headers.get(b"etag") == Some(tag))
    }

    /// Room for so much more of a recording.
    pub(super) fn lend(&self, bytes: usize) -> bool {
        let lent = self.lent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let fits = lent <= self.capacity / 4;
        if !fits {
            self.take_back(bytes);
        }
        fits
    }

    pub(super) fn take_back(&self, bytes: usize) {
        self.lent.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn put(&self, key: Vec<u8>, vary: Box<[Box<[u8]>]>, values: Vec<u8>, good: Good) {
        let size = good.size() + values.len() + key.len();
        if size > self.capacity {
            return;
        }
        let mut kept = self.lock();
        let key: Arc<[u8]> = key.into();
        let mut node = kept.take(&key).filter(|node| node.vary == vary).unwrap_or_else(|| Node::new(&key, vary));
        node.put(values, Arc::new(good));
        kept.insert(key, node);
        while kept.bytes > self.capacity {
            let Some((_, oldest)) = kept.order.first_key_value() else { break };
            let oldest = Arc::clone(oldest);
            kept.take(&oldest);
        }
    }

    /// A thread that panicked may at worst have left bytes uncounted or counted twice.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Takes a node out, with all that is counted of it.
    fn take(&mut self, key: &[u8]) -> Option<Node> {
        let node = self.nodes.remove(key)?;
        self.order.remove(&node.used);
        self.bytes = self.bytes.saturating_sub(node.size);
        Some(node)
    }

    fn insert(&mut self, key: Arc<[u8]>, mut node: Node) {
        self.tick += 1;
        node.used = self.tick;
        self.bytes += node.size;
        self.order.insert(node.used, Arc::clone(&key));
        self.nodes.insert(key, node);
    }

    /// It was of use.
    fn touch(&mut self, key: &[u8]) {
        self.tick += 1;
        let Some(node) = self.nodes.get_mut(key) else { return };
        if let Some(key) = self.order.remove(&node.used) {
            node.used = self.tick;
            self.order.insert(self.tick, key);
        }
    }
}

impl Node {
    fn new(key: &[u8], vary: Box<[Box<[u8]>]>) -> Self {
        let size = key.len() + vary.iter().map(|v| v.len()).sum::<usize>() + OVERHEAD;
        Self { vary, variants: Vec::new(), used: 0, size }
    }

    fn put(&mut self, values: Vec<u8>, good: Arc<Good>) {
        let same = self.variants.iter().position(|(v, _)| *v == values);
        let leaves = same.or_else(|| (self.variants.len() >= VARIANTS).then_some(0));
        if let Some(i) = leaves {
            let (values, good) = self.variants.remove(i);
            self.size = self.size.saturating_sub(values.len() + good.size());
        }
        self.size += values.len() + good.size();
        self.variants.push((values, good));
    }
}
