//! The header fields of one message: ordered, case kept, in one reusable arena.
//!
//! Names and values are spans into one byte vector, so that parsing a head allocates nothing once the
//! vectors have grown, an edit is an append, and writing a head is one pass in the order in which it
//! came. `http::HeaderMap` would hash and lower-case every name, and lose the case that old HTTP/1 apps
//! depend on. Names that the proxy itself looks at are classified once, when they are put in
//! ([`Known`]); a look-up of one of those is a scan over bytes of an enum, never over strings.
//!
//! Invariants: every name is a token (RFC 9110 5.6.2), every value is free of CR, LF and NUL and of
//! leading and trailing blanks. Who puts a field in (the codecs, the policy model) has checked that.

mod classify;
mod write;

use std::fmt;

pub(super) use write::write_line;

/// Names that the proxy itself looks at, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Any name that is not one of those below.
    Other,
    /// `accept`
    Accept,
    /// `authorization`
    Authorization,
    /// `b3`
    B3,
    /// `cache-control`
    CacheControl,
    /// `connection`
    Connection,
    /// `content-length`
    ContentLength,
    /// `content-type`
    ContentType,
    /// `cookie`
    Cookie,
    /// `date`
    Date,
    /// `expect`
    Expect,
    /// `forwarded`
    Forwarded,
    /// `grpc-message`
    GrpcMessage,
    /// `grpc-retry-pushback-ms`
    GrpcRetryPushbackMs,
    /// `grpc-status`
    GrpcStatus,
    /// `grpc-timeout`
    GrpcTimeout,
    /// `host`
    Host,
    /// `http2-settings`
    Http2Settings,
    /// `idempotency-key`
    IdempotencyKey,
    /// `keep-alive`
    KeepAlive,
    /// `location`
    Location,
    /// `max-forwards`
    MaxForwards,
    /// `proxy-authenticate`
    ProxyAuthenticate,
    /// `proxy-authorization`
    ProxyAuthorization,
    /// `proxy-connection`
    ProxyConnection,
    /// `proxy-status`
    ProxyStatus,
    /// `retry-after`
    RetryAfter,
    /// `server`
    Server,
    /// `set-cookie`
    SetCookie,
    /// `te`
    Te,
    /// `traceparent`
    Traceparent,
    /// `tracestate`
    Tracestate,
    /// `trailer`
    Trailer,
    /// `transfer-encoding`
    TransferEncoding,
    /// `upgrade`
    Upgrade,
    /// `user-agent`
    UserAgent,
    /// `via`
    Via,
    /// `x-b3-flags`
    XB3Flags,
    /// `x-b3-parentspanid`
    XB3ParentSpanId,
    /// `x-b3-sampled`
    XB3Sampled,
    /// `x-b3-spanid`
    XB3SpanId,
    /// `x-b3-traceid`
    XB3TraceId,
    /// `x-correlation-id`
    XCorrelationId,
    /// `x-forwarded-client-cert`
    XForwardedClientCert,
    /// `x-forwarded-for`
    XForwardedFor,
    /// `x-forwarded-host`
    XForwardedHost,
    /// `x-forwarded-proto`
    XForwardedProto,
    /// `x-outrigger-attempt`
    XOutriggerAttempt,
    /// `x-outrigger-degraded`
    XOutriggerDegraded,
    /// `x-outrigger-hops`
    XOutriggerHops,
    /// `x-outrigger-timeout-ms`
    XOutriggerTimeoutMs,
    /// `x-request-id`
    XRequestId,
}

impl Known {
    /// Every known name.
    pub const ALL: [Self; 51] = [
        Self::Accept,
        Self::Authorization,
        Self::B3,
        Self::CacheControl,
        Self::Connection,
        Self::ContentLength,
        Self::ContentType,
        Self::Cookie,
        Self::Date,
        Self::Expect,
        Self::Forwarded,
        Self::GrpcMessage,
        Self::GrpcRetryPushbackMs,
        Self::GrpcStatus,
        Self::GrpcTimeout,
        Self::Host,
        Self::Http2Settings,
        Self::IdempotencyKey,
        Self::KeepAlive,
        Self::Location,
        Self::MaxForwards,
        Self::ProxyAuthenticate,
        Self::ProxyAuthorization,
        Self::ProxyConnection,
        Self::ProxyStatus,
        Self::RetryAfter,
        Self::Server,
        Self::SetCookie,
        Self::Te,
        Self::Traceparent,
        Self::Tracestate,
        Self::Trailer,
        Self::TransferEncoding,
        Self::Upgrade,
        Self::UserAgent,
        Self::Via,
        Self::XB3Flags,
        Self::XB3ParentSpanId,
        Self::XB3Sampled,
        Self::XB3SpanId,
        Self::XB3TraceId,
        Self::XCorrelationId,
        Self::XForwardedClientCert,
        Self::XForwardedFor,
        Self::XForwardedHost,
        Self::XForwardedProto,
        Self::XOutriggerAttempt,
        Self::XOutriggerDegraded,
        Self::XOutriggerHops,
        Self::XOutriggerTimeoutMs,
        Self::XRequestId,
    ];

