//! Byte buffers of a connection: what was read and not yet used ([`Buf`]), what is to be written ([`Out`]).
//!
//! Both start empty and take memory only while bytes are in them; an idle connection gives it back
//! ([`Buf::release`], [`Out::release`]). Freed buffers wait in a list of the thread, so that a request
//! on a connection that was idle does not go to the allocator.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use crate::io::Io;

/// First size: a head and a small body in one read, 1 KiB answers four at a time.
const SMALL: usize = 8 * 1024;
/// Size once a read has filled a smaller one: a body that flows. Larger ones save no further syscalls,
/// since the kernel hands over what one socket buffer holds.
const LARGE: usize = 64 * 1024;
/// Less room than this is not worth a read.
const ROOM: usize = 1024;
/// Free buffers kept per thread: 64 of 8 KiB are half a MiB, about the connections active in one turn.
const FREE: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take() -> Vec<u8> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SMALL))
}

fn give(mut bytes: Vec<u8>) {
    if bytes.capacity() == SMALL {
        bytes.clear();
        POOL.with_borrow_mut(|pool| {
            if pool.len() < FREE {
                pool.push(bytes);
            }
        });
    }
}

/// Bytes read from a peer, consumed from the front.
#[derive(Default)]
pub struct Buf {
    data: Vec<u8>,
    start: usize,
    /// A read has filled the buffer: more is coming than heads and small bodies.
    flows: bool,
}

impl Buf {
    /// Starts with bytes that were read elsewhere.
    #[must_use]
    pub fn with(data: Vec<u8>) -> Self {
        Self { data, start: 0, flows: false }
    }

    /// What is there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// True if nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.data.len()
    }

    /// Number of bytes there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// Drops the first `n` bytes, which are there.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.data.len());
        if self.start == self.data.len() {
            self.data.clear();
            self.start = 0;
        }
    }

    /// Reads what the peer has sent, once; 0 is the end of its stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(&mut self, io: &Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let n = ready!(io.poll_read_buf(cx, &mut self.data))?;
        self.flows = self.data.len() == self.data.capacity();
        Poll::Ready(Ok(n))
    }

    /// Gives the memory back if nothing is there.
    pub fn release(&mut self) {
        if self.is_empty() && self.data.capacity() > 0 {
            self.start = 0;
            self.flows = false;
            give(std::mem::take(&mut self.data));
        }
    }

    /// Leaves room for a read worth its syscall.
    fn make_room(&mut self) {
        if self.data.capacity() == 0 {
            self.data = take();
            return;
        }
        if self.flows && self.data.capacity() < LARGE {
            self.data.reserve_exact(LARGE - self.data.len());
        }
        if self.data.capacity() - self.data.len() >= ROOM {
            return;
        }
        if self.start > 0 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        if self.data.capacity() - self.data.len() < ROOM {
            // Heads end at `maxHeaderBytes`, bodies are consumed as they come: who fills is bounded.
            self.data.reserve(LARGE);
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if self.data.capacity() > 0 {
            give(std::mem::take(&mut self.data));
        }
    }
}

/// Bytes to write to a peer.
#[derive(Default)]
pub struct Out {
    data: Vec<u8>,
    start: usize,
}

impl Out {
    /// Where encoders append.
    pub fn data(&mut self) -> &mut Vec<u8> {
        if self.data.capacity() == 0 {
            self.data = take();
        }
        &mut self.data
    }

    /// Bytes not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// True if everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes not yet written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// Notes that the first `n` of them are.
    pub fn written(&mut self, n: usize) {
        self.start += n;
        if self.start == self.data.len() {
            self.data.clear();
            self.start = 0;
        }
    }

    /// Writes everything.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, io: &Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let n = ready!(io.poll_write(cx, self.bytes()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(n);
        }
        io.poll_flush(cx)
    }

    /// Forgets what was not written.
    pub fn clear(&mut self) {
        self.data.clear();
        self.start = 0;
    }

    /// Gives the memory back if everything is written.
    pub fn release(&mut self) {
        if self.is_empty() && self.data.capacity() > 0 {
            give(std::mem::take(&mut self.data));
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.data.capacity() > 0 {
            give(std::mem::take(&mut self.data));
        }
    }
}
