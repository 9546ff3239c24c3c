//! The head of a response (RFC 9112 4), final or interim.

use std::mem::MaybeUninit;

use http::Method;
use httparse::{Header, Status};

use super::{
    Fault, Framing, Limits, Message, ParseError, canonical,
    fields::{Facts, ON_STACK, name_fault},
};
use crate::http::{ResponseHead, Version};

/// What the head of a response says about its message and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseMeta {
    /// Bytes of the head; the body, if any, begins there.
    pub consumed: usize,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request once the body has ended.
    pub keep_alive: bool,
    /// Seconds that the server keeps the idle connection, if it says so (`Keep-Alive: timeout=`).
    pub keep_alive_timeout: Option<u64>,
    /// The connection is a tunnel from here on: 101, or 2xx to CONNECT.
    pub upgrade: bool,
}

/// Reads the head at the start of `buf`, which answers a request of `request_method`; `None` if it has not
/// come whole, and `head` is then unspecified. An interim response (1xx) is a head of its own without a
/// body: the caller asks again for what follows.
///
/// # Errors
///
/// If the head breaks the protocol or a limit; the connection is to be closed.
pub fn parse_response(
    buf: &[u8],
    limits: &Limits,
    request_method: &Method,
    head: &mut ResponseHead,
) -> Result<Option<ResponseMeta>, ParseError> {
    parse(buf, limits, request_method, head).map_err(|fault| ParseError { message: Message::Response, fault })
}

fn parse(buf: &[u8], limits: &Limits, method: &Method, head: &mut ResponseHead) -> Result<Option<ResponseMeta>, Fault> {
    let full = buf.len() >= limits.max_header_bytes;
    let buf = &buf[..buf.len().min(limits.max_header_bytes)];
    if let Some(meta) = plain(buf, limits.max_header_count, method, head) {
        return Ok(Some(meta));
    }
    match strict(buf, limits, method, head)? {
        None if full => Err(Fault::HeadTooLarge),
        meta => Ok(meta),
    }
}

/// A head without anything unusual; see [`canonical`].
pub(super) fn plain(text: &[u8], most: usize, method: &Method, head: &mut ResponseHead) -> Option<ResponseMeta> {
    let line = canonical::status_line(text)?;
    head.clear();
    head.status = line.status;
    head.version = line.version;
    head.reason.extend_from_slice(line.reason);
    let (facts, consumed) = canonical::fields(text, line.end, most, &mut head.headers)?;
    finish(consumed, &facts, method, head).ok()
}

/// Any head.
pub(super) fn strict(
    buf: &[u8],
    limits: &Limits,
    method: &Method,
    head: &mut ResponseHead,
) -> Result<Option<ResponseMeta>, Fault> {
    let on_stack = &mut [const { MaybeUninit::uninit() }; ON_STACK];
    let room = limits.max_header_count.min(ON_STACK);
    match read(buf, &mut on_stack[..room], method, head) {
        Err(Fault::TooManyFields) if room < limits.max_header_count => {
            read(buf, &mut vec![MaybeUninit::uninit(); limits.max_header_count], method, head)
        }
        Err(Fault::Version) => match as_http11(buf) {
            Some(text) => strict(&text, limits, method, head),
            None => Err(Fault::Version),
        },
        result => result,
    }
}

/// RFC 9110 2.5: a later minor version of HTTP/1 is read as the one that is known.
fn as_http11(text: &[u8]) -> Option<Vec<u8>> {
    let minor = text.strip_prefix(b"HTTP/1.")?.first()?;
    matches!(minor, b'2'..=b'9').then(|| {
        let mut text = text.to_vec();
        text[7] = b'1';
        text
    })
}

fn read<'b>(
    text: &'b [u8],
    room: &mut [MaybeUninit<Header<'b>>],
    method: &Method,
    head: &mut ResponseHead,
) -> Result<Option<ResponseMeta>, Fault> {
    // httparse would skip empty lines: bytes after the last response that nobody asked for.
    if matches!(text.first(), Some(b'\r' | b'\n')) {
        return Err(Fault::StatusLine);
    }
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let consumed = match config.parse_response_with_uninit_headers(&mut response, text, room) {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(refuse(text, &response, error)),
    };
    let (Some(minor), Some(status @ 100..)) = (response.version, response.code) else {
        return Err(Fault::StatusLine);
    };
    head.clear();
    head.status = status;
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    head.reason.extend_from_slice(response.reason.unwrap_or_default().as_bytes());
    let facts = Facts::read(&text[..consumed], response.headers, &mut head.headers)?;
    finish(consumed, &facts, method, head).map(Some)
}

fn finish(consumed: usize, facts: &Facts<'_>, method: &Method, head: &ResponseHead) -> Result<ResponseMeta, Fault> {
    if facts.host.is_some() {
        // Meaningless in a response, and never to be mixed up with a request's.
        return Err(Fault::HostInvalid);
    }
    meta(consumed, facts, method, head)
}

/// RFC 9112 6.3, in its order.
fn meta(consumed: usize, facts: &Facts<'_>, method: &Method, head: &ResponseHead) -> Result<ResponseMeta, Fault> {
    let said = facts.framing(head.version)?;
    let mut keep_alive = facts.persists(head.version);
    let tunnel = head.status == 101 || (*method == Method::CONNECT && matches!(head.status, 200..=299));
    let framing = if tunnel || matches!(head.status, 100..=199 | 204) {
        // These must not speak of a body (RFC 9110 8.6). If one speaks of bytes, they may come.
        keep_alive &= matches!(said, None | Some(Framing::Length(0)));
        Framing::None
    } else if *method == Method::HEAD || head.status == 304 {
        match said {
            Some(Framing::Length(length)) => Framing::Declared(length),
            _ => Framing::None,
        }
    } else {
        said.unwrap_or(Framing::UntilClose)
    };
    Ok(ResponseMeta {
        consumed,
        framing,
        keep_alive: keep_alive && !tunnel && framing != Framing::UntilClose,
        keep_alive_timeout: facts.keep_alive_timeout,
        upgrade: tunnel,
    })
}

fn refuse(text: &[u8], response: &httparse::Response<'_, '_>, error: httparse::Error) -> Fault {
    match error {
        httparse::Error::Version => Fault::Version,
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::HeaderName => name_fault(text),
        httparse::Error::HeaderValue => Fault::FieldValue,
        httparse::Error::NewLine if response.code.is_some() => Fault::LineEnd,
        _ => Fault::StatusLine,
    }
}
