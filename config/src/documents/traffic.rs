//! `TrafficPolicy`: resilience and balancing.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::documents::{Duration, HttpHeader, ObjectRef, Spanned, TargetRef, ValueMatchSpec, document, words};

document! {
    /// Resilience and balancing for Services, Upstreams and routes. The more specific target wins whole.
    struct TrafficPolicySpec {
        /// What the policy is for; `sectionName` names a rule of a route.
        #[schemars(length(min = 1, max = 1024))]
        target_refs: Vec<Spanned<TargetRef>>,
        /// Whether it acts. Default `enforce`.
        mode: Option<ModeWord>,
        /// All times.
        timeouts: Option<Spanned<TimeoutsSpec>>,
        /// Retries. Absent: only failures that were never processed are tried again.
        retry: Option<Spanned<RetrySpec>>,
        /// The circuit breaker. Absent: no breaker.
        circuit_breaker: Option<Spanned<CircuitBreakerSpec>>,
        /// The bulkhead.
        limits: Option<LimitsSpec>,
        /// The rate limit, of each proxy for itself. Absent: no rate limit.
        rate_limit: Option<Spanned<RateLimitSpec>>,
        /// A limit that follows the latency. Absent: only the fixed limits.
        adaptive_concurrency: Option<Spanned<AdaptiveConcurrencySpec>>,
        /// Which endpoint gets a request.
        load_balancing: Option<Spanned<LoadBalancingSpec>>,
        /// What to answer when the circuit is open, time or budget ran out, or no endpoint is left.
        fallback: Option<Spanned<FallbackSpec>>,
        /// Faults for tests of the app; absent in production.
        fault: Option<Spanned<FaultSpec>>,
    }

    /// Times; `0s` disables each.
    struct TimeoutsSpec {
        /// The whole operation: queueing, every attempt, back-off, the response body. Default: no limit.
        request: Option<Spanned<Duration>>,
        /// One attempt. Default: no limit.
        backend_request: Option<Spanned<Duration>>,
        /// TCP and TLS of a connection to an endpoint. Default `1s`.
        connect: Option<Spanned<Duration>>,
        /// A stream on which nothing moves. Default `5m`.
        idle: Option<Spanned<Duration>>,
        /// An unused pooled connection to an endpoint. Default `4s`.
        upstream_idle: Option<Spanned<Duration>>,
        /// Age after which a connection to an endpoint takes no further request. Default: none.
        max_connection_age: Option<Spanned<Duration>>,
    }

    /// Retries.
    struct RetrySpec {
        /// Attempts beyond the first. Default 2.
        #[schemars(range(min = 0, max = 100))]
        attempts: Option<Spanned<u32>>,
        /// Status codes worth another attempt. Default 502, 503 and 504 where neither list is said.
        #[serde(default)]
        #[schemars(inner(range(min = 400, max = 599)), length(max = 256))]
        codes: Vec<Spanned<u16>>,
        /// gRPC status codes worth another attempt. Default `unavailable` where neither list is said.
        #[serde(default)]
        #[schemars(length(max = 64))]
        grpc_codes: Vec<Spanned<GrpcCode>>,
        /// `idempotent` (the default), or a list of methods.
        methods: Option<RetryMethodsSpec>,
        /// Time between attempts, with full jitter.
        backoff: Option<Spanned<BackoffSpec>>,
        /// The share of requests that may be retries.
        budget: Option<Spanned<BudgetSpec>>,
        /// A larger request body is streamed and not retried. Default 65536.
        #[schemars(range(min = 0, max = 16_777_216))]
        max_body_bytes: Option<u32>,
    }

    /// Exponential back-off with full jitter.
    struct BackoffSpec {
        /// First step. Default `25ms`.
        base: Option<Spanned<Duration>>,
        /// Largest step. Default: ten times `base`.
        max: Option<Spanned<Duration>>,
    }

    /// Retry budget (GEP-3388).
    struct BudgetSpec {
        /// Retries as a percentage of requests. Default 20.
        #[schemars(range(min = 0, max = 100))]
        percent: Option<u32>,
        /// The window in which they are counted, 1 s to 1 h. Default `10s`.
        interval: Option<Spanned<Duration>>,
        /// Retries that are always allowed. Default 10 per `1s`.
        min_retry_rate: Option<Spanned<MinRetryRate>>,
    }

    /// A rate.
    struct MinRetryRate {
        /// This many. Default 10.
        #[schemars(range(min = 0, max = 1_000_000))]
        count: Option<u32>,
        /// In this time. Default `1s`.
        interval: Option<Spanned<Duration>>,
    }

    /// Circuit breaker.
    struct CircuitBreakerSpec {
        /// What opens. Default `endpoint`.
        scope: Option<BreakerScopeWord>,
        /// Opens after this many in a row. Default 5 where `failureRate` is not said either; 0: not counted.
        #[schemars(range(min = 0, max = 1_000_000))]
        consecutive_failures: Option<u32>,
        /// Opens at this share of failures.
        failure_rate: Option<FailureRateSpec>,
        /// How long it stays open.
        open: Option<Spanned<OpenSpec>>,
        /// Requests let through while half-open. Default 3.
        #[schemars(range(min = 1, max = 1_000_000))]
        half_open_probes: Option<u32>,
        /// With more endpoints gone than this, all are used. Default 50.
        #[schemars(range(min = 0, max = 100))]
        max_ejected_percent: Option<u32>,
    }

    /// A failure rate in a window.
    struct FailureRateSpec {
        /// Opens at this percentage of failures.
        #[schemars(range(min = 1, max = 100))]
        percent: u32,
        /// Needs at least so many requests. Default 20.
        #[schemars(range(min = 1, max = 1_000_000))]
        min_requests: Option<u32>,
        /// Over this time. Default `10s`.
        window: Option<Spanned<Duration>>,
    }

    /// Open time; it doubles while probes fail.
    struct OpenSpec {
        /// First. Default `5s`.
        base: Option<Spanned<Duration>>,
        /// Longest. Default `60s`.
        max: Option<Spanned<Duration>>,
    }

    /// The bulkhead. 0: no limit.
    struct LimitsSpec {
        /// Connections to all endpoints. Default: no limit.
        max_connections: Option<u32>,
        /// Requests in flight. Default: no limit.
        max_requests: Option<u32>,
        /// Requests waiting for a slot; beyond it 503 at once. More than 65536 never wait. Default 1024.
        max_pending: Option<u32>,
        /// Requests on one connection. Default: no limit.
        max_requests_per_connection: Option<u32>,
    }

    /// Rate limit.
    struct RateLimitSpec {
        /// This many ...
        #[schemars(range(min = 1))]
        requests: u32,
        /// ... in this time. Default `1s`.
        per: Option<Spanned<Duration>>,
        /// Depth of the bucket. Default: `requests`.
        #[schemars(range(min = 1))]
        burst: Option<u32>,
        /// Whose bucket: `client` (its identity; without one its address), `header:NAME` or `all`. Default `client`.
        #[schemars(extend("format" = "rate-limit-key"))]
        by: Option<Spanned<String>>,
    }

    /// Adaptive concurrency: the number in flight follows the latency.
    struct AdaptiveConcurrencySpec {
        /// Never fewer. Default 4.
        #[schemars(range(min = 1, max = 1_000_000))]
        min_limit: Option<Spanned<u32>>,
        /// Never more. Default 1000.
        #[schemars(range(min = 1, max = 1_000_000))]
        max_limit: Option<Spanned<u32>>,
    }

    /// Choice of an endpoint.
    struct LoadBalancingSpec {
        /// How one is chosen. Default `peakEwma`.
        algorithm: Option<Spanned<AlgorithmWord>>,
        /// What `maglev` hashes: one of `header`, `cookie`, `clientAddress`.
        hash_on: Option<Spanned<HashOnSpec>>,
        /// Time in which a new endpoint comes up to its full share. Default: none.
        slow_start: Option<Duration>,
        /// Use of topology zones. Default `ignore`.
        zone: Option<ZoneWord>,
    }

    /// What is hashed; exactly one.
    struct HashOnSpec {
        /// A header field.
        #[schemars(extend("format" = "header-name"))]
        header: Option<String>,
        /// A cookie.
        #[schemars(extend("format" = "header-name"))]
        cookie: Option<String>,
        /// `true`: the address of the client.
        client_address: Option<bool>,
    }

    /// An answer instead of an error: exactly one of `staleIfError`, `response`, `backendRef`.
    struct FallbackSpec {
        /// Which errors it answers: the tokens that `proxy-status` and logs show. Quote the name of this field (`"on"`) for
        /// tools that read YAML 1.1, as `kubectl` does: there `on` alone means `true`.
        #[schemars(length(min = 1, max = 64))]
        on: Vec<Spanned<ErrorToken>>,
        /// The last good answer, if no older than this.
        stale_if_error: Option<Spanned<Duration>>,
        /// A fixed answer.
        response: Option<Spanned<StaticResponseSpec>>,
        /// Another upstream.
        backend_ref: Option<Spanned<ObjectRef>>,
    }

    /// A fixed answer.
    struct StaticResponseSpec {
        /// HTTP status. Default 200.
        #[schemars(range(min = 200, max = 599))]
        status: Option<u16>,
        /// Header fields.
        #[serde(default)]
        #[schemars(length(max = 256))]
        headers: Vec<Spanned<HttpHeader>>,
        /// Body.
        #[schemars(length(max = 65_536))]
        body: Option<String>,
    }

    /// Faults put in on purpose.
    struct FaultSpec {
        /// Waits first.
        delay: Option<FaultDelaySpec>,
        /// Answers instead.
        abort: Option<Spanned<FaultAbortSpec>>,
        /// Only for such requests.
        when: Option<FaultWhen>,
    }

    /// A delay for a share of the requests.
    struct FaultDelaySpec {
        /// Share of the requests.
        #[schemars(range(min = 0.0, max = 100.0))]
        percent: f64,
        /// How long.
        duration: Duration,
    }

    /// An error for a share of the requests.
    struct FaultAbortSpec {
        /// Share of the requests.
        #[schemars(range(min = 0.0, max = 100.0))]
        percent: f64,
        /// HTTP status. Default 503.
        #[schemars(range(min = 200, max = 599))]
        status: Option<u16>,
        /// gRPC status for gRPC calls. Default: what the HTTP status means.
        grpc_status: Option<GrpcCode>,
    }

    /// A condition on requests.
    struct FaultWhen {
        /// All of these header fields.
        #[serde(default)]
        #[schemars(length(max = 256))]
        headers: Vec<Spanned<ValueMatchSpec>>,
    }
}

