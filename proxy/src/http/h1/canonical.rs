//! A head as nearly everybody sends it, read in one pass.
//!
//! httparse and the checks behind it look at each byte several times, and make a list of the fields in between.
//! Here one pass over blocks of bytes finds line ends and colons ([`masks`](masks::masks)), and sees that there are no
//! control characters but the line ends.
//!
//! Invariant: what is read here is read the same by the strict path ([`super::parse_request`] and
//! [`super::parse_response`] behind the call of this), which takes more and says what is wrong with the rest.
//! Whatever is unusual (a tab, a fault, a head that has not come whole) is `None` here. A test
//! and a fuzz target hold the two against each other.

mod masks;

use http::Method;
use masks::{BLOCK, Masks, masks};

use super::{
    authority::ascii,
    fields::{Facts, is_token_byte},
    hop::is_ours,
};
use crate::http::{Headers, Known, Version};

/// The line that a request begins with.
pub(super) struct RequestLine<'b> {
    pub(super) method: Method,
    pub(super) target: &'b str,
    pub(super) version: Version,
    /// Where the fields begin.
    pub(super) end: usize,
}

/// The line that a response begins with.
pub(super) struct StatusLine<'b> {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) reason: &'b [u8],
    /// Where the fields begin.
    pub(super) end: usize,
}

pub(super) fn request_line(text: &[u8], longest_method: usize) -> Option<RequestLine<'_>> {
    let end = memchr::memchr(b'\n', text)?;
    let line = text[..end].strip_suffix(b"\r")?;
    let (line, version) = line.split_last_chunk::<9>()?;
    let version = version_of(version.strip_prefix(b" ")?)?;
    let space = line.iter().take(longest_method + 1).position(|b| *b == b' ')?;
    let target = &line[space + 1..];
    if target.is_empty() || !target.iter().fold(true, |good, b| good & b.is_ascii_graphic()) {
        return None;
    }
    let method = Method::from_bytes(&line[..space]).ok()?;
    Some(RequestLine { method, target: ascii(target), version, end: end + 1 })
}

pub(super) fn status_line(text: &[u8]) -> Option<StatusLine<'_>> {
    let end = memchr::memchr(b'\n', text)?;
    let line = text[..end].strip_suffix(b"\r")?;
    let (version, line) = line.split_first_chunk::<8>()?;
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', reason @ ..] = line else { return None };
    let digit = |b: &u8| u16::from(b - b'0');
    // What is not would be refused, or not kept.
    reason.iter().fold(true, |good, b| good & matches!(b, b' '..=b'~')).then_some(())?;
    let status = digit(a) * 100 + digit(b) * 10 + digit(c);
    Some(StatusLine { version: version_of(version)?, status, reason, end: end + 1 })
}

fn version_of(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        _ => None,
    }
}

/// Reads the fields that begin at `start`, `most` at most, keeps those that are not framing in `kept`, and tells
/// where the head ends.
pub(super) fn fields<'b>(text: &'b [u8], start: usize, most: usize, kept: &mut Headers) -> Option<(Facts<'b>, usize)> {
    let mut reader = Reader { text, facts: Facts::default(), base: kept.next_offset(), start, count: 0 };
    // Of the line under way: where it begins, and its first colon.
    let (mut line, mut colon) = (start, None);
    // The block before this one ended in a control character, which may be the CR of a line end.
    let mut open = false;
    let mut at = start;
    loop {
        let Masks { mut feeds, mut colons, controls } = block(text, at)?;
        // Line feeds, and what is before them, which is a CR wherever the line is read.
        let odd = controls & !(feeds | feeds >> 1);
        if open && feeds & 1 == 0 {
            return None;
        }
        while feeds != 0 {
            let bit = feeds.trailing_zeros();
            let feed = at + bit as usize;
            let until = u64::MAX >> (63 - bit);
            if colon.is_none() {
                colon = first(colons & until, at);
            }
            colons &= !until;
            feeds &= feeds - 1;
            // Each line ends in CR LF.
            let end = feed.checked_sub(1).filter(|at| text.get(*at) == Some(&b'\r'))?;
            if end == line {
                if odd & until != 0 || reader.count > most {
                    return None;
                }
                kept.adopt(text.get(start..=feed)?);
                return Some((reader.facts, feed + 1));
            }
            reader.field(line, colon?, end, kept)?;
            (line, colon) = (feed + 1, None);
        }
        if colon.is_none() {
            colon = first(colons, at);
        }
        if odd << 1 != 0 {
            return None;
        }
        open = odd != 0;
        at += BLOCK;
    }
}

/// The masks of the block that begins at `at`; what is beyond the text is blank.
#[inline]
fn block(text: &[u8], at: usize) -> Option<Masks> {
    let rest = text.get(at..)?;
    if let Some(whole) = rest.first_chunk::<BLOCK>() {
        return Some(masks(whole));
    }
    if rest.is_empty() {
        return None;
    }
    let mut padded = [b' '; BLOCK];
    padded[..rest.len()].copy_from_slice(rest);
    Some(masks(&padded))
}

/// Where the first byte of a mask is.
#[inline]
fn first(mask: u64, at: usize) -> Option<usize> {
    (mask != 0).then(|| at + mask.trailing_zeros() as usize)
}

/// What is learnt line by line.
struct Reader<'b> {
    text: &'b [u8],
    facts: Facts<'b>,
    /// Where the fields, which begin at `start` of the text, will stand among those that are kept.
    base: usize,
    start: usize,
    count: usize,
}

impl Reader<'_> {
    /// Reads one line.
    #[inline]
    fn field(&mut self, line: usize, colon: usize, end: usize, kept: &mut Headers) -> Option<()> {
        self.count += 1;
        let name = self.text.get(line..colon)?;
        let known = Known::of(name);
        // A known name is a token but for control characters, which are looked for.
        let peculiar = known == Known::Other && is_peculiar(name)?;
        let raw = self.text.get(colon + 1..end)?;
        // `name: value`, as it will be written.
        let plain = matches!(raw, [b' ', first, ..] if *first != b' ') && raw.last() != Some(&b' ');
        let (value, blanks) = if plain { (&raw[1..], 1) } else { trim(raw) };
        if self.facts.learn(known, value).ok()? {
            let at = self.base + line - self.start;
            let (name, value) = ((at, name.len()), (at + name.len() + 1 + blanks, value.len()));
            kept.push_judged_at(known, name, value, plain, peculiar);
        }
        Some(())
    }
}

/// Whether a name that is not known may pass for one that is, or for one of the mesh's own. `None`: it is no token.
#[inline]
fn is_peculiar(name: &[u8]) -> Option<bool> {
    let signs = name.iter().fold(0, |signs, b| signs | SIGNS[usize::from(*b)]);
    (signs < NO_TOKEN && !name.is_empty()).then(|| signs != 0 || is_ours(name))
}

/// No byte of a token.
const NO_TOKEN: u8 = 2;
/// No letter, digit or dash: the name may pass for another one.
const NO_ORDINARY: u8 = 1;

static SIGNS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = match byte {
            _ if byte.is_ascii_alphanumeric() || byte == b'-' => 0,
            _ if is_token_byte(byte) => NO_ORDINARY,
            _ => NO_TOKEN,
        };
        b += 1;
    }
    table
};

/// Without blanks around it, and how many were before it.
fn trim(raw: &[u8]) -> (&[u8], usize) {
    let value = raw.trim_ascii_start();
    (value.trim_ascii_end(), raw.len() - value.len())
}

#[cfg(test)]
mod tests;
