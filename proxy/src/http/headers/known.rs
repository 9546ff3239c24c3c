//! The names of fields that the proxy has to know, and sets of them: classified once when a head is read, compared as
//! numbers afterwards.

use super::classify;

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

/// A set of known names; [`Known::Other`] can be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownSet(u64);

impl KnownSet {
    /// Of these names.
    #[must_use]
    pub const fn of(names: &[Known]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < names.len() {
            bits |= 1 << names[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// True if `known` is in it.
    #[must_use]
    pub const fn has(self, known: Known) -> bool {
        self.0 >> known as u8 & 1 == 1
    }

    /// True if the two have a name in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn insert(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }
}

const _: () = assert!(Known::ALL.len() < 64, "a known name is a bit of a set");
