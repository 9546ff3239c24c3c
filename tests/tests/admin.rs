//! The admin port: every endpoint of the contract, safe against browsers and strangers.

use outrigger_tests::{LONG, Metrics, Origin, Proxy, Wire, config, eventually, origin, peers, wire};

fn rig() -> (Origin, Proxy) {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    (origin, proxy)
}

#[test]
fn live_and_ready() {
    let (_origin, proxy) = rig();
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        assert_eq!(proxy.ask(path).status, 200, "{path}");
    }
    let verbose = proxy.ask("/readyz?verbose").text();
    assert!(verbose.lines().count() > 1, "{verbose}");
    let head = wire::once(proxy.admin(), "HEAD /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn config_shows_what_is_in_force_and_where_it_is_from() {
    let (_origin, proxy) = rig();
    let reply = proxy.ask("/config");
    assert!(reply.header("content-type").is_some_and(|t| t.starts_with("application/json")));
    let text = reply.json().to_string();
    assert!(text.contains("inbound") && text.contains("app") && text.contains("proxy.yaml:"), "{text}");
}

#[test]
fn upstreams_show_endpoints() {
    let (origin, proxy) = rig();
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200);
    let text = proxy.ask("/upstreams").json().to_string();
    assert!(
        text.contains("\"app\"") && text.contains(&origin.address().to_string()) && text.contains("weight"),
        "{text}"
    );
}

#[test]
fn certificates_are_a_list() {
    let (_origin, proxy) = rig();
    let reply = proxy.ask("/certificates");
    assert_eq!(reply.status, 200);
    drop(reply.json());
}

#[test]
fn explain_answers_and_says_what_is_wrong() {
    let (_origin, proxy) = rig();
    let reply = proxy.ask("/explain?listener=inbound&url=http%3A%2F%2Fapp%2Fx");
    assert_eq!((reply.status, reply.json()["upstream"]["name"].as_str()), (200, Some("app")));
    for query in ["", "?listener=inbound", "?listener=nobody&url=http%3A%2F%2Fapp%2F", "?listener=inbound&url=%20%20"] {
        let reply = proxy.ask(&format!("/explain{query}"));
        assert!((400..500).contains(&reply.status), "{query}: {}", reply.status);
        assert!(!reply.body.is_empty());
    }
}

#[test]
fn what_is_not_there_and_wrong_methods() {
    let (_origin, proxy) = rig();
    assert_eq!(proxy.ask("/nothing").status, 404);
    assert_eq!(proxy.ask("/../../etc/passwd").status, 404);
    let get = proxy.ask("/drain");
    assert_eq!(get.status, 405);
    assert!(get.header("allow").is_some_and(|a| a.contains("POST")));
    let post = wire::post(proxy.admin(), "/metrics");
    assert_eq!(post.status, 405);
    assert!(post.header("allow").is_some_and(|a| a.contains("GET")));
}

#[test]
fn the_log_level_changes_at_run_time() {
    let (_origin, proxy) = rig();
    let applied = || proxy.output().iter().filter(|line| line.contains("configuration applied")).count();
    let reload = || {
        let before = proxy.metrics().sum("config_reloads_total", &[]);
        proxy.signal("HUP");
        proxy.wait_metric("config_reloads_total", &[], |n| n > before);
    };
    let set = |filter: &str| {
        let reply = wire::post(proxy.admin(), &format!("/log-level?filter={filter}"));
        assert!((200..300).contains(&reply.status), "{} {}", reply.status, reply.text());
    };
    set("error");
    let quiet = applied();
    reload();
    set("info");
    assert_eq!(applied(), quiet);
    reload();
    eventually("it is told again", LONG, || (applied() > quiet).then_some(()));
    assert_eq!(wire::post(proxy.admin(), "/log-level?filter=!!").status, 400);
}

#[test]
fn only_local_programs_may_change_things() {
    let (_origin, mut proxy) = rig();
    let admin = proxy.admin();
    for headers in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: {admin}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: {admin}\r\nSec-Fetch-Site: cross-site\r\n"),
    ] {
        let reply = wire::once(admin, &format!("POST /shutdown HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n"));
        assert_eq!(reply.status, 403, "{headers}");
    }
    assert!(proxy.runs());
    // From another address than loopback, where the machine has one.
    let own =
        std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
    let Ok(own) = own.map(|address| address.ip()) else { return };
    if own.is_loopback() || own.is_unspecified() {
        return;
    }
    let open =
        config::sidecar(origin::refused()).replace("admin: { address: 127.0.0.1:0 }", "admin: { address: 0.0.0.0:0 }");
    let mut proxy = Proxy::start(&open);
    let stranger = (own, proxy.admin().port()).into();
    assert_eq!(wire::get(stranger, "/livez").status, 200);
    for path in ["/drain", "/shutdown", "/log-level?filter=info"] {
        assert_eq!(wire::post(stranger, path).status, 403, "{path}");
    }
    assert!(proxy.runs());
}

