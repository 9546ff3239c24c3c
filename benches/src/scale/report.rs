//! The tables.

use super::{Plan, Span, subscribers::Got, world::World};
use crate::stats::{Summary, quantile};

/// What the server did.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) plan: Plan,
    /// Resident bytes: without an index, with it, with all proxies, after the changes.
    pub(super) resident: [u64; 4],
    /// While proxies came, and were told what they asked for.
    pub(super) connect: Span,
    /// While endpoints changed.
    pub(super) change: Span,
    pub(super) got: Got,
}

impl Served {
    /// In Markdown.
    pub(super) fn table(&self) -> String {
        let plan = &self.plan;
        let rows: String = self.at_rest().into_iter().chain(self.in_change()).map(row).collect();
        format!(
            "{} Services, {} pods, {} proxies with {} Services each, {} changes a second for {} s.\n\n\
             | control plane | |\n|---|---:|\n{rows}",
            plan.world.services,
            plan.world.services * plan.world.pods_each,
            plan.subscribers,
            plan.keys,
            plan.rate,
            plan.seconds,
        )
    }

    fn at_rest(&self) -> [(&'static str, String); 4] {
        let [empty, loaded, connected, changed] = self.resident;
        let pods = self.plan.world.services * self.plan.world.pods_each;
        let each = |bytes: u64, of: u32| kib(bytes as f64 / 1024.0 / f64::from(of));
        let (index, proxies) = (loaded.saturating_sub(empty), connected.saturating_sub(loaded));
        let Span { wall, cpu } = self.connect;
        let (wall, cpu, bytes) = (wall.as_secs_f64(), cpu.as_secs_f64(), mib(self.got.first_bytes));
        [
            (
                "memory of the index; for a pod, its share of Service and slice included",
                format!("{} MiB; {}", mib(index), each(index, pods)),
            ),
            ("memory of a connected proxy with its subscriptions", each(proxies, self.plan.subscribers)),
            (
                "memory of the process: empty, with the index, with all proxies, after the changes",
                format!("{}, {}, {}, {} MiB", mib(empty), mib(loaded), mib(connected), mib(changed)),
            ),
            (
                "all proxies connected and told what they asked for",
                format!("{wall:.1} s, {cpu:.1} s of CPU, {bytes} MiB"),
            ),
        ]
    }

    fn in_change(&self) -> [(&'static str, String); 5] {
        let got = &self.got;
        let (pushes, seconds) = (got.latencies.len() as f64, got.wall.as_secs_f64());
        let (rate, size) = (pushes / seconds, got.bytes as f64 / pushes.max(1.0));
        let latency = |q| milliseconds(quantile(&got.latencies, q));
        [
            ("pushes", format!("{pushes:.0}, {rate:.0} a second, {size:.0} bytes each")),
            ("changes that a proxy was not told of because the next came first", got.superseded.to_string()),
            ("bytes a second, without HTTP/2 and TLS", kib(got.bytes as f64 / 1024.0 / seconds)),
            ("event to push, p50, p99, max", format!("{}, {}, {} ms", latency(0.5), latency(0.99), latency(1.0))),
            ("CPU of the server while endpoints change", format!("{:.1} % of one", self.change.percent())),
        ]
    }
}

fn row((what, figure): (&str, String)) -> String {
    format!("| {what} | {figure} |\n")
}

/// Memory of proxies, in Markdown.
pub(super) fn proxies(rows: &[(World, [Option<Summary>; 2])]) -> String {
    let cell = |summary: &Option<Summary>| {
        let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
        summary.map_or("-".to_owned(), |s| format!("{:.1} ({:.1} to {:.1})", mib(s.median), mib(s.low), mib(s.high)))
    };
    let mut text =
        "| proxy in a mesh of | MiB when ready | MiB with 10 Services in use |\n|---|---:|---:|\n".to_owned();
    for (world, [ready, used]) in rows {
        text += &format!("| {} Services | {} | {} |\n", world.services, cell(ready), cell(used));
    }
    text
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn kib(kib: f64) -> String {
    format!("{kib:.1} KiB")
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.2}", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_proxies_has_a_row_for_each_mesh() {
        let mib = |n: f64| Summary::of(&[n * 1024.0 * 1024.0]);
        let world = World { services: 10, pods_each: 10 };
        let text = proxies(&[(world, [mib(10.0), mib(12.5)])]);
        assert!(text.ends_with("| 10 Services | 10.0 (10.0 to 10.0) | 12.5 (12.5 to 12.5) |\n"), "{text}");
    }
}
