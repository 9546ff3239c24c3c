//! `outrigger top`: the busiest routes now, with success, latency, circuit and retries; a table that is written anew.
//!
//! Proxies count from their start; rates and percentiles are differences between two answers, so the first table comes after
//! one interval. On a terminal the table stands in one place; otherwise tables follow each other, without escape codes.

mod figures;

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::figures::{Row, Stats};
use super::{
    DONE, FOUND_FAULTS, LogFormat, Output, print,
    reach::{Proxy, Target, ask_all},
    say,
    table::{Align, duration, share, table},
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Write one table (after one interval) and end
    #[arg(long)]
    once: bool,
    /// Time between two looks
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = interval)]
    interval: Duration,
    /// By what rows are sorted, the largest (of success: the smallest) first
    #[arg(long, value_enum, default_value_t = Sort::Rate, value_name = "COLUMN")]
    sort: Sort,
    /// Rows of a table at most
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rows: u16,
    /// How it is written; JSON is one document for each look, on one line
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Rate,
    Success,
    P99,
    Retries,
    Name,
}

/// What one look has found.
#[derive(Debug, Serialize)]
struct Look {
    interval_seconds: f64,
    proxies: usize,
    rows: Vec<Row>,
    /// Rows that are not in the table.
    more: usize,
    /// Proxies that did not answer.
    errors: Vec<Silent>,
}

#[derive(Debug, Serialize)]
struct Silent {
    proxy: String,
    error: String,
}

/// After so many looks, pods are looked up again: they come and go.
const LOOKS: u32 = 5;

pub(super) fn run(args: &Args, log: LogFormat) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(follow(args, log))
}

