//! The lines of a tap: one JSON object for each event. Keys are those of the access log, where both have them.

use std::{net::SocketAddr, time::SystemTime};

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::{Moment, Settings, redact};
use crate::{
    http::{Headers, RequestHead, ResponseHead, Version},
    observe::{
        log::clock::Clock,
        route::{Record, RouteObserver},
    },
};

/// Bytes of all names and values that one line shows: a head may have 60 KiB, and a queue holds many lines.
pub(super) const HEADER_BYTES: usize = 8 * 1024;

/// Bytes of one value.
const VALUE_BYTES: usize = 1024;

/// Bytes of a path with its query.
const PATH_BYTES: usize = 2048;

/// What all events of a request have.
pub(super) struct About<'a> {
    pub(super) number: u64,
    pub(super) head: &'a RequestHead,
    pub(super) answer: &'a ResponseHead,
    pub(super) server: Option<&'a str>,
    pub(super) route: &'a RouteObserver,
    pub(super) record: &'a Record<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Request(Request<'a>),
    Retry(Retry<'a>),
    Response(Answer<'a>),
    End(End<'a>),
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    time: String,
    direction: &'a str,
    listener: &'a str,
    upstream: &'a str,
    route: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'a str,
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: String,
    protocol: &'static str,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    peer_address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    headers: Fields<'a>,
}

#[derive(Serialize)]
struct Retry<'a> {
    id: u64,
    time: String,
    /// The attempt that came to nothing.
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    /// Why; missing: the answer is one that the policy asks again for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: u64,
    time: String,
    status: u16,
    /// The attempt that was answered; 0: the proxy answers itself.
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    elapsed_ms: f64,
    headers: Fields<'a>,
}

#[derive(Serialize)]
struct End<'a> {
    id: u64,
    time: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    access: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    policy: &'a str,
    attempts: u32,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    request_bytes: u64,
    response_bytes: u64,
}

/// The line that a tap begins a request with.
pub(super) fn request(about: &About<'_>, settings: &Settings) -> Vec<u8> {
    let About { number, head, route, record, .. } = about;
    write(&Event::Request(Request {
        id: *number,
        time: time(),
        direction: route.direction.as_str(),
        listener: record.listener,
        upstream: &route.upstream,
        route: &route.route,
        rule: record.rule,
        method: head.method.as_str(),
        scheme: head.scheme.as_str(),
        authority: cut(&head.authority, VALUE_BYTES),
        path: cut(&redact::url(&head.target), PATH_BYTES).to_owned(),
        protocol: protocol(head.version),
        request_id: String::from_utf8_lossy(record.request_id).into_owned(),
        trace_id: record.trace.map(|t| String::from_utf8_lossy(&t.trace_id.hex()).into_owned()),
        peer_address: plain(record.peer_address),
        peer: record.peer_identity.map(|p| &**p),
        headers: Fields { headers: &head.headers, settings },
    }))
}

/// The line of a moment; `None`: there is nothing to say.
pub(super) fn line(moment: Moment, about: &About<'_>, settings: &Settings) -> Option<Vec<u8>> {
    let About { number, answer, server, record, .. } = about;
    let event = match moment {
        Moment::Attempt => return None,
        Moment::Retry(reason) => Event::Retry(Retry {
            id: *number,
            time: time(),
            attempt: record.attempts,
            endpoint: record.endpoint.map(plain),
            reason: reason.map(|r| r.token()),
        }),
        Moment::Answer => Event::Response(Answer {
            id: *number,
            time: time(),
            status: record.status,
            attempt: if record.failure.is_some() { 0 } else { record.attempts },
            endpoint: record.endpoint.filter(|_| record.failure.is_none()).map(plain),
            server: server.filter(|_| record.failure.is_none()),
            elapsed_ms: milliseconds(record.duration),
            headers: Fields { headers: &answer.headers, settings },
        }),
        Moment::End => Event::End(End {
            id: *number,
            time: time(),
            status: record.status,
            grpc_status: record.grpc_status,
            reason: record.failure.map(|f| f.reason.token()),
            details: record.failure.map(|f| cut(&f.details, VALUE_BYTES)),
            access: record.access.verdict,
            policy: record.access.policy,
            attempts: record.attempts,
            retries: record.attempts.saturating_sub(1),
            endpoint: record.endpoint.map(plain),
            server: *server,
            duration_ms: milliseconds(record.duration),
            first_byte_ms: record.first_byte_after().map(milliseconds),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }),
    };
    Some(write(&event))
}

fn write(event: &Event<'_>) -> Vec<u8> {
    // Only maps with keys that are no strings, and failing writers, cannot be written.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Header fields as pairs, in their order, as far as [`HEADER_BYTES`] go; a last pair `...` says that there are more.
struct Fields<'a> {
    headers: &'a Headers,
    settings: &'a Settings,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let mut room = HEADER_BYTES;
        for (_, name, value) in self.headers.iter() {
            let value = String::from_utf8_lossy(value);
            // Judged whole, then cut: a part of a secret may not look like one.
            let shown =
                if self.settings.shows(name) { value } else { redact::header(name, &value).into_owned().into() };
            let (name, shown) = (String::from_utf8_lossy(name), cut(&shown, VALUE_BYTES));
            let Some(left) = room.checked_sub(name.len() + shown.len()) else {
                seq.serialize_element(&("...", REST))?;
                break;
            };
            room = left;
            seq.serialize_element(&(&*name, shown))?;
        }
        seq.end()
    }
}

const REST: &str = "[more headers than a tap shows]";

/// The beginning of `text`, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn time() -> String {
    Clock::new().format(SystemTime::now()).to_owned()
}

/// An IPv4 peer of a dual-stack socket shows as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// With three places: microseconds.
fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}
