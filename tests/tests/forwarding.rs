//! The forwarding core under unkind peers: what is held is given back, and nobody waits for ever.

use std::time::Duration;

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Wire, config, eventually,
    frames::{self, END_HEADERS, END_STREAM, Frames, kind},
    h2peer::{self, H2Origin},
    holds, wire,
};

#[test]
fn idle_connections_to_an_endpoint_that_is_gone_are_closed() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let proxy = Proxy::start(&config::sidecar_policy(old.address(), "timeouts: { upstreamIdle: 1h }"));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(old.open(), 1);
    // Another client, that is still connected, came when the old endpoint was there.
    let mut other = Wire::connect(proxy.inbound());
    assert_eq!(other.get("/").text(), "old");
    proxy.reload(&config::sidecar_policy(new.address(), "timeouts: { upstreamIdle: 1h }"), true);
    eventually("the new upstream is used", LONG, || (client.get("/").text() == "new").then_some(()));
    eventually("the old connection is closed", LONG / 2, || (old.open() == 0).then_some(()));
}

#[test]
fn an_http_1_0_client_that_keeps_alive_sees_the_end_of_a_chunked_answer() {
    let origin = Origin::start(|_| Response::new(200).chunked(&["one", "two"]));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n");
    let text = String::from_utf8(client.rest()).expect("text");
    assert!(text.ends_with("\r\n\r\nonetwo"), "{text}");
}

#[test]
fn a_request_body_that_stops_coming_is_given_up() {
    let origin = Origin::echo();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { idle: 200ms }"));
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nhalf");
    let reply = client.reply();
    assert_eq!(reply.status, 408, "{}", reply.text());
    assert!(reply.header("proxy-status").is_some_and(|s| s.contains("error=http_request_timeout")));
    proxy.wait_metric("requests_total", &[("status", "408")], |n| n > 0.0);
}

#[test]
fn an_upstream_that_neither_reads_nor_answers_is_given_up() {
    for protocol in ["http", "http2"] {
        let origin = Origin::scripted(|wire, _, _| drop(wire.rest()));
        let h2 = H2Origin::start();
        let app = if protocol == "http" { origin.address() } else { h2.address() };
        let yaml = config::sidecar_protocol(app, protocol) + &config::policy("app", "timeouts: { idle: 200ms }");
        let proxy = Proxy::start(&yaml);
        let reply = wire::get(proxy.inbound(), "/hang");
        assert_eq!(reply.status, 504, "{protocol}: {}", reply.text());
        assert!(reply.header("proxy-status").is_some_and(|s| s.contains("error=connection_read_timeout")));
    }
}

#[test]
fn an_idle_connection_gives_way_to_one_to_another_endpoint() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let endpoints =
        format!("protocol: http, endpoints: [{{ address: \"{}\" }}, {{ address: \"{}\" }}]", a.address(), b.address());
    let policy = "limits: { maxConnections: 1 }, loadBalancing: { algorithm: roundRobin }, timeouts: { request: 2s }";
    let yaml =
        config::proxy(&[config::INBOUND]) + &config::upstream_with("app", &endpoints) + &config::policy("app", policy);
    let proxy = Proxy::start(&yaml);
    let mut client = Wire::connect(proxy.inbound());
    let answers: Vec<_> = (0..6).map(|_| client.get("/").text()).collect();
    assert_eq!(answers.iter().filter(|t| *t == "a").count(), 3, "{answers:?}");
    assert_eq!(answers.iter().filter(|t| *t == "b").count(), 3, "{answers:?}");
}

