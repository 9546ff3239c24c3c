//! `outrigger tap`: requests as they pass through proxies, filtered there.
//!
//! Each proxy is read by a task of its own; lines meet in one bounded queue. When this program is too slow, proxies drop
//! lines and say how many: they never wait. Secrets are taken out by the proxies, so they do not leave the pods.

mod text;

use std::{collections::VecDeque, fmt::Display};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::ValueEnum;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    DONE, FOUND_FAULTS, LogFormat, Output, print,
    reach::{Proxy, Target, query, usage},
    say,
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Requests of this direction
    #[arg(long, value_enum, value_name = "DIRECTION")]
    direction: Option<Direction>,
    /// To this upstream; NAME* is a beginning. Options may be repeated: one of the values has to fit
    #[arg(long, value_name = "NAME")]
    upstream: Vec<String>,
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,
    /// With this method
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Vec<String>,
    /// With a path that begins so
    #[arg(long, value_name = "PREFIX")]
    path: Vec<String>,
    /// Answered so: 503, 5xx, 500-504, none
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// From this identity; ID* is a beginning, '' is without one
    #[arg(long, value_name = "SPIFFE_ID")]
    peer: Vec<String>,
    /// With this header, and this in its value
    #[arg(short = 'H', long, value_name = "NAME[: VALUE]")]
    header: Vec<String>,
    /// A share of the requests, 0 to 1
    #[arg(long, value_name = "SHARE")]
    sample: Option<f64>,
    /// Requests per second of each proxy at most [default: 100]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// End after this many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Write headers too
    #[arg(long)]
    headers: bool,
    /// Write the values of these headers though they are secret (authorization, cookie, ...)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    show_headers: Vec<String>,
    /// How it is written; JSON is one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Inbound,
    Outbound,
}

/// Proxies that are tapped at once: each is a connection through the API server and the kubelet.
const MOST: usize = 50;

/// Lines that wait to be written.
const QUEUE: usize = 1024;

/// Longest line: that of a proxy has 16 KiB at most.
const LINE: usize = 256 * 1024;

pub(super) fn run(args: &Args, log: LogFormat) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(follow(args, log))
}

/// What a proxy says, or how it ended.
enum Said {
    Event(Value),
    Ended(Result<(), String>),
}

async fn follow(args: &Args, log: LogFormat) -> Result<u8> {
    let proxies = args.target.proxies().await?;
    if proxies.len() > MOST {
        return Err(usage(format!(
            "{} proxies are meant, and {MOST} can be tapped at once: name fewer",
            proxies.len()
        )));
    }
    let path = format!("/tap?{}", args.query());
    let many = proxies.len() > 1;
    let (sender, mut said) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    for proxy in proxies {
        let (sender, path) = (sender.clone(), path.clone());
        tasks.spawn(async move {
            let name = proxy.to_string();
            let ended = read(&proxy, &path, &name, &sender).await;
            // Nobody is left to be told if that fails.
            drop(sender.send((name, Said::Ended(ended))).await);
        });
    }
    drop(sender);
    let (mut good, mut bad, mut requests) = (0, 0, 0);
    while let Some((name, said)) = said.recv().await {
        match said {
            Said::Event(event) => {
                requests += u64::from(event["event"] == "end");
                write(args, many, &name, event, log)?;
                if args.max.is_some_and(|max| requests >= max) {
                    return Ok(DONE);
                }
            }
            Said::Ended(Ok(())) => good += 1,
            Said::Ended(Err(why)) => {
                bad += 1;
                say(log, "warning", &format!("{name}: {}", super::table::printable(&why)));
            }
        }
    }
    Ok(if good == 0 && bad > 0 { FOUND_FAULTS } else { DONE })
}

/// Reads a proxy's lines until it ends.
async fn read(proxy: &Proxy, path: &str, name: &str, to: &mpsc::Sender<(String, Said)>) -> Result<(), String> {
    let mut exchange = proxy.open(path).await?;
    let mut lines = Lines::default();
    while let Some(data) = exchange.next().await {
        lines.push(&data.map_err(|e| format!("the tap broke: {e}"))?)?;
        while let Some(line) = lines.next() {
            let event: Value = serde_json::from_slice(&line).map_err(|e| format!("a line that is no JSON: {e}"))?;
            if event["event"] == "closed" {
                return Ok(());
            }
            if to.send((name.to_owned(), Said::Event(event))).await.is_err() {
                return Ok(());
            }
        }
    }
    Err("the proxy ended the tap".to_owned())
}