    /// Classifies `name`, a token, whatever its case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        classify::classify(name)
    }

    /// The name in lower case; empty for [`Known::Other`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "",
            Self::Accept => "accept",
            Self::Authorization => "authorization",
            Self::B3 => "b3",
            Self::CacheControl => "cache-control",
            Self::Connection => "connection",
            Self::ContentLength => "content-length",
            Self::ContentType => "content-type",
            Self::Cookie => "cookie",
            Self::Date => "date",
            Self::Expect => "expect",
            Self::Forwarded => "forwarded",
            Self::GrpcMessage => "grpc-message",
            Self::GrpcRetryPushbackMs => "grpc-retry-pushback-ms",
            Self::GrpcStatus => "grpc-status",
            Self::GrpcTimeout => "grpc-timeout",
            Self::Host => "host",
            Self::Http2Settings => "http2-settings",
            Self::IdempotencyKey => "idempotency-key",
            Self::KeepAlive => "keep-alive",
            Self::Location => "location",
            Self::MaxForwards => "max-forwards",
            Self::ProxyAuthenticate => "proxy-authenticate",
            Self::ProxyAuthorization => "proxy-authorization",
            Self::ProxyConnection => "proxy-connection",
            Self::ProxyStatus => "proxy-status",
            Self::RetryAfter => "retry-after",
            Self::Server => "server",
            Self::SetCookie => "set-cookie",
            Self::Te => "te",
            Self::Traceparent => "traceparent",
            Self::Tracestate => "tracestate",
            Self::Trailer => "trailer",
            Self::TransferEncoding => "transfer-encoding",
            Self::Upgrade => "upgrade",
            Self::UserAgent => "user-agent",
            Self::Via => "via",
            Self::XB3Flags => "x-b3-flags",
            Self::XB3ParentSpanId => "x-b3-parentspanid",
            Self::XB3Sampled => "x-b3-sampled",
            Self::XB3SpanId => "x-b3-spanid",
            Self::XB3TraceId => "x-b3-traceid",
            Self::XCorrelationId => "x-correlation-id",
            Self::XForwardedClientCert => "x-forwarded-client-cert",
            Self::XForwardedFor => "x-forwarded-for",
            Self::XForwardedHost => "x-forwarded-host",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XOutriggerAttempt => "x-outrigger-attempt",
            Self::XOutriggerDegraded => "x-outrigger-degraded",
            Self::XOutriggerHops => "x-outrigger-hops",
            Self::XOutriggerTimeoutMs => "x-outrigger-timeout-ms",
            Self::XRequestId => "x-request-id",
        }
    }
}

/// A piece of the arena. Heads are bounded well below 4 GiB (`maxHeaderBytes`).
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
    known: Known,
}

/// Header or trailer fields in the order in which they came.
#[derive(Clone, Default)]
pub struct Headers {
    arena: Vec<u8>,
    fields: Vec<Field>,
}

