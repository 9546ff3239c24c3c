//! The bulkhead: so many connections and requests at once, a bounded queue before them, and no more.
//!
//! A [`Gate`] is a counter with a limit and a queue. Invariants:
//!
//! - Never more permits out than the limit. (Lowering the limit takes back none: it is met as they return.)
//! - First come, first served, across all threads: while somebody waits, nobody who comes later goes first.
//! - No wake-up is lost. Whoever gives a permit back lowers the counter and then looks whether somebody
//!   waits; whoever waits enters the queue and then looks at the counter. All four are sequentially
//!   consistent, so one of the two sees the other, and the one who sees hands the permit over.
//! - The queue is bounded; one that is full refuses at once, after dropping those at its front whose time
//!   is over. A waiter that goes away leaves the queue, or passes on what it was given.
//!
//! The counter is one shared word, written twice per request: that is what a limit for a whole proxy costs,
//! and why a gate without a limit does not count. The lock is taken only while somebody waits. A semaphore
//! of tokio's would do most of this, but cannot drop the oldest, refuse by length, or change its size.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    task::Waker,
};

use outrigger_config::model::Limits;
use tokio::{sync::Notify, time::Instant};

mod queue;

#[cfg(test)]
mod tests;

use queue::{DROPPED, Entry, GRANTED, Queue, WAITING};
pub use queue::{Expired, Pending};

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
    /// Empty ones.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: Gate::new(limits.max_connections, limits.max_pending),
            requests: Gate::new(limits.max_requests, limits.max_pending),
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
    in_flight: AtomicU32,
    /// Length of the queue.
    waiting: AtomicU32,
    queue: Mutex<Queue>,
}

/// A place. Given back by `Drop`.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    /// None: there was no limit.
    gate: Option<Arc<Gate>>,
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
    /// An empty one; `u32::MAX` is no limit.
    #[must_use]
    pub fn new(limit: u32, max_pending: u32) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU32::new(limit),
            max_pending: AtomicU32::new(max_pending.min(MAX_PENDING)),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        })
    }

    /// Asks for a place, to wait for until `deadline` at most.
    pub fn enter(self: &Arc<Self>, now: Instant, deadline: Option<Instant>) -> Enter {
        if self.limit.load(Ordering::Relaxed) == u32::MAX {
            return Enter::Go(Permit { gate: None });
        }
        if self.waiting.load(Ordering::SeqCst) == 0 && self.take() {
            return Enter::Go(self.permit());
        }
        self.join(now, deadline)
    }

    /// Asks for a place without waiting.
    pub fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        if self.limit.load(Ordering::Relaxed) == u32::MAX {
            return Some(Permit { gate: None });
        }
        (self.waiting.load(Ordering::SeqCst) == 0 && self.take()).then(|| self.permit())
    }

    /// Counts a request that goes ahead whatever the limit is, and tells what the gate would have said.
    /// One that would have been refused is not counted: it would not be there.
    pub fn watch(self: &Arc<Self>) -> (Permit, Seen) {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            return (Permit { gate: None }, Seen::Go);
        }
        let most = limit.saturating_add(self.max_pending.load(Ordering::Relaxed));
        let add = |n: u32| (n < most).then(|| n + 1);
        match self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add) {
            Ok(before) if before < limit => (self.permit(), Seen::Go),
            Ok(_) => (self.permit(), Seen::Wait),
            Err(_) => (Permit { gate: None }, Seen::Full),
        }
    }

    /// True if somebody waits: what could be given back early (an idle connection) should be.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Changes the limits. What was let in while there was no limit is not counted.
    pub fn resize(self: &Arc<Self>, limit: u32, max_pending: u32) {
        self.max_pending.store(max_pending.min(MAX_PENDING), Ordering::Relaxed);
        self.limit.store(limit, Ordering::SeqCst);
        self.hand_over();
    }

    /// For people.
    #[must_use]
    pub fn view(&self) -> GateView {
        let limit = self.limit.load(Ordering::Relaxed);
        GateView {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            limit: (limit != u32::MAX).then_some(limit),
            waiting: self.waiting.load(Ordering::Relaxed),
            max_pending: self.max_pending.load(Ordering::Relaxed),
        }
    }

    fn join(self: &Arc<Self>, now: Instant, deadline: Option<Instant>) -> Enter {
        let mut wake = Vec::new();
        let entered = {
            let mut queue = self.lock();
            self.serve(&mut queue, &mut wake);
            let most = self.max_pending.load(Ordering::Relaxed) as usize;
            if queue.entries.len() >= most {
                self.drop_expired(&mut queue, now, &mut wake);
            }
            if queue.entries.is_empty() && self.take() {
                Enter::Go(self.permit())
            } else if queue.entries.len() >= most {
                Enter::Full
            } else {
                let outcome = Arc::new(AtomicU8::new(WAITING));
                let id = queue.push(Entry { deadline, waker: None, outcome: Arc::clone(&outcome) });
                self.waiting.store(queue.len(), Ordering::SeqCst);
                // A permit may have come back before the store could be seen.
                self.serve(&mut queue, &mut wake);
                Enter::Wait(Pending::new(Arc::clone(self), id, outcome, deadline))
            }
        };
        wake.into_iter().for_each(Waker::wake);
        entered
    }

    /// Gives free places to those who wait.
    fn hand_over(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut wake = Vec::new();
        self.serve(&mut self.lock(), &mut wake);
        // Without the lock: a waker may run anything.
        wake.into_iter().for_each(Waker::wake);
    }

    fn serve(&self, queue: &mut Queue, wake: &mut Vec<Waker>) {
        while !queue.entries.is_empty() && self.take() {
            let Some((_, entry)) = queue.entries.pop_first() else { break };
            entry.outcome.store(GRANTED, Ordering::Release);
            wake.extend(entry.waker);
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    /// Drops waiters at the front whose time is over. Those behind them leave by their own timers.
    fn drop_expired(&self, queue: &mut Queue, now: Instant, wake: &mut Vec<Waker>) {
        while queue.entries.first_key_value().is_some_and(|(_, e)| e.deadline.is_some_and(|d| d <= now)) {
            let Some((_, entry)) = queue.entries.pop_first() else { break };
            entry.outcome.store(DROPPED, Ordering::Release);
            wake.extend(entry.waker);
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let add = |n: u32| (n < limit).then(|| n + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit { gate: Some(Arc::clone(self)) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that runs under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.in_flight.fetch_sub(1, Ordering::SeqCst);
            gate.hand_over();
        }
    }
}
