//! What HTTP/2 asks of fields, whichever codec reads or writes them (RFC 9113 8.2).

use crate::http::{Headers, Known, h1::Limits};

/// False for fields that speak of a connection, which are never sent (RFC 9113 8.2.2), and for those that live on as
/// pseudo-header fields.
#[inline]
pub(super) fn passes(known: Known, value: &[u8]) -> bool {
    match known {
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::TransferEncoding
        | Known::Upgrade
        | Known::Host
        | Known::Http2Settings => false,
        Known::Te => value.eq_ignore_ascii_case(b"trailers"),
        _ => true,
    }
}

/// Bytes that a list of fields may have, as `SETTINGS_MAX_HEADER_LIST_SIZE` counts them (RFC 9113 6.5.2).
pub(super) fn list_bound(limits: &Limits) -> usize {
    limits.max_header_bytes + 32 * limits.max_header_count
}

/// The value of a single, well-formed `content-length` field.
#[must_use]
pub fn content_length(headers: &Headers) -> Option<u64> {
    let mut values = headers.all_known(Known::ContentLength);
    let value = std::str::from_utf8(values.next()?).ok()?;
    if values.next().is_some() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    value.parse().ok()
}
