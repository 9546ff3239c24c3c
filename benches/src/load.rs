//! The cases: what is asked of a peer, by which client, and what the client saw.
//!
//! wrk and h2load are the clients that people compare proxies with; [`client`] serves where they
//! cannot. A request that fails makes the whole measurement fail: a proxy that drops work is not cheap.

use std::{fmt, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::client::{self, HEADERS};

/// What is asked of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// HTTP/1, closed loop, answers of 1 KiB.
    Small,
    /// HTTP/1, closed loop, answers of 64 KiB.
    Large,
    /// HTTP/2 (prior knowledge) before an HTTP/1 origin, 8 connections with 32 streams each, 1 KiB.
    Http2,
    /// HTTP/1, a new connection for every request, 1 KiB.
    Connect,
    /// HTTP/1, open loop at a fixed rate, 1 KiB.
    Paced,
}

impl Case {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [Self::Small, Self::Large, Self::Http2, Self::Connect, Self::Paced];

    /// The path asked for. It is matched by the eleventh of the twenty routes that Outrigger has loaded.
    #[must_use]
    pub fn path(self) -> &'static str {
        if self == Self::Large { "/api/v1/service-10/64k" } else { "/api/v1/service-10/1k" }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "HTTP/1, 1 KiB, closed loop",
            Self::Large => "HTTP/1, 64 KiB, closed loop",
            Self::Http2 => "HTTP/2 to HTTP/1, 8 x 32 streams",
            Self::Connect => "HTTP/1, a connection per request",
            Self::Paced => "HTTP/1, 1 KiB, fixed rate",
        })
    }
}

/// How hard and how long.
#[derive(Debug, Clone, Copy)]
pub struct Intensity {
    /// Of one measurement.
    pub time: Duration,
    /// HTTP/1 connections side by side.
    pub connections: usize,
    /// Requests per second of [`Case::Paced`].
    pub rate: u32,
}

/// What the client saw.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Requests answered with a 2xx; there were no others.
    pub requests: u64,
    /// Median and 99th percentile from when a request was due, for the fixed rate only.
    pub latency: Option<(Duration, Duration)>,
    /// From the first request to the last answer, where it may be more than was asked for: at a fixed rate that is too high.
    pub took: Option<Duration>,
}

/// Ask `case` of the peer at `address`.
pub fn run(case: Case, address: SocketAddr, how: Intensity) -> Result<Outcome> {
    match case {
        Case::Small | Case::Large => wrk(address, case.path(), how, &[]),
        Case::Connect => wrk(address, case.path(), how, &["-H", "Connection: close"]),
        Case::Http2 => h2load(address, case.path(), how.time),
        Case::Paced => {
            let seen = client::paced(address, case.path(), how.connections, how.rate, how.time)?;
            Ok(Outcome { requests: seen.requests, latency: Some((seen.p50, seen.p99)), took: Some(seen.took) })
        }
    }
}

/// Ask for `case` exactly `count` times; the cases that have a client which can.
pub fn counted(case: Case, address: SocketAddr, count: usize) -> Result<()> {
    if case != Case::Http2 {
        return client::counted(address, case.path(), COUNTED_CONNECTIONS, count);
    }
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c8", "-m32", &format!("-n{count}")]);
    for (name, value) in HEADERS {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let text = output(command.arg(format!("http://{address}{}", case.path())))?;
    match before(&text, " 2xx") {
        Some(good) if good == count as u64 => Ok(()),
        _ => bail!("h2load reports: {text}"),
    }
}

/// Connections of a counted number of HTTP/1 requests: enough for them to overlap.
const COUNTED_CONNECTIONS: usize = 16;

fn wrk(address: SocketAddr, path: &str, how: Intensity, more: &[&str]) -> Result<Outcome> {
    // wrk knows whole seconds only.
    let seconds = how.time.as_secs().max(1);
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{}", how.connections), &format!("-d{seconds}s"), "--timeout", "10s"]);
    for (name, value) in HEADERS {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let text = output(command.args(more).arg(format!("http://{address}{path}")))?;
    if let Some(line) = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors")) {
        bail!("wrk reports: {}", line.trim());
    }
    let requests = before(&text, " requests in ").context("wrk printed no count")?;
    Ok(Outcome { requests, latency: None, took: None })
}

fn h2load(address: SocketAddr, path: &str, time: Duration) -> Result<Outcome> {
    let seconds = time.as_secs().max(1);
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c8", "-m32", &format!("-D{seconds}"), "--connection-active-timeout=30"]);
    for (name, value) in HEADERS {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let text = output(command.arg(format!("http://{address}{path}")))?;
    let status = text.lines().find(|l| l.starts_with("status codes:")).context("h2load printed no status codes")?;
    let requests = before(status, " 2xx").context("h2load printed no count")?;
    let others: u64 = [" 3xx", " 4xx", " 5xx"].iter().filter_map(|w| before(status, w)).sum();
    // Streams still open when the time is up are counted as neither done nor failed by `-D`.
    let failed = before(&text, " failed").unwrap_or(0);
    if requests == 0 || others + failed > 0 {
        bail!("h2load reports: {status}, {failed} failed");
    }
    Ok(Outcome { requests, latency: None, took: None })
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let made = command.output().with_context(|| format!("starting {program}: is it installed?"))?;
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    if !made.status.success() {
        bail!("{program} failed ({}): {text}{}", made.status, String::from_utf8_lossy(&made.stderr));
    }
    Ok(text)
}

/// The number that stands right before `words`.
fn before(text: &str, words: &str) -> Option<u64> {
    text[..text.find(words)?].rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_what_the_clients_print() {
        assert_eq!(before("  40537 requests in 3.00s, 52.11MB read", " requests in "), Some(40537));
        assert_eq!(before("status codes: 812 2xx, 0 3xx, 7 4xx", " 4xx"), Some(7));
        assert_eq!(before("nothing", " 2xx"), None);
    }
}
