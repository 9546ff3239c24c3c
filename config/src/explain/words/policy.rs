//! A traffic policy, field by field, under the names that documents use.
//!
//! What is off is left out, the four times excepted: that a time is not limited is worth knowing.

use std::time::Duration;

use crate::model::{
    Algorithm, BreakerScope, CircuitBreaker, FaultInjection, HashOn, Limits, LoadBalancing, Model, RateLimit,
    RateLimitKey, Retry, RetryMethods, Timeouts, TrafficPolicy, ZoneMode,
};

use super::{duration, fallback, value};

type Settings = Vec<(&'static str, String)>;

/// Everything that `policy` says.
pub(in crate::explain) fn settings(model: &Model, policy: &TrafficPolicy) -> Settings {
    let mut all = Settings::new();
    timeouts(&policy.timeouts, &mut all);
    if let Some(retry) = &policy.retry {
        retries(retry, &mut all);
    }
    if let Some(breaker) = &policy.circuit_breaker {
        circuit_breaker(breaker, &mut all);
    }
    limits(&policy.limits, &mut all);
    all.extend(policy.rate_limit.iter().map(|limit| ("rateLimit", rate_limit(limit))));
    if let Some(adaptive) = &policy.adaptive_concurrency {
        all.push(("adaptiveConcurrency", format!("{} to {}", adaptive.min_limit, adaptive.max_limit)));
    }
    load_balancing(&policy.load_balancing, &mut all);
    if let Some(instead) = &policy.fallback {
        all.push(("fallback", format!("{} on {}", fallback(model, &instead.action), instead.on.join(", "))));
    }
    if let Some(injected) = &policy.fault {
        fault(injected, &mut all);
    }
    all
}

fn timeouts(timeouts: &Timeouts, all: &mut Settings) {
    let text = |time: Option<Duration>| time.map_or_else(|| "no limit".to_owned(), duration);
    all.push(("timeouts.request", text(timeouts.request)));
    all.push(("timeouts.backendRequest", text(timeouts.backend_request)));
    all.push(("timeouts.connect", text(timeouts.connect)));
    all.push(("timeouts.idle", text(timeouts.idle)));
    all.extend(timeouts.upstream_idle.map(|time| ("timeouts.upstreamIdle", duration(time))));
    all.extend(timeouts.max_connection_age.map(|time| ("timeouts.maxConnectionAge", duration(time))));
}

fn retries(retry: &Retry, all: &mut Settings) {
    all.push(("retry.attempts", retry.attempts.to_string()));
    if !retry.codes.is_empty() {
        all.push(("retry.codes", list(&retry.codes)));
    }
    if !retry.grpc_codes.is_empty() {
        all.push(("retry.grpcCodes", list(&retry.grpc_codes)));
    }
    let methods = match &retry.methods {
        RetryMethods::Idempotent => "idempotent".to_owned(),
        RetryMethods::List(methods) => list(methods),
    };
    all.push(("retry.methods", methods));
    all.push(("retry.backoff", format!("{} to {}", duration(retry.backoff_base), duration(retry.backoff_max))));
    let budget = &retry.budget;
    let text = format!(
        "{}% of requests in {}, at least {} in {}",
        budget.percent,
        duration(budget.interval),
        budget.min_count,
        duration(budget.min_interval)
    );
    all.push(("retry.budget", text));
    all.push(("retry.maxBodyBytes", retry.max_body_bytes.to_string()));
}

fn circuit_breaker(breaker: &CircuitBreaker, all: &mut Settings) {
    let scope = match breaker.scope {
        BreakerScope::Endpoint => "endpoint",
        BreakerScope::Upstream => "upstream",
    };
    all.push(("circuitBreaker.scope", scope.to_owned()));
    all.extend(breaker.consecutive_failures.map(|n| ("circuitBreaker.consecutiveFailures", n.to_string())));
    if let Some(rate) = &breaker.failure_rate {
        let text = format!("{}% of at least {} in {}", rate.percent, rate.min_requests, duration(rate.window));
        all.push(("circuitBreaker.failureRate", text));
    }
    all.push(("circuitBreaker.open", format!("{} to {}", duration(breaker.open_base), duration(breaker.open_max))));
    all.push(("circuitBreaker.halfOpenProbes", breaker.half_open_probes.to_string()));
    if breaker.scope == BreakerScope::Endpoint {
        all.push(("circuitBreaker.maxEjectedPercent", breaker.max_ejected_percent.to_string()));
    }
}

fn limits(limits: &Limits, all: &mut Settings) {
    let bounds = [
        ("limits.maxConnections", limits.max_connections),
        ("limits.maxRequests", limits.max_requests),
        ("limits.maxPending", limits.max_pending),
        ("limits.maxRequestsPerConnection", limits.max_requests_per_connection),
    ];
    all.extend(bounds.iter().filter(|(_, n)| *n != u32::MAX).map(|(name, n)| (*name, n.to_string())));
}

fn rate_limit(limit: &RateLimit) -> String {
    let by = match &limit.by {
        RateLimitKey::Client => "client".to_owned(),
        RateLimitKey::Header(name) => format!("header:{name}"),
        RateLimitKey::All => "all".to_owned(),
    };
    format!("{} per {}, burst {}, by {by}", limit.requests, duration(limit.per), limit.burst)
}

fn load_balancing(balancing: &LoadBalancing, all: &mut Settings) {
    let algorithm = match balancing.algorithm {
        Algorithm::PeakEwma => "peakEwma",
        Algorithm::LeastRequest => "leastRequest",
        Algorithm::RoundRobin => "roundRobin",
        Algorithm::Random => "random",
        Algorithm::Maglev => "maglev",
    };
    all.push(("loadBalancing.algorithm", algorithm.to_owned()));
    all.extend(balancing.hash_on.iter().map(|on| {
        let text = match on {
            HashOn::Header(name) => format!("header {name}"),
            HashOn::Cookie(name) => format!("cookie {name}"),
            HashOn::ClientAddress => "clientAddress".to_owned(),
        };
        ("loadBalancing.hashOn", text)
    }));
    all.extend(balancing.slow_start.map(|time| ("loadBalancing.slowStart", duration(time))));
    let zone = match balancing.zone {
        ZoneMode::Ignore => None,
        ZoneMode::Prefer => Some("prefer"),
        ZoneMode::Only => Some("only"),
    };
    all.extend(zone.map(|zone| ("loadBalancing.zone", zone.to_owned())));
}

fn fault(fault: &FaultInjection, all: &mut Settings) {
    if let Some(delay) = &fault.delay {
        all.push(("fault.delay", format!("{} for {}%", duration(delay.duration), delay.percent)));
    }
    if let Some(abort) = &fault.abort {
        let grpc = abort.grpc_status.map(|status| format!(" (gRPC {status})")).unwrap_or_default();
        all.push(("fault.abort", format!("{}{grpc} for {}%", abort.status, abort.percent)));
    }
    if !fault.when.is_empty() {
        let conditions: Vec<_> = fault.when.iter().map(value).collect();
        all.push(("fault.when", conditions.join(", ")));
    }
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
