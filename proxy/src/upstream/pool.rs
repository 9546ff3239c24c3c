//! Connections to one endpoint that are kept open by one worker.
//!
//! HTTP/1: a stack, so that the connection used last is used next and the rest grow old and are closed.
//! One that its server has closed is noticed before it is used, for nothing (the reactor knows), and one
//! that is close to the server's announced or usual idle time is not used at all: that is how the
//! keep-alive race is mostly avoided; what remains of it is retried (`serve::attempt`).
//!
//! HTTP/2: a few connections, each shared by as many streams as its peer allows.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use outrigger_config::model::Direction;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{Endpoint, UpstreamView, connect};
use crate::{
    buffer::Buf,
    clock,
    error::{Failure, Reason, Repeat},
    io::{Fate, Gathered, Io, Traffic},
    observe::{ConnectionObserver, Side},
    policy::limits::Permit,
    serve::{RESPONSE_HEAD_BYTES, worker::Worker},
    shared::EndpointState,
    tls::{self, Alpn},
};

/// Idle HTTP/1 connections kept per endpoint and worker: a burst of this many is served without dialling.
const MAX_IDLE: usize = 256;
/// HTTP/2 connections per endpoint and worker. One is enough unless the peer allows few streams.
const MAX_H2: usize = 8;
/// A connection is not used in the last part of its server's announced idle time: a request on its way
/// would cross the server's close.
const MARGIN: Duration = Duration::from_secs(1);
/// A connection that is silent for so long while requests wait takes no more of them. Callers with less time than
/// this do not condemn a server that is merely slow.
const SILENCE: Duration = Duration::from_secs(1);
/// For an endpoint to take the last frames of its connection, GOAWAY among them.
const LAST_FRAMES: Duration = Duration::from_secs(1);
/// Receive window of a stream and of a connection: what 1 Gbit/s at 10 ms round trip takes, and the most
/// that one slow client can make us hold for it.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// One HTTP/1 connection to an endpoint.
pub struct H1Conn {
    /// The socket.
    pub io: Io,
    /// What was read and not used. Empty while the connection is idle.
    pub buf: Buf,
    /// Requests sent on it.
    pub served: u32,
    /// `Keep-Alive: timeout=` of its last answer.
    pub announced: Option<Duration>,
    created: Instant,
    /// As [`clock::nanos`] has it.
    idle_since: u64,
    guard: Guard,
}

/// What the keep-alive race has taught of an endpoint's server.
///
/// A request that is not safe to repeat cannot be sent again when the connection that it was sent on closes
/// without an answer. So it goes only on connections that have been idle for less than half of the
/// shortest idle time after which this server was seen to close one; else on a new one.
#[derive(Default)]
pub struct Patience {
    learnt: Cell<Option<(Duration, Instant)>>,
}

/// What was learnt counts for this long, then twice as much idle time is allowed, and so on: servers get
/// new settings.
const MEMORY: Duration = Duration::from_secs(60);

impl Patience {
    fn limit(&self, now: Instant) -> Option<Duration> {
        let (limit, at) = self.learnt.get()?;
        if now.saturating_duration_since(at) < MEMORY {
            return Some(limit);
        }
        let limit = limit.max(Duration::from_millis(1)) * 2;
        self.learnt.set(Some((limit, now)));
        Some(limit)
    }

    fn learn(&self, now: Instant, idle: Duration) {
        let known = self.learnt.get().map_or(Duration::MAX, |(limit, _)| limit);
        self.learnt.set(Some((known.min(idle / 2), now)));
    }
}

/// Counts a connection while it is open.
///
/// Its endpoint holds idle connections, so a connection must not hold its endpoint: neither would ever go.
struct Guard {
    endpoint: Weak<Endpoint>,
    state: Arc<EndpointState>,
    worker: usize,
    observer: ConnectionObserver,
    _place: Permit,
}

