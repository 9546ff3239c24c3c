//! Section 3 of the contract: identifiers that tie calls together, and the time that is left for them.

use std::time::Duration;

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Wire, config, eventually,
    h2peer::{self, H2Origin},
    wire,
};
use tokio::time::Instant;

fn is_uuid_v7(id: &str) -> bool {
    let parts: Vec<_> = id.split('-').collect();
    let lengths: Vec<_> = parts.iter().map(|p| p.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts[2].starts_with('7') && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn ask(proxy: &Proxy, headers: &str) -> outrigger_tests::Reply {
    wire::once(proxy.inbound(), &format!("GET / HTTP/1.1\r\nHost: app\r\n{headers}\r\n"))
}

#[test]
fn an_identifier_is_kept_set_on_both_headers_and_echoed() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for (sent, want) in [
        ("X-Request-Id: abc-1\r\n", "abc-1"),
        ("X-Correlation-Id: abc-2\r\n", "abc-2"),
        ("X-Correlation-Id: abc-3\r\nX-Request-Id: abc-4\r\n", "abc-4"),
    ] {
        let reply = ask(&proxy, sent);
        let got = origin.last();
        for name in ["x-request-id", "x-correlation-id"] {
            assert_eq!(got.header(name), Some(want), "{sent:?} {name} of the request");
            assert_eq!(reply.header(name), Some(want), "{sent:?} {name} of the response");
            assert_eq!(got.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count(), 1);
        }
        proxy.wait_log("its line", |entry| entry["request_id"] == want);
    }
    proxy.wait_metric("correlation_total", &[("source", "kept")], |n| n == 3.0);
}

#[test]
fn without_one_a_new_uuid_v7_is_made() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = ask(&proxy, "");
    let id = reply.header("x-request-id").expect("an identifier").to_owned();
    assert!(is_uuid_v7(&id), "{id}");
    assert_eq!(origin.last().header("x-correlation-id"), Some(&*id));
    assert_ne!(ask(&proxy, "").header("x-request-id"), Some(&*id));
    proxy.wait_metric("correlation_total", &[("source", "generated")], |n| n == 2.0);
}

#[test]
fn what_is_no_identifier_is_replaced() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for bad in [&"a".repeat(200), "a b", "<script>", "a\"b", ""] {
        let reply = ask(&proxy, &format!("X-Request-Id: {bad}\r\n"));
        assert!(reply.header("x-request-id").is_some_and(is_uuid_v7), "{bad:?}");
        assert!(origin.last().header("x-request-id").is_some_and(is_uuid_v7), "{bad:?}");
    }
}

#[test]
fn an_answer_of_the_origin_cannot_change_it() {
    let origin = Origin::start(|_| Response::text("ok").header("X-Request-Id", "forged"));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let reply = ask(&proxy, "X-Request-Id: mine\r\n");
    let all: Vec<_> = reply.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("x-request-id")).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1, "mine");
}

#[test]
fn configured_headers_replace_the_default_ones() {
    let origin = Origin::hello();
    let mesh = config::document(
        "outrigger.dev/v1alpha1",
        "MeshPolicy",
        "default",
        "{ correlation: { headers: [x-trace-me] } }",
    );
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &mesh));
    let reply = ask(&proxy, "X-Trace-Me: t-1\r\n");
    assert_eq!((reply.header("x-trace-me"), origin.last().header("x-trace-me")), (Some("t-1"), Some("t-1")));
}

#[test]
fn a_trace_is_joined_or_started() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    ask(&proxy, &format!("traceparent: {parent}\r\ntracestate: a=1,b=2\r\n"));
    let got = origin.last();
    let joined = got.header("traceparent").expect("a parent").to_owned();
    assert_eq!(&joined[..36], &parent[..36]);
    assert_eq!(&joined[52..], "-01");
    assert!(got.header("tracestate").is_some_and(|s| s.ends_with("a=1,b=2")));
    assert_eq!(joined.len(), 55);

    ask(&proxy, "");
    let started = origin.last().header("traceparent").expect("a trace is started").to_owned();
    assert!(started.starts_with("00-") && started.len() == 55 && !started.contains("0af7651916cd43dd"), "{started}");
}

#[test]
fn an_invalid_trace_is_restarted() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for bad in [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "nonsense",
    ] {
        ask(&proxy, &format!("traceparent: {bad}\r\ntracestate: a=1\r\n"));
        let got = origin.last();
        let parent = got.header("traceparent").expect("a parent");
        assert!(parent.len() == 55 && parent != bad && !parent.contains("0af7651916cd43dd"), "{bad}: {parent}");
        assert!(got.header("tracestate").is_none_or(|s| !s.contains("a=1")), "{bad}");
    }
}

#[test]
fn b3_is_understood() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    ask(&proxy, "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1\r\n");
    let got = origin.last();
    let parent = got.header("traceparent").unwrap_or_default().to_owned() + got.header("b3").unwrap_or_default();
    assert!(parent.contains("80f198ee56343ba864fe8b2a57d3eff7"), "{:?}", got.headers);
    ask(
        &proxy,
        "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff8\r\nX-B3-SpanId: e457b5a2e4d86bd1\r\nX-B3-Sampled: 1\r\n",
    );
    let got = origin.last();
    assert!(got.headers.iter().any(|(_, v)| v.contains("80f198ee56343ba864fe8b2a57d3eff8")), "{:?}", got.headers);
}

