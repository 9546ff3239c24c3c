//! A stream as the task that serves its request has it: one handle to read from, one to answer by.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use super::{Reset, core::Core};
use crate::http::{Headers, ResponseHead, h2::frame::Reason};

/// What both handles are.
struct Handle {
    core: Rc<RefCell<Core>>,
    index: u32,
}

impl Handle {
    fn new(core: &Rc<RefCell<Core>>, index: u32) -> Self {
        Self { core: Rc::clone(core), index }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.borrow_mut().dropped(self.index);
    }
}

/// The body of a request.
pub struct Receive {
    handle: Handle,
    /// Bytes that were handed out, and not told of as taken.
    given: usize,
}

/// The way of the answer. Dropped before its end was sent, it resets the stream.
pub struct Send(Handle);

/// Both handles of a stream, which counts them.
pub(super) fn pair(core: &Rc<RefCell<Core>>, index: u32) -> (Receive, Send) {
    core.borrow_mut().slots.get(index).handles = 2;
    (Receive { handle: Handle::new(core, index), given: 0 }, Send(Handle::new(core, index)))
}

impl Receive {
    /// True if nothing is left to be read: the request ended with its head, or all was taken. One that was reset is not
    /// over: its end is an error.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let core = &mut *self.handle.core.borrow_mut();
        let slot = core.slots.get(self.handle.index);
        slot.reset.is_none() && slot.received_all && slot.data.is_empty() && slot.trailers.is_none()
    }

    /// Exchanges `data`, which is empty, for what came of the body; false at its end. The client may send as much again
    /// once [`Receive::taken`] was told.
    ///
    /// # Errors
    /// The stream was reset; what came before is lost with it, also where the end had come.
    pub fn poll_data(&mut self, cx: &Context<'_>, data: &mut Vec<u8>) -> Poll<Result<bool, Reset>> {
        debug_assert!(data.is_empty());
        let core = &mut *self.handle.core.borrow_mut();
        let slot = core.slots.get(self.handle.index);
        if !slot.data.is_empty() {
            std::mem::swap(&mut slot.data, data);
            self.given += data.len();
            return Poll::Ready(Ok(true));
        }
        if let Some(reset) = slot.reset {
            return Poll::Ready(Err(reset));
        }
        if slot.received_all {
            return Poll::Ready(Ok(false));
        }
        slot.register(cx.waker());
        Poll::Pending
    }

    /// `n` bytes of what [`Receive::poll_data`] gave are used.
    pub fn taken(&mut self, n: usize) {
        debug_assert!(n <= self.given);
        self.given -= n;
        self.handle.core.borrow_mut().take(self.handle.index, n);
    }

    /// Trailers, once [`Receive::poll_data`] has found the end.
    #[must_use]
    pub fn trailers(&mut self) -> Option<Box<Headers>> {
        self.handle.core.borrow_mut().slots.get(self.handle.index).trailers.take()
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        self.handle.core.borrow_mut().unread(self.handle.index, self.given);
    }
}

impl Send {
    /// Sends a head of 1xx.
    ///
    /// # Errors
    /// The stream is over.
    pub fn inform(&mut self, head: &ResponseHead) -> Result<(), Reset> {
        self.0.core.borrow_mut().send_head(self.0.index, head, None, false)
    }

    /// Sends the head of the answer. `length`: the `content-length` to be written; `end`: there is no body.
    ///
    /// # Errors
    /// The stream is over.
    pub fn head(&mut self, head: &ResponseHead, length: Option<u64>, end: bool) -> Result<(), Reset> {
        self.0.core.borrow_mut().send_head(self.0.index, head, length, end)
    }

    /// Bytes that [`Send::data`] may be given now; at least one.
    ///
    /// # Errors
    /// The stream is over.
    pub fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<usize, Reset>> {
        self.0.core.borrow_mut().poll_room(cx, self.0.index)
    }

    /// Sends a part of the body, no more than there is room for.
    ///
    /// # Errors
    /// The stream is over.
    pub fn data(&mut self, bytes: &[u8], end: bool) -> Result<(), Reset> {
        self.0.core.borrow_mut().send_data(self.0.index, bytes, end)
    }

    /// Sends trailers, which end the answer.
    ///
    /// # Errors
    /// The stream is over.
    pub fn trailers(&mut self, trailers: &Headers) -> Result<(), Reset> {
        self.0.core.borrow_mut().send_trailers(self.0.index, trailers)
    }

    /// Ready if the stream was reset, or its connection ended.
    pub fn poll_reset(&mut self, cx: &Context<'_>) -> Poll<Reset> {
        let core = &mut *self.0.core.borrow_mut();
        let slot = core.slots.get(self.0.index);
        if let Some(reset) = slot.reset {
            return Poll::Ready(reset);
        }
        slot.register(cx.waker());
        Poll::Pending
    }

    /// Ends the stream without an answer.
    pub fn reset(&mut self, reason: Reason) {
        self.0.core.borrow_mut().reset(self.0.index, reason);
    }
}
