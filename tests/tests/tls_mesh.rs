//! Two proxies with mutual TLS between them, and every protocol over it.

use std::{io::Read, time::Duration};

use outrigger_tests::{
    LONG, Origin, Proxy, Wire, config, eventually,
    h2peer::H2Origin,
    peers::{self, Server},
    pki::{Ca, FAR, Files},
};
use tokio::time::Instant;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// `client` calls upstream `app`, which is `server`, which stands before an application.
struct Mesh {
    ca: Ca,
    client: Proxy,
    server: Proxy,
    web: Files,
    api: Files,
}

impl Mesh {
    /// `protocol` is a field of the upstream of both proxies (`protocol: grpc,`).
    fn new(app: std::net::SocketAddr, protocol: &str) -> Self {
        Self::with(app, protocol, "mtls: strict", API)
    }

    fn with(app: std::net::SocketAddr, protocol: &str, listener: &str, expected: &str) -> Self {
        let ca = Ca::new("mesh");
        let (web, api) = (ca.identity(WEB), ca.identity(API));
        let inbound = config::inbound(listener);
        let local = config::upstream_with("app", &format!("{protocol} endpoints: [{{ address: \"{app}\" }}]"));
        let server = Proxy::start(&(config::proxy_with(&api.yaml(), &[&inbound]) + &local));
        let client = Proxy::start(&outbound(&web, server.inbound(), protocol, expected));
        Self { ca, client, server, web, api }
    }
}

/// A proxy whose upstream `app` is at `to` and has to be `expected`. `direct` leads there without a look at hosts.
fn outbound(own: &Files, to: std::net::SocketAddr, protocol: &str, expected: &str) -> String {
    let direct =
        "{ name: direct, address: 127.0.0.1:0, direction: outbound, forwardTo: { kind: Upstream, name: app } }";
    let fields = format!(
        "hostnames: [app], {protocol} endpoints: [{{ address: \"{to}\" }}], tls: {{ mode: mesh, identity: \"{expected}\" }}"
    );
    config::proxy_with(&own.yaml(), &[config::OUTBOUND, direct]) + &config::upstream_with("app", &fields)
}

#[test]
fn http_1_in_every_declared_protocol() {
    let origin = Origin::hello();
    for protocol in ["", "protocol: http,"] {
        let mesh = Mesh::new(origin.address(), protocol);
        let mut client = Wire::connect(mesh.client.outbound());
        for i in 0..3 {
            let reply = client.exchange(&format!("GET /{i} HTTP/1.1\r\nHost: app\r\nx-request-id: r{i}\r\n\r\n"));
            assert_eq!((reply.status, reply.text()), (200, format!("GET /{i}")), "{protocol:?}");
            assert_eq!(reply.header("x-request-id"), Some(&*format!("r{i}")));
        }
        let got = origin.last();
        let caller = got.header("x-forwarded-client-cert").unwrap_or_default();
        assert!(caller.starts_with(&format!("By={API};Hash=")) && caller.ends_with(&format!(";URI={WEB}")), "{caller}");
        assert_eq!(got.header("x-request-id"), Some("r2"), "a proven peer is trusted with its identifier");
        let server = mesh.server.metrics();
        assert_eq!(server.sum("connections_total", &[("side", "downstream"), ("tls", "true")]), 1.0, "{protocol:?}");
        let client = mesh.client.metrics();
        assert_eq!(client.sum("connections_total", &[("side", "upstream"), ("tls", "true")]), 1.0);
        let entry = mesh.server.wait_log("the request", |entry| entry["path"] == "/2");
        assert_eq!(entry["peer"], WEB);
    }
}

#[test]
fn an_odd_head_arrives_as_it_was_written() {
    // What is spoken between the proxies is theirs; the application gets what its caller wrote, case and order of names,
    // and so does the caller.
    let origin = Origin::scripted(|wire, _, recorder| {
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") {
            raw.extend(wire.exactly(1));
        }
        let target = String::from_utf8_lossy(&raw).into_owned();
        recorder.record(&outrigger_tests::Request { target, ..Default::default() });
        wire.send("HTTP/1.1 200 Fine By Me\r\nX-OdD-aNSWER: a\r\nx-Second: B\r\nContent-LENGTH: 2\r\n\r\nok");
    });
    let mesh = Mesh::new(origin.address(), "");
    let mut client = Wire::connect(mesh.client.outbound());
    client.send("GET /a%20b?C=d HTTP/1.1\r\nHost: app\r\nX-ODD-case: One\r\nx-lower: two\r\nX-Odd-CASE: three\r\n\r\n");
    let mut answer = String::new();
    while !answer.ends_with("ok") {
        answer.push_str(&String::from_utf8_lossy(&client.exactly(1)));
    }
    assert!(answer.contains("\r\nX-OdD-aNSWER: a\r\nx-Second: B\r\n"), "{answer}");
    let got = origin.last().target;
    assert!(got.starts_with("GET /a%20b?C=d HTTP/1.1\r\n"), "{got}");
    assert!(got.contains("X-ODD-case: One\r\nx-lower: two\r\nX-Odd-CASE: three\r\n"), "{got}");
}

