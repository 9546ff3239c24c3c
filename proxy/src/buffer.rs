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

use tokio::io::ReadBuf;

use crate::{io::Io, spare::Spare};

/// First size: a head and a small body in one read, 1 KiB answers four at a time.
const SMALL: usize = 8 * 1024;
/// Size once a read has filled a smaller one: a body that flows. Larger ones save no further syscalls,
/// since the kernel hands over what one socket buffer holds.
const LARGE: usize = 64 * 1024;
/// Less room than this is not worth a read.
const ROOM: usize = 1024;
/// Free buffers kept per thread under load: about the streams of a few HTTP/2 connections. With 64, those of eight went
/// to the allocator for every third request, which also has to clear what it gives: 3,000 instructions of a request.
const FREE: usize = 256;
/// Large ones: a body that flows needs its buffer for as long as it flows, and few do at once.
const FREE_LARGE: usize = 4;

thread_local! {
    static POOL: RefCell<Spare<Vec<u8>>> = const { RefCell::new(Spare::new(FREE)) };
    /// Those to read into: as long as they are large, for what is read into has to be initialised.
    static FILLED: RefCell<Filled> = const { RefCell::new(Filled { small: Spare::new(FREE), large: Spare::new(FREE_LARGE) }) };
}

struct Filled {
    small: Spare<Vec<u8>>,
    large: Spare<Vec<u8>>,
}

/// Gives free buffers of this thread back that were not needed lately.
pub fn trim() {
    POOL.with_borrow_mut(Spare::trim);
    FILLED.with_borrow_mut(|filled| {
        filled.small.trim();
        filled.large.trim();
    });
}

fn take() -> Vec<u8> {
    POOL.with_borrow_mut(Spare::take).unwrap_or_else(|| Vec::with_capacity(SMALL))
}

fn give(mut bytes: Vec<u8>) {
    if bytes.capacity() == SMALL {
        bytes.clear();
        drop(POOL.with_borrow_mut(|pool| pool.give(bytes)));
    }
}

/// Bytes read from a peer, consumed from the front.
#[derive(Default)]
pub struct Buf {
    /// What is beyond `end` was read earlier, or is zero.
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// A read has filled the buffer: more is coming than heads and small bodies.
    flows: bool,
}

impl Buf {
    /// Starts with bytes that were read elsewhere.
    #[must_use]
    pub fn with(data: Vec<u8>) -> Self {
        Self { start: 0, end: data.len(), flows: false, data }
    }

    /// What is there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// True if nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Number of bytes there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Drops the first `n` bytes, which are there.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads what the peer has sent, once; 0 is the end of its stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(&mut self, io: &Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut free = ReadBuf::new(&mut self.data[self.end..]);
        let n = ready!(io.poll_read(cx, &mut free))?;
        self.end += n;
        self.flows = self.end == self.data.len();
        Poll::Ready(Ok(n))
    }

    /// Gives the memory back if nothing is there.
    pub fn release(&mut self) {
        if self.is_empty() && !self.data.is_empty() {
            *self = Self { data: std::mem::take(&mut self.data), ..Self::default() };
            self.give_back();
        }
    }

    /// Leaves room for a read worth its syscall.
    #[inline]
    fn make_room(&mut self) {
        if self.data.len() - self.end < ROOM || self.flows {
            self.grow();
        }
    }

    fn grow(&mut self) {
        if self.data.is_empty() {
            self.data = FILLED.with_borrow_mut(|pool| pool.small.take()).unwrap_or_else(|| vec![0; SMALL]);
            return;
        }
        if self.flows && self.data.len() < LARGE {
            self.exchange();
        }
        if self.data.len() - self.end >= ROOM {
            return;
        }
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.data.len() - self.end < ROOM {
            // Heads end at `maxHeaderBytes`, bodies are consumed as they come: who fills is bounded.
            self.data.resize(self.data.len() + LARGE, 0);
        }
    }

    /// Takes a large buffer in place of a smaller one.
    fn exchange(&mut self) {
        let large = FILLED.with_borrow_mut(|pool| pool.large.take());
        let mut large = large.unwrap_or_else(|| vec![0; LARGE]);
        large[..self.len()].copy_from_slice(self.bytes());
        let (len, flows) = (self.len(), self.flows);
        self.give_back();
        *self = Self { data: large, start: 0, end: len, flows };
    }

    /// Leaves an empty buffer.
    fn give_back(&mut self) {
        let data = std::mem::take(&mut self.data);
        (self.start, self.end) = (0, 0);
        let left = FILLED.with_borrow_mut(|pool| match data.len() {
            SMALL => pool.small.give(data),
            LARGE => pool.large.give(data),
            _ => Some(data),
        });
        drop(left);
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            self.give_back();
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
        } else if self.start >= LARGE {
            // A peer that never takes all, while more is appended.
            self.data.drain(..self.start);
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
