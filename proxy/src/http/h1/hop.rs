//! Fields that are meant for one connection, and fields that may not come late.

use crate::http::{Headers, Known, headers::KnownSet as Set};

/// RFC 9110 7.6.1, and the framing fields, which are written from [`Framing`](super::Framing) alone.
const HOP_BY_HOP: Set = Set::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::Host,
    Known::Http2Settings,
    Known::KeepAlive,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// End-to-end fields that `Connection` cannot name away. RFC 9110 7.6.1 forbids senders to try; obeying would
/// let a client hide who it is from the services behind (by dropping what a proxy before this one has added), change
/// how its body is read, or break a trace.
const END_TO_END: Set = Set::of(&[
    Known::Authorization,
    Known::CacheControl,
    Known::ContentType,
    Known::Cookie,
    Known::Forwarded,
    Known::GrpcMessage,
    Known::GrpcStatus,
    Known::GrpcTimeout,
    Known::SetCookie,
    Known::Traceparent,
    Known::Tracestate,
    Known::Via,
    Known::XCorrelationId,
    Known::XForwardedClientCert,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedProto,
    Known::XOutriggerAttempt,
    Known::XOutriggerTimeoutMs,
    Known::XRequestId,
]);

/// RFC 9110 6.5.1: framing, routing, authentication, and what says how the body is to be read; and what this
/// proxy says about the caller, which is decided when the head is.
const NOT_IN_TRAILERS: Set = Set::of(&[
    Known::Authorization,
    Known::CacheControl,
    Known::Connection,
    Known::ContentLength,
    Known::ContentType,
    Known::Cookie,
    Known::Expect,
    Known::Forwarded,
    Known::Host,
    Known::Http2Settings,
    Known::KeepAlive,
    Known::MaxForwards,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
    Known::ProxyConnection,
    Known::SetCookie,
    Known::Te,
    Known::Trailer,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::XForwardedClientCert,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedProto,
    Known::XOutriggerAttempt,
    Known::XOutriggerDegraded,
    Known::XOutriggerHops,
    Known::XOutriggerTimeoutMs,
]);

/// What the mesh says of a request.
const CLAIMS: Set = Set::of(&[Known::XOutriggerAttempt, Known::XOutriggerDegraded, Known::XOutriggerTimeoutMs]);

/// True if a field of that name may stand in trailers.
#[must_use]
pub fn trailer_allowed(known: Known, name: &[u8]) -> bool {
    if known == Known::Other {
        if passes_for_known(name) {
            return false;
        }
        // Content-Encoding, Content-Range, Content-Location.
        return !name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
            || name.eq_ignore_ascii_case(b"content-digest")
            || name.eq_ignore_ascii_case(b"content-md5");
    }
    !NOT_IN_TRAILERS.has(known)
}

/// Takes out of a request from outside what only proxies say: fields that pass for known ones, and of an untrusted caller
/// the mesh's own. `x-outrigger-hops` stays: it can only end a request earlier, and without it a loop would not end.
pub fn strip_claims(headers: &mut Headers, trusted: bool) {
    if !headers.peculiar() && (trusted || !headers.names().meets(CLAIMS)) {
        return;
    }
    let ours = |known, name: &[u8]| match known {
        known if CLAIMS.has(known) => !trusted,
        Known::Other => !trusted && is_ours(name),
        _ => false,
    };
    let claims = |known, name: &[u8]| ours(known, name) || (known == Known::Other && passes_for_known(name));
    if headers.iter().any(|(known, name, _)| claims(known, name)) {
        headers.retain(|known, name, _| !claims(known, name));
    }
}

/// True if an app may take the field for one that has a meaning here: CGI and its descendants (WSGI, Rack, PHP) do not tell
/// `X_Forwarded_Client_Cert` and `X.Forwarded.Client.Cert` from `X-Forwarded-Client-Cert`, nor `Transfer_Encoding` from the
/// field that frames.
fn passes_for_known(name: &[u8]) -> bool {
    // Longer than any name that is known; `x-outrigger-` ends well before.
    let mut dashed = [0; 32];
    let start = &name[..name.len().min(dashed.len())];
    if start.iter().all(|b| is_ordinary(*b)) {
        return false;
    }
    for (to, from) in dashed.iter_mut().zip(start) {
        *to = if from.is_ascii_alphanumeric() { *from } else { b'-' };
    }
    let dashed = &dashed[..start.len()];
    is_ours(dashed) || (start.len() == name.len() && Known::of(dashed) != Known::Other)
}

/// What names are made of that pass for no other: letters, digits and dashes.
fn is_ordinary(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

pub(super) fn is_ours(name: &[u8]) -> bool {
    const OURS: &[u8] = b"x-outrigger-";
    name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

/// Drops what is meant for this connection only: `Connection` and the fields that it names, `Keep-Alive`,
/// `Proxy-Connection`, `Upgrade`, `HTTP2-Settings`, `Proxy-Authenticate`, `Proxy-Authorization`, `TE` but for
/// `trailers` in a request, and the framing fields.
///
/// To be called before the proxy adds fields of its own, so that `Connection` cannot name those.
pub fn strip_hop_by_hop(headers: &mut Headers, request: bool) {
    if !headers.names().meets(HOP_BY_HOP) {
        return;
    }
    if headers.has(Known::Connection) {
        drop_named(headers);
    }
    let trailers = request && headers.all_known(Known::Te).any(takes_trailers);
    headers.retain(|known, _, _| !HOP_BY_HOP.has(known));
    if trailers {
        headers.append_known(Known::Te, b"trailers");
    }
}

fn drop_named(headers: &mut Headers) {
    // `retain` holds the fields, so what Connection names is copied first, in lower case.
    let named = headers.all_known(Known::Connection).collect::<Vec<_>>().join(&b',').to_ascii_lowercase();
    // What has a rule of its own (TE, Upgrade, ...) or is end to end is not looked for: with the common
    // options nothing is left.
    let mut names: Vec<&[u8]> =
        named.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|n| is_removable(n)).collect();
    if names.is_empty() {
        return;
    }
    // Sorted, because a head may name 30,000 and have as many bytes of fields.
    names.sort_unstable();
    let mut lower = Vec::new();
    headers.retain(|_, name, _| {
        lower.clear();
        lower.extend(name.iter().map(u8::to_ascii_lowercase));
        names.binary_search(&&lower[..]).is_err()
    });
}

fn is_removable(name: &[u8]) -> bool {
    let known = Known::of(name);
    !(name.is_empty() || name == b"close" || HOP_BY_HOP.has(known) || END_TO_END.has(known))
}

fn takes_trailers(te: &[u8]) -> bool {
    te.split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
