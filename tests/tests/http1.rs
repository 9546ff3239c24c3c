//! HTTP/1: what goes in comes out, whole or visibly broken, and connections are reused only when that is safe.

use std::{
    io::Read,
    net::Shutdown,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use outrigger_tests::{LONG, Origin, Proxy, Response, Wire, config, eventually, process, wire};

#[test]
fn a_connection_is_kept_alive_on_both_sides() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    for i in 0..20 {
        let reply = client.get(&format!("/{i}"));
        assert_eq!((reply.status, reply.text()), (200, format!("GET /{i}")));
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    let requests: String = (0..10).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: app\r\n\r\n")).collect();
    client.send(requests);
    for i in 0..10 {
        assert_eq!(client.reply().text(), format!("GET /{i}"));
    }
}

#[test]
fn a_pipelined_request_behind_a_body_is_found() {
    let origin = Origin::echo();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send(
        "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\none\
         POST /b HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n\
         GET /c HTTP/1.1\r\nHost: app\r\n\r\n",
    );
    assert_eq!(client.reply().text(), "one");
    assert_eq!(client.reply().text(), "two");
    assert_eq!(client.reply().text(), "");
}

#[test]
fn chunked_bodies_and_trailers_pass_both_ways() {
    let origin = Origin::start(|_| {
        Response::new(200).header("Trailer", "X-Sum").chunked(&["hello, ", "world"]).trailer("X-Sum", "12")
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = wire::once(
        proxy.inbound(),
        "POST /x HTTP/1.1\r\nHost: app\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nabcde\r\n1;ext=1\r\nf\r\n0\r\nX-Up: yes\r\n\r\n",
    );
    assert_eq!(reply.text(), "hello, world");
    assert_eq!(reply.trailers, [("X-Sum".to_owned(), "12".to_owned())]);
    let got = origin.last();
    assert_eq!(got.text(), "abcdef");
    assert_eq!(got.trailers, [("X-Up".to_owned(), "yes".to_owned())]);
}

#[test]
fn header_case_and_order_are_kept() {
    let origin =
        Origin::start(|_| Response::text("ok").header("X-MiXed", "1").header("x-lower", "2").header("X-MiXed", "3"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = wire::once(proxy.inbound(), "GET / HTTP/1.1\r\nHost: app\r\nX-FOO: a\r\nx-bar: b\r\nX-FOO: c\r\n\r\n");
    let names = |fields: &[(String, String)], keep: &[&str]| -> Vec<String> {
        fields.iter().filter(|(n, _)| keep.contains(&n.as_str())).map(|(n, v)| format!("{n}={v}")).collect()
    };
    assert_eq!(names(&reply.headers, &["X-MiXed", "x-lower"]), ["X-MiXed=1", "x-lower=2", "X-MiXed=3"]);
    assert_eq!(names(&origin.last().headers, &["X-FOO", "x-bar"]), ["X-FOO=a", "x-bar=b", "X-FOO=c"]);
}

#[test]
fn hop_by_hop_headers_are_dropped_both_ways() {
    let origin = Origin::start(|_| {
        Response::text("ok")
            .header("Connection", "x-private")
            .header("X-Private", "1")
            .header("Keep-Alive", "timeout=9")
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = wire::once(
        proxy.inbound(),
        "GET / HTTP/1.1\r\nHost: app\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!((reply.header("x-private"), reply.header("keep-alive")), (None, None));
    let got = origin.last();
    for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert!(got.header("te").is_none_or(|te| te == "trailers"));
}

#[test]
fn expect_100_continue_is_carried_through() {
    let origin = Origin::scripted(|wire, _, _| {
        let Ok(Some(mut head)) = wire.request_head() else { return };
        assert_eq!(head.header("expect"), Some("100-continue"));
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = wire.exactly(5);
        head.body = body;
        wire.send(Response::text(head.body).wire("POST"));
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(client.reply().text(), "hello");
}

#[test]
fn a_refused_expectation_needs_no_body() {
    let origin = Origin::scripted(|wire, _, _| {
        let Ok(Some(_)) = wire.request_head() else { return };
        wire.send(Response::new(417).closing().wire("POST"));
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.reply().status, 417);
}

#[test]
fn interim_answers_pass_through() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    let origin = Origin::scripted(move |wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            wire.send(format!("{hints}{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..2 {
        let reply = client.get("/");
        assert_eq!(reply.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [103, 103]);
        assert_eq!(reply.interim[0].1[0].1, "</a.css>; rel=preload");
        assert_eq!(reply.text(), "ok");
    }
}

#[test]
fn an_http_1_0_client_gets_no_interim_answers_and_no_chunks() {
    let origin = Origin::scripted(|wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n");
            wire.send(Response::new(200).chunked(&["a", "b"]).wire("GET"));
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    let reply = client.exchange("GET / HTTP/1.0\r\n\r\n");
    assert!(reply.interim.is_empty());
    assert_eq!((reply.status, reply.text().as_str()), (200, "ab"));
    assert_eq!(reply.header("transfer-encoding"), None);
    assert!(client.is_closed());
}

#[test]
fn an_http_1_0_client_may_keep_its_connection() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..2 {
        let reply = client.exchange("GET /k HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(reply.text(), "GET /k");
        assert!(reply.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("keep-alive")));
    }
    let last = client.exchange("GET /k HTTP/1.0\r\nHost: app\r\n\r\n");
    assert_eq!(last.text(), "GET /k");
    assert!(client.is_closed());
}

#[test]
fn an_http_1_0_origin_ends_its_body_by_closing() {
    let origin = Origin::start(|_| Response::bytes("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nuntil the end"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..2 {
        let reply = client.get("/");
        assert_eq!(reply.text(), "until the end");
        if reply.header("transfer-encoding").is_none() {
            return assert!(client.is_closed());
        }
    }
}

#[test]
fn answers_without_a_body_do_not_hold_up_the_next() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/204" => Response::new(204),
        "/304" => Response::new(304).header("ETag", "\"a\"").header("Content-Length", "7"),
        _ => Response::text("1234567"),
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    let head = client.exchange("HEAD /x HTTP/1.1\r\nHost: app\r\n\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
    let no_content = client.get("/204");
    assert_eq!((no_content.status, no_content.header("content-length")), (204, None));
    assert_eq!(no_content.header("transfer-encoding"), None);
    let not_modified = client.get("/304");
    assert_eq!((not_modified.status, not_modified.header("etag")), (304, Some("\"a\"")));
    assert_eq!(client.get("/x").text(), "1234567");
}

#[test]
fn the_absolute_form_names_the_host() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = wire::once(proxy.inbound(), "GET http://real.example:81/p?q=1 HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(reply.text(), "GET /p?q=1");
    assert_eq!(origin.last().header("host"), Some("real.example:81"));
}

#[test]
fn options_star_passes() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    assert_eq!(wire::once(proxy.inbound(), "OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n").text(), "OPTIONS *");
}

#[test]
fn an_early_answer_arrives_while_the_request_is_being_sent() {
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request_head() {
            wire.send(Response::new(413).body("too much").closing().wire("POST"));
            wire.finish();
            wire.patience(Duration::from_secs(2));
            let mut sink = [0; 65536];
            while wire.read(&mut sink).is_ok_and(|n| n > 0) {}
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (413, "too much"));
    // The rest of the body can neither be skipped for sure nor become a request.
    client.try_send("GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n").ok();
    client.finish();
    assert!(client.try_reply("GET").is_err());
    assert!(origin.requests().iter().all(|r| r.target != "/smuggled"));
}

#[test]
fn a_client_that_leaves_cancels_the_upstream_exchange() {
    let left = Arc::new((Mutex::new(false), Condvar::new()));
    let noticed = Arc::clone(&left);
    let origin = Origin::scripted(move |wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            let closed = matches!(wire.read(&mut [0]), Ok(0) | Err(_));
            *noticed.0.lock().expect("no panic") = closed;
            noticed.1.notify_all();
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /slow HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("the origin has the request", LONG, || (origin.requests().len() == 1).then_some(()));
    client.socket().shutdown(Shutdown::Both).expect("connected");
    drop(client);
    let guard = left.0.lock().expect("no panic");
    // Well below the origin's own time limit.
    let (closed, _) = left.1.wait_timeout_while(guard, LONG / 2, |closed| !*closed).expect("no panic");
    assert!(*closed, "the origin's connection is still open");
}

#[test]
fn a_truncated_answer_does_not_look_whole() {
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npartial",
    ];
    for head in heads {
        let origin = Origin::start(move |_| Response::bytes(head));
        let proxy = Proxy::start(&config::sidecar(origin.address()));
        let mut client = Wire::connect(proxy.inbound());
        client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
        match client.try_reply("GET") {
            // Nothing was sent yet when it was noticed: then it is an error that says so.
            Ok(reply) if reply.whole => assert_eq!(reply.status, 502, "{head:?}"),
            Ok(reply) => assert_eq!((reply.status, reply.text().as_str()), (200, "partial"), "{head:?}"),
            Err(error) => panic!("{head:?}: {error}"),
        }
        proxy.wait_metric("requests_total", &[("reason", "http_response_incomplete")], |n| n == 1.0);
    }
}

#[test]
fn an_origin_that_closes_idle_connections_costs_no_request() {
    // Closes after each answer without saying so: every reuse is a race.
    let origin = Origin::scripted(|wire, connection, _| {
        for _ in 0..=connection % 3 {
            let Ok(Some(request)) = wire.request() else { return };
            if wire.try_send(Response::text(request.target.clone()).wire("GET")).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    for i in 0..300 {
        let reply = client.get(&format!("/{i}"));
        assert_eq!((reply.status, reply.text()), (200, format!("/{i}")));
    }
}

#[test]
fn a_post_is_not_sent_twice_when_the_origin_may_have_it() {
    // Reads the request and closes without an answer.
    let origin = Origin::scripted(|wire, _, recorder| {
        let Ok(Some(first)) = wire.request() else { return };
        recorder.record(&first);
        if first.target == "/warm" {
            wire.send(Response::text("warm").wire("GET"));
            if let Ok(Some(second)) = wire.request() {
                recorder.record(&second);
            }
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/warm").text(), "warm");
    let reply = client.exchange("POST /pay HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\n1");
    assert_eq!(reply.status, 502);
    assert_eq!(origin.requests().iter().filter(|r| r.target == "/pay").count(), 1);
}

#[test]
fn ipv6_serves_both_sides() {
    let listener = std::net::TcpListener::bind("[::1]:0").expect("IPv6 loopback");
    let origin = Origin::on(listener, |wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            wire.send(Response::text("six").wire("GET"));
        }
    });
    let listen = config::INBOUND.replace("127.0.0.1:0", "\"[::1]:0\"");
    let proxy = Proxy::start(&(config::proxy(&[&listen]) + &config::upstream("app", origin.address())));
    assert!(proxy.inbound().is_ipv6());
    assert_eq!(Wire::connect(proxy.inbound()).get("/").text(), "six");
}

#[test]
fn a_slow_reader_holds_up_the_origin_and_not_the_memory() {
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            let block = vec![b'x'; 1 << 20];
            wire.socket().set_write_timeout(Some(Duration::from_millis(300))).expect("a positive time");
            let mut sent = 0;
            while wire.try_send(&block).is_ok() {
                sent += 1;
                assert!(sent < 200, "the proxy takes everything");
            }
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    assert_eq!(client.head().status, 200);
    eventually("the origin is held up", LONG, || (origin.open() == 0).then_some(()));
    assert!(process::peak_rss(proxy.pid()) < 64 << 20);
}

#[test]
fn large_bodies_stream_both_ways_in_bounded_memory() {
    let size: u64 = if std::env::var_os("CI").is_some() { 1 << 30 } else { 128 << 20 };
    let origin = Origin::scripted(|wire, _, _| {
        let Ok(Some(head)) = wire.request_head() else { return };
        let size: u64 = head.header("content-length").expect("a length").parse().expect("a number");
        let read = std::io::copy(&mut wire.by_ref().take(size), &mut std::io::sink()).expect("the body");
        assert_eq!(read, size);
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
        let block = vec![b'y'; 1 << 18];
        for _ in 0..size >> 18 {
            wire.send(&block);
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send(format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {size}\r\n\r\n"));
    let block = vec![b'x'; 1 << 18];
    for _ in 0..size >> 18 {
        client.send(&block);
    }
    assert_eq!(client.head().status, 200);
    let read = std::io::copy(&mut client.by_ref().take(size), &mut std::io::sink()).expect("the body");
    assert_eq!(read, size);
    let peak = process::peak_rss(proxy.pid());
    assert!(peak < 64 << 20, "{peak} bytes resident");
}
