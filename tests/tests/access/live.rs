//! What is open is judged again when the policies change: what is denied now ends, what is allowed never notices.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex},
};

use outrigger_tests::{LONG, Origin, Proxy, Wire, config, eventually, h2peer, pki::Ca};

use crate::policy;

/// Who is denied by the second configuration.
const NOT_A: &str = "rules: [{ action: deny, to: [{ headers: [{ name: x-user, value: a }] }] }]";
const NOT_B: &str = "rules: [{ action: deny, to: [{ headers: [{ name: x-user, value: b }] }] }]";

/// A gate that opens once.
#[derive(Default, Clone)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().expect("no panic") = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let guard = self.0.0.lock().expect("no panic");
        drop(self.0.1.wait_timeout_while(guard, LONG, |open| !*open).expect("no panic"));
    }
}

/// An origin that begins an answer of events, and ends it when the gate opens. `/late` begins only then.
fn events(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::scripted(move |wire, _, recorder| {
        let Ok(Some(request)) = wire.request_head() else { return };
        let late = request.target == "/late";
        recorder.record(&request);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        if late {
            gate.wait();
        }
        wire.try_send(format!("{head}5\r\nfirst\r\n")).ok();
        gate.wait();
        wire.try_send("4\r\nlast\r\n0\r\n\r\n").ok();
    })
}

fn denied(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("rejected_total", &[("upstream", "app"), ("reason", "access_denied")])
}

#[test]
fn streams_of_events_over_http_1() {
    let gate = Gate::default();
    let origin = events(&gate);
    let yaml = |rules: &str| config::sidecar(origin.address()) + rules;
    let proxy = Proxy::start(&yaml(""));
    let open = |user: &str, path: &str| {
        let mut wire = Wire::connect(proxy.inbound());
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: app\r\nx-user: {user}\r\n\r\n"));
        wire
    };
    let (mut a, mut b, mut late) = (open("a", "/"), open("b", "/"), open("a", "/late"));
    for wire in [&mut a, &mut b] {
        assert_eq!(wire.head().status, 200);
        assert_eq!(wire.exactly(10), b"5\r\nfirst\r\n");
    }
    eventually("all requests are there", LONG, || (origin.requests().len() == 3).then_some(()));
    // Whom no policy denies is not touched by one that denies others.
    proxy.reload(
        &yaml(&policy("app", "rules: [{ action: deny, to: [{ headers: [{ name: x-user, value: c }] }] }]")),
        true,
    );
    assert_eq!(denied(&proxy), 0.0);
    proxy.reload(&yaml(&policy("app", NOT_A)), true);
    assert!(a.is_closed(), "not even the end of the chunks");
    let refused = late.reply();
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("access_denied")));
    gate.open();
    assert_eq!(b.exactly(14), b"4\r\nlast\r\n0\r\n\r\n");
    let cut = proxy.wait_log("the stream that was cut", |e| e["reason"] == "access_denied" && e["path"] == "/");
    assert_eq!((cut["access"].as_str(), cut["policy"].as_str()), (Some("deny"), Some("guard")), "{cut}");
    assert_eq!((cut["rule"].as_u64(), cut["status"].as_u64()), (Some(0), Some(200)));
    assert_eq!(denied(&proxy), 2.0);
    proxy.wait_metric("requests_total", &[("reason", "access_denied"), ("status", "200")], |n| n == 1.0);
}

#[test]
fn streams_over_http_2_and_grpc() {
    let gate = Gate::default();
    let origin = events(&gate);
    let yaml = |rules: &str| config::sidecar_protocol(origin.address(), "http") + rules;
    let proxy = Proxy::start(&yaml(""));
    h2peer::run(async {
        let sender = h2peer::connect(proxy.inbound()).await;
        let open = |user: &'static str, kind: &'static str| {
            let request = h2peer::request("POST", "/s/m", &[("x-user", user), ("content-type", kind)]);
            let sender = sender.clone();
            async move {
                let mut sender = sender.ready().await.expect("an open connection");
                let (response, _) = sender.send_request(request, true).expect("a stream");
                let mut response = response.await.expect("a head");
                let first = response.body_mut().data().await.expect("data").expect("data");
                assert_eq!(&first[..], b"first");
                response
            }
        };
        let (plain, grpc, kept) =
            (open("a", "text/plain").await, open("a", "application/grpc").await, open("b", "text/plain").await);
        proxy.reload(&yaml(&policy("app", NOT_A)), true);
        // One connection: the streams that are denied end, each as its protocol has it, and the connection goes on.
        let error = h2peer::read(plain).await.expect_err("the stream is reset");
        assert!(error.is_reset(), "{error}");
        let reply = h2peer::read(grpc).await.expect("trailers");
        assert_eq!(reply.trailer("grpc-status"), Some("7"), "{reply:?}");
        gate.open();
        let reply = h2peer::read(kept).await.expect("the rest");
        assert_eq!(reply.text(), "last");
        let request = h2peer::request("GET", "/", &[("x-user", "a")]);
        let refused = h2peer::call(&sender, request, b"", &[]).await.expect("an answer");
        assert_eq!(refused.status, 403);
    });
}