fn write(args: &Args, many: bool, name: &str, mut event: Value, log: LogFormat) -> Result<()> {
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    if event["event"] == "status" && number("limited") + number("dropped") > 0 {
        let (limited, dropped) = (number("limited"), number("dropped"));
        say(
            log,
            "warning",
            &format!("{name}: {limited} requests came too fast (--rate), {dropped} lines were dropped"),
        );
    }
    if args.output == Output::Json {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("from".to_owned(), name.into());
        }
        return print(&format!("{event}\n"));
    }
    match text::line(&event, many.then_some(name), args.headers || !args.show_headers.is_empty()) {
        Some(line) => print(&line as &dyn Display),
        None => Ok(()),
    }
}

impl Args {
    fn query(&self) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        if let Some(direction) = self.direction {
            pairs.push(("direction", if direction == Direction::Inbound { "inbound" } else { "outbound" }.to_owned()));
        }
        let lists = [
            ("upstream", &self.upstream),
            ("route", &self.route),
            ("method", &self.method),
            ("path", &self.path),
            ("status", &self.status),
            ("peer", &self.peer),
            ("header", &self.header),
            ("show-header", &self.show_headers),
        ];
        pairs.extend(lists.into_iter().flat_map(|(name, list)| list.iter().map(move |value| (name, value.clone()))));
        pairs.extend(self.sample.map(|share| ("sample", share.to_string())));
        pairs.extend(self.rate.map(|rate| ("rate", rate.to_string())));
        pairs.extend(self.max.map(|max| ("max", max.to_string())));
        query(&pairs)
    }
}

/// Bytes as they come, line by line.
#[derive(Default)]
struct Lines {
    ready: VecDeque<Bytes>,
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, data: &[u8]) -> Result<(), String> {
        let mut pieces = data.split(|b| *b == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.rest.extend_from_slice(piece);
            let line = std::mem::take(&mut self.rest);
            if !line.is_empty() {
                self.ready.push_back(line.into());
            }
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > LINE { Err(format!("a line of more than {LINE} bytes")) } else { Ok(()) }
    }

    fn next(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }
}

const EXAMPLES: &str = "Examples:
  outrigger tap deploy/orders -n shop                     what passes through the proxies of a Deployment
  outrigger tap -n shop --direction inbound --status 5xx  what its services fail to answer
  outrigger tap --admin 127.0.0.1:9990 --path /charge -o json | jq .
  outrigger tap pod/web-1 -n shop --headers --max 10      ten requests with their headers

Bodies are never shown. Values of authorization, cookie, set-cookie, x-forwarded-client-cert and whatever else sounds like
a credential are [redacted], in headers (--show-headers NAME shows one) and in URLs (nothing shows those).";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_become_the_query_of_a_proxy() {
        let typed = ["x", "deploy/a", "--direction", "inbound", "--path", "/a b", "--status", "5xx", "--status", "404"];
        let more = ["-H", "x-user: anna", "--show-headers", "cookie,authorization", "--max", "3", "--sample", "0.5"];
        let line = Line::parse_from(typed.iter().chain(&more));
        assert_eq!(
            line.args.query(),
            "direction=inbound&path=%2Fa%20b&status=5xx&status=404&header=x-user%3A%20anna&show-header=cookie&\
             show-header=authorization&sample=0.5&max=3"
        );
        assert!(Line::try_parse_from(["x", "deploy/a", "--admin", "127.0.0.1:1"]).is_err());
    }

    #[test]
    fn lines_are_cut_where_they_end() {
        let mut lines = Lines::default();
        lines.push(b"{\"a\":1}\n{\"b\"").unwrap();
        lines.push(b":2}\n\n{").unwrap();
        assert_eq!(lines.next().as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(lines.next().as_deref(), Some(&b"{\"b\":2}"[..]));
        assert_eq!(lines.next(), None);
        assert!(lines.push(&vec![b'x'; LINE + 1]).is_err());
    }
}
