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
    timer::Timer,
};

/// Heads kept per thread: about as many requests as are in flight at once on a busy worker.
const FREE: usize = 64;
/// What a head may keep for the next one, in bytes: few messages have more fields than fit in here, and
/// [`FREE`] pairs of it are a quarter of a MiB.
const KEPT: usize = 2048;

thread_local! {
    // A list of boxes: what moves in and out is a pointer, not the heads.
    #[expect(clippy::vec_box, reason = "a scratch is lent as the box that it is")]
    static POOL: RefCell<Vec<Box<Scratch>>> = const { RefCell::new(Vec::new()) };
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

/// A [`Scratch`] that goes back to the thread when it is dropped.
pub struct Lent(Option<Box<Scratch>>);

/// One to read a request into.
#[must_use]
pub fn lend() -> Lent {
    Lent(Some(POOL.with_borrow_mut(Vec::pop).unwrap_or_default()))
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
        POOL.with_borrow_mut(|pool| {
            if pool.len() < FREE {
                scratch.head.shrink(KEPT);
                scratch.response.shrink(KEPT);
                pool.push(scratch);
            }
        });
    }
}
