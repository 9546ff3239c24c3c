//! `/app/...`: probes, hooks and scrapes of the app, on its behalf.
//!
//! The kubelet and Prometheus have no certificate of the mesh, so what they ask a strict inbound listener is refused, and a
//! connection that is redirected to the proxy says nothing of the app. Injection therefore has them ask this port, which is not
//! captured, and tells the proxy in `OUTRIGGER_APP_ENDPOINTS` what each path stands for. That table is fixed at the start and is all
//! that can be reached: no part of a request chooses where it goes (the query of a scrape is passed on, nothing else is).
//!
//! The app is asked as the kubelet would have asked it: at the pod's own address, with its user agent, no certificate checked,
//! redirects within the host followed. The answer is 200 where the kubelet counts success, else 503 with the reason. A hook
//! has succeeded for the kubelet whatever the status is, so one that reached nobody gets no answer at all: the connection closes.
//!
//! Bounded: `PROBES`, `HOOKS` and `SCRAPES` at once (more wait within their own time), the time of each, and what is read of an answer.

mod grpc;
mod http;
mod target;
mod tls;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

pub use self::target::{AppEndpoints, Places};
use self::target::{Kind, Purpose, Target};
use super::routes::{self, Answer};

/// What all paths of the table begin with.
pub const PREFIX: &str = "/app/";
/// Probes and hooks under way at once: three for each of ten containers. Each holds one connection.
const PROBES: usize = 32;
/// Hooks under way at once. They last, and have places of their own: probes must not wait for them.
const HOOKS: usize = 16;
/// Scrapes at once, until they have been read: one Prometheus, its twin, and two people. Each may hold `http::SCRAPE_BYTES`.
const SCRAPES: usize = 4;

/// A hook that reached nobody: its connection is closed without an answer, which is the one failure that the kubelet sees.
#[derive(Debug, thiserror::Error)]
#[error("a hook of the app has not run: {0}")]
pub(super) struct HookLost(String);

/// Places for what is under way.
pub(super) struct Gates {
    probes: Semaphore,
    hooks: Semaphore,
    scrapes: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            probes: Semaphore::new(PROBES),
            hooks: Semaphore::new(HOOKS),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
        }
    }
}

/// How long a request for `path` may take, with what is waited for before it; `None`: there is no such path.
pub(super) fn patience(endpoints: &AppEndpoints, path: &str) -> Option<Duration> {
    endpoints.find(path).map(|target| target.limit)
}

/// Answers one request for a path under [`PREFIX`]. Guards have been passed.
///
/// # Errors
/// A hook that did not reach the app.
pub(super) async fn answer<B>(
    endpoints: &AppEndpoints,
    gates: &Gates,
    request: &Request<B>,
) -> Result<Answer, HookLost> {
    let path = request.uri().path();
    let Some(target) = endpoints.find(path) else {
        return Ok(routes::text(StatusCode::NOT_FOUND, not_found(endpoints, path)));
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = routes::text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes GET, HEAD\n"));
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(answer);
    }
    let late = || format!("no answer within timeoutSeconds ({} s)", target.limit.as_secs());
    if target.purpose == Purpose::Scrape {
        let asked = timeout(target.limit, scrape(endpoints, gates, target, request)).await;
        return Ok(asked.unwrap_or_else(|_| Err(late())).unwrap_or_else(|why| unavailable(path, &why)));
    }
    let asked = timeout(target.limit, probe(endpoints, gates, target, request.headers())).await;
    match (asked.unwrap_or_else(|_| Err(late())), target.purpose) {
        (Ok(words), _) => Ok(routes::text(StatusCode::OK, format!("ok: {words}\n"))),
        (Err(why), Purpose::Hook) => {
            tracing::warn!(path, "a hook of the app has not run: {why}");
            Err(HookLost(why))
        }
        (Err(why), _) => {
            tracing::debug!(path, "a probe of the app fails: {why}");
            Ok(unavailable(path, &why))
        }
    }
}

/// Asks the app; what it says, if that is a success.
async fn probe(
    endpoints: &AppEndpoints,
    gates: &Gates,
    target: &Target,
    headers: &HeaderMap,
) -> Result<String, String> {
    let gate = if target.purpose == Purpose::Hook { &gates.hooks } else { &gates.probes };
    let _place = gate.acquire().await.map_err(|_| "the proxy ends".to_owned())?;
    let agent = agent(headers, target.purpose);
    match &target.kind {
        Kind::Tcp { port, loopback } => {
            connect(endpoints.places.at(*port, *loopback)).await.map(|_| "it takes connections".to_owned())
        }
        Kind::Grpc { port, loopback, service } => {
            grpc::check(endpoints.places.at(*port, *loopback), service, &agent).await
        }
        Kind::Http(http) => http::probe(&endpoints.places, http, &agent, target.purpose).await,
    }
}

async fn scrape<B>(
    endpoints: &AppEndpoints,
    gates: &Gates,
    target: &Target,
    request: &Request<B>,
) -> Result<Answer, String> {
    let place = Arc::clone(&gates.scrapes).acquire_owned().await.map_err(|_| "the proxy ends".to_owned())?;
    match &target.kind {
        Kind::Http(http) => {
            http::scrape(&endpoints.places, http, request.headers(), request.uri().query(), place).await
        }
        Kind::Tcp { .. } | Kind::Grpc { .. } => Err("a scrape is made by http".to_owned()),
    }
}

/// A connection to the app.
async fn connect(at: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(at).await.map_err(|e| format!("no connection to {at}: {e}"))
}

/// The user agent that the app sees: the kubelet's own, with its version, where it is the kubelet who asks.
fn agent(headers: &HeaderMap, purpose: Purpose) -> HeaderValue {
    let asked = headers.get(header::USER_AGENT).filter(|agent| agent.as_bytes().starts_with(b"kube-"));
    let own = HeaderValue::from_static(if purpose == Purpose::Hook { "kube-lifecycle/1" } else { "kube-probe/1" });
    asked.cloned().unwrap_or(own)
}

fn unavailable(path: &str, why: &str) -> Answer {
    routes::text(StatusCode::SERVICE_UNAVAILABLE, format!("{path}: {why}\n"))
}

fn not_found(endpoints: &AppEndpoints, path: &str) -> String {
    let known: Vec<_> = endpoints.paths().collect();
    match &*known {
        [] => format!("{path}: this proxy asks the app nothing; OUTRIGGER_APP_ENDPOINTS is not set\n"),
        known => format!("{path} is not in OUTRIGGER_APP_ENDPOINTS. There are:\n  {}\n", known.join("\n  ")),
    }
}
