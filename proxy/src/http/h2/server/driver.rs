//! A connection on its socket: reads, has frames obeyed, writes. See [`super`] for how its streams are served.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    Bounds, WAITING,
    machine::{Machine, Opened},
};
use crate::{
    buffer::Buf,
    clock,
    http::{RequestHead, h2::frame::Reason},
    io::Io,
};

/// A client's connection.
pub struct Session {
    machine: Machine,
    io: Io,
    buf: Buf,
    /// Since when the rest of a header block is awaited.
    partial: Option<Instant>,
}

/// What [`Session::poll_next`] came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A request: to be read with [`Session::open`].
    Request,
    /// The end of the connection. What waits is to be written with [`Session::finish`].
    End,
}

impl Session {
    /// Serves `io`, of which `buf` was read already.
    #[must_use]
    pub fn new(io: Io, buf: Buf, bounds: Bounds) -> Self {
        Self { machine: Machine::new(bounds), io, buf, partial: None }
    }

    /// True once the client has sent the preface and its SETTINGS.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.machine.is_settled()
    }

    /// Streams that are open, or whose task has not ended.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.machine.streams()
    }

    /// Obeys what came and writes what waits, until there is a request, the connection ends, or nothing moves.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        {
            let core = &mut *self.machine.core.borrow_mut();
            core.sleeps = false;
            if !core.driver.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                core.driver = Some(cx.waker().clone());
            }
        }
        loop {
            let (used, request) = self.machine.obey(self.buf.bytes());
            self.buf.consume(used);
            if request {
                return Poll::Ready(Next::Request);
            }
            if self.machine.core.borrow().is_over() {
                return Poll::Ready(Next::End);
            }
            // A client that does not read is not read from either.
            let full = self.machine.core.borrow().out.len() > WAITING;
            if full {
                if self.poll_flush(cx).is_pending() {
                    break;
                }
                continue;
            }
            match self.poll_fill(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => {
                    self.machine.core.borrow_mut().end(None);
                    return Poll::Ready(Next::End);
                }
                Poll::Pending => {
                    if self.poll_flush(cx).is_ready() {
                        self.buf.release();
                    }
                    break;
                }
            }
        }
        let core = &mut *self.machine.core.borrow_mut();
        if core.is_over() {
            return Poll::Ready(Next::End);
        }
        core.sleeps = true;
        if core.partial.is_none() {
            self.partial = None;
        } else if self.partial.is_none() {
            self.partial = Some(clock::now());
        }
        Poll::Pending
    }

    /// Since when the client owes the rest of a header block. Nothing else can be read until it has come.
    #[must_use]
    pub fn owes_since(&self) -> Option<Instant> {
        self.partial
    }

    /// Ends the connection because the client does not do what is due.
    pub fn give_up(&mut self) {
        self.machine.fail(Reason::ENHANCE_YOUR_CALM);
    }

    /// Reads the request that [`Next::Request`] told of into `head`. `None`: it is refused, and nothing is to be done.
    pub fn open(&mut self, head: &mut RequestHead) -> Option<Opened> {
        let (size, opened) = self.machine.open(self.buf.bytes(), head);
        self.buf.consume(size);
        opened
    }

    /// Why the connection was ended, where the client broke the protocol.
    #[must_use]
    pub fn fault(&self) -> Option<Reason> {
        self.machine.fault()
    }

    /// False at the end of the stream, or when it failed.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        ready!(self.io.poll_readable(cx));
        let read = ready!(self.buf.poll_fill(&self.io, cx));
        self.machine.tick(clock::now());
        Poll::Ready(matches!(read, Ok(1..)))
    }

    /// Writes what waits. Ready also when that fails: the connection is over then.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = &mut *self.machine.core.borrow_mut();
        let flushed: Poll<io::Result<()>> = core.out.poll_flush(&self.io, cx);
        // Also what a part of it has made room for.
        core.wake_next();
        match ready!(flushed) {
            Ok(()) => {}
            Err(_) => core.end(None),
        }
        Poll::Ready(())
    }

    /// Tells the client that the connection will end; streams that it opens until it learns of it are served.
    pub fn announce_end(&mut self) {
        self.machine.announce_end();
    }

    /// Gives memory back; for a connection without a stream.
    pub fn release(&mut self) {
        self.machine.core.borrow_mut().release();
        self.buf.release();
        self.io.shrink();
    }

    /// Writes the rest. A client that does not take it in `time` does without.
    pub async fn finish(&self, time: Duration) {
        // Whether it worked matters to nobody any more.
        drop(timeout(time, poll_fn(|cx| self.poll_flush(cx))).await);
    }
}
