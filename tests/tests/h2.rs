//! HTTP/2: every pairing of versions, back-pressure, resets, and peers that abuse it.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use outrigger_tests::{
    LONG, Origin, Proxy, Response, Wire, config, eventually,
    frames::{self, END_HEADERS, END_STREAM, Frames, kind},
    h2peer::{self, H2Origin},
    peers, process,
};

/// RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const NO_ERROR: u32 = 0;

fn before_h1(origin: &Origin) -> Proxy {
    Proxy::start(&config::sidecar_protocol(origin.address(), "http"))
}

fn before_h2(origin: &H2Origin) -> Proxy {
    Proxy::start(&config::sidecar_protocol(origin.address(), "http2"))
}

#[test]
fn curl_speaks_http_2_with_prior_knowledge() {
    let Some(curl) = peers::program("curl_speaks_http_2_with_prior_knowledge", "curl") else { return };
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let url = format!("http://{}/curl?x=1", proxy.inbound());
    let output = Command::new(curl)
        .args([
            "-sS",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version} %{http_code}",
            "-d",
            "body",
            &url,
        ])
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "POST /curl?x=1 2 200");
    let got = origin.last();
    assert_eq!((got.version.as_str(), got.text().as_str()), ("HTTP/1.1", "body"));
    assert!(got.header("host").is_some_and(|host| host.starts_with("127.0.0.1")));
}

#[test]
fn all_four_pairings_carry_bodies() {
    let h1 = Origin::echo();
    let h2 = H2Origin::start();
    for (upstream, proxy) in [("h1", before_h1(&h1)), ("h2", before_h2(&h2))] {
        for size in [0, 1, 100_000] {
            let body = "z".repeat(size);
            let mut client = Wire::connect(proxy.inbound());
            let head = format!("POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: {size}\r\n\r\n{body}");
            assert_eq!(client.exchange(&head).text(), body, "h1 to {upstream}, {size} bytes");
            let chunked = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
            let chunked = if size == 0 { "0\r\n\r\n" } else { &chunked };
            let head = format!("POST /echo HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}");
            assert_eq!(client.exchange(&head).text(), body, "h1 chunked to {upstream}, {size} bytes");
            let reply = h2peer::run(async {
                let client = h2peer::connect(proxy.inbound()).await;
                h2peer::call(&client, h2peer::request("POST", "/echo", &[]), body.as_bytes(), &[])
                    .await
                    .expect("an answer")
            });
            assert_eq!(reply.text(), body, "h2 to {upstream}, {size} bytes");
        }
    }
}

#[test]
fn trailers_pass_in_all_pairings() {
    let h1 = Origin::start(|r| {
        let sum = outrigger_tests::message::field(&r.trailers, "x-sum").unwrap_or("none").to_owned();
        Response::new(200).header("Trailer", "x-check").chunked(&["body"]).trailer("x-check", &sum)
    });
    let h2 = H2Origin::start();
    let to_h1 = before_h1(&h1);
    let reply = h2peer::run(async {
        let client = h2peer::connect(to_h1.inbound()).await;
        h2peer::call(&client, h2peer::request("POST", "/", &[("te", "trailers")]), b"x", &[("x-sum", "9")])
            .await
            .expect("an answer")
    });
    assert_eq!((reply.text().as_str(), reply.trailer("x-check")), ("body", Some("9")));

    let to_h2 = before_h2(&h2);
    let mut client = Wire::connect(to_h2.inbound());
    let reply = client.exchange("GET /trailers HTTP/1.1\r\nHost: app\r\nTE: trailers\r\n\r\n");
    assert_eq!((reply.text().as_str(), reply.trailers.len()), ("body", 1));
    assert_eq!(client.get("/next").text(), "GET /next");
    let reply = h2peer::get(to_h2.inbound(), "/trailers");
    assert_eq!((reply.text().as_str(), reply.trailer("x-check")), ("body", Some("passed")));
}

