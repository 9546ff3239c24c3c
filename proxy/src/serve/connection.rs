//! The life of a client's connection: read [`serve`] from top to bottom.
//!
//! What comes before the first request is in a box of its own, and so is all that does not speak HTTP/1: an idle
//! HTTP/1 connection costs what its task has room for, and should not hold the room for a handshake or a race of dials.

use std::{
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use outrigger_config::model::{Direction, Listener, ListenerLimits, ListenerProtocol, MtlsMode, UpstreamProtocol};
use rustls::pki_types::UnixTime;
use tokio::time::timeout;

use super::{
    http1, http2,
    locate::{self, Arrival, Target},
    opaque,
    view::View,
    worker::Worker,
};
use crate::{
    buffer::Buf,
    detect::Detected,
    error::Reason,
    http::Scheme,
    io::Io,
    observe::{self, ConnectionObserver, Side, Unproven},
    shared::BoundListener,
    timer::Timer,
    tls::Alpn,
    upstream::{Endpoint, H1Conn, Own, UpstreamView},
};

mod first;
mod penalty;
mod secure;
mod tunnel;

use first::{First, Rival, first_bytes};
pub(super) use secure::read_hello;
use secure::{Arriving, Whose};
pub(super) use tunnel::{Tunnelled, ask as ask_tunnel, serve as serve_tunnel};

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
    /// The address that it was made for: that of the listener, unless it was redirected.
    pub local: SocketAddr,
    /// Where it was going before it was redirected to the listener.
    pub original: Option<SocketAddr>,
    /// What it stands for, whatever its requests say: the `HOST:PORT` of its CONNECT, or of the port that it was made to.
    pub named: Option<Arc<str>>,
    /// The identity that it has proven.
    pub identity: Option<Arc<str>>,
    /// What the application learns of its certificate (`x-forwarded-client-cert`).
    pub forwarded: Option<Arc<str>>,
    /// Its identifiers are kept: it is the local app, a proven peer, or no one here can prove anything.
    pub trusted: bool,
    /// How it reached this proxy.
    pub scheme: Scheme,
    /// What it speaks was chosen for the server that it was on its way to, and not agreed on with this proxy.
    pub unasked: bool,
    /// Counters of its connection.
    pub observer: ConnectionObserver,
}

impl Client {
    /// The port that its connection was made for: that of the listener, unless it was redirected there.
    #[must_use]
    pub fn port(&self, listener: &Listener) -> u16 {
        self.original.map_or(listener.address.port(), |original| original.port())
    }
}

/// Serves one connection from its first byte to its last.
pub async fn serve(worker: Rc<Worker>, bound: Arc<BoundListener>, tcp: TcpStream, peer: SocketAddr) {
    let Some(http1) = Box::pin(open(worker, bound, tcp, peer)).await else { return };
    let observer = http1.client.observer.clone();
    http1::serve(http1).await;
    observer.closed();
}

