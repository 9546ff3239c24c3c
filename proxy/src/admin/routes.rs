//! The endpoints of the admin port: one table, one function that walks it.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Body;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Admin, ExplainQuery, config, edges, guard, health, page, tap, views};
use crate::{observe::render::Exposition, shared::Phase};

/// An answer of the admin port; most are whole, a tap goes on.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Page,
    Stats,
    Livez,
    Readyz,
    Metrics,
    Config,
    Upstreams,
    Certificates,
    Plaintext,
    Explain,
    Edges,
    Errors,
    Tap,
    Drain,
    Shutdown,
    LogLevel,
}

/// Path, endpoint, whether it changes something, and what the list of a 404 says about it.
const TABLE: [(&str, Endpoint, bool, &str); 17] = [
    ("/", Endpoint::Page, false, "the page for people"),
    ("/livez", Endpoint::Livez, false, "the process is alive"),
    ("/healthz", Endpoint::Livez, false, "the same, under its old name"),
    ("/readyz", Endpoint::Readyz, false, "it takes traffic; ?verbose, ?exclude=CHECK"),
    ("/metrics", Endpoint::Metrics, false, "Prometheus text, or OpenMetrics by Accept"),
    ("/config", Endpoint::Config, false, "the configuration in force, and where each part was written"),
    ("/upstreams", Endpoint::Upstreams, false, "upstreams and their endpoints, live"),
    ("/certificates", Endpoint::Certificates, false, "certificates in use"),
    ("/plaintext", Endpoint::Plaintext, false, "who still comes without mTLS to permissive listeners"),
    ("/explain", Endpoint::Explain, false, "?listener=&method=&url=&header=NAME:VALUE&from=&o=json|text"),
    ("/edges", Endpoint::Edges, false, "who talks to whom, with identity, success and latency"),
    ("/errors", Endpoint::Errors, false, "what failed lately; only from this host"),
    (
        "/tap",
        Endpoint::Tap,
        false,
        "requests as they pass (NDJSON), ?direction=&upstream=&path=&...; only from this host",
    ),
    ("/stats.json", Endpoint::Stats, false, "the figures of the page"),
    ("/drain", Endpoint::Drain, true, "stop taking work, finish what there is"),
    ("/shutdown", Endpoint::Shutdown, true, "drain, then exit"),
    ("/log-level", Endpoint::LogLevel, true, "?filter=: change what the diagnostics say"),
];

/// Answers one request.
pub(super) fn answer<B>(admin: &Admin, peer: SocketAddr, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    let Some((_, endpoint, changes, _)) = TABLE.into_iter().find(|(p, ..)| *p == path) else {
        return text(StatusCode::NOT_FOUND, not_found());
    };
    let method = request.method();
    let (fits, allow) = if changes {
        (method == Method::POST, "POST")
    } else {
        (method == Method::GET || method == Method::HEAD, "GET, HEAD")
    };
    if !fits {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allow}\n"));
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        return answer;
    }
    let guard = if changes { guard::change } else { guard::look };
    if let Err(refusal) = guard(peer, request.headers()) {
        return refused(refusal);
    }
    let query = parse_query(request.uri().query().unwrap_or_default());
    match endpoint {
        Endpoint::Page => page::answer(),
        Endpoint::Stats => json_answer(StatusCode::OK, &views::stats(admin)),
        Endpoint::Livez => text(StatusCode::OK, "ok\n".into()),
        Endpoint::Readyz => readyz(admin, &query),
        Endpoint::Metrics => metrics(admin, request),
        Endpoint::Config => json_answer(StatusCode::OK, &config::view(&admin.shared.snapshot())),
        Endpoint::Upstreams => json_answer(StatusCode::OK, &views::upstreams(&admin.shared)),
        Endpoint::Certificates => {
            let certificates = admin.context.certificates.as_ref().map_or_else(|| json!([]), |c| c());
            json_answer(StatusCode::OK, &certificates)
        }
        Endpoint::Plaintext => json_answer(StatusCode::OK, &admin.shared.observer.plaintext()),
        Endpoint::Explain => explain(admin, &query),
        Endpoint::Edges => json_answer(StatusCode::OK, &edges::view(&admin.shared)),
        Endpoint::Errors => edges::errors(admin, peer, request.headers()),
        Endpoint::Tap => tap::answer(admin, peer, request.headers(), &query),
        Endpoint::Drain => {
            tracing::info!(%peer, "draining, as the admin port was told");
            admin.shared.advance(admin.context.drain.unwrap_or(Phase::Draining));
            text(StatusCode::ACCEPTED, "draining\n".into())
        }
        Endpoint::Shutdown => {
            tracing::info!(%peer, "shutting down, as the admin port was told");
            match &admin.context.shutdown {
                Some(shutdown) => shutdown(),
                None => admin.shared.advance(Phase::Draining),
            }
            text(StatusCode::ACCEPTED, "shutting down\n".into())
        }
        Endpoint::LogLevel => log_level(admin, peer, &query),
    }
}

