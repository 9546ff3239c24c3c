//! What is live, as JSON: `/upstreams`, and the figures of the page.
//!
//! Everything is read from atomics that workers write, so it costs them nothing to be looked at.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use outrigger_config::model::EndpointSource;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use super::config::{camel, tls};
use crate::{
    observe::BUCKETS,
    policy::{Target, limits::Gate},
    shared::{EndpointState, Phase, Resolution, Shared, UpstreamState},
};

/// `/upstreams`.
pub(super) fn upstreams(shared: &Shared) -> Value {
    let snapshot = shared.snapshot();
    json!({ "upstreams": snapshot.upstreams.iter().map(|u| upstream(u)).collect::<Vec<_>>() })
}

fn upstream(state: &UpstreamState) -> Value {
    let config = &state.config;
    let set = state.endpoints().load();
    json!({
        "name": config.name,
        "protocol": camel(&config.protocol),
        "algorithm": camel(&config.policy.load_balancing.algorithm),
        "tls": tls(&config.tls),
        "source": source(&config.source),
        "resolution": resolution(&set.resolution),
        "breaker": breaker(&state.target),
        "limits": limits(&state.target),
        "endpoints": set.endpoints.iter().map(|e| endpoint(state, e)).collect::<Vec<_>>(),
        "origin": config.origin.to_string(),
    })
}

/// No breaker watches an upstream unless its policy has one.
fn breaker(target: &Target) -> Option<Value> {
    let config = target.state.policy().circuit_breaker.as_ref()?;
    let now = Instant::now();
    let whole = target.state.breaker.as_ref();
    Some(json!({
        "scope": camel(&config.scope),
        "state": whole.map(|b| b.state().as_str()),
        "retry_after_seconds": whole.and_then(|b| b.retry_after(now)).map(|d| d.as_secs_f64()),
        "ejected": target.state.ejections.as_ref().map(|e| e.out()),
    }))
}

fn limits(target: &Target) -> Value {
    let gate = |gate: &Gate| {
        let view = gate.view();
        json!({ "in_flight": view.in_flight, "limit": view.limit, "waiting": view.waiting, "max_pending": view.max_pending })
    };
    json!({
        "requests": gate(&target.state.bulkhead.requests),
        "connections": gate(&target.state.bulkhead.connections),
        "adaptive": target.state.adaptive.as_ref().map(|a| json!({ "limit": a.limit(), "in_flight": a.in_flight() })),
    })
}

fn endpoint(upstream: &UpstreamState, state: &EndpointState) -> Value {
    let sum = |read: fn(&crate::shared::WorkerSlot) -> u64| state.workers.iter().map(read).sum::<u64>();
    json!({
        "address": state.config.address.to_string(),
        "weight": state.config.weight,
        "zone": state.config.zone,
        "identity": state.config.identity,
        "state": upstream.standing(state),
        "in_flight": state.in_flight(),
        "connections": sum(|w| w.connections.load(Ordering::Relaxed).into()),
        "requests": sum(|w| w.requests.load(Ordering::Relaxed)),
        "failures": sum(|w| w.failures.load(Ordering::Relaxed)),
        "ewma_ms": ewma_ms(state),
    })
}

/// Mean of what the workers that used the endpoint have measured.
fn ewma_ms(state: &EndpointState) -> Option<f64> {
    let measured = state.workers.iter().map(|w| f64::from_bits(w.ewma_bits.load(Ordering::Relaxed)));
    let (sum, count) = measured.filter(|s| s.is_finite() && *s > 0.0).fold((0.0, 0.0), |(s, n), e| (s + e, n + 1.0));
    (count > 0.0).then(|| (sum / count * 1e6).round() / 1e3)
}

fn source(source: &EndpointSource) -> Value {
    match source {
        EndpointSource::Static(_) => json!({ "kind": "static" }),
        EndpointSource::Dns { name, port } => json!({ "kind": "dns", "name": name, "port": port }),
        EndpointSource::Srv { name } => json!({ "kind": "srv", "name": name }),
        EndpointSource::Registry(registry) => json!({ "kind": "registry", "registry": registry.describe() }),
        EndpointSource::Discovered => json!({ "kind": "discovered" }),
        EndpointSource::Local { port } => json!({ "kind": "local", "port": port }),
    }
}

fn resolution(resolution: &Resolution) -> Value {
    match resolution {
        Resolution::Static => json!({ "state": "static" }),
        Resolution::Discovered { at } => json!({ "state": "discovered", "at": seconds(*at) }),
        Resolution::Pending => json!({ "state": "pending" }),
        Resolution::Resolved { at, ttl } => {
            json!({ "state": "resolved", "at": seconds(*at), "ttl_seconds": ttl.as_secs_f64() })
        }
        Resolution::Failed { at, reason, details } => {
            json!({ "state": "failed", "at": seconds(*at), "reason": reason.token(), "details": details })
        }
    }
}

/// `/stats.json`: totals since the start; the page makes rates out of two of them.
pub(super) fn stats(admin: &Admin) -> Value {
    let shared = &admin.shared;
    let snapshot = shared.snapshot();
    let phase = *shared.phase().borrow();
    let unproven = shared.observer.plaintext();
    let unproven = |listener: &str| {
        unproven["sources"].as_array().map_or(0, |all| all.iter().filter(|row| row["listener"] == listener).count())
    };
    let listeners = snapshot.listeners.iter().map(|bound| {
        let config = snapshot.model.listener(&bound.name);
        json!({
            "name": bound.name,
            "address": bound.local.to_string(),
            "direction": config.map(|l| l.direction.as_str()),
            "protocol": config.map(|l| camel(&l.protocol)),
            "mtls": config.map(|l| camel(&l.mtls)),
            "connections": bound.connections.load(Ordering::Relaxed),
            "unproven": unproven(&bound.name),
        })
    });
    let routes = shared.observer.totals().into_iter().map(|((direction, upstream, route), t)| {
        json!({
            "direction": direction,
            "upstream": upstream,
            "route": route,
            "requests": t.requests,
            "failures": t.failures,
            "classes": t.classes,
            "reasons": t.reasons,
            "buckets": t.durations.buckets,
            "sum_seconds": t.durations.sum_seconds(),
        })
    });
    json!({
        "name": snapshot.model.proxy.name,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": admin.started.elapsed().as_secs_f64(),
        "phase": match phase {
            Phase::Serving => "serving",
            Phase::Leaving | Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        },
        "config": {
            "version": snapshot.version,
            "applied": seconds(snapshot.applied),
            "warnings": snapshot.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "workers": shared.workers,
        "identity": snapshot.tls.identity().map(ToString::to_string),
        "retries": shared.observer.retries(),
        "open_connections": shared.open_connections.load(Ordering::Relaxed),
        "bucket_bounds": BUCKETS,
        "listeners": listeners.collect::<Vec<_>>(),
        "upstreams": snapshot.upstreams.iter().map(|u| upstream(u)).collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
    })
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
