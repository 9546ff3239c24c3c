//! Fallbacks: a fixed answer, another upstream, the last good answer; for gRPC too.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use outrigger_tests::{
    Origin, Proxy, Response, config,
    h2peer::{self},
    origin,
};

fn degraded(proxy: &Proxy, upstream: &str, count: f64) {
    proxy.wait_metric("degraded_total", &[("upstream", upstream)], |n| n == count);
}

#[test]
fn a_fixed_answer() {
    let policy = "fallback: { on: [connection_refused], response: { status: 203, \
         headers: [{ name: content-type, value: application/json }], body: \"{}\" } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin::refused(), policy));
    let reply = super::get(proxy.inbound(), "/", "");
    assert_eq!((reply.status, reply.text().as_str()), (203, "{}"));
    assert_eq!(reply.header("x-outrigger-degraded"), Some("connection_refused"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    degraded(&proxy, "app", 1.0);
}

#[test]
fn only_for_the_errors_that_it_names() {
    let policy = "fallback: { on: [http_response_timeout], response: { status: 200, body: stand-in } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin::refused(), policy));
    let reply = super::get(proxy.inbound(), "/", "");
    assert_eq!(super::refusal(&reply).1, "connection_refused");
    assert_eq!(reply.header("x-outrigger-degraded"), None);
}

#[test]
fn when_the_circuit_is_open() {
    let origin = Origin::start(|_| Response::new(500));
    let policy = "circuitBreaker: { scope: upstream, consecutiveFailures: 2 }, \
         fallback: { on: [circuit_open], response: { status: 200, body: stand-in } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    for _ in 0..2 {
        assert_eq!(super::get(proxy.inbound(), "/", "").status, 500);
    }
    let reply = super::get(proxy.inbound(), "/", "");
    assert_eq!((reply.status, reply.text().as_str()), (200, "stand-in"));
    assert_eq!(reply.header("x-outrigger-degraded"), Some("circuit_open"));
}

#[test]
fn another_upstream() {
    let other = Origin::named("other");
    let policy = format!("fallback: {{ on: [connection_refused], backendRef: {} }}", config::backend("other"));
    let yaml = config::sidecar_policy(origin::refused(), &policy) + &config::upstream("other", other.address());
    let proxy = Proxy::start(&yaml);
    let reply = super::get(proxy.inbound(), "/path?q", "");
    assert_eq!((reply.status, reply.text().as_str()), (200, "other"));
    assert_eq!(reply.header("x-outrigger-degraded"), Some("connection_refused"));
    assert_eq!(other.last().target, "/path?q");
    degraded(&proxy, "other", 1.0);
}

#[test]
fn the_last_good_answer() {
    let slow = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&slow);
    let origin = Origin::scripted(move |wire, _, _| {
        while let Ok(Some(request)) = wire.request() {
            if flag.load(Ordering::SeqCst) {
                drop(wire.rest());
                return;
            }
            let answer = Response::text(format!("good {}", request.target)).header("x-kept", "yes");
            wire.send(answer.wire(&request.method));
        }
    });
    let policy = "timeouts: { request: 300ms }, fallback: { on: [http_response_timeout], staleIfError: 60s }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let good = super::get(proxy.inbound(), "/a", "");
    assert_eq!((good.text().as_str(), good.header("x-outrigger-degraded")), ("good /a", None));
    slow.store(true, Ordering::SeqCst);
    let stale = super::get(proxy.inbound(), "/a", "");
    assert_eq!((stale.status, stale.text().as_str()), (200, "good /a"));
    assert_eq!(stale.header("x-outrigger-degraded"), Some("http_response_timeout"));
    assert_eq!(stale.header("x-kept"), Some("yes"));
    assert!(stale.header("age").is_some(), "{:?}", stale.headers);
    // What was never asked for is not known, and a POST is never answered so.
    assert_eq!(super::get(proxy.inbound(), "/b", "").status, 504);
    let post = "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(outrigger_tests::wire::once(proxy.inbound(), post).status, 504);
    degraded(&proxy, "app", 1.0);
}

#[test]
fn a_grpc_call_gets_a_status() {
    let policy = "fallback: { on: [connection_refused], response: { status: 200, \
         headers: [{ name: grpc-status, value: \"0\" }], body: stand-in } }";
    let proxy = Proxy::start(&(config::sidecar_protocol(origin::refused(), "grpc") + &config::policy("app", policy)));
    let request = h2peer::request("POST", "/a.B/C", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let reply = h2peer::run(async {
        h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
    });
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("grpc-status"), Some("0"));
    assert_eq!(reply.header("grpc-message"), Some("stand-in"));
    assert_eq!(reply.header("x-outrigger-degraded"), Some("connection_refused"));
}
