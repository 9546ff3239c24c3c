//! What the mesh did, in words: differences of the metrics of the client's proxy, and what its client saw.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    services::SERVICES,
    traffic::{Client, Tallies, Tally},
};

/// Series by name with labels, as `/metrics` writes them.
type Series = BTreeMap<String, f64>;

/// Speaks once a second.
pub(super) struct Report {
    tallies: Arc<Tallies>,
    admin: Client,
    last: Vec<Tally>,
    series: Series,
}

impl Report {
    /// A report on the proxy with this admin port.
    pub(super) fn new(admin: SocketAddr, tallies: Arc<Tallies>) -> Self {
        let last = tallies.read();
        Self { tallies, admin: Client::new(admin), last, series: Series::new() }
    }

    /// What happened since the last time.
    pub(super) async fn next(&mut self, elapsed: Duration) -> String {
        let now = self.tallies.read();
        let mut text = format!("{:>4} s ", elapsed.as_secs());
        for ((service, now), last) in SERVICES.iter().zip(&now).zip(&self.last) {
            append(&mut text, format_args!("  {} {}", service.name, seen(now, last)));
        }
        text.push('\n');
        self.last = now;
        let series = self.scrape().await;
        for line in deeds(&series, &self.series) {
            append(&mut text, format_args!("          the mesh: {line}\n"));
        }
        self.series = series;
        text
    }

    /// The whole time in one table.
    pub(super) async fn summary(&mut self, elapsed: Duration) -> String {
        let mut text = format!("\nSummary of {:.0} s, as the client saw it:\n\n", elapsed.as_secs_f64());
        append(
            &mut text,
            format_args!("  {:<8}{:>9}{:>9}{:>8}{:>10}{:>10}\n", "service", "requests", "good", "", "median", "p99"),
        );
        for (service, tally) in SERVICES.iter().zip(self.tallies.read()) {
            let bad: u64 = tally.bad.iter().map(|(_, n)| n).sum();
            let total = tally.good + bad;
            let share = if total == 0 { 0.0 } else { tally.good as f64 * 100.0 / total as f64 };
            let ms = |of| format!("{:.1} ms", tally.latency(of).as_secs_f64() * 1000.0);
            append(
                &mut text,
                format_args!(
                    "  {:<8}{total:>9}{:>9}{share:>6.1} %{:>10}{:>10}\n",
                    service.name,
                    tally.good,
                    ms(0.5),
                    ms(0.99)
                ),
            );
            for (what, n) in &tally.bad {
                append(&mut text, format_args!("  {:<8}{n:>9} x {what}\n", ""));
            }
        }
        let series = self.scrape().await;
        let deeds = deeds(&series, &Series::new());
        if !deeds.is_empty() {
            text.push_str("\nWhat the mesh did:\n\n");
        }
        for line in deeds {
            append(&mut text, format_args!("  {line}\n"));
        }
        text
    }

    /// The metrics now; those of the last time if the admin port does not answer.
    async fn scrape(&mut self) -> Series {
        match self.admin.get("demo", "/metrics").await {
            Ok(answer) if answer.status.is_success() => parse(&String::from_utf8_lossy(&answer.body)),
            _ => self.series.clone(),
        }
    }
}

/// What the client saw of one service since `last`.
fn seen(now: &Tally, last: &Tally) -> String {
    let mut text = format!("{} ok", now.good - last.good);
    for (what, n) in &now.bad {
        let before = last.bad.iter().find(|(w, _)| w == what).map_or(0, |(_, n)| *n);
        if *n > before {
            append(&mut text, format_args!(", {} x {what}", n - before));
        }
    }
    text
}

/// Differences of the series that tell of something done about a fault, in words.
fn deeds(now: &Series, last: &Series) -> Vec<String> {
    let mut lines = BTreeMap::<String, f64>::new();
    for (series, value) in now {
        let grown = value - last.get(series).copied().unwrap_or_default();
        let label = |name| label(series, name).unwrap_or_default();
        let upstream = label("upstream");
        if grown < 1.0 {
            continue;
        }
        let line = match series.split('{').next().unwrap_or_default() {
            "outrigger_retries_total" => match label("result") {
                "sent" => format!("{upstream}: # failed attempt(s) sent again"),
                why => format!("{upstream}: # failed attempt(s) not sent again ({why})"),
            },
            "outrigger_requests_total" => match label("reason") {
                "" => continue,
                reason => format!("{upstream}: # request(s) answered {} {reason}", label("status")),
            },
            "outrigger_circuit_transitions_total" => {
                format!("{upstream}: circuit breaker {} (# time(s))", label("to").replace('_', "-"))
            }
            "outrigger_observed_total" => format!("{}: # time(s) it would have acted", label("policy")),
            _ => continue,
        };
        // Series that differ in labels not told are one line.
        *lines.entry(line).or_default() += grown;
    }
    lines.into_iter().map(|(line, n)| counted(&line, n)).collect()
}

/// The line with its number in the place of `#`, and `(s)` as that number has it.
fn counted(line: &str, n: f64) -> String {
    let ending = if n < 1.5 { "" } else { "s" };
    line.replacen('#', &n.to_string(), 1).replacen("(s)", ending, 1)
}

/// Samples of the text format. The demo's own names need no unescaping.
fn parse(text: &str) -> Series {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    text.lines().filter(|l| l.starts_with("outrigger_")).filter_map(sample).collect()
}

fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let labels = series.split_once('{')?.1;
    let start = labels.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix("=\""))?;
    start.split('"').next()
}

fn append(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_become_words() {
        let before = parse("outrigger_retries_total{upstream=\"flaky\",result=\"sent\"} 2\n");
        let now = parse(
            "# TYPE x counter
outrigger_retries_total{upstream=\"flaky\",result=\"sent\"} 5
outrigger_retries_total{upstream=\"flaky\",result=\"budget\"} 1
outrigger_requests_total{direction=\"outbound\",upstream=\"slow\",method=\"GET\",status=\"504\",reason=\"http_response_timeout\"} 2
outrigger_requests_total{direction=\"outbound\",upstream=\"slow\",method=\"PUT\",status=\"504\",reason=\"http_response_timeout\"} 1
outrigger_requests_total{direction=\"outbound\",upstream=\"slow\",method=\"GET\",status=\"200\",reason=\"\"} 9
outrigger_circuit_transitions_total{upstream=\"flaky\",to=\"half_open\"} 1
process_open_fds 7
",
        );
        assert_eq!(
            deeds(&now, &before),
            [
                "flaky: 1 failed attempt not sent again (budget)",
                "flaky: 3 failed attempts sent again",
                "flaky: circuit breaker half-open (1 time)",
                "slow: 3 requests answered 504 http_response_timeout",
            ]
        );
        assert!(deeds(&now, &now).is_empty());
    }
}
