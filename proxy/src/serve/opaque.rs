//! Bytes both ways: opaque TCP, and what a connection becomes after `101 Switching Protocols`.

use std::{cell::Cell, future::poll_fn, io, net::SocketAddr, rc::Rc, sync::Arc, task::Poll, time::Duration};

use outrigger_config::model::{HostTable, Listener, ListenerTarget, UpstreamId, UpstreamTls};
use tokio::time::Instant;

use super::{
    access::{self, Denied, Ruling},
    connection::{Client, read_hello},
    locate::{self, Target},
    view::{self, View},
};
use crate::{
    buffer::{Buf, Out},
    detect::{Detected, detect},
    error::{Failure, Reason},
    forward::{Left, Pump, PumpError, Sink, Source},
    http::h1::Limits,
    io::Io,
    observe::ConnectionRecord,
    timer::{Idle, Timer},
    upstream::{Endpoint, H1Conn, UpstreamView},
};

/// One end of a tunnel: a socket, and what was read from it already.
pub struct End<'a> {
    /// The socket.
    pub io: &'a Io,
    /// What was read and belongs to the other end.
    pub buf: &'a mut Buf,
}

/// How a tunnel ended.
#[derive(Debug)]
pub struct Ended {
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// `None`: both ends closed in order.
    pub error: Option<TunnelError>,
}

/// Why a tunnel broke.
#[derive(Debug)]
pub enum TunnelError {
    /// Nothing moved for the idle time.
    Idle,
    /// The client's connection failed.
    Client,
    /// The upstream's connection failed.
    Upstream,
    /// It may not go on: what decides on access has changed.
    Denied(Denied),
}

impl TunnelError {
    /// What the log calls it.
    fn failure(self) -> Failure {
        let (reason, details) = match self {
            Self::Idle => (Reason::ConnectionReadTimeout, "nothing moved for timeouts.idle"),
            Self::Client => (Reason::ClientDisconnected, "the client's connection broke"),
            Self::Upstream => (Reason::ConnectionTerminated, "the upstream's connection broke"),
            Self::Denied(denied) => return denied.0,
        };
        Failure::new(reason, details)
    }
}

/// What the log line of a connection says beside its two ends.
pub struct Told<'a> {
    /// Where it went.
    pub endpoint: Option<SocketAddr>,
    /// When it came.
    pub started: Instant,
    /// Bytes to the upstream, and back.
    pub moved: [u64; 2],
    /// What access policies said.
    pub ruling: &'a Ruling,
}

/// A connection whose bytes were passed on has ended, or was not let in: one line, and if it was refused, one count.
pub fn tell(client: &Client, upstream: &str, failure: Option<&Failure>, told: &Told<'_>) {
    let view = client.worker.view();
    let named = view.upstreams().iter().position(|u| *u.config.name == *upstream);
    let to = named.and_then(|i| u32::try_from(i).ok()).map(UpstreamId);
    if let (Some(id), Some(Failure { reason: Reason::AccessDenied, .. })) = (to, failure) {
        view.upstream(id).observer.rejected(Reason::AccessDenied);
    }
    let way = to.map(|to| view::Way { to, rule: None, backend: None });
    view.observer(&client.worker.observer, client.direction, way).connection_ended(&ConnectionRecord {
        listener: &client.listener,
        failure,
        access: told.ruling.note(&view),
        peer_address: client.peer,
        peer_identity: client.identity.as_ref(),
        endpoint: told.endpoint,
        duration: told.started.elapsed(),
        request_bytes: told.moved[0],
        response_bytes: told.moved[1],
    });
}