async fn follow(args: &Args, log: LogFormat) -> Result<u8> {
    let terminal = args.output == Output::Text && !args.once && io::stdout().is_terminal();
    let mut proxies = args.target.proxies().await?;
    let mut before = ask(&proxies).await;
    if before.iter().all(|(_, answer)| answer.is_err()) {
        for (proxy, answer) in &before {
            let why = answer.as_ref().err().map_or("", String::as_str);
            say(log, "error", &format!("{proxy}: {why}"));
        }
        return Ok(FOUND_FAULTS);
    }
    let mut ticks = interval_at(Instant::now() + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 1.. {
        ticks.tick().await;
        if look % LOOKS == 0 && args.target.admin().is_none() {
            // A cluster that cannot be asked now is asked again later; the pods are those known.
            match args.target.proxies().await {
                Ok(found) => proxies = found,
                Err(error) => say(log, "warning", &format!("{error:#}")),
            }
        }
        let now = ask(&proxies).await;
        let found = compare(args, &before, &now);
        let text = match args.output {
            Output::Json => format!("{}\n", serde_json::to_string(&found)?),
            Output::Text => written(&found, proxies.len() > 1, terminal),
        };
        print(&text)?;
        if args.once {
            return Ok(if found.errors.len() == found.proxies { FOUND_FAULTS } else { DONE });
        }
        before = now;
    }
    Ok(DONE)
}

type Answers = Vec<(String, Result<Stats, String>)>;

async fn ask(proxies: &[Proxy]) -> Answers {
    let answers = ask_all(proxies, "/stats.json").await;
    let read =
        |body: bytes::Bytes| serde_json::from_slice(&body).map_err(|e| format!("its figures cannot be read: {e}"));
    proxies.iter().zip(answers).map(|(proxy, answer)| (proxy.to_string(), answer.and_then(read))).collect()
}

fn compare(args: &Args, before: &Answers, now: &Answers) -> Look {
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for (proxy, answer) in now {
        match answer {
            Ok(stats) => {
                let then = before.iter().find(|(name, _)| name == proxy).and_then(|(_, answer)| answer.as_ref().ok());
                rows.extend(figures::rows(proxy, then, stats));
            }
            Err(error) => errors.push(Silent { proxy: proxy.clone(), error: error.clone() }),
        }
    }
    sort(&mut rows, args.sort);
    let more = rows.len().saturating_sub(args.rows.into());
    rows.truncate(args.rows.into());
    Look { interval_seconds: args.interval.as_secs_f64(), proxies: now.len(), rows, more, errors }
}

fn sort(rows: &mut [Row], by: Sort) {
    rows.sort_by(|a, b| a.name().cmp(&b.name()));
    let known = |value: Option<f64>, without: f64| value.unwrap_or(without);
    match by {
        Sort::Name => {}
        Sort::Rate => rows.sort_by(|a, b| {
            (b.rate, b.requests).partial_cmp(&(a.rate, a.requests)).unwrap_or(std::cmp::Ordering::Equal)
        }),
        Sort::Success => rows.sort_by(|a, b| known(a.success, 2.0).total_cmp(&known(b.success, 2.0))),
        Sort::P99 => rows.sort_by(|a, b| known(b.p99_seconds, -1.0).total_cmp(&known(a.p99_seconds, -1.0))),
        Sort::Retries => rows.sort_by(|a, b| b.retries.total_cmp(&a.retries)),
    }
}

const HEADS: [(&str, Align); 12] = [
    ("PROXY", Align::Left),
    ("DIRECTION", Align::Left),
    ("UPSTREAM", Align::Left),
    ("ROUTE", Align::Left),
    ("RATE/S", Align::Right),
    ("SUCCESS", Align::Right),
    ("P50", Align::Right),
    ("P95", Align::Right),
    ("P99", Align::Right),
    ("CIRCUIT", Align::Left),
    ("RETRIES/S", Align::Right),
    ("TOTAL", Align::Right),
];

/// The table as text; `many`: proxies are told apart; `anew`: it takes the place of the one before.
fn written(look: &Look, many: bool, anew: bool) -> String {
    let from = usize::from(!many);
    let rows: Vec<Vec<String>> = look.rows.iter().map(|row| cells(row).split_off(from)).collect();
    let mut text = if anew { "\x1b[H\x1b[2J".to_owned() } else { String::new() };
    if look.rows.is_empty() && look.errors.len() < look.proxies {
        text.push_str("no request has passed yet\n");
    } else {
        text.push_str(&table(&HEADS[from..], &rows));
    }
    if look.more > 0 {
        text.push_str(&format!("and {} more rows: --rows shows them\n", look.more));
    }
    for Silent { proxy, error } in &look.errors {
        text.push_str(&format!("{proxy} does not answer: {}\n", super::table::printable(error)));
    }
    if !anew {
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        row.proxy.clone(),
        row.direction.clone(),
        text(&row.upstream),
        text(&row.route),
        format!("{:.1}", row.rate),
        share(row.success),
        duration(row.p50_seconds),
        duration(row.p95_seconds),
        duration(row.p99_seconds),
        text(&row.circuit),
        format!("{:.1}", row.retries),
        row.requests.to_string(),
    ]
}

/// From half a second to an hour.
fn interval(text: &str) -> Result<Duration, String> {
    let outrigger_config::documents::Duration(span) = text.parse()?;
    let range = Duration::from_millis(500)..=Duration::from_secs(3600);
    if range.contains(&span) { Ok(span) } else { Err("write from 500ms to 1h".to_owned()) }
}

const EXAMPLES: &str = "Examples:
  outrigger top -n shop                      all proxies of a namespace
  outrigger top -A --sort success            those of the whole mesh, the worst first
  outrigger top deploy/orders -n shop        the proxies of a Deployment
  outrigger top --admin 127.0.0.1:9990       one proxy, without a cluster
  outrigger top --once -o json | jq .rows    once, for programs

Rates, success and percentiles are of the last interval; TOTAL is since the proxy started. Failed is what was answered
5xx, or not at all, or with a gRPC status of the server's. RETRIES/S is of the whole upstream. CIRCUIT is the breaker of the
upstream, or how many of its endpoints are ejected; `-`: no policy asks for one.";

#[cfg(test)]
mod tests;
