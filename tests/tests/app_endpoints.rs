//! Probes and scrapes of an app through the admin port of its proxy, whose inbound side is strict: real servers, and what the
//! kubelet would have made of their answers.

use std::{net::SocketAddr, time::Duration};

use outrigger_config::discovery::{Workload, resource::Body};
use outrigger_tests::{
    LONG, Origin, Proxy, Reply,
    discovery::{ControlPlane, port},
    eventually, origin,
    peers::{self, Server},
    pki::Ca,
    ports::free_ports,
    wire,
};
use serde_json::{Value, json};

/// A proxy before an app whose ports are strict, with this table.
fn proxy(control: &ControlPlane, table: &Value, ports: &[u16], more: &[&str]) -> Proxy {
    let ports = ports.iter().map(|p| port(*p, "strict")).collect();
    control.put("workload", Body::Workload(Workload { mtls: "strict".into(), ports, ..Workload::default() }));
    let table = table.to_string();
    control.proxy(&[&["--app-endpoints", &table], more].concat())
}

fn http(at: SocketAddr, path: &str) -> Value {
    json!({ "http": { "port": at.port(), "path": path } })
}

/// Asks as the kubelet does.
fn probe(proxy: &Proxy, path: &str) -> Reply {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kube-probe/1.34\r\nConnection: close\r\n\r\n",
        proxy.admin()
    );
    wire::once(proxy.admin(), &request)
}

#[track_caller]
fn verdicts(proxy: &Proxy, expected: &[(&str, u16, &str)]) {
    for (path, status, words) in expected {
        let reply = probe(proxy, path);
        assert_eq!(reply.status, *status, "{path}: {}", reply.text());
        assert!(reply.text().contains(words), "{path}: {}", reply.text());
    }
}

#[test]
fn http_probes_pass_and_fail_as_the_kubelets_own() {
    let Some(python) = peers::python("http_probes_pass_and_fail_as_the_kubelets_own") else { return };
    let app = Server::start(&python, "probed_server.py", &[]);
    let at = app.address();
    let table = json!({
        "/app/web/livez": http(at, "/ok"),
        "/app/web/readyz": http(at, "/bad"),
        "/app/within/livez": http(at, "/within"),
        "/app/within-bad/livez": http(at, "/within-bad"),
        "/app/away/livez": http(at, "/away"),
        "/app/round/livez": http(at, "/round"),
        "/app/large/livez": http(at, "/large"),
        "/app/short/livez": http(at, "/short"),
        "/app/slow/livez": { "http": { "port": at.port(), "path": "/slow" }, "timeoutSeconds": 1 },
        "/app/seen/livez": { "http": { "port": at.port(), "path": "seen?x=1&y=a b", "scheme": "HTTP", "headers": [
            { "name": "Host", "value": "app.example" }, { "name": "X-Probe", "value": "a" }, { "name": "X-Probe", "value": "b" },
            { "name": "Accept", "value": "" },
        ] } },
        "/app/gone/livez": http(origin::refused(), "/"),
    });
    let control = ControlPlane::start();
    let proxy = proxy(&control, &table, &[at.port()], &[]);
    verdicts(
        &proxy,
        &[
            ("/app/web/livez", 200, "ok"),
            ("/app/web/readyz", 503, "HTTP status 500"),
            ("/app/within/livez", 200, "200"),
            ("/app/within-bad/livez", 503, "500"),
            ("/app/away/livez", 200, "302"),
            ("/app/round/livez", 503, "redirects"),
            ("/app/large/livez", 200, "200"),
            ("/app/short/livez", 503, "broke off"),
            ("/app/gone/livez", 503, "no connection"),
            ("/app/web/startupz", 404, "/app/web/livez"),
            ("/app/", 404, "OUTRIGGER_APP_ENDPOINTS"),
            ("/app/slow/livez", 503, "timeoutSeconds (1 s)"),
            ("/app/seen/livez", 200, "ok"),
        ],
    );
    let seen: Value = serde_json::from_str(&app.line()).expect("JSON");
    assert_eq!(seen["path"], "/seen?x=1&y=a%20b");
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).expect("pairs");
    let all = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!((all("host"), all("user-agent")), (vec!["app.example"], vec!["kube-probe/1.34"]));
    assert_eq!((all("x-probe"), all("accept"), all("connection")), (vec!["a", "b"], vec![], vec!["close"]));
    let posted = wire::post(proxy.admin(), "/app/web/livez");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    let page = format!("GET /app/web/livez HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: cross-site\r\n\r\n", proxy.admin());
    assert_eq!(wire::once(proxy.admin(), &page).status, 403);
    let head = format!("HEAD /app/web/livez HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin());
    assert_eq!(wire::once(proxy.admin(), &head).status, 200);
}

