//! One request after the other in the same memory.
//!
//! The future that serves a request is some KiB large, and an idle connection should not hold it. Allocating one for
//! each request takes 550 instructions, 3 in 100 of all; so a future that is over leaves its place to the next
//! request of any connection of its worker.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use super::{After, Connection, turn};
use crate::spare::Spare;

/// Places kept free in one worker: about as many as requests are under way at once in a loaded one. With 64 of
/// some 6 KiB that is less than half a MiB.
const FREE: usize = 64;

/// The connection comes back with the end of its request.
type Done = (Box<Connection>, After);

/// The places of one worker that are free.
pub(in crate::serve) struct Places(RefCell<Spare<Box<dyn Place>>>);

impl Default for Places {
    fn default() -> Self {
        Self(RefCell::new(Spare::new(FREE)))
    }
}

impl Places {
    /// Serves one request.
    pub(super) async fn serve(&self, conn: Box<Connection>) -> Done {
        let free = self.0.borrow_mut().take();
        let mut place = free.unwrap_or_else(|| Box::new(Reused { future: Box::pin(None), make: turn }));
        place.begin(conn);
        let done = poll_fn(|cx| place.poll(cx)).await;
        drop(self.0.borrow_mut().give(place));
        done
    }

    /// Gives those back that were not needed lately.
    pub(in crate::serve) fn trim(&self) {
        self.0.borrow_mut().trim();
    }
}

/// Room for a future of a type that has no name.
trait Place {
    /// Puts the future of a request into it.
    fn begin(&mut self, conn: Box<Connection>);
    /// Polls it, and empties the place when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done>;
}

struct Reused<F, M> {
    future: Pin<Box<Option<F>>>,
    make: M,
}

impl<F: Future<Output = Done>, M: Fn(Box<Connection>) -> F> Place for Reused<F, M> {
    fn begin(&mut self, conn: Box<Connection>) {
        self.future.set(Some((self.make)(conn)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let future = self.future.as_mut().as_pin_mut();
        let done = future.expect("a place is polled between its beginning and its end").poll(cx);
        if done.is_ready() {
            self.future.set(None);
        }
        done
    }
}
