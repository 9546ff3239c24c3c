//! `/stats.json` of a proxy, and rows made out of two of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::table::quantile;

/// What a proxy has counted since its start, as far as it is used. Fields that an older proxy does not have are empty.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stats {
    uptime_seconds: f64,
    bucket_bounds: Vec<f64>,
    routes: Vec<Route>,
    #[serde(default)]
    upstreams: Vec<Upstream>,
    /// By upstream and result.
    #[serde(default)]
    retries: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Route {
    direction: String,
    upstream: String,
    route: String,
    requests: u64,
    #[serde(default)]
    failures: u64,
    buckets: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Upstream {
    name: String,
    breaker: Option<Breaker>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Breaker {
    state: Option<String>,
    ejected: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) proxy: String,
    pub(super) direction: String,
    pub(super) upstream: String,
    pub(super) route: String,
    /// Requests per second.
    pub(super) rate: f64,
    /// Share of the requests that did not fail; `None`: there were none.
    pub(super) success: Option<f64>,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p95_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    /// Empty: there is no breaker.
    pub(super) circuit: String,
    /// Of the upstream, per second.
    pub(super) retries: f64,
    /// Since the start.
    pub(super) requests: u64,
    pub(super) failures: u64,
}

impl Row {
    pub(super) fn name(&self) -> (&str, &str, &str, &str) {
        (&self.proxy, &self.direction, &self.upstream, &self.route)
    }
}

/// The rows of a proxy. `then`: its answer of before; without one, or after a restart, rates are since the start.
#[expect(clippy::cast_precision_loss, reason = "rates are floats")]
pub(super) fn rows(proxy: &str, then: Option<&Stats>, now: &Stats) -> Vec<Row> {
    let then = then.filter(|then| then.uptime_seconds < now.uptime_seconds);
    let seconds = (now.uptime_seconds - then.map_or(0.0, |t| t.uptime_seconds)).max(0.001);
    let mut rows = Vec::new();
    for route in &now.routes {
        let before = then.and_then(|t| t.routes.iter().find(|r| same(r, route)));
        let more = |of: fn(&Route) -> u64| of(route).saturating_sub(before.map_or(0, of));
        let (requests, failures) = (more(|r| r.requests), more(|r| r.failures));
        let old = before.map_or(&[][..], |b| &b.buckets);
        let minus = |(i, n): (usize, &u64)| n.saturating_sub(old.get(i).copied().unwrap_or(0));
        let buckets: Vec<u64> = route.buckets.iter().enumerate().map(minus).collect();
        let at = |q| quantile(q, &buckets, &now.bucket_bounds);
        let sent = |stats: &Stats| stats.retries.get(&route.upstream).and_then(|r| r.get("sent")).copied().unwrap_or(0);
        rows.push(Row {
            proxy: proxy.to_owned(),
            direction: route.direction.clone(),
            upstream: route.upstream.clone(),
            route: route.route.clone(),
            rate: requests as f64 / seconds,
            success: (requests > 0).then(|| requests.saturating_sub(failures) as f64 / requests as f64),
            p50_seconds: at(0.5),
            p95_seconds: at(0.95),
            p99_seconds: at(0.99),
            circuit: circuit(now, &route.upstream),
            retries: sent(now).saturating_sub(then.map_or(0, sent)) as f64 / seconds,
            requests: route.requests,
            failures: route.failures,
        });
    }
    rows
}

fn same(a: &Route, b: &Route) -> bool {
    (&a.direction, &a.upstream, &a.route) == (&b.direction, &b.upstream, &b.route)
}

fn circuit(stats: &Stats, upstream: &str) -> String {
    let Some(found) = stats.upstreams.iter().find(|u| u.name == upstream) else { return String::new() };
    match &found.breaker {
        None => String::new(),
        Some(Breaker { state: Some(state), .. }) => state.clone(),
        Some(Breaker { ejected: Some(0) | None, .. }) => "closed".to_owned(),
        Some(Breaker { ejected: Some(out), .. }) => format!("{out}/{} ejected", found.endpoints.len()),
    }
}
