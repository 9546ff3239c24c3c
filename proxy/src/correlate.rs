//! Correlation: the one identifier that ties the requests, log lines, spans and errors of a call together.
//!
//! Of the configured headers, in their order, the first whose value is valid is kept if the peer is
//! trusted; otherwise a UUIDv7 (RFC 9562 5.7) is made: it sorts by time, which is what one wants of an
//! identifier in logs. All configured headers are then set to it on the request, so that an app may read
//! whichever it knows, and they can never disagree. Of a field that came twice only the first is looked at.
//!
//! Valid is 1 to 128 bytes of `[A-Za-z0-9._:/+=-]`: nothing that could break a log line, a JSON string or
//! a header, and long enough for every scheme in use.

use std::{fmt, sync::Arc};

use crate::{
    http::{Headers, Known, headers::KnownSet},
    trace_context::hex,
};

#[cfg(test)]
mod tests;

/// Length of the identifiers that are made here.
const UUID: usize = 36;
/// Longest identifier that is kept.
const MAX: usize = 128;

/// An identifier, inline: it is copied into log lines, spans and answers without allocation.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; MAX],
    len: u8,
}

/// Where an identifier came from; the label `source` of `correlation_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A trusted peer sent it.
    Kept,
    /// It was made here.
    Generated,
}

/// The configured headers, classified once.
#[derive(Debug, Clone)]
pub struct Correlator {
    names: Vec<(Known, Arc<str>)>,
    /// Lines of all headers with room for a UUID in each, where all of them have known names, each its own; else empty.
    lines: Vec<u8>,
    known: KnownSet,
}

impl Correlator {
    /// For the headers `names`, the most trusted first.
    #[must_use]
    pub fn new(names: &[Arc<str>]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (Known::of(name.as_bytes()), name.clone())).collect();
        let mut lines = Vec::new();
        let once = |known: &Known| names.iter().filter(|(k, _)| k == known).count() == 1;
        if names.iter().all(|(known, _)| *known != Known::Other && once(known)) {
            for (known, _) in &names {
                lines.extend_from_slice(known.as_str().as_bytes());
                lines.extend_from_slice(b": ");
                lines.extend_from_slice(&[b' '; UUID]);
                lines.extend_from_slice(b"\r\n");
            }
        }
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        Self { names, lines, known: KnownSet::of(&known) }
    }

    /// Finds or makes the identifier of a request in `id`, and sets all headers to it.
    pub fn apply(
        &self,
        headers: &mut Headers,
        trusted: bool,
        unix_millis: u64,
        rng: &mut fastrand::Rng,
        id: &mut RequestId,
    ) -> Source {
        // A search that most requests need not make.
        let kept = if trusted && headers.names().meets(self.known) { self.find(headers) } else { None };
        let source = match kept {
            Some(kept) => {
                *id = kept;
                Source::Kept
            }
            None => {
                id.make(unix_millis, rng);
                Source::Generated
            }
        };
        self.set(headers, id);
        source
    }

    /// Echoes the identifier on a response, whatever the app has put there.
    pub fn set(&self, headers: &mut Headers, id: &RequestId) {
        if let (Ok(id), false, false) =
            (id.as_bytes().try_into(), self.lines.is_empty(), headers.names().meets(self.known))
        {
            return self.append(headers, id);
        }
        for (known, name) in &self.names {
            match known {
                Known::Other => headers.set(name.as_bytes(), id.as_bytes()),
                known => headers.set_known(*known, id.as_bytes()),
            }
        }
    }

    /// All headers at once: one copy of their lines instead of five pieces for each.
    fn append(&self, headers: &mut Headers, id: &[u8; UUID]) {
        let mut at = headers.adopt(&self.lines);
        for (known, _) in &self.names {
            let name = known.as_str().len();
            let value = at + name + 2;
            headers.write_at(value, id);
            headers.push_at(*known, (at, name), (value, UUID), true);
            at = value + UUID + 2;
        }
    }

    /// The first valid identifier in `headers`, trusted or not.
    #[must_use]
    pub fn find(&self, headers: &Headers) -> Option<RequestId> {
        self.names.iter().find_map(|(known, name)| {
            let value = match known {
                Known::Other => headers.get(name.as_bytes()),
                known => headers.get_known(*known),
            };
            RequestId::parse(value?)
        })
    }
}

impl RequestId {
    /// Of a request that has none yet.
    pub const EMPTY: Self = Self { bytes: [0; MAX], len: 0 };

    /// A valid identifier.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'+' | b'=' | b'-');
        if value.is_empty() || value.len() > MAX || !value.iter().all(valid) {
            return None;
        }
        Some(Self::copy(value))
    }

    /// A UUIDv7: 48 bits of Unix time in milliseconds, 74 random bits, version and variant.
    #[must_use]
    pub fn generate(unix_millis: u64, rng: &mut fastrand::Rng) -> Self {
        let mut id = Self::EMPTY;
        id.make(unix_millis, rng);
        id
    }

    /// The same in place: it is large to be moved.
    fn make(&mut self, unix_millis: u64, rng: &mut fastrand::Rng) {
        let random = rng.u128(..);
        let time = u128::from(unix_millis & 0xffff_ffff_ffff) << 80;
        let rand_a = (random >> 64 & 0x0fff) << 64;
        let rand_b = random & 0x3fff_ffff_ffff_ffff;
        self.write(time | 0x7 << 76 | rand_a | 0x2 << 62 | rand_b);
    }

    /// The identifier.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn write(&mut self, value: u128) {
        /// Where the two digits of each byte stand; hyphens are between.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let mut bytes = [b'-'; UUID];
        for (byte, at) in value.to_be_bytes().into_iter().zip(PLACES) {
            [bytes[at], bytes[at + 1]] = hex::PAIRS[usize::from(byte)];
        }
        self.bytes[..UUID].copy_from_slice(&bytes);
        self.len = UUID as u8;
    }

    /// `value` has at most [`MAX`] bytes; more are cut off.
    fn copy(value: &[u8]) -> Self {
        let len = value.len().min(MAX);
        let mut bytes = [0; MAX];
        bytes[..len].copy_from_slice(&value[..len]);
        Self { bytes, len: u8::try_from(len).unwrap_or(0) }
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RequestId {}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
