//! Which protocol a connection speaks, from the first bytes that its client sent. Sans-io.
//!
//! Only what is certain is claimed: a first line that HTTP/1 could begin with, the whole HTTP/2 preface, a
//! TLS `ClientHello`. Line protocols that look alike (`EHLO x`, `NICK y`, `CONNECT {...}` of NATS, `OPTIONS
//! rtsp://...`) are opaque, and so are bytes that are no protocol of ours.
//!
//! Invariants: an answer never changes when more bytes come; after [`MAX_PREFIX`] bytes there is an answer.
//! A client that sends less than that and waits (a server-first protocol) is the caller's to time.

mod http1;
#[cfg(test)]
mod tests;

/// With so many bytes [`detect`] always decides: empty lines, a method of 32 bytes, a blank, `https://`.
pub const MAX_PREFIX: usize = http1::MAX_EMPTY + http1::MAX_METHOD + 1 + 8;

/// What [`detect`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detected {
    /// A request line of HTTP/1 begins.
    Http1,
    /// The connection preface of HTTP/2, whole (RFC 9113 3.4).
    Http2,
    /// A TLS record with a `ClientHello`.
    Tls,
    /// Something else: bytes to be passed on as they are.
    Opaque,
}

/// What `prefix`, everything read so far, begins; `None` if more bytes are needed to tell.
#[must_use]
pub fn detect(prefix: &[u8]) -> Option<Detected> {
    if prefix.first() == Some(&TLS_HANDSHAKE) {
        return tls(prefix);
    }
    let compared = prefix.len().min(PREFACE.len());
    if prefix[..compared] == PREFACE[..compared] {
        // `PRI` could also begin a method of HTTP/1 until the bytes differ.
        return (compared == PREFACE.len()).then_some(Detected::Http2);
    }
    http1::detect(prefix)
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First byte of a TLS connection: a record of the handshake (RFC 8446 5.1).
pub const TLS_HANDSHAKE: u8 = 0x16;

/// RFC 8446 5.1: type, version 3.1 to 3.4, length from 1 to 2^14; then the message type, `client_hello`.
fn tls(prefix: &[u8]) -> Option<Detected> {
    let rules: [fn(u8) -> bool; 6] =
        [|b| b == TLS_HANDSHAKE, |b| b == 3, |b| matches!(b, 1..=4), |b| b <= 0x40, |_| true, |b| b == 1];
    if !prefix.iter().zip(rules).all(|(b, holds)| holds(*b)) {
        return Some(Detected::Opaque);
    }
    (prefix.len() >= rules.len()).then_some(Detected::Tls)
}
