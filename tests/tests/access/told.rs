//! What logs, metrics and answers tell of a verdict, in every protocol.

use outrigger_tests::{Origin, Proxy, Wire, config, h2peer};

use crate::policy;

const RULES: &str = "rules: [{ action: allow, from: [{ cidrs: [127.0.0.0/8] }], to: [{ methods: [GET, POST], paths: [/orders, /orders/*] }] }, \
     { action: deny, to: [{ paths: [/orders/secret] }] }]";

#[test]
fn the_log_line_has_verdict_policy_and_rule() {
    let origin = Origin::hello();
    // Where protocols are told apart by their first bytes, `get` is none of HTTP's.
    let listener = config::inbound("protocol: http");
    let base = config::proxy(&[&listener]) + &config::upstream("app", origin.address()) + &policy("app", RULES);
    let proxy = Proxy::start(&base);
    for (method, path, status, access, rule) in [
        ("GET", "/orders/1", 200, "allow", Some(0)),
        ("GET", "/orders/secret", 403, "deny", Some(1)),
        ("DELETE", "/orders/2", 403, "deny", None),
        ("get", "/orders/3", 403, "deny", None),
        ("GET", "/other", 403, "deny", None),
    ] {
        let reply = Wire::connect(proxy.inbound()).exchange(&format!("{method} {path} HTTP/1.1\r\nHost: app\r\n\r\n"));
        assert_eq!(reply.status, status, "{method} {path}");
        let entry = proxy.wait_log("the request", |e| e["path"] == path && e["method"] == method);
        assert_eq!((entry["access"].as_str(), entry["policy"].as_str()), (Some(access), Some("guard")), "{entry}");
        assert_eq!(entry["rule"].as_u64(), rule, "{entry}");
        if status == 403 {
            let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.contains("guard") && !message.contains("rule"), "{message}");
        }
    }
    proxy.wait_metric("rejected_total", &[("upstream", "app"), ("reason", "access_denied")], |n| n == 4.0);
    // Where a route's rule took part, `rule` is that one.
    let route = format!("- name: all\n  backendRefs: [{}]", config::backend("app"));
    proxy.reload(&(base + &config::http_route("r", "app", &route)), true);
    outrigger_tests::eventually("the route takes part", outrigger_tests::LONG, || {
        assert_eq!(Wire::connect(proxy.inbound()).get("/orders/9").status, 200);
        let entry = proxy.access_log().into_iter().rfind(|e| e["path"] == "/orders/9")?;
        (entry["rule"] == "all" && entry["access_rule"] == 0).then_some(())
    });
}

#[test]
fn grpc_is_denied_in_its_own_words() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &policy("app", RULES)));
    let reply = h2peer::run(async {
        let request = h2peer::request("POST", "/s/m", &[("content-type", "application/grpc")]);
        h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
    });
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("7")));
    assert!(
        reply.header("grpc-message").is_some_and(|m| m.contains("access_denied") && m.contains("guard")),
        "{reply:?}"
    );
}

#[test]
fn an_observing_policy_is_told_and_denies_nothing() {
    let origin = Origin::hello();
    let observe = policy("app", &format!("mode: observe, {RULES}"));
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &observe));
    assert_eq!(Wire::connect(proxy.inbound()).get("/orders/1").status, 200);
    assert_eq!(Wire::connect(proxy.inbound()).get("/other").status, 200);
    let entry = proxy.wait_log("the request", |e| e["path"] == "/other");
    assert_eq!((entry["access"].as_str(), entry["observed"].as_str()), (Some("open"), Some("guard")), "{entry}");
    proxy.wait_metric("observed_total", &[("policy", "guard"), ("action", "access_denied")], |n| n == 1.0);
}

#[test]
fn opaque_connections_have_a_line_each() {
    let origin = Origin::scripted(|wire, _, _| {
        let got = wire.exactly(4);
        wire.send([&b"got "[..], &got].concat());
    });
    let yaml = |rules: &str| {
        config::proxy(&[&config::inbound("protocol: tcp")]) + &config::upstream("app", origin.address()) + rules
    };
    let proxy = Proxy::start(&yaml(&policy("app", "rules: [{ from: [{ cidrs: [127.0.0.1/32] }] }]")));
    let mut wire = Wire::connect(proxy.inbound());
    let peer = wire.socket().local_addr().expect("connected").to_string();
    wire.send("ping");
    assert_eq!(wire.rest(), b"got ping");
    wire.finish();
    drop(wire);
    let entry = proxy.wait_log("the connection", |e| e["protocol"] == "tcp");
    assert_eq!((entry["listener"].as_str(), entry["upstream"].as_str()), (Some("inbound"), Some("app")), "{entry}");
    assert_eq!(
        (entry["peer_address"].as_str(), entry["endpoint"].as_str()),
        (Some(&*peer), Some(&*origin.address().to_string()))
    );
    assert_eq!((entry["request_bytes"].as_u64(), entry["response_bytes"].as_u64()), (Some(4), Some(8)));
    assert_eq!(
        (entry["access"].as_str(), entry["policy"].as_str(), entry["rule"].as_u64()),
        (Some("allow"), Some("guard"), Some(0))
    );
    assert!(entry["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0) && entry["reason"].is_null(), "{entry}");
    proxy.reload(&yaml(&policy("app", "rules: [{ from: [{ cidrs: [10.0.0.0/8] }] }]")), true);
    let entry = outrigger_tests::eventually("connections are refused", outrigger_tests::LONG, || {
        let mut wire = Wire::connect(proxy.inbound());
        wire.try_send("ping").ok();
        wire.rest();
        proxy.access_log().into_iter().find(|e| e["reason"] == "access_denied")
    });
    assert_eq!((entry["access"].as_str(), entry["policy"].as_str()), (Some("deny"), Some("guard")), "{entry}");
    assert!(entry["endpoint"].is_null() && entry["rule"].is_null(), "{entry}");
}