/// Where a connection goes whose bytes are passed on as they are. `None`: nowhere, and that is told.
pub(super) async fn towards(
    client: &Client,
    view: &View,
    listener: &Listener,
    target: Option<Target>,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
) -> Option<(Rc<UpstreamView>, Option<Rc<Endpoint>>)> {
    let told = Told { endpoint: None, started: Instant::now(), moved: [0; 2], ruling: &Ruling::default() };
    let Target { id, pinned } = match (target, &listener.target) {
        (Some(target), _) => target,
        (None, ListenerTarget::Forward(id)) => Target { id: *id, pinned: None },
        (None, ListenerTarget::ByHost(_)) if client.named.is_some() => {
            let named = client.named.as_deref().unwrap_or_default();
            let failure = locate::tunnel(&client.worker, view, named).err();
            tell(client, "", failure.as_ref(), &told);
            return None;
        }
        (None, ListenerTarget::ByHost(hosts)) => match named(client, listener, hosts, io, buf, timer).await {
            Ok(id) => Target { id, pinned: None },
            Err(why) => {
                if begins_tls(buf) {
                    client.worker.observer.handshake_failed(Reason::DestinationNotFound);
                }
                tell(client, "", Some(&Failure::new(Reason::DestinationNotFound, why)), &told);
                return None;
            }
        },
    };
    let upstream = view.upstream(id);
    if let (UpstreamTls::Simple { .. }, true) = (&upstream.config.tls, begins_tls(buf)) {
        let details = "its client speaks TLS itself, and tls.mode of the Upstream is simple, so it would be encrypted twice; \
                       let the client speak plaintext to the proxy, or set tls.mode: none";
        upstream.observer.rejected(Reason::ProxyConfigurationError);
        let failure = Failure::new(Reason::ProxyConfigurationError, details);
        tell(client, &upstream.config.name, Some(&failure), &told);
        return None;
    }
    Some((Rc::clone(upstream), pinned))
}

/// The life of a connection whose bytes are passed on as they are. It may outlive many configurations, and holds none.
pub(super) async fn pass(
    client: &Client,
    (upstream, pinned): (Rc<UpstreamView>, Option<Rc<Endpoint>>),
    io: Io,
    mut buf: Buf,
    dialled: Option<H1Conn>,
    mut timer: Timer,
) {
    let mut told = Told { endpoint: None, started: Instant::now(), moved: [0; 2], ruling: &Ruling::default() };
    let name = Arc::clone(&upstream.config.name);
    // What decides is looked up by name: the configuration may have changed since the client came.
    let seen = Cell::new(client.worker.rulings());
    let (admitted, ruling) = access::admit(client, &name);
    told.ruling = &ruling;
    if let Err(failure) = admitted {
        return tell(client, &name, Some(&failure), &told);
    }
    let mut conn = match dialled {
        Some(conn) => conn,
        None => match dial(client, &upstream, pinned).await {
            Ok(conn) => conn,
            Err(failure) => {
                upstream.observer.rejected(failure.reason);
                return tell(client, &name, Some(&failure), &told);
            }
        },
    };
    told.endpoint = conn.io.peer_addr();
    let mut out = [Out::default(), Out::default()];
    let [up, down] = &mut out;
    let idle = upstream.config.policy.timeouts.idle;
    let (a, b) = (End { io: &io, buf: &mut buf }, End { io: &conn.io, buf: &mut conn.buf });
    let still = || access::readmit(client, &seen, &name);
    let mut ended = tunnel(a, b, [up, down], &mut timer, idle, still).await;
    told.moved = [ended.up, ended.down];
    match ended.error.take() {
        None => tell(client, &name, None, &told),
        Some(TunnelError::Denied(denied)) => tell(client, &name, Some(&denied.0), &Told { ruling: &denied.1, ..told }),
        Some(error) => tell(client, &name, Some(&error.failure()), &told),
    }
}