/// Finds out who the client is and what it speaks, and serves it unless that is HTTP/1.
async fn open(
    worker: Rc<Worker>,
    bound: Arc<BoundListener>,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<Box<http1::Connection>> {
    // 1. Which listener, and what it asks for.
    let peer = locate::canonical(peer);
    let original = arrive(&worker, &bound, &tcp, peer).await?;
    let view = worker.view();
    let index = view.snapshot.model.listeners.iter().position(|l| l.name == bound.name)?;
    let listener = &view.snapshot.model.listeners[index];
    let Some(listener) = view.listener_for(listener, original) else {
        closed(&worker, "not_ready", listener, peer);
        return None;
    };
    let named = view.snapshot.routing.as_ref().and_then(|r| r.explicit.named(&bound.name)).cloned();
    let target = locate::target(&worker, &view, listener, original, named.as_ref());
    let listener = passed_on(&view, listener, target.as_ref());
    let secured = view.snapshot.tls.server(listener.mtls, listener.protocol).cloned();
    if view.snapshot.routing.is_some() && secured.is_none() && listener.mtls != MtlsMode::Disabled {
        // What a peer says under mesh TLS is not for the app, and plaintext may not be allowed.
        closed(&worker, "no_identity", listener, peer);
        return None;
    }
    if listener.mtls == MtlsMode::Strict {
        // Nothing that the client may send changes this, so it is not waited for.
        let expired = view.snapshot.tls.check(UnixTime::now()).err();
        let why = expired.map(|failure| failure.to_string());
        if let Some(why) = why.or_else(|| secured.is_none().then(|| "there is no identity".to_owned())) {
            worker.observer.handshake_failed(Reason::TlsCertificateError);
            tracing::warn!(listener = &*listener.name, %peer, "a connection is refused: mtls is strict, and {why}");
            return None;
        }
    }
    let io = Io::accepted(tcp).with_peer(peer);
    // 2. What the client speaks, or that its server speaks first.
    let mut buf = Buf::default();
    let mut timer = Timer::default();
    let asks = secured.is_some() || listener.protocol != ListenerProtocol::Tcp;
    let rival = match (&secured, listener.mtls) {
        (None, _) => Rival::AtOnce,
        (Some(_), MtlsMode::Strict) => Rival::Never,
        (Some(_), MtlsMode::Permissive | MtlsMode::Disabled) => Rival::Later,
    };
    let mut begun = None;
    let first = if asks {
        first_bytes(&worker, &view, listener, target.as_ref(), rival, &io, &mut buf, &mut timer, &mut begun).await
    } else {
        First::Nothing
    };
    // 3. TLS, where the listener takes part in it.
    let (mut io, first) = match (&secured, first) {
        (Some(config), First::Client(Detected::Tls)) => {
            let port = original.map_or(listener.address.port(), |o| o.port());
            let limit = begun.zip(listener.limits.header_read_timeout).map(|(begun, limit)| begun + limit);
            let arriving =
                Arriving { worker: &worker, view: &view, listener, target: target.as_ref(), peer, limit, port };
            match Box::pin(arriving.whose(&io, &mut buf, &mut timer)).await {
                Whose::Ours => match Box::pin(arriving.serve(io, &mut buf, config)).await {
                    Some(io) => {
                        let first =
                            inside_tls(&worker, &view, listener, target.as_ref(), &io, &mut buf, &mut timer).await;
                        (io, first)
                    }
                    None => return None,
                },
                Whose::Apps(conn) => {
                    worker.observer.detected("app_tls");
                    (io, conn.map_or(First::Client(Detected::Tls), First::Server))
                }
                Whose::Nobodys => return None,
            }
        }
        (_, _) if listener.mtls == MtlsMode::Strict => {
            tracing::info!(listener = &*listener.name, %peer, "plaintext is refused: the listener's mtls is strict");
            return None;
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
        local: original.unwrap_or(bound.local),
        original,
        unasked: (original.is_some() || named.is_some()) && tls.is_none_or(|t| t.mesh),
        named,
        identity: tls.and_then(|t| t.peer_identity.clone()),
        forwarded: tls.and_then(|t| t.forwarded(view.snapshot.tls.identity())),
        trusted: listener.direction == Direction::Outbound || secured.is_none() || tls.is_some(),
        scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
        observer: worker.connections(listener.direction, Side::Downstream, tls.is_some()),
        worker,
    };
    let app_tls = matches!(first, First::Client(Detected::Tls) | First::Server(_)) && begun.is_some();
    let permissive = listener.mtls == MtlsMode::Permissive && !matches!(first, First::Closed);
    let unproven = (permissive && io.tls().is_none()).then(|| {
        let kind = if app_tls { Unproven::AppTls } else { Unproven::Plaintext };
        client.worker.observer.unproven(&client.listener, peer.ip(), kind)
    });
    client.observer.opened();
    client.observer.read(buf.len());
    io.count(client.observer.clone());
    // 5. Its requests, or its bytes.
    let client = Rc::new(client);
    let spoken = Spoken { first, dialled: None, target };
    let course = course(&client, &view, listener, spoken, &io, &mut buf, &mut timer).await;
    // A connection may outlive many configurations, and must not keep the one that it began with.
    drop((view, secured));
    let http1 = take(&client, course, io, buf, timer, unproven).await;
    if http1.is_none() {
        client.observer.closed();
    }
    http1
}

/// What is known of a connection once somebody has spoken on it.
struct Spoken {
    first: First,
    /// A connection to where it goes, if that was made already.
    dialled: Option<Box<H1Conn>>,
    target: Option<Target>,
}

/// How a connection goes on.
enum Course {
    /// Not at all.
    Over,
    /// With requests of HTTP/1.
    Http1,
    /// With requests of HTTP/2.
    Http2(ListenerLimits),
    /// With bytes that go there, on this connection if it was made already.
    Bytes((Rc<UpstreamView>, Option<Rc<Endpoint>>), Option<Box<H1Conn>>),
}

/// Decides how a connection goes on by what was spoken on it.
async fn course(
    client: &Client,
    view: &View,
    listener: &Listener,
    Spoken { first, dialled, target }: Spoken,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
) -> Course {
    let opaque = listener.protocol == ListenerProtocol::Tcp;
    match first {
        First::Closed => Course::Over,
        First::Client(Detected::Http2) if !opaque => Course::Http2(listener.limits.clone()),
        First::Client(Detected::Http1) if !opaque => Course::Http1,
        // Not even the first byte of a head came in time: there is nobody to answer.
        First::Nothing if listener.protocol == ListenerProtocol::Http && buf.is_empty() => Course::Over,
        First::Client(Detected::Tls | Detected::Opaque) | First::Nothing
            if listener.protocol == ListenerProtocol::Http =>
        {
            Course::Http1
        }
        first => match Box::pin(opaque::towards(client, view, listener, target, io, buf, timer)).await {
            None => Course::Over,
            Some(way) => Course::Bytes(way, if let First::Server(conn) = first { Some(conn) } else { dialled }),
        },
    }
}

/// Lets a connection go on, to its end unless that is with requests of HTTP/1.
async fn take(
    client: &Rc<Client>,
    course: Course,
    io: Io,
    buf: Buf,
    timer: Timer,
    unproven: Option<observe::Open>,
) -> Option<Box<http1::Connection>> {
    match course {
        Course::Over => {}
        Course::Http1 => return Some(Box::new(http1::Connection::new(Rc::clone(client), io, buf, unproven))),
        Course::Http2(limits) => Box::pin(http2::serve(client, limits, io, buf)).await,
        Course::Bytes(way, dialled) => {
            Box::pin(opaque::pass(client, way, io, buf, dialled.map(|conn| *conn), timer)).await
        }
    }
    drop(unproven);
    None
}

/// Where a connection was going before it was redirected here, once that is as well known as it gets. The outer `None`: it
/// ends here.
async fn arrive(
    worker: &Rc<Worker>,
    bound: &BoundListener,
    tcp: &TcpStream,
    peer: SocketAddr,
) -> Option<Option<SocketAddr>> {
    let view = worker.view();
    let listener = view.listener(0, &bound.name)?;
    let explicit = view.snapshot.routing.as_ref().map(|routing| &routing.explicit);
    if let Some(named) = explicit.and_then(|e| e.named(&bound.name)).cloned() {
        drop(view);
        locate::settle_name(worker, &named).await;
        return Some(None);
    }
    if let Some(port) = explicit.and_then(|e| e.moved(&bound.name)) {
        // Nobody redirects it: the proxy has the port of the app.
        return Some(Some(SocketAddr::new(locate::canonical(tcp.local_addr().ok()?).ip(), port)));
    }
    let own = view.snapshot.listeners.iter().filter(|bound| Own::leads_back(&view.snapshot, bound)).map(|l| l.local);
    let routing = view.snapshot.routing.as_deref();
    let original = match locate::arrival(listener, tcp, bound.local, own, routing) {
        Arrival::Direct => return Some(None),
        Arrival::Loop => {
            worker.observer.loop_refused();
            closed(worker, "loop", listener, peer);
            return None;
        }
        Arrival::Redirected(original) => original,
    };
    if let (Direction::Outbound, Some(discovery)) = (listener.direction, worker.shared.discovery()) {
        // The view must not be held while this waits: what is waited for is another.
        drop(view);
        Box::pin(discovery.settle_address(&worker.shared.observer, original)).await;
        worker.catch_up();
    }
    Some(Some(original))
}

/// The listener that stands for a connection to `target`: one for bytes, where those are what its upstream speaks.
fn passed_on<'a>(view: &'a View, listener: &'a Listener, target: Option<&Target>) -> &'a Listener {
    let opaque = view.snapshot.routing.as_ref().and_then(|r| r.opaque());
    let bytes = target.is_some_and(|t| view.upstream(t.id).config.protocol == UpstreamProtocol::Tcp);
    opaque.filter(|_| bytes && listener.direction == Direction::Outbound).unwrap_or(listener)
}

/// A connection that is not served, for a reason that is the pod's.
fn closed(worker: &Worker, event: &'static str, listener: &Listener, peer: SocketAddr) {
    worker.shared.observer.discovery(match event {
        "loop" => "loop_refused",
        "no_identity" => "no_identity_refused",
        _ => "not_ready_refused",
    });
    tracing::info!(listener = &*listener.name, %peer, event, "a connection is closed");
}

/// A connection beyond the listener's `maxConnections`.
pub async fn refuse(worker: &Rc<Worker>, bound: &BoundListener, tcp: TcpStream) {
    tracing::warn!(listener = &*bound.name, "a connection is refused: maxConnections is reached");
    let is_http = worker.view().listener(0, &bound.name).is_some_and(|l| l.protocol != ListenerProtocol::Tcp);
    if is_http {
        let io = Io::accepted(tcp);
        let head: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nproxy-status: outrigger; error=connection_limit_reached; \
            details=\"the listener has reached maxConnections\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        // Who is not served is not waited for either.
        drop(timeout(Duration::from_millis(100), io.write_all(head)).await);
    }
}

/// What a client speaks inside TLS: ALPN says, or its first bytes do.
async fn inside_tls(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    target: Option<&Target>,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
) -> First {
    match io.tls().and_then(|t| t.alpn) {
        _ if listener.protocol == ListenerProtocol::Tcp => First::Nothing,
        Some(Alpn::H2) => First::Client(Detected::Http2),
        Some(Alpn::Http1) => First::Client(Detected::Http1),
        // That the other side has not looked at the bytes is no reason for us not to: HTTP must not get past
        // policies, or say who its caller is, by going under another name.
        Some(Alpn::Tcp) | None => {
            first_bytes(worker, view, listener, target, Rival::AtOnce, io, buf, timer, &mut None).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: fn(Rc<Worker>, Arc<BoundListener>, TcpStream, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }

    /// It is most of what an idle connection costs.
    #[test]
    fn the_task_of_a_connection_stays_small() {
        let size = size_of_future(serve);
        assert!(size <= 512, "{size} bytes");
    }
}
