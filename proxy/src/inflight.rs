//! The inbound requests in flight, so that the outbound calls behind them can be tied to them.
//!
//! An app that copies nothing but its correlation or trace identifier to its own calls passes no deadline
//! on. The proxy has seen the inbound request, so the call finds it here, inherits what is left of its time
//! and ends when its caller gives up. One index per proxy: a request and its calls may be on different
//! workers. Sharded by a keyed hash, so that workers hardly meet and nobody can choose where an entry falls.
//!
//! Never a guess between two. Where several requests have the identifier, only what holds for all of them
//! is inherited: the latest of their deadlines (nobody waits longer; an earlier one could be that of an
//! attempt whose retry this call belongs to), and none if one has none. Inference, where a call has no known
//! identifier, takes place only if one request alone is in flight in the whole proxy, before and after it
//! was found.
//!
//! Bounds: [`CAPACITY`] requests and [`SAME`] of one identifier; further ones are carried, but nothing is
//! attributed to them, which is counted. Of a request, 256 calls are told at once that
//! it was given up; others have the deadline.
//!
//! Sans-io: no clock is read, nothing waits.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use crate::{
    correlate::RequestId,
    observe::AttributedBy,
    trace_context::{TraceContext, TraceId},
};

mod cancel;

#[cfg(test)]
mod tests;

pub use cancel::Cancelled;

/// Requests that are indexed, at some 300 bytes each: 20 MB for a proxy that would be lost anyway.
pub const CAPACITY: usize = 65_536;
/// Requests of one identifier; a longer list would make leaving it slow for whoever repeats one on purpose.
pub const SAME: usize = 64;
/// A worker is one thread and there are few: 16 locks are hardly ever contended.
const SHARDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct InFlight {
    shards: Box<[Mutex<HashMap<u64, Slot>>]>,
    hasher: RandomState,
    capacity: usize,
    /// Requests in the index.
    indexed: AtomicUsize,
    /// Requests in flight, in the index or not.
    present: AtomicUsize,
    /// Requests that ever came.
    entered: AtomicU64,
    unindexed: AtomicU64,
}

/// One inbound request.
#[derive(Debug)]
struct Entry {
    request_id: RequestId,
    trace: Option<TraceContext>,
    deadline: Option<Instant>,
    cancel: cancel::Cancel,
}

/// The requests of one key. Mostly there is one, and no list.
#[derive(Debug)]
struct Slot {
    first: Arc<Entry>,
    more: Vec<Arc<Entry>>,
    /// There were more than [`SAME`]: nothing is known of all of them.
    crowded: bool,
}

/// What an outbound call is tied to.
#[derive(Debug)]
pub struct Attribution {
    /// How; the label of `attributed_total`.
    pub by: AttributedBy,
    /// By when the call has to be done, as far as the inbound request goes.
    pub deadline: Option<Instant>,
    /// The identifier to go on with, if the call has none of its own.
    pub request_id: Option<RequestId>,
    /// The trace to go on with, if the call has none of its own.
    pub trace: Option<TraceContext>,
    /// Tells when the caller of the inbound request has given up.
    pub cancelled: Option<Cancelled>,
}