#[test]
fn heads_are_translated() {
    let h2 = H2Origin::start();
    let to_h2 = before_h2(&h2);
    let mut client = Wire::connect(to_h2.inbound());
    let reply = client.exchange(
        "GET /a?b=c HTTP/1.1\r\nHost: shop.example:8080\r\nX-Upper: Kept\r\nConnection: x-gone\r\nX-Gone: 1\r\n\r\n",
    );
    assert_eq!((reply.status, reply.header("x-origin")), (200, Some("h2")));
    let got = h2.last();
    assert_eq!((got.authority.as_str(), got.path.as_str()), ("shop.example:8080", "/a?b=c"));
    assert_eq!((got.header("x-upper"), got.header("x-gone"), got.header("connection")), (Some("Kept"), None, None));
    assert_eq!(got.header("host"), None);

    let h1 = Origin::hello();
    let to_h1 = before_h1(&h1);
    let request = h2peer::request("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")]);
    h2peer::run(async {
        h2peer::call(&h2peer::connect(to_h1.inbound()).await, request, b"", &[]).await.expect("an answer")
    });
    // RFC 9113 8.2.3: crumbs are joined for HTTP/1.
    let cookies: Vec<_> = h1.last().headers.into_iter().filter(|(n, _)| n.eq_ignore_ascii_case("cookie")).collect();
    assert_eq!(cookies.len(), 1);
    assert_eq!(cookies[0].1, "a=1; b=2");
    assert_eq!(h1.last().header("host"), Some("app"));
}

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    h2peer::run(async {
        let client = h2peer::connect(proxy.inbound()).await;
        let mut waiting = client.clone().ready().await.expect("open");
        let (hanging, _stream) = waiting.send_request(h2peer::request("GET", "/hang", &[]), true).expect("open");
        for i in 0..50 {
            let reply = h2peer::call(&client, h2peer::request("GET", &format!("/{i}"), &[]), b"", &[]).await;
            assert_eq!(reply.expect("an answer").text(), format!("GET /{i}"));
        }
        drop(hanging);
    });
    assert!(origin.accepted() < 10, "{} upstream connections", origin.accepted());
}

#[test]
fn a_reset_reaches_the_origin_as_a_reset() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    h2peer::run(async {
        let mut client = h2peer::connect(proxy.inbound()).await;
        let (response, mut stream) = client.send_request(h2peer::request("POST", "/hang", &[]), false).expect("open");
        tokio::task::yield_now().await;
        while origin.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        // The connection goes on.
        let next = h2peer::call(&client, h2peer::request("GET", "/next", &[]), b"", &[]).await.expect("an answer");
        assert_eq!(next.status, 200);
    });
    let ended = eventually("the origin's stream ends", LONG, || origin.requests()[0].ended.clone());
    assert_eq!(ended, format!("reset {}", u32::from(h2::Reason::CANCEL)));
}

#[test]
fn an_http_1_client_that_leaves_resets_the_upstream_stream() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /hang HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("the origin has the request", LONG, || (!origin.requests().is_empty()).then_some(()));
    drop(client);
    eventually("the origin's stream ends", LONG, || origin.requests()[0].ended.clone());
}

#[test]
fn a_reset_of_the_origin_is_an_error_of_its_own() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let mut client = Wire::connect(proxy.inbound());
    let reply = client.get("/reset");
    assert_eq!(reply.status, 502);
    assert!(reply.header("proxy-status").is_some_and(|v| v.contains("error=")), "{:?}", reply.headers);
    assert_eq!(client.get("/after").text(), "GET /after");
    // Within the body it can only be cut.
    client.send("GET /cut HTTP/1.1\r\nHost: app\r\n\r\n");
    assert!(!client.reply().whole);
    let cut = h2peer::run(async {
        h2peer::call(&h2peer::connect(proxy.inbound()).await, h2peer::request("GET", "/cut", &[]), b"", &[]).await
    });
    assert!(cut.is_err(), "a cut answer looks whole");
}

#[test]
fn a_refused_stream_is_tried_again() {
    // RFC 9113 8.7: it was not processed, so any method may be repeated.
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let mut client = Wire::connect(proxy.inbound());
    let reply = client.exchange("POST /refuse-once HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((reply.status, reply.text().as_str()), (200, "POST /refuse-once"));
}

#[test]
fn goaway_of_the_origin_loses_nothing() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..20 {
        assert_eq!(client.get("/goaway").text(), "GET /goaway");
        assert_eq!(client.get("/x").text(), "GET /x");
    }
    assert!(origin.accepted() > 10);
}

#[test]
fn an_early_answer_ends_an_upload() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let reply = h2peer::run(async {
        let client = h2peer::connect(proxy.inbound()).await;
        h2peer::call(&client, h2peer::request("POST", "/early", &[]), &vec![b'x'; 1 << 20], &[])
            .await
            .expect("an answer")
    });
    assert_eq!((reply.status, reply.text().as_str()), (413, "early"));
}

