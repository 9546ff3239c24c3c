//! Those who wait at a gate, and what one of them holds.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{Door, Permit};

/// It is in the queue.
pub(super) const WAITING: u8 = 0;
/// It left the queue with a permit.
pub(super) const GRANTED: u8 = 1;
/// It left the queue because its time was over.
pub(super) const DROPPED: u8 = 2;

/// Waiters by their turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next: u64,
    /// A map, so that one can leave from the middle.
    pub(super) entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) deadline: Option<Instant>,
    /// None until it was polled.
    pub(super) waker: Option<Waker>,
    /// Changes once, after the entry has left the queue and under its lock.
    pub(super) outcome: Arc<AtomicU8>,
}

impl Queue {
    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, entry);
        id
    }

    /// Bounded by `MAX_PENDING`.
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }
}

/// A place in the queue. Dropped, it leaves the queue or passes on what it was given.
#[derive(Debug)]
pub struct Pending {
    door: Rc<Door>,
    id: u64,
    outcome: Arc<AtomicU8>,
    deadline: Option<Instant>,
    /// Its outcome was taken.
    done: bool,
}

/// The time of a waiter was over before its turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request waited for a place until its time was over")]
pub struct Expired;

impl Pending {
    pub(super) fn new(door: Rc<Door>, id: u64, outcome: Arc<AtomicU8>, deadline: Option<Instant>) -> Self {
        Self { door, id, outcome, deadline, done: false }
    }

    /// Waits for the turn. Nothing here watches the clock: the caller polls again at the deadline.
    ///
    /// # Errors
    /// The deadline has passed; the caller fails as its deadline says.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Permit, Expired>> {
        let expired = self.deadline.is_some_and(|d| d <= now);
        if self.outcome.load(Ordering::Acquire) == WAITING && !expired && self.register(cx) {
            return Poll::Pending;
        }
        if expired {
            self.leave();
            return Poll::Ready(Err(Expired));
        }
        self.done = true;
        match self.outcome.load(Ordering::Acquire) {
            GRANTED => Poll::Ready(Ok(self.door.permit())),
            _ => Poll::Ready(Err(Expired)),
        }
    }

    /// False if it is no longer in the queue: its outcome is there.
    fn register(&self, cx: &Context<'_>) -> bool {
        let mut queue = self.door.gate.lock();
        let Some(entry) = queue.entries.get_mut(&self.id) else { return false };
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        true
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let was_waiting = {
            let mut queue = self.door.gate.lock();
            let removed = queue.entries.remove(&self.id).is_some();
            self.door.gate.waiting.store(queue.len(), Ordering::SeqCst);
            removed
        };
        if !was_waiting && self.outcome.load(Ordering::Acquire) == GRANTED {
            drop(self.door.permit());
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.leave();
    }
}
