//! Which endpoint gets how much, and changes of the list under traffic.

use std::{collections::HashMap, time::Duration};

use outrigger_tests::{Origin, Proxy, Response, Traffic, Wire, config, load};

fn named(name: &'static str) -> Origin {
    Origin::start(move |_| Response::text(name).header("x-endpoint", name))
}

fn proxy(endpoints: &str, policy: &str) -> Proxy {
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_with("app", &format!("endpoints: [{endpoints}]"))
        + &config::policy("app", policy);
    Proxy::start(&yaml)
}

fn at(origin: &Origin, more: &str) -> String {
    format!("{{ address: \"{}\"{more} }}, ", origin.address())
}

/// How often each endpoint answers.
fn spread(proxy: &Proxy, requests: usize) -> HashMap<String, usize> {
    let mut client = Wire::connect(proxy.inbound());
    let mut counts = HashMap::new();
    for _ in 0..requests {
        *counts.entry(client.get("/").text()).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_is_exact() {
    let all = [named("a"), named("b"), named("c")];
    let endpoints: String = all.iter().map(|o| at(o, "")).collect();
    let counts = spread(&proxy(&endpoints, "loadBalancing: { algorithm: roundRobin }"), 90);
    assert_eq!((counts["a"], counts["b"], counts["c"]), (30, 30, 30));
}

#[test]
fn weights_are_kept() {
    let (a, b) = (named("a"), named("b"));
    let endpoints = at(&a, ", weight: 3") + &at(&b, ", weight: 1");
    let counts = spread(&proxy(&endpoints, "loadBalancing: { algorithm: roundRobin }"), 400);
    assert_eq!((counts["a"], counts["b"]), (300, 100));
    for algorithm in ["random", "leastRequest"] {
        let counts = spread(&proxy(&endpoints, &format!("loadBalancing: {{ algorithm: {algorithm} }}")), 600);
        println!("{algorithm} with weights 3:1: {counts:?}");
        assert!(counts["a"] > counts["b"], "{algorithm}: {counts:?}");
    }
    let counts = spread(&proxy(&endpoints, "loadBalancing: { algorithm: random }"), 2000);
    assert!((1380..=1620).contains(&counts["a"]), "random: {counts:?}");
}

#[test]
fn maglev_keeps_a_key_at_its_endpoint() {
    let all = [named("a"), named("b"), named("c")];
    let endpoints: String = all.iter().map(|o| at(o, "")).collect();
    let policy = "loadBalancing: { algorithm: maglev, hashOn: { header: x-user } }";
    let proxy = proxy(&endpoints, policy);
    let ask = |user: usize| super::get(proxy.inbound(), "/", &format!("x-user: u{user}\r\n")).text();
    let first: Vec<_> = (0..60).map(ask).collect();
    for _ in 0..2 {
        assert_eq!((0..60).map(ask).collect::<Vec<_>>(), first);
    }
    for name in ["a", "b", "c"] {
        assert!(first.iter().filter(|f| *f == name).count() >= 8, "{first:?}");
    }
    // One leaves: the users of the others mostly stay.
    let fewer = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[all[0].address(), all[1].address()])
        + &config::policy("app", policy);
    proxy.reload(&fewer, true);
    let moved = first.iter().enumerate().filter(|(user, was)| *was != "c" && ask(*user) != **was).count();
    println!("maglev: {moved} of the users of the endpoints that stayed were moved when a third one left");
    assert!(moved <= 12, "{moved}");
}

#[test]
fn peak_ewma_gives_a_slow_endpoint_less() {
    let slow = Origin::scripted(|wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            std::thread::park_timeout(Duration::from_millis(40));
            if wire.try_send(Response::text("slow").header("x-endpoint", "slow").wire("GET")).is_err() {
                return;
            }
        }
    });
    let (a, b) = (named("a"), named("b"));
    let proxy = proxy(&(at(&slow, "") + &at(&a, "") + &at(&b, "")), "loadBalancing: { algorithm: peakEwma }");
    let traffic = Traffic::start(proxy.inbound(), 200, 16, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    traffic.run_until(Duration::from_secs(3));
    let samples = traffic.stop();
    let share = samples.iter().filter(|s| s.endpoint == "slow").count() * 100 / samples.len();
    println!("peakEwma: {share} % of {} requests went to the one of three that takes 40 ms", samples.len());
    assert!(load::failed(&samples).is_empty());
    assert!(share < 20, "{share} %");
}

#[test]
fn a_reload_removes_and_adds_endpoints_without_a_failed_request() {
    let all = [named("a"), named("b"), named("c")];
    let yaml = |of: &[usize]| {
        let addresses: Vec<_> = of.iter().map(|i| all[*i].address()).collect();
        config::proxy(&[config::INBOUND])
            + &config::upstream_of("app", &addresses)
            + &config::policy("app", "loadBalancing: { algorithm: roundRobin }")
    };
    let proxy = Proxy::start(&yaml(&[0, 1]));
    let traffic = Traffic::start(proxy.inbound(), 200, 16, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    for round in 0..4_u32 {
        let of: &[usize] = match round % 4 {
            0 => &[1, 2],
            1 => &[2],
            2 => &[0, 1, 2],
            _ => &[0],
        };
        proxy.reload(&yaml(of), true);
        let from = traffic.elapsed();
        traffic.run_until(from + Duration::from_millis(500));
        let wanted: Vec<_> = of.iter().map(|i| ["a", "b", "c"][*i]).collect();
        let settled = from + Duration::from_millis(200);
        let wrong = traffic.since(settled).into_iter().find(|s| !wanted.contains(&&*s.endpoint));
        assert!(wrong.is_none(), "only {wanted:?} are there: {wrong:?}");
    }
    let samples = traffic.stop();
    println!(
        "four reloads of the list under traffic: {} requests, {} failed",
        samples.len(),
        load::failed(&samples).len()
    );
    assert!(load::failed(&samples).is_empty(), "{:?}", load::failed(&samples).first());
}
