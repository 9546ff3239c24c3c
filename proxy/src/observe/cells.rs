//! The numbers themselves: cells with one writer.
//!
//! A cell belongs to one worker. That worker adds with a relaxed load and a relaxed store, so there is no
//! locked instruction and no cache line that two cores write. The control thread only reads, when somebody
//! scrapes; it may see a request counted whose duration it does not see yet, which the next scrape mends.
//! Cells are aligned to a cache line because the allocations of different workers may be neighbours.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the duration buckets in seconds: OpenTelemetry's for HTTP.
pub const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// [`BUCKETS`] in nanoseconds.
const BUCKETS_NS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// A count that one worker writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. To be called by the owning worker only: two writers would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds from any thread, at the price of a locked instruction.
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution of durations that one worker writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Histogram {
    /// Not cumulative; the last one has no upper bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    /// 584 years of nanoseconds before it wraps.
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Adds one. To be called by the owning worker only.
    #[inline]
    pub(crate) fn record(&self, duration: Duration) {
        let ns = duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()));
        // Most requests end in the first bucket or two, so a scan from the left beats a binary search.
        let index = BUCKETS_NS.iter().position(|&bound| ns <= bound).unwrap_or(BUCKETS.len());
        let bucket = &self.buckets[index];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.sum_ns.store(self.sum_ns.load(Ordering::Relaxed).wrapping_add(ns), Ordering::Relaxed);
    }

    /// Adds what is here to `total`.
    pub(crate) fn add_to(&self, total: &mut Distribution) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum_ns += u128::from(self.sum_ns.load(Ordering::Relaxed));
    }
}

/// Histograms summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Not cumulative; the last one has no upper bound.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// Of all durations.
    pub sum_ns: u128,
}

impl Distribution {
    /// How many durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The `q`-quantile in seconds, interpolated within its bucket as Prometheus does it; `None`: there are none. What is beyond
    /// the last bound counts as that bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        let mut seen = 0.0;
        for (i, count) in self.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            let count = *count as f64;
            if seen + count >= rank {
                let high = *BUCKETS.get(i).or(BUCKETS.last())?;
                let low = if i == 0 { 0.0 } else { BUCKETS[(i - 1).min(BUCKETS.len() - 1)] };
                return Some(low + (high - low) * ((rank - seen) / count).clamp(0.0, 1.0));
            }
            seen += count;
        }
        None
    }

    /// Their sum in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_in_both_units() {
        for (seconds, ns) in BUCKETS.iter().zip(BUCKETS_NS) {
            assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_nanos(ns));
        }
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(5));
        histogram.record(Duration::from_nanos(5_000_001));
        histogram.record(Duration::from_secs(11));
        histogram.record(Duration::MAX);
        let mut total = Distribution::default();
        histogram.add_to(&mut total);
        assert_eq!(total.buckets[..2], [1, 1]);
        assert_eq!(total.buckets[BUCKETS.len()], 2);
        assert_eq!(total.count(), 4);
    }
}