words! {
    /// Whether a policy acts.
    enum ModeWord {
        /// It acts.
        Enforce = "enforce",
        /// It counts what it would have done, and does nothing.
        Observe = "observe",
    }

    /// What a breaker opens.
    enum BreakerScopeWord {
        /// Ejects one endpoint.
        Endpoint = "endpoint",
        /// The upstream fails fast.
        Upstream = "upstream",
    }

    /// Balancing algorithms.
    enum AlgorithmWord {
        /// Two random choices; the lower peak-EWMA latency times load wins.
        PeakEwma = "peakEwma",
        /// Two random choices; the fewer requests in flight win.
        LeastRequest = "leastRequest",
        /// In turn.
        RoundRobin = "roundRobin",
        /// At random, by weight.
        Random = "random",
        /// Consistent hashing.
        Maglev = "maglev",
    }

    /// Use of topology zones.
    enum ZoneWord {
        /// All zones are the same.
        Ignore = "ignore",
        /// The own zone, spilling over by health.
        Prefer = "prefer",
        /// The own zone alone.
        Only = "only",
    }

    /// `idempotent`.
    enum IdempotentWord {
        /// RFC 9110 9.2.2, and any request with `Idempotency-Key`.
        Idempotent = "idempotent",
    }

    /// gRPC status codes.
    enum GrpcCode {
        /// 1
        Cancelled = "cancelled",
        /// 2
        Unknown = "unknown",
        /// 3
        InvalidArgument = "invalid_argument",
        /// 4
        DeadlineExceeded = "deadline_exceeded",
        /// 5
        NotFound = "not_found",
        /// 6
        AlreadyExists = "already_exists",
        /// 7
        PermissionDenied = "permission_denied",
        /// 8
        ResourceExhausted = "resource_exhausted",
        /// 9
        FailedPrecondition = "failed_precondition",
        /// 10
        Aborted = "aborted",
        /// 11
        OutOfRange = "out_of_range",
        /// 12
        Unimplemented = "unimplemented",
        /// 13
        Internal = "internal",
        /// 14
        Unavailable = "unavailable",
        /// 15
        DataLoss = "data_loss",
        /// 16
        Unauthenticated = "unauthenticated",
    }
}

impl GrpcCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// `idempotent`, or a list of methods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RetryMethodsSpec {
    /// RFC 9110 9.2.2, and any request with `Idempotency-Key`.
    Word(IdempotentWord),
    /// These.
    List(Vec<String>),
}

impl JsonSchema for RetryMethodsSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RetryMethods".into()
    }

    /// A word or a list: no single type, which a structural schema must leave open.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "anyOf": [
                { "type": "string", "enum": ["idempotent"] },
                { "type": "array", "items": { "type": "string", "format": "http-method" }, "minItems": 1 },
            ],
        })
    }
}

/// The token of an error: what `proxy-status`, logs and metrics call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorToken(pub String);

impl JsonSchema for ErrorToken {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ErrorToken".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": TOKENS })
    }
}

/// RFC 9209 2.3, then our own.
pub const TOKENS: &[&str] = &[
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
    "circuit_open",
    "rate_limited",
    "limit_reached",
    "overloaded",
    "budget_exhausted",
    "access_denied",
];
