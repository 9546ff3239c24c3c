//! What is no HTTP: bytes both ways, servers that speak first, and detection that costs nobody time.

use std::{io::Read, net::TcpListener, time::Duration};

use outrigger_tests::{LONG, Origin, Proxy, Response, Wire, config, eventually};
use tokio::time::Instant;

fn proxy_with(protocol: &str, origin: &Origin) -> Proxy {
    let listener = config::inbound(&format!("protocol: {protocol}"));
    Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())))
}

fn echo() -> Origin {
    Origin::scripted(|wire, _, _| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = wire.read(&mut buffer) {
            if wire.try_send(&buffer[..n]).is_err() {
                break;
            }
        }
    })
}

fn greeter() -> Origin {
    Origin::scripted(|wire, _, _| {
        wire.send("5.5.5-greeting\0\n");
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut buffer) {
            wire.send([b"got ", &buffer[..n]].concat());
        }
    })
}

#[test]
fn opaque_bytes_pass_both_ways() {
    let origin = echo();
    let proxy = proxy_with("tcp", &origin);
    let mut client = Wire::connect(proxy.inbound());
    for bytes in [&b"\x00\x01\xff"[..], b"GET / HTTP/1.1\r\n\r\n", &[7; 100_000]] {
        let mut writer = client.twin();
        let copy = bytes.to_vec();
        let sending = std::thread::spawn(move || writer.send(copy));
        assert_eq!(client.exactly(bytes.len()), bytes);
        sending.join().expect("sent");
    }
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let origin = Origin::scripted(|wire, _, _| {
        let got = wire.rest();
        wire.send(format!("{} bytes", got.len()));
    });
    for protocol in ["tcp", "detect"] {
        let proxy = proxy_with(protocol, &origin);
        let mut client = Wire::connect(proxy.inbound());
        client.send("\x16nothing that HTTP knows");
        client.finish();
        assert_eq!(String::from_utf8_lossy(&client.rest()), "24 bytes", "{protocol}");
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let origin = greeter();
    for protocol in ["tcp", "detect"] {
        let proxy = proxy_with(protocol, &origin);
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let mut client = Wire::connect(proxy.inbound());
            assert_eq!(client.exactly(16), b"5.5.5-greeting\0\n");
            best = best.min(start.elapsed());
            client.send("login");
            assert_eq!(client.exactly(9), b"got login");
        }
        // The best of five: the machine may be loaded, the proxy may not wait.
        assert!(best < Duration::from_millis(50), "{protocol}: {best:?}");
    }
}

#[test]
fn http_is_still_found_after_a_server_spoke_first() {
    // What is remembered about a destination must not turn its HTTP into bytes for ever.
    let origin = Origin::hello();
    let proxy = proxy_with("detect", &origin);
    for _ in 0..3 {
        let mut client = Wire::connect(proxy.inbound());
        client.send("\x00\x01binary\r\n");
        client.finish();
        client.rest();
        let reply = Wire::connect(proxy.inbound()).get("/");
        assert!(reply.status == 200 && reply.header("x-request-id").is_some(), "{reply:?}");
    }
}

#[test]
fn detection_takes_http_byte_by_byte() {
    let origin = Origin::hello();
    let proxy = proxy_with("detect", &origin);
    let mut client = Wire::connect(proxy.inbound());
    for byte in b"GET /slow HTTP/1.1\r\nHost: app\r\n\r\n" {
        client.send([*byte]);
    }
    let reply = client.reply();
    assert_eq!(reply.text(), "GET /slow");
    assert!(reply.header("x-request-id").is_some(), "it was carried as bytes");
}

#[test]
fn bytes_that_begin_like_http_are_opaque() {
    let origin = echo();
    let proxy = proxy_with("detect", &origin);
    for bytes in ["GETTING THERE\n", "\r\n\r\nhello\n", "*1\r\n$4\r\nPING\r\n"] {
        let mut client = Wire::connect(proxy.inbound());
        client.send(bytes);
        client.finish();
        assert_eq!(String::from_utf8_lossy(&client.rest()), bytes);
    }
}