impl Headers {
    /// No field, and nothing allocated.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every field and keeps the memory for the next message.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
    }

    /// Gives memory back that a large message took: what an idle connection keeps is bounded by `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        self.clear();
        if self.arena.capacity() > bytes {
            self.arena = Vec::new();
        }
        if self.fields.capacity() * size_of::<Field>() > bytes {
            self.fields = Vec::new();
        }
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without a field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends a field; its name is classified here.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.push(Known::of(name), name, value);
    }

    /// Appends a field with a known name in lower case.
    pub fn append_known(&mut self, name: Known, value: &[u8]) {
        self.push(name, name.as_str().as_bytes(), value);
    }

    /// Replaces every field of that name by one; it stands where the first one stood.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let found = self.fields.iter().position(|f| self.is(f, known, name));
        self.replace(found, known, name, value);
    }

    /// [`Headers::set`] for a known name.
    pub fn set_known(&mut self, name: Known, value: &[u8]) {
        let found = self.fields.iter().position(|f| f.known == name);
        self.replace(found, name, name.as_str().as_bytes(), value);
    }

    /// Drops every field of that name, and tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let known = Known::of(name);
        if known != Known::Other {
            return self.remove_known(known);
        }
        let Self { arena, fields } = self;
        let before = fields.len();
        fields.retain(|f| f.known != Known::Other || !slice(arena, f.name).eq_ignore_ascii_case(name));
        before != fields.len()
    }

    /// [`Headers::remove`] for a known name.
    pub fn remove_known(&mut self, name: Known) -> bool {
        let before = self.fields.len();
        if self.fields.iter().any(|f| f.known == name) {
            self.fields.retain(|f| f.known != name);
        }
        before != self.fields.len()
    }

    /// Keeps the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let Self { arena, fields } = self;
        fields.retain(|f| keep(f.known, slice(arena, f.name), slice(arena, f.value)));
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let known = Known::of(name);
        self.fields.iter().find(|f| self.is(f, known, name)).map(|f| slice(&self.arena, f.value))
    }

    /// The value of the first field of a known name.
    #[must_use]
    pub fn get_known(&self, name: Known) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.known == name).map(|f| slice(&self.arena, f.value))
    }

    /// True if there is a field of that known name.
    #[must_use]
    pub fn has(&self, name: Known) -> bool {
        self.fields.iter().any(|f| f.known == name)
    }

    /// Every value of a known name, in order.
    pub fn all_known(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |f| f.known == name).map(|f| slice(&self.arena, f.value))
    }

    /// Every value of that name, in order.
    pub fn all<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name);
        self.fields.iter().filter(move |f| self.is(f, known, name)).map(|f| slice(&self.arena, f.value))
    }

    /// Every field in order: class, name as it came, value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Known, &[u8], &[u8])> {
        self.fields.iter().map(|f| (f.known, slice(&self.arena, f.name), slice(&self.arena, f.value)))
    }

    /// Bytes of all names and values, as `SETTINGS_MAX_HEADER_LIST_SIZE` counts them (RFC 9113 6.5.2).
    #[must_use]
    pub fn list_size(&self) -> usize {
        self.fields.iter().map(|f| f.name.len as usize + f.value.len as usize + 32).sum()
    }

    fn is(&self, field: &Field, known: Known, name: &[u8]) -> bool {
        field.known == known && (known != Known::Other || slice(&self.arena, field.name).eq_ignore_ascii_case(name))
    }

    fn replace(&mut self, found: Option<usize>, known: Known, name: &[u8], value: &[u8]) {
        let Some(first) = found else {
            return self.push(known, name, value);
        };
        let value = self.store(value);
        self.fields[first].value = value;
        let Self { arena, fields } = self;
        let mut index = 0;
        fields.retain(|f| {
            let same = f.known == known && (known != Known::Other || slice(arena, f.name).eq_ignore_ascii_case(name));
            index += 1;
            index - 1 <= first || !same
        });
    }

    /// Appends a field whose name has been classified: `known` is [`Known::of`] of `name`.
    pub(super) fn push(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let name = self.store(name);
        let value = self.store(value);
        self.fields.push(Field { name, value, known });
    }

    /// Copies `bytes`, text with fields in it, and returns where they stand for [`Headers::push_at`]: one copy
    /// for a head instead of two for each field.
    pub(super) fn adopt(&mut self, bytes: &[u8]) -> usize {
        self.store(bytes).start as usize
    }

    /// Appends a field whose name and value stand in the arena already, as offset and length.
    pub(super) fn push_at(&mut self, known: Known, name: (usize, usize), value: (usize, usize)) {
        let span = |(start, len)| Span { start: narrow(start), len: narrow(len) };
        self.fields.push(Field { name: span(name), value: span(value), known });
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let (start, len) = (narrow(self.arena.len()), narrow(bytes.len()));
        self.arena.extend_from_slice(bytes);
        Span { start, len }
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("heads are bounded by maxHeaderBytes")
}

fn slice(arena: &[u8], span: Span) -> &[u8] {
    &arena[span.start as usize..span.start as usize + span.len as usize]
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |b| String::from_utf8_lossy(b).into_owned();
        f.debug_map().entries(self.iter().map(|(_, n, v)| (text(n), text(v)))).finish()
    }
}

#[cfg(test)]
mod tests;
