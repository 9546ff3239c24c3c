//! The inbound requests in flight, so that the outbound calls behind them can be tied to them.
//!
//! An app that copies nothing but its correlation or trace identifier to its own calls passes no deadline
//! on. The proxy has seen the inbound request, so the call finds it here, inherits what is left of its time
//! and ends when its caller gives up. One index per proxy, as a request and its calls may be on different workers, in
//! parts that are written by one worker each (module `shard`): only a call that asks goes to those of others. The hash
//! is keyed, so that nobody can choose where an entry falls; it is not SipHash, which costs a tenth of a request.
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
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::time::Instant;

use crate::{
    correlate::RequestId,
    observe::AttributedBy,
    trace_context::{TraceContext, TraceId},
};

mod cancel;
mod shard;

#[cfg(test)]
mod tests;

pub use cancel::Cancelled;
use shard::{Shard, Slot};

/// Requests that are indexed, at some 300 bytes each: 20 MB for a proxy that would be lost anyway.
pub const CAPACITY: usize = 65_536;
/// Requests of one identifier; a longer list would make leaving it slow for whoever repeats one on purpose.
pub const SAME: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct InFlight {
    /// By worker.
    shards: Box<[Shard]>,
    /// Of the hash.
    keys: [u64; 3],
    /// Of each shard.
    capacity: usize,
}

/// The index as one worker writes to it.
#[derive(Debug)]
pub struct Seat {
    index: Arc<InFlight>,
    worker: usize,
}

/// One inbound request.
#[derive(Debug)]
struct Entry {
    request_id: RequestId,
    trace: Option<TraceContext>,
    deadline: Option<Instant>,
    cancel: cancel::Cancel,
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
    seat: Rc<Seat>,
    entry: Option<Arc<Entry>>,
}

impl InFlight {
    /// An index for `workers`, of at most `capacity` requests.
    #[must_use]
    pub fn new(workers: usize, capacity: usize) -> Self {
        let random = RandomState::new();
        Self {
            shards: (0..workers.max(1)).map(|_| Shard::default()).collect(),
            keys: [0_u8, 1, 2].map(|n| random.hash_one(n)),
            capacity: capacity.div_ceil(workers.max(1)),
        }
    }

    /// The part of one worker.
    #[must_use]
    pub fn seat(self: &Arc<Self>, worker: usize) -> Rc<Seat> {
        Rc::new(Seat { index: Arc::clone(self), worker: worker % self.shards.len() })
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
        self.shards.iter().map(|s| s.present.load(Ordering::SeqCst)).sum()
    }

    /// True if no inbound request is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|s| s.present.load(Ordering::Relaxed) == 0)
    }

    /// Requests, since the start, to which nothing can be attributed, because the index was full.
    #[must_use]
    pub fn unindexed(&self) -> u64 {
        self.shards.iter().map(|s| s.unindexed.load(Ordering::Relaxed)).sum()
    }

    /// Requests that ever came.
    fn entered(&self) -> u64 {
        self.shards.iter().map(|s| s.entered.load(Ordering::SeqCst)).sum()
    }

    /// The only request in flight.
    fn infer(&self) -> Option<Attribution> {
        let entered = self.entered();
        if self.len() != 1 {
            return None;
        }
        let only = self.shards.iter().find_map(Shard::any)?;
        // Nobody came to any worker from the first look at its count to the last, so from one to the other there were ever
        // fewer; one at its beginning and one still there: it is the one.
        let unchanged = self.len() == 1 && self.entered() == entered;
        unchanged.then(|| Attribution::to(AttributedBy::Inferred, only))
    }

    fn find(&self, key: u64, matches: impl Fn(&Entry) -> bool) -> Option<Attribution> {
        let mut found = Found::default();
        for shard in &self.shards {
            if let Some(table) = shard.look(key)
                && let Some(slot) = table.get(key)
            {
                found.add(slot, &matches);
            }
        }
        found.attribution()
    }

    fn keys(&self, entry: &Entry) -> impl Iterator<Item = u64> {
        let trace = entry.trace.map(|trace| self.key_of_trace(&trace.trace_id));
        std::iter::once(self.key_of_id(&entry.request_id)).chain(trace)
    }

    fn key_of_id(&self, id: &RequestId) -> u64 {
        let [a, b, c] = self.keys;
        let bytes = id.as_bytes();
        let whole = bytes.chunks(16).fold(c ^ bytes.len() as u64, |hash, chunk| {
            let mut padded = [0; 16];
            padded[..chunk.len()].copy_from_slice(chunk);
            let [low, high] = halves(padded);
            fold(low ^ a, high ^ hash)
        });
        fold(whole, b)
    }

    fn key_of_trace(&self, trace: &TraceId) -> u64 {
        let [a, b, _] = self.keys;
        let [low, high] = halves(trace.0);
        fold(low ^ b, high ^ a)
    }
}

/// A product of 128 bits, folded: every bit of it depends on all of both.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(bytes);
    [whole as u64, (whole >> 64) as u64]
}

/// What all workers have of one identifier.
#[derive(Default)]
struct Found {
    first: Option<Arc<Entry>>,
    /// How many there are.
    count: usize,
    /// What holds for all of them.
    deadline: Option<Instant>,
    request_id: Option<RequestId>,
    crowded: bool,
}

impl Found {
    fn add(&mut self, slot: &Slot, matches: impl Fn(&Entry) -> bool) {
        for entry in slot.all().filter(|e| matches(e)) {
            self.crowded |= slot.crowded;
            self.count += 1;
            if self.first.is_none() {
                (self.deadline, self.request_id) = (entry.deadline, Some(entry.request_id));
                self.first = Some(Arc::clone(entry));
                continue;
            }
            self.deadline = self.deadline.zip(entry.deadline).map(|(a, b)| a.max(b));
            self.request_id = self.request_id.filter(|id| *id == entry.request_id);
        }
    }

    fn attribution(self) -> Option<Attribution> {
        let first = self.first?;
        let common = Attribution { by: AttributedBy::Header, ..Attribution::NONE };
        Some(match self.count {
            _ if self.crowded => common,
            1 => Attribution::to(AttributedBy::Header, first),
            _ => Attribution { deadline: self.deadline, request_id: self.request_id, ..common },
        })
    }
}

impl Seat {
    /// An inbound request begins.
    pub fn enter(self: &Rc<Self>, id: &RequestId, trace: Option<&TraceContext>, deadline: Option<Instant>) -> Guard {
        let shard = self.shard();
        shard.present.fetch_add(1, Ordering::SeqCst);
        shard.entered.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard { seat: Rc::clone(self), entry: None };
        let entry = Arc::new(Entry { request_id: *id, trace: trace.copied(), deadline, cancel: Default::default() });
        let index = &*self.index;
        if !id.as_bytes().is_empty() && shard.insert(index.keys(&entry), &entry, index.capacity) {
            guard.entry = Some(entry);
        } else {
            shard.unindexed.fetch_add(1, Ordering::Relaxed);
        }
        guard
    }

    fn shard(&self) -> &Shard {
        &self.index.shards[self.worker]
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
        self.seat.shard().remove(self.seat.index.keys(entry), entry);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.leave(&entry);
            entry.cancel.set();
        }
        self.seat.shard().present.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread that panicked left the data whole: every change is one call on a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
