//! A whole comparison, from the origin's start to the last table.
//!
//! Peers are measured in turn, A B C A B C, for several rounds, so that a machine that becomes slower is slower
//! for all of them. All of them run all the time on the proxy's CPU; those that are not asked anything use no
//! time. The origin and the clients share the other CPU, hence throughput here is that of the pair and not of
//! the proxy: the figure that is compared is the CPU time that the proxy uses per request.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    callgrind, idle,
    load::{self, Case, Intensity},
    peers::{Kind, Parts, Peer},
    proc,
    process::{Server, free_address},
    report::{self, Row},
    syscalls,
};

/// What to compare, and how thoroughly.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which proxies, in the order in which they take their turns
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Outrigger, Kind::Nginx, Kind::Haproxy, Kind::Copy])]
    pub peers: Vec<Kind>,
    /// Which cases; all of them when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// Turns of each proxy
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// HTTP/1 connections side by side
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Requests per second of the fixed rate
    #[arg(long, default_value_t = 10_000)]
    pub rate: u32,
    /// One short round of everything, only to see that it works
    #[arg(long)]
    pub smoke: bool,
    /// Do not count instructions (valgrind)
    #[arg(long)]
    pub no_instructions: bool,
    /// Do not count system calls (strace)
    #[arg(long)]
    pub no_syscalls: bool,
    /// The CPU of the proxies
    #[arg(long, default_value_t = 0)]
    pub proxy_cpu: usize,
    /// The CPU of the origin; this process and the clients belong there, too
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// The `outrigger-proxy` binary
    #[arg(long, default_value = "target/release/outrigger-proxy")]
    pub proxy: PathBuf,
    /// Another `outrigger-proxy`, which takes its turns after the first as `outrigger-pgo`: what `image/pgo` has built
    #[arg(long, value_name = "PATH")]
    pub pgo: Option<PathBuf>,
    /// The `envoy` binary
    #[arg(long, default_value = "target/envoy/envoy")]
    pub envoy: PathBuf,
    /// Where configurations and logs are written
    #[arg(long, default_value = "target/bench")]
    pub work: PathBuf,
}

/// Run the comparison and print its tables.
pub fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = fs::canonicalize(&options.work)?;
    let origins = [free_address()?, free_address()?, free_address()?];
    let _origin = start_origin(options.client_cpu, &origins, &work)?;
    let parts = Parts {
        proxy: &options.proxy,
        pgo: options.pgo.as_deref(),
        envoy: &options.envoy,
        work: &work,
        origins: &origins,
    };
    let mut peers = Vec::new();
    for kind in kinds(options) {
        peers.push((kind, Peer::prepare(kind, &parts)?));
    }

    print_head(options, &peers);
    let mut running = Vec::new();
    for (kind, peer) in &peers {
        running.push(Running {
            kind: *kind,
            peer,
            server: Server::start(&peer.name, &peer.command, options.proxy_cpu, peer.http1, &work)?,
        });
    }
    let cases = if options.cases.is_empty() { Case::ALL.to_vec() } else { options.cases.clone() };
    for case in cases {
        compare_case(options, case, &running)?;
    }
    drop(running);
    let peers: Vec<_> = peers.into_iter().filter(|(kind, _)| kind.takes(Case::Small)).map(|(_, peer)| peer).collect();
    compare_syscalls(options, &peers, &work)?;
    compare_memory(options, &peers, &work)?;
    if !options.no_instructions {
        compare_instructions(options, &peers, &work)?;
    }
    Ok(())
}

/// Who takes part, in turn.
fn kinds(options: &Options) -> Vec<Kind> {
    let mut kinds = options.peers.clone();
    if options.pgo.is_some() && !kinds.contains(&Kind::OutriggerPgo) {
        let after = kinds.iter().position(|kind| *kind == Kind::Outrigger).map_or(0, |at| at + 1);
        kinds.insert(after, Kind::OutriggerPgo);
    }
    kinds
}

struct Running<'a> {
    kind: Kind,
    peer: &'a Peer,
    server: Server,
}

impl Running<'_> {
    fn address(&self, case: Case) -> Option<SocketAddr> {
        if case == Case::Http2 { self.peer.http2 } else { Some(self.peer.http1) }.filter(|_| self.kind.takes(case))
    }
}

/// The origin, on the CPU of the clients.
pub(crate) fn start_origin(cpu: usize, origins: &[SocketAddr], work: &Path) -> Result<Server> {
    let mut command = vec![std::env::current_exe()?.to_string_lossy().into_owned(), "origin".into()];
    command.extend(origins.iter().map(ToString::to_string));
    let last = origins.last().context("there are origins")?;
    Server::start("origin", &command, cpu, *last, work)
}

