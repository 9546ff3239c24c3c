//! Hostile input over the wire: it is refused, the connection ends where framing is in doubt, and nothing of
//! it reaches the origin.

use std::{process::Command, time::Duration};

use outrigger_tests::{LONG, Origin, Proxy, Response, Wire, config, eventually, wire};

/// Requests that must be answered 400 and end the connection. Each is followed by a well-formed request that
/// must not be answered either.
const SMUGGLING: &[(&str, &str)] = &[
    ("CL and TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE and CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    ("two CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab"),
    ("negative CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("signed CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
    ("hexadecimal CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"),
    ("empty CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
    ("CL overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na"),
    ("chunked not last", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "two TE",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("TE with a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("space before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("space before colon of CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na"),
    ("obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n folded\r\n\r\n"),
    ("fold of the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("bare LF in a head", "GET / HTTP/1.1\nHost: a\n\n"),
    ("bare LF after one header", "GET / HTTP/1.1\r\nHost: a\nX-B: 1\r\n\r\n"),
    ("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    ("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"),
    ("empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("Host with userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no version", "GET /\r\nHost: a\r\n\r\n"),
    ("a version that is none", "GET / HTTP/1.x\r\nHost: a\r\n\r\n"),
    ("a target without slash", "GET admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a fragment", "GET /#x\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bad method", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    ("prefixed chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
    ("empty chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n"),
    ("chunk size overflow", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n"),
    ("chunk ended by LF", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n"),
    ("chunk data too long", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
];

#[test]
fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let origin = Origin::hello();
    let listener = config::inbound("protocol: http");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let mut wrong = Vec::new();
    for (name, request) in SMUGGLING {
        let mut client = Wire::connect(proxy.inbound());
        client.try_send(request).ok();
        client.try_send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").ok();
        match client.try_reply("GET") {
            Ok(reply) if reply.status == 400 => {
                if !reply.header("proxy-status").is_some_and(|v| v.contains("error=http_request_error")) {
                    wrong.push(format!("{name}: proxy-status {:?}", reply.header("proxy-status")));
                }
                if !client.is_closed() {
                    wrong.push(format!("{name}: something follows the answer"));
                }
            }
            Ok(reply) => wrong.push(format!("{name}: {}", reply.status)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    let whole: Vec<_> = origin.requests().into_iter().map(|r| format!("{} {}", r.method, r.target)).collect();
    assert!(wrong.is_empty() && whole.is_empty(), "{wrong:#?}\nreached the origin: {whole:?}");
}

#[test]
fn equal_content_lengths_are_one() {
    // RFC 9110 8.6 allows either; what is forwarded must have exactly one.
    let origin = Origin::echo();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply =
        wire::once(proxy.inbound(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na");
    if reply.status == 400 {
        return assert!(origin.requests().is_empty());
    }
    let lengths = origin.last().headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("content-length")).count();
    assert_eq!((reply.text().as_str(), lengths), ("a", 1));
}

#[test]
fn unknown_codings_and_versions_are_not_implemented() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let gzip = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(wire::once(proxy.inbound(), gzip).status, 501);
    assert!(origin.requests().is_empty());
}

#[test]
fn an_ambiguous_answer_becomes_502() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for answer in answers {
        let origin = Origin::start(move |_| Response::bytes(answer));
        let proxy = Proxy::start(&config::sidecar(origin.address()));
        let reply = Wire::connect(proxy.inbound()).get("/");
        assert_eq!(reply.status, 502, "{answer:?}");
        let token = reply.header("proxy-status").unwrap_or_default().to_owned();
        assert!(token.contains("http_protocol_error") || token.contains("http_response"), "{answer:?}: {token}");
    }
}

#[test]
fn bytes_after_an_answer_are_never_the_next_answer() {
    let extra =
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecondHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
    let origin = Origin::scripted(move |wire, connection, _| {
        while let Ok(Some(_)) = wire.request() {
            wire.send(if connection == 0 { extra } else { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" });
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/1").text(), "second");
    assert_eq!(client.get("/2").text(), "good");
}

#[test]
fn a_slow_head_is_answered_408() {
    let origin = Origin::hello();
    let listener = config::inbound("protocol: http, limits: { headerReadTimeout: 200ms }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow:");
    assert_eq!(client.reply().status, 408);
    assert!(client.is_closed());
    // A connection on which nothing ever comes is closed, too.
    assert!(Wire::connect(proxy.inbound()).rest().len() < 1000);
}

#[test]
fn a_slow_head_on_a_detecting_listener_ends_too() {
    let origin = Origin::hello();
    let listener = config::inbound("limits: { headerReadTimeout: 200ms }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow:");
    assert_eq!(client.reply().status, 408);
}

#[test]
fn an_idle_connection_is_closed() {
    let origin = Origin::hello();
    let listener = config::inbound("limits: { idleTimeout: 200ms }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed());
}

#[test]
fn too_many_header_bytes_or_fields_are_answered_431() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(61 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(101));
    let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(70 * 1024));
    for request in [long, many, endless] {
        let mut client = Wire::connect(proxy.inbound());
        client.try_send(&request).ok();
        let reply = client.try_reply("GET").expect("an answer");
        assert_eq!(reply.status, 431, "{:.40}", request);
        assert!(client.is_closed());
    }
    assert!(origin.requests().is_empty());
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(50 * 1024));
    assert_eq!(wire::once(proxy.inbound(), &fits).status, 200);
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(90));
    assert_eq!(wire::once(proxy.inbound(), &fits).status, 200);
}

#[test]
fn header_limits_are_settable() {
    let origin = Origin::hello();
    let listener = config::inbound("limits: { maxHeaderBytes: 2048, maxHeaderCount: 5 }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(3000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(6));
    for request in [long, many] {
        assert_eq!(wire::once(proxy.inbound(), &request).status, 431);
    }
}

#[test]
fn more_connections_than_allowed_wait_or_are_refused_and_recover() {
    let origin = Origin::hello();
    let listener = config::inbound("limits: { maxConnections: 4 }");
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream("app", origin.address())));
    let mut held: Vec<_> = (0..4).map(|_| Wire::connect(proxy.inbound())).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    let mut over = Wire::connect(proxy.inbound());
    over.patience(Duration::from_millis(300));
    over.try_send("GET /over HTTP/1.1\r\nHost: a\r\n\r\n").ok();
    assert!(!over.try_reply("GET").is_ok_and(|reply| reply.status == 200), "a fifth connection is served");
    drop((held, over));
    eventually("connections are accepted again", LONG, || {
        let mut client = Wire::connect(proxy.inbound());
        client.try_send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.try_reply("GET").is_ok_and(|reply| reply.status == 200).then_some(())
    });
}

#[test]
fn running_out_of_descriptors_pauses_and_recovers() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let limit = outrigger_tests::process::descriptors(proxy.pid()) + 12;
    let set = |limit: usize| {
        let status = Command::new("prlimit")
            .args(["--pid", &proxy.pid().to_string(), &format!("--nofile={limit}:{limit}")])
            .status();
        status.is_ok_and(|s| s.success())
    };
    if !set(limit) {
        outrigger_tests::peers::skip::<()>(
            "running_out_of_descriptors_pauses_and_recovers",
            "prlimit missing or not permitted",
        );
        return;
    }
    let crowd: Vec<_> = (0..40).map(|_| Wire::connect(proxy.inbound())).collect();
    for mut client in crowd {
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n").ok();
    }
    // The crowd has gone; the same proxy serves again.
    eventually("the proxy serves again", LONG, || {
        let mut client = Wire::connect(proxy.inbound());
        client.patience(Duration::from_secs(1));
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.try_reply("GET").is_ok_and(|reply| reply.status == 200).then_some(())
    });
}