impl Guard {
    fn new(worker: &Worker, direction: Direction, endpoint: &Rc<Endpoint>, place: Permit, tls: bool) -> Self {
        let observer = worker.connections(direction, Side::Upstream, tls);
        observer.opened();
        let open = &endpoint.slot().connections;
        open.store(open.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let state = Arc::clone(&endpoint.state);
        Self { endpoint: Rc::downgrade(endpoint), state, worker: endpoint.worker, observer, _place: place }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.observer.closed();
        let open = &self.state.workers[self.worker].connections;
        open.store(open.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}

impl H1Conn {
    /// Takes an idle connection to `endpoint`, if there is a good one. `once`: for a request that must not be
    /// sent twice.
    #[must_use]
    pub fn reuse(view: &UpstreamView, endpoint: &Rc<Endpoint>, now: Instant, once: bool) -> Option<Box<Self>> {
        let limit = view.config.policy.timeouts.upstream_idle;
        let patience = if once { endpoint.patience.limit(now) } else { None };
        loop {
            let conn = endpoint.idle.borrow_mut().pop()?;
            let idle = conn.idle(now);
            if patience.is_some_and(|p| idle >= p) {
                // The rest of the stack has been idle for longer.
                endpoint.idle.borrow_mut().push(conn);
                return None;
            }
            if !conn.outlived(idle, limit) && !conn.io.is_stale() {
                return Some(conn);
            }
        }
    }

    /// Its server closed it when it was used again, at `now` at the latest.
    pub fn raced(&self, now: Instant) {
        if let Some(endpoint) = self.guard.endpoint.upgrade() {
            endpoint.patience.learn(now, self.idle(now));
        }
    }

    /// Opens one; `speaks`: for HTTP/1, or for bytes that are looked at by nobody.
    ///
    /// # Errors
    /// Those of [`connect::dial`].
    pub async fn open(
        worker: &Worker,
        direction: Direction,
        view: &UpstreamView,
        endpoint: &Rc<Endpoint>,
        speaks: Option<Alpn>,
        deadline: Option<Instant>,
    ) -> Result<Self, Failure> {
        let place = connect::place(view, deadline).await?;
        let io = connect::dial(view, endpoint, speaks, deadline).await?;
        Ok(Self::new(worker, direction, endpoint, place, io))
    }

    /// Opens one that may not be needed, if that takes no place from those that are.
    pub async fn open_spare(
        worker: &Worker,
        direction: Direction,
        view: &UpstreamView,
        endpoint: &Rc<Endpoint>,
    ) -> Option<Self> {
        let place = connect::free_place(view)?;
        let io = connect::dial(view, endpoint, None, None).await.ok()?;
        Some(Self::new(worker, direction, endpoint, place, io))
    }

    /// Wraps a connection that was just made.
    fn new(worker: &Worker, direction: Direction, endpoint: &Rc<Endpoint>, place: Permit, mut io: Io) -> Self {
        let now = clock::now();
        let guard = Guard::new(worker, direction, endpoint, place, io.tls().is_some());
        io.count(guard.observer.clone());
        Self { io, buf: Buf::default(), served: 0, announced: None, created: now, idle_since: clock::nanos(now), guard }
    }

    /// True for a connection that has carried a request before: its server may close it at any moment.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// Puts it back after an exchange that left it clean.
    pub fn give_back(mut self: Box<Self>, view: &UpstreamView, now: Instant) {
        let policy = &view.config.policy;
        let old = policy.timeouts.max_connection_age.is_some_and(|age| now - self.created >= age);
        let used_up = self.served >= policy.limits.max_requests_per_connection;
        // Somebody who may not open a connection waits for the place of this one.
        let wanted = view.target.connections.gate().is_contended();
        if old || used_up || wanted || !self.buf.is_empty() {
            return;
        }
        self.idle_since = clock::nanos(now);
        self.buf.release();
        self.io.shrink();
        let listed = self.guard.endpoint.upgrade().filter(|e| !e.retired.get());
        let Some(endpoint) = listed else { return };
        let mut idle = endpoint.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(self);
        }
    }

    /// When its last exchange ended ([`clock::nanos`]).
    #[must_use]
    pub fn idle_since(&self) -> u64 {
        self.idle_since
    }

    fn idle(&self, now: Instant) -> Duration {
        Duration::from_nanos(clock::nanos(now).saturating_sub(self.idle_since))
    }

    /// True if it has been idle for so long that its server may be about to close it.
    #[must_use]
    pub fn expired(&self, now: Instant, limit: Option<Duration>) -> bool {
        self.outlived(self.idle(now), limit)
    }

    fn outlived(&self, idle: Duration, limit: Option<Duration>) -> bool {
        let announced = self.announced.map(|a| a.saturating_sub(MARGIN).max(a / 2));
        limit.is_some_and(|l| idle >= l) || announced.is_some_and(|a| idle >= a)
    }
}

/// The HTTP/2 connections to one endpoint.
pub struct H2Pool {
    connections: RefCell<Vec<Rc<H2Conn>>>,
    /// One dials at a time, the others wait and then share.
    dialling: Semaphore,
}

impl Default for H2Pool {
    fn default() -> Self {
        Self { connections: RefCell::default(), dialling: Semaphore::new(1) }
    }
}

struct H2Conn {
    send: SendRequest<Bytes>,
    active: Cell<usize>,
    served: Cell<u32>,
    closed: Cell<bool>,
    traffic: Rc<Traffic>,
    /// Bytes that had come when a request was first left without an answer, and when that request began.
    quiet: Cell<Option<(u64, Instant)>>,
    created: Instant,
    idle_since: Cell<Instant>,
    fate: Option<Fate>,
    _guard: Guard,
}

/// One stream's place on a connection.
pub struct H2Lease {
    conn: Rc<H2Conn>,
    /// True if the connection has carried a stream before.
    pub reused: bool,
    /// Bytes that had come on the connection before.
    heard: u64,
}

impl H2Lease {
    /// The handle that opens the stream.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.conn.send.clone()
    }

    /// A request that began at `started` had no answer. If nothing at all has come on the connection since, for
    /// `SILENCE`, its peer may be gone without a word, and every request after this one would find it so.
    pub fn unanswered(&self, started: Instant, now: Instant) {
        let read = self.conn.traffic.read.get();
        if read != self.heard {
            return;
        }
        let quiet = self.conn.quiet.get().filter(|(at, _)| *at == read).map_or(started, |(_, since)| since);
        self.conn.quiet.set(Some((read, quiet)));
        if now.saturating_duration_since(quiet) >= SILENCE {
            self.condemn();
        }
    }

    /// Why the connection broke, if TLS did: a server may refuse our certificate when the handshake is over on
    /// our side.
    #[must_use]
    pub fn tls_failure(&self, who: &str) -> Option<Failure> {
        let error = self.conn.fate.as_ref()?.get()?;
        let failure = tls::failure::of_rustls(error, tls::Side::Server, who);
        // It has read no request then; on a connection that has worked the end of TLS says less.
        let unread = !self.reused && failure.reason == Reason::TlsAlertReceived;
        Some(failure.repeat(if unread { Repeat::Unprocessed } else { Repeat::IfIdempotent }))
    }

    /// The connection is of no further use.
    pub fn condemn(&self) {
        self.conn.closed.set(true);
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.conn.active.set(self.conn.active.get() - 1);
        self.conn.idle_since.set(clock::now());
    }
}

impl H2Pool {
    /// A place on a connection with room, or on a new one.
    ///
    /// # Errors
    /// The endpoint cannot be reached, or does not speak HTTP/2.
    pub async fn acquire(
        &self,
        worker: &Worker,
        direction: Direction,
        view: &UpstreamView,
        endpoint: &Rc<Endpoint>,
        fresh: bool,
        deadline: Option<Instant>,
    ) -> Result<H2Lease, Failure> {
        if !fresh && let Some(lease) = self.with_room(view) {
            return Ok(lease);
        }
        // Nobody waits for the dials of others for longer than for one of his own.
        let connect = view.config.policy.timeouts.connect.map(|t| clock::now() + t);
        let limit = connect.into_iter().chain(deadline).min();
        let turn = self.dialling.acquire();
        let turn = match limit {
            None => Ok(turn.await),
            Some(limit) => timeout_at(limit, turn).await,
        };
        let turn = turn.map_err(|_| {
            let details = format!("upstream {} took no connection at {} in time", view.config.name, endpoint.address());
            Failure::new(Reason::ConnectionTimeout, details).repeat(Repeat::Unprocessed)
        })?;
        let _turn = turn.expect("the semaphore is never closed");
        if !fresh && let Some(lease) = self.with_room(view) {
            return Ok(lease);
        }
        self.tidy(view);
        if self.connections.borrow().len() >= MAX_H2 {
            // All are at their peer's limit: h2 queues the stream until one ends.
            let fullest = self.connections.borrow().iter().min_by_key(|c| c.active.get()).cloned();
            return fullest.map(lease).ok_or_else(|| Failure::new(Reason::ConnectionLimitReached, "no connection"));
        }
        let place = connect::place(view, deadline).await?;
        let mut io = connect::dial(view, endpoint, Some(Alpn::H2), deadline).await?;
        let guard = Guard::new(worker, direction, endpoint, place, io.tls().is_some());
        io.count(guard.observer.clone());
        let traffic = io.watch();
        let fate = io.fate();
        let (io, writer) = Gathered::new(io);
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(RESPONSE_HEAD_BYTES)
            .enable_push(false);
        let handshake = writer.drive(builder.handshake::<_, Bytes>(io)).await;
        let (send, connection) = handshake.map_err(|e| {
            if let Some(failure) = fate.as_ref().and_then(|f| refused(f, view, endpoint)) {
                return failure;
            }
            let details = format!("upstream {} at {} does not speak HTTP/2: {e}", view.config.name, endpoint.address());
            Failure::new(Reason::HttpProtocolError, details).repeat(Repeat::Unprocessed)
        })?;
        let now = clock::now();
        let conn = Rc::new(H2Conn {
            send,
            active: Cell::new(0),
            served: Cell::new(0),
            closed: Cell::new(false),
            traffic,
            quiet: Cell::new(None),
            created: now,
            idle_since: Cell::new(now),
            fate,
            _guard: guard,
        });
        let driven = Rc::downgrade(&conn);
        tokio::task::spawn_local(async move {
            if let Err(error) = writer.drive(connection).await {
                tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended");
            }
            writer.finish(LAST_FRAMES).await;
            if let Some(conn) = driven.upgrade() {
                conn.closed.set(true);
            }
        });
        if !endpoint.retired.get() {
            self.connections.borrow_mut().push(Rc::clone(&conn));
        }
        Ok(lease(conn))
    }