#[test]
fn https_probes_check_no_certificate() {
    let Some(python) = peers::python("https_probes_check_no_certificate") else { return };
    // It has expired, its root is nobody's, and it names no address.
    let leaf = Ca::new("nobody").workload("spiffe://elsewhere/x", 2021);
    let files = outrigger_tests::pki::Files::new(&leaf, &leaf.pem);
    let path = |name: &str| files.path(name).display().to_string();
    let app = Server::start(&python, "probed_server.py", &[&path("tls.crt"), &path("tls.key")]);
    let at = app.address();
    let https = |path: &str| json!({ "http": { "port": at.port(), "path": path, "scheme": "HTTPS" } });
    let table = json!({
        "/app/web/livez": https("/ok"), "/app/web/readyz": https("/bad"), "/app/web/startupz": http(at, "/ok"),
        "/app/named/livez": { "http": { "port": at.port(), "path": "/ok", "scheme": "HTTPS", "host": "app.example" } },
        "/app/metrics": { "http": { "port": at.port(), "path": "/metrics", "scheme": "https" }, "scrape": true },
    });
    let control = ControlPlane::start();
    let proxy = proxy(&control, &table, &[at.port()], &[]);
    verdicts(
        &proxy,
        &[
            ("/app/web/livez", 200, "ok"),
            ("/app/web/readyz", 503, "500"),
            ("/app/web/startupz", 503, "no HTTP answer"),
            ("/app/named/livez", 200, "ok"),
            ("/app/metrics", 200, "app_up 1"),
        ],
    );
}

#[test]
fn tcp_and_grpc_probes() {
    let Some(python) = peers::python("tcp_and_grpc_probes") else { return };
    let health = Server::start(&python, "health_server.py", &[]);
    let echo = Server::start(&python, "grpc_server.py", &[]);
    let web = Origin::hello();
    let grpc = |at: SocketAddr, service: &str| json!({ "grpc": { "port": at.port(), "service": service } });
    let table = json!({
        "/app/db/livez": { "tcp": { "port": web.address().port() } },
        "/app/db/readyz": { "tcp": { "port": origin::refused().port() } },
        "/app/grpc/livez": { "grpc": { "port": health.address().port() } },
        "/app/grpc/readyz": grpc(health.address(), "down"),
        "/app/grpc/startupz": grpc(health.address(), "up"),
        "/app/unknown/livez": grpc(health.address(), "nobody"),
        "/app/without/livez": grpc(echo.address(), ""),
        "/app/none/livez": { "grpc": { "port": web.address().port() }, "timeoutSeconds": 1 },
    });
    let control = ControlPlane::start();
    let ports = [health.address().port(), web.address().port()];
    let proxy = proxy(&control, &table, &ports, &[]);
    verdicts(
        &proxy,
        &[
            ("/app/db/livez", 200, "ok"),
            ("/app/db/readyz", 503, "no connection"),
            ("/app/grpc/livez", 200, "SERVING"),
            ("/app/grpc/readyz", 503, "NOT_SERVING"),
            ("/app/grpc/startupz", 200, "SERVING"),
            ("/app/unknown/livez", 503, "grpc-status 5"),
            ("/app/without/livez", 503, "does not implement grpc.health.v1.Health"),
            ("/app/none/livez", 503, ""),
        ],
    );
}

