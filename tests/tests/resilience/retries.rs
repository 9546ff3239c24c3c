//! What is sent again, when, and how often; what never is.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use outrigger_tests::{
    Origin, Proxy, Reply, Response, Traffic, Wire, config,
    h2peer::{self, H2Origin},
    wire,
};
use tokio::time::Instant;

const POLICY: &str = "timeouts: { request: 5s, backendRequest: 300ms }, \
     retry: { attempts: 2, codes: [503], backoff: { base: 5ms, max: 20ms } }";

type Way = fn(&mut Wire);

/// Ways to fail a request that was read.
const WAYS: [(&str, Way); 3] = [
    ("503", |wire| wire.send(Response::new(503).closing().wire("POST"))),
    ("closed after reading", |_| {}),
    ("no answer", |wire| drop(wire.rest())),
];

fn failing(way: Way) -> Origin {
    Origin::scripted(move |wire, connection, origin| {
        while let Ok(Some(mut request)) = wire.request() {
            request.connection = connection;
            origin.record(&request);
            if request.target == "/warm" {
                wire.send(Response::text("ok").wire("GET"));
                continue;
            }
            return way(wire);
        }
    })
}

fn post(to: SocketAddr, headers: &str) -> Reply {
    wire::once(to, &format!("POST /once HTTP/1.1\r\nHost: app\r\n{headers}Content-Length: 4\r\n\r\nbody"))
}

#[test]
fn a_post_without_a_key_arrives_once() {
    for (name, way) in WAYS {
        let origin = failing(way);
        let proxy = Proxy::start(&config::sidecar_policy(origin.address(), POLICY));
        for _ in 0..5 {
            // On a reused connection, and then on a fresh one.
            assert_eq!(Wire::connect(proxy.inbound()).get("/warm").status, 200);
            let before = origin.requests().len();
            let reply = post(proxy.inbound(), "");
            assert!(reply.status >= 502, "{name}: {}", reply.status);
            let arrived = origin.requests().len() - before;
            assert!(arrived <= 1, "{name}: the POST arrived {arrived} times");
        }
        let reply = post(proxy.inbound(), "");
        assert!(reply.status >= 502, "{name}: {}", reply.status);
        assert!(origin.requests().iter().all(|r| r.header("x-outrigger-attempt").is_none()), "{name}");
    }
}

#[test]
fn a_post_with_a_key_is_sent_again_and_says_so() {
    for (name, way) in WAYS {
        let origin = failing(way);
        let proxy = Proxy::start(&config::sidecar_policy(origin.address(), POLICY));
        let reply = post(proxy.inbound(), "Idempotency-Key: \"k-1\"\r\n");
        assert!(reply.status >= 502, "{name}: {}", reply.status);
        let requests = origin.requests();
        let attempts: Vec<_> = requests.iter().map(|r| r.header("x-outrigger-attempt")).collect();
        assert_eq!(attempts, [None, Some("2"), Some("3")], "{name}");
        assert!(
            requests.iter().all(|r| r.text() == "body" && r.header("idempotency-key") == Some("\"k-1\"")),
            "{name}"
        );
        proxy.wait_metric("retries_total", &[("result", "sent"), ("upstream", "app")], |n| n == 2.0);
    }
}

#[test]
fn a_listed_method_is_sent_again() {
    let origin = failing(WAYS[0].1);
    let policy = POLICY.replace("codes: [503]", "codes: [503], methods: [POST]");
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), &policy));
    assert_eq!(post(proxy.inbound(), "").status, 503);
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a_body_too_large_to_keep_is_streamed_and_not_sent_again() {
    let origin = failing(WAYS[0].1);
    let policy = POLICY.replace("codes: [503]", "codes: [503], maxBodyBytes: 3");
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), &policy));
    assert_eq!(post(proxy.inbound(), "Idempotency-Key: k\r\n").status, 503);
    assert_eq!(origin.requests().len(), 1);
    proxy.wait_metric("retries_total", &[("result", "body_too_large")], |n| n == 1.0);
}

#[test]
fn another_endpoint_is_preferred() {
    let bad = Origin::start(|_| Response::new(503));
    let good = Origin::named("good");
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[bad.address(), good.address()])
        + &config::policy(
            "app",
            "loadBalancing: { algorithm: roundRobin }, retry: { attempts: 1, codes: [503], backoff: { base: 1ms, max: 2ms }, budget: { percent: 100 } }",
        );
    let proxy = Proxy::start(&yaml);
    for n in 0..10 {
        assert_eq!(super::get(proxy.inbound(), "/", "").status, 200, "request {n}");
    }
    assert!(!bad.requests().is_empty());
    assert_eq!(good.requests().len(), 10);
}

