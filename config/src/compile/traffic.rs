//! `TrafficPolicy` documents, each alone: what one says, before it is known where it applies.

use std::{collections::HashMap, sync::Arc, time::Duration as StdDuration};

use crate::{
    compile::{Context, names::Found},
    documents::{self, Document, Spanned, TrafficPolicySpec},
    load::Loaded,
    model::{self, TrafficPolicy},
};

/// A policy without the defaults that lie under its times.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) policy: TrafficPolicy,
    pub(super) timeouts: TimeoutsLayer,
}

/// Drafts by the place of their document among all.
pub(super) type Drafts = HashMap<usize, Draft>;

/// Times that are said; the others come from the layer below.
#[derive(Debug, Clone, Default)]
pub(super) struct TimeoutsLayer {
    pub(super) request: Option<StdDuration>,
    pub(super) backend_request: Option<StdDuration>,
    pub(super) connect: Option<StdDuration>,
    pub(super) idle: Option<StdDuration>,
    pub(super) upstream_idle: Option<StdDuration>,
    pub(super) max_connection_age: Option<StdDuration>,
}

impl TimeoutsLayer {
    /// Puts what this layer says over `below`. Zero disables (GEP-1742).
    pub(super) fn over(&self, below: &mut model::Timeouts) {
        let set = |slot: &mut Option<StdDuration>, said: Option<StdDuration>| {
            if let Some(said) = said {
                *slot = some_time(said);
            }
        };
        set(&mut below.request, self.request);
        set(&mut below.backend_request, self.backend_request);
        set(&mut below.connect, self.connect);
        set(&mut below.idle, self.idle);
        set(&mut below.upstream_idle, self.upstream_idle);
        set(&mut below.max_connection_age, self.max_connection_age);
    }
}

/// Zero disables.
pub(super) fn some_time(time: StdDuration) -> Option<StdDuration> {
    (!time.is_zero()).then_some(time)
}

fn time(spanned: Option<&Spanned<documents::Duration>>, default: StdDuration) -> StdDuration {
    spanned.map_or(default, |d| d.inner.0)
}

