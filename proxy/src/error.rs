//! Why a request got an answer of the proxy's own: one enum, one table.
//!
//! A [`Reason`] is the token of `proxy-status`, of the JSON body, of the access log and of the metric's
//! `reason` label, so the four cannot drift. [`Reason::row`] is the only place that knows which HTTP and
//! gRPC status a reason becomes. A [`Failure`] adds what happened this time: whose fault it is, words for
//! people, and whether the request may be sent again.

use std::{borrow::Cow, fmt, time::Duration};

/// The closed set of reasons. Tokens are RFC 9209's (section 2.3) where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// The resolver did not answer in time.
    DnsTimeout,
    /// The resolver answered with an error, or that the name does not exist.
    DnsError,
    /// No listener, upstream or route takes this request.
    DestinationNotFound,
    /// The upstream has no endpoint that could take it.
    DestinationUnavailable,
    /// The endpoint's network is not reachable.
    DestinationIpUnroutable,
    /// The endpoint refused the connection.
    ConnectionRefused,
    /// The endpoint closed the connection before its answer was whole.
    ConnectionTerminated,
    /// The connection was not made in time.
    ConnectionTimeout,
    /// A stream on which nothing moved for longer than its idle time.
    ConnectionReadTimeout,
    /// The limit on connections is reached.
    ConnectionLimitReached,
    /// The TLS handshake failed.
    TlsProtocolError,
    /// A certificate was refused, missing or expired.
    TlsCertificateError,
    /// The peer sent a TLS alert.
    TlsAlertReceived,
    /// The client's message breaks the protocol.
    HttpRequestError,
    /// The client's head is larger than the listener takes.
    RequestHeaderSize,
    /// The client took too long to send its request.
    RequestTimeout,
    /// A method, version or transfer coding that is not implemented.
    NotImplemented,
    /// The upstream's answer ended early.
    HttpResponseIncomplete,
    /// The upstream's head is larger than the limit.
    HttpResponseHeaderSectionSize,
    /// The upstream did not answer in time.
    HttpResponseTimeout,
    /// The upstream did not take the upgrade.
    HttpUpgradeFailed,
    /// The upstream's answer breaks the protocol.
    HttpProtocolError,
    /// An access policy refused.
    AccessDenied,
    /// The breaker is open.
    CircuitOpen,
    /// A rate limit refused.
    RateLimited,
    /// A bulkhead is full.
    LimitReached,
    /// Adaptive concurrency shed it.
    Overloaded,
    /// The caller's time was used up.
    BudgetExhausted,
    /// The configuration cannot say where this share of the requests goes.
    ProxyConfigurationError,
    /// A fault put in by policy.
    FaultInjected,
    /// The request came back to the proxy that sent it.
    ProxyLoopDetected,
    /// The client went away; nobody reads the answer.
    ClientDisconnected,
    /// A fault in the proxy.
    ProxyInternalError,
}

/// gRPC status codes that the table uses.
pub mod grpc {
    /// The caller went away.
    pub const CANCELLED: u8 = 1;
    /// The client's fault.
    pub const INVALID_ARGUMENT: u8 = 3;
    /// Time is up.
    pub const DEADLINE_EXCEEDED: u8 = 4;
    /// Refused by policy.
    pub const PERMISSION_DENIED: u8 = 7;
    /// Refused by a limit.
    pub const RESOURCE_EXHAUSTED: u8 = 8;
    /// No such service or method.
    pub const UNIMPLEMENTED: u8 = 12;
    /// A fault inside.
    pub const INTERNAL: u8 = 13;
    /// Try again later.
    pub const UNAVAILABLE: u8 = 14;
}

