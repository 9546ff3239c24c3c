//! The one form of a path and of a host that routes and access rules decide on, and that is forwarded.
//!
//! A path that nothing decides on is passed on byte for byte. Where a route looks at it, it is brought into the normal
//! form of RFC 3986 6.2.2, which means the same to every server: escapes of unreserved characters decoded, the other
//! escapes in upper case, dot segments removed. Where an access rule looks at it, slashes are merged too, because most
//! servers do, and a path that servers read in different ways is refused ([`Unclear`]): whichever way it were judged,
//! some server would take it the other way. [`PathUse`] says which of the three holds; queries are never touched.
//!
//! | in the path | forwarded only | a route decides | an access rule decides |
//! | --- | --- | --- | --- |
//! | `%41`, `%7e`, `%2d` (unreserved) | as it came | `A`, `~`, `-` | `A`, `~`, `-` |
//! | `%c3` (hex digits in lower case) | as it came | `%C3` | `%C3` |
//! | `/./`, `/../`, `/%2e%2e/` | as it came | removed | removed |
//! | `//` | as it came | as it came | `/`; refused in front of `..` |
//! | `%2F`, `%5C`, `\`, `%3F`, `%23` | as it came | as it came | refused |
//! | `;`, `%3B` | as it came | as it came | refused |
//! | `%00`-`%1F`, `%7F` | as it came | as it came | refused |
//! | `%252e`, `%25u002e` (encoded twice) | as it came | as it came | refused |
//! | `%`, `%4`, `%zz`, `%u002e` | as it came | as it came | refused |
//! | `%c0%ae` (not UTF-8), fullwidth `/`, `\`, `.` | as it came | as it came | refused |
//! | `%20` at either end of a segment | as it came | as it came | refused |
//!
//! The common case, a path in normal form, costs one pass over its bytes and a table of 256: nothing is copied.
//! The normal form is a fixed point: normalising it again changes nothing.

use crate::{
    matching::unescape,
    model::{AccessPolicy, Direction, FallbackAction, Mode, Model, PathMatch, UpstreamId},
};

#[cfg(test)]
mod tests;

/// What the path of a request is for, and so how it is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathUse {
    /// It is passed on, and nothing decides on it.
    Forward,
    /// A route decides on it.
    Route,
    /// An access rule decides on it.
    Access,
}

impl PathUse {
    /// What the paths of requests are for that address upstream `id` on a listener of this direction.
    ///
    /// Access rules count on inbound listeners alone, where they are judged: those of the upstream, and those of the
    /// backends, mirrors and fallbacks that its routes and policies lead to.
    #[must_use]
    pub fn of(model: &Model, direction: Direction, id: UpstreamId) -> Self {
        let upstream = model.upstream(id);
        let rules = &upstream.routes.rules;
        let mut backends = rules.iter().flat_map(|r| &r.backends).map(|b| b.upstream);
        let mut mirrors = rules.iter().flat_map(|r| &r.mirrors).map(|m| m.upstream);
        let policies = std::iter::once(&upstream.policy).chain(rules.iter().map(|r| &r.policy));
        let mut fallbacks = policies.filter_map(|p| match p.fallback.as_ref()?.action {
            FallbackAction::Backend(id) => Some(id),
            FallbackAction::StaleIfError(_) | FallbackAction::Response(_) => None,
        });
        let guarded = |id: UpstreamId| names_paths(&model.upstream(id).access);
        if direction == Direction::Inbound
            && (names_paths(&upstream.access)
                || backends.any(guarded)
                || mirrors.any(guarded)
                || fallbacks.any(guarded))
        {
            return Self::Access;
        }
        let every = |path: &PathMatch| matches!(path, PathMatch::Prefix(prefix) if &**prefix == "/");
        if upstream.routes.matches.iter().all(|m| every(&m.path)) { Self::Forward } else { Self::Route }
    }
}

/// A policy that only observes changes nothing of a request, not even the way in which its path is written.
fn names_paths(policies: &[std::sync::Arc<AccessPolicy>]) -> bool {
    let enforced = policies.iter().filter(|p| p.mode == Mode::Enforce);
    enforced.flat_map(|p| &p.rules).flat_map(|r| &r.to).any(|to| !to.paths.is_empty())
}

