//! A scrape: sums the cells of all workers into families, adds what the control thread knows by itself
//! (endpoints, versions, the process), and writes them in the format that was asked for.
//!
//! Runs on the control thread. Cells are read while workers write them, so a scrape is consistent within
//! one number only; the count of a histogram is the sum of the buckets read, never a number of its own.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    BUCKETS, Distribution, OTHER, Observer, SERIES_LIMIT,
    cells::{Counter, Histogram},
    families::{Family, Kind},
    openmetrics,
    registry::{Series, Tables},
};
use crate::shared::{Snapshot, UpstreamState};

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What an `Accept` header prefers. Text where it says nothing that we know.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", q)) => quality = q.parse().unwrap_or(0.0),
                    Some(("version", v)) => version = Some(v.trim_matches('"')),
                    _ => {}
                }
            }
            match (&*kind, version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(quality),
                ("text/plain" | "text/*" | "*/*", None | Some("0.0.4")) => text = text.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The text of `families`.
    #[must_use]
    pub fn render(self, families: &[MetricFamily]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 * 1024);
        match self {
            Self::Text => {
                if let Err(error) = TextEncoder::new().encode(families, &mut out) {
                    tracing::error!(%error, "metrics cannot be encoded");
                }
            }
            Self::OpenMetrics => openmetrics::encode(families, &mut out),
        }
        out
    }
}

