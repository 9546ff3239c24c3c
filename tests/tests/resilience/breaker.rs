//! The breaker of a whole upstream: opens, fails fast, probes, closes; its metrics and what `explain` shows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outrigger_tests::{LONG, Origin, Proxy, Response, config, eventually};
use tokio::time::Instant;

const POLICY: &str = "circuitBreaker: { scope: upstream, consecutiveFailures: 3, open: { base: 500ms, max: 4s }, \
     halfOpenProbes: 1 }, limits: { maxRequests: 7 }";

/// An origin that fails while the flag is set.
fn switchable() -> (Origin, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&fails);
    let answer = move |_: &_| if flag.load(Ordering::SeqCst) { Response::new(500) } else { Response::text("ok") };
    (Origin::start(answer), fails)
}

fn state(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("circuit_state", &[("upstream", "app"), ("scope", "upstream")])
}

fn transitions(proxy: &Proxy, to: &str) -> f64 {
    proxy.metrics().sum("circuit_transitions_total", &[("upstream", "app"), ("to", to)])
}

/// Asks until the origin was asked once more: the time that the breaker stayed open.
fn open_for(proxy: &Proxy, origin: &Origin) -> Duration {
    let before = origin.requests().len();
    let start = Instant::now();
    eventually("a probe is let through", LONG, || {
        drop(super::get(proxy.inbound(), "/", ""));
        (origin.requests().len() > before).then(|| start.elapsed())
    })
}

#[test]
fn it_opens_fails_fast_doubles_and_closes() {
    let (origin, fails) = switchable();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), POLICY));
    for _ in 0..3 {
        assert_eq!(super::get(proxy.inbound(), "/", "").status, 500);
    }
    let start = Instant::now();
    let reply = super::get(proxy.inbound(), "/", "");
    println!("open: refused after {:?}", start.elapsed());
    assert_eq!(super::refusal(&reply), (503, "circuit_open".to_owned()));
    assert_eq!(super::number(&reply, "retry-after"), Some(1), "rounded up");
    assert!(reply.header("proxy-status").is_some_and(|v| v.contains("error=circuit_open")));
    assert_eq!(origin.requests().len(), 3, "nothing reaches the upstream");
    assert_eq!((state(&proxy), transitions(&proxy, "open")), (2.0, 1.0));
    assert!(proxy.metrics().sum("rejected_total", &[("upstream", "app"), ("reason", "circuit_open")]) >= 1.0);

    let first = open_for(&proxy, &origin);
    let second = open_for(&proxy, &origin);
    let third = open_for(&proxy, &origin);
    println!("open times while probes fail: {first:?}, {second:?}, {third:?}");
    assert!(first < Duration::from_millis(900), "{first:?}");
    assert!((Duration::from_millis(900)..Duration::from_millis(1800)).contains(&second), "{second:?}");
    assert!((Duration::from_millis(1800)..Duration::from_millis(3600)).contains(&third), "{third:?}");

    fails.store(false, Ordering::SeqCst);
    let fourth = open_for(&proxy, &origin);
    assert!(fourth <= Duration::from_millis(4800), "the longest open time is 4 s, not {fourth:?}");
    for _ in 0..5 {
        assert_eq!(super::get(proxy.inbound(), "/", "").status, 200);
    }
    assert_eq!((state(&proxy), transitions(&proxy, "closed")), (0.0, 1.0));
    assert_eq!((transitions(&proxy, "open"), transitions(&proxy, "half_open")), (4.0, 4.0));
}

#[test]
fn a_failure_rate_opens_it() {
    let (origin, fails) = switchable();
    let policy = "circuitBreaker: { scope: upstream, failureRate: { percent: 50, minRequests: 10, window: 10s }, \
         open: { base: 5s, max: 5s } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    for n in 0..10 {
        fails.store(n % 2 == 1, Ordering::SeqCst);
        assert_ne!(super::get(proxy.inbound(), "/", "").status, 503, "request {n}");
    }
    assert_eq!(super::refusal(&super::get(proxy.inbound(), "/", "")).1, "circuit_open");
}

#[test]
fn a_rule_has_a_breaker_of_its_own() {
    let origin =
        Origin::start(|r| if r.target.starts_with("/bad") { Response::new(500) } else { Response::text("ok") });
    let rules = format!(
        "- name: bad\n  matches: [{{ path: {{ type: PathPrefix, value: /bad }} }}]\n  backendRefs: [{0}]\n\
         - name: rest\n  backendRefs: [{0}]",
        config::backend("app")
    );
    let target = "{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: app, sectionName: bad }";
    let yaml = config::sidecar(origin.address())
        + &config::http_route("app", "app", &rules)
        + &config::document(
            "outrigger.dev/v1alpha1",
            "TrafficPolicy",
            "bad",
            &format!("{{ targetRefs: [{target}], circuitBreaker: {{ scope: upstream, consecutiveFailures: 2 }} }}"),
        );
    let proxy = Proxy::start(&yaml);
    for status in [500, 500, 503, 503] {
        assert_eq!(super::get(proxy.inbound(), "/bad", "").status, status);
        assert_eq!(super::get(proxy.inbound(), "/good", "").status, 200);
    }
}

