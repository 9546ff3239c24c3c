//! TLS on a connection that its client begins with a `ClientHello`: ours to serve, or the application's own.
//!
//! Strict listeners and those with a declared protocol serve all of it. A permissive listener before an app whose
//! protocol nobody declared cannot know: TLS with a protocol name of ours is a proxy's; any other may be meant for the
//! app, or come from a foreign client that has a certificate of the mesh. The app itself decides: it gets the
//! `ClientHello`, and if it answers with TLS everything passes; if it answers with anything else, closes, or stays
//! silent for [`PATIENCE`], nothing has been sent to the client yet, and the handshake is served here. What it
//! said is remembered for a while, so that later connections cost nothing.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use outrigger_config::{
    access::{self, Caller},
    model::{Direction, Listener, ListenerProtocol, MtlsMode, UpstreamProtocol},
};
use rustls::{ServerConfig, pki_types::UnixTime};
use tokio::time::{Instant, timeout_at};

use super::{first::fill, penalty};
use crate::{
    buffer::Buf,
    error::{Failure, Reason},
    io::Io,
    serve::{locate::Target, view::View, worker::Worker},
    timer::Timer,
    tls::{Hello, hello::HelloReader},
    upstream::{H1Conn, UpstreamView},
};

/// How long an app may take to answer a `ClientHello`: a server that speaks TLS does so within milliseconds, and one
/// that does not mostly answers or closes at once. Only the first connection waits for one that is silent.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an answer counts. An app that is deployed anew with TLS, or without, is asked again after this.
const MEMORY: Duration = Duration::from_secs(60);
/// How long silence counts: the app may only have been busy.
const SILENCE: Duration = Duration::from_secs(5);
/// Apps that are remembered; a sidecar stands before one, with a handful of ports.
const REMEMBERED: usize = 1024;

/// First bytes of a TLS server: a record of the handshake, or an alert that refuses it (RFC 8446 5.1).
const SERVER_TLS: [u8; 2] = [0x16, 0x15];

thread_local! {
    static APPS: RefCell<HashMap<SocketAddr, (Speaks, Instant)>> = RefCell::default();
}

/// What an app makes of a `ClientHello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// It serves TLS itself.
    Tls,
    /// It does not.
    Other,
}

/// Whose a client's TLS is.
pub(super) enum Whose {
    /// Ours.
    Ours,
    /// The app's: with the connection on which it has answered already.
    Apps(Option<Box<H1Conn>>),
    /// The client closed, or its `ClientHello` did not come in time.
    Nobodys,
}

/// What is needed of the connection.
pub(super) struct Arriving<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) view: &'a View,
    pub(super) listener: &'a Listener,
    /// Where its bytes go, if that is known.
    pub(super) target: Option<&'a Target>,
    /// The port that it was made for.
    pub(super) port: u16,
    pub(super) peer: SocketAddr,
    /// When the `ClientHello` has to be whole, and the handshake done.
    pub(super) limit: Option<Instant>,
}