#[test]
fn what_follows_a_head_without_a_body_is_not_the_next_answer() {
    // An HTTP/2 server that sends DATA after 204: on an HTTP/1 connection it would be read as an answer.
    let origin = Origin::scripted(|wire, _, _| {
        drop(wire.exactly(24));
        wire.send(frames::frame(kind::SETTINGS, 0, 0, &[]));
        wire.send(frames::frame(kind::HEADERS, END_HEADERS, 1, &frames::block(&[(":status", "204")])));
        wire.send(frames::frame(kind::DATA, END_STREAM, 1, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"));
        drop(wire.rest());
    });
    let proxy = Proxy::start(&config::sidecar_protocol(origin.address(), "http2"));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.rest()).expect("text");
    assert!(text.starts_with("HTTP/1.1 204") && !text.contains("evil"), "{text}");
}

#[test]
fn connections_that_have_carried_their_requests_are_replaced() {
    let origin = H2Origin::start();
    let policy = config::policy("app", "limits: { maxRequestsPerConnection: 1 }");
    let proxy = Proxy::start(&(config::sidecar_protocol(origin.address(), "http2") + &policy));
    for i in 0..12 {
        assert_eq!(wire::get(proxy.inbound(), &format!("/{i}")).status, 200);
    }
    assert_eq!(origin.accepted(), 12);
    proxy.wait_metric("connections", &[("side", "upstream")], |open| open < 2.0);
}

#[test]
fn an_http_2_connection_on_which_nothing_comes_is_left() {
    let origin = H2Origin::start();
    let policy = config::policy("app", "timeouts: { backendRequest: 1100ms }");
    let proxy = Proxy::start(&(config::sidecar_protocol(origin.address(), "http2") + &policy));
    assert_eq!(wire::get(proxy.inbound(), "/first").status, 200);
    assert_eq!(wire::get(proxy.inbound(), "/hang").status, 504);
    assert_eq!(wire::get(proxy.inbound(), "/next").status, 200);
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn waiting_for_the_dial_of_others_has_an_end() {
    // A socket that listens with a full backlog answers no SYN, so every dial takes the whole connect time-out.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("a socket");
    let address = listener.local_addr().expect("bound").as_socket().expect("IP");
    let _full: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            socket.connect(&address.into()).ok();
            socket
        })
        .collect();
    let policy = config::policy("app", "timeouts: { connect: 300ms }");
    let proxy = Proxy::start(&(config::sidecar_protocol(address, "http2") + &policy));
    let to = proxy.inbound();
    let started = tokio::time::Instant::now();
    let clients: Vec<_> = (0..12).map(|_| std::thread::spawn(move || wire::get(to, "/").status)).collect();
    for client in clients {
        assert_eq!(client.join().expect("no panic"), 504);
    }
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
}

#[test]
fn a_request_that_may_arrive_yet_is_not_sent_again() {
    // A reset acknowledges nothing: the server may have read and done what it was asked for.
    let origin = Origin::scripted(|wire, _, recorder| {
        let Ok(Some(head)) = wire.request_head() else { return };
        recorder.record(&head);
        let socket = socket2::SockRef::from(wire.socket());
        socket.set_linger(Some(Duration::ZERO)).ok();
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = wire::once(proxy.inbound(), "POST /pay HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_client_that_waits_for_100_is_told_that_the_connection_ends() {
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request_head() {
            wire.send(Response::new(401).wire("POST"));
            drop(wire.rest());
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let reply = client.reply_to("POST");
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
}

#[test]
fn resets_by_the_upstream_are_not_the_clients() {
    let origin = H2Origin::start();
    let listener = config::inbound("limits: { maxResets: 3 }");
    let spec = format!("protocol: http2, endpoints: [{{ address: \"{}\" }}]", origin.address());
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream_with("app", &spec)));
    h2peer::run(async {
        let client = h2peer::connect(proxy.inbound()).await;
        for _ in 0..8 {
            h2peer::call(&client, h2peer::request("GET", "/cut", &[]), b"", &[]).await.expect_err("cut off");
        }
        let reply = h2peer::call(&client, h2peer::request("GET", "/whole", &[]), b"", &[]).await;
        assert_eq!(reply.expect("the connection lives").status, 200);
    });
}

#[test]
fn a_refused_connect_ends_the_connection() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\n\r\nGET /inner HTTP/1.1\r\nHost: app\r\n\r\n");
    let text = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(text.starts_with("HTTP/1.1 501") && !text.contains("/inner"), "{text}");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_drain_waits_for_clients_to_take_the_end_of_their_answers() {
    // All of them are more than sockets take: some are on their way, others wait for them.
    const STREAMS: u32 = 90;
    const SIZE: usize = 100_000;
    let origin = Origin::start(|_| Response::text("x".repeat(SIZE)));
    let mut proxy = Proxy::start(&config::sidecar_protocol(origin.address(), "http"));
    let mut client = Frames::connect(proxy.inbound());
    let window: u32 = 1 << 24;
    let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
    client.send(kind::SETTINGS, 0, 0, &settings).expect("an open connection");
    client.send(kind::WINDOW_UPDATE, 0, 0, &window.to_be_bytes()).expect("an open connection");
    for i in 0..STREAMS {
        client.get(2 * i + 1, &[]).expect("an open connection");
    }
    eventually("all are asked for", LONG, || (origin.requests().len() == STREAMS as usize).then_some(()));
    proxy.signal("TERM");
    holds("the proxy waits for the client", Duration::from_millis(2500), || proxy.runs());
    let (mut bytes, mut ended) = (0, 0);
    while let Some(frame) = client.read().expect("frames or an end") {
        if frame.kind == kind::DATA {
            bytes += frame.payload.len();
            ended += u32::from(frame.flags & END_STREAM);
        }
    }
    assert_eq!((bytes, ended), (SIZE * STREAMS as usize, STREAMS));
    assert!(proxy.wait_exit(LONG).success());
}