#[test]
fn the_page_for_people_needs_nothing_from_outside() {
    let (_origin, proxy) = rig();
    let reply = proxy.ask("/");
    assert!(reply.header("content-type").is_some_and(|t| t.starts_with("text/html")));
    let text = reply.text();
    assert!(text.contains("<title>") && text.len() > 1000);
    for outside in ["http://", "https://", "src=\"//", "href=\"//", "@import"] {
        let found: Vec<_> = text.match_indices(outside).map(|(at, _)| &text[at..(at + 60).min(text.len())]).collect();
        let real: Vec<_> = found.into_iter().filter(|t| !t.starts_with("http://www.w3.org/")).collect();
        assert!(real.is_empty(), "{real:?}");
    }
    assert!(reply.header("content-security-policy").is_some());
}

#[test]
fn metrics_have_the_names_of_the_contract() {
    let (_origin, proxy) = rig();
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..5 {
        assert_eq!(client.get("/secret/path").status, 200);
    }
    assert_eq!(client.exchange("BREW / HTTP/1.1\r\nHost: app\r\n\r\n").status, 200);
    proxy.wait_metric("requests_total", &[], |n| n == 6.0);
    let text = proxy.ask("/metrics").text();
    let metrics = Metrics::parse(&text);
    let families = [
        "requests_total",
        "request_duration_seconds",
        "attempts_total",
        "endpoints",
        "connections",
        "connections_total",
        "bytes_total",
        "correlation_total",
        "config_version_info",
        "config_reloads_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ];
    let missing: Vec<_> = families.into_iter().filter(|family| !metrics.has(family)).collect();
    assert!(missing.is_empty(), "{missing:?}\n{text}");
    let labels = [("direction", "inbound"), ("upstream", "app"), ("method", "GET"), ("status", "200")];
    assert_eq!(metrics.sum("requests_total", &labels), 5.0);
    for label in ["route", "grpc_status", "reason", "peer"] {
        assert!(
            metrics.series.iter().any(|(n, l, _)| n == "outrigger_requests_total" && l.contains_key(label)),
            "{label}"
        );
    }
    assert_eq!(metrics.sum("requests_total", &[("method", "_OTHER")]), 1.0);
    assert_eq!(metrics.sum("request_duration_seconds_count", &[("status_class", "2xx")]), 6.0);
    for le in
        ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10", "+Inf"]
    {
        assert!(
            metrics
                .series
                .iter()
                .any(|(n, l, _)| n == "outrigger_request_duration_seconds_bucket"
                    && l.get("le").is_some_and(|v| v == le)),
            "bucket {le}"
        );
    }
    assert_eq!(metrics.sum("endpoints", &[("upstream", "app"), ("state", "ready")]), 1.0);
    assert_eq!(metrics.sum("connections", &[("direction", "inbound"), ("side", "downstream")]), 1.0);
    assert!(metrics.sum("bytes_total", &[("side", "downstream"), ("flow", "read")]) > 100.0);
    assert!(metrics.sum("bytes_total", &[("side", "upstream"), ("flow", "written")]) > 100.0);
    assert!(!text.contains("secret/path"), "a raw path is a label");
    drop(client);
    proxy.wait_metric("connections", &[("direction", "inbound"), ("side", "downstream")], |n| n == 0.0);
}

#[test]
fn metrics_parse_by_the_reference_parsers() {
    let Some(python) = peers::python("metrics_parse_by_the_reference_parsers") else { return };
    let (_origin, proxy) = rig();
    let mut client = Wire::connect(proxy.inbound());
    assert!((0..5).all(|i| client.get(&format!("/{i}")).status == 200));
    let text = peers::check(&python, "metrics.py", &[&proxy.admin().to_string()]);
    assert!(text.contains("outrigger_requests counter"), "{text}");
    assert!(text.contains("outrigger_request_duration_seconds histogram"), "{text}");
}

#[test]
fn a_flood_of_connections_does_not_stop_forwarding() {
    let (_origin, proxy) = rig();
    let held: Vec<_> = (0..200).map(|_| Wire::connect(proxy.admin())).collect();
    let mut client = Wire::connect(proxy.inbound());
    assert!((0..20).all(|_| client.get("/").status == 200));
    drop(held);
    eventually("the admin port answers again", LONG, || {
        let mut wire = Wire::connect(proxy.admin());
        wire.try_send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        wire.try_reply("GET").is_ok_and(|r| r.status == 200).then_some(())
    });
}

#[test]
fn the_access_log_says_what_happened() {
    let (origin, proxy) = rig();
    let request = "POST /p?q=\"x\" HTTP/1.1\r\nHost: app\r\nX-Request-Id: log-1\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(wire::once(proxy.inbound(), &request.replace('"', "%22")).status, 200);
    let entry = proxy.wait_log("the line", |entry| entry["request_id"] == "log-1");
    assert_eq!(
        (entry["method"].as_str(), entry["status"].as_u64(), entry["upstream"].as_str()),
        (Some("POST"), Some(200), Some("app"))
    );
    assert_eq!((entry["direction"].as_str(), entry["listener"].as_str()), (Some("inbound"), Some("inbound")));
    assert_eq!(entry["endpoint"].as_str(), Some(&*origin.address().to_string()));
    assert_eq!(entry["request_bytes"].as_u64(), Some(3));
    assert!(entry["duration_ms"].is_number() && entry["reason"].is_null(), "{entry}");
}

#[test]
fn errors_are_logged_whatever_the_sample() {
    let yaml = config::sidecar(origin::refused()).replace("format: json,", "format: json, sample: 0.0,");
    let proxy = Proxy::start(&yaml);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 502);
    proxy.wait_log("the error", |entry| entry["reason"] == "connection_refused");
}
