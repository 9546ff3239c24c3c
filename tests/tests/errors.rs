//! One vocabulary: the token of an error is the same in `proxy-status`, body, metric and log, for HTTP and gRPC.

use std::{net::TcpListener, time::Duration};

use outrigger_tests::{Origin, Proxy, Response, Wire, config, h2peer, origin, wire};

/// Asserts all faces of one error for a request to `inbound`; `request` is one that the proxy answers itself.
#[track_caller]
fn faces(proxy: &Proxy, request: &str, status: u16, token: &str) {
    let reply = wire::once(proxy.inbound(), request);
    assert_eq!(reply.status, status, "{:?} {}", reply.headers, reply.text());
    let header = reply.header("proxy-status").expect("a reason").to_owned();
    assert!(header.starts_with("outrigger; "), "{header}");
    assert!(header.contains(&format!("error={token}")) && header.contains("details=\""), "{header}");
    assert!(reply.header("content-type").is_some_and(|t| t.starts_with("application/json")));
    let body = reply.json();
    assert_eq!(body["error"], token, "{body}");
    assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
    assert_eq!(body["request_id"].as_str(), reply.header("x-request-id"), "{body}");
    assert!(body.get("upstream").is_some() && body["attempts"].is_u64(), "{body}");
    let entry = proxy.wait_log("the log line", |entry| entry["reason"] == token);
    assert_eq!(
        (entry["status"].as_u64(), entry["request_id"].as_str()),
        (Some(u64::from(status)), reply.header("x-request-id"))
    );
    let labels = [("reason", token), ("status", &*status.to_string())].map(|(k, v)| (k, v.to_owned()));
    let labels: Vec<_> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
    proxy.wait_metric("requests_total", &labels, |n| n >= 1.0);
}

/// The same for gRPC.
#[track_caller]
fn grpc(proxy: &Proxy, status: &str) {
    let request = h2peer::request("POST", "/a.B/C", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let reply = h2peer::run(async {
        h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
    });
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/grpc")));
    assert_eq!(reply.header("grpc-status").or(reply.trailer("grpc-status")), Some(status), "{:?}", reply.headers);
    assert!(reply.header("grpc-message").or(reply.trailer("grpc-message")).is_some_and(|m| !m.is_empty()));
    assert!(reply.body.is_empty());
    assert!(reply.header("proxy-status").is_some());
}

const GET: &str = "GET /some/path HTTP/1.1\r\nHost: app\r\n\r\n";

#[test]
fn connection_refused() {
    let proxy = Proxy::start(&config::sidecar(origin::refused()));
    faces(&proxy, GET, 502, "connection_refused");
    grpc(&proxy, "14");
}

#[test]
fn connection_timeout() {
    // A listener whose backlog is full does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut held = Vec::new();
    for _ in 0..300 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    let proxy = Proxy::start(&config::sidecar_policy(address, "timeouts: { connect: 100ms }"));
    faces(&proxy, GET, 504, "connection_timeout");
    grpc(&proxy, "14");
}

#[test]
fn connection_terminated() {
    let origin = Origin::scripted(|wire, _, _| drop(wire.request()));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    faces(&proxy, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n", 502, "connection_terminated");
}

#[test]
fn destination_not_found() {
    let origin = Origin::hello();
    let rules = format!(
        "- matches: [{{ path: {{ type: Exact, value: /only }} }}]\n  backendRefs: [{}]",
        config::backend("app")
    );
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &config::http_route("app", "app", &rules)));
    faces(&proxy, GET, 404, "destination_not_found");
    grpc(&proxy, "12");
}

#[test]
fn destination_unavailable() {
    let proxy = Proxy::start(
        &(config::proxy(&[config::INBOUND])
            + &config::upstream_with("app", "endpoints: [{ address: \"127.0.0.1:9\", weight: 0 }]")),
    );
    faces(&proxy, GET, 503, "destination_unavailable");
    grpc(&proxy, "14");
}

#[test]
fn http_response_timeout() {
    let origin = Origin::scripted(|wire, _, _| {
        drop(wire.request());
        drop(wire.rest());
    });
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { request: 100ms }"));
    faces(&proxy, GET, 504, "http_response_timeout");
}

#[test]
fn http_protocol_error() {
    let origin = Origin::start(|_| Response::bytes("HTTP/1.1 nonsense\r\n\r\n"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    faces(&proxy, GET, 502, "http_protocol_error");
}

#[test]
fn http_response_header_section_size() {
    let origin = Origin::start(|_| Response::text("x").header("X-Long", &"y".repeat(100_000)));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    faces(&proxy, GET, 502, "http_response_header_section_size");
}

#[test]
fn access_denied() {
    let origin = Origin::hello();
    let access = config::document(
        "outrigger.dev/v1alpha1",
        "AccessPolicy",
        "app",
        &format!(
            "{{ targetRefs: [{}], rules: [{{ action: deny, to: [{{ paths: [\"/some/*\", \"/a.B/*\"] }}] }}] }}",
            config::backend("app")
        ),
    );
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &access));
    faces(&proxy, GET, 403, "access_denied");
    grpc(&proxy, "7");
    assert_eq!(Wire::connect(proxy.inbound()).get("/other").status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn request_errors_of_the_client() {
    let origin = Origin::hello();
    let listener = config::inbound("protocol: http, limits: { headerReadTimeout: 300ms }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    faces(&proxy, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "http_request_error");
    faces(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n", 408, "http_request_timeout");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    faces(&proxy, &long, 431, "http_request_header_section_size");
    faces(
        &proxy,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        "http_request_not_implemented",
    );
    assert!(origin.requests().is_empty());
}

#[test]
fn a_request_that_comes_back_is_not_sent_round_for_ever() {
    // The upstream of the inbound listener is the outbound one, which chooses the inbound one by host.
    let free = || origin::refused().port();
    let (a, b) = (free(), free());
    let listen = |listener: &str, port: u16| listener.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let endpoint = |port: u16| ([127, 0, 0, 1], port).into();
    let yaml = config::proxy(&[&listen(config::INBOUND, a), &listen(config::OUTBOUND, b)])
        + &config::upstream("app", endpoint(b))
        + &config::upstream("self", endpoint(a));
    let proxy = Proxy::start(&yaml);
    let reply = wire::once(proxy.inbound(), "GET / HTTP/1.1\r\nHost: self\r\n\r\n");
    assert_eq!((reply.status, reply.json()["error"].as_str()), (502, Some("proxy_loop_detected")));
}

#[test]
fn an_error_of_the_origin_is_its_own() {
    let origin = Origin::start(|_| Response::new(503).body("mine"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = Wire::connect(proxy.inbound()).get("/");
    assert_eq!((reply.status, reply.text().as_str(), reply.header("proxy-status")), (503, "mine", None));
}

#[test]
fn head_gets_the_head_alone() {
    let proxy = Proxy::start(&config::sidecar(origin::refused()));
    let mut client = Wire::connect(proxy.inbound());
    let reply = client.exchange("HEAD / HTTP/1.1\r\nHost: app\r\n\r\n");
    assert_eq!(reply.status, 502);
    assert_eq!(client.get("/").status, 502);
}

#[test]
fn details_never_break_the_header() {
    let proxy = Proxy::start(&config::proxy(&[config::OUTBOUND]));
    let reply = wire::once(proxy.outbound(), "GET /\"\\%0d%0a HTTP/1.1\r\nHost: a-\u{e4}.example\r\n\r\n");
    assert!(matches!(reply.status, 400 | 404));
    assert!(reply.header("proxy-status").is_some_and(|v| v.is_ascii()));
}
