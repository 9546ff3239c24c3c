//! One pass over the fields of a head: checks them, learns what frames the message, and keeps the rest.
//!
//! httparse has split the lines. It takes a bare LF for a line end; here each name must follow CR LF.

use httparse::Header;

use super::{Fault, Framing};
use crate::http::{Headers, Known, Version, headers::KnownSet};

/// Fields of one head that the stack holds. More than any limit that is sensible; heads with more, where
/// the limit allows them, take one allocation.
pub(super) const ON_STACK: usize = 128;

/// The fields that say something about their message. Most say nothing.
const TELLING: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::Expect,
    Known::Host,
    Known::KeepAlive,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// Longer values are refused; it keeps the arithmetic of peers with signed sizes out of doubt.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// What the fields say about their message.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) length: Option<u64>,
    pub(super) coding: Option<Coding>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade_option: bool,
    pub(super) upgrade: Upgrade,
    pub(super) expect_continue: bool,
    pub(super) keep_alive_timeout: Option<u64>,
}

/// What `Transfer-Encoding` lists so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    chunked: bool,
    other: bool,
}

/// What `Upgrade` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Upgrade {
    #[default]
    None,
    Other,
    /// Cleartext HTTP/2 is among the protocols. It is never passed on: the tunnel that it makes would
    /// carry requests past every policy.
    H2c,
}

impl<'a> Facts<'a> {
    /// Reads `fields`, which httparse found in `head`, and puts those that are not framing into `kept`.
    pub(super) fn read(head: &'a [u8], fields: &[Header<'a>], kept: &mut Headers) -> Result<Self, Fault> {
        // A line before the first field ended, and the head ended: with CR LF both.
        if !head.ends_with(b"\r\n\r\n") {
            return Err(Fault::LineEnd);
        }
        let mut facts = Self::default();
        let Some(first) = fields.first() else { return Ok(facts) };
        let origin = head.as_ptr().addr();
        let start = first.name.as_ptr().addr() - origin;
        let base = kept.adopt(head.get(start..).unwrap_or_default());
        for field in fields {
            let at = field.name.as_ptr().addr() - origin;
            if head.get(at.wrapping_sub(2)..at) != Some(b"\r\n") {
                return Err(Fault::LineEnd);
            }
            let known = Known::of(field.name.as_bytes());
            if facts.learn(known, field.value)? {
                let value = field.value.as_ptr().addr() - origin;
                let colon = at + field.name.len();
                let end = value + field.value.len();
                let line = value == colon + 2
                    && head.get(colon..value) == Some(b": ")
                    && head.get(end..end + 2) == Some(b"\r\n");
                let (name, value) = ((base + at - start, field.name.len()), (base + value - start, field.value.len()));
                kept.push_at(known, name, value, line);
            }
        }
        Ok(facts)
    }

    /// Learns from one field; false if the field is not to be kept.
    #[inline]
    pub(super) fn learn(&mut self, known: Known, value: &'a [u8]) -> Result<bool, Fault> {
        if TELLING.has(known) { self.learn_from(known, value) } else { Ok(true) }
    }

    fn learn_from(&mut self, known: Known, value: &'a [u8]) -> Result<bool, Fault> {
        match known {
            Known::Host => {
                if self.host.replace(value).is_some() {
                    return Err(Fault::HostRepeated);
                }
                return Ok(false);
            }
            Known::ContentLength => {
                if self.length.replace(content_length(value)?).is_some() {
                    return Err(Fault::ContentLengthRepeated);
                }
                return Ok(false);
            }
            Known::TransferEncoding => {
                self.codings(value)?;
                return Ok(false);
            }
            Known::Connection => return Ok(self.connection(value)),
            Known::Upgrade => self.protocols(value),
            Known::Expect => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            Known::KeepAlive => self.keep_alive_timeout = keep_alive_timeout(value).or(self.keep_alive_timeout),
            _ => {}
        }
        Ok(true)
    }

    /// Where the body ends, as far as the fields know: `None` if they say nothing (RFC 9112 6.3).
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Fault> {
        match (self.coding, self.length) {
            (None, None) => Ok(None),
            (None, Some(length)) => Ok(Some(Framing::Length(length))),
            (Some(_), Some(_)) => Err(Fault::LengthAndCoding),
            (Some(_), None) if version == Version::Http10 => Err(Fault::CodingInOldVersion),
            (Some(Coding { chunked: false, .. }), None) => Err(Fault::CodingInvalid),
            (Some(Coding { other: true, .. }), None) => Err(Fault::UnknownCoding),
            (Some(_), None) => Ok(Some(Framing::Chunked)),
        }
    }

    /// Whether the connection outlives the message (RFC 9112 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// RFC 9112 6.1 and 7. Empty elements are refused: `, chunked` hides the coding from some parsers.
    fn codings(&mut self, value: &[u8]) -> Result<(), Fault> {
        let coding = self.coding.get_or_insert(Coding { chunked: false, other: false });
        for element in value.split(|b| *b == b',') {
            let name = element.trim_ascii();
            if coding.chunked || !is_token(name) || name.eq_ignore_ascii_case(b"identity") {
                return Err(Fault::CodingInvalid);
            }
            if name.eq_ignore_ascii_case(b"chunked") {
                coding.chunked = true;
            } else {
                coding.other = true;
            }
        }
        Ok(())
    }

    /// True if `Connection` says something that [`strip_hop_by_hop`](super::strip_hop_by_hop) must still obey.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut more = false;
        for option in value.split(|b| *b == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
                more = true;
            } else {
                more |= !option.is_empty();
            }
        }
        more
    }

    fn protocols(&mut self, value: &[u8]) {
        for protocol in value.split(|b| *b == b',') {
            let protocol = protocol.trim_ascii();
            let name = protocol.split(|b| *b == b'/').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"h2c") {
                self.upgrade = Upgrade::H2c;
            } else if !name.is_empty() && self.upgrade == Upgrade::None {
                self.upgrade = Upgrade::Other;
            }
        }
    }
}