/// Why a path on which an access rule decides is refused: servers differ in what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// `%2F`
    #[error("the path has an encoded slash, which some servers take for a slash")]
    EncodedSlash,
    /// `\` or `%5C`
    #[error("the path has a backslash, which some servers take for a slash")]
    Backslash,
    /// `;` or `%3B`
    #[error("the path has a semicolon: some servers drop what follows it in the segment")]
    Parameter,
    /// `%3F` or `%23`
    #[error("the path has an encoded `?` or `#`, at which some servers end it")]
    EncodedDelimiter,
    /// `%00` to `%1F`, `%7F`
    #[error("the path has an encoded control character")]
    Control,
    /// `%25` in front of what is an escape after decoding
    #[error("the path is encoded twice, and some servers decode it twice")]
    Twice,
    /// `%` without two hexadecimal digits
    #[error("the path has a `%` that two hexadecimal digits do not follow")]
    Malformed,
    /// Overlong sequences, Latin-1, ...
    #[error("the escapes of the path are not UTF-8")]
    NotUtf8,
    /// Fullwidth slash, backslash or dot
    #[error("the path has a Unicode character that some servers turn into a slash, backslash or dot")]
    Lookalike,
    /// `%20` next to a slash or at the end
    #[error("a segment of the path begins or ends with a blank, which some servers drop")]
    Blank,
    /// `//` in front of `..`
    #[error("the path has `//` in front of `..`: servers differ in which segment that removes")]
    EmptySegment,
}

/// The normal form of `path`, which begins with `/` and has no query; `None`: it is `path` itself.
///
/// # Errors
/// [`Unclear`], for [`PathUse::Access`] alone.
pub fn path(path: &str, used: PathUse) -> Result<Option<String>, Unclear> {
    if used == PathUse::Forward || is_plain(path.as_bytes()) || !path.starts_with('/') {
        return Ok(None);
    }
    let text = escapes(path, used)?;
    if used == PathUse::Access {
        check(&text)?;
    }
    let normal = segments(&text, used)?;
    Ok((normal != path).then_some(normal))
}

/// The normal form of `HOST[:PORT]`: lower case, without dots at the end of the host and the colon of an empty port.
/// `None`: it is `authority` itself.
#[must_use]
pub fn authority(authority: &str) -> Option<String> {
    let (host, port) = super::split_authority(authority);
    let host = if host.ends_with('.') { host.trim_end_matches('.') } else { host };
    let port = port.unwrap_or_default();
    let same = host.len() + port.len() == authority.len();
    if host.is_empty() || (same && !has_upper(authority.as_bytes())) {
        return None;
    }
    Some([host, port].concat().to_ascii_lowercase())
}

/// True if one of these bytes is an upper-case letter of ASCII.
fn has_upper(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The top bit of each byte: from `A` on, not beyond `Z`, and ASCII.
    let upper = |word: u64| {
        let low = word & (ONES * 0x7f);
        let tops = (low + ONES * (0x80 - u64::from(b'A'))) & !(low + ONES * (0x7f - u64::from(b'Z'))) & !word;
        tops & (ONES * 0x80) != 0
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let tail = match bytes.last_chunk::<8>() {
        // It overlaps the words before it.
        Some(last) => upper(u64::from_le_bytes(*last)),
        None => rest.iter().any(u8::is_ascii_uppercase),
    };
    tail || words.iter().any(|word| upper(u64::from_le_bytes(*word)))
}

/// True if `path` is in normal form without a closer look: no escape, parameter or backslash, and no slash that another
/// one or a dot follows.
#[inline]
#[must_use]
pub fn is_plain(path: &[u8]) -> bool {
    if let Some(last) = path.last_chunk::<STEP>() {
        // The last step overlaps the one before it, and its last byte stands before none.
        let (mut odd, mut at) = (odd_in(last) | (CLASS[usize::from(last[STEP - 1])] & ODD != 0), 0);
        while let Some(step) = path.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
            odd |= odd_in(step);
            at += STEP - 1;
        }
        return !odd;
    }
    is_plain_by_byte(path)
}

/// Bytes that are looked at together, and the one behind them.
const STEP: usize = 17;

/// True if something in `step` is not plain; of the last byte it is only looked at what is behind a slash. Instructions for
/// 16 bytes at once are what the compiler makes of it: half of the cost of a look at each byte.
#[inline]
fn odd_in(step: &[u8; STEP]) -> bool {
    let mut odd = [0_u8; STEP - 1];
    for (i, odd) in odd.iter_mut().enumerate() {
        let (byte, next) = (step[i], step[i + 1]);
        let class = (byte == b'%') | (byte == b';') | (byte == b'\\') | (byte == b'?') | (byte == b'#');
        let beyond = (byte <= b' ') | (byte >= 0x7f);
        let slash = (byte == b'/') & ((next == b'/') | (next == b'.'));
        *odd = u8::from(class | beyond | slash);
    }
    u128::from_le_bytes(odd) != 0
}

