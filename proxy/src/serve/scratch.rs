//! The memory that a request needs, lent by the thread for as long as the request takes.
//!
//! A connection that idles holds none of it, and a request on it does not go to the allocator either: what a
//! request gives back waits in a list of the thread. It keeps the room that ordinary heads take, and no more.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use crate::{
    http::{RequestHead, ResponseHead},
    spare::Spare,
    timer::Timer,
};

/// Heads kept per thread under load: about as many requests as are in flight at once on a busy worker.
const FREE: usize = 256;
/// What a head may keep for the next one, in bytes: few messages have more fields than fit in here, and
/// [`FREE`] pairs of it are a MiB.
const KEPT: usize = 2048;

thread_local! {
    static POOL: RefCell<Spare<Box<Scratch>>> = const { RefCell::new(Spare::new(FREE)) };
}

/// What a request reads into and waits with.
#[derive(Default)]
pub struct Scratch {
    /// The head of the request.
    pub head: RequestHead,
    /// The head of the answer.
    pub response: ResponseHead,
    /// All time limits of the request. One that was lent before may wake the task of that time once more.
    pub timer: Timer,
}

/// Gives those of this thread back that were not needed lately.
pub fn trim() {
    POOL.with_borrow_mut(Spare::trim);
}

/// A [`Scratch`] that goes back to the thread when it is dropped.
pub struct Lent(Option<Box<Scratch>>);

/// One to read a request into.
#[must_use]
pub fn lend() -> Lent {
    Lent(Some(POOL.with_borrow_mut(Spare::take).unwrap_or_default()))
}

impl Deref for Lent {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.0.as_deref().expect("it is given back by drop alone")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.0.as_deref_mut().expect("it is given back by drop alone")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut scratch) = self.0.take() else { return };
        scratch.head.shrink(KEPT);
        scratch.response.shrink(KEPT);
        drop(POOL.with_borrow_mut(|pool| pool.give(scratch)));
    }
}