/// The answer to who may not have one.
pub(super) fn refused(refusal: guard::Refusal) -> Answer {
    text(StatusCode::FORBIDDEN, format!("{}\n", refusal.message()))
}

fn readyz(admin: &Admin, query: &Query) -> Answer {
    let exclude: Vec<String> = query.all("exclude").map(str::to_owned).collect();
    let readiness = health::readiness(admin, query.first("verbose").is_some(), &exclude);
    text(if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, readiness.text)
}

fn metrics<B>(admin: &Admin, request: &Request<B>) -> Answer {
    let accepts = request.headers().get_all(header::ACCEPT);
    let accept: Vec<_> = accepts.iter().filter_map(|a| a.to_str().ok()).collect();
    let exposition = Exposition::negotiate(&accept.join(","));
    let families = admin.shared.observer.gather(Some(&admin.shared.snapshot()));
    finish(StatusCode::OK, exposition.content_type(), exposition.render(&families))
}

fn explain(admin: &Admin, query: &Query) -> Answer {
    let Some(explain) = &admin.context.explain else {
        return error(StatusCode::NOT_IMPLEMENTED, "this proxy cannot explain");
    };
    let Some(url) = query.first("url").filter(|u| !u.is_empty()) else {
        return error(StatusCode::BAD_REQUEST, "url is missing: /explain?listener=NAME&method=GET&url=URL");
    };
    let mut question = ExplainQuery {
        listener: query.first("listener").map(str::to_owned),
        method: query.first("method").unwrap_or("GET").to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        from: query.first("from").map(str::to_owned),
    };
    for field in query.all("header") {
        let Some((name, value)) = field.split_once(':') else {
            return error(StatusCode::BAD_REQUEST, &format!("header {field:?} is not NAME:VALUE"));
        };
        question.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    match explain(&admin.shared.snapshot(), &question) {
        Ok(explained) if query.first("o") == Some("text") => text(StatusCode::OK, explained.text),
        Ok(explained) => json_answer(StatusCode::OK, &explained.json),
        Err(message) => error(StatusCode::BAD_REQUEST, &message),
    }
}

fn log_level(admin: &Admin, peer: SocketAddr, query: &Query) -> Answer {
    let Some(handle) = &admin.context.diagnostics else {
        return error(StatusCode::NOT_IMPLEMENTED, "the diagnostics of this process cannot be changed");
    };
    let Some(filter) = query.first("filter") else {
        return error(StatusCode::BAD_REQUEST, "filter is missing: /log-level?filter=info,outrigger_proxy=debug");
    };
    match handle.set_filter(filter) {
        Ok(()) => {
            tracing::info!(%peer, filter, "the filter of the diagnostics has changed");
            text(StatusCode::OK, format!("filter: {filter}\n"))
        }
        Err(e) => error(StatusCode::BAD_REQUEST, &e.to_string()),
    }
}

fn not_found() -> String {
    let mut text = String::from("No such page. There are:\n");
    for (path, _, changes, about) in TABLE {
        let method = if changes { "POST" } else { "GET" };
        text.push_str(&format!("  {method:4} {path:14} {about}\n"));
    }
    text.push_str("  GET  /app/...       probes and scrapes of the app, in a pod\n");
    text
}

/// The parameters of a query, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// All, in their order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }
}

/// Decodes `application/x-www-form-urlencoded`. Bytes that are not UTF-8 become U+FFFD.
fn parse_query(query: &str) -> Query {
    let decode = |s: &str| percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|p| !p.is_empty());
    Query(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(n, v)| (decode(n), decode(v))).collect())
}

pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "error": message }))
}

pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    // A `Value` has string keys only, so it can always be written.
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    finish(status, "application/json", body)
}

pub(super) fn text(status: StatusCode, body: String) -> Answer {
    finish(status, "text/plain; charset=utf-8", body.into_bytes())
}

/// The answer, with the headers that every answer has: nothing is cached, guessed at or framed.
pub(super) fn finish(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    finish_body(status, kind, Full::new(Bytes::from(body)))
}

/// The same for any body.
pub(super) fn finish_body<B>(status: StatusCode, kind: &'static str, body: B) -> Answer
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        answer.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    answer
}