impl Observer {
    /// All metrics now.
    #[must_use]
    pub fn gather(&self, snapshot: Option<&Snapshot>) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        self.registry.read(|tables| {
            for family in Family::ALL {
                match family.row().kind {
                    Kind::Counter => families.push(counters(family, tables)),
                    Kind::Histogram => families.push(histograms(family, tables)),
                    Kind::Hidden => {}
                }
            }
            families.push(connections(tables));
            families.push(folded(tables));
        });
        families.push(self.circuits());
        if let Some(snapshot) = snapshot {
            families.push(endpoints(&snapshot.upstreams));
            families.push(gauges(
                "outrigger_config_version_info",
                "The configuration in force, by its number since the start.",
                [(vec![label("version", &snapshot.version.to_string())], 1.0)],
            ));
        }
        families.push(gauges(
            "outrigger_build_info",
            "The version of the proxy.",
            [(vec![label("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        ));
        self.solitary(&mut families);
        families.extend(process());
        families.retain(|f| !f.get_metric().is_empty());
        families
    }

    /// Gauges without labels.
    fn solitary(&self, families: &mut Vec<MetricFamily>) {
        let expiry = self.identity_expiry.load(Ordering::Relaxed);
        let control_plane = self.control_plane.load(Ordering::Relaxed);
        let (name, help) =
            ("outrigger_identity_expiry_timestamp_seconds", "When the identity in use expires, in seconds since 1970.");
        families.push(gauges(name, help, (expiry > 0).then(|| (Vec::new(), number(expiry)))));
        let (name, help) = ("outrigger_control_plane_connected", "1 if the control plane is connected, else 0.");
        families.push(gauges(name, help, (control_plane >= 0).then(|| (Vec::new(), f64::from(control_plane)))));
    }

    fn circuits(&self) -> MetricFamily {
        let circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        let states = circuits.iter().take(SERIES_LIMIT).map(|c| {
            let labels = vec![label("scope", c.scope), label("upstream", &c.upstream)];
            (labels, number(c.state.load(Ordering::Relaxed)))
        });
        gauges("outrigger_circuit_state", "State of a breaker: 0 closed, 1 half-open, 2 open.", states)
    }
}

fn counters(family: Family, tables: &Tables) -> MetricFamily {
    let row = family.row();
    let metrics = tables.counters(family).series.iter().map(|series| {
        let mut counter = proto::Counter::default();
        counter.set_value(number(sum(series)));
        let mut metric = Metric::from_label(labels(row.labels, &series.labels));
        metric.set_counter(counter);
        metric
    });
    make(row.name, row.help, MetricType::COUNTER, metrics.collect())
}

fn histograms(family: Family, tables: &Tables) -> MetricFamily {
    let row = family.row();
    let metrics = tables.histograms(family).series.iter().map(|series| {
        let total = distribution(series);
        let mut cumulative = 0;
        let buckets = BUCKETS.iter().zip(total.buckets).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(total.count());
        histogram.set_sample_sum(total.sum_seconds());
        let mut metric = Metric::from_label(labels(row.labels, &series.labels));
        metric.set_histogram(histogram);
        metric
    });
    make(row.name, row.help, MetricType::HISTOGRAM, metrics.collect())
}

/// The gauge beside `connections_total`: what was opened and is not closed yet.
fn connections(tables: &Tables) -> MetricFamily {
    let closed = &tables.counters(Family::Closed).series;
    let open = tables.counters(Family::Opened).series.iter().map(|opened| {
        let gone = closed.iter().find(|c| c.labels == opened.labels).map_or(0, sum);
        (labels(Family::Opened.row().labels, &opened.labels), number(sum(opened).saturating_sub(gone)))
    });
    gauges("outrigger_connections", "Connections open now.", open)
}

fn folded(tables: &Tables) -> MetricFamily {
    let metrics = tables.folded().map(|(family, count)| {
        let mut counter = proto::Counter::default();
        counter.set_value(number(count));
        let mut metric = Metric::from_label(vec![label("family", family.row().name)]);
        metric.set_counter(counter);
        metric
    });
    make(
        "outrigger_series_folded_total",
        "Label sets that a family had no room for, folded into its series of other.",
        MetricType::COUNTER,
        metrics.collect(),
    )
}

/// States of an endpoint.
const STANDINGS: [&str; 3] = ["ready", "ejected", "draining"];

/// The endpoints of the upstreams in force. Three states each, so a third of the bound is room for
/// upstreams; those beyond are one.
fn endpoints(upstreams: &[Arc<UpstreamState>]) -> MetricFamily {
    let room = SERIES_LIMIT / 3 - 1;
    let mut values = Vec::new();
    let mut rest = [0.0; 3];
    for (i, upstream) in upstreams.iter().enumerate() {
        let set = upstream.endpoints().load();
        let count = |state| number(set.endpoints.iter().filter(|e| upstream.standing(e) == state).count() as u64);
        let counts = STANDINGS.map(count);
        if i < room {
            values.push((Arc::clone(&upstream.config.name), counts));
        } else {
            rest.iter_mut().zip(counts).for_each(|(r, c)| *r += c);
        }
    }
    if upstreams.len() > room {
        values.push((Arc::from(OTHER), rest));
    }
    let samples = values.iter().flat_map(|(name, counts)| {
        STANDINGS
            .iter()
            .zip(*counts)
            .map(|(state, count)| (vec![label("state", state), label("upstream", name)], count))
    });
    gauges("outrigger_endpoints", "Endpoints of an upstream by state.", samples)
}

/// CPU, memory, descriptors, threads of this process.
fn process() -> Vec<MetricFamily> {
    let mut families = ProcessCollector::for_self().collect();
    // The collector cuts CPU time to whole seconds, which hides what a short benchmark asks for.
    if let Some(seconds) = cpu_seconds()
        && let Some(cpu) = families.iter_mut().find(|f| f.name() == "process_cpu_seconds_total")
    {
        let mut counter = proto::Counter::default();
        counter.set_value(seconds);
        cpu.mut_metric().iter_mut().for_each(|m| m.set_counter(counter.clone()));
    }
    families
}

/// User and system time of this process, all threads together (proc_pid_stat(5), fields 14 and 15).
fn cpu_seconds() -> Option<f64> {
    /// `USER_HZ`, which Linux keeps at 100 towards programs.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(number(user + system) / TICKS)
}

pub(crate) fn sum(series: &Series<Counter>) -> u64 {
    series.cells.iter().flatten().map(|c| c.value()).sum()
}

pub(crate) fn distribution(series: &Series<Histogram>) -> Distribution {
    let mut total = Distribution::default();
    series.cells.iter().flatten().for_each(|c| c.add_to(&mut total));
    total
}

fn labels(names: &[&str], values: &[Arc<str>]) -> Vec<LabelPair> {
    names.iter().zip(values).map(|(n, v)| label(n, v)).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

fn gauges(name: &str, help: &str, samples: impl IntoIterator<Item = (Vec<LabelPair>, f64)>) -> MetricFamily {
    let metrics = samples.into_iter().map(|(labels, value)| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_gauge(gauge);
        metric
    });
    make(name, help, MetricType::GAUGE, metrics.collect())
}

fn make(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// A metric is a float; above 2^53 it is rounded.
#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn number(value: u64) -> f64 {
    value as f64
}
