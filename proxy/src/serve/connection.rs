//! The life of a client's connection: read [`serve`] from top to bottom.
//!
//! Stages that most connections never reach are boxed: an idle HTTP/1 connection costs what its task has
//! room for, and should not hold the room for a TLS handshake or a race of dials.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use outrigger_config::{
    access::{self, Caller},
    model::{Direction, Listener, ListenerProtocol, ListenerTarget, MtlsMode},
};
use rustls::ServerConfig;
use tokio::{net::TcpStream, time::timeout};

use super::{http1, http2, opaque, view::View, worker::Worker};
use crate::{
    buffer::{Buf, Out},
    detect::Detected,
    error::Failure,
    http::Scheme,
    io::Io,
    observe::{ConnectionObserver, Side},
    shared::BoundListener,
    timer::Timer,
    tls::Alpn,
    upstream::H1Conn,
};

mod first;

use first::{First, Rival, first_bytes};

/// A client's connection, as its requests see it.
#[derive(Clone)]
pub struct Client {
    /// The thread that serves it.
    pub worker: Rc<Worker>,
    /// Name of the listener that took it.
    pub listener: Arc<str>,
    /// Where the listener stood in the configuration at that time.
    pub index: usize,
    /// Of the listener.
    pub direction: Direction,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address of the listener.
    pub local: SocketAddr,
    /// The identity that it has proven.
    pub identity: Option<Arc<str>>,
    /// Its identifiers are kept: it is the local app, a proven peer, or no one here can prove anything.
    pub trusted: bool,
    /// How it reached this proxy.
    pub scheme: Scheme,
    /// Counters of its connection.
    pub observer: ConnectionObserver,
}

/// Serves one connection from its first byte to its last.
pub async fn serve(worker: Rc<Worker>, bound: Arc<BoundListener>, tcp: TcpStream, peer: SocketAddr) {
    // 1. Which listener, and what it asks for.
    let view = worker.view();
    let Some(index) = view.snapshot.model.listeners.iter().position(|l| l.name == bound.name) else { return };
    let listener = &view.snapshot.model.listeners[index];
    let secured = view.snapshot.tls.server(listener.mtls, listener.protocol).cloned();
    let io = Io::plain(tcp).with_peer(peer);
    // 2. What the client speaks, or that its server speaks first.
    let mut buf = Buf::default();
    let mut timer = Timer::default();
    let asks = secured.is_some() || listener.protocol != ListenerProtocol::Tcp;
    let rival = match (&secured, listener.mtls) {
        (None, _) => Rival::AtOnce,
        (Some(_), MtlsMode::Strict) => Rival::Never,
        (Some(_), MtlsMode::Permissive | MtlsMode::Disabled) => Rival::Later,
    };
    let first = if asks {
        first_bytes(&worker, &view, listener, rival, &io, &mut buf, &mut timer).await
    } else {
        First::Nothing
    };
    // 3. TLS, where the listener takes part in it.
    let (mut io, first) = match (&secured, first) {
        (Some(config), First::Client(Detected::Tls)) => {
            match Box::pin(secure(io, &mut buf, config, listener, peer)).await {
                Some(io) => {
                    let first = inside_tls(&worker, &view, listener, &io, &mut buf, &mut timer).await;
                    (io, first)
                }
                None => return,
            }
        }
        (Some(_), _) if listener.mtls == MtlsMode::Strict => {
            tracing::info!(listener = &*listener.name, %peer, "plaintext is refused: the listener's mtls is strict");
            return;
        }
        (_, first) => (io, first),
    };
    // 4. Who the client is.
    let tls = io.tls();
    let client = Client {
        listener: Arc::clone(&bound.name),
        index,
        direction: listener.direction,
        peer,
        local: bound.local,
        identity: tls.and_then(|t| t.peer_identity.clone()),
        trusted: listener.direction == Direction::Outbound || secured.is_none() || tls.is_some(),
        scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
        observer: worker.connections(listener.direction, Side::Downstream, tls.is_some()),
        worker,
    };
    client.observer.opened();
    client.observer.read(buf.len());
    io.count(client.observer.clone());
    // 5. Its requests, or its bytes.
    let client = Rc::new(client);
    let opaque = listener.protocol == ListenerProtocol::Tcp;
    match first {
        First::Closed => {}
        First::Client(Detected::Http2) if !opaque => {
            Box::pin(http2::serve(&client, listener, io, buf)).await;
        }
        First::Client(Detected::Http1) if !opaque => {
            // A connection may outlive many configurations and must not keep the one it began with.
            drop(view);
            http1::serve(&client, io, buf).await;
        }
        // Not even the first byte of a head came in time: there is nobody to answer.
        First::Nothing if listener.protocol == ListenerProtocol::Http && buf.is_empty() => {}
        First::Client(Detected::Tls | Detected::Opaque) | First::Nothing
            if listener.protocol == ListenerProtocol::Http =>
        {
            http1::serve(&client, io, buf).await;
        }
        First::Client(_) | First::Nothing => Box::pin(pass(&client, &view, listener, io, buf, None, timer)).await,
        First::Server(conn) => Box::pin(pass(&client, &view, listener, io, buf, Some(*conn), timer)).await,
    }
    client.observer.closed();
}

