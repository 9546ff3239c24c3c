//! HTTP/1: framing strictly by RFC 9112, sans-io.
//!
//! Bytes in, heads and facts about their bodies out; nothing here reads a socket. The caller keeps bytes in
//! a buffer, asks [`HeadScanner`] whether parsing is worth it, calls [`parse_request`] or
//! [`parse_response`], and reads the body as [`Framing`] says, with [`ChunkedDecoder`] where it is chunked.
//!
//! Invariants:
//! - What two implementations could frame in two ways is refused, never repaired: bare LF and CR, folded
//!   lines, two lengths (equal ones too), a length beside a transfer coding, codings other than `chunked`.
//! - `Host`, `Content-Length` and `Transfer-Encoding` are taken out of the fields while parsing: they live
//!   on as [`RequestHead::authority`](super::RequestHead::authority) and [`Framing`], and are written from
//!   those alone. A message is therefore never forwarded with framing that this codec did not check.
//! - A `Connection` field that says nothing but `close` and `keep-alive` is taken out, too; the facts are
//!   in the meta data. Any other stays until [`strip_hop_by_hop`] has obeyed it.
//! - Work is linear in the bytes read, however they are split, and memory is bounded by [`Limits`].
//!
//! Plain heads are read in one pass (`canonical`). For all others httparse finds the tokens; it is lenient about
//! line ends and leading blank lines, so what it found is checked again here. hyper's codec would do neither the
//! strictness nor the reuse of memory.

mod authority;
mod canonical;
mod chunked;
mod encode;
mod error;
mod fields;
mod hop;
mod request;
mod response;
mod scan;
#[cfg(test)]
mod tests;

pub use authority::valid_authority;
pub use chunked::{ChunkedDecoder, Decoded, Event};
pub use encode::{encode_chunk_end, encode_chunk_head, encode_request, encode_response};
pub use error::{Fault, Message, ParseError};
pub use hop::{strip_claims, strip_hop_by_hop, trailer_allowed};
pub use request::{RequestMeta, parse_request};
pub use response::{ResponseMeta, parse_response};
pub use scan::HeadScanner;

/// Bounds on one head, and on one trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the head, first line and final empty line included.
    pub max_header_bytes: usize,
    /// Number of fields, `Host` and the framing fields included.
    pub max_header_count: usize,
}

impl Default for Limits {
    /// 60 KiB and 100 fields: what Envoy and most servers take, and far more than browsers send.
    fn default() -> Self {
        Self { max_header_bytes: 60 * 1024, max_header_count: 100 }
    }
}

/// Where the body of a message ends (RFC 9112 6.3), and which field tells the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no field that speaks of one.
    None,
    /// No body here, but a `Content-Length` that tells of one: answers to HEAD, and 304.
    Declared(u64),
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Responses only: all bytes until the connection closes.
    UntilClose,
}

impl Framing {
    /// True if no body byte follows the head.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Declared(_) | Self::Length(0))
    }
}

/// What a head that is written says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist<'a> {
    /// It stays open.
    KeepAlive,
    /// It closes after this message.
    Close,
    /// It is asked to speak, or now speaks, this protocol: the value of the `Upgrade` field.
    Upgrade(&'a [u8]),
}
