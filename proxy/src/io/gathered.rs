//! Writes of one wake-up gathered into one system call, for HTTP/2 to upstreams.
//!
//! `h2` hands over every DATA frame of more than 256 bytes by itself and flushes after it, so a wake-up that brings
//! requests for thirty streams would write thirty times. Here the frames wait until whoever drives the connection
//! has nothing left to do, and [`Writer::drive`] hands them over; what `h2` asks to be flushed counts as flushed at
//! once. So a connection is polled within `drive` alone, and [`Writer::finish`] comes before it is dropped.
//!
//! What waits is bounded by [`GATHERED`]; beyond it a write goes to the kernel first, and is pending if that takes
//! nothing: the client's slowness reaches `h2`, and through its windows the streams, as if nothing were between.
//! Large frames are not copied: they go out together with what waits.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::Io;
use crate::buffer::Out;

/// Bytes that may wait: about what a socket takes at once, and the answers of some sixty streams.
const GATHERED: usize = 64 * 1024;
/// From this size on a system call costs less than the copy that would save it.
const DIRECT: usize = 8 * 1024;
/// Parts of one vectored write: a frame's head and payload, and what waits.
const PARTS: usize = 8;

/// The stream as `h2` sees it.
pub struct Gathered(Rc<Inner>);

/// The same for whoever drives the connection.
pub struct Writer(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) io: Io,
    pub(super) out: RefCell<Out>,
    /// What ended the writing, once something has.
    failure: Cell<Option<io::ErrorKind>>,
}

impl Gathered {
    /// Takes over `io`, and whose writes are gathered from here on.
    #[must_use]
    pub fn new(io: Io) -> (Self, Writer) {
        let inner = Rc::new(Inner { io, out: RefCell::default(), failure: Cell::default() });
        (Self(Rc::clone(&inner)), Writer(inner))
    }
}

impl Writer {
    /// Waits for `future`, which polls the connection, and writes what it has gathered whenever it waits itself.
    /// An error of that reaches `h2` as that of its next write or flush, for which it is woken.
    pub async fn drive<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let output = future.as_mut().poll(cx);
            if output.is_pending()
                && self.0.failure.get().is_none()
                && let Poll::Ready(Err(error)) = self.poll_flush(cx)
            {
                self.0.failure.set(Some(error.kind()));
                cx.waker().wake_by_ref();
            }
            output
        })
        .await
    }

    /// Writes the rest. A peer that does not take it in `time` does without.
    pub async fn finish(&self, time: Duration) {
        // Whether it worked matters to nobody any more.
        drop(timeout(time, poll_fn(|cx| self.poll_flush(cx))).await);
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.out.borrow_mut().poll_flush(&self.0.io, cx)
    }
}

impl Inner {
    fn usable(&self) -> io::Result<()> {
        self.failure.get().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn poll_gather(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.usable()?;
        let out = &mut *self.out.borrow_mut();
        let size: usize = bufs.iter().map(|b| b.len()).sum();
        if size >= DIRECT {
            return self.poll_write_after(out, cx, bufs);
        }
        if out.len() + size > GATHERED {
            ready!(out.poll_flush(&self.io, cx))?;
        }
        let data = out.data();
        bufs.iter().for_each(|b| data.extend_from_slice(b));
        Poll::Ready(Ok(size))
    }

    /// Writes what waits and then `bufs`, together.
    fn poll_write_after(&self, out: &mut Out, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if out.is_empty() {
            return self.io.poll_write_vectored(cx, bufs);
        }
        loop {
            let waiting = out.len();
            let mut parts = [IoSlice::new(&[]); PARTS];
            parts[0] = IoSlice::new(out.bytes());
            let more = bufs.len().min(PARTS - 1);
            parts[1..=more].copy_from_slice(&bufs[..more]);
            let n = ready!(self.io.poll_write_vectored(cx, &parts[..=more]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.written(n.min(waiting));
            if n > waiting {
                return Poll::Ready(Ok(n - waiting));
            }
        }
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_read(cx, buf).map_ok(drop)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_gather(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done at once: see the module.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.usable())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.out.borrow_mut().poll_flush(&self.0.io, cx))?;
        self.0.io.poll_shutdown(cx)
    }
}
