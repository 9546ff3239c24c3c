//! A pod whose traffic nobody captures: the app is told of its proxy by HTTP_PROXY, or calls ports of localhost, and the proxy has
//! the pod's ports in the app's place. Real clients, real servers, and mTLS between two such pods.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use outrigger_config::discovery::{Binding, Document, Endpoint, Service, Workload, resource::Body};
use outrigger_tests::{
    LONG, Origin, Proxy, Reply, Response, Wire,
    curl::Curl,
    discovery::{ControlPlane, POD, endpoint, port, service_key},
    eventually,
    h2peer::H2Origin,
    peers::{self, Server},
    pki::{Ca, Files},
    ports::free_ports,
    wire,
};
use serde_json::json;

/// Two pods: the app of one answers with who calls it, the proxy of the other is called by the test.
struct Rig {
    control: ControlPlane,
    orders: Origin,
    callee: Proxy,
    proxy: Proxy,
}

/// Another address than that of the callee: what a pod asks of itself needs no certificate.
const CALLER: &str = "127.0.0.9";

impl Rig {
    fn new(more: &[&str]) -> Self {
        let orders = Origin::start(|request| {
            let by = request.header("x-forwarded-client-cert").unwrap_or("nobody");
            let host = request.header("host").unwrap_or("none");
            Response::text(format!("{} {} at {host} by {by}", request.method, request.target))
        });
        let control = ControlPlane::start();
        let (callee, at) = callee(&control, orders.address());
        control.service("orders", 80, &[meshed(at)], &[]);
        let proxy = control.proxy(&[&["--explicit", "--pod-ips", CALLER], more].concat());
        Self { control, orders, callee, proxy }
    }

    fn at(&self) -> String {
        self.proxy.outbound().to_string()
    }

    /// As a client of an HTTP proxy sends it.
    fn ask(&self, url: &str) -> Reply {
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let head =
            format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\nConnection: close\r\n\r\n");
        wire::once(self.proxy.outbound(), &head)
    }

    fn connect(&self, to: &str) -> (Wire, Reply) {
        let mut wire = Wire::connect(self.proxy.outbound());
        wire.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        // A success has no body, whatever it says.
        let mut reply = wire.head();
        if reply.status != 200 {
            let length = reply.header("content-length").and_then(|l| l.parse().ok());
            reply.body = wire.exactly(length.expect("an answer of the proxy's own"));
        }
        (wire, reply)
    }

    /// Waits until so many were answered with 200: a request is counted a moment after its client has the answer.
    #[track_caller]
    fn wait_count(&self, upstream: &str, count: f64) {
        let labels = [("direction", "outbound"), ("upstream", upstream), ("status", "200")];
        self.proxy.wait_metric("requests_total", &labels, |n| (n - count).abs() < 0.1);
    }
}

/// A pod before the app at `app`, which takes no caller without a certificate; and the pod's port.
fn callee(control: &ControlPlane, app: SocketAddr) -> (Proxy, SocketAddr) {
    let [at] = free_ports();
    let ports = vec![port(at.port(), "strict")];
    control.put("workload", Body::Workload(Workload { mtls: "strict".into(), ports, ..Workload::default() }));
    let moved = format!("{}={}", at.port(), app.port());
    (control.proxy(&["--inbound-listeners", &moved]), at)
}

fn meshed(at: SocketAddr) -> Endpoint {
    Endpoint { identity: POD.into(), ..endpoint(at) }
}

/// An address of this machine that is not its loopback, as a destination outside the mesh has it.
fn outside(scenario: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent: the system says which address it would take.
    let address = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).map(|a| a.ip());
    let found = address.ok().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    found.or_else(|| peers::skip(scenario, "an address besides loopback missing"))
}

