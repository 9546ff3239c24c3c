//! The bulkhead: so many connections and requests at once, a bounded queue before them, and no more.
//!
//! A [`Gate`] is a counter with a limit and a queue; a worker comes to it by a [`Door`]. Invariants:
//!
//! - Never more permits out than the limit. (Lowering the limit takes back none: it is met as they return.)
//! - First come, first served, across all threads: while somebody waits, nobody who comes later goes first.
//! - No wake-up is lost. Whoever gives a permit back makes it free and then looks whether somebody
//!   waits; whoever waits enters the queue and then looks for what is free. All four are sequentially
//!   consistent, so one of the two sees the other, and the one who sees hands the permit over.
//! - The queue is bounded; one that is full refuses at once, after dropping those at its front whose time
//!   is over. A waiter that goes away leaves the queue, or passes on what it was given.
//!
//! A request writes no word that another worker writes: what it takes and gives back is the stock of its worker (module
//! `stock`), which draws permits from the shared count some tens at a time. A permit in a stock counts as given out, so the
//! limit holds whatever the stocks are; who finds neither in the count nor in its stock looks into those of all workers
//! before it waits or is refused, and while somebody waits no stock is filled. Limits too low to be shared out are counted
//! in the shared word alone. At the limit itself, stocks are looked at one after the other: who comes while the last permits
//! change hands may wait for, or be refused, one that is free the next moment.
//!
//! The lock is taken only while somebody waits, and to fill or empty a stock. A semaphore of tokio's would do the
//! rest of this, but cannot drop the oldest, refuse by length, or change its size.

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::Waker,
};

use outrigger_config::model::Limits;
use tokio::{sync::Notify, time::Instant};

mod door;
mod queue;
mod stock;

#[cfg(test)]
mod tests;

pub use door::{Door, Permit};
use queue::{DROPPED, GRANTED, Queue};
pub use queue::{Expired, Pending};
use stock::Stocks;

/// Longest queue, whatever is configured: each waiter holds a request with its buffers (some 20 KiB).
const MAX_PENDING: u32 = 65_536;

/// The gates of one upstream or policy.
#[derive(Debug)]
pub struct Bulkhead {
    /// Connections to all endpoints.
    pub connections: Arc<Gate>,
    /// Requests in flight.
    pub requests: Arc<Gate>,
    /// Told whenever somebody begins to wait for a connection: who has one on the off chance gives it up.
    pub wanted: Notify,
}

impl Bulkhead {
    /// Empty ones, for so many workers.
    #[must_use]
    pub fn new(limits: &Limits, workers: usize) -> Self {
        Self {
            // Connections are made once and kept: their word is rarely written.
            connections: Gate::new(limits.max_connections, limits.max_pending, 1),
            requests: Gate::new(limits.max_requests, limits.max_pending, workers),
            wanted: Notify::new(),
        }
    }

    /// New limits for what is in flight already.
    pub fn resize(&self, limits: &Limits) {
        self.connections.resize(limits.max_connections, limits.max_pending);
        self.requests.resize(limits.max_requests, limits.max_pending);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    limit: AtomicU32,
    max_pending: AtomicU32,
    /// Permits that are out, and those in stocks.
    drawn: AtomicU32,
    /// Length of the queue.
    waiting: AtomicU32,
    stocks: Stocks,
    queue: Mutex<Queue>,
}

/// What a gate says.
#[derive(Debug)]
#[must_use]
pub enum Enter {
    /// Go ahead.
    Go(Permit),
    /// Wait for a place.
    Wait(Pending),
    /// Refuse with `limit_reached`.
    Full,
}

/// What a gate would have said (`mode: observe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Go ahead.
    Go,
    /// Wait.
    Wait,
    /// Refuse.
    Full,
}

/// A gate at one time, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateView {
    /// Permits out.
    pub in_flight: u32,
    /// `None`: there is none.
    pub limit: Option<u32>,
    /// Waiters.
    pub waiting: u32,
    /// Most waiters.
    pub max_pending: u32,
}

impl Gate {
    /// An empty one for `workers`; a `limit` of `u32::MAX` is none.
    #[must_use]
    pub fn new(limit: u32, max_pending: u32, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU32::new(limit),
            max_pending: AtomicU32::new(max_pending.min(MAX_PENDING)),
            drawn: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            stocks: Stocks::new(workers, limit),
            queue: Mutex::default(),
        })
    }

    /// The way to it of one worker.
    #[must_use]
    pub fn door(self: &Arc<Self>, worker: usize) -> Rc<Door> {
        Door::new(self, worker)
    }

    /// True if somebody waits: what could be given back early (an idle connection) should be.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Changes the limits. What was let in while there was no limit is not counted.
    pub fn resize(&self, limit: u32, max_pending: u32) {
        self.max_pending.store(max_pending.min(MAX_PENDING), Ordering::Relaxed);
        self.limit.store(limit, Ordering::SeqCst);
        self.stocks.resize(limit);
        self.settle();
    }

    /// For people.
    #[must_use]
    pub fn view(&self) -> GateView {
        let limit = self.limit.load(Ordering::Relaxed);
        GateView {
            in_flight: self.drawn.load(Ordering::Relaxed).saturating_sub(self.stocks.sum()),
            limit: (limit != u32::MAX).then_some(limit),
            waiting: self.waiting.load(Ordering::Relaxed),
            max_pending: self.max_pending.load(Ordering::Relaxed),
        }
    }

    /// One from the shared count.
    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let add = |n: u32| (n < limit).then(|| n + 1);
        self.drawn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
    }

    /// One from wherever there is one.
    fn find(&self, _: &mut Queue) -> bool {
        if self.take() {
            return true;
        }
        // The permits of a limit that was lowered are not for anybody.
        self.drawn.load(Ordering::SeqCst) <= self.limit.load(Ordering::SeqCst) && self.stocks.take_any()
    }

    /// More permits are out and in stocks than the limit, or somebody waits: what is free belongs to the shared count.
    fn is_short(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 || self.drawn.load(Ordering::SeqCst) > self.limit.load(Ordering::SeqCst)
    }

    /// Gives free places to those who wait.
    fn hand_over(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.settle();
        }
    }

    /// Empties the stocks, and gives what is free to those who wait.
    fn settle(&self) {
        let mut wake = Vec::new();
        {
            let mut queue = self.lock();
            self.drawn.fetch_sub(self.stocks.empty(), Ordering::SeqCst);
            self.serve(&mut queue, &mut wake);
        }
        // Without the lock: a waker may run anything.
        wake.into_iter().for_each(Waker::wake);
    }

    fn serve(&self, queue: &mut Queue, wake: &mut Vec<Waker>) {
        while !queue.entries.is_empty() && self.find(queue) {
            let Some((_, entry)) = queue.entries.pop_first() else { break };
            entry.outcome.store(GRANTED, Ordering::Release);
            wake.extend(entry.waker);
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    fn drop_expired(&self, queue: &mut Queue, now: Instant, wake: &mut Vec<Waker>) {
        while queue.entries.first_key_value().is_some_and(|(_, e)| e.deadline.is_some_and(|d| d <= now)) {
            let Some((_, entry)) = queue.entries.pop_first() else { break };
            entry.outcome.store(DROPPED, Ordering::Release);
            wake.extend(entry.waker);
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that runs under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
