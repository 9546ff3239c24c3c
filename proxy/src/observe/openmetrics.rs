//! OpenMetrics 1.0, which the prometheus crate does not write.
//!
//! It differs from the older text in that a counter's family has no `_total` while its sample does, that
//! `_info` is a type, that bucket bounds are canonical floats (`1.0`), and that the text ends with `# EOF`,
//! so that a scrape cut short shows.
//!
//! A counter's family is its name without `_total`, which `outrigger_connections`, a gauge, has already. Two
//! families of one name are an error, so the counter goes as `unknown` there: same sample, same value.

use std::io::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// Appends the text of `families`.
pub fn encode(families: &[MetricFamily], out: &mut Vec<u8>) {
    for family in families {
        let name = family.name();
        let (name, kind) = match family.get_field_type() {
            MetricType::COUNTER => match name.strip_suffix("_total") {
                Some(stem) if !families.iter().any(|f| f.name() == stem) => (stem, "counter"),
                _ => (name, "unknown"),
            },
            MetricType::GAUGE => name.strip_suffix("_info").map_or((name, "gauge"), |n| (n, "info")),
            MetricType::HISTOGRAM => (name, "histogram"),
            // Nothing here makes these.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        put(out, &["# TYPE ", name, " ", kind, "\n# HELP ", name, " "]);
        escape(out, family.help());
        out.push(b'\n');
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match kind {
                "counter" => sample(out, name, "_total", labels, None, metric.get_counter().get_value()),
                "info" => sample(out, name, "_info", labels, None, metric.get_gauge().get_value()),
                "unknown" => sample(out, name, "", labels, None, metric.get_counter().get_value()),
                "gauge" => sample(out, name, "", labels, None, metric.get_gauge().get_value()),
                _ => histogram(out, name, metric),
            }
        }
    }
    out.extend_from_slice(b"# EOF\n");
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn histogram(out: &mut Vec<u8>, name: &str, metric: &Metric) {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    for bucket in histogram.get_bucket() {
        // `{:?}` always has a point: 1.0, 0.005.
        let bound = format!("{:?}", bucket.upper_bound());
        sample(out, name, "_bucket", labels, Some(&bound), bucket.cumulative_count() as f64);
    }
    let count = histogram.get_sample_count() as f64;
    sample(out, name, "_bucket", labels, Some("+Inf"), count);
    sample(out, name, "_sum", labels, None, histogram.get_sample_sum());
    sample(out, name, "_count", labels, None, count);
}

fn sample(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &[LabelPair], le: Option<&str>, value: f64) {
    put(out, &[name, suffix]);
    let mut separator = "{";
    for (key, value) in labels.iter().map(|l| (l.name(), l.value())).chain(le.map(|le| ("le", le))) {
        put(out, &[separator, key, "=\""]);
        escape(out, value);
        out.push(b'"');
        separator = ",";
    }
    if separator == "," {
        out.push(b'}');
    }
    writeln!(out, " {value}").expect("a Vec takes every write");
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
}

/// Escapes as OpenMetrics asks for in label values and help.
fn escape(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}
