//! Who speaks first on a connection, and what.
//!
//! Detection never holds up a protocol whose server speaks first: while the client's first bytes are
//! awaited, the upstream is dialled, and whoever speaks first decides. A connection dialled in vain is
//! not lost, it becomes the first one of the pool. Where a destination was found to speak HTTP before,
//! clients get a short head start, so that their connections are not dialled one for one.

use std::{
    cell::RefCell, collections::HashMap, future::poll_fn, net::SocketAddr, rc::Rc, sync::Arc, task::Poll,
    time::Duration,
};

use outrigger_config::model::{Listener, ListenerProtocol, UpstreamId, UpstreamProtocol};
use tokio::time::Instant;

use crate::{
    buffer::Buf,
    clock,
    detect::{Detected, TLS_HANDSHAKE, detect},
    io::Io,
    serve::{http1, locate::Target, view::View, worker::Worker},
    timer::Timer,
    upstream::H1Conn,
};

/// Head start of a client where HTTP was found before: far above a round trip inside a cluster, and
/// within the 50 ms that a server-first protocol may lose if the destination has changed.
const HEAD_START: Duration = Duration::from_millis(20);
/// Destinations whose protocol is remembered; more than any proxy has upstreams for in practice.
const REMEMBERED: usize = 4096;

thread_local! {
    static SPOKEN: RefCell<HashMap<Place, Detected>> = RefCell::default();
}

/// A destination whose protocol is remembered: all endpoints of an upstream speak the same, but those that clients choose
/// themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place(UpstreamId, Option<SocketAddr>);

impl Place {
    fn of(target: &Target) -> Self {
        Self(target.id, target.pinned.as_ref().map(|e| e.address()))
    }
}

/// What came first on a connection.
pub(super) enum First {
    /// The client's first bytes, in the buffer, say this.
    Client(Detected),
    /// The upstream spoke; its bytes are in the connection's buffer.
    Server(Box<H1Conn>),
    /// Neither spoke in time.
    Nothing,
    /// The client closed.
    Closed,
}

/// When the upstream is dialled to see whether it is the one that speaks first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    /// As the client's bytes are awaited.
    AtOnce,
    /// After a head start of the client: its `ClientHello` is on its way, and a greeting in plaintext would be
    /// none to it.
    Later,
    /// Nothing is served to a client that has not proven who it is.
    Never,
}

/// Waits for whoever speaks first. `begun` becomes the time at which the client's first bytes were seen, unless they
/// said at once that it is HTTP.
#[allow(clippy::too_many_arguments, reason = "one call, and each is a part of the question")]
pub(super) async fn first_bytes(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    target: Option<&Target>,
    rival: Rival,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
    begun: &mut Option<Instant>,
) -> First {
    let limit = listener.limits.header_read_timeout.map(|t| clock::now() + t);
    let upstream = target.filter(|_| listener.protocol != ListenerProtocol::Http && rival != Rival::Never);
    let place = upstream.map(Place::of);
    let spoken = place.and_then(|place| SPOKEN.with_borrow(|s| s.get(&place).copied()));
    let known_http = matches!(spoken, Some(Detected::Http1 | Detected::Http2));
    let early = (known_http || rival == Rival::Later).then(|| clock::now() + HEAD_START);
    let opaque = listener.protocol == ListenerProtocol::Tcp;
    // The client's bytes are often there already; then nothing is dialled.
    let wait = Wait { limit: early.or(limit), opaque, once: upstream.is_some() && early.is_none() };
    let first = read(worker, io, buf, timer, wait, begun).await;
    let first = match (first, upstream) {
        (None, Some(target)) if early.is_some() || buf.is_empty() => {
            Box::pin(race(worker, view, listener, target, io, buf, timer, begun)).await
        }
        // What could still become HTTP or TLS must not get past everything that looks at those by stalling.
        (None, Some(_)) if !opaque => First::Closed,
        (first, _) => first.unwrap_or(First::Nothing),
    };
    if let (Some(place), First::Client(detected)) = (place, &first) {
        // TLS that ends here says nothing of what is inside it.
        if spoken != Some(*detected) && (rival == Rival::AtOnce || *detected != Detected::Tls) {
            remember(place, *detected);
        }
    } else if let (Some(place), First::Server(_)) = (place, &first) {
        remember(place, Detected::Opaque);
    }
    worker.observer.detected(match &first {
        First::Client(Detected::Http1) => "http1",
        First::Client(Detected::Http2) => "http2",
        First::Client(Detected::Tls) => "tls",
        First::Client(Detected::Opaque) => "opaque",
        First::Server(_) => "server_first",
        First::Nothing => "timeout",
        First::Closed => "closed",
    });
    first
}

