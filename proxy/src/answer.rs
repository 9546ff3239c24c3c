//! The answers that the proxy makes itself: one shape for HTTP, one for gRPC, all out of
//! [`Reason::row`](crate::error::Reason::row).
//!
//! HTTP gets the status, `proxy-status` (RFC 9209) and a JSON body; gRPC a trailers-only response (HTTP
//! 200, `grpc-status`, `grpc-message`), because its clients read nothing else. The body is JSON whatever
//! `accept` says: programs read it, and people can. `cache-control: no-store`, because a 404 of ours may
//! be gone with the next reload and must not live on in a cache (RFC 9111 4.2.2).
//!
//! Details may quote what a peer sent, so every way out of here escapes: structured-field string, JSON
//! and percent encoding. `content-length` is the codec's business.

use std::time::Duration;

use serde::Serialize;

use crate::{
    correlate::RequestId,
    error::Failure,
    http::{Headers, Known, ResponseHead, Version},
};

#[cfg(test)]
mod tests;

/// Details longer than this are cut off: they are sentences, and header fields are bounded everywhere.
const MAX_DETAILS: usize = 512;

/// What an answer says beside the failure.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Identifier of the request.
    pub request_id: &'a RequestId,
    /// Name of the upstream, if one was found.
    pub upstream: Option<&'a str>,
    /// Attempts that were made.
    pub attempts: u32,
    /// The request is gRPC.
    pub grpc: bool,
    /// The request is HEAD: the answer has no body.
    pub head: bool,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
    /// HTTP status in place of the table's: of an injected fault.
    pub status: Option<u16>,
    /// `grpc-status` in place of the table's: of an injected fault.
    pub grpc_status: Option<u8>,
}

impl<'a> Answer<'a> {
    /// To a plain request for `request_id`, with the table's status.
    #[must_use]
    pub fn new(request_id: &'a RequestId) -> Self {
        Self {
            request_id,
            upstream: None,
            attempts: 0,
            grpc: false,
            head: false,
            retry_after: None,
            status: None,
            grpc_status: None,
        }
    }

    /// Writes the answer for `failure` over `head` and `body`.
    pub fn write(&self, failure: &Failure, head: &mut ResponseHead, body: &mut Vec<u8>) {
        head.clear();
        body.clear();
        head.version = Version::Http11;
        let row = failure.reason.row();
        let details = shorten(&failure.details);
        if self.grpc {
            head.status = 200;
            head.headers.append_known(Known::ContentType, b"application/grpc");
            push_grpc(self.grpc_status.unwrap_or(row.grpc), row.token, details, &mut head.headers);
        } else {
            head.status = self.status.unwrap_or(row.status);
            head.headers.append_known(Known::ContentType, b"application/json");
            if !self.head {
                self.write_body(row.token, details, body);
            }
        }
        head.headers.append_known(Known::CacheControl, b"no-store");
        if let Some(wait) = self.retry_after {
            push_retry_after(wait, &mut head.headers);
        }
        let mut proxy_status = Vec::with_capacity(details.len() + 64);
        push_proxy_status(row.token, details, &mut proxy_status);
        head.headers.append_known(Known::ProxyStatus, &proxy_status);
    }

    fn write_body(&self, token: &'static str, details: &str, body: &mut Vec<u8>) {
        let content = Body {
            error: token,
            message: details,
            request_id: self.request_id.as_str(),
            upstream: self.upstream,
            attempts: self.attempts,
        };
        match serde_json::to_writer(&mut *body, &content) {
            Ok(()) => body.push(b'\n'),
            // Writing strings and numbers into memory does not fail; if it did, no body is better than half.
            Err(_) => body.clear(),
        }
    }
}

/// `grpc-status` and `grpc-message` of a call that has failed after its answer began: trailers.
pub fn push_grpc_status(failure: &Failure, trailers: &mut Headers) {
    let row = failure.reason.row();
    push_grpc(row.grpc, row.token, shorten(&failure.details), trailers);
}

fn push_grpc(status: u8, token: &str, details: &str, headers: &mut Headers) {
    headers.append_known(Known::GrpcStatus, itoa::Buffer::new().format(status).as_bytes());
    let mut message = Vec::with_capacity(details.len() + token.len() + 2);
    push_percent_encoded(token, &mut message);
    if !details.is_empty() {
        push_percent_encoded(": ", &mut message);
        push_percent_encoded(details, &mut message);
    }
    headers.append_known(Known::GrpcMessage, &message);
}

/// The body of contract section 3.
#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    message: &'a str,
    request_id: &'a str,
    upstream: Option<&'a str>,
    attempts: u32,
}

/// `retry-after` in whole seconds, at least 1: a client that comes back early only adds to the load.
pub fn push_retry_after(wait: Duration, headers: &mut Headers) {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
    headers.set_known(Known::RetryAfter, itoa::Buffer::new().format(seconds).as_bytes());
}

/// `outrigger; error=TOKEN; details="..."` (RFC 9209 2, RFC 8941 4.1.6).
pub fn push_proxy_status(token: &str, details: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"outrigger; error=");
    out.extend_from_slice(token.as_bytes());
    if details.is_empty() {
        return;
    }
    out.extend_from_slice(b"; details=\"");
    for c in details.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => out.push(c as u8),
            // The string has no way to write anything else.
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

/// The percent encoding of `grpc-message`: all but printable ASCII, and the `%` itself.
pub fn push_percent_encoded(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
}

/// Without blanks at the ends, which a field value cannot have.
fn shorten(details: &str) -> &str {
    let details = details.trim();
    details[..details.floor_char_boundary(MAX_DETAILS)].trim_end()
}