#[test]
fn curl_behind_the_proxy_is_meshed_with_absolute_targets_and_in_tunnels() {
    let Some(curl) = Curl::find("curl_behind_the_proxy") else { return };
    let rig = Rig::new(&[]);
    let proxied = curl.with(&["--noproxy", "", "-x", &rig.at()]);
    let absolute = proxied.url("http://orders/x");
    assert_eq!((absolute.status, absolute.code), (200, 0), "{absolute:?}");
    assert!(absolute.body.starts_with("GET /x at orders by "), "{absolute:?}");
    assert!(absolute.body.contains(&format!("URI={POD}")), "the callee knows its caller: {}", absolute.body);
    rig.wait_count("shop/orders:80", 1.0);
    // HTTP/1.1 and HTTP/2 in a tunnel are requests as any other: found, routed, counted.
    let in_tunnel = proxied.with(&["-p", "--suppress-connect-headers"]);
    let tunnelled = in_tunnel.url("http://orders/tunnel");
    assert!(tunnelled.body.contains(&format!("URI={POD}")), "{tunnelled:?}");
    assert_eq!(rig.orders.last().target, "/tunnel");
    rig.wait_count("shop/orders:80", 2.0);
    // Who speaks HTTP/2 unasked knows that its server does.
    let h2 = H2Origin::start();
    let (_pod, at) = callee(&rig.control, h2.address());
    rig.control.service("h2", 80, &[meshed(at)], &[]);
    let tunnelled = in_tunnel.with(&["--http2-prior-knowledge"]).url("http://h2/h2");
    assert_eq!(tunnelled.code, 0, "{tunnelled:?}");
    assert!(h2.last().header("x-forwarded-client-cert").is_some_and(|by| by.contains(POD)), "{:?}", h2.last());
    rig.wait_count("shop/h2:80", 1.0);
    // And the other side takes nobody else.
    drop(rig.callee);
}

#[test]
fn https_in_a_tunnel_is_passed_on() {
    let scenario = "https_in_a_tunnel_is_passed_on";
    let (Some(ip), Some(curl)) = (outside(scenario), Curl::find(scenario)) else { return };
    let rig = Rig::new(&[]);
    let ca = Ca::new("web");
    let files = Files::new(&ca.server_at(ip), ca.pem());
    let Some(python) = peers::python(scenario) else { return };
    let path = |name: &str| files.path(name).display().to_string();
    let app = Server::start(&python, "probed_server.py", &[&path("tls.crt"), &path("tls.key"), "0.0.0.0"]);
    let to = SocketAddr::new(ip, app.address().port());
    let reply =
        curl.with(&["--noproxy", "", "-x", &rig.at(), "--suppress-connect-headers"]).url(&format!("https://{to}/ok"));
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"), "{reply:?}");
    eventually("the connection is told", LONG, || {
        let connections =
            rig.proxy.metrics().sum("connections_total", &[("direction", "outbound"), ("side", "upstream")]);
        (connections > 0.5).then_some(())
    });
    // Libraries: the proxy is known from the environment alone.
    for library in ["requests", "urllib"] {
        let said = peers::check(&python, "proxied_client.py", &[&rig.at(), library, "http://orders/py"]);
        assert!(said.starts_with("200 GET /py at orders by "), "{library}: {said}");
        let said = peers::check(
            &python,
            "proxied_client.py",
            &[&rig.at(), library, &format!("https://{to}/ok"), &path("ca.crt")],
        );
        assert!(said.starts_with("200 ok"), "{library}: {said}");
        let refused = peers::check(&python, "proxied_client.py", &[&rig.at(), library, "https://127.0.0.1:1/"]);
        assert!(refused.contains("403"), "{library}: {refused}");
    }
}

#[test]
fn node_behind_the_proxy() {
    let Some(node) = peers::node("node_behind_the_proxy") else { return };
    let rig = Rig::new(&[]);
    for kind in ["http", "undici", "fetch"] {
        let said = peers::check(&node, "proxied_client.js", &[&rig.at(), kind, &format!("http://orders/{kind}")]);
        assert!(said.starts_with(&format!("200 GET /{kind} at orders by ")) && said.contains(POD), "{kind}: {said}");
    }
    rig.wait_count("shop/orders:80", 3.0);
}

#[test]
fn what_only_the_pod_may_reach_is_refused() {
    let rig = Rig::new(&[]);
    let origin = Origin::hello();
    let own = rig.proxy.admin().port();
    for url in [
        format!("http://{}/", origin.address()),
        format!("http://localhost:{}/", origin.address().port()),
        format!("http://127.1.2.3:{}/", origin.address().port()),
        format!("http://[::1]:{}/", origin.address().port()),
        format!("http://[::ffff:127.0.0.1]:{}/", origin.address().port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://0.0.0.0/".to_owned(),
        format!("http://{CALLER}:{own}/"),
        format!("http://localhost:{own}/"),
    ] {
        let reply = rig.ask(&url);
        assert_eq!(reply.status, 403, "{url}: {}", reply.text());
        assert!(reply.text().contains("access_denied") && reply.text().contains("NO_PROXY"), "{url}: {}", reply.text());
        let authority = url.trim_start_matches("http://").split('/').next().expect("a host");
        let with_port = if authority.rsplit(':').next().is_some_and(|p| p.parse::<u16>().is_ok()) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let (_, reply) = rig.connect(&with_port);
        assert_eq!(reply.status, 403, "CONNECT {with_port}: {}", reply.text());
    }
    assert!(origin.requests().is_empty());
    let (_, reply) = rig.connect("orders");
    assert_eq!(reply.status, 400, "{}", reply.text());
    // Its client believes that this is encrypted.
    let reply = rig.ask("https://orders/");
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(reply.text().contains("CONNECT"), "{}", reply.text());
    let (_, reply) = rig.connect("nowhere.invalid:443");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("proxy-status").is_some_and(|s| s.contains("dns_error")), "{reply:?}");
}

