//! The lines of the access log. Keys are the same in JSON and in text; what is unknown is left out.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::escape::{self, VALUE_LIMIT};
use crate::observe::route::{AccessNote, ConnectionRecord, Record, RouteObserver};

/// Appends one JSON object and a line feed.
pub(crate) fn json(out: &mut Vec<u8>, time: &str, route: &RouteObserver, record: &Record<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.push(b'"');
    fields(&mut Json(out), route, record);
    out.extend_from_slice(b"}\n");
}

/// Appends one line of `key=value` text.
pub(crate) fn text(out: &mut Vec<u8>, time: &str, route: &RouteObserver, record: &Record<'_>) {
    out.extend_from_slice(b"time=");
    out.extend_from_slice(time.as_bytes());
    fields(&mut Text(out), route, record);
    out.push(b'\n');
}

/// The line of a connection, as one JSON object and a line feed.
pub(crate) fn json_connection(out: &mut Vec<u8>, time: &str, route: &RouteObserver, record: &ConnectionRecord<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.push(b'"');
    connection_fields(&mut Json(out), route, record);
    out.extend_from_slice(b"}\n");
}

/// The line of a connection, as `key=value` text.
pub(crate) fn text_connection(out: &mut Vec<u8>, time: &str, route: &RouteObserver, record: &ConnectionRecord<'_>) {
    out.extend_from_slice(b"time=");
    out.extend_from_slice(time.as_bytes());
    connection_fields(&mut Text(out), route, record);
    out.push(b'\n');
}

/// The keys are those of requests, where both have them.
fn connection_fields(to: &mut impl Fields, route: &RouteObserver, r: &ConnectionRecord<'_>) {
    to.word("direction", route.direction.as_str());
    to.string("listener", r.listener.as_bytes());
    to.string("upstream", route.upstream.as_bytes());
    to.word("protocol", "tcp");
    if let Some(failure) = r.failure {
        to.word("reason", failure.reason.token());
        to.string("details", failure.details.as_bytes());
    }
    access_fields(to, r.access, "rule");
    to.address("peer_address", r.peer_address);
    if let Some(identity) = r.peer_identity {
        to.string("peer", identity.as_bytes());
    }
    if let Some(endpoint) = r.endpoint {
        to.address("endpoint", endpoint);
    }
    to.milliseconds("duration_ms", r.duration);
    to.number("request_bytes", r.request_bytes);
    to.number("response_bytes", r.response_bytes);
}

/// `rule`: the key for the rule of the policy. `rule` is the route's where one took part, as it is not in what is denied.
fn access_fields(to: &mut impl Fields, access: AccessNote<'_>, rule: &'static str) {
    if !access.verdict.is_empty() {
        to.word("access", access.verdict);
    }
    if !access.policy.is_empty() {
        to.string("policy", access.policy.as_bytes());
    }
    if let Some(index) = access.rule {
        to.number(rule, u64::try_from(index).unwrap_or(u64::MAX));
    }
    if !access.observed.is_empty() {
        to.string("observed", access.observed.as_bytes());
    }
}

/// The fields of a line, in the order in which they are written.
fn fields(to: &mut impl Fields, route: &RouteObserver, r: &Record<'_>) {
    to.word("direction", route.direction.as_str());
    to.string("listener", r.listener.as_bytes());
    to.string("upstream", route.upstream.as_bytes());
    to.string("route", route.route.as_bytes());
    if !r.rule.is_empty() {
        to.string("rule", r.rule.as_bytes());
    }
    to.string("method", r.method.as_str().as_bytes());
    to.string("authority", r.authority.as_bytes());
    to.string("path", r.target.as_bytes());
    to.word("protocol", protocol(r.version));
    to.number("status", u64::from(r.status));
    if let Some(grpc) = r.grpc_status {
        to.number("grpc_status", u64::from(grpc));
    }
    if let Some(failure) = r.failure {
        to.word("reason", failure.reason.token());
        to.string("details", failure.details.as_bytes());
    }
    access_fields(to, r.access, if r.rule.is_empty() { "rule" } else { "access_rule" });
    to.string("request_id", r.request_id);
    if let Some(trace) = r.trace {
        to.string("trace_id", &trace.trace_id.hex());
        to.string("span_id", &trace.span_id.hex());
    }
    to.address("peer_address", r.peer_address);
    if let Some(identity) = r.peer_identity {
        to.string("peer", identity.as_bytes());
    }
    if let Some(endpoint) = r.endpoint {
        to.address("endpoint", endpoint);
    }
    to.number("attempts", u64::from(r.attempts));
    to.milliseconds("duration_ms", r.duration);
    if let Some(first) = r.first_byte_after() {
        to.milliseconds("first_byte_ms", first);
    }
    to.number("request_bytes", r.request_bytes);
    to.number("response_bytes", r.response_bytes);
    if let Some(agent) = r.user_agent {
        to.string("user_agent", agent);
    }
    for (key, value) in r.notes {
        to.string(key, value.as_bytes());
    }
}

fn protocol(version: crate::http::Version) -> &'static str {
    match version {
        crate::http::Version::Http10 => "HTTP/1.0",
        crate::http::Version::Http11 => "HTTP/1.1",
        crate::http::Version::Http2 => "HTTP/2",
    }
}

/// One syntax of lines. Keys are our own, so they need no escape.
trait Fields {
    fn out(&mut self) -> &mut Vec<u8>;
    fn key(&mut self, key: &str);
    /// A value that a caller may have chosen.
    fn string(&mut self, key: &str, value: &[u8]);
    /// A value of our own, with nothing to escape.
    fn word(&mut self, key: &str, value: &str);

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out().extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// With three places: microseconds.
    fn milliseconds(&mut self, key: &str, value: Duration) {
        self.number(key, u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
        let thousandths = value.subsec_micros() % 1_000;
        let digit = |n: u32| b'0' + u8::try_from(n % 10).unwrap_or_default();
        self.out().extend_from_slice(&[b'.', digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)]);
    }

    fn address(&mut self, key: &str, value: SocketAddr);
}

struct Json<'a>(&'a mut Vec<u8>);

impl Fields for Json<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.0
    }

    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        escape::json(self.0, value);
    }

    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    fn address(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        self.0.push(b'"');
        address(self.0, value);
        self.0.push(b'"');
    }
}

struct Text<'a>(&'a mut Vec<u8>);

impl Fields for Text<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.0
    }

    fn key(&mut self, key: &str) {
        self.0.push(b' ');
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
    }

    fn string(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        escape::text(self.0, value);
    }

    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn address(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        address(self.0, value);
    }
}

/// `ADDRESS:PORT`; an IPv4 peer of a dual-stack socket shows as IPv4.
fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let mut digits = itoa::Buffer::new();
    match address.ip().to_canonical() {
        // Two of them stand in every line, and formatting machinery takes a third of a line's time.
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            for (octet, after) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
                out.extend_from_slice(digits.format(octet).as_bytes());
                out.push(after);
            }
        }
        IpAddr::V6(ip) => write!(out, "[{ip}]:").expect("a Vec takes every write"),
    }
    out.extend_from_slice(digits.format(address.port()).as_bytes());
}

/// A value for the diagnostics, cut like those of the log.
pub(crate) fn bounded(value: &str) -> String {
    let mut end = value.len().min(VALUE_LIMIT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].escape_debug().to_string()
}