#[test]
fn http_2_between_the_proxies() {
    let peer = H2Origin::start();
    let mesh = Mesh::new(peer.address(), "protocol: http2,");
    let mut client = Wire::connect(mesh.client.outbound());
    let large = "x".repeat(300_000);
    let request = format!("POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: {}\r\n\r\n{large}", large.len());
    let reply = client.exchange(&request);
    assert_eq!((reply.status, reply.body.len()), (200, large.len()));
    let opened = mesh.server.metrics().sum("connections_total", &[("side", "downstream"), ("tls", "true")]);
    for _ in 0..10 {
        assert_eq!(Wire::connect(mesh.client.outbound()).exchange(&request).status, 200);
    }
    // All of them share the one connection between the proxies.
    let now = mesh.server.metrics().sum("connections_total", &[("side", "downstream"), ("tls", "true")]);
    assert_eq!((opened, now), (1.0, 1.0));
}

#[test]
fn grpc_of_all_four_kinds_and_its_deadline() {
    let Some(python) = peers::python("grpc_of_all_four_kinds_and_its_deadline") else { return };
    let server = Server::start(&python, "grpc_server.py", &[]);
    for protocol in ["protocol: grpc,", ""] {
        let mesh = Mesh::new(server.address(), protocol);
        let address = mesh.client.address("direct").to_string();
        let call =
            |scenario: &str| peers::check(&python, "grpc_client.py", &[&address, scenario]).trim_end().to_owned();
        assert_eq!(call("unary"), "hello", "{protocol:?}");
        assert_eq!(call("server_stream"), "['s 0', 's 1', 's 2']");
        assert_eq!(call("client_stream"), "0,1,2,3");
        assert_eq!(call("bidi"), "['b0', 'b1', 'b2', 'b3', 'b4']");
        assert_eq!(call("large"), "ok");
        let left: f64 = call("remaining").parse().expect("seconds");
        assert!(left > 0.0 && left <= 2.0, "{left}");
    }
}

#[test]
fn a_websocket() {
    let scenario = "a_websocket";
    let Some(python) = peers::python(scenario) else { return };
    let server = Server::start(&python, "ws_server.py", &[]);
    for protocol in ["", "protocol: http,"] {
        let mesh = Mesh::new(server.address(), protocol);
        let address = mesh.client.address("direct").to_string();
        let text = peers::check(&python, "ws_client.py", &[&address]);
        assert_eq!(text.trim_end(), "1000 ws-1", "{protocol:?}");
    }
}

#[test]
fn bytes_of_no_known_protocol_and_a_server_that_speaks_first() {
    let origin = Origin::scripted(|wire, _, _| {
        wire.send("5.5.5-greeting\0\n");
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut buffer) {
            wire.send([b"got ", &buffer[..n]].concat());
        }
    });
    for (protocol, listener) in [
        ("protocol: tcp,", "protocol: tcp, mtls: strict"),
        ("", "mtls: strict"),
        ("protocol: tcp,", "protocol: tcp, mtls: permissive"),
        ("", "mtls: permissive"),
    ] {
        let mesh = Mesh::with(origin.address(), protocol, listener, API);
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let mut client = Wire::connect(mesh.client.address("direct"));
            assert_eq!(client.exactly(16), b"5.5.5-greeting\0\n", "{protocol:?}");
            best = best.min(start.elapsed());
            client.send("login");
            assert_eq!(client.exactly(9), b"got login");
        }
        assert!(best < Duration::from_millis(100), "{listener:?} {best:?}");
        if listener.contains("permissive") {
            let greeted = (0..5).map(|_| {
                let start = Instant::now();
                assert_eq!(Wire::connect(mesh.server.inbound()).exactly(16), b"5.5.5-greeting\0\n");
                start.elapsed()
            });
            assert!(greeted.min().is_some_and(|best| best < Duration::from_millis(50)));
        }
    }
}

