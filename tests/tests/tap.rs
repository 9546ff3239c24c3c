//! Requests as they pass: `/tap` of the proxy and `outrigger tap`, with real traffic.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Wire, config,
    curl::Curl,
    eventually,
    peers::{self, Server},
    pki::Ca,
    tap::{Running, Tap, outrigger},
    wire,
};
use serde_json::{Value, json};
use tokio::time::Instant;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["event"].as_str()).collect()
}

fn get(to: SocketAddr, path: &str, headers: &str) -> u16 {
    wire::once(to, &format!("GET {path} HTTP/1.1\r\nHost: app\r\n{headers}\r\n")).status
}

#[test]
fn curl_and_http_2_are_shown_from_head_to_end() {
    let Some(curl) = Curl::find("curl_and_http_2_are_shown_from_head_to_end") else { return };
    let origin = Origin::start(|_| Response::text("hello").header("x-from", "origin"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let tap = Tap::open(proxy.admin(), "");
    for (args, path, protocol) in
        [(&["--http1.1"][..], "/one?page=2", "HTTP/1.1"), (&["--http2-prior-knowledge"], "/two", "HTTP/2")]
    {
        assert_eq!(curl.with(args).http(proxy.inbound(), path).status, 200);
        let events = tap.request(path);
        assert_eq!(kinds(&events), ["request", "response", "end"], "{events:#?}");
        let (request, response, end) = (&events[0], &events[1], &events[2]);
        assert_eq!((&request["method"], &request["protocol"]), (&json!("GET"), &json!(protocol)));
        assert_eq!((&request["direction"], &request["upstream"]), (&json!("inbound"), &json!("app")));
        assert_eq!((&request["path"], &request["listener"]), (&json!(path), &json!("inbound")));
        assert!(
            request["headers"]
                .as_array()
                .expect("headers")
                .iter()
                .any(|h| h[0] == "user-agent" || h[0] == "User-Agent")
        );
        assert!(request["request_id"].as_str().is_some_and(|id| id.len() > 10), "{request}");
        assert_eq!((&response["status"], &response["endpoint"]), (&json!(200), &json!(origin.address().to_string())));
        assert!(response["headers"].as_array().expect("headers").contains(&json!(["x-from", "origin"])), "{response}");
        assert_eq!((&end["status"], &end["attempts"], &end["retries"]), (&json!(200), &json!(1), &json!(0)));
        assert_eq!(end["response_bytes"], 5);
        assert!(end["duration_ms"].as_f64() >= end["first_byte_ms"].as_f64(), "{end}");
    }
    assert!(!tap.text().contains("hello"), "no bodies");
}

#[test]
fn grpc_is_shown_with_its_status() {
    let Some(python) = peers::python("grpc_is_shown_with_its_status") else { return };
    let server = Server::start(&python, "grpc_server.py", &[]);
    let proxy = Proxy::start(&config::sidecar_protocol(server.address(), "grpc"));
    let tap = Tap::open(proxy.admin(), "");
    assert_eq!(peers::check(&python, "grpc_client.py", &[&proxy.inbound().to_string(), "unary"]).trim(), "hello");
    let end = tap.wait("the call ends", |e| e["event"] == "end");
    assert_eq!((&end["status"], &end["grpc_status"]), (&json!(200), &json!(0)), "{end}");
    drop(peers::check(&python, "grpc_client.py", &[&proxy.inbound().to_string(), "status"]));
    tap.wait("NOT_FOUND is shown", |e| e["event"] == "end" && e["grpc_status"] == 5);
}

#[test]
fn secrets_are_never_shown() {
    let origin = Origin::start(|_| {
        Response::text("ok").header("Set-Cookie", "id=S3CRET-1; HttpOnly").header("Location", "/cb?code=S3CRET-2&x=1")
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let tap = Tap::open(proxy.admin(), "");
    let headers = "Authorization: Bearer S3CRET-3\r\nCookie: a=S3CRET-4\r\nProxy-Authorization: Basic S3CRET-5\r\n\
                   x-api-key: S3CRET-6\r\nX-Auth-Token: S3CRET-7\r\nReferer: http://u:S3CRET-8@h/?token=S3CRET-9\r\n\
                   X-Custom: bearer S3CRET-10\r\nX-Harmless: yes\r\n";
    let path = "/login?access_token=S3CRET-11&page=2&password=S3CRET-12&%74oken=S3CRET-13&sig=S3CRET-14";
    assert_eq!(get(proxy.inbound(), path, headers), 200);
    let events = tap.request("/login");
    assert!(!tap.text().contains("S3CRET"), "{}", tap.text());
    let shown: Vec<_> = events[0]["headers"].as_array().expect("headers").clone();
    for name in ["Authorization", "Cookie", "x-api-key", "X-Auth-Token", "X-Custom"] {
        assert!(shown.contains(&json!([name, "[redacted]"])), "{name}: {shown:?}");
    }
    assert!(shown.contains(&json!(["X-Harmless", "yes"])));
    assert_eq!(
        events[0]["path"],
        "/login?access_token=[redacted]&page=2&password=[redacted]&%74oken=[redacted]&sig=[redacted]"
    );
    assert!(
        events[1]["headers"].as_array().expect("headers").contains(&json!(["Location", "/cb?code=[redacted]&x=1"]))
    );

    // What is asked for by name is shown, and nothing else.
    let open = Tap::open(proxy.admin(), "show-header=cookie&show-header=set-cookie");
    assert_eq!(get(proxy.inbound(), path, headers), 200);
    let events = open.request("/login");
    assert!(events[0]["headers"].as_array().expect("headers").contains(&json!(["Cookie", "a=S3CRET-4"])));
    assert!(
        events[1]["headers"].as_array().expect("headers").contains(&json!(["Set-Cookie", "id=S3CRET-1; HttpOnly"]))
    );
    let rest = open.text().replace("S3CRET-4", "").replace("S3CRET-1;", "");
    assert!(!rest.contains("S3CRET"), "{rest}");
}

#[test]
fn filters_choose() {
    let origin = Origin::start(|r| Response::new(if r.target.starts_with("/bad") { 503 } else { 200 }));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let bad = Tap::open(proxy.admin(), "status=5xx");
    let beta = Tap::open(proxy.admin(), "header=x-beta%3A1&path=/a&method=GET&upstream=app&direction=inbound");
    let none = Tap::open(proxy.admin(), "upstream=other");
    for (path, headers) in [("/a/1", ""), ("/a/2", "x-beta: 1\r\n"), ("/b", "x-beta: 1\r\n"), ("/bad", "")] {
        get(proxy.inbound(), path, headers);
    }
    assert_eq!(bad.request("/bad")[1]["status"], 503);
    beta.request("/a/2");
    let shown = |tap: &Tap| tap.events().iter().filter(|e| e["event"] == "request").count();
    assert_eq!((shown(&bad), shown(&beta), shown(&none)), (1, 1, 0));
    for query in ["directon=inbound", "status=x", "rate=0"] {
        let reply = proxy.ask(&format!("/tap?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.json()["error"].as_str().is_some_and(|e| e.len() > 20));
    }
}

#[test]
fn retries_reasons_and_identities_of_both_ends_are_shown() {
    let origin = Origin::scripted(|wire, connection, _| {
        while let Ok(Some(request)) = wire.request() {
            let status = if connection == 0 { 503 } else { 200 };
            let response = Response::new(status).closing();
            if wire.try_send(response.wire(&request.method)).is_err() || response.close {
                break;
            }
        }
    });
    let ca = Ca::new("mesh");
    let (web, api) = (ca.identity(WEB), ca.identity(API));
    let server = Proxy::start(
        &(config::proxy_with(&api.yaml(), &[&config::inbound("mtls: strict")])
            + &config::upstream("app", origin.address())),
    );
    let fields = format!(
        "hostnames: [app], endpoints: [{{ address: \"{}\" }}], tls: {{ mode: mesh, identity: \"{API}\" }}",
        server.inbound()
    );
    let policy = config::policy("app", "retry: { attempts: 2, codes: [503], backoff: { base: 5ms, max: 10ms } }");
    let client = Proxy::start(
        &(config::proxy_with(&web.yaml(), &[config::OUTBOUND]) + &config::upstream_with("app", &fields) + &policy),
    );
    let (near, far) =
        (Tap::open(client.admin(), ""), Tap::open(server.admin(), "peer=spiffe://cluster.local/ns/shop/*"));
    assert_eq!(get(client.outbound(), "/x", ""), 200);
    let events = near.request("/x");
    assert_eq!(kinds(&events), ["request", "retry", "response", "end"], "{events:#?}");
    assert_eq!((&events[2]["server"], &events[2]["attempt"]), (&json!(API), &json!(2)));
    assert_eq!((&events[3]["retries"], &events[3]["attempts"]), (&json!(1), &json!(2)));
    assert_eq!(far.request("/x")[0]["peer"], WEB);
    // What the proxy answers itself has its reason.
    assert_eq!(get(client.outbound(), "/nowhere", "X-A: b\r\n").min(600), 200);
    let reply = wire::once(client.outbound(), "GET /lost HTTP/1.1\r\nHost: nobody.example\r\n\r\n");
    assert_eq!(reply.status, 404);
    let events = near.request("/lost");
    assert_eq!(
        (&events[1]["attempt"], &events[2]["reason"]),
        (&json!(0), &json!("destination_not_found")),
        "{events:#?}"
    );

    // The same edges, seen from both ends.
    let edges = client.ask("/edges").json();
    assert_eq!(edges["identity"], WEB);
    let edge = edges["edges"]
        .as_array()
        .expect("edges")
        .iter()
        .find(|e| e["upstream"] == "app")
        .expect("the upstream")
        .clone();
    assert_eq!(
        (&edge["servers"], &edge["mtls"], &edge["direction"]),
        (&json!([API]), &json!(true), &json!("outbound"))
    );
    assert!(edge["latency"]["p50_seconds"].as_f64().is_some_and(|p| p > 0.0), "{edge}");
    let edges = server.ask("/edges").json();
    let edge = edges["edges"].as_array().expect("edges").iter().find(|e| e["peer"] == WEB).expect("the caller").clone();
    assert_eq!((&edge["requests"], &edge["failures"], &edge["mtls"]), (&json!(3), &json!(1), &json!(true)), "{edge}");
}

#[test]
fn a_tapper_that_does_not_read_slows_nobody() {
    let origin = Origin::start(|_| Response::text("ok").header("x-large", &"y".repeat(900)));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let large: String = (0..7).map(|i| format!("x-large-{i}: {}\r\n", "x".repeat(1000))).collect();
    let mut client = Wire::connect(proxy.inbound());
    let request = format!("GET /x HTTP/1.1\r\nHost: app\r\n{large}\r\n");
    let mut slowest = |n: usize| {
        let mut times: Vec<Duration> = (0..n)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(client.exchange(&request).status, 200);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[n / 2]
    };
    slowest(50);
    let before = slowest(500);
    let stalled = Tap::ask(proxy.admin(), "rate=1000");
    eventually("the tap is open", LONG, || {
        let mut byte = [0];
        stalled.peek(&mut byte).ok().filter(|n| *n > 0)
    });
    // Until lines are dropped: sockets and queue are full.
    let mut after = Vec::new();
    let full = |stream: &TcpStream| {
        let mut buffer = vec![0; 16 << 20];
        stream.peek(&mut buffer).unwrap_or(0)
    };
    let mut waiting = (0, 0);
    eventually("nothing more goes into the socket", LONG * 6, || {
        after.push(slowest(200));
        let now = full(&stalled);
        waiting = if now == waiting.0 { (now, waiting.1 + 1) } else { (now, 0) };
        (waiting.1 >= 15).then_some(())
    });
    after.sort();
    let median = after[after.len() / 2];
    println!("median of a request: {before:?} untapped, {median:?} with a stalled tapper, {} bytes wait", waiting.0);
    // Who waits for the tapper waits for ever; the rest is the noise of a loaded machine.
    assert!(median < before * 10 + Duration::from_millis(50), "{median:?} after {before:?}");
    // It is told what it has missed.
    stalled.set_read_timeout(Some(LONG)).expect("a positive time");
    let lines =
        BufReader::new(&stalled).lines().map_while(Result::ok).filter(|l| l.starts_with("{\"event\":\"status\""));
    let told =
        lines.map(|l| serde_json::from_str::<Value>(&l).expect("JSON")).find(|e| e["dropped"].as_u64() > Some(0));
    assert!(told.is_some(), "dropped lines are counted");
}

#[test]
fn only_this_host_may_look_at_requests() {
    let origin = Origin::hello();
    let yaml =
        config::sidecar(origin.address()).replace("admin: { address: 127.0.0.1:0 }", "admin: { address: 0.0.0.0:0 }");
    let proxy = Proxy::start(&yaml);
    let here: SocketAddr = ([127, 0, 0, 1], proxy.admin().port()).into();
    let ask = |to: SocketAddr, path: &str, headers: &str| {
        let mut wire = Wire::connect(to);
        wire.send(format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
        wire.head().status
    };
    let host = format!("Host: {here}\r\n");
    for path in ["/tap", "/errors"] {
        assert_eq!(ask(here, path, &host), 200, "{path}");
        for headers in [
            "Host: evil.example\r\n",
            &format!("{host}Origin: http://evil.example\r\n"),
            &format!("{host}Sec-Fetch-Site: cross-site\r\n"),
        ] {
            assert_eq!(ask(here, path, headers), 403, "{path} {headers}");
        }
    }
    let own =
        std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
    let Ok(own) = own.map(|address| address.ip()) else { return };
    if own.is_loopback() || own.is_unspecified() {
        return;
    }
    let there = SocketAddr::new(own, here.port());
    let host = format!("Host: {there}\r\n");
    assert_eq!([ask(there, "/tap", &host), ask(there, "/errors", &host), ask(there, "/edges", &host)], [403, 403, 200]);
}

#[test]
fn taps_are_few_and_end_with_their_client_or_their_number() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let taps: Vec<_> = (0..8).map(|_| Tap::open(proxy.admin(), "")).collect();
    assert_eq!(proxy.ask("/tap").status, 503);
    drop(taps);
    let tap = eventually("places are given back", LONG, || {
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("GET /tap?max=2 HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin()));
        (wire.head().status == 200).then_some(wire)
    });
    let mut tap = tap;
    for _ in 0..5 {
        get(proxy.inbound(), "/n", "");
    }
    let text = eventually("it ends by itself", LONG, || {
        let line = tap.line();
        line.contains("\"closed\"").then_some(line)
    });
    assert!(text.contains("\"why\":\"max\"") && text.contains("\"shown\":2"), "{text}");
    assert_eq!(
        wire::once(
            proxy.admin(),
            &format!("HEAD /tap HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", proxy.admin())
        )
        .status,
        200
    );
}

#[test]
fn the_command_line_shows_and_filters() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let admin = proxy.admin().to_string();
    let text = Running::start(&["tap", "--admin", &admin, "--path", "/show", "--headers"], &[]);
    let mut json = Running::start(&["tap", "--admin", &admin, "-o", "json", "--max", "2", "--status", "2xx"], &[]);
    json.wait("the tap is open", |line| line.contains("\"event\":\"tap\""));
    // The text has no line for that: until something is shown, requests are repeated.
    let line = eventually("a request is shown", LONG, || {
        get(proxy.inbound(), "/show?token=S3CRET", "Authorization: Bearer S3CRET\r\n");
        get(proxy.inbound(), "/hide", "");
        text.lines().into_iter().find(|line| line.contains("> GET http://app/show?token=[redacted] HTTP/1.1 inbound"))
    });
    assert!(line.contains("to app"), "{line}");
    text.wait("its answer", |line| line.contains("< 200 after"));
    text.wait("its end", |line| line.contains(". 200 in"));
    text.wait("its headers", |line| line == "    Authorization: [redacted]");
    let all = text.lines().join("\n");
    assert!(!all.contains("S3CRET") && !all.contains("/hide"), "{all}");
    assert!(json.wait_exit().success(), "{:?}", json.errors());
    let events: Vec<Value> = json.lines().iter().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(events.iter().filter(|e| e["event"] == "end").count(), 2, "{events:#?}");
    assert!(events.iter().all(|e| e["from"] == *admin), "{events:#?}");
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let admin = proxy.admin().to_string();
    let dead = outrigger_tests::origin::refused().to_string();
    for (args, code, word) in [
        (&["tap", "--admin", &admin, "--status", "9xx"][..], 1, "5xx"),
        (&["tap", "--admin", &admin, "--rate", "100000"], 1, "1 to 1000"),
        (&["tap", "--admin", &dead], 1, "cannot connect"),
        (&["tap", "--admin", &admin, "deploy/x"], 2, "cannot be used"),
        (&["tap", "--admin", &admin, "--direction", "up"], 2, "inbound"),
        (&["tap", "--kubeconfig", "/nowhere"], 1, "outrigger check"),
        (&["top", "--admin", &dead, "--once"], 1, "cannot connect"),
        (&["edges", "--admin", &dead], 1, "cannot connect"),
        (&["dashboard", "--admin", &dead, "--no-open"], 1, "cannot connect"),
        (&["top", "--admin", &admin, "--interval", "1ms"], 2, "500ms"),
    ] {
        let output = outrigger(args, &[]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.contains(word), "{args:?}: {words}");
    }
}