#[test]
fn retry_after_is_respected() {
    let origin = {
        let first = AtomicU32::new(0);
        Origin::start(move |_| match first.fetch_add(1, Ordering::SeqCst) {
            0 => Response::new(503).header("Retry-After", "1"),
            _ => Response::text("ok"),
        })
    };
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), POLICY));
    let start = Instant::now();
    assert_eq!(super::get(proxy.inbound(), "/", "").status, 200);
    let took = start.elapsed();
    println!("Retry-After: 1: the second attempt came after {took:?}");
    assert!((Duration::from_millis(1000)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[test]
fn a_wait_that_does_not_fit_is_not_begun() {
    let origin = Origin::start(|_| Response::new(503).header("Retry-After", "3"));
    let policy = POLICY.replace("request: 5s", "request: 1s");
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), &policy));
    let start = Instant::now();
    assert_eq!(super::get(proxy.inbound(), "/", "").status, 503);
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    assert_eq!(origin.requests().len(), 1);
    proxy.wait_metric("retries_total", &[("result", "deadline")], |n| n == 1.0);
}

/// `grpc-status` of a call of `path`, and how long it took.
fn call(proxy: &Proxy, path: &str) -> (Option<String>, Duration) {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let request = h2peer::request("POST", path, &headers);
    let start = Instant::now();
    let reply = h2peer::run(async {
        h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
    });
    let status = reply.header("grpc-status").or_else(|| reply.trailer("grpc-status")).map(str::to_owned);
    (status, start.elapsed())
}

#[test]
fn grpc_unavailable_is_retried_and_pushback_respected() {
    let origin = H2Origin::start();
    let upstream = format!("protocol: grpc, endpoints: [{{ address: \"{}\" }}]", origin.address());
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_with("app", &upstream)
        + &config::policy("app", "retry: { attempts: 2, grpcCodes: [unavailable], backoff: { base: 5ms, max: 20ms } }");
    let proxy = Proxy::start(&yaml);
    let seen = |path: &str| origin.requests().iter().filter(|s| s.path == path).count();

    // Trailers-only UNAVAILABLE the first time.
    assert_eq!(call(&proxy, "/grpc-flaky/14").0.as_deref(), Some("0"));
    assert_eq!(seen("/grpc-flaky/14"), 2);
    assert_eq!(origin.last().header("x-outrigger-attempt"), Some("2"));
    // Not a status of the list.
    assert_eq!(call(&proxy, "/grpc-flaky/5").0.as_deref(), Some("5"));
    assert_eq!(seen("/grpc-flaky/5"), 1);
    // The server says when.
    let (status, took) = call(&proxy, "/grpc-flaky/14/600");
    println!("grpc-retry-pushback-ms: 600: the second attempt was answered after {took:?}");
    assert_eq!(status.as_deref(), Some("0"));
    assert!((Duration::from_millis(600)..Duration::from_secs(4)).contains(&took), "{took:?}");
    // A negative time: not again.
    assert_eq!(call(&proxy, "/grpc-flaky/14/-1").0.as_deref(), Some("14"));
    assert_eq!(seen("/grpc-flaky/14/-1"), 1);
}

#[test]
fn budgets_bound_the_retries_of_a_chain() {
    const RATE: u32 = 100;
    let reached = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&reached);
    let origin = Origin::scripted(move |wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            counter.fetch_add(1, Ordering::SeqCst);
            if wire.try_send(Response::new(503).wire("GET")).is_err() {
                return;
            }
        }
    });
    let policy = "retry: { attempts: 2, codes: [503], backoff: { base: 1ms, max: 5ms }, \
         budget: { percent: 20, interval: 10s, minRetryRate: { count: 1, interval: 1s } } }";
    let inner = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let middle = Proxy::start(&config::sidecar_policy(inner.inbound(), policy));
    let outer = Proxy::start(&config::sidecar_policy(middle.inbound(), policy));
    let traffic = Traffic::start(outer.inbound(), RATE, 16, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    traffic.run_until(Duration::from_secs(5));
    let sent = traffic.stop().len();
    let requests = |proxy: &Proxy| proxy.metrics().sum("requests_total", &[("direction", "inbound")]);
    let hops = [sent as f64, requests(&middle), requests(&inner), f64::from(reached.load(Ordering::SeqCst))];
    println!("a chain of three over a backend that always fails: {hops:?} requests from hop to hop");
    assert!(sent as u32 > RATE * 2, "{sent}");
    for pair in hops.windows(2) {
        assert!(pair[1] <= pair[0] * 1.25, "{hops:?}");
        assert!(pair[1] > pair[0] * 1.05, "nothing was retried: {hops:?}");
    }
}