#[test]
fn a_reader_that_stops_bounds_the_memory() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    h2peer::run(async {
        let mut client = h2peer::connect(proxy.inbound()).await;
        let (response, _) = client.send_request(h2peer::request("GET", "/big/1000000000", &[]), true).expect("open");
        let mut body = response.await.expect("a head").into_body();
        let first = body.data().await.expect("a frame").expect("a frame");
        assert!(!first.is_empty());
        // The window is not given back; another stream of the same connection still moves.
        let reply = h2peer::call(&client, h2peer::request("GET", "/other", &[]), b"", &[]).await.expect("an answer");
        assert_eq!(reply.status, 200);
    });
    assert!(process::peak_rss(proxy.pid()) < 64 << 20);
}

#[test]
fn an_origin_that_stops_reading_holds_up_the_client() {
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST /stuck HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000000\r\n\r\n");
    client.socket().set_write_timeout(Some(Duration::from_millis(300))).expect("a positive time");
    let block = vec![b'x'; 1 << 20];
    let sent = (0..200).take_while(|_| client.try_send(&block).is_ok()).count();
    assert!(sent < 100, "{sent} MiB are nowhere");
    assert!(process::peak_rss(proxy.pid()) < 64 << 20);
}

#[test]
fn a_large_body_streams_over_http_2() {
    const SIZE: usize = 64 << 20;
    let origin = H2Origin::start();
    let proxy = before_h2(&origin);
    h2peer::run(async {
        let mut client = h2peer::connect(proxy.inbound()).await;
        let (response, mut stream) = client.send_request(h2peer::request("POST", "/sink", &[]), false).expect("open");
        let block = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..SIZE >> 20 {
            h2peer::send(&mut stream, block.clone(), false).await.expect("a window");
        }
        h2peer::send(&mut stream, Bytes::new(), true).await.expect("a window");
        let reply = h2peer::read(response.await.expect("a head")).await.expect("a body");
        assert_eq!(reply.text(), SIZE.to_string());
    });
    let mut client = Wire::connect(proxy.inbound());
    client.send(format!("GET /big/{SIZE} HTTP/1.1\r\nHost: app\r\n\r\n"));
    assert_eq!(client.reply().body.len(), SIZE);
    assert!(process::peak_rss(proxy.pid()) < 64 << 20);
}

#[test]
fn malformed_requests_are_reset_and_never_forwarded() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let valid = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")];
    let with = |more: &[(&'static str, &'static str)]| [&valid[..], more].concat();
    let without = |name: &str| valid.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let table = [
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "1")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("upper case", with(&[("X-Upper", "1")])),
        ("CR LF in a value", with(&[("x-a", "1\r\nx-b: 2")])),
        ("LF in a value", with(&[("x-a", "1\n2")])),
        ("NUL in a value", with(&[("x-a", "1\x002")])),
        ("a space in a name", with(&[("x a", "1")])),
        ("a colon in a name", with(&[("x:a", "1")])),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("two paths", with(&[(":path", "/b")])),
        ("an unknown pseudo-header", with(&[(":x", "1")])),
        ("a response pseudo-header", with(&[(":status", "200")])),
        ("a late pseudo-header", vec![valid[0], valid[1], valid[2], ("x", "1"), valid[3]]),
        ("an empty path", [&without(":path")[..], &[(":path", "")]].concat()),
        ("a path that is none", [&without(":path")[..], &[(":path", "x y")]].concat()),
        ("a host other than the authority", with(&[("host", "evil")])),
        ("content-length that lies", with(&[("content-length", "10")])),
        ("a bad content-length", with(&[("content-length", "x")])),
    ];
    let mut wrong = Vec::new();
    for (name, fields) in table {
        let mut client = Frames::connect(proxy.inbound());
        client.send(kind::HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(&fields)).expect("open");
        let end = client.find(|f| f.error().is_some() || (f.kind == kind::HEADERS && f.stream == 1));
        let refused = match &end {
            Some(frame) if frame.kind == kind::HEADERS => {
                outrigger_tests::frames::status_of(frame).is_some_and(|s| s == 400)
            }
            Some(frame) => frame.error() != Some(NO_ERROR),
            None => true,
        };
        if !refused {
            wrong.push(format!("{name}: {end:?}"));
        }
    }
    let reached: Vec<_> = origin.requests().into_iter().map(|r| r.headers).collect();
    assert!(wrong.is_empty() && reached.is_empty(), "{wrong:#?}\nreached the origin: {reached:#?}");
}

