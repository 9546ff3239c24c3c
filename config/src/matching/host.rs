//! Host names: cutting an authority in two, wildcards, and the table of a listener. Case never matters.
//!
//! Keys are lower-case already, so only the request's side is folded, byte by byte while comparing:
//! nothing is copied.

use std::cmp::Ordering;

use crate::model::{HostTable, UpstreamId};

impl HostTable {
    /// The upstream of `authority` (`HOST[:PORT]`, as it came).
    ///
    /// Exact names beat wildcards, among wildcards the longest wins, and among keys of one kind that with
    /// the request's port beats the bare one. A request without a port has a key with port 80, too (RFC 9110 4.2.1). A trailing dot
    /// of the host is ignored.
    #[must_use]
    pub fn find(&self, authority: &str) -> Option<UpstreamId> {
        let (host, port) = split_authority(authority);
        if host.is_empty() {
            return None;
        }
        port.and_then(|port| self.exact(host, port))
            .or_else(|| self.exact(host, ""))
            .or_else(|| if port.is_none() { self.exact(host, ":80") } else { None })
            .or_else(|| port.and_then(|port| self.wildcard(host, port)))
            .or_else(|| self.wildcard(host, ""))
    }

    fn exact(&self, host: &str, port: &str) -> Option<UpstreamId> {
        let found = self.exact.binary_search_by(|(key, _)| compare(key, host, port)).ok()?;
        self.exact.get(found).map(|(_, id)| *id)
    }

    fn wildcard(&self, host: &str, port: &str) -> Option<UpstreamId> {
        let holds = |key: &str| key.strip_suffix(port).is_some_and(|suffix| under(suffix, host));
        self.wildcard.iter().find(|(key, _)| holds(key)).map(|(_, id)| *id)
    }
}

/// True if `host` is `pattern`, or under it where that is `*.suffix` (one label or more for the star).
///
/// `pattern` is lower-case; `host` in any case, without port and trailing dot.
#[must_use]
pub fn hostname_holds(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => under(suffix, host),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// The host of `authority`: no port, no trailing dot, brackets of IPv6 kept.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    split_authority(authority).0
}

/// Host (no trailing dot, brackets of IPv6 kept) and port with its colon, if there is a port.
#[must_use]
pub fn split_authority(authority: &str) -> (&str, Option<&str>) {
    let bytes = authority.as_bytes();
    // A colon behind the brackets of an address: those inside come before the closing one.
    let last = bytes.iter().rposition(|b| matches!(b, b':' | b']'));
    let (host, port) = match last {
        Some(colon) if bytes[colon] == b':' => authority.split_at(colon),
        _ => (authority, ""),
    };
    (host.strip_suffix('.').unwrap_or(host), (port.len() > 1).then_some(port))
}

/// True if `host` ends in `suffix` (`.example.org`) and has something in front of it.
fn under(suffix: &str, host: &str) -> bool {
    let (suffix, host) = (suffix.as_bytes(), host.as_bytes());
    suffix.first() == Some(&b'.')
        && host.len() > suffix.len()
        && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// Orders `key` (lower case) against `host` and `port` written one after the other.
fn compare(key: &str, host: &str, port: &str) -> Ordering {
    let (key, host) = (key.as_bytes(), host.as_bytes());
    let (front, back) = key.split_at(key.len().min(host.len()));
    fold(front, host).then_with(|| fold(back, port.as_bytes()))
}

/// Byte order of `key` and the lower-cased `text`.
fn fold(key: &[u8], text: &[u8]) -> Ordering {
    key.iter().copied().cmp(text.iter().map(u8::to_ascii_lowercase))
}
