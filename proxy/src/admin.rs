//! The admin port: how the proxy is asked how it is, and told what to do.
//!
//! It runs on the control thread, so nothing asked here takes time from a worker; what it shows is read
//! from atomics. It is plain HTTP/1, bounded in everything that a caller can make it hold: connections
//! (`CONNECTIONS`), the head of a request, the time to send it, the time a connection lives. Bodies of
//! requests are not read. Whoever reaches the port may look; only a process on the same host may change
//! anything, and no web page may do either (see `guard`).

mod config;
mod guard;
mod health;
mod page;
mod routes;
mod views;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};

use crate::{
    observe::diagnostics,
    shared::{Phase, Shared, Snapshot},
};

/// Connections at once: a scraper, the probes, some browsers and a person with curl, several times over.
const CONNECTIONS: usize = 64;

/// Bytes of a request's head; hyper does not take less than 8 KiB.
const HEAD_BYTES: usize = 16 * 1024;

/// Time to send a head, idle time between requests included.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Life of a connection. Past it the request in progress is finished, for [`LAST_TIME`] at most, so that
/// peers that read nothing cannot hold all connections.
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
    let admin = Arc::new(Admin { shared, context, started: Instant::now() });
    let mut phase = admin.shared.phase();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            // Draining does not end the admin port: that is when people look.
            _ = phase.wait_for(|p| *p == Phase::Stopping) => return,
            Some(_) = connections.join_next() => continue,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let admin = Arc::clone(&admin);
                connections.spawn(async move {
                    connection(admin, stream, peer).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // Nobody closes the semaphore.
            (Err(_), _) => return,
        }
    }
}

/// What every answer may need.
struct Admin {
    shared: Arc<Shared>,
    context: AdminContext,
    started: Instant,
}

async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: SocketAddr) {
    let service = service_fn(move |request| {
        let answer = routes::answer(&admin, peer, &request);
        async move { Ok::<_, Infallible>(answer) }
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
            match tokio::time::timeout(LAST_TIME, serving.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin port ended early");
    }
}