#[test]
fn scrapes_pass_through_and_hooks_count_any_answer() {
    let Some(python) = peers::python("scrapes_pass_through_and_hooks_count_any_answer") else { return };
    let app = Server::start(&python, "probed_server.py", &[]);
    let at = app.address();
    let gone = origin::refused();
    let scrape = |at: SocketAddr, path: &str| json!({ "http": { "port": at.port(), "path": path }, "scrape": true });
    let table = json!({
        "/app/metrics": scrape(at, "/metrics?a=1"), "/app/broken/metrics": scrape(at, "/bad"), "/app/gone/metrics": scrape(gone, "/"),
        "/app/web/pre-stop": http(at, "/bad"), "/app/web/post-start": http(at, "/ok"), "/app/gone/pre-stop": http(gone, "/"),
    });
    let control = ControlPlane::start();
    let proxy = proxy(&control, &table, &[at.port()], &[]);
    let ask = |path: &str, accept: &str| {
        wire::once(proxy.admin(), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"))
    };
    let text = ask("/app/metrics", "text/plain");
    assert_eq!((text.status, text.text().as_str()), (200, "app_up 1\n# /metrics?a=1\n"));
    assert_eq!(text.header("content-type"), Some("text/plain"));
    let open = ask("/app/metrics?b=2", "application/openmetrics-text");
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text"));
    assert!(open.text().contains("/metrics?a=1&b=2"), "{}", open.text());
    assert_eq!((ask("/app/broken/metrics", "*/*").status, ask("/app/gone/metrics", "*/*").status), (500, 503));
    verdicts(&proxy, &[("/app/web/pre-stop", 200, "500"), ("/app/web/post-start", 200, "200")]);
    // The kubelet takes any answer for success, so there is none.
    let mut wire = wire::Wire::connect(proxy.admin());
    wire.send("GET /app/gone/pre-stop HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(wire.is_closed());
}

#[test]
fn probes_find_an_app_whose_port_the_proxy_has() {
    let [outside] = free_ports();
    let app = Origin::hello();
    let (pod, inside) = (outside.port().to_string(), app.address().port());
    let table =
        json!({ "/app/web/livez": { "tcp": { "port": outside.port() } }, "/app/web/readyz": http(outside, "/ready") });
    let control = ControlPlane::start();
    let moved = format!("{pod}={inside}");
    let proxy = proxy(&control, &table, &[outside.port()], &["--inbound-listeners", &moved]);
    verdicts(&proxy, &[("/app/web/livez", 200, "ok"), ("/app/web/readyz", 200, "ok")]);
    assert_eq!(app.last().target, "/ready");
    // Nobody else gets in without a certificate.
    let mut wire = wire::Wire::connect(outside);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.is_closed());
}

#[test]
fn many_slow_probes_hold_up_nobody_else() {
    let Some(python) = peers::python("many_slow_probes_hold_up_nobody_else") else { return };
    let app = Server::start(&python, "probed_server.py", &[]);
    let at = app.address();
    let table = json!({
        "/app/slow/livez": { "http": { "port": at.port(), "path": "/slow" }, "timeoutSeconds": 2 }, "/app/web/livez": http(at, "/ok"),
    });
    let control = ControlPlane::start();
    let proxy = proxy(&control, &table, &[at.port()], &[]);
    let admin = proxy.admin();
    let slow: Vec<_> =
        (0..40).map(|_| std::thread::spawn(move || wire::get(admin, "/app/slow/livez").status)).collect();
    assert_eq!(proxy.ask("/livez").status, 200);
    assert!(slow.into_iter().all(|s| s.join().expect("no panic") == 503));
    eventually("the places are free again", LONG, || (probe(&proxy, "/app/web/livez").status == 200).then_some(()));
}

#[test]
fn a_faulty_table_is_told_at_the_start() {
    for (table, words) in [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        (r#"{"/metrics": {"tcp": {"port": 1}}}"#, "/app/CONTAINER/livez"),
        (r#"{"/app/a/livez": {"tcp": {"port": 0}}}"#, "/app/a/livez"),
        (r#"{"/app/a/livez": {"tcp": {"port": 1}, "http": {"port": 1}}}"#, "exactly one"),
        (r#"{"/app/a/livez": {"udp": {"port": 1}}}"#, "unknown field `udp`"),
        (r#"{"/app/a/livez": {"http": {"port": 8080, "scheme": "FTP"}}}"#, "FTP"),
    ] {
        let mut proxy = ControlPlane::start().proxy_at_once(&["--app-endpoints", table]);
        assert_eq!(proxy.wait_exit(Duration::from_secs(10)).code(), Some(2), "{table}");
        let said = proxy.output().join("\n");
        assert!(said.contains("OUTRIGGER_APP_ENDPOINTS") && said.contains(words), "{table}: {said}");
    }
}
