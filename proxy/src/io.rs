//! The byte stream of one connection: TCP, plain or under TLS.
//!
//! An [`Io`] is used through a shared reference by one task, which so reads and writes both directions
//! of an exchange without splitting it. It belongs to the thread that made it (`!Sync`). No borrow of a
//! cell outlives a poll, so no two can meet.
//!
//! The socket is polled through tokio's `AsyncRead`, not through `try_read`: a read that fills only a
//! part of its buffer then clears the readiness at once, which saves the second read that would find
//! nothing. TLS is rustls driven by hand: ciphertext passes through a scratch buffer of the thread, so
//! that an idle connection holds no buffer of its own but rustls' (4 KiB).
//!
//! Under TLS a write is taken before it is on the wire: who stops writing calls [`Io::poll_flush`], or
//! one of the `write_all`s, which flush.

mod backlog;
mod gathered;
mod handshake;
mod info;
mod session;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{observe::ConnectionObserver, tls::TlsInfo};
pub use backlog::Backlog;
pub use gathered::{Gathered, Writer};
pub use session::Fate;
use session::Session;
pub use socket::{Socket, register_late};

/// One TCP stream, plain or under TLS.
pub struct Io {
    tcp: RefCell<Socket>,
    tls: Option<Box<Tls>>,
    /// Bytes that were read to find out the protocol, and are to be read again.
    unread: RefCell<Vec<u8>>,
    peer: OnceCell<SocketAddr>,
    local: OnceCell<SocketAddr>,
    /// Bytes handed to the kernel on a plain stream.
    handed: Cell<u64>,
    /// Counts the bytes of applications that come and go: what TLS adds is not among them.
    meter: Option<ConnectionObserver>,
    traffic: Option<Rc<Traffic>>,
}

/// What passes through an [`Io`] that somebody else owns.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes that came.
    pub read: Cell<u64>,
    /// The last write found no room: something waits to be written.
    pub blocked: Cell<bool>,
}

/// What TLS adds.
struct Tls {
    session: RefCell<Session>,
    info: TlsInfo,
}

