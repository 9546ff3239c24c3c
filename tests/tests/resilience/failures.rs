//! One of three endpoints breaks, in six ways, under steady traffic: clients notice nothing after five seconds,
//! and the endpoint is back within its ejection time after it recovers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use outrigger_tests::{ChildOrigin, LONG, Origin, Proxy, Response, Traffic, config, eventually, load, origin};

const RATE: u32 = 200;
/// The longest ejection: an endpoint is back within this time after it recovers.
const EJECTION: Duration = Duration::from_secs(4);
/// What a loaded machine may take on top.
const SLACK: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(3);

const POLICY: &str = "timeouts: { request: 3s, backendRequest: 300ms, connect: 250ms }, \
     retry: { attempts: 2, codes: [500, 502, 503, 504], backoff: { base: 5ms, max: 50ms } }, \
     circuitBreaker: { scope: endpoint, consecutiveFailures: 5, open: { base: 1s, max: 4s }, halfOpenProbes: 3 }";

const WELL: u8 = 0;
const ERROR: u8 = 1;
const SLOW: u8 = 2;
const HALF: u8 = 3;

/// An origin whose behaviour can be changed while it runs.
fn origin_with(mode: &Arc<AtomicU8>, name: &'static str) -> Origin {
    let mode = Arc::clone(mode);
    Origin::scripted(move |wire, _, _| {
        while let Ok(Some(request)) = wire.request() {
            let mut answer = Response::text("ok").header("x-endpoint", name).wire(&request.method);
            match mode.load(Ordering::SeqCst) {
                ERROR => answer = Response::new(500).header("x-endpoint", name).wire(&request.method),
                SLOW => {
                    wire.patience(Duration::from_secs(2));
                    // The time passes unless the proxy gives up, which ends the read.
                    match std::io::Read::read(wire, &mut [0]) {
                        Ok(0) => return,
                        _ => wire.patience(LONG),
                    }
                }
                HALF => {
                    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nx-endpoint: sick\r\n\r\nhalf of the body";
                    drop(wire.try_send(half));
                    return;
                }
                _ => {}
            }
            if wire.try_send(answer).is_err() {
                return;
            }
        }
    })
}

fn healthy(name: &'static str) -> Origin {
    origin_with(&Arc::new(AtomicU8::new(WELL)), name)
}

/// Runs the traffic, with the fault and without it again. `base` is what the policy says.
#[track_caller]
fn survives(case: &str, policy: &str, sick: std::net::SocketAddr, fault: impl FnOnce(), recover: impl FnOnce()) {
    let (one, two) = (healthy("one"), healthy("two"));
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[one.address(), sick, two.address()])
        + &config::policy("app", policy);
    let proxy = Proxy::start(&yaml);
    let traffic = Traffic::start(proxy.inbound(), RATE, 32, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    traffic.run_until(Duration::from_secs(1));
    let before = load::failed(&traffic.since(Duration::ZERO)).len();
    let broken = traffic.elapsed();
    fault();
    traffic.run_until(broken + SETTLE + MEASURED);
    let all = traffic.since(broken);
    let settled: Vec<_> = all.iter().filter(|s| s.at >= broken + SETTLE).cloned().collect();
    let bad = load::failed(&settled);

    recover();
    let recovered = traffic.elapsed();
    let back = eventually("the endpoint is back", EJECTION + SLACK + LONG, || {
        let samples = traffic.since(recovered);
        samples.into_iter().find(|s| s.endpoint == "sick" && s.problem.is_none()).map(|s| s.at + s.took - recovered)
    });
    let after = traffic.stop();
    let after: Vec<_> = after.into_iter().filter(|s| s.at >= recovered + back).collect();
    println!(
        "{case}: {} requests in the first 5 s of the fault, {} failed; {} later, {} failed; back after {back:?}",
        all.len() - settled.len(),
        load::failed(&all).len() - bad.len(),
        settled.len(),
        bad.len(),
    );
    assert_eq!(before, 0, "{case}: failures before the fault");
    assert!(settled.len() as u64 > u64::from(RATE) * MEASURED.as_secs() / 2, "{case}: the traffic did not flow");
    assert!(bad.len() * 1000 < settled.len(), "{case}: {} of {} failed: {:?}", bad.len(), settled.len(), bad.first());
    assert!(back < EJECTION + SLACK, "{case}: back only after {back:?}");
    assert_eq!(
        load::failed(&after).len(),
        0,
        "{case}: failures after the recovery: {:?}",
        load::failed(&after).first()
    );
}

fn child(address: std::net::SocketAddr) -> ChildOrigin {
    ChildOrigin::start(env!("CARGO_BIN_EXE_child-origin"), address, "sick")
}

fn anywhere() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn an_endpoint_that_freezes() {
    let sick = child(anywhere());
    survives("frozen", POLICY, sick.address(), || sick.signal("STOP"), || sick.signal("CONT"));
}

#[test]
fn an_endpoint_that_is_killed() {
    let sick = child(anywhere());
    let address = sick.address();
    let mut next = None;
    survives("killed", POLICY, address, || drop(sick), || next = Some(child(address)));
}

#[test]
fn an_endpoint_that_refuses_from_the_start() {
    let address = origin::refused();
    let mut next = None;
    survives("refusing", POLICY, address, || {}, || next = Some(child(address)));
}

fn changing(case: &str, policy: &str, fault: u8) {
    let mode = Arc::new(AtomicU8::new(WELL));
    let sick = origin_with(&mode, "sick");
    let set = |to| mode.store(to, Ordering::SeqCst);
    survives(case, policy, sick.address(), || set(fault), || set(WELL));
}

#[test]
fn an_endpoint_that_answers_500() {
    changing("returning 500", POLICY, ERROR);
}

#[test]
fn an_endpoint_that_is_slow() {
    changing("slow by 2 s", POLICY, SLOW);
}

#[test]
fn an_endpoint_that_drops_after_half_a_body() {
    // The client has seen the head, so there is no second attempt: each probe costs one request, and only
    // the ejection bounds how many. The first is longer than the traffic, so none falls into the measure.
    let policy = POLICY.replace("open: { base: 1s, max: 4s }", "open: { base: 10s, max: 10s }");
    assert_ne!(policy, POLICY);
    changing("dropping after half a body", &policy, HALF);
}
