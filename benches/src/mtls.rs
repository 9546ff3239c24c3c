//! What mutual TLS costs: per request, per handshake, and between two of our proxies.
//!
//! Outrigger, nginx and HAProxy terminate the same TLS 1.3 with a client certificate that they verify (P-256, one CA)
//! and forward in plaintext to the same origin. The key exchange is X25519 for all; Outrigger is asked a second time
//! with X25519MLKEM768, which the others' OpenSSL does not have. The client is rustls, one thread per connection; a
//! handshake is never a resumed one. A fourth is what one writes on hyper and rustls in an afternoon. Between proxies HTTP/1.1 and HTTP/2 are compared by the CPU time of both.
//!
//! Apart from [`compare`](crate::compare), as nothing but CPU time per unit is asked here.

mod client;
mod peers;
mod pki;

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    callgrind,
    client::Connection as Plain,
    idle,
    load::{self, Case as Plaintext, Intensity},
    proc,
    process::{Server, free_address},
    report::{self, Row},
};
use client::{Groups, Shown};
use peers::{Place, Proxied};

/// How thoroughly.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Turns of each proxy
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 2)]
    pub seconds: u64,
    /// Connections side by side
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Requests per second of the fixed rate
    #[arg(long, default_value_t = 5_000)]
    pub rate: u32,
    /// Without the others: not to compare, but to have a proxy do all that it can
    #[arg(long)]
    pub alone: bool,
    /// One short round of everything, only to see that it works
    #[arg(long)]
    pub smoke: bool,
    /// The CPU of the proxies
    #[arg(long, default_value_t = 0)]
    pub proxy_cpu: usize,
    /// The CPU of the origin
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// The `outrigger-proxy` binary
    #[arg(long, default_value = "target/release/outrigger-proxy")]
    pub proxy: PathBuf,
    /// Another `outrigger-proxy`, which takes its turns after the first as `outrigger-pgo`: what `image/pgo` has built
    #[arg(long, value_name = "PATH")]
    pub pgo: Option<PathBuf>,
    /// Where configurations, keys and logs are written
    #[arg(long, default_value = "target/bench-mtls")]
    pub work: PathBuf,
}

/// What is asked of a peer that terminates TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Connections are kept.
    KeepAlive,
    /// The same at a fixed rate.
    Paced,
    /// A full handshake and one request.
    Handshake,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAlive => "mTLS, HTTP/1, 1 KiB, closed loop",
            Self::Paced => "mTLS, HTTP/1, 1 KiB, fixed rate",
            Self::Handshake => "mTLS, a full handshake and one request",
        })
    }
}

/// Measure and print the tables.
pub fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = fs::canonicalize(&options.work)?;
    let files = pki::write(&work)?;
    let origin = free_address()?;
    let _origin = start_origin(origin, options.client_cpu, &work)?;
    let place = Place { proxy: &options.proxy, work: &work, files: &files, origin };
    println!("Machine: {}.\n", proc::machine());
    let shown = Shown::load(&files, Some(&files.client))?;
    terminate(options, &place, &shown)?;
    refuse(options, &place)?;
    between(options, &place)?;
    memory(options, &place, &shown)
}

/// User-mode instructions of `proxy` for one request over mutual TLS, on a connection that is kept.
///
/// # Errors
/// A program is missing, or a request fails.
pub fn instructions(proxy: &Path, work: &Path, [proxy_cpu, client_cpu]: [usize; 2]) -> Result<f64> {
    let files = pki::write(work)?;
    let origin = free_address()?;
    let _origin = start_origin(origin, client_cpu, work)?;
    let peer = peers::outrigger(&Place { proxy, work, files: &files, origin })?;
    let shown = Shown::load(&files, Some(&files.client))?;
    let ask = |count| client::counted(&shown, peer.address, CONNECTIONS, count);
    callgrind::each("mtls", &peer.command, peer.address, callgrind::COUNTS, proxy_cpu, work, ask)
}

/// Of a counted number of requests: enough for them to overlap.
const CONNECTIONS: usize = 16;