impl Io {
    /// A plain stream.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Self {
        Self::new(tcp.into(), None)
    }

    /// One that was just accepted, and does not block. The reactor learns of it once something has to wait for it.
    #[must_use]
    pub fn accepted(tcp: std::net::TcpStream) -> Self {
        Self::new(Socket::accepted(tcp), None)
    }

    fn new(tcp: Socket, tls: Option<Box<Tls>>) -> Self {
        let (peer, local) = (OnceCell::new(), OnceCell::new());
        Self {
            tcp: RefCell::new(tcp),
            tls,
            unread: RefCell::default(),
            peer,
            local,
            handed: Cell::new(0),
            meter: None,
            traffic: None,
        }
    }

    /// The same, with the peer's address as `accept` told it: saves the system call that would ask.
    #[must_use]
    pub fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = OnceCell::from(peer);
        self
    }

    /// Counts its bytes from here on.
    pub fn count(&mut self, meter: ConnectionObserver) {
        self.meter = Some(meter);
    }

    /// Lets somebody else see what passes from here on.
    pub fn watch(&mut self) -> Rc<Traffic> {
        Rc::clone(self.traffic.get_or_insert_default())
    }

    /// The peer's address; asked for once. `None`: the connection is gone already.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        remembered(&self.peer, || self.tcp.borrow().peer_addr())
    }

    /// Our own address; asked for once.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        remembered(&self.local, || self.tcp.borrow().local_addr())
    }

    /// What the handshake found out; `None` on a plain stream.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref().map(|tls| &tls.info)
    }

    /// Where an end of the TLS session is told; `None` on a plain stream.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        self.tls.as_deref().map(|tls| tls.session.borrow().fate())
    }

    /// Puts back bytes that were read too many; the next read returns them, before those of an earlier call.
    pub fn unread(&self, bytes: &[u8]) {
        self.unread.borrow_mut().splice(..0, bytes.iter().copied());
    }

    /// Reads what is there into the free part of `buf`.
    ///
    /// `Ok(0)` is the end of the stream, or a full `buf`. The end of the TCP stream without TLS's own
    /// end (`close_notify`) is `UnexpectedEof`: the message may have been cut by an attacker, and it is
    /// for the reader to say whether its framing could have told.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if !self.unread.borrow().is_empty() {
            return Poll::Ready(Ok(self.read_again(buf)));
        }
        let tcp = &mut *self.tcp.borrow_mut();
        let before = buf.filled().len();
        match &self.tls {
            Some(tls) => drop(ready!(tls.session.borrow_mut().poll_read(tcp, cx, buf))?),
            None => ready!(Pin::new(tcp).poll_read(cx, buf))?,
        }
        let n = buf.filled().len() - before;
        if let Some(meter) = &self.meter {
            meter.read(n);
        }
        if let Some(traffic) = &self.traffic {
            traffic.read.set(traffic.read.get() + n as u64);
        }
        Poll::Ready(Ok(n))
    }

    /// Ready where a read may find something; else it wakes the task then. Costs less than a read that finds nothing, and
    /// takes no buffer.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.may_hold() { Poll::Ready(()) } else { self.tcp.borrow_mut().poll_readable(cx) }
    }

    /// The same, for who waits for something else and only watches: of a connection that was just accepted it may be told
    /// some milliseconds late.
    pub fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.may_hold() { Poll::Ready(()) } else { self.tcp.borrow_mut().poll_due(cx) }
    }

    /// There may be something to read that the socket knows nothing of: plaintext that came with what was read before.
    fn may_hold(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.borrow().may_hold()) || !self.unread.borrow().is_empty()
    }

    fn read_again(&self, buf: &mut ReadBuf<'_>) -> usize {
        let mut unread = self.unread.borrow_mut();
        let n = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..n]);
        if n == unread.len() {
            *unread = Vec::new();
        } else {
            unread.drain(..n);
        }
        n
    }

    /// Appends what is there to `buf`, within its spare capacity, which the caller reserves (a `buf`
    /// without any grows by 64 bytes, so that `Ok(0)` is always the end).
    pub fn poll_read_buf(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        // The future holds nothing but the two references: polling a new one each time loses nothing.
        let mut reader = self;
        let read = std::pin::pin!(AsyncReadExt::read_buf(&mut reader, buf));
        read.poll(cx)
    }

    /// Appends what is there to `buf`, within its spare capacity. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// As [`Io::poll_read`].
    pub async fn read_buf(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_buf(cx, buf)).await
    }

    /// Writes a part of `buf`; returns how much was taken.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tcp = &mut *self.tcp.borrow_mut();
        let n = ready!(self.noted(match &self.tls {
            Some(tls) => tls.session.borrow_mut().poll_write(tcp, cx, &[IoSlice::new(buf)]),
            None => Pin::new(tcp).poll_write(cx, buf),
        }))?;
        Poll::Ready(Ok(self.sent(n)))
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        if let Some(traffic) = &self.traffic {
            traffic.blocked.set(written.is_pending());
        }
        written
    }

    fn sent(&self, n: usize) -> usize {
        self.handed.set(self.handed.get() + n as u64);
        if let Some(meter) = &self.meter {
            meter.written(n);
        }
        n
    }

    /// Writes a part of `bufs`, as one; returns how much was taken.
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let tcp = &mut *self.tcp.borrow_mut();
        let n = ready!(self.noted(match &self.tls {
            Some(tls) => tls.session.borrow_mut().poll_write(tcp, cx, bufs),
            None => Pin::new(tcp).poll_write_vectored(cx, bufs),
        }))?;
        Poll::Ready(Ok(self.sent(n)))
    }

    /// Hands everything written to the kernel. On a plain stream it is there already.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(tls) => self.noted(tls.session.borrow_mut().poll_flush(&mut self.tcp.borrow_mut(), cx)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Ends our direction: `close_notify` under TLS, then FIN. The other direction stays open.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tcp = &mut *self.tcp.borrow_mut();
        if let Some(tls) = &self.tls {
            ready!(tls.session.borrow_mut().poll_close(tcp, cx))?;
        }
        Pin::new(tcp).poll_shutdown(cx)
    }

    /// Writes all of `buf` and flushes.
    ///
    /// # Errors
    /// Those of the socket, and of TLS. Cancelled, it may have written a part.
    pub async fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        self.write_all_vectored2(buf, &[]).await
    }

    /// Writes all of `a`, then all of `b`, together where that is possible, and flushes.
    ///
    /// # Errors
    /// As [`Io::write_all`].
    pub async fn write_all_vectored2(&self, mut a: &[u8], mut b: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            while !(a.is_empty() && b.is_empty()) {
                let n = ready!(match (a, b) {
                    (one, []) | ([], one) => self.poll_write(cx, one),
                    _ => self.poll_write_vectored(cx, &[IoSlice::new(a), IoSlice::new(b)]),
                })?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let of_a = n.min(a.len());
                a = &a[of_a..];
                b = &b[n - of_a..];
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Flushes.
    ///
    /// # Errors
    /// As [`Io::write_all`].
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends our direction.
    ///
    /// # Errors
    /// As [`Io::write_all`].
    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// Of an idle connection: must it not be used again, because its peer closed it or sent what nobody
    /// asked for? Costs no system call while the runtime has seen nothing arrive.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        if !self.unread.borrow().is_empty() {
            return true;
        }
        let tcp = self.tcp.borrow();
        match &self.tls {
            // Tickets and key updates are no data: they are taken in, and the connection stays good.
            Some(tls) => tls.session.borrow_mut().is_stale(&tcp),
            None => !matches!(tcp.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock),
        }
    }

    /// Bytes written so far, for [`Io::undelivered`].
    #[must_use]
    pub fn handed(&self) -> u64 {
        self.handed.get()
    }

    /// True if it is certain that nothing which was written after the first `before` bytes has reached the
    /// peer: its kernel has acknowledged none of it (`tcpi_bytes_acked`, RFC 4898). Of a connection that
    /// its peer has closed, this proves that a request was never seen. TLS hides what is whose: never true.
    #[must_use]
    pub fn undelivered(&self, before: u64) -> bool {
        // Linux counts the SYN of a connection that we opened as one byte.
        self.tls.is_none() && info::bytes_acked(&self.tcp.borrow()).is_some_and(|acked| acked <= before + 1)
    }

    /// Gives back what load made the buffers grow to; for a connection that becomes idle.
    pub fn shrink(&self) {
        if let Some(tls) = &self.tls {
            tls.session.borrow_mut().shrink();
        }
    }

    /// The socket of a plain stream, to begin TLS on it.
    #[must_use]
    pub fn into_plain(self) -> Socket {
        self.tcp.into_inner()
    }

    /// Makes the close that follows a reset: what is under way is dropped, and the peer learns that it was.
    pub fn abort(&self) {
        // A socket that is gone already needs no reset.
        drop(self.tcp.borrow().fd().map(|fd| SockRef::from(&fd).set_linger(Some(Duration::ZERO))));
    }
}

impl AsyncRead for &Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Io::poll_read(&self, cx, buf).map_ok(drop)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(&self, cx, buf).map_ok(drop)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&self, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(&self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(&self, cx)
    }
}

fn remembered(cell: &OnceCell<SocketAddr>, ask: impl FnOnce() -> io::Result<SocketAddr>) -> Option<SocketAddr> {
    if let Some(address) = cell.get() {
        return Some(*address);
    }
    let address = ask().ok()?;
    Some(*cell.get_or_init(|| address))
}