#[test]
fn too_many_header_fields_or_bytes_are_answered_431() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let many: Vec<_> = (0..120).map(|_| ("x-a", "1")).collect();
    let crumbs: Vec<_> = (0..120).map(|_| ("cookie", "a=1")).collect();
    for fields in [many, crumbs] {
        let mut client = Frames::connect(proxy.inbound());
        client.get(1, &fields).expect("open");
        let end = client.find(|f| f.error().is_some() || (f.kind == kind::HEADERS && f.stream == 1)).expect("an end");
        let refused = end.error().is_some() || frames::status_of(&end) == Some(431);
        assert!(refused, "{end:?}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_continuation_flood_ends_the_connection() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let mut client = Frames::connect(proxy.inbound());
    let begin = frames::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")]);
    client.send(kind::HEADERS, END_STREAM, 1, &begin).expect("open");
    let filler = "y".repeat(8000);
    let part = frames::block(&[("x-a", &filler)]);
    let ended = (0..10_000).any(|_| client.send(kind::CONTINUATION, 0, 1, &part).is_err());
    assert!(ended, "80 MB of header block are taken");
    assert!(process::peak_rss(proxy.pid()) < 64 << 20);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200);
}

#[test]
fn empty_continuations_end_the_connection() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let mut client = Frames::connect(proxy.inbound());
    client.send(kind::HEADERS, END_STREAM, 1, &frames::block(&[(":method", "GET")])).expect("open");
    let ended = (0..200_000).any(|_| client.send(kind::CONTINUATION, 0, 1, &[]).is_err());
    assert!(ended, "empty CONTINUATION frames are taken for ever");
}

#[test]
fn rapid_resets_end_the_connection() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let mut client = Frames::connect(proxy.inbound());
    let mut sent = 0;
    for i in 0..20_000u32 {
        let stream = i * 2 + 1;
        let reset =
            client.get(stream, &[]).and_then(|()| client.send(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        if reset.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 20_000, "20,000 rapid resets are taken");
    assert!(origin.requests().len() < 2000);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let origin = H2Origin::start();
    let listener = config::inbound("limits: { maxStreams: 5 }");
    let upstream = format!("protocol: http2, endpoints: [{{ address: \"{}\" }}]", origin.address());
    let proxy = Proxy::start(&(config::proxy(&[&listener]) + &config::upstream_with("app", &upstream)));
    let mut client = Frames::connect(proxy.inbound());
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/hang"), (":authority", "app")];
    for i in 0..6u32 {
        client.send(kind::HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, &frames::block(&fields)).expect("open");
    }
    let refused = client.find(|f| f.error().is_some()).expect("a refusal");
    // RFC 9113 5.1.2: PROTOCOL_ERROR or REFUSED_STREAM.
    assert!(matches!(refused.error(), Some(PROTOCOL_ERROR | 7)), "{refused:?}");
    eventually("the others are forwarded", LONG, || (origin.requests().len() == 5).then_some(()));
}

#[test]
fn garbage_after_the_preface_ends_the_connection() {
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let mut client = Frames::connect(proxy.inbound());
    client.raw(&[0xff; 64]).expect("open");
    assert_ne!(client.refusal(), Some(NO_ERROR));
    let mut client = Frames::connect(proxy.inbound());
    // WINDOW_UPDATE of zero on the connection.
    client.send(kind::WINDOW_UPDATE, 0, 0, &[0; 4]).expect("open");
    assert_eq!(client.refusal(), Some(PROTOCOL_ERROR));
}

#[test]
fn h2spec_passes() {
    let Some(h2spec) = peers::h2spec("h2spec_passes") else { return };
    let origin = Origin::hello();
    let proxy = before_h1(&origin);
    let mut child = Command::new(h2spec)
        .args(["--strict", "-h", "127.0.0.1", "-o", "2", "-p", &proxy.inbound().port().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("h2spec runs");
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    child.wait().expect("a child");
    let summary = text.lines().rev().find(|line| line.contains(" passed")).expect("a summary");
    let passed = summary.split(", ").find_map(|part| part.strip_suffix(" passed")?.parse::<u32>().ok()).unwrap_or(0);
    let failures: Vec<_> = text
        .lines()
        .filter(|line| line.contains('×'))
        .filter_map(|line| line.rsplit('\r').next())
        .map(str::trim)
        .collect();
    println!("{summary}\n{failures:#?}");
    assert!(passed >= 140, "{summary}\n{failures:#?}");
}
