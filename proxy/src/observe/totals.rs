//! Requests summed by route, for the page for people: what `/metrics` shows, with fewer labels.

use std::collections::BTreeMap;

use super::{
    Distribution, Observer, edges,
    families::Family,
    render::{distribution, sum},
};

/// The requests of one route in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// All.
    pub requests: u64,
    /// By class of status: 1xx to 5xx; the last one is what got none.
    pub classes: [u64; 6],
    /// Those that failed, as `edges::failed` has it: gRPC too, which always answers 200.
    pub failures: u64,
    /// Those that the proxy answered or cut short, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Of all, by duration.
    pub durations: Distribution,
}

/// Direction, upstream and route.
pub type RouteKey = (String, String, String);

impl Observer {
    /// Requests so far, by direction, upstream and route.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<RouteKey, Totals> {
        let mut totals = BTreeMap::<RouteKey, Totals>::new();
        self.registry.read(|tables| {
            for series in &tables.counters(Family::Requests).series {
                let [direction, upstream, route, _, status, grpc, reason, _] = &*series.labels else { continue };
                let count = sum(series);
                let total = totals.entry((direction.to_string(), upstream.to_string(), route.to_string())).or_default();
                total.requests += count;
                total.classes[class(status)] += count;
                if edges::failed(status, grpc, reason) {
                    total.failures += count;
                }
                if !reason.is_empty() {
                    *total.reasons.entry(reason.to_string()).or_default() += count;
                }
            }
            for series in &tables.histograms(Family::Duration).series {
                let [direction, upstream, route, _] = &*series.labels else { continue };
                let total = totals.entry((direction.to_string(), upstream.to_string(), route.to_string())).or_default();
                let more = distribution(series);
                total.durations.sum_ns += more.sum_ns;
                total.durations.buckets.iter_mut().zip(more.buckets).for_each(|(t, m)| *t += m);
            }
        });
        totals
    }
}

fn class(status: &str) -> usize {
    match (status.len(), status.as_bytes()) {
        (3, [digit @ b'1'..=b'5', ..]) => usize::from(digit - b'1'),
        _ => 5,
    }
}
