//! Traffic policies: resilience and balancing for one target, with the defaults under it.

use std::{sync::Arc, time::Duration};

use super::{UpstreamId, ValueMatch};
use crate::Origin;

/// Whether a policy acts or only counts what it would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// It counts.
    Observe,
}

/// Resilience and balancing for one target, the defaults of mesh and namespace under it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficPolicy {
    /// `metadata.name`, or `default` where no document says anything.
    pub name: Arc<str>,
    /// The winner, if a document says anything.
    pub origin: Option<Origin>,
    /// Act or count.
    pub mode: Mode,
    /// All times.
    pub timeouts: Timeouts,
    /// `None`: only failures that were never processed are tried again.
    pub retry: Option<Retry>,
    /// `None`: no breaker.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The bulkhead.
    pub limits: Limits,
    /// `None`: no rate limit.
    pub rate_limit: Option<RateLimit>,
    /// `None`: only the fixed limits.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Which endpoint gets a request.
    pub load_balancing: LoadBalancing,
    /// What to answer instead of an error.
    pub fallback: Option<Fallback>,
    /// Faults for tests of the app.
    pub fault: Option<FaultInjection>,
}

impl Default for TrafficPolicy {
    /// What holds where no document says anything.
    fn default() -> Self {
        Self {
            name: "default".into(),
            origin: None,
            mode: Mode::default(),
            timeouts: Timeouts::default(),
            retry: None,
            circuit_breaker: None,
            limits: Limits::default(),
            rate_limit: None,
            adaptive_concurrency: None,
            load_balancing: LoadBalancing::default(),
            fallback: None,
            fault: None,
        }
    }
}

/// Times of a policy. `None`: no limit (`0s` in the document).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole operation.
    pub request: Option<Duration>,
    /// One attempt.
    pub backend_request: Option<Duration>,
    /// TCP and TLS of a connection to an endpoint. Default 1 s.
    pub connect: Option<Duration>,
    /// A stream on which nothing moves. Default 5 min.
    pub idle: Option<Duration>,
    /// An unused pooled connection to an endpoint. Default 4 s: below the 5 s of common app servers.
    pub upstream_idle: Option<Duration>,
    /// Age after which a connection to an endpoint takes no further request.
    pub max_connection_age: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: None,
            backend_request: None,
            connect: Some(Duration::from_secs(1)),
            idle: Some(Duration::from_secs(300)),
            upstream_idle: Some(Duration::from_secs(4)),
            max_connection_age: None,
        }
    }
}

/// Retries.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts beyond the first.
    pub attempts: u32,
    /// Status codes worth another attempt.
    pub codes: Vec<u16>,
    /// gRPC status codes worth another attempt.
    pub grpc_codes: Vec<u8>,
    /// Which methods are safe to repeat.
    pub methods: RetryMethods,
    /// Base of the back-off, full jitter.
    pub backoff_base: Duration,
    /// Its ceiling.
    pub backoff_max: Duration,
    /// GEP-3388 budget.
    pub budget: RetryBudget,
    /// Largest request body that is kept for another attempt.
    pub max_body_bytes: u32,
}

impl Default for Retry {
    /// What a `retry` that says nothing means: GEP-3388's budget, the codes of a hop that failed.
    fn default() -> Self {
        Self {
            attempts: 2,
            codes: vec![502, 503, 504],
            grpc_codes: vec![14],
            methods: RetryMethods::Idempotent,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget: RetryBudget {
                percent: 20,
                interval: Duration::from_secs(10),
                min_count: 10,
                min_interval: Duration::from_secs(1),
            },
            max_body_bytes: 65_536,
        }
    }
}

/// Which methods may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryMethods {
    /// RFC 9110 9.2.2, and any with `Idempotency-Key`.
    Idempotent,
    /// These.
    List(Vec<http::Method>),
}

/// GEP-3388.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries as a percentage of requests.
    pub percent: u32,
    /// The window in which they are counted.
    pub interval: Duration,
    /// Retries that are always allowed: this many ...
    pub min_count: u32,
    /// ... in this time.
    pub min_interval: Duration,
}