    fn with_room(&self, view: &UpstreamView) -> Option<H2Lease> {
        self.tidy(view);
        let fits = |c: &&Rc<H2Conn>| c.active.get() < c.send.current_max_send_streams();
        self.connections.borrow().iter().find(fits).cloned().map(lease)
    }

    /// Lets go of what takes no further stream. Such a connection ends with its last one.
    fn tidy(&self, view: &UpstreamView) {
        let policy = &view.config.policy;
        let now = clock::now();
        self.connections.borrow_mut().retain(|c| {
            let young = policy.timeouts.max_connection_age.is_none_or(|age| now - c.created < age);
            young && !c.closed.get() && c.served.get() < policy.limits.max_requests_per_connection
        });
    }

    /// Lets go of all: each ends with its last stream.
    pub fn retire(&self) {
        let all = self.connections.take();
        drop(all);
    }

    /// Closes a connection without a stream. False if there is none.
    pub fn close_idle(&self) -> bool {
        let mut connections = self.connections.borrow_mut();
        let idle = connections.iter().position(|c| c.active.get() == 0);
        let closed = idle.map(|i| connections.remove(i));
        drop(connections);
        closed.is_some()
    }

    /// Closes what has carried no stream for `limit`. Connections with streams end with their last one.
    pub fn sweep(&self, now: Instant, limit: Option<Duration>) {
        let Some(limit) = limit else { return };
        self.connections
            .borrow_mut()
            .retain(|c| !c.closed.get() && (c.active.get() > 0 || now - c.idle_since.get() < limit));
    }
}

fn refused(fate: &Fate, view: &UpstreamView, endpoint: &Endpoint) -> Option<Failure> {
    let who = format!("upstream {} at {}", view.config.name, endpoint.address());
    let failure = tls::failure::of_rustls(fate.get()?, tls::Side::Server, &who);
    Some(failure.repeat(Repeat::Unprocessed))
}

fn lease(conn: Rc<H2Conn>) -> H2Lease {
    let reused = conn.served.get() > 0;
    conn.active.set(conn.active.get() + 1);
    conn.served.set(conn.served.get().saturating_add(1));
    let heard = conn.traffic.read.get();
    H2Lease { conn, reused, heard }
}
