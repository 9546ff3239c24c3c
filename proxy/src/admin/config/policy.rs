//! `/config`: the resilience policy of an upstream or a rule.

use outrigger_config::model::{
    CircuitBreaker, Fallback, FallbackAction, FaultInjection, HashOn, Limits, LoadBalancing, Model, RateLimit,
    RateLimitKey, Retry, RetryMethods, Timeouts, TrafficPolicy,
};
use serde_json::{Value, json};

use super::{camel, time, values};

/// One policy.
pub(super) fn view(model: &Model, policy: &TrafficPolicy) -> Value {
    json!({
        "name": policy.name,
        "origin": policy.origin.as_ref().map(ToString::to_string),
        "mode": camel(&policy.mode),
        "timeouts": timeouts(&policy.timeouts),
        "retry": policy.retry.as_ref().map(retry),
        "circuitBreaker": policy.circuit_breaker.as_ref().map(breaker),
        "limits": limits(&policy.limits),
        "rateLimit": policy.rate_limit.as_ref().map(rate_limit),
        "adaptiveConcurrency": policy.adaptive_concurrency.as_ref().map(|a| {
            json!({ "minLimit": a.min_limit, "maxLimit": a.max_limit })
        }),
        "loadBalancing": load_balancing(&policy.load_balancing),
        "fallback": policy.fallback.as_ref().map(|f| fallback(model, f)),
        "fault": policy.fault.as_ref().map(fault),
    })
}

fn timeouts(t: &Timeouts) -> Value {
    json!({
        "request": t.request.map(time),
        "backendRequest": t.backend_request.map(time),
        "connect": t.connect.map(time),
        "idle": t.idle.map(time),
        "upstreamIdle": t.upstream_idle.map(time),
        "maxConnectionAge": t.max_connection_age.map(time),
    })
}

fn retry(r: &Retry) -> Value {
    let methods = match &r.methods {
        RetryMethods::Idempotent => json!("idempotent"),
        RetryMethods::List(list) => json!(list.iter().map(http::Method::as_str).collect::<Vec<_>>()),
    };
    json!({
        "attempts": r.attempts,
        "codes": r.codes,
        "grpcCodes": r.grpc_codes,
        "methods": methods,
        "backoff": { "base": time(r.backoff_base), "max": time(r.backoff_max) },
        "budget": {
            "percent": r.budget.percent,
            "interval": time(r.budget.interval),
            "minRetryRate": { "count": r.budget.min_count, "interval": time(r.budget.min_interval) },
        },
        "maxBodyBytes": r.max_body_bytes,
    })
}

fn breaker(b: &CircuitBreaker) -> Value {
    json!({
        "scope": camel(&b.scope),
        "consecutiveFailures": b.consecutive_failures,
        "failureRate": b.failure_rate.as_ref().map(|f| {
            json!({ "percent": f.percent, "minRequests": f.min_requests, "window": time(f.window) })
        }),
        "open": { "base": time(b.open_base), "max": time(b.open_max) },
        "halfOpenProbes": b.half_open_probes,
        "maxEjectedPercent": b.max_ejected_percent,
    })
}

fn limits(l: &Limits) -> Value {
    let limit = |n: u32| (n != u32::MAX).then_some(n);
    json!({
        "maxConnections": limit(l.max_connections),
        "maxRequests": limit(l.max_requests),
        "maxPending": limit(l.max_pending),
        "maxRequestsPerConnection": limit(l.max_requests_per_connection),
    })
}

fn rate_limit(r: &RateLimit) -> Value {
    let by = match &r.by {
        RateLimitKey::Client => "client".to_owned(),
        RateLimitKey::Header(name) => format!("header:{name}"),
        RateLimitKey::All => "all".to_owned(),
    };
    json!({ "requests": r.requests, "per": time(r.per), "burst": r.burst, "by": by })
}

fn load_balancing(l: &LoadBalancing) -> Value {
    let hash_on = l.hash_on.as_ref().map(|h| match h {
        HashOn::Header(name) => json!({ "header": name }),
        HashOn::Cookie(name) => json!({ "cookie": name }),
        HashOn::ClientAddress => json!("clientAddress"),
    });
    json!({
        "algorithm": camel(&l.algorithm),
        "hashOn": hash_on,
        "slowStart": l.slow_start.map(time),
        "zone": camel(&l.zone),
    })
}

fn fallback(model: &Model, f: &Fallback) -> Value {
    let action = match &f.action {
        FallbackAction::StaleIfError(age) => json!({ "staleIfError": time(*age) }),
        FallbackAction::Response(r) => {
            let headers: Vec<_> = r.headers.iter().map(|(n, v)| json!({ "name": n, "value": v })).collect();
            json!({ "response": { "status": r.status, "headers": headers, "body": r.body } })
        }
        FallbackAction::Backend(id) => json!({ "backendRef": model.upstream(*id).name }),
    };
    json!({ "on": f.on, "action": action })
}

fn fault(f: &FaultInjection) -> Value {
    json!({
        "delay": f.delay.as_ref().map(|d| json!({ "percent": d.percent, "duration": time(d.duration) })),
        "abort": f.abort.as_ref().map(|a| {
            json!({ "percent": a.percent, "status": a.status, "grpcStatus": a.grpc_status })
        }),
        "when": values(&f.when),
    })
}