/// A connection beyond the listener's `maxConnections`.
pub async fn refuse(worker: &Rc<Worker>, bound: &BoundListener, tcp: TcpStream) {
    tracing::warn!(listener = &*bound.name, "a connection is refused: maxConnections is reached");
    let is_http = worker.view().listener(0, &bound.name).is_some_and(|l| l.protocol != ListenerProtocol::Tcp);
    if is_http {
        let io = Io::plain(tcp);
        let head: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nproxy-status: outrigger; error=connection_limit_reached; \
            details=\"the listener has reached maxConnections\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        // Who is not served is not waited for either.
        drop(timeout(Duration::from_millis(100), io.write_all(head)).await);
    }
}

/// The TLS handshake of a listener that takes part in it.
async fn secure(
    io: Io,
    buf: &mut Buf,
    config: &Arc<ServerConfig>,
    listener: &Listener,
    peer: SocketAddr,
) -> Option<Io> {
    let prefix = buf.bytes().to_vec();
    buf.consume(prefix.len());
    let handshake = Io::accept_tls(io.into_plain(), prefix, Arc::clone(config));
    let result = match listener.limits.header_read_timeout {
        Some(limit) => timeout(limit, handshake).await.unwrap_or_else(|_| {
            Err(Failure::new(crate::error::Reason::TlsProtocolError, "the handshake did not end in time"))
        }),
        None => handshake.await,
    };
    match result {
        Ok(io) => Some(io.with_peer(peer)),
        Err(failure) => {
            tracing::info!(listener = &*listener.name, %peer, %failure, "a TLS handshake failed");
            None
        }
    }
}

/// What a client speaks inside TLS: ALPN says, or its first bytes do.
async fn inside_tls(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
) -> First {
    match io.tls().and_then(|t| t.alpn) {
        _ if listener.protocol == ListenerProtocol::Tcp => First::Nothing,
        Some(Alpn::H2) => First::Client(Detected::Http2),
        Some(Alpn::Http1) => First::Client(Detected::Http1),
        None => first_bytes(worker, view, listener, Rival::AtOnce, io, buf, timer).await,
    }
}

/// Passes bytes on as they are.
async fn pass(
    client: &Rc<Client>,
    view: &View,
    listener: &Listener,
    io: Io,
    mut buf: Buf,
    dialled: Option<H1Conn>,
    mut timer: Timer,
) {
    let ListenerTarget::Forward(id) = listener.target else {
        let peer = client.peer;
        tracing::info!(listener = &*listener.name, %peer, "a connection that is not HTTP names no upstream and is closed");
        return;
    };
    let upstream = view.upstream(id);
    if let Err(policy) = admit(client, listener, &upstream.config.access) {
        upstream.observer.rejected(crate::error::Reason::AccessDenied);
        tracing::info!(listener = &*listener.name, peer = %client.peer, policy, "a connection is denied");
        return;
    }
    let mut conn = match dialled {
        Some(conn) => conn,
        None => match dial(client, upstream).await {
            Ok(conn) => conn,
            Err(failure) => {
                upstream.observer.rejected(failure.reason);
                tracing::warn!(listener = &*listener.name, peer = %client.peer, %failure, "a connection is not passed on");
                return;
            }
        },
    };
    let mut out = [Out::default(), Out::default()];
    let [up, down] = &mut out;
    let idle = upstream.config.policy.timeouts.idle;
    let (a, b) = (opaque::End { io: &io, buf: &mut buf }, opaque::End { io: &conn.io, buf: &mut conn.buf });
    let ended = opaque::tunnel(a, b, [up, down], &mut timer, idle).await;
    tracing::debug!(listener = &*listener.name, peer = %client.peer, ?ended, "a connection was passed on");
}

/// An access policy sees of such a connection who it is, and no method and no path.
fn admit(
    client: &Client,
    listener: &Listener,
    policies: &[Arc<outrigger_config::model::AccessPolicy>],
) -> Result<(), String> {
    if policies.is_empty() || client.direction == Direction::Outbound {
        return Ok(());
    }
    let caller = Caller { identity: client.identity.as_deref(), address: client.peer.ip() };
    match access::evaluate_connection(policies, &caller, listener.address.port()).verdict {
        access::Verdict::Deny(cause) => Err(cause.policy.name.to_string()),
        access::Verdict::Open | access::Verdict::Allow(_) => Ok(()),
    }
}

async fn dial(client: &Client, upstream: &crate::upstream::UpstreamView) -> Result<H1Conn, Failure> {
    let pick = |tried: &[_]| {
        upstream.pick(&[Some(Rc::clone(&upstream.target))], tried, 0, &mut client.worker.rng.borrow_mut())
    };
    let endpoint = pick(&[])?;
    let opened = H1Conn::open(&client.worker, client.direction, upstream, &endpoint, None, None).await;
    match opened {
        Err(_) => {
            let other = pick(&[endpoint])?;
            H1Conn::open(&client.worker, client.direction, upstream, &other, None, None).await
        }
        opened => opened,
    }
}
