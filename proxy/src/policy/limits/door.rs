//! A gate as one worker comes to it, and what it is let in with.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};

use tokio::time::Instant;

use super::{
    Enter, Gate, Seen,
    queue::{Entry, Pending, Queue, WAITING},
};

/// See the module. The counts of an `Arc` are a cache line of all workers, so what a request holds counts an `Rc`.
#[derive(Debug)]
pub struct Door {
    pub(super) gate: Arc<Gate>,
    worker: usize,
}

/// A place. Given back by `Drop`.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    /// None: there was no limit.
    door: Option<Rc<Door>>,
}

impl Door {
    pub(super) fn new(gate: &Arc<Gate>, worker: usize) -> Rc<Self> {
        Rc::new(Self { gate: Arc::clone(gate), worker })
    }

    /// Where it leads to.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Asks for a place, to wait for until `deadline` at most.
    pub fn enter(self: &Rc<Self>, now: Instant, deadline: Option<Instant>) -> Enter {
        if self.gate.limit.load(Ordering::Relaxed) == u32::MAX {
            return Enter::Go(Permit { door: None });
        }
        if self.gate.waiting.load(Ordering::SeqCst) == 0 && self.take() {
            return Enter::Go(self.permit());
        }
        self.join(now, deadline)
    }

    /// Asks for a place without waiting.
    pub fn try_enter(self: &Rc<Self>) -> Option<Permit> {
        if self.gate.limit.load(Ordering::Relaxed) == u32::MAX {
            return Some(Permit { door: None });
        }
        let free = self.gate.waiting.load(Ordering::SeqCst) == 0 && (self.take() || self.draw());
        free.then(|| self.permit())
    }

    /// Counts a request that goes ahead whatever the limit is, and tells what the gate would have said.
    /// One that would have been refused is not counted: it would not be there.
    pub fn watch(self: &Rc<Self>) -> (Permit, Seen) {
        let limit = self.gate.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            return (Permit { door: None }, Seen::Go);
        }
        if self.take() || self.draw() {
            return (self.permit(), Seen::Go);
        }
        let most = limit.saturating_add(self.gate.max_pending.load(Ordering::Relaxed));
        let add = |n: u32| (n < most).then(|| n + 1);
        match self.gate.drawn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add) {
            Ok(_) => (self.permit(), Seen::Wait),
            Err(_) => (Permit { door: None }, Seen::Full),
        }
    }

    /// One that is counted already.
    pub(super) fn permit(self: &Rc<Self>) -> Permit {
        Permit { door: Some(Rc::clone(self)) }
    }

    /// One of the stock; where there is none, of the shared count.
    fn take(&self) -> bool {
        let gate = &*self.gate;
        gate.stocks.take(self.worker) || (gate.stocks.draw(self.worker) == 0 && gate.take())
    }

    /// One from wherever there is one, and a stock with it if that is the shared count.
    fn draw(&self) -> bool {
        self.draw_with(&mut self.gate.lock())
    }

    fn draw_with(&self, queue: &mut Queue) -> bool {
        let gate = &*self.gate;
        let draw = gate.stocks.draw(self.worker);
        if draw == 0 {
            return gate.find(queue);
        }
        let limit = gate.limit.load(Ordering::SeqCst);
        let some = |n: u32| draw.min(limit.saturating_sub(n));
        let add = |n: u32| (n < limit).then(|| n + some(n));
        let Ok(before) = gate.drawn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add) else {
            return gate.find(queue);
        };
        gate.stocks.put(self.worker, some(before) - 1);
        true
    }

    fn join(self: &Rc<Self>, now: Instant, deadline: Option<Instant>) -> Enter {
        let gate = &*self.gate;
        let mut wake = Vec::new();
        let entered = {
            let mut queue = gate.lock();
            gate.serve(&mut queue, &mut wake);
            let most = gate.max_pending.load(Ordering::Relaxed) as usize;
            if queue.entries.len() >= most {
                gate.drop_expired(&mut queue, now, &mut wake);
            }
            if queue.entries.is_empty() && self.draw_with(&mut queue) {
                Enter::Go(self.permit())
            } else if queue.entries.len() >= most {
                Enter::Full
            } else {
                let outcome = Arc::new(AtomicU8::new(WAITING));
                let id = queue.push(Entry { deadline, waker: None, outcome: Arc::clone(&outcome) });
                gate.waiting.store(queue.len(), Ordering::SeqCst);
                // A permit may have come back before the store could be seen.
                gate.serve(&mut queue, &mut wake);
                Enter::Wait(Pending::new(Rc::clone(self), id, outcome, deadline))
            }
        };
        wake.into_iter().for_each(Waker::wake);
        entered
    }

    fn give_back(&self) {
        let gate = &*self.gate;
        let draw = gate.stocks.draw(self.worker);
        if draw == 0 || gate.is_short() {
            gate.drawn.fetch_sub(1, Ordering::SeqCst);
            gate.hand_over();
            return;
        }
        let stocked = gate.stocks.put(self.worker, 1);
        if gate.is_short() {
            // Somebody came to wait, or the limit was lowered, before that could be seen.
            gate.settle();
        } else if stocked > draw * 2 {
            self.store(draw);
        }
    }

    /// Gives a part of the stock back to the shared count.
    fn store(&self, n: u32) {
        let _queue = self.gate.lock();
        if self.gate.stocks.reduce(self.worker, n) {
            self.gate.drawn.fetch_sub(n, Ordering::SeqCst);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            door.give_back();
        }
    }
}