#[test]
fn upgraded_connections() {
    let origin = Origin::scripted(|wire, _, _| {
        let Ok(Some(_)) = wire.request_head() else { return };
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut buffer) {
            wire.try_send(&buffer[..n]).ok();
        }
    });
    let yaml = |rules: &str| config::sidecar(origin.address()) + rules;
    let proxy = Proxy::start(&yaml(&policy("app", "rules: [{ action: allow }]")));
    let open = |user: &str| {
        let mut wire = Wire::connect(proxy.inbound());
        wire.send(format!(
            "GET /chat HTTP/1.1\r\nHost: app\r\nx-user: {user}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        ));
        assert_eq!(wire.head().status, 101);
        wire.send("ping");
        assert_eq!(wire.exactly(4), b"ping");
        wire
    };
    let (mut a, mut b) = (open("a"), open("b"));
    proxy.reload(&yaml(&policy("app", NOT_A)), true);
    assert!(a.is_closed());
    b.send("pong");
    assert_eq!(b.exactly(4), b"pong");
    let cut =
        proxy.wait_log("the connection that was cut", |e| e["protocol"] == "tcp" && e["reason"] == "access_denied");
    assert_eq!((cut["policy"].as_str(), cut["request_bytes"].as_u64()), (Some("guard"), Some(4)), "{cut}");
    proxy.reload(&yaml(&policy("app", NOT_B)), true);
    assert!(b.is_closed());
}

/// A connection from another address of this machine.
fn from(source: Ipv4Addr, to: SocketAddr) -> Wire {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
    socket.connect(&to.into()).expect("the proxy accepts");
    Wire::new(TcpStream::from(socket))
}

fn echo() -> Origin {
    Origin::scripted(|wire, _, _| {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut buffer) {
            wire.try_send(&buffer[..n]).ok();
        }
    })
}

#[test]
fn opaque_connections_by_address() {
    let origin = echo();
    let yaml = |rules: &str| {
        config::proxy(&[&config::inbound("protocol: tcp")]) + &config::upstream("app", origin.address()) + rules
    };
    let proxy = Proxy::start(&yaml(""));
    let (two, three) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let mut open = [two, three].map(|source| {
        let mut wire = from(source, proxy.inbound());
        wire.send("ping");
        assert_eq!(wire.exactly(4), b"ping");
        wire
    });
    let rules = "rules: [{ action: deny, from: [{ cidrs: [127.0.0.2/32] }] }]";
    // What is only observed goes on, and is counted.
    proxy.reload(&yaml(&policy("app", &format!("mode: observe, {rules}"))), true);
    proxy.wait_metric("observed_total", &[("policy", "guard"), ("action", "access_denied")], |n| n == 1.0);
    open[0].send("ping");
    assert_eq!(open[0].exactly(4), b"ping");
    proxy.reload(&yaml(&policy("app", rules)), true);
    let [mut a, mut b] = open;
    assert!(a.is_closed());
    b.send("pong");
    assert_eq!(b.exactly(4), b"pong");
    let cut = proxy.wait_log("the connection that was cut", |e| e["reason"] == "access_denied");
    assert_eq!(
        (cut["access"].as_str(), cut["policy"].as_str(), cut["rule"].as_u64()),
        (Some("deny"), Some("guard"), Some(0))
    );
    assert_eq!((cut["request_bytes"].as_u64(), cut["response_bytes"].as_u64()), (Some(8), Some(8)), "{cut}");
    // New ones are not let in.
    let mut refused = from(two, proxy.inbound());
    refused.socket().write_all(b"ping").ok();
    assert!(refused.is_closed());
    assert_eq!(denied(&proxy), 2.0);
}

#[test]
fn a_listener_that_becomes_strict_ends_what_is_plaintext() {
    let (origin, ca) = (echo(), Ca::new("mesh"));
    let own = ca.identity("spiffe://cluster.local/ns/shop/sa/app");
    let yaml = |mode: &str| {
        let listener = config::inbound(&format!("protocol: tcp, mtls: {mode}"));
        config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream("app", origin.address())
    };
    let proxy = Proxy::start(&yaml("permissive"));
    let mut wire = Wire::connect(proxy.inbound());
    wire.send("ping");
    assert_eq!(wire.exactly(4), b"ping");
    proxy.reload(&yaml("strict"), true);
    assert!(wire.is_closed());
    let cut = proxy.wait_log("the connection that was cut", |e| e["reason"] == "access_denied");
    assert!(cut["details"].as_str().is_some_and(|d| d.contains("strict")), "{cut}");
}

#[test]
fn what_becomes_strict_and_loses_its_upstream_at_once_is_ended_too() {
    // An upstream that goes leaves what it has in peace; a listener that asks for proof does not.
    let (origin, ca) = (echo(), Ca::new("mesh"));
    let own = ca.identity("spiffe://cluster.local/ns/shop/sa/app");
    let yaml = |mode: &str, name: &str| {
        let listener = config::inbound(&format!("protocol: tcp, mtls: {mode}"))
            .replace("name: app }", &format!("name: {name} }}"));
        config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream(name, origin.address())
    };
    let proxy = Proxy::start(&yaml("permissive", "app"));
    let mut wire = Wire::connect(proxy.inbound());
    wire.send("ping");
    assert_eq!(wire.exactly(4), b"ping");
    proxy.reload(&yaml("permissive", "other"), true);
    wire.send("ping");
    assert_eq!(wire.exactly(4), b"ping");
    proxy.reload(&yaml("strict", "third"), true);
    assert!(wire.is_closed());
    proxy.wait_log("the connection that was cut", |e| e["reason"] == "access_denied");
}
