//! `mode: observe`: nothing changes, and what would have been done is counted.

use outrigger_tests::{Origin, Proxy, Response, Wire, config};

fn observed(proxy: &Proxy, action: &str, least: f64) {
    proxy.wait_metric("observed_total", &[("policy", "app"), ("action", action)], |n| n >= least);
}

#[test]
fn breaker_and_retries() {
    let origin = Origin::start(|_| Response::new(503));
    let policy = "mode: observe, retry: { attempts: 2, codes: [503] }, \
         circuitBreaker: { scope: upstream, consecutiveFailures: 3 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    for _ in 0..10 {
        let reply = super::get(proxy.inbound(), "/", "");
        assert_eq!((reply.status, reply.header("proxy-status")), (503, None));
    }
    assert_eq!(origin.requests().len(), 10, "each arrives once");
    observed(&proxy, "retry", 1.0);
    observed(&proxy, "circuit_open", 7.0);
    assert_eq!(proxy.metrics().sum("retries_total", &[("result", "sent")]), 0.0);
}

#[test]
fn ejection() {
    let (bad, good) = (Origin::start(|_| Response::new(500)), Origin::hello());
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[bad.address(), good.address()])
        + &config::policy(
            "app",
            "mode: observe, loadBalancing: { algorithm: roundRobin }, \
             circuitBreaker: { scope: endpoint, consecutiveFailures: 3 }",
        );
    let proxy = Proxy::start(&yaml);
    for _ in 0..20 {
        drop(super::get(proxy.inbound(), "/", ""));
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (10, 10));
    observed(&proxy, "eject", 1.0);
}

#[test]
fn rate_limit() {
    let origin = Origin::hello();
    let policy = "mode: observe, rateLimit: { requests: 1, per: 60s, burst: 1, by: all }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    for _ in 0..5 {
        assert_eq!(super::get(proxy.inbound(), "/", "").status, 200);
    }
    observed(&proxy, "rate_limited", 4.0);
    assert_eq!(proxy.metrics().sum("rejected_total", &[]), 0.0);
}

#[test]
fn limits() {
    // Each request waits for the others: they are in flight at the same time or the test hangs.
    const AT_ONCE: usize = 4;
    let barrier = std::sync::Barrier::new(AT_ONCE);
    let origin = Origin::start(move |_| {
        barrier.wait();
        Response::text("ok")
    });
    let policy = "mode: observe, limits: { maxRequests: 1, maxPending: 1 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let all: Vec<_> = (0..AT_ONCE).map(|_| super::get_later(proxy.inbound(), "/")).collect();
    for reply in all {
        assert_eq!(reply.recv_timeout(outrigger_tests::LONG).expect("an answer").status, 200);
    }
    let watched = proxy.metrics();
    let count = |action| watched.sum("observed_total", &[("policy", "app"), ("action", action)]);
    println!("observed: {} would have waited, {} been refused", count("queue"), count("limit_reached"));
    assert!(count("queue") >= 1.0 && count("limit_reached") >= 1.0);
}

#[test]
fn time_outs() {
    let origin = Origin::scripted(|wire: &mut Wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            wire.patience(std::time::Duration::from_millis(500));
            drop(std::io::Read::read(wire, &mut [0]));
            wire.patience(outrigger_tests::LONG);
            if wire.try_send(Response::text("late").wire("GET")).is_err() {
                return;
            }
        }
    });
    let policy = "mode: observe, timeouts: { request: 200ms, backendRequest: 100ms }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let reply = super::get(proxy.inbound(), "/", "");
    assert_eq!((reply.status, reply.text().as_str()), (200, "late"));
    observed(&proxy, "http_response_timeout", 1.0);
}
