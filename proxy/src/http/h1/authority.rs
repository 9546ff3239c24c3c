//! `HOST[:PORT]`, checked byte by byte, because it is routed on and forwarded.

use std::net::Ipv6Addr;

/// The authority as text if it is a host (RFC 3986 3.2.2) with an optional port, and nothing else: no user
/// information, no comma, no blank. Used for `Host`, targets and `:authority`.
#[must_use]
pub fn valid_authority(bytes: &[u8]) -> Option<&str> {
    let end = match bytes.first()? {
        b'[' => bracketed_end(bytes)?,
        _ => name_end(bytes)?,
    };
    let rest = bytes.get(end..)?;
    if !rest.is_empty() && !valid_port(rest.strip_prefix(b":")?) {
        return None;
    }
    Some(ascii(bytes))
}

/// Text of which every byte was seen to be ASCII: looking again costs 240 instructions of a request, 1.2 % of all.
#[allow(unsafe_code, reason = "the bytes were looked at already, one by one")]
pub(super) fn ascii(bytes: &[u8]) -> &str {
    debug_assert!(bytes.is_ascii());
    // SAFETY: ASCII is UTF-8. `valid_authority` lets only bytes of `NAME`, digits, a colon and the text of an `Ipv6Addr`
    // in brackets through, `canonical::request_line` only visible ASCII; there is no other caller.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

/// True if `authority`, which is valid, names a port.
pub(super) fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'))
}

/// Where a registered name or an IPv4 address ends.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut escapes = false;
    let mut end = 0;
    while let Some(&b) = bytes.get(end) {
        let class = NAME[usize::from(b)];
        if class != Class::Plain {
            match class {
                Class::Colon => break,
                Class::Bad => return None,
                Class::Escape | Class::Plain => escapes = true,
            }
        }
        end += 1;
    }
    (end > 0 && (!escapes || valid_escapes(bytes.get(..end)?))).then_some(end)
}

fn valid_escapes(name: &[u8]) -> bool {
    name.split(|b| *b == b'%').skip(1).all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit))
}

/// Where an IPv6 literal ends. Zones (RFC 6874) mean nothing beyond one machine and are refused.
fn bracketed_end(bytes: &[u8]) -> Option<usize> {
    let close = bytes.iter().position(|b| *b == b']')?;
    let inner = std::str::from_utf8(bytes.get(1..close)?).ok()?;
    inner.parse::<Ipv6Addr>().ok()?;
    Some(close + 1)
}

/// Digits of a port; none at all is allowed (RFC 3986 3.2.3).
fn valid_port(digits: &[u8]) -> bool {
    let mut port = 0_u32;
    digits.len() <= 5
        && digits.iter().all(|d| {
            port = port * 10 + u32::from(d.wrapping_sub(b'0'));
            d.is_ascii_digit()
        })
        && port <= 65_535
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Bad,
    Plain,
    Escape,
    Colon,
}

/// Unreserved and sub-delims of RFC 3986, but for the comma: two hosts joined in one field look like one.
static NAME: [Class; 256] = {
    let mut table = [Class::Bad; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = match b as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => Class::Plain,
            b'%' => Class::Escape,
            b':' => Class::Colon,
            _ => Class::Bad,
        };
        b += 1;
    }
    table
};
