//! What a server says about trying again: `Retry-After` (RFC 9110 section 10.2.3) and
//! `grpc-retry-pushback-ms` (gRFC A6).

use std::time::{Duration, SystemTime};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hint {
    /// Nothing.
    #[default]
    None,
    /// Not before this time is over.
    AtLeast(Duration),
    /// When this time is over.
    Exactly(Duration),
    /// Not at all.
    Never,
}

impl Hint {
    /// Of a `Retry-After`: seconds, or a date compared with `wall`. One that does not parse says nothing.
    #[must_use]
    pub fn retry_after(value: &[u8], wall: SystemTime) -> Self {
        let Ok(text) = std::str::from_utf8(value.trim_ascii()) else { return Self::None };
        if let Some(seconds) = digits(text) {
            return Self::AtLeast(Duration::from_secs(seconds));
        }
        httpdate::parse_http_date(text)
            .map_or(Self::None, |date| Self::AtLeast(date.duration_since(wall).unwrap_or_default()))
    }

    /// Of a `grpc-retry-pushback-ms`: one that is negative or does not parse forbids (gRFC A6).
    #[must_use]
    pub fn pushback(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).ok();
        text.and_then(digits).map_or(Self::Never, |ms| Self::Exactly(Duration::from_millis(ms)))
    }
}

/// A decimal number of at most 18 digits; more are a time that nobody waits for.
fn digits(text: &str) -> Option<u64> {
    let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| text.parse().unwrap_or(u64::MAX))
}