#[inline]
fn is_plain_by_byte(path: &[u8]) -> bool {
    let (mut odd, mut wanted) = (0, ODD);
    for byte in path {
        let class = CLASS[usize::from(*byte)];
        odd |= class & wanted;
        // Behind a slash, slashes and dots are odd, too.
        wanted = ODD | class >> 2;
    }
    odd == 0
}

/// Never plain.
const ODD: u8 = 1;
/// Not plain behind a slash.
const AFTER_SLASH: u8 = 2;
/// The slash: two places above what it makes odd, where no other class has a bit.
const SLASH: u8 = AFTER_SLASH << 2;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'/' => AFTER_SLASH | SLASH,
            b'.' => AFTER_SLASH,
            b'%' | b';' | b'\\' | b'?' | b'#' | 0..=b' ' | 0x7f.. => ODD,
            _ => 0,
        };
        b += 1;
    }
    table
};

/// True if `byte` would make an escape of a `%` that is none: `%6` and `%44` are not `%6D`.
fn completes(out: &str, byte: u8) -> bool {
    let open = matches!(out.as_bytes(), [.., b'%'] | [.., b'%', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F']);
    open && byte.is_ascii_hexdigit()
}

/// Decodes what is unreserved, and writes the other escapes in upper case.
fn escapes(path: &str, used: PathUse) -> Result<String, Unclear> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let strict = used == PathUse::Access;
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let escaped = rest.as_bytes().get(..3).and_then(|three| match unescape(three).next() {
            Some((byte, true)) => Some(byte),
            _ => None,
        });
        match escaped {
            None if strict && c == '%' => return Err(Unclear::Malformed),
            None => {
                if strict && let Some(unclear) = plain_unclear(c) {
                    return Err(unclear);
                }
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            Some(byte) if is_unreserved(byte) && !completes(&out, byte) => out.push(char::from(byte)),
            Some(byte) => {
                if strict && let Some(unclear) = escaped_unclear(byte) {
                    return Err(unclear);
                }
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
        rest = &rest[3..];
    }
    Ok(out)
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn plain_unclear(c: char) -> Option<Unclear> {
    match c {
        '\\' => Some(Unclear::Backslash),
        ';' => Some(Unclear::Parameter),
        '?' | '#' => Some(Unclear::EncodedDelimiter),
        c if c.is_ascii_control() => Some(Unclear::Control),
        _ => None,
    }
}

fn escaped_unclear(byte: u8) -> Option<Unclear> {
    if byte == b'/' { Some(Unclear::EncodedSlash) } else { plain_unclear(char::from(byte)) }
}

/// What only shows once every escape of an unreserved character is decoded.
fn check(text: &str) -> Result<(), Unclear> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices("%25") {
        let behind = &bytes[at + 3..];
        let hex =
            |n: usize, from: usize| behind.get(from..from + n).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
        if hex(2, 0) || (matches!(behind.first(), Some(b'u' | b'U')) && hex(4, 1)) {
            return Err(Unclear::Twice);
        }
    }
    if text.contains("/%20") || text.contains("%20/") || text.ends_with("%20") {
        return Err(Unclear::Blank);
    }
    let decoded: Vec<u8> = unescape(bytes).map(|(byte, _)| byte).collect();
    let decoded = String::from_utf8(decoded).map_err(|_| Unclear::NotUtf8)?;
    // Compatibility forms (NFKC, best-fit mappings): FULLWIDTH SOLIDUS, REVERSE SOLIDUS, FULL STOP; ONE and TWO DOT LEADER.
    let alike = |c: char| matches!(c, '\u{ff0f}' | '\u{ff3c}' | '\u{ff0e}' | '\u{2024}' | '\u{2025}');
    if decoded.contains(alike) { Err(Unclear::Lookalike) } else { Ok(()) }
}

/// Removes dot segments (RFC 3986 5.2.4), and for access rules empty segments.
fn segments(text: &str, used: PathUse) -> Result<String, Unclear> {
    let merge = used == PathUse::Access;
    let mut kept: Vec<&str> = Vec::new();
    let mut empty = false;
    // `text` begins with the slash in front of its first segment.
    let mut all = text.split('/').skip(1).peekable();
    while let Some(segment) = all.next() {
        let last = all.peek().is_none();
        match segment {
            ".." if merge && empty => return Err(Unclear::EmptySegment),
            ".." => drop(kept.pop()),
            "." => {}
            "" if merge && !last => {
                empty = true;
                continue;
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    let mut kept = &*kept;
    // What began with one slash must not come to begin with two: they would introduce a host (RFC 3986 4.2).
    while !text.starts_with("//") && kept.len() > 1 && kept[0].is_empty() {
        kept = &kept[1..];
    }
    let mut out = String::with_capacity(text.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}