impl Arriving<'_> {
    /// Finds out whose the TLS is that `buf` begins with.
    pub(super) async fn whose(&self, io: &Io, buf: &mut Buf, timer: &mut Timer) -> Whose {
        let Some(upstream) = self.may_be_the_apps() else { return Whose::Ours };
        let endpoint = match self.target.and_then(|t| t.pinned.clone()) {
            Some(endpoint) => Ok(endpoint),
            None => upstream.pick(&[], &[], 0, &mut self.worker.rng.borrow_mut()),
        };
        let Ok(endpoint) = endpoint else { return Whose::Ours };
        let known = recall(endpoint.address(), Instant::now());
        if known == Some(Speaks::Other) {
            return Whose::Ours;
        }
        match read_hello(io, buf, timer, self.limit).await {
            None => return Whose::Nobodys,
            Some(hello) if hello.mesh => return Whose::Ours,
            Some(_) => {}
        }
        // Who may not reach the app without an identity may still have one to show.
        if self.is_denied(&upstream) {
            return Whose::Ours;
        }
        if known == Some(Speaks::Tls) {
            return Whose::Apps(None);
        }
        let open = H1Conn::open(self.worker, self.listener.direction, &upstream, &endpoint, None, self.limit);
        let Ok(mut conn) = open.await else { return Whose::Ours };
        let answer = ask(&mut conn, buf.bytes(), timer).await;
        let now = Instant::now();
        remember(endpoint.address(), answer.unwrap_or(Speaks::Other), now + answer.map_or(SILENCE, |_| MEMORY), now);
        if answer != Some(Speaks::Tls) {
            return Whose::Ours;
        }
        buf.consume(buf.len());
        Whose::Apps(Some(Box::new(conn)))
    }

    /// The app, if the listener leaves it open whether it speaks TLS itself.
    fn may_be_the_apps(&self) -> Option<Rc<UpstreamView>> {
        let id = self.target?.id;
        let open = self.listener.mtls == MtlsMode::Permissive && self.listener.protocol != ListenerProtocol::Http;
        let upstream = self.view.upstream(id);
        let undeclared = matches!(upstream.config.protocol, UpstreamProtocol::Auto | UpstreamProtocol::Tcp);
        (open && undeclared && upstream.tls.is_none()).then(|| Rc::clone(upstream))
    }

    fn is_denied(&self, upstream: &UpstreamView) -> bool {
        let policies = &upstream.config.access;
        if policies.is_empty() || self.listener.direction == Direction::Outbound {
            return false;
        }
        let caller = Caller::new(None, self.peer.ip(), self.listener.mtls);
        let verdict = access::evaluate_connection(policies, &caller, self.port).verdict;
        matches!(verdict, access::Verdict::Deny(_))
    }

    /// Serves the handshake. A source whose handshakes fail again and again waits before the next.
    pub(super) async fn serve(&self, io: Io, buf: &mut Buf, config: &Arc<ServerConfig>) -> Option<Io> {
        if let Err(failure) = self.view.snapshot.tls.check(UnixTime::now()) {
            // Our own fault: nothing was signed, and nobody is to wait for it.
            self.failed(&failure);
            return None;
        }
        let prefix = buf.bytes().to_vec();
        buf.consume(prefix.len());
        let begun = Cell::new(false);
        let handshake = async {
            penalty::pay(self.peer.ip()).await;
            begun.set(true);
            Io::accept_tls(io.into_plain(), prefix, Arc::clone(config)).await
        };
        let result = match self.limit {
            Some(limit) => timeout_at(limit, handshake)
                .await
                .unwrap_or_else(|_| Err(Failure::new(Reason::TlsProtocolError, "the handshake did not end in time"))),
            None => handshake.await,
        };
        match result {
            Ok(io) => Some(io.with_peer(self.peer)),
            Err(failure) => {
                // Who has only waited has cost nothing more.
                if begun.get() {
                    penalty::note(self.peer.ip(), Instant::now());
                }
                self.failed(&failure);
                None
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        self.worker.observer.handshake_failed(failure.reason);
        tracing::info!(listener = &*self.listener.name, peer = %self.peer, %failure, "a TLS handshake failed");
    }
}

/// Reads until the `ClientHello` is whole. `None`: it does not come.
pub(in crate::serve) async fn read_hello(
    io: &Io,
    buf: &mut Buf,
    timer: &mut Timer,
    limit: Option<Instant>,
) -> Option<Hello> {
    let mut reader = HelloReader::default();
    poll_fn(|cx| {
        loop {
            if let Some(hello) = reader.read(buf.bytes()) {
                return Poll::Ready(Some(hello));
            }
            match fill(io, buf, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return timer.poll_opt(cx, limit).map(|()| None),
            }
        }
    })
    .await
}

/// Shows the app a `ClientHello`. `None`: it is silent.
async fn ask(conn: &mut H1Conn, hello: &[u8], timer: &mut Timer) -> Option<Speaks> {
    if conn.io.write_all(hello).await.is_err() {
        return Some(Speaks::Other);
    }
    let limit = Instant::now() + PATIENCE;
    let H1Conn { io, buf, .. } = conn;
    poll_fn(|cx| {
        loop {
            match buf.bytes() {
                [] => {}
                [first] if SERVER_TLS.contains(first) => {}
                [first, 3, ..] if SERVER_TLS.contains(first) => return Poll::Ready(Some(Speaks::Tls)),
                _ => return Poll::Ready(Some(Speaks::Other)),
            }
            match fill(io, buf, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Some(Speaks::Other)),
                Poll::Pending => return timer.poll_at(cx, limit).map(|()| None),
            }
        }
    })
    .await
}

fn recall(app: SocketAddr, now: Instant) -> Option<Speaks> {
    APPS.with_borrow(|apps| apps.get(&app).filter(|(_, until)| *until > now).map(|(speaks, _)| *speaks))
}

fn remember(app: SocketAddr, speaks: Speaks, until: Instant, now: Instant) {
    APPS.with_borrow_mut(|apps| {
        if apps.len() >= REMEMBERED {
            apps.retain(|_, (_, until)| *until > now);
        }
        if apps.len() < REMEMBERED || apps.contains_key(&app) {
            apps.insert(app, (speaks, until));
        }
    });
}
