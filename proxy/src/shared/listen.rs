//! Listening sockets: one for each worker on the same port, made before a snapshot that names them is in force.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
};

use outrigger_config::model;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::upstream::connect::KEEPALIVE;

/// Backlog of listening sockets; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listener with its sockets, one for each worker (`SO_REUSEPORT`).
pub struct BoundListener {
    /// The address asked for and the one bound (they differ for port 0).
    pub asked: SocketAddr,
    /// The address bound.
    pub local: SocketAddr,
    /// Name of the listener; its settings are looked up in the snapshot by it.
    pub name: Arc<str>,
    /// Indexed by worker.
    pub sockets: Vec<TcpListener>,
    /// Client connections open on it.
    pub connections: AtomicU32,
    /// Client connections that it has ever taken.
    pub accepted: AtomicU64,
}

/// Binds a listener, with a socket for each worker.
///
/// # Errors
/// The system's: the port is taken, or the address is not of this machine.
pub(super) fn bind(listener: &model::Listener, workers: usize) -> std::io::Result<BoundListener> {
    let asked = listener.address;
    // Sockets that share a port would let a second proxy share it, too, unseen. One that does not share
    // is bound first, and fails if anybody else has the port.
    let mut local = socket(asked, false)?.local_addr()?.as_socket().unwrap_or(asked);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(local, workers > 1)?;
        if listener.original_destination && listener.direction == model::Direction::Inbound {
            transparent(&socket, local);
        }
        // Accepted sockets inherit these, which saves three system calls for each. Heads and bodies are written
        // when they are complete: waiting for more (Nagle) would only add latency.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        local = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(BoundListener {
        asked,
        local,
        name: Arc::clone(&listener.name),
        sockets,
        connections: AtomicU32::new(0),
        accepted: AtomicU64::new(0),
    })
}

/// Lets TPROXY give connections to this listener. The kernel grants that to NET_ADMIN and NET_RAW, which a proxy has only
/// where somebody chose TPROXY; without it connections are redirected here, so nothing depends on the answer.
fn transparent(socket: &Socket, address: SocketAddr) {
    let done = if address.is_ipv6() { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) };
    match done {
        Ok(()) => tracing::debug!(%address, "the listener is transparent: TPROXY may lead to it"),
        Err(error) => tracing::debug!(%address, %error, "the listener is not transparent"),
    }
}

/// A socket bound to `address`.
fn socket(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
