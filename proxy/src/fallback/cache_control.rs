//! The directives of `Cache-Control` (RFC 9111 5.2) that decide on keeping an answer.
//!
//! Read to be strict: a directive with an argument where none is needed (`private="x"`) counts without it,
//! an unreadable number is zero (RFC 9111 4.2.1: stale), of two the smaller holds.

use std::time::Duration;

use crate::http::{Headers, Known};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CacheControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage`: not to be used once stale.
    pub(super) revalidate: bool,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
}

impl CacheControl {
    pub(super) fn of(headers: &Headers) -> Self {
        let mut found = Self::default();
        for value in headers.all_known(Known::CacheControl) {
            directives(value).for_each(|directive| found.take(directive));
        }
        found
    }

    /// How long the answer is fresh by its own words.
    pub(super) fn fresh_for(&self) -> Duration {
        Duration::from_secs(self.s_maxage.or(self.max_age).unwrap_or(0))
    }

    fn take(&mut self, directive: &[u8]) {
        let (name, argument) = match directive.iter().position(|b| *b == b'=') {
            Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            None => (directive, None),
        };
        let is = |word: &str| name.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.revalidate = true;
        } else if is("max-age") {
            self.max_age = Some(smaller(self.max_age, seconds(argument)));
        } else if is("s-maxage") {
            self.revalidate = true;
            self.s_maxage = Some(smaller(self.s_maxage, seconds(argument)));
        }
    }
}

fn smaller(old: Option<u64>, new: u64) -> u64 {
    old.map_or(new, |old| old.min(new))
}

/// delta-seconds, in quotes or not.
pub(super) fn seconds(argument: Option<&[u8]>) -> u64 {
    let Some(text) = argument else { return 0 };
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text);
    if text.is_empty() || text.len() > 10 {
        // RFC 9111 1.2.2: what is too large is 2^31, or as good as that.
        return if !text.is_empty() && text.iter().all(u8::is_ascii_digit) { 1 << 31 } else { 0 };
    }
    text.iter().try_fold(0_u64, |number, b| b.is_ascii_digit().then(|| number * 10 + u64::from(b - b'0'))).unwrap_or(0)
}

/// The members of a list; a comma in quotes parts nothing.
fn directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |b| {
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' => return !quoted,
                _ => {}
            }
            false
        })
        .map(<[u8]>::trim_ascii)
}