/// Makes `host` the name of what `document` says, as the Service or Upstream of this key.
fn name(control: &ControlPlane, host: &str, key: &str, port: u16, document: &serde_json::Value) {
    let name = document["metadata"]["name"].as_str().expect("a name").to_owned();
    let origin = format!("{} shop/{name}", document["kind"].as_str().expect("a kind"));
    let documents = vec![Document { json: document.to_string(), origin }];
    let service = Service { namespace: "shop".into(), name, port: port.into(), documents, ..Service::default() };
    control.put(key, Body::Service(service));
    control.put(&format!("name/{host}"), Body::Binding(Binding { service: key.into(), pinned: None }));
}

#[test]
fn a_service_whose_name_resolves_to_the_pod_itself_is_refused_and_a_configured_upstream_is_not() {
    let rig = Rig::new(&[]);
    let origin = Origin::hello();
    let port = origin.address().port();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "inside", "namespace": "shop" },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] } });
    let host = format!("inside:{port}");
    name(&rig.control, &host, &service_key("inside", port), port, &service);
    let reply = rig.ask(&format!("http://{host}/"));
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("access_denied") && reply.text().contains("NO_PROXY"), "{}", reply.text());
    // A tunnel to a Service is granted; what is inside is told.
    let (mut wire, reply) = rig.connect(&host);
    assert_eq!(reply.status, 200, "{}", reply.text());
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert_eq!(wire.reply().status, 403);
    assert!(origin.requests().is_empty());
    // The pod's own namespace says that this one is there.
    let upstream = json!({ "apiVersion": "outrigger.dev/v1alpha1", "kind": "Upstream",
        "metadata": { "name": "agent", "namespace": "shop" },
        "spec": { "hostnames": ["agent.example"], "dns": { "name": "localhost", "port": port } } });
    name(&rig.control, "agent.example:80", "upstream/shop/agent", 0, &upstream);
    let reply = rig.ask("http://agent.example/x");
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /x"), "{reply:?}");
    // Nor does it matter where the app cannot name its destinations itself.
    let captured = rig.control.proxy(&[]);
    let reply =
        wire::once(captured.outbound(), &format!("GET /y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /y"), "{reply:?}");
}

#[test]
fn a_tunnel_to_nobody_is_refused_before_it_is_granted() {
    let Some(ip) = outside("a_tunnel_to_nobody") else { return };
    let rig = Rig::new(&[]);
    let gone = SocketAddr::new(ip, free_ports::<1>()[0].port());
    let (_, reply) = rig.connect(&gone.to_string());
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.text().contains("connection_refused"), "{}", reply.text());
    // A server that speaks first, through a tunnel.
    let greeter = Origin::on(TcpListener::bind((ip, 0)).expect("an address of this machine"), |wire, _, _| {
        wire.try_send("220 hello\r\n").ok();
        let line = wire.line();
        wire.try_send(format!("250 {line}")).ok();
    });
    let (mut wire, reply) = rig.connect(&greeter.address().to_string());
    assert_eq!(reply.status, 200);
    assert_eq!(wire.line(), "220 hello\r\n");
    wire.send("EHLO me\r\n");
    assert_eq!(wire.line(), "250 EHLO me\r\n");
}

