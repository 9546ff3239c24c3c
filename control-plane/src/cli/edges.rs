//! `outrigger edges`: who talks to whom, with the identity that each side has proven.
//!
//! Every proxy tells of its own requests: those that came in (with the caller's identity) and those that went out (with the identity
//! that the server had to prove). Between two proxies of the mesh both tell of the same requests; the column SEEN BY says
//! which end a row is of, and pictures show the caller's.

mod dot;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{
    DONE, FOUND_FAULTS, LogFormat, print,
    reach::{Target, ask_all},
    say,
    table::{Align, duration, share, table},
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// How it is written; dot is a picture for Graphviz
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Dot,
}

/// What a proxy says.
#[derive(Debug, Deserialize)]
struct Answer {
    proxy: String,
    identity: Option<String>,
    edges: Vec<Told>,
    #[serde(default)]
    more: u64,
}

#[derive(Debug, Deserialize)]
struct Told {
    direction: String,
    upstream: String,
    peer: Option<String>,
    servers: Vec<String>,
    mtls: bool,
    requests: u64,
    failures: u64,
    success_rate: f64,
    latency: Latency,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Latency {
    /// Of the edge alone, or of all callers of the upstream.
    of: String,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

/// One row.
#[derive(Debug, Serialize)]
struct Edge {
    /// Identity; a name where there is none; empty: nobody knows.
    from: String,
    to: String,
    upstream: String,
    mtls: bool,
    requests: u64,
    failures: u64,
    success_rate: f64,
    latency: Latency,
    /// `client` or `server`
    seen_by: &'static str,
    proxy: String,
}

pub(super) fn run(args: &Args, log: LogFormat) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(show(args, log))
}

async fn show(args: &Args, log: LogFormat) -> Result<u8> {
    let proxies = args.target.proxies().await?;
    let answers = ask_all(&proxies, "/edges").await;
    let (mut edges, mut silent) = (Vec::new(), 0);
    for (proxy, answer) in proxies.iter().zip(answers) {
        let read =
            |body: bytes::Bytes| serde_json::from_slice::<Answer>(&body).map_err(|e| format!("it cannot be read: {e}"));
        match answer.and_then(read) {
            Ok(answer) => {
                if answer.more > 0 {
                    say(log, "warning", &format!("{proxy}: {} edges with fewer requests are not shown", answer.more));
                }
                edges.extend(of(&proxy.to_string(), answer));
            }
            Err(why) => {
                silent += 1;
                say(log, "warning", &format!("{proxy} does not answer: {}", super::table::printable(&why)));
            }
        }
    }
    edges.sort_by(|a, b| (&a.from, &a.to, a.seen_by, &a.proxy).cmp(&(&b.from, &b.to, b.seen_by, &b.proxy)));
    match args.output {
        Output::Text => print(&written(&edges))?,
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&serde_json::json!({ "edges": edges }))?))?,
        Output::Dot => print(&dot::picture(&edges))?,
    }
    Ok(if silent == proxies.len() { FOUND_FAULTS } else { DONE })
}

/// The rows that a proxy tells of.
fn of(proxy: &str, answer: Answer) -> Vec<Edge> {
    let own = answer.identity.unwrap_or(answer.proxy);
    let rows = answer.edges.into_iter().map(|told| {
        let inbound = told.direction == "inbound";
        let (from, to) = match inbound {
            true => (told.peer.unwrap_or_default(), own.clone()),
            false if told.servers.is_empty() => (own.clone(), told.upstream.clone()),
            false => (own.clone(), told.servers.join(" ")),
        };
        Edge {
            from,
            to,
            upstream: told.upstream,
            mtls: told.mtls,
            requests: told.requests,
            failures: told.failures,
            success_rate: told.success_rate,
            latency: told.latency,
            seen_by: if inbound { "server" } else { "client" },
            proxy: proxy.to_owned(),
        }
    });
    rows.collect()
}

const HEADS: [(&str, Align); 10] = [
    ("FROM", Align::Left),
    ("TO", Align::Left),
    ("MTLS", Align::Left),
    ("UPSTREAM", Align::Left),
    ("REQUESTS", Align::Right),
    ("SUCCESS", Align::Right),
    ("P50", Align::Right),
    ("P99", Align::Right),
    ("SEEN BY", Align::Left),
    ("PROXY", Align::Left),
];

fn written(edges: &[Edge]) -> String {
    if edges.is_empty() {
        return "no request has passed yet\n".to_owned();
    }
    let row = |edge: &Edge| {
        let requests = edge.requests;
        vec![
            short(&edge.from),
            short(&edge.to),
            if edge.mtls { "yes" } else { "no" }.to_owned(),
            if edge.upstream.is_empty() { "-".to_owned() } else { edge.upstream.clone() },
            requests.to_string(),
            share((requests > 0).then_some(edge.success_rate)),
            duration(edge.latency.p50_seconds),
            duration(edge.latency.p99_seconds),
            edge.seen_by.to_owned(),
            edge.proxy.clone(),
        ]
    };
    table(&HEADS, &edges.iter().map(row).collect::<Vec<_>>())
}

/// `shop/web` for an identity of a service account, which is what people look for; the rest as it is.
fn short(name: &str) -> String {
    if name.is_empty() {
        return "(no identity)".to_owned();
    }
    let one = |name: &str| {
        let account = name.strip_prefix("spiffe://").and_then(|id| id.split_once("/ns/")).map(|(_, rest)| rest);
        account
            .and_then(|rest| rest.split_once("/sa/"))
            .map_or_else(|| name.to_owned(), |(ns, sa)| format!("{ns}/{sa}"))
    };
    name.split(' ').map(one).collect::<Vec<_>>().join(" ")
}

const EXAMPLES: &str = "Examples:
  outrigger edges -n shop                    who talks to whom in a namespace
  outrigger edges -A -o dot | dot -Tsvg > mesh.svg
  outrigger edges --admin 127.0.0.1:9990     through one proxy, without a cluster

MTLS is `yes` where both ends have proven who they are. Counts are since the proxies started. Latency of rows seen by
the server is of all callers of the upstream, where there are several.";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn edges() -> Vec<Edge> {
        let latency = json!({ "of": "edge", "p50_seconds": 0.004, "p95_seconds": 0.01, "p99_seconds": 0.02 });
        let row = |direction: &str, peer: Option<&str>, servers: &[&str], mtls: bool| {
            json!({
                "direction": direction, "upstream": "payments", "peer": peer, "servers": servers, "mtls": mtls, "requests": 10,
                "failures": 1, "success_rate": 0.9, "latency": latency,
            })
        };
        let web = "spiffe://cluster.local/ns/shop/sa/web";
        let answer = json!({ "proxy": "p", "identity": "spiffe://cluster.local/ns/shop/sa/payments", "edges": [
            row("inbound", Some(web), &[], true), row("inbound", None, &[], false),
            row("outbound", None, &["spiffe://cluster.local/ns/bank/sa/\"ledger"], true), row("outbound", None, &[], false),
        ] });
        of("shop/payments-1", serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn both_ends_are_named() {
        let text = written(&edges());
        let lines: Vec<Vec<&str>> =
            text.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(lines[1][..6], ["shop/web", "shop/payments", "yes", "payments", "10", "90.00%"]);
        assert_eq!(lines[2][..3], ["(no identity)", "shop/payments", "no"]);
        assert_eq!(lines[3][..3], ["shop/payments", "bank/\"ledger", "yes"]);
        assert_eq!(lines[4][..3], ["shop/payments", "payments", "no"]);
        assert_eq!((lines[1][8], lines[3][8]), ("server", "client"));
    }
}
