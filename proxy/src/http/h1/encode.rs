//! Writing heads and chunks. Every head says HTTP/1.1 (RFC 9110 2.5), whatever its peer's version.
//!
//! Framing fields come from [`Framing`], `Host` from the authority and `Connection` from [`Persist`]; fields of
//! those names among the headers are not written, so a message has one framing whoever edited its fields.
//! Values are free of CR and LF by the invariant of [`Headers`].

use http::StatusCode;

use super::{Framing, Persist, hop::trailer_allowed};
use crate::http::{
    Headers, Known, RequestHead, ResponseHead, Version,
    headers::{KnownSet, write_line},
};

/// Appends the head of a request to `out`.
pub fn encode_request(head: &RequestHead, framing: Framing, persist: Persist<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match head.target.as_bytes() {
        b"" if head.method == http::Method::CONNECT => head.authority.as_bytes(),
        b"" => b"/",
        target => target,
    });
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority.as_bytes());
    out.extend_from_slice(b"\r\n");
    let te = write_fields(&head.headers, out);
    write_framing(framing, out);
    match (persist, te) {
        (Persist::KeepAlive, false) => {}
        // RFC 9110 10.1.4: TE is for the next hop, and must be named.
        (Persist::KeepAlive, true) => out.extend_from_slice(b"Connection: TE\r\n"),
        (Persist::Close, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Persist::Close, true) => out.extend_from_slice(b"Connection: close, TE\r\n"),
        (Persist::Upgrade(protocol), te) => write_upgrade(protocol, te, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response to `out`. To a client of HTTP/1.0 `framing` cannot be
/// [`Framing::Chunked`]: a body of unknown length is sent until the connection closes.
pub fn encode_response(
    head: &ResponseHead,
    framing: Framing,
    version_of_client: Version,
    persist: Persist<'_>,
    out: &mut Vec<u8>,
) {
    debug_assert!(version_of_client != Version::Http10 || framing != Framing::Chunked);
    write_status_line(head, out);
    write_fields(&head.headers, out);
    // RFC 9110 8.6: none of either in 1xx and 204.
    if !matches!(head.status, 100..=199 | 204) {
        write_framing(framing, out);
    }
    match persist {
        // Interim responses say nothing about the connection, except the one that changes its protocol.
        Persist::Upgrade(protocol) => write_upgrade(protocol, false, out),
        _ if head.status < 200 => {}
        Persist::Close => out.extend_from_slice(b"Connection: close\r\n"),
        Persist::KeepAlive if framing == Framing::UntilClose => out.extend_from_slice(b"Connection: close\r\n"),
        Persist::KeepAlive if version_of_client == Version::Http10 => {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        Persist::KeepAlive => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends what stands before the data of a chunk. After them comes CR LF. `len` is not 0: that would end the
/// body.
pub fn encode_chunk_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..significant).rev() {
        out.push(DIGITS[len >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers that may be sent as such.
pub fn encode_chunk_end(trailers: Option<&Headers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (known, name, value) in trailers.iter().flat_map(|t| t.iter()) {
        if trailer_allowed(known, name) {
            write_line(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(head: &ResponseHead, out: &mut Vec<u8>) {
    if head.status == 200 && (head.reason.is_empty() || head.reason == b"OK") {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    if head.reason.is_empty() {
        let standard = StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
        out.extend_from_slice(standard.unwrap_or_default().as_bytes());
    } else {
        out.extend_from_slice(&head.reason);
    }
    out.extend_from_slice(b"\r\n");
}

/// What is written from elsewhere.
const WRITTEN_APART: KnownSet =
    KnownSet::of(&[Known::ContentLength, Known::TransferEncoding, Known::Connection, Known::Upgrade, Known::Host]);

/// Writes the fields, and tells whether `TE` is among them.
fn write_fields(headers: &Headers, out: &mut Vec<u8>) -> bool {
    headers.write_lines(WRITTEN_APART, out);
    headers.has(Known::Te)
}

fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) | Framing::Declared(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

fn write_upgrade(protocol: &[u8], te: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if te { b"Connection: Upgrade, TE\r\n" } else { b"Connection: Upgrade\r\n" });
    write_line(b"Upgrade", protocol, out);
}
