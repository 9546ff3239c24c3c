//! The head of a request (RFC 9112 3).

use std::mem::MaybeUninit;

use http::Method;
use httparse::{Header, Status};

use super::{
    Fault, Framing, Limits, Message, ParseError,
    authority::{has_port, valid_authority},
    canonical,
    fields::{Facts, ON_STACK, Upgrade, name_fault},
};
use crate::http::{RequestHead, Version};

/// The longest method that is taken. The registry's longest has 17 bytes (UPDATEREDIRECTREF).
const MAX_METHOD: usize = 32;

/// What the head of a request says about its message and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestMeta {
    /// Bytes of the head; the body, if any, begins there.
    pub consumed: usize,
    /// Where the body ends: [`Framing::None`], [`Framing::Length`] or [`Framing::Chunked`].
    pub framing: Framing,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// The client asks for another protocol, has no body, and the protocol is not h2c. `Upgrade` is among
    /// the fields until [`strip_hop_by_hop`](super::strip_hop_by_hop).
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The method is CONNECT.
    pub connect: bool,
    /// The target is absolute and its scheme `https`, as only a proxy is asked.
    pub https: bool,
}

/// Reads the head at the start of `buf`; `None` if it has not come whole, and `head` is then unspecified.
///
/// Sets everything in `head` but `scheme`, which the connection knows: the scheme of an absolute target is
/// dropped. One empty line before the head is skipped (RFC 9112 2.2).
///
/// # Errors
///
/// If the head breaks the protocol or a limit; the connection is to be closed after the answer.
pub fn parse_request(buf: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<RequestMeta>, ParseError> {
    parse(buf, limits, head).map_err(|fault| ParseError { message: Message::Request, fault })
}

fn parse(buf: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<RequestMeta>, Fault> {
    // What lies beyond the limit is not looked at: a head that ends there is too large whatever it says.
    let full = buf.len() >= limits.max_header_bytes;
    let buf = &buf[..buf.len().min(limits.max_header_bytes)];
    let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &buf[skipped..];
    if let Some(mut meta) = plain(text, limits.max_header_count, head) {
        meta.consumed += skipped;
        return Ok(Some(meta));
    }
    let parsed = strict(text, limits, head);
    match parsed? {
        Some(mut meta) => {
            meta.consumed += skipped;
            Ok(Some(meta))
        }
        None if full => Err(Fault::HeadTooLarge),
        None => Ok(None),
    }
}

/// A head without anything unusual; see [`canonical`].
pub(super) fn plain(text: &[u8], most: usize, head: &mut RequestHead) -> Option<RequestMeta> {
    let line = canonical::request_line(text, MAX_METHOD)?;
    head.clear();
    head.version = line.version;
    head.method = line.method;
    let (facts, consumed) = canonical::fields(text, line.end, most, &mut head.headers)?;
    finish(consumed, &facts, line.target, head).ok()
}

/// Any head.
pub(super) fn strict(text: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<RequestMeta>, Fault> {
    let on_stack = &mut [const { MaybeUninit::uninit() }; ON_STACK];
    let room = limits.max_header_count.min(ON_STACK);
    match read(text, &mut on_stack[..room], head) {
        Err(Fault::TooManyFields) if room < limits.max_header_count => {
            read(text, &mut vec![MaybeUninit::uninit(); limits.max_header_count], head)
        }
        Err(Fault::UnknownVersion) => match as_http11(text) {
            Some(text) => strict(&text, limits, head),
            None => Err(Fault::UnknownVersion),
        },
        result => result,
    }
}

/// RFC 9110 2.5: a later minor version of HTTP/1 is read as the one that is known.
fn as_http11(text: &[u8]) -> Option<Vec<u8>> {
    let line = text.split(|b| *b == b'\n').next()?;
    let at = line.len().checked_sub(if line.ends_with(b"\r") { 2 } else { 1 })?;
    let minor = line.get(at).filter(|b| matches!(b, b'2'..=b'9'))?;
    line.get(..at)?.ends_with(b" HTTP/1.").then_some(minor)?;
    let mut text = text.to_vec();
    text[at] = b'1';
    Some(text)
}

fn read<'b>(
    text: &'b [u8],
    room: &mut [MaybeUninit<Header<'b>>],
    head: &mut RequestHead,
) -> Result<Option<RequestMeta>, Fault> {
    // httparse would skip any number of these.
    match text {
        [b'\r'] => return Ok(None),
        [b'\r' | b'\n', ..] => return Err(Fault::Method),
        _ => {}
    }
    let mut request = httparse::Request::new(&mut []);
    let consumed = match request.parse_with_uninit_headers(text, room) {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) => return partial(text, &request),
        Err(error) => return refuse(text, &request, error),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Fault::RequestLine);
    };
    if method.len() > MAX_METHOD {
        return Err(Fault::MethodTooLong);
    }
    head.clear();
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    head.method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Method)?;
    let facts = Facts::read(&text[..consumed], request.headers, &mut head.headers)?;
    finish(consumed, &facts, target, head).map(Some)
}

