//! `demo`: a mesh in one process, to look at. Sample services, a proxy in front of them, a proxy beside
//! their client, traffic, and a report of what the proxies did about each fault.
//!
//! Nothing in it is special: both proxies run YAML documents that are shown, the client speaks HTTP over a
//! socket, and the report reads `/metrics` of the admin port as any tool would.

mod config;
mod report;
mod services;
mod traffic;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::{report::Report, services::SERVICES, traffic::Tallies};
use crate::{
    cli::{self, DemoArgs, LogFormat},
    control::{self, Proxy, Signals, StartError, wiring},
    observe::diagnostics::Handle,
};

/// Errors of services are the point of the demo; without `-v` they are told in its own words only.
const FILTER: &str = "error";
/// How often the report speaks.
const REPORT: Duration = Duration::from_secs(1);

/// Runs the demo.
#[must_use]
pub fn run(args: &DemoArgs, format: LogFormat, verbose: u8) -> ExitCode {
    let filter = (verbose == 0).then_some(FILTER);
    let result = wiring::diagnostics(format, verbose, filter)
        .and_then(|diagnostics| control::runtime()?.block_on(demo(args, diagnostics)));
    match result {
        Ok(()) => ExitCode::from(cli::DONE),
        Err(e) => control::report(&e),
    }
}

async fn demo(args: &DemoArgs, diagnostics: Handle) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    // Ends every task of services and client when it is dropped.
    let mut tasks = JoinSet::new();
    let mut services = Vec::new();
    for service in &SERVICES {
        services.push((service.name, services::start(service, &mut tasks).await?));
    }
    let inbound = config::inbound(&services);
    let mut beside_services = start(&inbound, &diagnostics).await?;
    let listeners = beside_services.shared().snapshot();
    let proxies: Vec<_> = listeners.listeners.iter().map(|l| (l.name.to_string(), l.local)).collect();
    let outbound = config::outbound(&proxies, free(args.admin));
    let mut beside_client = start(&outbound, &diagnostics).await?;
    let snapshot = beside_client.shared().snapshot();
    // The configuration of the demo has exactly this one listener.
    let entry = snapshot.listeners.first().map_or(args.admin, |l| l.local);
    print(&config::introduction(&outbound, entry, beside_client.admin(), beside_services.admin()));

    let tallies = Arc::new(Tallies::default());
    traffic::start(entry, &tallies, &mut tasks);
    let mut report = Report::new(beside_client.admin(), Arc::clone(&tallies));
    let begin = Instant::now();
    let end = args.time.map(|time| begin + time);
    let mut ticks = interval(REPORT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => print(&report.next(begin.elapsed()).await),
            () = sleep_until(end.unwrap_or(begin)), if end.is_some() => break,
            _ = signals.end() => break,
        }
    }
    print(&report.summary(begin.elapsed()).await);
    tasks.abort_all();
    beside_client.drain(&mut signals).await;
    beside_services.drain(&mut signals).await;
    Ok(())
}

async fn start(text: &str, diagnostics: &Handle) -> Result<Proxy, StartError> {
    let source = outrigger_config::Source { name: "demo".into(), text: text.to_owned() };
    let compiled = outrigger_config::compile(&[source]).map_err(StartError::Faults)?;
    Proxy::start(compiled, diagnostics.clone()).await
}

/// `wanted` if it is free, or any port.
fn free(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn print(text: &str) {
    cli::say(&mut io::stdout(), text);
}
