//! The socket of a connection, known to the reactor only once something has to wait for it.
//!
//! A connection with one request is accepted when that request has come nearly always, and closed as soon as the answer
//! is written: nothing ever waits for it. Telling the reactor of it, and telling it to forget it, are two system calls
//! and the event of a socket that can be written to: together as dear as writing the answer. So a socket that was
//! accepted is tried first ([`Socket::Fresh`]), and registered when it has nothing to read, or no room.
//!
//! Invariants: every poll that is pending, but [`Socket::poll_due`], has registered the socket, and the task with it. The
//! reactor is edge-triggered, and reports what a socket is ready for at the time at which it is added, so nothing that
//! came before is missed. What `poll_due` has seen is registered within [`SOON`], or at its next call.
//!
//! The runtime makes a task yield that has done much in a turn; it counts what is asked of the reactor only. A fresh
//! socket that is used more often than [`TRIES`] is therefore registered too.
//!
//! Reads and writes are system calls of ours: through the runtime, mio, the standard library and the cancellation points of
//! libc, a read or a write costs 60 to 130 instructions more, 400 of a request. A read asks the reactor first, and a
//! write does where the last one found no room. As in the runtime's own, what moves less than was asked for has emptied or
//! filled the socket, which saves the call that would find nothing: nothing else can tell the reactor's view of the socket
//! meanwhile, because the reactor runs in the same thread, between polls.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice, Read},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use rustix::{
    io::{Errno, writev},
    net::{RecvFlags, SendFlags, recv, send},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Reads and writes of a socket that is not registered: enough for a request of some KiB and its answer.
const TRIES: u8 = 16;
/// A client that goes away while its answer is awaited is noticed this late: far above what an answer takes inside a
/// cluster, and far below what would make an upstream work much for nobody.
const SOON: Duration = Duration::from_millis(10);
/// Parts of one vectored write (`IOV_MAX`).
const PARTS: usize = 1024;
/// Sockets whose registration is put off at once; beyond it nothing is put off.
const PUT_OFF: usize = 1024;

thread_local! {
    static LATER: RefCell<Later> = const { RefCell::new(Later { tasks: Vec::new(), keeper: None }) };
}

/// Tasks with a socket that is to be registered soon.
struct Later {
    tasks: Vec<Waker>,
    /// Whoever wakes them; `None`: nobody does in this thread.
    keeper: Option<Waker>,
}

/// See the module.
pub enum Socket {
    /// Accepted, and not registered.
    Fresh {
        /// It does not block.
        tcp: std::net::TcpStream,
        /// What was tried so far.
        tries: u8,
        /// Its task will be woken to register it.
        put_off: bool,
    },
    /// Registered.
    Known {
        /// As the reactor knows it.
        tcp: TcpStream,
        /// The last write found no room.
        full: bool,
    },
    /// The reactor could not take it: it was closed.
    Lost,
}

impl Socket {
    /// One that was just accepted.
    pub(crate) fn accepted(tcp: std::net::TcpStream) -> Self {
        Self::Fresh { tcp, tries: 0, put_off: false }
    }