fn start_origin(origin: SocketAddr, cpu: usize, work: &Path) -> Result<Server> {
    let command = [std::env::current_exe()?.to_string_lossy().into_owned(), "origin".into(), origin.to_string()];
    Server::start("origin", &command, cpu, origin, work)
}

fn time(options: &Options) -> (Duration, usize) {
    if options.smoke { (Duration::from_secs(1), 1) } else { (Duration::from_secs(options.seconds), options.rounds) }
}

/// Who terminates TLS, in turn.
fn terminating(options: &Options, place: &Place<'_>) -> Result<Vec<Proxied>> {
    let mut peers = vec![peers::outrigger(place)?];
    if let Some(program) = &options.pgo {
        peers.push(peers::outrigger_pgo(place, program)?);
    }
    if options.alone {
        return Ok(peers);
    }
    peers.extend([peers::nginx(place)?, peers::haproxy(place)?, peers::naive(place)?]);
    Ok(peers)
}

/// Terminating TLS, beside others.
fn terminate(options: &Options, place: &Place<'_>, shown: &Shown) -> Result<()> {
    let peers = terminating(options, place)?;
    let start = |p: &Proxied| Server::start(p.name, &p.command, options.proxy_cpu, p.address, place.work);
    let servers = peers.iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut turns: Vec<_> = peers.iter().zip(&servers).map(|(p, s)| (p.name, p.address, s, Groups::Classic)).collect();
    turns.push(("outrigger, X25519MLKEM768", peers[0].address, &servers[0], Groups::Hybrid));
    let (time, rounds) = time(options);
    for case in [Case::KeepAlive, Case::Paced, Case::Handshake] {
        let mut rows: Vec<Row> = Vec::new();
        for (name, ..) in &turns {
            rows.push(Row { name: (*name).to_owned(), figures: Vec::new(), more: vec![Vec::new(); 2] });
        }
        for _ in 0..rounds {
            for ((name, address, server, groups), row) in turns.iter().zip(&mut rows) {
                let before = proc::cpu_time(server.pid())?;
                let done = ask(options, case, *address, shown, *groups, time);
                let (done, took) = done.with_context(|| format!("{name}: {case}"))?;
                let used = proc::cpu_time(server.pid())?.saturating_sub(before).as_secs_f64();
                row.figures.push(used * 1e6 / done.max(1) as f64);
                row.more[0].push(done as f64 / took.as_secs_f64());
                row.more[1].push(100.0 * used / took.as_secs_f64());
            }
        }
        let columns = &["per second", "CPU busy, %"];
        println!("{}", report::table(&case.to_string(), "CPU µs", columns, &rows, "outrigger"));
    }
    Ok(())
}

/// What a client costs that is not let in: one that shows no certificate, and one whose certificate a stranger has signed. One
/// connection at a time, as many for each turn: Outrigger slows a source down whose handshakes keep failing.
fn refuse(options: &Options, place: &Place<'_>) -> Result<()> {
    const EACH: u64 = 100;
    let peers = terminating(options, place)?;
    let start = |p: &Proxied| Server::start(p.name, &p.command, options.proxy_cpu, p.address, place.work);
    let servers = peers.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (what, own) in [("no certificate", None), ("a stranger's certificate", Some(&place.files.stranger))] {
        let shown = Shown::load(place.files, own)?;
        let row = |p: &Proxied| Row { name: p.name.to_owned(), figures: Vec::new(), more: Vec::new() };
        let mut rows: Vec<Row> = peers.iter().map(row).collect();
        for _ in 0..time(options).1 {
            for ((peer, server), row) in peers.iter().zip(&servers).zip(&mut rows) {
                let before = proc::cpu_time(server.pid())?;
                client::refused(&shown, peer.address, EACH).with_context(|| format!("{}: {what}", peer.name))?;
                let used = proc::cpu_time(server.pid())?.saturating_sub(before);
                row.figures.push(used.as_secs_f64() * 1e6 / EACH as f64);
            }
        }
        let title = format!("mTLS, a client that is refused: {what}");
        println!("{}", report::table(&title, "CPU µs", &[], &rows, "outrigger"));
    }
    Ok(())
}

