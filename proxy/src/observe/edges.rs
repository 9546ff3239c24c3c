//! Who talks to whom: requests summed by direction, upstream and peer. What `/metrics` shows, in another shape.
//!
//! The bound is that of the family it is read from: label sets beyond it are one edge called `other`.

use std::collections::BTreeMap;

use super::{
    Distribution, Observer,
    families::Family,
    render::{distribution, sum},
};

/// The requests of one caller to one upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edge {
    /// All.
    pub requests: u64,
    /// Those that failed: see `failed`.
    pub failures: u64,
}

/// Direction, upstream, and the peer's identity (empty: it has proven none).
pub type EdgeKey = (String, String, String);

impl Observer {
    /// Requests so far, by direction, upstream and peer.
    #[must_use]
    pub fn edges(&self) -> BTreeMap<EdgeKey, Edge> {
        let mut edges = BTreeMap::<EdgeKey, Edge>::new();
        self.registry.read(|tables| {
            for series in &tables.counters(Family::Requests).series {
                let [direction, upstream, _, _, status, grpc, reason, peer] = &*series.labels else { continue };
                let count = sum(series);
                let edge = edges.entry((direction.to_string(), upstream.to_string(), peer.to_string())).or_default();
                edge.requests += count;
                if failed(status, grpc, reason) {
                    edge.failures += count;
                }
            }
        });
        edges
    }

    /// Durations by direction and upstream, of all callers: the family of durations does not tell them apart.
    #[must_use]
    pub fn durations(&self) -> BTreeMap<(String, String), Distribution> {
        let mut all = BTreeMap::<_, Distribution>::new();
        self.registry.read(|tables| {
            for series in &tables.histograms(Family::Duration).series {
                let [direction, upstream, ..] = &*series.labels else { continue };
                let total = all.entry((direction.to_string(), upstream.to_string())).or_default();
                let more = distribution(series);
                total.sum_ns += more.sum_ns;
                total.buckets.iter_mut().zip(more.buckets).for_each(|(t, m)| *t += m);
            }
        });
        all
    }

    /// What became of wishes to try again, by upstream.
    #[must_use]
    pub fn retries(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut all = BTreeMap::<String, BTreeMap<String, u64>>::new();
        self.registry.read(|tables| {
            for series in &tables.counters(Family::Retries).series {
                let [upstream, result] = &*series.labels else { continue };
                *all.entry(upstream.to_string()).or_default().entry(result.to_string()).or_default() += sum(series);
            }
        });
        all
    }
}

/// True for a request that its caller did not get a good answer to: 5xx, none at all, or a gRPC status that OpenTelemetry counts
/// as the server's error. Not if the caller went away.
pub(super) fn failed(status: &str, grpc: &str, reason: &str) -> bool {
    /// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    const SERVER: [&str; 6] = ["2", "4", "12", "13", "14", "15"];
    reason != "client_disconnected" && (status == "0" || status.starts_with('5') || SERVER.contains(&grpc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_failed() {
        for (status, grpc, reason, bad) in [
            ("200", "", "", false),
            ("404", "", "", false),
            ("503", "", "circuit_open", true),
            ("0", "", "connection_terminated", true),
            ("0", "", "client_disconnected", false),
            ("200", "0", "", false),
            ("200", "5", "", false),
            ("200", "14", "", true),
        ] {
            assert_eq!(failed(status, grpc, reason), bad, "{status} {grpc} {reason}");
        }
    }
}