/// Keeps a request in the index. Dropped without [`Guard::finish`], the request was given up.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    index: Arc<InFlight>,
    entry: Option<Arc<Entry>>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl InFlight {
    /// An index of at most `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            capacity,
            indexed: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            entered: AtomicU64::new(0),
            unindexed: AtomicU64::new(0),
        }
    }

    /// An inbound request begins.
    pub fn enter(self: &Arc<Self>, id: &RequestId, trace: Option<&TraceContext>, deadline: Option<Instant>) -> Guard {
        self.present.fetch_add(1, Ordering::SeqCst);
        self.entered.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard { index: Arc::clone(self), entry: None };
        if self.indexed.fetch_add(1, Ordering::Relaxed) >= self.capacity || id.as_bytes().is_empty() {
            self.indexed.fetch_sub(1, Ordering::Relaxed);
            self.unindexed.fetch_add(1, Ordering::Relaxed);
            return guard;
        }
        let entry = Arc::new(Entry { request_id: *id, trace: trace.copied(), deadline, cancel: Default::default() });
        for key in self.keys(&entry) {
            self.insert(key, &entry);
        }
        guard.entry = Some(entry);
        guard
    }

    /// What an outbound call with these identifiers is tied to. The correlation identifier comes first: it
    /// is that of one request, while a trace may have several here.
    #[must_use]
    pub fn attribute(&self, id: Option<&RequestId>, trace: Option<&TraceId>, infer: bool) -> Attribution {
        let by_id = id.and_then(|id| self.find(self.key_of_id(id), |e| e.request_id == *id));
        let found = by_id.or_else(|| {
            let trace = trace?;
            self.find(self.key_of_trace(trace), |e| e.trace.is_some_and(|t| t.trace_id == *trace))
        });
        match found {
            Some(found) => found,
            None if infer => self.infer().unwrap_or(Attribution::NONE),
            None => Attribution::NONE,
        }
    }

    /// Inbound requests in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// True if no inbound request is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests, since the start, to which nothing can be attributed, because the index was full.
    #[must_use]
    pub fn unindexed(&self) -> u64 {
        self.unindexed.load(Ordering::Relaxed)
    }

    /// The only request in flight.
    fn infer(&self) -> Option<Attribution> {
        let entered = self.entered.load(Ordering::SeqCst);
        if self.present.load(Ordering::SeqCst) != 1 {
            return None;
        }
        let only = self.shards.iter().find_map(|s| lock(s).values().next().map(|slot| Arc::clone(&slot.first)))?;
        // Nobody came while we looked, and one is still there: it is the one.
        let unchanged = self.entered.load(Ordering::SeqCst) == entered && self.present.load(Ordering::SeqCst) == 1;
        unchanged.then(|| Attribution::to(AttributedBy::Inferred, only))
    }

    fn find(&self, key: u64, matches: impl Fn(&Entry) -> bool) -> Option<Attribution> {
        let shard = lock(self.shard(key));
        let slot = shard.get(&key)?;
        let mut all = slot.all().filter(|e| matches(e));
        let first = all.next()?;
        if slot.crowded {
            return Some(Attribution { by: AttributedBy::Header, ..Attribution::NONE });
        }
        let Some(second) = all.next() else {
            return Some(Attribution::to(AttributedBy::Header, Arc::clone(first)));
        };
        let same = Attribution {
            by: AttributedBy::Header,
            deadline: first.deadline,
            request_id: Some(first.request_id),
            ..Attribution::NONE
        };
        Some(std::iter::once(second).chain(all).fold(same, |common, entry| Attribution {
            deadline: common.deadline.zip(entry.deadline).map(|(a, b)| a.max(b)),
            request_id: common.request_id.filter(|id| *id == entry.request_id),
            ..common
        }))
    }

    fn insert(&self, key: u64, entry: &Arc<Entry>) {
        match lock(self.shard(key)).entry(key) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Slot { first: Arc::clone(entry), more: Vec::new(), crowded: false });
            }
            hash_map::Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                if slot.more.len() + 1 < SAME {
                    slot.more.push(Arc::clone(entry));
                } else {
                    slot.crowded = true;
                    self.unindexed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn remove(&self, key: u64, entry: &Arc<Entry>) {
        let mut shard = lock(self.shard(key));
        let hash_map::Entry::Occupied(mut occupied) = shard.entry(key) else { return };
        let slot = occupied.get_mut();
        if !Arc::ptr_eq(&slot.first, entry) {
            slot.more.retain(|e| !Arc::ptr_eq(e, entry));
        } else if let Some(next) = slot.more.pop() {
            slot.first = next;
        } else {
            occupied.remove();
        }
    }

    fn keys(&self, entry: &Entry) -> impl Iterator<Item = u64> {
        let trace = entry.trace.map(|trace| self.key_of_trace(&trace.trace_id));
        std::iter::once(self.key_of_id(&entry.request_id)).chain(trace)
    }

    fn key_of_id(&self, id: &RequestId) -> u64 {
        self.hasher.hash_one((0_u8, id.as_bytes()))
    }

    fn key_of_trace(&self, trace: &TraceId) -> u64 {
        self.hasher.hash_one((1_u8, trace.0))
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, Slot>> {
        // The upper bits: the map uses the lower ones of a hash of its own.
        let index = usize::try_from(key >> 32).unwrap_or(0) % SHARDS;
        &self.shards[index]
    }
}

impl Slot {
    fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Attribution {
    /// To nothing.
    pub const NONE: Self =
        Self { by: AttributedBy::None, deadline: None, request_id: None, trace: None, cancelled: None };

    fn to(by: AttributedBy, entry: Arc<Entry>) -> Self {
        Self {
            by,
            deadline: entry.deadline,
            request_id: Some(entry.request_id),
            trace: entry.trace,
            cancelled: Some(Cancelled::new(entry)),
        }
    }
}

impl Guard {
    /// The request was answered. Calls that the app makes after its answer go on, within the deadline.
    pub fn finish(mut self) {
        if let Some(entry) = self.entry.take() {
            self.leave(&entry);
        }
    }

    fn leave(&self, entry: &Arc<Entry>) {
        for key in self.index.keys(entry) {
            self.index.remove(key, entry);
        }
        self.index.indexed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.leave(&entry);
            entry.cancel.set();
        }
        self.index.present.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread that panicked left the data whole: every change is one call on a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