/// What a reason becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Of `proxy-status`, body, log and metric.
    pub token: &'static str,
    /// HTTP status.
    pub status: u16,
    /// `grpc-status`.
    pub grpc: u8,
    /// Whose fault it is.
    pub origin: Party,
}

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The client.
    Downstream,
    /// The service behind.
    Upstream,
    /// The proxy, or the policy that it carries out.
    Proxy,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 33] = [
        Self::DnsTimeout,
        Self::DnsError,
        Self::DestinationNotFound,
        Self::DestinationUnavailable,
        Self::DestinationIpUnroutable,
        Self::ConnectionRefused,
        Self::ConnectionTerminated,
        Self::ConnectionTimeout,
        Self::ConnectionReadTimeout,
        Self::ConnectionLimitReached,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::TlsAlertReceived,
        Self::HttpRequestError,
        Self::RequestHeaderSize,
        Self::RequestTimeout,
        Self::NotImplemented,
        Self::HttpResponseIncomplete,
        Self::HttpResponseHeaderSectionSize,
        Self::HttpResponseTimeout,
        Self::HttpUpgradeFailed,
        Self::HttpProtocolError,
        Self::AccessDenied,
        Self::CircuitOpen,
        Self::RateLimited,
        Self::LimitReached,
        Self::Overloaded,
        Self::BudgetExhausted,
        Self::ProxyConfigurationError,
        Self::FaultInjected,
        Self::ProxyLoopDetected,
        Self::ClientDisconnected,
        Self::ProxyInternalError,
    ];

    /// The table. gRPC codes follow the gRPC HTTP mapping, limits are `RESOURCE_EXHAUSTED`, time-outs
    /// `DEADLINE_EXCEEDED`.
    #[must_use]
    pub const fn row(self) -> Row {
        use Party::{Downstream, Proxy, Upstream};
        use grpc::{
            CANCELLED, DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED,
            UNAVAILABLE, UNIMPLEMENTED,
        };
        let (token, status, grpc, origin) = match self {
            Self::DnsTimeout => ("dns_timeout", 503, UNAVAILABLE, Upstream),
            Self::DnsError => ("dns_error", 503, UNAVAILABLE, Upstream),
            Self::DestinationNotFound => ("destination_not_found", 404, UNIMPLEMENTED, Proxy),
            Self::DestinationUnavailable => ("destination_unavailable", 503, UNAVAILABLE, Upstream),
            Self::DestinationIpUnroutable => ("destination_ip_unroutable", 502, UNAVAILABLE, Upstream),
            Self::ConnectionRefused => ("connection_refused", 502, UNAVAILABLE, Upstream),
            Self::ConnectionTerminated => ("connection_terminated", 502, UNAVAILABLE, Upstream),
            Self::ConnectionTimeout => ("connection_timeout", 504, UNAVAILABLE, Upstream),
            Self::ConnectionReadTimeout => ("connection_read_timeout", 504, UNAVAILABLE, Upstream),
            Self::ConnectionLimitReached => ("connection_limit_reached", 503, RESOURCE_EXHAUSTED, Proxy),
            Self::TlsProtocolError => ("tls_protocol_error", 502, UNAVAILABLE, Upstream),
            Self::TlsCertificateError => ("tls_certificate_error", 502, UNAVAILABLE, Upstream),
            Self::TlsAlertReceived => ("tls_alert_received", 502, UNAVAILABLE, Upstream),
            Self::HttpRequestError => ("http_request_error", 400, INTERNAL, Downstream),
            Self::RequestHeaderSize => ("http_request_header_section_size", 431, INTERNAL, Downstream),
            Self::RequestTimeout => ("http_request_timeout", 408, DEADLINE_EXCEEDED, Downstream),
            Self::NotImplemented => ("http_request_not_implemented", 501, UNIMPLEMENTED, Downstream),
            Self::HttpResponseIncomplete => ("http_response_incomplete", 502, UNAVAILABLE, Upstream),
            Self::HttpResponseHeaderSectionSize => ("http_response_header_section_size", 502, INTERNAL, Upstream),
            Self::HttpResponseTimeout => ("http_response_timeout", 504, DEADLINE_EXCEEDED, Upstream),
            Self::HttpUpgradeFailed => ("http_upgrade_failed", 502, UNAVAILABLE, Upstream),
            Self::HttpProtocolError => ("http_protocol_error", 502, INTERNAL, Upstream),
            Self::AccessDenied => ("access_denied", 403, PERMISSION_DENIED, Proxy),
            Self::CircuitOpen => ("circuit_open", 503, UNAVAILABLE, Proxy),
            Self::RateLimited => ("rate_limited", 429, RESOURCE_EXHAUSTED, Proxy),
            Self::LimitReached => ("limit_reached", 503, RESOURCE_EXHAUSTED, Proxy),
            Self::Overloaded => ("overloaded", 503, UNAVAILABLE, Proxy),
            Self::BudgetExhausted => ("budget_exhausted", 504, DEADLINE_EXCEEDED, Proxy),
            Self::ProxyConfigurationError => ("proxy_configuration_error", 500, UNAVAILABLE, Proxy),
            Self::FaultInjected => ("fault_injected", 503, UNAVAILABLE, Proxy),
            Self::ProxyLoopDetected => ("proxy_loop_detected", 502, INVALID_ARGUMENT, Proxy),
            Self::ClientDisconnected => ("client_disconnected", 499, CANCELLED, Downstream),
            Self::ProxyInternalError => ("proxy_internal_error", 500, INTERNAL, Proxy),
        };
        Row { token, status, grpc, origin }
    }

    /// The token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        self.row().token
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Whether a request that failed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeat {
    /// The client has seen a part of the answer, or it is the client that failed.
    Never,
    /// It may have been processed: only what is safe to repeat (RFC 9110 9.2.2).
    IfIdempotent,
    /// It certainly was not processed (connect failure, REFUSED_STREAM, GOAWAY below it).
    Unprocessed,
    /// A reused connection closed before the first byte of the answer: the keep-alive race.
    ReusedConnection,
}

/// One failure of one attempt or request.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its class.
    pub reason: Reason,
    /// For people: who failed, in which phase, what was seen. Never a secret.
    pub details: Cow<'static, str>,
    /// May it be sent again?
    pub repeat: Repeat,
    /// When another try makes sense, if that is known.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that is not to be repeated.
    #[must_use]
    pub fn new(reason: Reason, details: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, details: details.into(), repeat: Repeat::Never, retry_after: None }
    }

    /// The same, with a hint when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same, with what may be done about it.
    #[must_use]
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.details)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_reason_once_and_tokens_are_unique() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        assert_eq!(Reason::ProxyInternalError as usize + 1, Reason::ALL.len());
        let mut tokens: Vec<_> = Reason::ALL.iter().map(|r| r.token()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), Reason::ALL.len());
    }
}