/// One decimal number and nothing else: no sign, no list, no blank.
fn content_length(value: &[u8]) -> Result<u64, Fault> {
    // 19 digits cannot overflow.
    if value.is_empty() || value.len() > 19 {
        return Err(Fault::ContentLengthInvalid);
    }
    let mut length = 0_u64;
    for b in value {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Fault::ContentLengthInvalid);
        }
        length = length * 10 + u64::from(digit);
    }
    if length > MAX_LENGTH { Err(Fault::ContentLengthInvalid) } else { Ok(length) }
}

/// `timeout=SECONDS` among the parameters of `Keep-Alive`.
fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    value.split(|b| matches!(b, b',' | b';')).find_map(|parameter| {
        let at = parameter.iter().position(|b| *b == b'=')?;
        let (name, seconds) = parameter.split_at(at);
        let seconds = seconds.get(1..)?.trim_ascii();
        name.trim_ascii().eq_ignore_ascii_case(b"timeout").then(|| content_length(seconds).ok())?
    })
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| TOKEN[usize::from(*b)])
}

/// RFC 9110 5.5: visible ASCII, blanks, tabs and bytes beyond ASCII.
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| !b.is_ascii_control() || *b == b'\t')
}

/// Says precisely what httparse calls a bad header name. `head` is what follows the first line's start.
pub(super) fn name_fault(head: &[u8]) -> Fault {
    for line in head.split(|b| *b == b'\n').skip(1) {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Fault::FoldedLine;
        }
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        if name.len() < line.len() && !is_token(name) {
            let blank = name.last().is_some_and(|b| matches!(b, b' ' | b'\t'));
            return if blank { Fault::BlankBeforeColon } else { Fault::FieldName };
        }
    }
    Fault::FieldName
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = is_token_byte(b as u8);
        b += 1;
    }
    table
};

/// The same of one byte, for tables.
pub(super) const fn is_token_byte(b: u8) -> bool {
    matches!(b,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}