#[test]
fn the_time_left_is_passed_on() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { request: 3s }"));
    let left = |headers: &str| -> u64 {
        assert_eq!(ask(&proxy, headers).status, 200);
        origin.last().header("x-outrigger-timeout-ms").expect("a time").parse().expect("milliseconds")
    };
    assert!((2000..=3000).contains(&left("")));
    assert!((1..=1500).contains(&left("x-outrigger-timeout-ms: 1500\r\n")));
    // A caller can only shorten.
    assert!((2000..=3000).contains(&left("x-outrigger-timeout-ms: 60000\r\n")));
    assert!((2000..=3000).contains(&left("x-outrigger-timeout-ms: soon\r\n")));
}

#[test]
fn the_callers_time_counts_without_a_policy() {
    let origin = Origin::scripted(|wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            drop(wire.rest());
        }
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let start = Instant::now();
    let reply = ask(&proxy, "x-outrigger-timeout-ms: 150\r\n");
    assert_eq!(reply.status, 504);
    assert!(start.elapsed() < Duration::from_secs(5));
    let error = reply.json()["error"].clone();
    assert!(error == "budget_exhausted" || error == "http_response_timeout", "{error}");
}

#[test]
fn a_silent_origin_is_504_in_time() {
    let origin = Origin::scripted(|wire, _, _| {
        drop(wire.request());
        drop(wire.rest());
    });
    for policy in ["timeouts: { request: 200ms }", "timeouts: { backendRequest: 200ms }"] {
        let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
        let start = Instant::now();
        let reply = ask(&proxy, "");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (504, Some("http_response_timeout")), "{policy}");
        assert!((Duration::from_millis(150)..Duration::from_secs(3)).contains(&start.elapsed()), "{policy}");
        eventually("the attempt is cancelled", LONG, || (origin.open() == 0).then_some(()));
    }
}

#[test]
fn the_request_timeout_covers_the_body() {
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
            drop(wire.rest());
        }
    });
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { request: 300ms }"));
    let mut client = Wire::connect(proxy.inbound());
    let start = Instant::now();
    let reply = client.get("/");
    assert!(!reply.whole && reply.text() == "part");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_idle_stream_ends() {
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
            drop(wire.rest());
        }
    });
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { idle: 300ms }"));
    let reply = Wire::connect(proxy.inbound()).get("/");
    assert!(!reply.whole);
    proxy.wait_metric("requests_total", &[("reason", "connection_read_timeout")], |n| n == 1.0);
}

#[test]
fn a_stream_has_no_total_timeout_by_default() {
    // Longer than any head would be waited for, in small steps: only the idle time counts.
    let origin = Origin::scripted(|wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..10 {
                wire.patience(Duration::from_millis(100));
                drop(std::io::Read::read(wire, &mut [0]));
                wire.send("1\r\nx\r\n");
            }
            wire.send("0\r\n\r\n");
        }
    });
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "timeouts: { idle: 500ms }"));
    let reply = Wire::connect(proxy.inbound()).get("/");
    assert!(reply.whole && reply.text() == "xxxxxxxxxx");
}

#[test]
fn grpc_gets_its_own_header() {
    let origin = H2Origin::start();
    let upstream = format!("protocol: grpc, endpoints: [{{ address: \"{}\" }}]", origin.address());
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_with("app", &upstream)
        + &config::policy("app", "timeouts: { request: 3s }");
    let proxy = Proxy::start(&yaml);
    let call = |headers: &[(&str, &str)]| {
        let base = [("content-type", "application/grpc"), ("te", "trailers")];
        let request = h2peer::request("POST", "/a.B/C", &[&base[..], headers].concat());
        h2peer::run(async {
            h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
        });
        let seen = origin.last();
        assert_eq!(seen.header("x-outrigger-timeout-ms"), None);
        assert_eq!(seen.header("te"), Some("trailers"));
        let text = seen.header("grpc-timeout").expect("a time").to_owned();
        let (number, unit) = text.split_at(text.len() - 1);
        let unit = match unit {
            "H" => 3600e3,
            "M" => 60e3,
            "S" => 1e3,
            "m" => 1.0,
            "u" => 1e-3,
            _ => 1e-6,
        };
        assert!(number.len() <= 8, "{text}");
        number.parse::<f64>().expect("digits") * unit
    };
    assert!((2000.0..=3000.0).contains(&call(&[])));
    assert!((1.0..=1000.0).contains(&call(&[("grpc-timeout", "1S")])));
    assert!((2000.0..=3000.0).contains(&call(&[("grpc-timeout", "1H")])));
}

#[test]
fn the_callers_certificate_header_is_stripped() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    ask(&proxy, "X-Forwarded-Client-Cert: By=spiffe://evil;Hash=00\r\nX-Outrigger-Attempt: 7\r\n");
    assert!(origin.last().header("x-forwarded-client-cert").is_none_or(|v| !v.contains("evil")));
}
