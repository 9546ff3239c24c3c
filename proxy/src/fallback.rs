//! What is answered in place of an error: a fixed answer, another upstream, or the last good answer.
//!
//! [`action`] says whether a failure has a fallback; [`write_static`] and [`Good::write`] make the answer, and
//! every one is marked `x-outrigger-degraded: TOKEN`, so that nobody takes it for the real one.
//!
//! The last good answer is a small shared cache (RFC 5861, `stale-if-error`), and strict: what RFC 9111 does
//! not let a shared cache keep is not kept, an answer is never given to another caller, and what looks
//! personal (`Authorization`, `Cookie`, `Set-Cookie`) stays out. See [`store`] and [`record`].

use outrigger_config::model::{self, FallbackAction, StaticResponse};

use crate::{
    answer::push_percent_encoded,
    error::Reason,
    http::{Known, ResponseHead, Version},
};

pub mod record;
pub mod store;

mod cache_control;

#[cfg(test)]
mod tests;

pub use record::{Asked, Recorder};
pub use store::{Good, Store};

/// The fallback of `policy` for a failure of `reason`, if it has one.
#[must_use]
pub fn action(policy: Option<&model::Fallback>, reason: Reason) -> Option<&FallbackAction> {
    let policy = policy?;
    let token = reason.token();
    // Nobody reads an answer to a client that has left.
    let applies = reason != Reason::ClientDisconnected && policy.on.iter().any(|on| **on == *token);
    applies.then_some(&policy.action)
}

/// Marks an answer as not the real one.
pub fn mark(head: &mut ResponseHead, reason: Reason) {
    head.headers.set_known(Known::XOutriggerDegraded, reason.token().as_bytes());
}

/// Writes a fixed answer over `head` and `body`; `is_head`: to a HEAD request, which gets no body.
///
/// A gRPC client reads no body that is not a message: it gets a trailers-only response with the
/// `grpc-status` that `headers` names, else that of the failure, and the text as `grpc-message`.
pub fn write_static(
    response: &StaticResponse,
    reason: Reason,
    grpc: bool,
    is_head: bool,
    head: &mut ResponseHead,
    body: &mut Vec<u8>,
) {
    head.clear();
    body.clear();
    head.version = Version::Http11;
    head.status = if grpc { 200 } else { response.status };
    for (name, value) in &response.headers {
        match Known::of(name.as_bytes()) {
            // The codec frames what there really is; of a gRPC answer the type is not to be chosen.
            Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::Trailer => {}
            Known::ContentType if grpc => {}
            _ => head.headers.append(name.as_bytes(), value.as_bytes()),
        }
    }
    if grpc {
        head.headers.append_known(Known::ContentType, b"application/grpc");
        if !head.headers.has(Known::GrpcStatus) {
            let status = itoa::Buffer::new().format(reason.row().grpc).to_owned();
            head.headers.append_known(Known::GrpcStatus, status.as_bytes());
        }
        let text = response.body.trim();
        if !text.is_empty() && !head.headers.has(Known::GrpcMessage) {
            let mut message = Vec::with_capacity(text.len());
            push_percent_encoded(text, &mut message);
            head.headers.append_known(Known::GrpcMessage, &message);
        }
    } else if may_have_body(response.status) {
        if !response.body.is_empty() && !head.headers.has(Known::ContentType) {
            head.headers.append_known(Known::ContentType, b"text/plain; charset=utf-8");
        }
        if !is_head {
            body.extend_from_slice(response.body.as_bytes());
        }
    }
    mark(head, reason);
}

/// RFC 9110 6.4.1: these never have one.
fn may_have_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 205 | 304)
}
