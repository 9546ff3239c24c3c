use std::{path::Path, rc::Rc, sync::Arc, time::Duration};

use http::Method;
use outrigger_config::model::{AccessLog as Settings, Direction, LogFormat};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    error::{Failure, Reason},
    http::Headers,
    observe::{AccessNote, Observer, WorkerObserver, tests::record},
    trace_context::TraceContext,
};

fn settings(path: &Path, format: LogFormat, sample: f64) -> Settings {
    Settings { format, path: path.into(), sample }
}

fn route(worker: &Rc<WorkerObserver>) -> Rc<RouteObserver> {
    worker.route(Direction::Inbound, &"orders".into(), &"main".into())
}

/// Settings, what happens, and the lines that are in the file when the log is closed.
fn lines(format: LogFormat, sample: f64, act: impl FnOnce(&RouteObserver)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let observer = Observer::new(1);
    observer.set_access_log(Some(&settings(&path, format, sample)));
    act(&route(&observer.worker(0)));
    observer.close(Duration::from_secs(10));
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_json_line_says_everything() {
    let failure = Failure::new(Reason::ConnectionTimeout, "no \"answer\" in 1s");
    let peer: Arc<str> = "spiffe://cluster.local/ns/shop/sa/web".into();
    let mut headers = Headers::new();
    headers.append(b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let trace = TraceContext::from_headers(&headers);
    let lines = lines(LogFormat::Json, 1.0, |route| {
        let mut r = record(&Method::POST);
        (r.status, r.failure, r.peer_identity) = (504, Some(&failure), Some(&peer));
        (r.user_agent, r.trace) = (Some(&b"a\xffb\n"[..]), trace.as_ref());
        r.notes = &[("access_policy", "payments")];
        route.finish(&r);
    });
    assert_eq!(lines.len(), 1);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    for (key, value) in [
        ("direction", Value::from("inbound")),
        ("listener", "inbound".into()),
        ("upstream", "orders".into()),
        ("route", "main".into()),
        ("rule", "main".into()),
        ("method", "POST".into()),
        ("authority", "shop.test".into()),
        ("path", "/orders?id=1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 504.into()),
        ("reason", "connection_timeout".into()),
        ("details", "no \"answer\" in 1s".into()),
        ("request_id", "0190-abc".into()),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ("peer_address", "127.0.0.1:5000".into()),
        ("peer", (&*peer).into()),
        ("endpoint", "127.0.0.1:3000".into()),
        ("attempts", 1.into()),
        ("duration_ms", 12.0.into()),
        ("first_byte_ms", 11.0.into()),
        ("response_bytes", 5.into()),
        ("user_agent", "a\u{fffd}b\n".into()),
        ("access_policy", "payments".into()),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(line["time"].as_str().unwrap().len(), 24);
}

#[test]
fn a_text_line_keeps_to_its_line() {
    let lines = lines(LogFormat::Text, 1.0, |route| {
        let mut r = record(&Method::GET);
        r.user_agent = Some(b"x y=\"1\"\x1b[31m\n");
        route.finish(&r);
    });
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains(" method=GET authority=shop.test path=\"/orders?id=1\" protocol=HTTP/1.1 status=200 "));
    assert!(lines[0].ends_with(r#"user_agent="x y=\"1\"\u001b[31m\n""#), "{}", lines[0]);
}

#[test]
fn what_access_decided_is_in_the_line_of_a_request_and_of_a_connection() {
    let denied = Failure::new(Reason::AccessDenied, "no");
    let access = AccessNote { verdict: "deny", policy: "guard", rule: Some(3), observed: "watch" };
    for format in [LogFormat::Json, LogFormat::Text] {
        let lines = lines(format, 0.0, |route| {
            let mut r = record(&Method::GET);
            (r.access, r.failure) = (access, Some(&denied));
            route.finish(&r);
            r.rule = "";
            route.finish(&r);
            let mut connection = ConnectionRecord {
                listener: "inbound",
                failure: Some(&denied),
                access,
                peer_address: r.peer_address,
                peer_identity: None,
                endpoint: None,
                duration: Duration::from_millis(7),
                request_bytes: 1,
                response_bytes: 2,
            };
            route.connection_ended(&connection);
            // One that ends in order is one of those that are sampled: here none.
            connection.failure = None;
            route.connection_ended(&connection);
        });
        assert_eq!(lines.len(), 3);
        if format == LogFormat::Text {
            assert!(lines[0].contains(" rule=main ") && lines[0].contains(" access_rule=3 "), "{}", lines[0]);
            let line = " protocol=tcp reason=access_denied details=no access=deny policy=guard rule=3 observed=watch ";
            assert!(lines[2].contains(line), "{}", lines[2]);
            continue;
        }
        let lines: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        for line in &lines {
            assert_eq!(
                (&line["access"], &line["policy"], &line["observed"]),
                (&"deny".into(), &"guard".into(), &"watch".into())
            );
        }
        assert_eq!((&lines[0]["rule"], &lines[0]["access_rule"]), (&"main".into(), &3.into()));
        assert_eq!((&lines[1]["rule"], &lines[2]["rule"]), (&3.into(), &3.into()));
        assert_eq!(
            (&lines[2]["request_bytes"], &lines[2]["response_bytes"], &lines[2]["duration_ms"]),
            (&1.into(), &2.into(), &7.0.into())
        );
    }
}

#[test]
fn errors_are_logged_whatever_is_sampled() {
    let lines = lines(LogFormat::Json, 0.0, |route| {
        let failure = Failure::new(Reason::AccessDenied, "denied");
        route.finish(&record(&Method::GET));
        let mut r = record(&Method::GET);
        r.status = 500;
        route.finish(&r);
        (r.status, r.failure) = (403, Some(&failure));
        route.finish(&r);
        (r.status, r.failure) = (404, None);
        route.finish(&r);
    });
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_log_that_cannot_be_written_drops_and_counts() {
    let observer = Observer::new(1);
    observer.set_access_log(Some(&settings(Path::new("/proc/no/such/file"), LogFormat::Json, 1.0)));
    let worker = observer.worker(0);
    for _ in 0..5 {
        route(&worker).finish(&record(&Method::GET));
    }
    observer.close(Duration::from_secs(10));
    assert_eq!(observer.log.written_off.value(), 5);
}

#[test]
fn a_full_buffer_drops_and_counts() {
    let dropped: Arc<Counter> = Arc::default();
    let log = AccessLog::new(vec![Arc::clone(&dropped)], Arc::default());
    let line = [b'x'; 1000];
    for _ in 0..BUFFER_LIMIT / line.len() + 10 {
        log.append(0, &line);
    }
    assert!(log.buffer(0).len() <= BUFFER_LIMIT);
    assert_eq!(dropped.value(), 10);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    let observer = Observer::new(1);
    // Opening it waits for a reader, which never comes.
    observer.set_access_log(Some(&settings(&path, LogFormat::Json, 1.0)));
    let (worker, began) = (observer.worker(0), tokio::time::Instant::now());
    let route = route(&worker);
    for _ in 0..10_000 {
        route.finish(&record(&Method::GET));
    }
    observer.close(Duration::from_millis(10));
    assert!(began.elapsed() < Duration::from_secs(30));
    let text = String::from_utf8(crate::observe::render::Exposition::Text.render(&observer.gather(None))).unwrap();
    let dropped = text.lines().find_map(|l| l.strip_prefix("outrigger_accesslog_dropped_total ")).unwrap();
    assert_ne!(dropped, "0");
}

#[test]
fn a_reload_opens_the_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let observer = Observer::new(1);
    let config = settings(&path, LogFormat::Text, 1.0);
    observer.set_access_log(Some(&config));
    let worker = observer.worker(0);
    route(&worker).finish(&record(&Method::GET));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&path).unwrap_or_default().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing was written");
        std::thread::yield_now();
    }
    std::fs::rename(&path, &rotated).unwrap();
    observer.set_access_log(Some(&config));
    route(&worker).finish(&record(&Method::DELETE));
    observer.close(Duration::from_secs(10));
    assert!(std::fs::read_to_string(&rotated).unwrap().contains("method=GET"));
    assert!(std::fs::read_to_string(&path).unwrap().contains("method=DELETE"));
}

#[test]
fn modes_survive_packing() {
    for (format, sample) in [(LogFormat::Json, 0.0), (LogFormat::Text, 0.25), (LogFormat::Json, 1.0)] {
        let mode = Mode::of(&settings(Path::new("x"), format, sample));
        assert_eq!(Mode::unpack(mode.pack()), mode);
    }
    assert_eq!(Mode::of(&settings(Path::new("x"), LogFormat::Json, 1.0)).sample, u32::MAX);
    assert!(!Mode::unpack(Mode::OFF.pack()).enabled);
}

#[test]
fn long_values_are_cut_at_a_character() {
    let value = "\u{20ac}".repeat(escape::VALUE_LIMIT);
    let mut out = Vec::new();
    escape::json(&mut out, value.as_bytes());
    let text: String = serde_json::from_slice(&out).unwrap();
    assert!(text.ends_with("\u{20ac}\u{2026}"));
    assert!(out.len() <= escape::VALUE_LIMIT + 8);
}

proptest! {
    #[test]
    fn json_strings_read_back(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        escape::json(&mut out, &value);
        let text: String = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(text, String::from_utf8_lossy(&value));
        prop_assert!(!out.iter().any(u8::is_ascii_control));
    }

    #[test]
    fn text_values_stay_one_word(value in "\\PC{0,20}[ =\"\n\r\u{1b}\u{85}]{0,4}") {
        let mut out = Vec::new();
        escape::text(&mut out, value.as_bytes());
        let quoted = out.first() == Some(&b'"');
        prop_assert!(quoted || !out.iter().any(|b| b" =\"\n".contains(b)));
        prop_assert!(!std::str::from_utf8(&out).unwrap().chars().any(char::is_control));
    }
}