fn remember(place: Place, detected: Detected) {
    SPOKEN.with_borrow_mut(|spoken| {
        if spoken.len() >= REMEMBERED && !spoken.contains_key(&place) {
            // Learnt again at the price of a dial each; better than never again.
            spoken.clear();
        }
        spoken.insert(place, detected);
    });
}

/// How long [`read`] waits, and for what.
struct Wait {
    limit: Option<Instant>,
    /// All that matters is whether it is TLS.
    opaque: bool,
    /// Not at all: what has come has come.
    once: bool,
}

/// Reads until the client's bytes tell what they are. `None`: they have not come.
async fn read(
    worker: &Worker,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
    Wait { limit, opaque, once }: Wait,
    begun: &mut Option<Instant>,
) -> Option<First> {
    let mut leave = Leave::default();
    poll_fn(|cx| {
        match poll_detect(io, buf, opaque, cx) {
            Poll::Ready(first) => {
                if let First::Client(Detected::Tls) = first {
                    begun.get_or_insert_with(Instant::now);
                }
                return Poll::Ready(Some(first));
            }
            Poll::Pending if once && buf.is_empty() => return Poll::Ready(None),
            Poll::Pending if !buf.is_empty() => drop(begun.get_or_insert_with(Instant::now)),
            Poll::Pending => {}
        }
        if buf.is_empty() && leave.poll(worker, timer, cx).is_ready() {
            return Poll::Ready(Some(First::Closed));
        }
        timer.poll_opt(cx, limit).map(|()| None)
    })
    .await
}

/// Ends the wait for a client's first bytes once the proxy drains. It was let in, so they may be on their way:
/// closing at once would reset a request that nobody has refused.
#[derive(Default)]
pub(super) struct Leave(Option<Instant>);

impl Leave {
    pub(super) fn poll(&mut self, worker: &Worker, timer: &mut Timer, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if !worker.closing() {
            return Poll::Pending;
        }
        timer.poll_at(cx, *self.0.get_or_insert_with(|| clock::now() + http1::LAST_REQUEST))
    }
}

/// Reads what is there: false if the client has closed, or is gone.
pub(super) fn fill(io: &Io, buf: &mut Buf, cx: &mut std::task::Context<'_>) -> Poll<bool> {
    buf.poll_fill(io, cx).map(|read| matches!(read, Ok(1..)))
}

pub(super) fn poll_detect(io: &Io, buf: &mut Buf, opaque: bool, cx: &mut std::task::Context<'_>) -> Poll<First> {
    loop {
        if let Some(detected) = (!buf.is_empty()).then(|| detect(buf.bytes())).flatten() {
            return Poll::Ready(First::Client(detected));
        }
        if opaque && buf.bytes().first().is_some_and(|first| *first != TLS_HANDSHAKE) {
            return Poll::Ready(First::Client(Detected::Opaque));
        }
        match std::task::ready!(buf.poll_fill(io, cx)) {
            // A client that says so little and closes its half (`printf x | nc`) is none of HTTP's.
            Ok(0) if !buf.is_empty() => return Poll::Ready(First::Client(Detected::Opaque)),
            Ok(0) | Err(_) => return Poll::Ready(First::Closed),
            Ok(_) => {}
        }
    }
}

