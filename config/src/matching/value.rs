//! Conditions on header fields and query parameters.
//!
//! Query parameters are decoded before they are compared, names too: `%XX` becomes its byte and `+` a
//! blank, as in forms. Only the first parameter of a name counts. A `%` that no two hex digits follow
//! stands for itself.

use std::borrow::Cow;

use crate::{
    matching::RequestView,
    model::{StringMatch, ValueMatch},
};

impl StringMatch {
    /// True if `value` fulfils the condition.
    #[must_use]
    pub fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(pattern) => pattern.regex.is_match(value),
        }
    }

    /// [`StringMatch::holds`] for the decoded `raw`.
    fn holds_decoded(&self, raw: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.bytes().eq(decode(raw)),
            Self::Regex(pattern) => pattern.regex.is_match(&decoded(raw)),
        }
    }
}

impl ValueMatch {
    /// True if the request has this header, and its value (several joined by a comma) fulfils the condition.
    #[must_use]
    pub fn header_holds(&self, request: &impl RequestView) -> bool {
        request.header(&self.name).is_some_and(|value| self.value.holds(&value))
    }

    /// True if `query` has this parameter, and the first of that name fulfils the condition.
    #[must_use]
    pub fn query_holds(&self, query: &str) -> bool {
        query
            .as_bytes()
            .split(|b| *b == b'&')
            .map(|pair| match pair.iter().position(|b| *b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            })
            .find(|(name, _)| self.name.bytes().eq(decode(name)))
            .is_some_and(|(_, value)| self.value.holds_decoded(value))
    }
}

/// Regular expressions need the bytes in one piece; they are copied only if there is something to decode.
fn decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.iter().any(|b| matches!(b, b'%' | b'+')) { decode(raw).collect() } else { Cow::Borrowed(raw) }
}

/// The bytes that `raw` stands for in a form.
fn decode(raw: &[u8]) -> impl Iterator<Item = u8> {
    unescape(raw).map(|(byte, escaped)| if byte == b'+' && !escaped { b' ' } else { byte })
}

/// Bytes of `raw` with `%XX` resolved, and whether each was written so.
pub(crate) fn unescape(mut raw: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    std::iter::from_fn(move || {
        let (&first, rest) = raw.split_first()?;
        if first == b'%'
            && let [high, low, rest @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            raw = rest;
            return Some((high << 4 | low, true));
        }
        raw = rest;
        Some((first, false))
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