#[test]
fn another_identity_than_the_expected_one_is_told_with_both_names() {
    let origin = Origin::hello();
    let mallory = "spiffe://cluster.local/ns/shop/sa/payments";
    for protocol in ["protocol: http,", "protocol: http2,"] {
        let mesh = Mesh::with(origin.address(), protocol, "mtls: strict", mallory);
        let reply = Wire::connect(mesh.client.outbound()).get("/");
        assert_eq!(reply.status, 502, "{}", reply.text());
        let status = reply.header("proxy-status").unwrap_or_default();
        assert!(status.contains("error=tls_certificate_error"), "{status}");
        let body = reply.json();
        assert_eq!(body["error"], "tls_certificate_error");
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains(API) && message.contains(mallory), "{message}");
        let failing = [("upstream", "app"), ("reason", "tls_certificate_error")];
        mesh.client.wait_metric("requests_total", &failing, |n| n == 1.0);
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_server_of_another_root_is_refused() {
    let origin = Origin::hello();
    let mesh = Mesh::new(origin.address(), "protocol: http,");
    // Of another name, and of the same one, as after a root was made anew.
    for name in ["other", "mesh"] {
        let stranger = Ca::new(name).identity(WEB);
        let client = Proxy::start(&outbound(&stranger, mesh.server.inbound(), "", API));
        let reply = Wire::connect(client.outbound()).get("/");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (502, Some("tls_certificate_error")));
        let message = reply.json()["message"].to_string();
        assert!(message.contains("server") && message.contains("trust bundle"), "{message}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_is_refused_learns_that_it_is_its_own_certificate() {
    // The client trusts the server, and the server does not trust the client: it says so after the client's
    // handshake is over.
    let origin = Origin::hello();
    for protocol in ["protocol: http,", "protocol: http2,"] {
        let mesh = Mesh::new(origin.address(), protocol);
        let other = Ca::new("other");
        let both = format!("{}{}", mesh.ca.pem(), other.pem());
        let unknown = Files::new(&other.workload(WEB, FAR), &both);
        let client = Proxy::start(&outbound(&unknown, mesh.server.inbound(), protocol, API));
        let reply =
            Wire::connect(client.outbound()).exchange("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(reply.status, 502, "{}", reply.text());
        let body = reply.json();
        assert_eq!(body["error"], "tls_alert_received", "{protocol}: {body}");
        assert!(body["message"].as_str().is_some_and(|m| m.contains("our certificate")), "{body}");
        assert!(origin.requests().is_empty());
    }
}

#[test]
fn a_plain_server_is_no_mesh_peer() {
    let origin = Origin::hello();
    let ca = Ca::new("mesh");
    let web = ca.identity(WEB);
    let client = Proxy::start(&outbound(&web, origin.address(), "protocol: http,", API));
    let reply = Wire::connect(client.outbound()).get("/");
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.json()["error"].as_str().is_some_and(|e| e.starts_with("tls_")), "{}", reply.text());
    // Never a fall-back to plaintext.
    assert!(origin.requests().iter().all(|r| !r.target.starts_with('/')));
}

#[test]
fn certificates_are_renewed_under_traffic() {
    let origin = Origin::hello();
    let mesh = Mesh::new(origin.address(), "protocol: http,");
    let client_at = mesh.client.outbound();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let traffic: Vec<_> = [true, false]
        .into_iter()
        .map(|keep| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut wire, mut count) = (Wire::connect(client_at), 0);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if !keep {
                        wire = Wire::connect(client_at);
                    }
                    let reply = wire.get("/");
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    count += 1;
                }
                count
            })
        })
        .collect();
    let serial = |proxy: &Proxy| proxy.ask("/certificates").json()[0]["serial"].to_string();
    let expiry = |proxy: &Proxy| proxy.metrics().sum("identity_expiry_timestamp_seconds", &[]);
    for year in [2080, 2081, 2082] {
        for (proxy, files, id) in [(&mesh.client, &mesh.web, WEB), (&mesh.server, &mesh.api, API)] {
            let (before, end) = (serial(proxy), expiry(proxy));
            files.replace(&mesh.ca.workload(id, year));
            eventually("the new certificate is shown", LONG, || (serial(proxy) != before).then_some(()));
            eventually("its end is shown", LONG, || (expiry(proxy) != end).then_some(()));
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in traffic {
        assert!(thread.join().expect("no request failed") > 20);
    }
    // 2082-01-01T00:00:00Z.
    assert_eq!((expiry(&mesh.client), expiry(&mesh.server)), (3_534_451_200.0, 3_534_451_200.0));
}

#[test]
fn a_new_identity_is_shown_to_peers_and_a_broken_file_changes_nothing() {
    let origin = Origin::hello();
    let mesh = Mesh::new(origin.address(), "protocol: http,");
    let ask = || Wire::connect(mesh.client.outbound()).get("/").status;
    assert_eq!(ask(), 200);
    let named =
        |id: &str| origin.last().header("x-forwarded-client-cert").is_some_and(|c| c.ends_with(&format!(";URI={id}")));
    assert!(named(WEB));
    let other = "spiffe://cluster.local/ns/shop/sa/web-2";
    mesh.web.replace(&mesh.ca.workload(other, FAR));
    eventually("connections show the new identity", LONG, || {
        assert_eq!(ask(), 200);
        named(other).then_some(())
    });
    let failures = |proxy: &Proxy| proxy.metrics().sum("config_reloads_total", &[("result", "failure")]);
    let certificates = mesh.client.ask("/certificates").text();
    // A broken certificate, the key of another, a bundle that is none.
    let other_key = mesh.ca.workload(WEB, FAR).key;
    for (name, text) in [("tls.crt", "garbage"), ("tls.key", &*other_key), ("ca.crt", "")] {
        let good = std::fs::read_to_string(mesh.web.path(name)).expect("it is there");
        let before = failures(&mesh.client);
        mesh.web.put(name, text);
        eventually("the rejection is counted", LONG, || (failures(&mesh.client) > before).then_some(()));
        assert_eq!(ask(), 200);
        assert!(named(other), "{name}");
        assert_eq!(mesh.client.ask("/certificates").text(), certificates);
        assert_eq!(mesh.client.ask("/readyz").status, 200);
        mesh.web.put(name, &good);
    }
}