fn compare_case(options: &Options, case: Case, running: &[Running<'_>]) -> Result<()> {
    let asked: Vec<_> = running.iter().filter_map(|r| Some((r, r.address(case)?))).collect();
    let how = |time| Intensity { time, connections: options.connections, rate: options.rate };
    let time = Duration::from_secs(if options.smoke { 1 } else { options.seconds });
    let mut rows: Vec<Row> = Vec::new();
    for (peer, address) in &asked {
        // Pools fill and pages are touched outside of what is measured.
        load::run(case, *address, how(WARM_UP)).with_context(|| format!("{}: {case}", peer.peer.name))?;
        let more = vec![Vec::new(); columns(case).len()];
        rows.push(Row { name: peer.peer.name.clone(), figures: Vec::new(), more });
    }
    for _ in 0..if options.smoke { 1 } else { options.rounds } {
        for ((peer, address), row) in asked.iter().zip(&mut rows) {
            let before = proc::cpu_time(peer.server.pid())?;
            let outcome =
                load::run(case, *address, how(time)).with_context(|| format!("{}: {case}", peer.peer.name))?;
            let used = proc::cpu_time(peer.server.pid())?.saturating_sub(before);
            let requests = outcome.requests.max(1) as f64;
            row.figures.push(used.as_secs_f64() * 1e6 / requests);
            let took = outcome.took.unwrap_or(time).as_secs_f64();
            row.more[0].push(requests / took);
            row.more[1].push(100.0 * used.as_secs_f64() / took);
            if let Some((p50, p99)) = outcome.latency {
                row.more[2].push(p50.as_secs_f64() * 1e6);
                row.more[3].push(p99.as_secs_f64() * 1e6);
            }
        }
    }
    println!("{}", report::table(&case.to_string(), "CPU µs per request", columns(case), &rows, base(options)));
    Ok(())
}

fn columns(case: Case) -> &'static [&'static str] {
    match case {
        Case::Paced => &["requests/s", "CPU busy, %", "p50, µs", "p99, µs"],
        _ => &["requests/s", "CPU busy, %"],
    }
}

fn compare_syscalls(options: &Options, peers: &[Peer], work: &Path) -> Result<()> {
    if options.no_syscalls {
        return Ok(());
    }
    let count = if options.smoke { syscalls::FEW } else { syscalls::REQUESTS };
    for case in [Case::Small, Case::Http2] {
        let mut rows = Vec::new();
        for peer in peers {
            let Some(address) = (if case == Case::Http2 { peer.http2 } else { Some(peer.http1) }) else { continue };
            let server = Server::start(&peer.name, &peer.command, options.proxy_cpu, address, work)?;
            let seen = syscalls::calls(case, address, server.pid(), count, work)
                .with_context(|| format!("{}: counting system calls", peer.name))?;
            let more = [seen.reads, seen.writes, seen.waits].map(|n| vec![n]).to_vec();
            rows.push(Row { name: peer.name.clone(), figures: vec![seen.all], more });
        }
        let title = format!("System calls per request, {case}");
        println!("{}", report::table(&title, "calls", &["reads", "writes", "waits"], &rows, base(options)));
    }
    Ok(())
}

/// Of peers started anew: what the cases have left in their heaps would hide what connections take.
fn compare_memory(options: &Options, peers: &[Peer], work: &Path) -> Result<()> {
    let held = idle::held()?;
    for held in held.into_iter().take(if options.smoke { 1 } else { held.len() }) {
        let mut rows = Vec::new();
        for peer in peers {
            let server = Server::start(&peer.name, &peer.command, options.proxy_cpu, peer.http1, work)?;
            let seen = idle::memory(peer.http1, server.pid(), held).with_context(|| format!("{}: idle", peer.name))?;
            let more = [seen.at_rest, seen.served, seen.with_all]
                .map(|bytes| vec![bytes as f64 / f64::from(1 << 20)])
                .to_vec();
            rows.push(Row { name: peer.name.clone(), figures: vec![seen.per_connection() / 1024.0], more });
        }
        let title = format!("Memory of an idle connection ({held} held)");
        println!(
            "{}",
            report::table(&title, "KiB", &["MiB at rest", "MiB after a request", "MiB with all"], &rows, base(options))
        );
    }
    Ok(())
}

fn compare_instructions(options: &Options, peers: &[Peer], work: &Path) -> Result<()> {
    let counts = if options.smoke { callgrind::FEW } else { callgrind::COUNTS };
    let mut rows = Vec::new();
    for peer in peers {
        let figure = callgrind::instructions(peer, Case::Small, counts, options.proxy_cpu, work)
            .with_context(|| format!("{}: counting instructions", peer.name))?;
        rows.push(Row { name: peer.name.clone(), figures: vec![figure / 1e3], more: Vec::new() });
    }
    let title = "User-mode instructions per request, HTTP/1, 1 KiB";
    println!("{}", report::table(title, "thousand", &[], &rows, base(options)));
    Ok(())
}

fn print_head(options: &Options, peers: &[(Kind, Peer)]) {
    println!("Machine: {}.\n", proc::machine());
    for (_, peer) in peers {
        println!("- {}: {}", peer.name, peer.version);
    }
    let (rounds, seconds) = if options.smoke { (1, 1) } else { (options.rounds, options.seconds) };
    println!(
        "\n{rounds} rounds of {seconds} s, {} HTTP/1 connections, fixed rate {}/s; median (range).\n",
        options.connections, options.rate
    );
}

/// What the others are set in relation to: Outrigger where it takes part.
fn base(options: &Options) -> &'static str {
    if options.peers.contains(&Kind::Outrigger) { "outrigger" } else { "nginx" }
}

/// Of one peer and case.
const WARM_UP: Duration = Duration::from_millis(500);