#[test]
fn explain_shows_the_live_state() {
    let (origin, _) = switchable();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), POLICY.replace("500ms", "4s").as_str()));
    let ask = |format: &str| proxy.ask(&format!("/explain?listener=inbound&url=http://app/&o={format}"));
    let before = ask("json").json();
    assert_eq!(before["backends"][0]["breaker"], "closed", "{before}");
    for _ in 0..3 {
        drop(super::get(proxy.inbound(), "/", ""));
    }
    // The breaker learns of an answer when the client has it already.
    let backend = eventually("explain says that it is open", LONG, || {
        let backend = ask("json").json()["backends"][0].clone();
        backend["breaker"].as_str().is_some_and(|b| b.starts_with("open")).then_some(backend)
    });
    assert_eq!(backend["endpoints"][0]["address"], origin.address().to_string(), "{backend}");
    let text = ask("text").text();
    println!("{text}");
    for word in ["open", "limits.maxRequests", "7", &origin.address().to_string(), "circuitBreaker.scope"] {
        assert!(text.contains(word), "{word:?} is missing in\n{text}");
    }
    let upstreams = proxy.ask("/upstreams").json();
    let app = &upstreams["upstreams"][0];
    assert_eq!(app["breaker"]["state"], "open", "{upstreams}");
    assert!(app["breaker"]["retry_after_seconds"].as_f64().is_some_and(|s| s > 0.0), "{upstreams}");
    assert_eq!(app["limits"]["requests"]["limit"], 7, "{upstreams}");
}

#[test]
fn with_too_many_gone_all_are_used() {
    let all: Vec<_> = (0..4)
        .map(|i| {
            let answer = move |_: &_| if i == 0 { Response::text("ok") } else { Response::new(500) };
            Origin::start(answer)
        })
        .collect();
    let addresses: Vec<_> = all.iter().map(Origin::address).collect();
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &addresses)
        + &config::policy(
            "app",
            "loadBalancing: { algorithm: roundRobin }, circuitBreaker: { scope: endpoint, \
             consecutiveFailures: 2, open: { base: 30s, max: 60s }, maxEjectedPercent: 50 }",
        );
    let proxy = Proxy::start(&yaml);
    for _ in 0..40 {
        drop(super::get(proxy.inbound(), "/", ""));
    }
    let before: Vec<_> = all.iter().map(|o| o.requests().len()).collect();
    for _ in 0..40 {
        drop(super::get(proxy.inbound(), "/", ""));
    }
    let after: Vec<_> = all.iter().zip(&before).map(|(o, b)| o.requests().len() - b).collect();
    println!("three of four fail and half may be ejected: {after:?} of the last 40 requests");
    assert!(after.iter().all(|n| *n == 10), "{after:?}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("endpoints", &[("upstream", "app"), ("state", "ejected")]), 3.0);
    assert_eq!(metrics.sum("endpoints", &[("upstream", "app"), ("state", "ready")]), 1.0);
}

#[test]
fn an_ejected_endpoint_is_shown() {
    let (bad, good) = (Origin::start(|_| Response::new(500)), Origin::hello());
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[bad.address(), good.address()])
        + &config::policy(
            "app",
            "loadBalancing: { algorithm: roundRobin }, circuitBreaker: { scope: endpoint, \
             consecutiveFailures: 2, open: { base: 30s, max: 60s } }",
        );
    let proxy = Proxy::start(&yaml);
    for _ in 0..10 {
        drop(super::get(proxy.inbound(), "/", ""));
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 8));
    let state = |address: std::net::SocketAddr| {
        let explained = proxy.ask("/explain?listener=inbound&url=http://app/&o=json").json();
        let endpoints = explained["backends"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.into_iter().find(|e| e["address"] == address.to_string()).map(|e| e["state"].clone())
    };
    assert_eq!((state(bad.address()), state(good.address())), (Some("ejected".into()), Some("ready".into())));
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("endpoints", &[("upstream", "app"), ("state", "ejected")]), 1.0);
    assert_eq!(metrics.sum("circuit_transitions_total", &[("upstream", "app"), ("to", "open")]), 1.0);
}