/// The upstream that a connection names which is not HTTP: by the server name of its TLS.
async fn named(
    client: &Client,
    listener: &Listener,
    hosts: &HostTable,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
) -> Result<UpstreamId, String> {
    if !begins_tls(buf) {
        return Err("it is neither HTTP nor TLS, so it names no upstream".to_owned());
    }
    let limit = listener.limits.header_read_timeout.map(|limit| Instant::now() + limit);
    let hello = read_hello(io, buf, timer, limit).await.ok_or("its ClientHello did not come")?;
    let sni = hello.sni.ok_or("its TLS names no server (SNI), so it names no upstream")?;
    // What a client asks for may be anything: it is quoted, and never a label.
    let found = hosts.find(&format!("{sni}:{}", client.local.port())).or_else(|| hosts.find(&sni));
    found.ok_or_else(|| format!("no Upstream has the host {sni:?}, which its TLS names"))
}

fn begins_tls(buf: &Buf) -> bool {
    detect(buf.bytes()) == Some(Detected::Tls)
}

async fn dial(client: &Client, upstream: &UpstreamView, pinned: Option<Rc<Endpoint>>) -> Result<H1Conn, Failure> {
    if let Some(endpoint) = pinned {
        return H1Conn::open(&client.worker, client.direction, upstream, &endpoint, None, None).await;
    }
    if upstream.is_new(&client.worker.shared) {
        Box::pin(upstream.settle(&client.worker.shared)).await;
    }
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

/// Carries bytes until both ends have closed. An end that closes its half closes the other's half, no more:
/// `ssh`, `rsync` and databases rely on that. `still` is asked at every step whether it may go on.
pub async fn tunnel(
    client: End<'_>,
    upstream: End<'_>,
    out: [&mut Out; 2],
    timer: &mut Timer,
    idle: Option<Duration>,
    mut still: impl FnMut() -> Result<(), Denied>,
) -> Ended {
    let [up_out, down_out] = out;
    let mut idle = Idle::new(idle);
    let mut up = Way::new(client.io, client.buf, upstream.io, up_out);
    let mut down = Way::new(upstream.io, upstream.buf, client.io, down_out);
    let mut progress = 0;
    let error = poll_fn(|cx| {
        if let Err(denied) = still() {
            return Poll::Ready(Some(TunnelError::Denied(denied)));
        }
        if let Some(next) = idle.next_look()
            && timer.poll_at(cx, next).is_ready()
        {
            if idle.expired(Instant::now(), progress) {
                return Poll::Ready(Some(TunnelError::Idle));
            }
            cx.waker().wake_by_ref();
        }
        let (a, b) = (up.poll(cx, &mut progress), down.poll(cx, &mut progress));
        match (a, b) {
            (Poll::Ready(Err(at_source)), _) => Poll::Ready(Some(side(at_source))),
            (_, Poll::Ready(Err(at_source))) => Poll::Ready(Some(side(!at_source))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await;
    Ended { up: up.source.taken, down: down.source.taken, error }
}

fn side(client: bool) -> TunnelError {
    if client { TunnelError::Client } else { TunnelError::Upstream }
}

/// One direction of a tunnel.
struct Way<'a> {
    source: Source<'a>,
    sink: Sink<'a>,
    to: &'a Io,
    pump: Pump,
    shut: bool,
}

impl<'a> Way<'a> {
    fn new(from: &'a Io, buf: &'a mut Buf, to: &'a Io, out: &'a mut Out) -> Self {
        let source = Source::h1(from, buf, Left::UntilClose, Limits::default());
        Self { source, sink: Sink::H1 { io: to, out, chunked: false }, to, pump: Pump::default(), shut: false }
    }

    /// Err(true): the end that is read failed.
    fn poll(&mut self, cx: &mut std::task::Context<'_>, progress: &mut u64) -> Poll<Result<(), bool>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        match std::task::ready!(self.pump.poll(cx, &mut self.source, &mut self.sink, progress)) {
            Ok(()) => {}
            Err(PumpError::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Poll::Ready(Err(e.at_source())),
        }
        // A peer that is gone already has no half to close.
        drop(std::task::ready!(self.to.poll_shutdown(cx)));
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}
