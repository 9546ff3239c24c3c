//! `outrigger top`, `edges` and `dashboard` against proxies with traffic.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Traffic, config, eventually,
    pki::Ca,
    tap::{Running, outrigger},
    wire,
};
use serde_json::Value;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

fn text(args: &[&str]) -> String {
    let output = outrigger(args, &[]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {words}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A quarter of its answers is a failure.
fn flaky() -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if n % 4 == 3 { Response::new(503) } else { Response::text("ok") }
    })
}

#[test]
fn top_shows_rate_success_latency_circuit_and_retries() {
    let origin = flaky();
    let policy = "retry: { attempts: 1, codes: [504], backoff: { base: 5ms, max: 10ms } }, \
                  circuitBreaker: { scope: upstream, consecutiveFailures: 1000 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let admin = proxy.admin().to_string();
    let load = Traffic::start(proxy.inbound(), 100, 2, "GET /x HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("there is traffic", LONG, || (load.since(Duration::ZERO).len() > 20).then_some(()));
    let json: Value =
        serde_json::from_str(&text(&["top", "--admin", &admin, "--once", "-o", "json", "--interval", "1s"]))
            .expect("JSON");
    let row = &json["rows"][0];
    assert_eq!(
        (&row["upstream"], &row["direction"], &row["circuit"]),
        (&"app".into(), &"inbound".into(), &"closed".into()),
        "{json:#}"
    );
    let rate = row["rate"].as_f64().expect("a rate");
    assert!((5.0..200.0).contains(&rate), "{rate} of 100 a second");
    let success = row["success"].as_f64().expect("a share");
    assert!((0.6..0.9).contains(&success), "{success} of three quarters");
    assert!(row["p50_seconds"].as_f64() <= row["p99_seconds"].as_f64() && row["p50_seconds"].is_f64(), "{row}");
    let table = text(&["top", "--admin", &admin, "--once", "--interval", "500ms"]);
    assert!(table.starts_with("DIRECTION") && table.contains("inbound") && table.contains("closed"), "{table}");
    assert!(!table.contains('\x1b'), "no escape codes where there is no terminal: {table}");
    // It goes on until it is stopped.
    let live = Running::start(&["top", "--admin", &admin, "--interval", "500ms"], &[]);
    eventually("several tables", LONG, || {
        (live.lines().iter().filter(|l| l.starts_with("DIRECTION")).count() >= 2).then_some(())
    });
    drop(load.stop());
}

#[test]
fn an_open_circuit_shows() {
    let origin = Origin::start(|_| Response::new(503));
    let policy = "circuitBreaker: { scope: upstream, consecutiveFailures: 2, open: { base: 60s, max: 60s } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    for _ in 0..4 {
        drop(wire::once(proxy.inbound(), "GET /x?token=S3CRET HTTP/1.1\r\nHost: app\r\n\r\n"));
    }
    let table = text(&["top", "--admin", &proxy.admin().to_string(), "--once", "--interval", "500ms"]);
    assert!(table.lines().any(|l| l.contains("app") && l.contains("open")), "{table}");
    let errors = proxy.ask("/errors").json();
    let first = &errors["errors"][0];
    assert_eq!(
        (&first["reason"], &first["path"]),
        (&"circuit_open".into(), &"/x?token=[redacted]".into()),
        "{errors:#}"
    );
}

#[test]
fn edges_name_both_ends() {
    let origin = Origin::hello();
    let ca = Ca::new("mesh");
    let (web, api) = (ca.identity(WEB), ca.identity(API));
    let server = Proxy::start(
        &(config::proxy_with(&api.yaml(), &[&config::inbound("mtls: permissive")])
            + &config::upstream("app", origin.address())),
    );
    let fields = format!(
        "hostnames: [app], endpoints: [{{ address: \"{}\" }}], tls: {{ mode: mesh, identity: \"{API}\" }}",
        server.inbound()
    );
    let plain = config::upstream_with(
        "plain",
        &format!("hostnames: [plain], endpoints: [{{ address: \"{}\" }}]", origin.address()),
    );
    let client = Proxy::start(
        &(config::proxy_with(&web.yaml(), &[config::OUTBOUND]) + &config::upstream_with("app", &fields) + &plain),
    );
    for host in ["app", "app", "plain"] {
        assert_eq!(wire::once(client.outbound(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200);
    }
    // Somebody without an identity.
    assert_eq!(wire::once(server.inbound(), "GET / HTTP/1.1\r\nHost: app\r\n\r\n").status, 200);
    let of = |proxy: &Proxy, format: &str| text(&["edges", "--admin", &proxy.admin().to_string(), "-o", format]);
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let near: Vec<_> = of(&client, "text").lines().map(cells).collect();
    assert!(near.iter().any(|c| c[..5] == ["shop/web", "shop/api", "yes", "app", "2"]), "{near:?}");
    assert!(near.iter().any(|c| c[..5] == ["shop/web", "plain", "no", "plain", "1"]), "{near:?}");
    let far: Value = serde_json::from_str(&of(&server, "json")).expect("JSON");
    let rows = far["edges"].as_array().expect("edges");
    let row = rows.iter().find(|r| r["from"] == WEB).expect("the caller");
    assert_eq!((&row["to"], &row["mtls"], &row["seen_by"]), (&API.into(), &true.into(), &"server".into()));
    assert!(rows.iter().any(|r| r["from"] == "" && r["mtls"] == false), "{far:#}");
    let dot = of(&server, "dot");
    assert!(dot.starts_with("digraph") && dot.contains("\"shop/web\" -> \"shop/api\""), "{dot}");
    assert!(dot.contains("\"(no identity)\" -> \"shop/api\"") && dot.contains("style=dashed"), "{dot}");
}

#[test]
fn the_dashboard_of_one_proxy_is_opened() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let (admin, dir) = (proxy.admin().to_string(), tempfile::tempdir().expect("a directory"));
    assert_eq!(text(&["dashboard", "--admin", &admin, "--no-open"]), format!("http://{admin}/\n"));
    // A browser that writes down what it is to open.
    let (browser, seen) = (dir.path().join("browser"), dir.path().join("seen"));
    fs::write(&browser, format!("#!/bin/sh\necho \"$1\" >{}\n", seen.display())).expect("writable");
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let output = outrigger(&["dashboard", "--admin", &admin], &[("BROWSER", &browser.display().to_string())]);
    assert!(output.status.success());
    let opened =
        eventually("the browser is started", LONG, || fs::read_to_string(&seen).ok().filter(|s| s.ends_with('\n')));
    assert_eq!(opened.trim(), format!("http://{admin}/"));
}
