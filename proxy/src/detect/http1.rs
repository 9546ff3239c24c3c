//! The beginning of a request line.
//!
//! Any upper-case method counts, since WebDAV and others add their own; what tells HTTP from other line
//! protocols is the target after it: `/`, `http://`, `https://`, `* HTTP/`, and for CONNECT a host. Methods
//! in lower case are opaque: no client sends them, and memcached's `get /key` looks just so.

use super::Detected;

/// As the codec has it; a longer token is not HTTP.
pub(super) const MAX_METHOD: usize = 32;

/// Bytes of empty lines before a request line; what has more is refused by the codec as well.
pub(super) const MAX_EMPTY: usize = 8;

/// What `prefix` is, if it is not HTTP/2 or TLS.
pub(super) fn detect(prefix: &[u8]) -> Option<Detected> {
    // One empty line may come first (RFC 9112 2.2). Servers skip more of them, and bare line feeds: what follows
    // is HTTP to them, so it is to us, and the codec refuses it.
    let empty = prefix.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if empty > MAX_EMPTY {
        return Some(Detected::Http1);
    }
    let line = &prefix[empty..];
    let length = line.iter().take_while(|b| is_method(**b)).count();
    let (method, rest) = line.split_at(length);
    match rest {
        _ if length > MAX_METHOD => Some(Detected::Opaque),
        [] => None,
        [b' ', target @ ..] if length > 0 => of_target(method, target),
        _ => Some(Detected::Opaque),
    }
}

fn is_method(b: u8) -> bool {
    matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_')
}

fn of_target(method: &[u8], target: &[u8]) -> Option<Detected> {
    match target {
        [] => None,
        [b'/', ..] => Some(Detected::Http1),
        [b'[' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] if method == b"CONNECT" => Some(Detected::Http1),
        _ => [&b"http://"[..], b"https://", b"* HTTP/"]
            .into_iter()
            .map(|form| starts(target, form))
            .find(|found| *found != Some(Detected::Opaque))
            .unwrap_or(Some(Detected::Opaque)),
    }
}

/// HTTP/1 if `target` starts with `form`, in any case; `None` if it has not come so far.
fn starts(target: &[u8], form: &[u8]) -> Option<Detected> {
    let compared = target.len().min(form.len());
    if !target[..compared].eq_ignore_ascii_case(&form[..compared]) {
        return Some(Detected::Opaque);
    }
    (compared == form.len()).then_some(Detected::Http1)
}
