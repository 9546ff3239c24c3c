//! What is wrong with a message, and what would be right.
//!
//! A [`Fault`] is the same for requests and responses; [`Message`] tells which it was, and with it whose
//! fault it is. No fault carries bytes of the message: they may be secrets, and end in logs.

use crate::error::{Failure, Reason};

/// The message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Message {
    /// From a client.
    #[default]
    Request,
    /// From an upstream.
    Response,
}

/// A message that is not forwarded. Its connection cannot be used any more: its framing is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    /// Which message.
    pub message: Message,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

impl ParseError {
    /// The reason that the answer, the log and the metrics give.
    #[must_use]
    pub fn reason(self) -> Reason {
        match (self.message, self.fault) {
            (Message::Request, Fault::HeadTooLarge | Fault::TooManyFields | Fault::TrailersTooLarge) => {
                Reason::RequestHeaderSize
            }
            (Message::Request, Fault::MethodTooLong | Fault::UnknownVersion | Fault::UnknownCoding) => {
                Reason::NotImplemented
            }
            (Message::Request, _) => Reason::HttpRequestError,
            (Message::Response, Fault::HeadTooLarge | Fault::TooManyFields | Fault::TrailersTooLarge) => {
                Reason::HttpResponseHeaderSectionSize
            }
            (Message::Response, _) => Reason::HttpProtocolError,
        }
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Self::new(error.reason(), error.fault.to_string())
    }
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More bytes than [`Limits`](super::Limits) allow.
    #[error("the head is larger than the limit: send fewer or shorter fields, or raise maxHeaderBytes")]
    HeadTooLarge,
    /// More fields than [`Limits`](super::Limits) allow.
    #[error("the head has more fields than the limit: send fewer, or raise maxHeaderCount")]
    TooManyFields,
    /// Not a token.
    #[error("the request does not start with a method: it is a token followed by one space")]
    Method,
    /// Longer than any method there is.
    #[error("the method is longer than 32 bytes, and no such method is known")]
    MethodTooLong,
    /// RFC 9112 3.
    #[error("the request line is not `METHOD target HTTP/1.1` with single spaces and a visible ASCII target")]
    RequestLine,
    /// RFC 9112 3.2.
    #[error("the target has a byte outside visible ASCII or a `#`: percent-encode it; fragments are not sent")]
    TargetBytes,
    /// RFC 9112 3.2.
    #[error("the target is none of /path, http(s)://host/path, host:port for CONNECT, * for OPTIONS")]
    TargetForm,
    /// RFC 9110 4.2.4.
    #[error("the target's authority is not HOST[:PORT] without user information")]
    TargetAuthority,
    /// RFC 9112 2.3.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// Well formed, but another one.
    #[error("this version of HTTP is not spoken on a plain HTTP/1 connection: HTTP/1.0 and HTTP/1.1 are")]
    UnknownVersion,
    /// RFC 9112 4.
    #[error("the response does not start with `HTTP/1.1 STATUS reason`, STATUS being three digits from 100")]
    StatusLine,
    /// RFC 9112 2.2.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// RFC 9112 5.2.
    #[error("a field is folded over several lines: send it in one")]
    FoldedLine,
    /// RFC 9112 5.1.
    #[error("there is a blank between a field's name and its colon")]
    BlankBeforeColon,
    /// RFC 9110 5.1.
    #[error("a field's name is not a token followed by a colon")]
    FieldName,
    /// RFC 9110 5.5.
    #[error("a field's value has a control character: NUL, a lone CR or the like")]
    FieldValue,
    /// RFC 9112 3.2.
    #[error("a request of HTTP/1.1 has exactly one Host field, and this one has none")]
    HostMissing,
    /// RFC 9112 3.2.
    #[error("a request has exactly one Host field, and this one has several")]
    HostRepeated,
    /// RFC 9110 7.2.
    #[error("the Host field is not HOST[:PORT]")]
    HostInvalid,
    /// RFC 9112 6.3.
    #[error("the Content-Length is not one decimal number")]
    ContentLengthInvalid,
    /// RFC 9112 6.3.
    #[error("there is more than one Content-Length: send one")]
    ContentLengthRepeated,
    /// RFC 9112 6.1.
    #[error("Content-Length and Transfer-Encoding are both there: send one of them")]
    LengthAndCoding,
    /// RFC 9112 6.1.
    #[error("the Transfer-Encoding does not end with exactly one `chunked`")]
    CodingInvalid,
    /// RFC 9112 6.1.
    #[error("a transfer coding other than `chunked` is not implemented")]
    UnknownCoding,
    /// RFC 9112 6.1.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    CodingInOldVersion,
    /// RFC 9110 9.3.6.
    #[error("a CONNECT request has no body: send neither Content-Length nor Transfer-Encoding")]
    ConnectBody,
    /// RFC 9112 7.1.
    #[error("a chunk's size is not 1 to 16 hexadecimal digits followed by CR LF or an extension")]
    ChunkSize,
    /// RFC 9112 7.1.1.
    #[error("the chunk extensions of one message are larger than 16 KiB")]
    ChunkExtensionsTooLarge,
    /// RFC 9112 7.1.1.
    #[error("a chunk extension has a control character")]
    ChunkExtension,
    /// RFC 9112 7.1.
    #[error("a chunk's data are not followed by CR LF: they are longer or shorter than its size says")]
    ChunkEnd,
    /// More bytes or fields than [`Limits`](super::Limits) allow.
    #[error("the trailers are larger than the limits of a head")]
    TrailersTooLarge,
}