/// How many requests were answered, and in what time.
fn ask(
    options: &Options,
    case: Case,
    address: SocketAddr,
    shown: &Shown,
    groups: Groups,
    time: Duration,
) -> Result<(u64, Duration)> {
    let done = match case {
        Case::KeepAlive => client::looped(shown, groups, address, options.connections, time),
        Case::Paced => {
            let seen = client::at_rate(shown, groups, address, options.connections, time, options.rate)?;
            return Ok((seen.requests, seen.took));
        }
        Case::Handshake => client::handshakes(shown, groups, address, options.connections.min(8), time),
    };
    Ok((done?, time))
}

/// The CPU time of both proxies of a pair, by what is spoken between them.
fn between(options: &Options, place: &Place<'_>) -> Result<()> {
    let mut pairs = Vec::new();
    for protocol in ["http", "http2"] {
        let [server, client] = peers::pair(place, protocol)?;
        let start = |p: &Proxied, suffix| {
            let name = format!("{}-{protocol}-{suffix}", p.name);
            Server::start(&name, &p.command, options.proxy_cpu, p.address, place.work)
        };
        let servers = [start(&server, "inbound")?, start(&client, "outbound")?];
        pairs.push((protocol, client.address, servers));
    }
    let (time, rounds) = time(options);
    for connections in [1, 8, 64] {
        let row = |protocol: &str| Row { name: protocol.to_owned(), figures: Vec::new(), more: vec![Vec::new(); 3] };
        let mut rows: Vec<Row> = pairs.iter().map(|(protocol, ..)| row(protocol)).collect();
        for _ in 0..rounds {
            for ((_, address, servers), row) in pairs.iter().zip(&mut rows) {
                let cpu = || servers.iter().map(|s| proc::cpu_time(s.pid())).collect::<Result<Vec<_>>>();
                Plain::open(*address, Plaintext::Small.path())?.exchange()?;
                let before = cpu()?;
                let how = Intensity { time, connections, rate: 0 };
                let done = load::run(Plaintext::Small, *address, how)?.requests.max(1) as f64;
                let used: Vec<_> = cpu()?.iter().zip(before).map(|(a, b)| a.saturating_sub(b).as_secs_f64()).collect();
                row.figures.push(used.iter().sum::<f64>() * 1e6 / done);
                row.more[0].push(used[0] * 1e6 / done);
                row.more[1].push(used[1] * 1e6 / done);
                row.more[2].push(done / time.as_secs_f64());
            }
        }
        let title = format!("Two proxies, mTLS between them, {connections} connections of the app");
        let columns = &["inbound, µs", "outbound, µs", "requests/s"];
        println!("{}", report::table(&title, "CPU µs per request, both", columns, &rows, "http"));
    }
    Ok(())
}

/// What an idle connection under mutual TLS takes.
fn memory(options: &Options, place: &Place<'_>, shown: &Shown) -> Result<()> {
    /// Held at once; each is a file descriptor of both sides.
    const HELD: usize = 1000;
    let held = if options.smoke { 50 } else { HELD };
    let mut rows = Vec::new();
    for peer in terminating(options, place)? {
        let server = Server::start(peer.name, &peer.command, options.proxy_cpu, peer.address, place.work)?;
        let open = || client::held(shown, peer.address);
        idle::settled(server.pid())?;
        // Pools and pages that the first ones touch are not theirs.
        let _first = (0..10).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let before = proc::resident(server.pid())?;
        let _held = (0..held).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let each = proc::resident(server.pid())?.saturating_sub(before) as f64 / held as f64 / 1024.0;
        rows.push(Row { name: peer.name.to_owned(), figures: vec![each], more: Vec::new() });
    }
    let title = format!("Memory of an idle mTLS connection ({held} held)");
    println!("{}", report::table(&title, "KiB", &[], &rows, "outrigger"));
    Ok(())
}