/// Dials the upstream while the client's bytes are awaited.
///
/// As long as both are silent this is an idle connection, and who speaks first still decides: were it
/// turned into a tunnel after a while, a client would only have to wait to get HTTP past this proxy unread.
#[allow(clippy::too_many_arguments, reason = "one call, and each is a part of the race")]
async fn race(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    target: &Target,
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
    begun: &mut Option<Instant>,
) -> First {
    let upstream = Rc::clone(view.upstream(target.id));
    // Only plaintext HTTP/1 and bytes can be used for whatever the client turns out to speak.
    let usable =
        matches!(upstream.config.protocol, UpstreamProtocol::Auto | UpstreamProtocol::Http | UpstreamProtocol::Tcp);
    let pinned = target.pinned.clone().filter(|_| usable);
    let endpoint = pinned.or_else(|| {
        usable
            .then(|| upstream.pick(&[Some(Rc::clone(&upstream.target))], &[], 0, &mut worker.rng.borrow_mut()).ok())
            .flatten()
    });
    let opaque = listener.protocol == ListenerProtocol::Tcp;
    // Where HTTP may come, the connection may be for nothing: then it is given up for a request that waits.
    let spare = !opaque && upstream.config.protocol != UpstreamProtocol::Tcp;
    let bulkhead = Arc::clone(&upstream.target.target.state.bulkhead);
    let mut wanted = std::pin::pin!(bulkhead.wanted.notified());
    wanted.as_mut().enable();
    let mut dial = std::pin::pin!(Some(async {
        let endpoint = endpoint.as_ref()?;
        if spare {
            return H1Conn::open_spare(worker, listener.direction, &upstream, endpoint).await;
        }
        H1Conn::open(worker, listener.direction, &upstream, endpoint, None, None).await.ok()
    }));
    let mut dialled: Option<H1Conn> = None;
    let mut leave = Leave::default();
    let started = clock::now();
    let idle = upstream.config.policy.timeouts.idle;
    if !buf.is_empty() {
        begun.get_or_insert(started);
    }
    let first = poll_fn(|cx| {
        if let Poll::Ready(first) = poll_detect(io, buf, opaque, cx) {
            if let First::Client(Detected::Tls) = first {
                begun.get_or_insert_with(Instant::now);
            }
            return Poll::Ready(first);
        }
        if let Some(dialling) = dial.as_mut().as_pin_mut()
            && let Poll::Ready(conn) = dialling.poll(cx)
        {
            dialled = conn;
            dial.set(None);
        }
        if spare && (dial.is_some() || dialled.is_some()) && wanted.as_mut().poll(cx).is_ready() {
            dial.set(None);
            dialled = None;
        }
        if let Some(conn) = &mut dialled {
            let H1Conn { io, buf, .. } = conn;
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(n)) if n > 0 => return Poll::Ready(First::Nothing),
                Poll::Ready(_) => dialled = None,
                Poll::Pending => {}
            }
        }
        if buf.is_empty() && leave.poll(worker, timer, cx).is_ready() {
            return Poll::Ready(First::Closed);
        }
        if begun.is_none() && !buf.is_empty() {
            *begun = Some(clock::now());
        }
        let rival = dial.is_some() || dialled.is_some();
        let patience = if begun.is_none() && rival { idle } else { listener.limits.header_read_timeout };
        let limit = patience.map(|t| begun.unwrap_or(started) + t);
        if timer.poll_opt(cx, limit).is_ready() {
            return Poll::Ready(if opaque && begun.is_some() { First::Nothing } else { First::Closed });
        }
        Poll::Pending
    })
    .await;
    match (first, dialled) {
        (First::Nothing, Some(conn)) => First::Server(Box::new(conn)),
        (first, Some(conn)) => {
            Box::new(conn).give_back(&upstream, clock::now());
            first
        }
        (first, None) => first,
    }
}