fn finish(consumed: usize, facts: &Facts<'_>, target: &str, head: &mut RequestHead) -> Result<RequestMeta, Fault> {
    let host = check_host(facts, head.version)?;
    read_target(target, head)?;
    // The authority of an absolute target, and CONNECT's, win over Host (RFC 9112 3.2.2).
    if head.authority.is_empty() {
        head.authority.push_str(host);
    }
    let https = !target.starts_with('/') && target.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("https://"));
    Ok(RequestMeta { https, ..meta(consumed, facts, head)? })
}

fn meta(consumed: usize, facts: &Facts<'_>, head: &RequestHead) -> Result<RequestMeta, Fault> {
    let framing = facts.framing(head.version)?;
    let connect = head.method == Method::CONNECT;
    if connect && framing.is_some() {
        return Err(Fault::ConnectBody);
    }
    let framing = framing.unwrap_or(Framing::None);
    let http11 = head.version == Version::Http11;
    Ok(RequestMeta {
        consumed,
        framing,
        keep_alive: facts.persists(head.version),
        // RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored, and without the option in Connection.
        upgrade: facts.upgrade_option && facts.upgrade == Upgrade::Other && http11 && !connect && framing.is_empty(),
        // RFC 9110 10.1.1: ignored in HTTP/1.0, and where there is no body.
        expect_continue: facts.expect_continue && http11 && !framing.is_empty(),
        connect,
        https: false,
    })
}

/// RFC 9112 3.2: exactly one `Host`; it may be empty where the target has no authority. HTTP/1.0 may lack it.
fn check_host<'a>(facts: &Facts<'a>, version: Version) -> Result<&'a str, Fault> {
    match facts.host {
        None if version == Version::Http10 => Ok(""),
        None => Err(Fault::HostMissing),
        Some(b"") => Ok(""),
        Some(host) => valid_authority(host).ok_or(Fault::HostInvalid),
    }
}

/// The four forms of RFC 9112 3.2; sets `target`, and `authority` where the target has one.
fn read_target(target: &str, head: &mut RequestHead) -> Result<(), Fault> {
    if target.bytes().fold(false, |bad, b| bad | (b == b'#') | !b.is_ascii()) {
        return Err(Fault::TargetBytes);
    }
    if head.method == Method::CONNECT {
        let authority = valid_authority(target.as_bytes()).filter(|a| has_port(a)).ok_or(Fault::TargetForm)?;
        head.authority.push_str(authority);
    } else if target.starts_with('/') || (target == "*" && head.method == Method::OPTIONS) {
        head.target.push_str(target);
    } else {
        let rest = after_scheme(target).ok_or(Fault::TargetForm)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        head.authority.push_str(valid_authority(authority.as_bytes()).ok_or(Fault::TargetAuthority)?);
        if path.is_empty() && head.method == Method::OPTIONS {
            // RFC 9112 3.2.4: the last proxy on the way turns it into the asterisk form.
            head.target.push('*');
        } else if !path.starts_with('/') {
            head.target.push('/');
        }
        head.target.push_str(path);
    }
    Ok(())
}

fn after_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// An incomplete head that cannot become a good one is refused at once.
fn partial(text: &[u8], request: &httparse::Request<'_, '_>) -> Result<Option<RequestMeta>, Fault> {
    match request.method {
        None if text.len() > MAX_METHOD => Err(Fault::MethodTooLong),
        Some(method) if method.len() > MAX_METHOD => Err(Fault::MethodTooLong),
        _ => Ok(None),
    }
}

fn refuse(
    text: &[u8],
    request: &httparse::Request<'_, '_>,
    error: httparse::Error,
) -> Result<Option<RequestMeta>, Fault> {
    let Some(method) = request.method else {
        return Err(Fault::Method);
    };
    if method.len() > MAX_METHOD {
        return Err(Fault::MethodTooLong);
    }
    let Some(target) = request.path else {
        return Err(Fault::RequestLine);
    };
    Err(match error {
        httparse::Error::Version => {
            return version_fault(text.get(method.len() + target.len() + 2..).unwrap_or_default());
        }
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::HeaderName => name_fault(text),
        httparse::Error::HeaderValue => Fault::FieldValue,
        httparse::Error::NewLine if request.version.is_some() => Fault::LineEnd,
        _ => Fault::RequestLine,
    })
}

/// Tells another version from something that is none. Waits for all of `HTTP/D.D`.
fn version_fault(text: &[u8]) -> Result<Option<RequestMeta>, Fault> {
    const FORM: &[u8; 8] = b"HTTP/0.0";
    let fits = |(b, form): (&u8, &u8)| if *form == b'0' { b.is_ascii_digit() } else { b == form };
    if !text.iter().zip(FORM).all(fits) {
        Err(Fault::Version)
    } else if text.len() < FORM.len() {
        Ok(None)
    } else {
        Err(Fault::UnknownVersion)
    }
}
