//! The admin port: how the control plane is asked how it is.
//!
//! Plain HTTP/1, bounded in everything that a caller can make it hold, as the proxy's. Everyone who reaches the port may look;
//! only a process on the same host may end the program, and no web page may (a page of another origin says so in headers
//! that it cannot leave out, and one that rebinds a name sends that name as host).

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{live::Live, serve::Proxies};

mod explain;
mod page;
mod query;
#[cfg(test)]
mod tests;

pub(crate) use self::{explain::answer as explain, query::Query};

/// What the port shows.
pub(crate) struct Admin {
    pub(crate) live: Arc<Live>,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) replica: String,
    pub(crate) leads: watch::Receiver<bool>,
    /// Set once there is a CA and a certificate of our own.
    pub(crate) identity: watch::Receiver<bool>,
    /// Set when the program ends.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) shutdown: Arc<Notify>,
    pub(crate) started: Instant,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// At once: a scraper, the probes and some people, several times over.
const CONNECTIONS: usize = 64;
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_TIME: Duration = Duration::from_secs(10);
const CONNECTION_TIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    connection(admin, stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: SocketAddr) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(peer, &request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIME, serving).await {
        tracing::debug!(%peer, %error, "a connection to the admin port ended early");
    }
}

impl Admin {
    async fn answer(&self, peer: SocketAddr, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let query = Query::of(request.uri().query().unwrap_or_default());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/shutdown" if request.method() == Method::POST => self.shutdown(peer, request.headers()),
            "/shutdown" => not_allowed("POST"),
            _ if !reads => not_allowed("GET, HEAD"),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz(query.has("verbose")),
            "/metrics" => {
                self.live.count();
                body(StatusCode::OK, "text/plain; version=0.0.4", self.live.metrics.render())
            }
            "/proxies" => json_answer(StatusCode::OK, &self.proxies.json(query.get("pod")).await),
            "/explain" => explain::answer(&self.live, &query),
            "/" => page::answer(self).await,
            _ => text(StatusCode::NOT_FOUND, "not found; there are /livez /readyz /metrics /proxies /explain\n"),
        }
    }

    /// What readiness depends on: name, and what is missing.
    pub(crate) fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let missing = self.live.missing();
        let watches = match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("the first list of {} is outstanding", missing.join(", "))),
        };
        let identity = match *self.identity.borrow() {
            true => Ok(()),
            false => Err("there is no CA yet: see the log".to_owned()),
        };
        let stays = match *self.stopping.borrow() {
            false => Ok(()),
            true => Err("the program ends".to_owned()),
        };
        vec![("watches", watches), ("identity", identity), ("running", stays)]
    }

    fn readyz(&self, verbose: bool) -> Answer {
        let checks = self.checks();
        let ready = checks.iter().all(|(_, outcome)| outcome.is_ok());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut lines = String::new();
        for (name, outcome) in checks {
            match outcome {
                Ok(()) if verbose => lines.push_str(&format!("[+] {name}\n")),
                Ok(()) => {}
                Err(why) => lines.push_str(&format!("[-] {name}: {why}\n")),
            }
        }
        lines.push_str(if ready { "ok\n" } else { "not ready\n" });
        text(status, &lines)
    }

    fn shutdown(&self, peer: SocketAddr, headers: &HeaderMap) -> Answer {
        let local_host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).is_some_and(names_this_host);
        let from_page = ["origin", "sec-fetch-site"].iter().any(|name| headers.contains_key(*name));
        if !peer.ip().to_canonical().is_loopback() || from_page || !local_host {
            return text(StatusCode::FORBIDDEN, "only a process on this host may do that, by a loopback address\n");
        }
        self.shutdown.notify_one();
        text(StatusCode::OK, "shutting down\n")
    }
}

/// An address or `localhost`: no name that leads elsewhere.
fn names_this_host(host: &str) -> bool {
    host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
        || host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
}

fn text(status: StatusCode, text: &str) -> Answer {
    body(status, "text/plain; charset=utf-8", text.to_owned().into_bytes())
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    body(status, "application/json", format!("{value:#}\n").into_bytes())
}

fn body(status: StatusCode, content_type: &'static str, content: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(content)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    answer
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow}\n"));
    answer.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static(allow));
    answer
}

/// What is wrong with a question, for programs too.
fn wrong(why: &str) -> Answer {
    json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why }))
}