#[test]
fn a_port_of_localhost_stands_for_a_destination() {
    let [http, db, nowhere] = free_ports();
    let scenario = "a_port_of_localhost_stands_for_a_destination";
    let list =
        format!("{}=orders.shop:80,{}=db.shop:5432,{}=nowhere.invalid:80", http.port(), db.port(), nowhere.port());
    let rig = Rig::new(&["--outbound-listeners", &list]);
    rig.control
        .put("name/orders.shop:80", Body::Binding(Binding { service: "service/shop/orders:80".into(), pinned: None }));
    // The app calls its own host; the service is asked by its own name.
    let reply =
        wire::once(http, &format!("GET /x HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", http.port()));
    assert!(reply.text().starts_with("GET /x at orders.shop:80 by "), "{}", reply.text());
    assert!(reply.text().contains(POD), "{}", reply.text());
    // A name that the app gives itself stays, and leads nowhere else.
    let reply = wire::once(http, "GET /y HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n");
    assert!(reply.text().starts_with("GET /y at www.example by "), "{}", reply.text());
    let reply = wire::once(nowhere, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(reply.status, 503, "{}", reply.text());
    // Bytes, and a server that speaks first, over mTLS to a pod of the same kind.
    let greeter = Origin::scripted(|wire, _, _| {
        wire.try_send("hello\n").ok();
        while let Some(line) = Some(wire.line()).filter(|l| !l.is_empty()) {
            if wire.try_send(format!("echo {line}")).is_err() {
                break;
            }
        }
    });
    let (pod, at) = callee(&rig.control, greeter.address());
    rig.control.service("db", 5432, &[meshed(at)], &[]);
    rig.control
        .put("name/db.shop:5432", Body::Binding(Binding { service: "service/shop/db:5432".into(), pinned: None }));
    let mut wire = Wire::connect(db);
    assert_eq!(wire.line(), "hello\n", "{scenario}");
    wire.send("select 1\n");
    assert_eq!(wire.line(), "echo select 1\n");
    drop(wire);
    pod.wait_metric("connections_total", &[("direction", "inbound"), ("side", "downstream"), ("tls", "true")], |n| {
        n > 0.5
    });
}

#[test]
fn a_pod_that_calls_itself_gets_to_its_app() {
    let app = Origin::hello();
    let [at] = free_ports();
    let control = ControlPlane::start();
    let ports = vec![port(at.port(), "strict")];
    control.put("workload", Body::Workload(Workload { mtls: "strict".into(), ports, ..Workload::default() }));
    let (ip, moved) = ("127.0.0.8", format!("{}={}", at.port(), app.address().port()));
    // It is in the Service that it calls, under its own address.
    let own = SocketAddr::new(ip.parse().expect("an address"), at.port());
    control.service("own", 80, &[meshed(own)], &[]);
    let proxy = control.proxy(&["--explicit", "--pod-ips", ip, "--inbound-listeners", &moved]);
    let reply = wire::once(proxy.outbound(), "GET http://own/x HTTP/1.1\r\nHost: own\r\nConnection: close\r\n\r\n");
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /x"), "{reply:?}");
}

#[test]
fn tunnels_are_for_pods_that_ask_for_them() {
    let control = ControlPlane::start();
    let proxy = control.proxy(&[]);
    let mut wire = Wire::connect(proxy.outbound());
    wire.send("CONNECT orders:80 HTTP/1.1\r\nHost: orders:80\r\n\r\n");
    let reply = wire.reply_to("CONNECT");
    assert_eq!((reply.status, reply.header("connection")), (501, Some("close")));
    // Nor is a tunnel inside a tunnel, or on a port that stands for something else.
    let rig = Rig::new(&[]);
    let (mut wire, reply) = rig.connect("orders:80");
    assert_eq!(reply.status, 200);
    wire.send("CONNECT orders:80 HTTP/1.1\r\nHost: orders:80\r\n\r\n");
    assert_eq!(wire.reply_to("CONNECT").status, 501);
}

#[test]
fn unsafe_settings_are_told_at_the_start() {
    for (args, words) in [
        (&["--explicit", "--outbound", "0.0.0.0:0"][..], "proxy for everybody"),
        (&["--outbound-listeners", "15001=localhost:80"], "OUTRIGGER_OUTBOUND_LISTENERS"),
        (&["--outbound-listeners", "15001"], "PORT=HOST:PORT"),
        (&["--inbound-listeners", "8080=8080"], "OUTRIGGER_INBOUND_LISTENERS"),
        (&["--inbound-listeners", "8080=15001", "--outbound-listeners", "15001=a:1"], "listened on twice"),
        (&["--drain-timeout", "0s"], "OUTRIGGER_DRAIN_TIMEOUT"),
    ] {
        let mut proxy = ControlPlane::start().proxy_at_once(args);
        assert_eq!(proxy.wait_exit(Duration::from_secs(10)).code(), Some(2), "{args:?}");
        let said = proxy.output().join("\n");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
