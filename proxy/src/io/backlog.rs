//! What waits at a listening socket to be accepted.
//!
//! The reactor is edge-triggered: it tells once that there is something, and what came together is one event. So
//! whoever accepts has to find out when nothing is left. An `accept4` that finds nothing is the dearest way to ask: it
//! makes a socket, a file and a descriptor first, and takes them down again, 1 µs in all, a twentieth of a connection
//! with one request. `poll` tells the same for a seventh of that.
//!
//! Connections come without being known to the reactor ([`Io::accepted`](super::Io::accepted)).

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    task::{Context, Poll, ready},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};
use socket2::SockRef;
use tokio::io::{Interest, unix::AsyncFd};

/// See the module.
pub struct Backlog(AsyncFd<TcpListener>);

impl Backlog {
    /// Of `socket`, which listens and does not block.
    ///
    /// # Errors
    /// The reactor does not take it.
    #[allow(
        unsafe_code,
        reason = "the one way to accept without registering what is accepted, and without asking once \
        too often: 1.7 of the 22 us that a connection with one request takes"
    )]
    pub fn new(socket: TcpListener) -> io::Result<Self> {
        // SAFETY: a `TcpListener` owns its descriptor, which stays the same and open until it is dropped, and nobody gets
        // more than a shared reference to it here.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// The listening socket.
    #[must_use]
    pub fn socket(&self) -> &TcpListener {
        self.0.get_ref()
    }

    /// Accepts one, whose socket does not block.
    ///
    /// # Errors
    /// Those of accept(2): most are the fault of the connection that they have lost.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            let mut readiness = ready!(self.0.poll_read_ready(cx))?;
            match self.accept_now() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => readiness.clear_ready(),
                Ok(accepted) => {
                    // What comes from here on is an event of its own.
                    if !self.waits() {
                        readiness.clear_ready();
                    }
                    return Poll::Ready(Ok(accepted));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Accepts what waits, whatever the reactor knows of it.
    ///
    /// # Errors
    /// As [`Backlog::poll_accept`], and `WouldBlock`: nothing waits.
    pub fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, peer) = SockRef::from(self.socket()).accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
        let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((tcp.into(), peer))
    }

    /// True if another may wait.
    fn waits(&self) -> bool {
        let mut asked = [PollFd::new(self.socket(), PollFlags::IN)];
        // Whoever cannot be told has to look.
        poll(&mut asked, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }
}
