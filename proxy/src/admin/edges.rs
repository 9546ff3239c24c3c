//! `/edges`: who talks to whom through this proxy, with identity, success and latency; and `/errors`: what failed lately.
//!
//! Edges are what the metrics count, so whoever may scrape may read them. Errors have paths in them, so they are
//! for processes on the same host, as taps are.

use std::{cmp::Reverse, net::SocketAddr};

use http::{HeaderMap, StatusCode};
use outrigger_config::model::{Direction, UpstreamTls};
use serde_json::{Value, json};

use super::{
    Admin, guard,
    routes::{Answer, json_answer, refused},
};
use crate::{
    observe::{BUCKETS, Distribution, Edge, EdgeKey},
    shared::{Shared, Snapshot},
};

/// Edges that are shown, the busiest first: about 200 KiB.
const SHOWN: usize = 500;

/// Identities that one upstream shows: its endpoints may each have one.
const IDENTITIES: usize = 5;

/// `/edges`.
pub(super) fn view(shared: &Shared) -> Value {
    let snapshot = shared.snapshot();
    let durations = shared.observer.durations();
    let mut edges: Vec<(EdgeKey, Edge)> = shared.observer.edges().into_iter().filter(|(_, e)| e.requests > 0).collect();
    edges.sort_by_key(|(_, edge)| Reverse(edge.requests));
    let more = edges.len().saturating_sub(SHOWN);
    edges.truncate(SHOWN);
    let rows = edges.iter().map(|(key, edge)| {
        let (direction, upstream, _) = key;
        let callers = edges.iter().filter(|((d, u, _), _)| d == direction && u == upstream).count();
        let durations = durations.get(&(direction.clone(), upstream.clone())).copied().unwrap_or_default();
        row(&snapshot, key, *edge, &durations, callers)
    });
    json!({
        "proxy": snapshot.model.proxy.name,
        "identity": snapshot.tls.identity().map(ToString::to_string),
        "bucket_bounds": BUCKETS,
        "edges": rows.collect::<Vec<_>>(),
        "more": more,
    })
}

fn row(snapshot: &Snapshot, key: &EdgeKey, edge: Edge, durations: &Distribution, callers: usize) -> Value {
    let (direction, upstream, peer) = key;
    let inbound = direction == Direction::Inbound.as_str();
    let servers = if inbound { Vec::new() } else { servers(snapshot, upstream) };
    let mtls = if inbound { !peer.is_empty() } else { !servers.is_empty() };
    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    let success = (edge.requests - edge.failures) as f64 / edge.requests.max(1) as f64;
    json!({
        "direction": direction,
        "upstream": upstream,
        "peer": Some(peer).filter(|p| !p.is_empty()),
        "servers": servers,
        "mtls": mtls,
        "requests": edge.requests,
        "failures": edge.failures,
        "success_rate": success,
        "latency": {
            // Durations are not counted by caller.
            "of": if callers > 1 { "all callers of the upstream" } else { "edge" },
            "p50_seconds": durations.quantile(0.5),
            "p95_seconds": durations.quantile(0.95),
            "p99_seconds": durations.quantile(0.99),
            "buckets": durations.buckets,
        },
    })
}

/// The identities that servers of an upstream have to prove.
fn servers(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let Some(state) = snapshot.upstreams.iter().find(|u| &*u.config.name == name) else { return Vec::new() };
    let set = state.endpoints().load();
    let mut found: Vec<String> =
        set.endpoints.iter().filter_map(|e| e.config.identity.as_deref().map(str::to_owned)).collect();
    if let (UpstreamTls::Mesh { identity }, true) = (&state.config.tls, found.is_empty()) {
        found.push(identity.to_string());
    }
    found.sort();
    found.dedup();
    found.truncate(IDENTITIES);
    found
}

/// `/errors`.
pub(super) fn errors(admin: &Admin, peer: SocketAddr, headers: &HeaderMap) -> Answer {
    match guard::change(peer, headers) {
        Ok(()) => json_answer(StatusCode::OK, &admin.shared.observer.recent_errors()),
        Err(refusal) => refused(refusal),
    }
}