impl Context<'_> {
    pub(super) fn compile_traffic(&mut self) -> Drafts {
        let documents = self.documents;
        let each = documents.iter().enumerate().filter_map(|(index, at)| match &at.document {
            Document::TrafficPolicy(resource) => Some((index, at, &resource.spec)),
            _ => None,
        });
        each.map(|(index, at, spec)| (index, self.draft(at, spec))).collect()
    }

    fn draft(&mut self, at: &Loaded, spec: &TrafficPolicySpec) -> Draft {
        let policy = TrafficPolicy {
            name: self.label(at),
            origin: Some(at.origin(at.mark)),
            mode: mode(spec.mode),
            timeouts: model::Timeouts::default(),
            retry: spec.retry.as_ref().map(|r| self.retry(at, r)),
            circuit_breaker: spec.circuit_breaker.as_ref().map(|b| self.breaker(at, b)),
            limits: limits(spec.limits.as_ref()),
            rate_limit: spec.rate_limit.as_ref().map(|r| self.rate_limit(at, r)),
            adaptive_concurrency: spec.adaptive_concurrency.as_ref().map(|a| self.adaptive(at, a)),
            load_balancing: spec.load_balancing.as_ref().map(|l| self.balancing(at, l)).unwrap_or_default(),
            fallback: spec.fallback.as_ref().and_then(|f| self.fallback(at, f)),
            fault: spec.fault.as_ref().map(|f| self.injection(at, f)),
        };
        Draft { policy, timeouts: self.timeouts(at, spec.timeouts.as_deref()) }
    }

    pub(super) fn timeouts(&mut self, at: &Loaded, spec: Option<&documents::TimeoutsSpec>) -> TimeoutsLayer {
        let Some(spec) = spec else { return TimeoutsLayer::default() };
        self.backend_within_request(at, spec.request.as_ref(), spec.backend_request.as_ref());
        let said = |d: &Option<Spanned<documents::Duration>>| d.as_ref().map(|d| d.inner.0);
        TimeoutsLayer {
            request: said(&spec.request),
            backend_request: said(&spec.backend_request),
            connect: said(&spec.connect),
            idle: said(&spec.idle),
            upstream_idle: said(&spec.upstream_idle),
            max_connection_age: said(&spec.max_connection_age),
        }
    }

    /// GEP-1742: one attempt is no longer than the whole.
    pub(super) fn backend_within_request(
        &mut self,
        at: &Loaded,
        request: Option<&Spanned<documents::Duration>>,
        backend: Option<&Spanned<documents::Duration>>,
    ) {
        if let (Some(request), Some(backend)) = (request, backend)
            && !request.inner.0.is_zero()
            && backend.inner > request.inner
        {
            let (backend_text, request_text) = (backend.inner, request.inner);
            self.fault(
                at,
                backend.mark,
                format!("`backendRequest` ({backend_text}) is longer than `request` ({request_text}), which bounds it"),
            );
        }
    }

    /// A time that cannot be switched off.
    pub(super) fn positive(
        &mut self,
        at: &Loaded,
        spanned: Option<&Spanned<documents::Duration>>,
        default: StdDuration,
    ) -> StdDuration {
        match spanned {
            Some(d) if d.inner.0.is_zero() => {
                self.fault(at, d.mark, "this time must be longer than `0s`");
                default
            }
            _ => time(spanned, default),
        }
    }

    fn breaker(&mut self, at: &Loaded, spec: &documents::CircuitBreakerSpec) -> model::CircuitBreaker {
        const OPEN_BASE: StdDuration = StdDuration::from_secs(5);
        const OPEN_MAX: StdDuration = StdDuration::from_secs(60);
        let (base, max) = spec.open.as_ref().map_or((None, None), |o| (o.base.as_ref(), o.max.as_ref()));
        let open_base = self.positive(at, base, OPEN_BASE);
        let open_max = self.positive(at, max, OPEN_MAX.max(open_base));
        let base_known = match (base, &spec.open) {
            (Some(base), _) => !base.inner.0.is_zero(),
            (None, Some(open)) => !at.may_have(open.mark, &["base"]),
            (None, None) => true,
        };
        if let Some(max) = max.filter(|m| base_known && m.inner.0 < open_base && !m.inner.0.is_zero()) {
            self.fault(at, max.mark, "`max` is shorter than `base`");
        }
        let failure_rate = spec.failure_rate.as_ref().map(|rate| model::FailureRate {
            percent: rate.percent,
            min_requests: rate.min_requests.unwrap_or(20),
            window: self.positive(at, rate.window.as_ref(), StdDuration::from_secs(10)),
        });
        let consecutive = match (spec.consecutive_failures, &failure_rate) {
            (None, None) => 5,
            (said, _) => said.unwrap_or(0),
        };
        model::CircuitBreaker {
            scope: match spec.scope {
                None | Some(documents::BreakerScopeWord::Endpoint) => model::BreakerScope::Endpoint,
                Some(documents::BreakerScopeWord::Upstream) => model::BreakerScope::Upstream,
            },
            consecutive_failures: (consecutive > 0).then_some(consecutive),
            failure_rate,
            open_base,
            open_max,
            half_open_probes: spec.half_open_probes.unwrap_or(3),
            max_ejected_percent: spec.max_ejected_percent.unwrap_or(50),
        }
    }

    fn rate_limit(&mut self, at: &Loaded, spec: &documents::RateLimitSpec) -> model::RateLimit {
        let by = spec.by.as_ref().map_or("client", |b| b.as_str());
        model::RateLimit {
            requests: spec.requests,
            per: self.positive(at, spec.per.as_ref(), StdDuration::from_secs(1)),
            burst: spec.burst.unwrap_or(spec.requests),
            by: match by.strip_prefix("header:") {
                Some(header) => model::RateLimitKey::Header(header.to_ascii_lowercase().into()),
                None if by == "all" => model::RateLimitKey::All,
                None => model::RateLimitKey::Client,
            },
        }
    }

    fn adaptive(
        &mut self,
        at: &Loaded,
        spec: &Spanned<documents::AdaptiveConcurrencySpec>,
    ) -> model::AdaptiveConcurrency {
        let min_limit = spec.min_limit.as_ref().map_or(4, |n| n.inner);
        let max_limit = spec.max_limit.as_ref().map_or(1000.max(min_limit), |n| n.inner);
        let known = spec.min_limit.is_some() || !at.may_have(spec.mark, &["minLimit"]);
        if let Some(max) = spec.max_limit.as_ref().filter(|_| max_limit < min_limit && known) {
            self.fault(at, max.mark, format!("`maxLimit` is below `minLimit`, which is {min_limit}"));
        }
        model::AdaptiveConcurrency { min_limit, max_limit }
    }

    fn balancing(&mut self, at: &Loaded, spec: &Spanned<documents::LoadBalancingSpec>) -> model::LoadBalancing {
        use documents::AlgorithmWord as Word;
        let algorithm = match spec.algorithm.as_ref().map(|a| a.inner) {
            None | Some(Word::PeakEwma) => model::Algorithm::PeakEwma,
            Some(Word::LeastRequest) => model::Algorithm::LeastRequest,
            Some(Word::RoundRobin) => model::Algorithm::RoundRobin,
            Some(Word::Random) => model::Algorithm::Random,
            Some(Word::Maglev) => model::Algorithm::Maglev,
        };
        let mut hash_on = None;
        if let Some(hash) = &spec.hash_on {
            hash_on = match (&hash.header, &hash.cookie, hash.client_address) {
                (Some(header), None, None | Some(false)) => {
                    Some(model::HashOn::Header(header.to_ascii_lowercase().into()))
                }
                (None, Some(cookie), None | Some(false)) => Some(model::HashOn::Cookie(cookie.as_str().into())),
                (None, None, Some(true)) => Some(model::HashOn::ClientAddress),
                (header, cookie, _) => {
                    let message = "`hashOn` is exactly one of `header`, `cookie` and `clientAddress: true`";
                    match (header, cookie) {
                        (None, None) => {
                            self.missing(at, hash.mark, &["header", "cookie", "clientAddress"], message);
                        }
                        _ => self.fault(at, hash.mark, message),
                    }
                    None
                }
            };
        } else if let Some(word) = spec.algorithm.as_ref().filter(|a| a.inner == Word::Maglev)
            && !at.may_have(spec.mark, &["hashOn"])
        {
            self.fault(at, word.mark, "`maglev` needs `hashOn`, which says what is hashed");
        }
        model::LoadBalancing {
            algorithm,
            hash_on,
            slow_start: spec.slow_start.and_then(|d| some_time(d.0)),
            zone: match spec.zone {
                None | Some(documents::ZoneWord::Ignore) => model::ZoneMode::Ignore,
                Some(documents::ZoneWord::Prefer) => model::ZoneMode::Prefer,
                Some(documents::ZoneWord::Only) => model::ZoneMode::Only,
            },
        }
    }

    fn fallback(&mut self, at: &Loaded, spec: &Spanned<documents::FallbackSpec>) -> Option<model::Fallback> {
        let mut actions = Vec::new();
        if let Some(age) = &spec.stale_if_error {
            let age = self.positive(at, Some(age), StdDuration::from_secs(1));
            actions.push(Some(model::FallbackAction::StaleIfError(age)));
        }
        if let Some(response) = &spec.response {
            actions.push(Some(model::FallbackAction::Response(model::StaticResponse {
                status: response.status.unwrap_or(200),
                headers: self.header_list(at, &response.headers),
                body: response.body.as_deref().unwrap_or_default().into(),
            })));
        }
        if let Some(backend) = &spec.backend_ref {
            actions.push(match self.upstream(at, backend) {
                Found::Here(id) => Some(model::FallbackAction::Backend(id)),
                Found::Elsewhere => None,
            });
        }
        if actions.len() != 1 {
            let message = "`fallback` is exactly one of `staleIfError`, `response` and `backendRef`";
            match actions.len() {
                0 => self.missing(at, spec.mark, &["staleIfError", "response", "backendRef"], message),
                _ => self.fault(at, spec.mark, message),
            }
        }
        let action = actions.into_iter().next().flatten()?;
        let mut on: Vec<Arc<str>> = Vec::new();
        for token in &spec.on {
            if !on.iter().any(|t| **t == *token.0) {
                on.push(token.0.as_str().into());
            }
        }
        Some(model::Fallback { on, action })
    }

    fn injection(&mut self, at: &Loaded, spec: &Spanned<documents::FaultSpec>) -> model::FaultInjection {
        if spec.delay.is_none() && spec.abort.is_none() {
            self.missing(at, spec.mark, &["delay", "abort"], "`fault` needs `delay` or `abort`");
        }
        model::FaultInjection {
            delay: spec.delay.as_ref().map(|d| model::FaultDelay { percent: d.percent, duration: d.duration.0 }),
            abort: spec.abort.as_ref().map(|a| model::FaultAbort {
                percent: a.percent,
                status: a.status.unwrap_or(503),
                grpc_status: a.grpc_status.map(documents::GrpcCode::number),
            }),
            when: spec.when.as_ref().map(|w| self.value_matches(at, &w.headers, true)).unwrap_or_default(),
        }
    }
}

pub(super) fn mode(word: Option<documents::ModeWord>) -> model::Mode {
    match word {
        None | Some(documents::ModeWord::Enforce) => model::Mode::Enforce,
        Some(documents::ModeWord::Observe) => model::Mode::Observe,
    }
}

fn limits(spec: Option<&documents::LimitsSpec>) -> model::Limits {
    let default = model::Limits::default();
    let Some(spec) = spec else { return default };
    let bound = |said: Option<u32>, default| match said {
        None => default,
        Some(0) => u32::MAX,
        Some(n) => n,
    };
    model::Limits {
        max_connections: bound(spec.max_connections, default.max_connections),
        max_requests: bound(spec.max_requests, default.max_requests),
        max_pending: bound(spec.max_pending, default.max_pending),
        max_requests_per_connection: bound(spec.max_requests_per_connection, default.max_requests_per_connection),
    }
}