#[test]
fn a_dead_upstream_closes_the_client() {
    let proxy = {
        let listener = config::inbound("protocol: tcp");
        Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", outrigger_tests::origin::refused())))
    };
    let mut client = Wire::connect(proxy.inbound());
    client.try_send("hello").ok();
    assert!(client.is_closed());
    proxy.wait_metric("rejected_total", &[("upstream", "app"), ("reason", "connection_refused")], |n| n >= 1.0);
}

#[test]
fn a_closing_peer_closes_the_other_side() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let origin = Origin::on(listener, |wire, _, _| {
        wire.send("bye");
    });
    let proxy = proxy_with("tcp", &origin);
    assert_eq!(Wire::connect(proxy.inbound()).rest(), b"bye");
    let waiting = Origin::scripted(|wire, _, _| drop(wire.rest()));
    let proxy = proxy_with("tcp", &waiting);
    let client = Wire::connect(proxy.inbound());
    eventually("the upstream connection is there", LONG, || (waiting.open() == 1).then_some(()));
    drop(client);
    eventually("the upstream connection ends", LONG, || (waiting.open() == 0).then_some(()));
}

#[test]
fn server_sent_events_arrive_as_they_are_sent() {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<()>(1);
    let receiver = std::sync::Mutex::new(receiver);
    let origin = Origin::scripted(move |wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for i in 0..3 {
                let event = format!("data: {i}\n\n");
                wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
                receiver.lock().expect("no panic").recv_timeout(LONG).expect("the client has seen the event");
            }
            wire.send(b"0\r\n\r\n");
        }
    });
    let proxy = proxy_with("detect", &origin);
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /events HTTP/1.1\r\nHost: app\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(client.head().header("content-type"), Some("text/event-stream"));
    for i in 0..3 {
        let mut line = client.line();
        while !line.starts_with("data:") {
            line = client.line();
        }
        assert_eq!(line, format!("data: {i}\n"));
        sender.send(()).expect("the origin waits");
    }
}

#[test]
fn an_upgraded_connection_carries_bytes() {
    let origin = Origin::scripted(|wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello from the server",
            );
            let mut buffer = [0; 256];
            while let Ok(n @ 1..) = wire.read(&mut buffer) {
                wire.send(&buffer[..n]);
            }
        }
    });
    let proxy = proxy_with("detect", &origin);
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /chat HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nearly");
    let head = client.head();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("chat")));
    assert!(head.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")));
    assert_eq!(client.exactly(26), b"hello from the serverearly");
    let got = origin.last();
    assert_eq!(got.header("upgrade"), Some("chat"));
    client.send(b"\x00\xff");
    assert_eq!(client.exactly(2), b"\x00\xff");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::start(|_| Response::new(426).body("no"));
    let proxy = proxy_with("detect", &origin);
    let mut client = Wire::connect(proxy.inbound());
    let upgrade = "GET /chat HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    assert_eq!(client.exchange(upgrade).text(), "no");
    assert_eq!(client.exchange(upgrade).status, 426);
}

#[test]
fn what_is_carried_as_bytes_does_not_get_around_an_access_policy() {
    // A lenient server skips empty lines before a request. Bytes that show no path cannot be shown to be allowed.
    let origin = Origin::scripted(|wire, _, recorder| {
        let text = String::from_utf8_lossy(&wire.rest()).into_owned();
        recorder.record(&outrigger_tests::Request { target: text, ..Default::default() });
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    });
    let access = config::document(
        "outrigger.dev/v1alpha1",
        "AccessPolicy",
        "app",
        &format!(
            "{{ targetRefs: [{}], rules: [{{ action: deny, to: [{{ paths: [\"/admin\"] }}] }}] }}",
            config::backend("app")
        ),
    );
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &access));
    let mut client = Wire::connect(proxy.inbound());
    client.send("\r\n\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n");
    client.finish();
    let answer = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(!answer.contains("secret") && origin.requests().is_empty(), "{answer}");
}
