//! The heads of messages as policy sees them, whichever codec read them.
//!
//! `Host` and `:authority` are one thing here, [`RequestHead::authority`], and no `host` field is kept
//! beside it, so that what is routed on is what is forwarded. Heads are reused from message to message.

use std::borrow::Cow;

use http::Method;
use outrigger_config::matching::{RequestView, names_alike};

use super::headers::{Headers, Known};

/// Version of a message as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As `network.protocol.version` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// `http` or `https`: how the client reached the first proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Plaintext.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// In lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// Case-sensitive, as it came.
    pub method: Method,
    /// How it came.
    pub scheme: Scheme,
    /// As it came.
    pub version: Version,
    /// `HOST[:PORT]` in visible ASCII, from the absolute target, `:authority` or `Host`; may be empty.
    pub authority: String,
    /// Path and query in visible ASCII; starts with `/`, or is `*`, or empty (CONNECT).
    pub target: String,
    /// Without `Host`.
    pub headers: Headers,
}

impl RequestHead {
    /// Ready for the next message.
    pub fn clear(&mut self) {
        self.authority.clear();
        self.target.clear();
        self.headers.clear();
    }

    /// Forgets the message, and gives back what a part of it took beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        self.clear();
        self.headers.shrink(bytes);
        for text in [&mut self.authority, &mut self.target] {
            if text.capacity() > bytes {
                *text = String::new();
            }
        }
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        memchr::memchr(b'?', self.target.as_bytes()).map_or(&*self.target, |end| &self.target[..end])
    }

    /// What follows the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The authority without its port and without a trailing dot; the case is kept.
    #[must_use]
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// True for `application/grpc`, `application/grpc+proto`, ...; not for `application/grpc-web`.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.headers.get_known(Known::ContentType).is_some_and(is_grpc_type)
    }
}

/// The head of a response.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// As it came; [`Version::Http11`] for answers of the proxy itself.
    pub version: Version,
    /// Reason phrase of HTTP/1, kept because old clients show it. Empty: the standard one is written.
    pub reason: Vec<u8>,
    /// All fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// Ready for the next message.
    pub fn clear(&mut self) {
        self.reason.clear();
        self.headers.clear();
    }

    /// Forgets the message, and gives back what a part of it took beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        self.clear();
        self.headers.shrink(bytes);
        if self.reason.capacity() > bytes {
            self.reason = Vec::new();
        }
    }
}

/// True if `value` is a gRPC content type.
#[must_use]
pub fn is_grpc_type(value: &[u8]) -> bool {
    const PREFIX: &[u8] = b"application/grpc";
    value.len() >= PREFIX.len()
        && value[..PREFIX.len()].eq_ignore_ascii_case(PREFIX)
        && value.get(PREFIX.len()).is_none_or(|b| matches!(b, b'+' | b';' | b' '))
}

/// The host of `authority`: no port, no trailing dot, brackets of IPv6 kept.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

impl RequestView for RequestHead {
    fn method(&self) -> &Method {
        &self.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        Self::path(self)
    }

    fn query(&self) -> Option<&str> {
        Self::query(self)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.headers.all(name.as_bytes());
        let first = values.next();
        let Some(second) = values.next() else {
            // Routes may match on `host`, which is the authority here.
            return first
                .map(Cow::Borrowed)
                .or_else(|| (name == "host").then_some(Cow::Borrowed(self.authority.as_bytes())));
        };
        let mut joined = first.unwrap_or_default().to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(_, field, value)| names_alike(field, name.as_bytes()) && holds(value))
    }

    fn is_grpc(&self) -> bool {
        Self::is_grpc(self)
    }
}