    /// Ready where a read may find something; else it wakes the task then, or [`SOON`] after it was asked first.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Fresh { put_off: put_off @ false, .. } = self
            && later(cx.waker())
        {
            *put_off = true;
            return Poll::Pending;
        }
        self.poll_readable(cx)
    }

    /// The same without delay.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is one of the read that follows.
        self.known().map_or(Poll::Ready(()), |(tcp, _)| tcp.poll_read_ready(cx).map(drop))
    }

    /// Reads what is there, as far as is known without asking the system again.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fresh { tcp, .. } => (&mut &*tcp).read(buf),
            Self::Known { tcp, .. } => tcp.try_read(buf),
            Self::Lost => Err(lost()),
        }
    }

    /// The address of the peer.
    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Fresh { tcp, .. } => tcp.peer_addr(),
            Self::Known { tcp, .. } => tcp.peer_addr(),
            Self::Lost => Err(lost()),
        }
    }

    /// Our own address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Fresh { tcp, .. } => tcp.local_addr(),
            Self::Known { tcp, .. } => tcp.local_addr(),
            Self::Lost => Err(lost()),
        }
    }

    /// For calls that no wrapper has; `None`: it was closed.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Fresh { tcp, .. } => Some(tcp.as_fd()),
            Self::Known { tcp, .. } => Some(tcp.as_fd()),
            Self::Lost => None,
        }
    }

    /// Does it at once, if that is possible without asking the reactor.
    #[inline]
    fn attempt<T>(&mut self, act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>) -> Option<io::Result<T>> {
        let Self::Fresh { tcp, tries, .. } = self else { return None };
        *tries += 1;
        if *tries > TRIES {
            return None;
        }
        match act(tcp.as_fd()) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            done => Some(done.map_err(io::Error::from)),
        }
    }

    /// As the reactor knows it, and whether it is full.
    #[inline]
    fn known(&mut self) -> io::Result<(&mut TcpStream, &mut bool)> {
        if let Self::Fresh { .. } = self {
            self.register()?;
        }
        match self {
            Self::Known { tcp, full } => Ok((tcp, full)),
            Self::Fresh { .. } | Self::Lost => Err(lost()),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        if let Self::Fresh { tcp, .. } = std::mem::replace(self, Self::Lost) {
            *self = TcpStream::from_std(tcp)?.into();
        }
        Ok(())
    }

    /// Writes with `act`, which would write `len` bytes.
    #[inline]
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        act: impl Fn(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = self.attempt(&act) {
            return Poll::Ready(done);
        }
        let (tcp, full) = self.known()?;
        loop {
            if *full {
                ready!(tcp.poll_write_ready(cx))?;
            }
            match act(tcp.as_fd()) {
                Ok(n) => {
                    *full = n < len;
                    if *full {
                        spent(tcp, Interest::WRITABLE);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    *full = true;
                    spent(tcp, Interest::WRITABLE);
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}

/// Has the reactor wait for the next event: the socket was emptied, or filled.
#[inline]
fn spent(tcp: &TcpStream, interest: Interest) {
    // What fails so is what was asked for.
    drop(tcp.try_io(interest, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())));
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Known { tcp, full: false }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let free = buf.initialize_unfilled();
        let len = free.len();
        if let Some(done) = self.attempt(|fd| recv(fd, &mut *free, RecvFlags::empty())) {
            buf.advance(done?.0);
            return Poll::Ready(Ok(()));
        }
        let (tcp, _) = self.known()?;
        loop {
            ready!(tcp.poll_read_ready(cx))?;
            match recv(&*tcp, &mut *free, RecvFlags::empty()) {
                Ok((n, _)) => {
                    if 0 < n && n < len {
                        spent(tcp, Interest::READABLE);
                    }
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => spent(tcp, Interest::READABLE),
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf.len(), |fd| send(fd, buf, SendFlags::NOSIGNAL))
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // As many as the system takes.
        let bufs = &bufs[..bufs.len().min(PARTS)];
        self.poll_send(cx, bufs.iter().map(|b| b.len()).sum(), |fd| writev(fd, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Fresh { tcp, .. } => Poll::Ready(tcp.shutdown(Shutdown::Write)),
            Self::Known { tcp, .. } => Pin::new(tcp).poll_shutdown(cx),
            Self::Lost => Poll::Ready(Err(lost())),
        }
    }
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// Has a task woken within [`SOON`]; false if nobody would.
fn later(task: &Waker) -> bool {
    LATER.with_borrow_mut(|later| {
        let Some(keeper) = later.keeper.as_ref().filter(|_| later.tasks.len() < PUT_OFF) else { return false };
        if later.tasks.is_empty() {
            keeper.wake_by_ref();
        }
        later.tasks.push(task.clone());
        true
    })
}

/// Wakes the tasks of this thread whose sockets are to be registered: one wake-up each `SOON` at most, and none while
/// nothing was put off.
pub async fn register_late() {
    loop {
        poll_fn(|cx| {
            LATER.with_borrow_mut(|later| {
                later.keeper = Some(cx.waker().clone());
                if later.tasks.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
        })
        .await;
        tokio::time::sleep(SOON).await;
        let tasks = LATER.with_borrow_mut(|later| std::mem::take(&mut later.tasks));
        // A task that has ended meanwhile is not woken.
        tasks.into_iter().for_each(Waker::wake);
    }
}
