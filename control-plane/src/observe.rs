//! The control plane's own metrics.
//!
//! One registry per process, made once and shared; every handle is resolved here so that no hot path looks one up by name.
//! All labels are enumerations of ours (kinds of objects, kinds of keys, reasons): nothing that a cluster or a proxy chooses,
//! so the number of series is known when this file is read. Names of pods and documents are for the log, `/proxies` and `status`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};
use tokio::time::Instant;

/// Every family that this program writes.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What came from the API server: `kind`, `type` (`list`, `apply`, `delete`, `bookmark`).
    pub watch_events: IntCounterVec,
    /// Watches that failed: `kind`, `reason`.
    pub watch_errors: IntCounterVec,
    /// 1 once a kind has had its first full list.
    pub watch_synced: IntGaugeVec,
    /// From the arrival of an event to its being in the index.
    pub watch_lag: Histogram,
    /// Objects held: `kind`.
    pub objects: IntGaugeVec,
    /// Documents in which the compiler finds a fault: `kind`.
    pub documents_refused: IntGaugeVec,
    /// Open discovery streams.
    pub streams: IntGauge,
    /// Streams that ended or were not let in: `reason`.
    pub streams_ended: IntCounterVec,
    /// TLS connections that came to nothing: `reason`.
    pub handshakes_failed: IntCounterVec,
    /// Subscriptions of all streams, unasked ones included.
    pub subscriptions: IntGauge,
    /// Whole resources sent: `key` (its kind).
    pub pushes: IntCounterVec,
    /// Endpoint deltas sent.
    pub deltas: IntCounter,
    /// Versions that proxies acknowledged.
    pub acknowledgements: IntCounter,
    /// Warnings in acknowledgements.
    pub warnings: IntCounter,
    /// Versions that proxies refused.
    pub refusals: IntCounter,
    /// Subscriptions beyond a stream's limit.
    pub subscriptions_refused: IntCounter,
    /// From the arrival of an event to a proxy's acknowledgement of what it led to.
    pub event_to_ack: Histogram,
    /// Time spent making one resource from the index.
    pub resolve: Histogram,
    /// Status writes: `result`.
    pub status_writes: IntCounterVec,
    /// 1 on the replica that writes status.
    pub leader: IntGauge,
    last_event: Mutex<Vec<(&'static str, Instant)>>,
    last_event_age: IntGaugeVec,
}

impl Metrics {
    /// A registry of its own with all families in it, and those of the process.
    ///
    /// # Errors
    /// Two families of one name; a mistake in this file.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let make = Maker { registry: &registry };
        let metrics = Self {
            watch_events: make.counters("watch_events_total", "What the API server told", &["kind", "type"])?,
            watch_errors: make.counters("watch_errors_total", "Watches that failed", &["kind", "reason"])?,
            watch_synced: make.gauges("watch_synced", "1 once a kind has had its first full list", &["kind"])?,
            watch_lag: make.histogram(
                "watch_lag_seconds",
                "From the arrival of an event to its being in the index",
                FAST,
            )?,
            objects: make.gauges("objects", "Objects in the index", &["kind"])?,
            documents_refused: make.gauges(
                "documents_refused",
                "Documents with a fault, which proxies are not sent; `status` says which and why",
                &["kind"],
            )?,
            streams: make.gauge("streams", "Open discovery streams")?,
            streams_ended: make.counters(
                "streams_ended_total",
                "Discovery streams that ended or were not let in",
                &["reason"],
            )?,
            handshakes_failed: make.counters(
                "handshakes_failed_total",
                "Connections that came to nothing",
                &["reason"],
            )?,
            subscriptions: make.gauge("subscriptions", "Subscriptions of all streams, unasked ones included")?,
            pushes: make.counters("pushes_total", "Whole resources sent", &["key"])?,
            deltas: make.counter("deltas_total", "Endpoint deltas sent")?,
            acknowledgements: make.counter("acknowledgements_total", "Versions that proxies acknowledged")?,
            warnings: make.counter("acknowledgement_warnings_total", "Warnings in acknowledgements")?,
            refusals: make.counter("refusals_total", "Versions that proxies refused")?,
            subscriptions_refused: make
                .counter("subscriptions_refused_total", "Subscriptions beyond a stream's limit")?,
            event_to_ack: make.histogram(
                "event_to_ack_seconds",
                "From the arrival of an event to a proxy's acknowledgement of what it led to",
                SLOW,
            )?,
            resolve: make.histogram("resolve_seconds", "Time spent making one resource", FAST)?,
            status_writes: make.counters("status_writes_total", "Status written to the API server", &["result"])?,
            leader: make.gauge("leader", "1 on the replica that writes status")?,
            last_event: Mutex::default(),
            last_event_age: make.gauges(
                "watch_last_event_age_seconds",
                "Since the API server last told anything of a kind, bookmarks included",
                &["kind"],
            )?,
            registry,
        };
        Ok(Arc::new(metrics))
    }

    /// Adds a family of another module's, such as the outcomes of signing requests.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn register(&self, family: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.registry.register(family)
    }

    /// The API server told something of `kind`.
    pub fn heard(&self, kind: &'static str, what: &'static str) {
        self.watch_events.with_label_values(&[kind, what]).inc();
        let now = Instant::now();
        let mut last = self.last_event.lock().unwrap_or_else(PoisonError::into_inner);
        match last.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, at)) => *at = now,
            None => last.push((kind, now)),
        }
    }

    /// Since the API server last told anything of each kind.
    #[must_use]
    pub fn ages(&self) -> Vec<(&'static str, Duration)> {
        let last = self.last_event.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(|(kind, at)| (*kind, at.elapsed())).collect()
    }

    /// All families, in the text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        for (kind, age) in self.ages() {
            self.last_event_age.with_label_values(&[kind]).set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be written");
        }
        text
    }
}

/// Makes families under our prefix and registers them.
struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn add<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(options(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options)?)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("outrigger_control_plane_{name}"), help)
}

/// Work in memory.
const FAST: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];
/// Over the network and back; the goal is 100 ms.
const SLOW: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_the_prefix_and_appears() {
        let metrics = Metrics::new().unwrap();
        metrics.heard("pods", "apply");
        metrics.event_to_ack.observe(0.004);
        let text = String::from_utf8(metrics.render()).unwrap();
        for wanted in [
            "outrigger_control_plane_watch_last_event_age_seconds{kind=\"pods\"} 0",
            "outrigger_control_plane_watch_events_total{kind=\"pods\",type=\"apply\"} 1",
            "outrigger_control_plane_event_to_ack_seconds_bucket{le=\"0.005\"} 1",
            "outrigger_control_plane_leader 0",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(wanted), "{wanted} missing in {text}");
        }
    }

    #[test]
    fn all_are_documented() {
        let metrics = Metrics::new().unwrap();
        metrics.heard("pods", "apply");
        metrics.watch_errors.with_label_values(&["pods", "gone"]).inc();
        for gauges in [&metrics.watch_synced, &metrics.objects] {
            gauges.with_label_values(&["pods"]).set(1);
        }
        for counters in [&metrics.streams_ended, &metrics.handshakes_failed, &metrics.pushes, &metrics.status_writes] {
            counters.with_label_values(&["any"]).inc();
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        let document = include_str!("../../docs/control-plane.md");
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE outrigger_control_plane_"));
        let rows: Vec<String> = families.map(|line| format!("| `{} |", line.replacen(' ', "` | ", 1))).collect();
        assert_eq!(rows.len(), 20, "{rows:#?}");
        for row in rows {
            assert!(document.contains(&row), "docs/control-plane.md has no row {row:?}");
        }
    }
}
