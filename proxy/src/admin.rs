//! The admin port: how the proxy is asked how it is, and told what to do.
//!
//! It runs on the control thread, so nothing asked here takes time from a worker; what it shows is read
//! from atomics. It is plain HTTP/1, bounded in everything that a caller can make it hold: connections
//! (`places`), the head of a request, the time to send it, the time a connection lives. Bodies of
//! requests are not read. Whoever reaches the port may look; only a process on the same host may change
//! anything, and no web page may do either (see `guard`).

pub mod app;
mod config;
mod edges;
mod guard;
mod health;
mod page;
mod places;
mod routes;
mod tap;
mod views;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

use crate::{
    observe::diagnostics,
    shared::{Phase, Shared, Snapshot},
};

/// Bytes of a request's head; hyper does not take less than 8 KiB.
const HEAD_BYTES: usize = 16 * 1024;

/// Time to send a head, idle time between requests included.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Life of a connection. Past it the request in progress is finished, for [`LAST_TIME`] at most (but for taps, of which
/// there are few), so that peers that read nothing cannot hold all connections.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// See [`CONNECTION_TIME`].
const LAST_TIME: Duration = Duration::from_secs(5);

/// Pause after a failed accept (out of descriptors, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin port needs besides [`Shared`]. Everything has a default that says "not there".
#[derive(Default)]
pub struct AdminContext {
    /// Answers `/explain`.
    pub explain: Option<Explain>,
    /// Answers `/certificates`: an array, and never a private key.
    pub certificates: Option<Box<dyn Fn() -> Value + Send + Sync>>,
    /// Conditions of readiness besides those that follow from [`Shared`]: a name, and what is missing.
    pub checks: Vec<(&'static str, Check)>,
    /// What `/readyz?verbose` says of a condition that is fulfilled.
    pub details: Vec<(&'static str, Detail)>,
    /// Changes the filter of the diagnostics.
    pub diagnostics: Option<diagnostics::Handle>,
    /// Ends the process as SIGTERM does: drain, then exit. Without it `/shutdown` only drains.
    pub shutdown: Option<Box<dyn Fn() + Send + Sync>>,
    /// What is asked of the app under `/app/`.
    pub app: app::AppEndpoints,
    /// What `/drain` moves on to; `None`: [`Phase::Draining`].
    pub drain: Option<Phase>,
}

/// Answers one question of `/explain`.
pub type Explain = Box<dyn Fn(&Snapshot, &ExplainQuery) -> Result<Explained, String> + Send + Sync>;

/// One condition of readiness; the error says what is missing.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// One condition of readiness in words.
pub type Detail = Box<dyn Fn() -> String + Send + Sync>;

impl fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminContext").finish_non_exhaustive()
    }
}

/// A request that is not sent, only explained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExplainQuery {
    /// Name of the listener; `None`: the only one, or the answer says which there are.
    pub listener: Option<String>,
    /// `GET` if it was not said.
    pub method: String,
    /// Absolute, or a path.
    pub url: String,
    /// Name and value.
    pub headers: Vec<(String, String)>,
    /// Identity of the caller.
    pub from: Option<String>,
}

/// What `/explain` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

/// Serves the admin port until the process stops. To be run on a tokio runtime with time and I/O.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, context: AdminContext) {
    let admin = Arc::new(Admin { shared, context, gates: app::Gates::default(), started: Instant::now() });
    let mut phase = admin.shared.phase();
    let places = Arc::new(places::Places::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Draining does not end the admin port: that is when people look.
            _ = phase.wait_for(|p| *p == Phase::Stopping) => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.enter(peer.ip()) else {
                    tracing::debug!(%peer, "a connection to the admin port is one too many");
                    continue;
                };
                let admin = Arc::clone(&admin);
                connections.spawn(async move {
                    connection(admin, stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What every answer may need.
struct Admin {
    shared: Arc<Shared>,
    context: AdminContext,
    gates: app::Gates,
    started: Instant,
}

async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: SocketAddr) {
    // Milliseconds from the start of the admin port, until which a request of the app, or a tap, may take.
    let busy = Arc::new(AtomicU64::new(0));
    let (noted, started) = (Arc::clone(&busy), admin.started);
    let service = service_fn(move |request| {
        let (admin, busy) = (Arc::clone(&admin), Arc::clone(&noted));
        async move { answer(&admin, peer, &request, &busy).await }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = tokio::time::sleep(CONNECTION_TIME) => {
            serving.as_mut().graceful_shutdown();
            let last = (Instant::now() + LAST_TIME).max(started + Duration::from_millis(busy.load(Ordering::Relaxed)));
            match tokio::time::timeout_at(last, serving.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin port ended early");
    }
}

/// Answers one request. What the app is asked takes its own time, and so does a tap: `busy` is told.
async fn answer(
    admin: &Admin,
    peer: SocketAddr,
    request: &Request<Incoming>,
    busy: &AtomicU64,
) -> Result<routes::Answer, app::HookLost> {
    let path = request.uri().path();
    let until = |limit: Duration| u64::try_from((admin.started.elapsed() + limit).as_millis()).unwrap_or(u64::MAX);
    if !path.starts_with(app::PREFIX) {
        let answer = routes::answer(admin, peer, request);
        if answer.extensions().get::<tap::Lasts>().is_some() {
            busy.store(until(tap::LIFE), Ordering::Relaxed);
        }
        return Ok(answer);
    }
    if let Err(refusal) = guard::look(peer, request.headers()) {
        return Ok(routes::refused(refusal));
    }
    if let Some(limit) = app::patience(&admin.context.app, path) {
        busy.store(until(limit + LAST_TIME), Ordering::Relaxed);
    }
    app::answer(&admin.context.app, &admin.gates, request).await
}