/// Circuit breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitBreaker {
    /// What opens.
    pub scope: BreakerScope,
    /// `None`: not counted.
    pub consecutive_failures: Option<u32>,
    /// `None`: not counted.
    pub failure_rate: Option<FailureRate>,
    /// First open time.
    pub open_base: Duration,
    /// Longest open time.
    pub open_max: Duration,
    /// Requests let through while half-open.
    pub half_open_probes: u32,
    /// Above this share of ejected endpoints all are used.
    pub max_ejected_percent: u32,
}

/// What a breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerScope {
    /// One endpoint is ejected.
    Endpoint,
    /// The upstream fails fast.
    Upstream,
}

/// A failure rate in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRate {
    /// Opens at this percentage of failures.
    pub percent: u32,
    /// Needs at least so many requests.
    pub min_requests: u32,
    /// Over this time.
    pub window: Duration,
}

/// The bulkhead. 0 in the document means no limit and is `u32::MAX` here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections to all endpoints, all workers together.
    pub max_connections: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Requests waiting for a slot.
    pub max_pending: u32,
    /// Requests on one connection.
    pub max_requests_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_requests: u32::MAX,
            max_pending: 1024,
            max_requests_per_connection: u32::MAX,
        }
    }
}

/// Local rate limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// This many ...
    pub requests: u32,
    /// ... in this time.
    pub per: Duration,
    /// Depth of the bucket.
    pub burst: u32,
    /// Whose bucket.
    pub by: RateLimitKey,
}

/// Whose bucket a request draws from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateLimitKey {
    /// The caller's identity; without one its address.
    Client,
    /// The value of a header (lower-case name).
    Header(Arc<str>),
    /// One for all.
    All,
}

/// Adaptive concurrency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// Never fewer in flight.
    pub min_limit: u32,
    /// Never more.
    pub max_limit: u32,
}

/// Choice of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancing {
    /// How.
    pub algorithm: Algorithm,
    /// What maglev hashes.
    pub hash_on: Option<HashOn>,
    /// Time in which a new endpoint comes up to its full share.
    pub slow_start: Option<Duration>,
    /// Preference of the own zone.
    pub zone: ZoneMode,
}

/// Balancing algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Two random choices, the lower peak-EWMA latency times load wins.
    #[default]
    PeakEwma,
    /// Two random choices, the one with fewer requests in flight wins.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// Weighted random.
    Random,
    /// Consistent hashing (Maglev, NSDI 2016).
    Maglev,
}

/// What maglev hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A header (lower-case name).
    Header(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
    /// The address of the client.
    ClientAddress,
}

/// Use of zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZoneMode {
    /// All the same.
    #[default]
    Ignore,
    /// The own one, spilling over by health.
    Prefer,
    /// The own one alone.
    Only,
}

/// What to answer instead of an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Error tokens (contract section 3) that it answers.
    pub on: Vec<Arc<str>>,
    /// What it answers.
    pub action: FallbackAction,
}

/// The answer of a fallback.
#[derive(Debug, Clone, PartialEq)]
pub enum FallbackAction {
    /// The last good answer, if no older (RFC 5861).
    StaleIfError(Duration),
    /// A fixed one.
    Response(StaticResponse),
    /// Another upstream.
    Backend(UpstreamId),
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticResponse {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Body.
    pub body: Arc<str>,
}

/// Faults put in on purpose.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultInjection {
    /// Wait first.
    pub delay: Option<FaultDelay>,
    /// Answer instead.
    pub abort: Option<FaultAbort>,
    /// Only requests with all of these headers.
    pub when: Vec<ValueMatch>,
}

/// A delay for a share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultDelay {
    /// 0 to 100.
    pub percent: f64,
    /// How long.
    pub duration: Duration,
}

/// An error for a share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultAbort {
    /// 0 to 100.
    pub percent: f64,
    /// HTTP status.
    pub status: u16,
    /// gRPC status for gRPC requests.
    pub grpc_status: Option<u8>,
}
