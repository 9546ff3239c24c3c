use std::{rc::Rc, sync::Arc, time::Duration};

use http::Method;
use outrigger_config::model::Direction;
use proptest::prelude::*;

use super::{render::Exposition, *};
use crate::{
    error::{Failure, Reason},
    http::Version,
};

/// A record of an ordinary request.
pub(crate) fn record(method: &Method) -> Record<'_> {
    let began = tokio::time::Instant::now();
    Record {
        listener: "inbound",
        rule: "main",
        method,
        authority: "shop.test",
        target: "/orders?id=1",
        version: Version::Http11,
        status: 200,
        grpc_status: None,
        failure: None,
        request_id: b"0190-abc",
        trace: None,
        peer_address: "127.0.0.1:5000".parse().unwrap(),
        peer_identity: None,
        endpoint: Some("127.0.0.1:3000".parse().unwrap()),
        attempts: 1,
        duration: Duration::from_millis(12),
        first_byte: Some([began, began + Duration::from_millis(11)]),
        request_bytes: 0,
        response_bytes: 5,
        user_agent: Some(b"curl/8"),
        access: AccessNote::default(),
        notes: &[],
    }
}

fn text(observer: &Observer) -> String {
    String::from_utf8(Exposition::Text.render(&observer.gather(None))).unwrap()
}

fn handle(worker: &Rc<WorkerObserver>, upstream: &str, route: &str) -> Rc<RouteObserver> {
    worker.route(Direction::Inbound, &upstream.into(), &route.into())
}

#[test]
fn one_event_is_one_count_and_one_duration() {
    let observer = Observer::new(2);
    let (first, second) = (observer.worker(0), observer.worker(1));
    handle(&first, "orders", "main").finish(&record(&Method::GET));
    handle(&second, "orders", "main").finish(&record(&Method::GET));
    // A reload makes new handles of the same labels.
    handle(&first, "orders", "main").finish(&record(&Method::GET));
    let text = text(&observer);
    assert!(text.contains(
        "outrigger_requests_total{direction=\"inbound\",upstream=\"orders\",route=\"main\",method=\"GET\",status=\"200\",\
         grpc_status=\"\",reason=\"\",peer=\"\"} 3\n"
    ));
    let labels = "direction=\"inbound\",upstream=\"orders\",route=\"main\",status_class=\"2xx\"";
    assert!(text.contains(&format!("outrigger_request_duration_seconds_bucket{{{labels},le=\"0.01\"}} 0\n")));
    assert!(text.contains(&format!("outrigger_request_duration_seconds_bucket{{{labels},le=\"0.025\"}} 3\n")));
    assert!(text.contains(&format!("outrigger_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 3\n")));
    assert!(text.contains(&format!("outrigger_request_duration_seconds_sum{{{labels}}} 0.036\n")));
    assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"));
}

#[test]
fn labels_say_what_happened_and_nothing_that_a_caller_chose() {
    let observer = Observer::new(1);
    let worker = observer.worker(0);
    let route = handle(&worker, "orders", "");
    let made_up = Method::from_bytes(b"FROBNICATE").unwrap();
    let failure = Failure::new(Reason::ConnectionRefused, "refused");
    let peer: Arc<str> = "spiffe://cluster.local/ns/shop/sa/web".into();
    let mut r = record(&made_up);
    (r.status, r.failure, r.grpc_status, r.peer_identity) = (502, Some(&failure), Some(14), Some(&peer));
    route.finish(&r);
    // The same identity from another connection.
    let again: Arc<str> = "spiffe://cluster.local/ns/shop/sa/web".into();
    r.peer_identity = Some(&again);
    route.finish(&r);
    r.grpc_status = Some(200);
    r.status = 0;
    route.finish(&r);
    let text = text(&observer);
    let peer = "peer=\"spiffe://cluster.local/ns/shop/sa/web\"";
    assert!(text.contains(&format!(
        "method=\"_OTHER\",status=\"502\",grpc_status=\"14\",reason=\"connection_refused\",{peer}}} 2\n"
    )));
    assert!(text.contains(&format!(
        "method=\"_OTHER\",status=\"0\",grpc_status=\"other\",reason=\"connection_refused\",{peer}}} 1\n"
    )));
    assert!(!text.contains("FROBNICATE"));
}

#[test]
fn a_peer_that_makes_things_up_finds_bounds() {
    let observer = Observer::new(1);
    let worker = observer.worker(0);
    let route = handle(&worker, "orders", "main");
    let total = 6_000_u32;
    for i in 0..total {
        let peer: Arc<str> = format!("spiffe://cluster.local/ns/n{}/sa/s", i % 3_000).into();
        let mut r = record(&Method::GET);
        r.status = 200 + u16::try_from(i % 700).unwrap();
        r.peer_identity = Some(&peer);
        route.finish(&r);
    }
    let text = text(&observer);
    let lines: Vec<_> = text.lines().filter(|l| l.starts_with("outrigger_requests_total{")).collect();
    assert!(lines.len() <= SERIES_LIMIT, "{}", lines.len());
    let sum: u32 = lines.iter().map(|l| l.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap()).sum();
    assert_eq!(sum, total);
    assert!(lines.iter().any(|l| l.contains("direction=\"inbound\",upstream=\"other\",route=\"other\"")));
    assert!(text.contains("outrigger_series_folded_total{family=\"outrigger_requests_total\"}"));
    assert!(text.lines().filter(|l| l.starts_with("outrigger_request_duration_seconds_")).count() <= SERIES_LIMIT);
}

#[test]
fn upstreams_and_connections_are_counted() {
    let observer = Observer::new(1);
    let worker = observer.worker(0);
    let upstream = worker.upstream(&"orders".into());
    upstream.attempt(Outcome::Success);
    upstream.attempt(Outcome::ReusedClosed);
    upstream.retry(RetryResult::Sent);
    upstream.rejected(Reason::LimitReached);
    let connections = worker.connections(Direction::Inbound, Side::Downstream, false);
    connections.opened();
    connections.opened();
    connections.closed();
    connections.read(100);
    connections.written(7);
    worker.correlation(true);
    worker.attributed(AttributedBy::Header);
    worker.detected("http1");
    worker.observed("policy", "retry").add(2);
    observer.reloaded(false);
    observer.set_control_plane(Some(true));
    let breaker = observer.circuit(&"orders".into(), "upstream");
    breaker.set(CircuitState::Open);
    let text = text(&observer);
    for line in [
        "outrigger_attempts_total{upstream=\"orders\",outcome=\"success\"} 1",
        "outrigger_attempts_total{upstream=\"orders\",outcome=\"timeout\"} 0",
        "outrigger_reused_connection_closed_total{upstream=\"orders\"} 1",
        "outrigger_retries_total{upstream=\"orders\",result=\"sent\"} 1",
        "outrigger_rejected_total{upstream=\"orders\",reason=\"limit_reached\"} 1",
        "outrigger_connections{direction=\"inbound\",side=\"downstream\",tls=\"false\"} 1",
        "outrigger_connections_total{direction=\"inbound\",side=\"downstream\",tls=\"false\"} 2",
        "outrigger_bytes_total{direction=\"inbound\",side=\"downstream\",flow=\"read\"} 100",
        "outrigger_bytes_total{direction=\"inbound\",side=\"downstream\",flow=\"written\"} 7",
        "outrigger_correlation_total{source=\"kept\"} 1",
        "outrigger_correlation_total{source=\"generated\"} 0",
        "outrigger_attributed_total{source=\"header\"} 1",
        "outrigger_detected_total{protocol=\"http1\"} 1",
        "outrigger_observed_total{policy=\"policy\",action=\"retry\"} 2",
        "outrigger_config_reloads_total{result=\"failure\"} 1",
        "outrigger_control_plane_connected 1",
        "outrigger_circuit_state{scope=\"upstream\",upstream=\"orders\"} 2",
        "outrigger_circuit_transitions_total{upstream=\"orders\",to=\"open\"} 1",
        "outrigger_accesslog_dropped_total 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
    assert!(!text.contains("connections_closed"));
    assert!(!text.contains("identity_expiry"));
}

#[test]
fn openmetrics_is_told_apart() {
    let observer = Observer::new(1);
    let worker = observer.worker(0);
    handle(&worker, "a\"b\\c\nd", "r").finish(&record(&Method::GET));
    let text = String::from_utf8(Exposition::OpenMetrics.render(&observer.gather(None))).unwrap();
    assert!(text.contains("# TYPE outrigger_requests counter\n"));
    assert!(text.contains("outrigger_requests_total{direction=\"inbound\",upstream=\"a\\\"b\\\\c\\nd\","));
    assert!(text.contains("# TYPE outrigger_build info\n"));
    drop(worker.connections(Direction::Inbound, Side::Downstream, true));
    let text = String::from_utf8(Exposition::OpenMetrics.render(&observer.gather(None))).unwrap();
    assert!(text.contains("# TYPE outrigger_connections gauge\n"));
    assert!(text.contains("# TYPE outrigger_connections_total unknown\n"));
    assert!(text.contains("\noutrigger_connections_total{direction=\"inbound\","));
    let mut families: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
    families.sort_unstable();
    let all = families.len();
    families.dedup_by_key(|f| f.split(' ').next());
    assert_eq!(families.len(), all);
    assert!(text.contains("outrigger_build_info{version="));
    assert!(text.contains("le=\"1.0\"}"));
    assert!(text.ends_with("\n# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn accept_is_understood() {
    use Exposition::{OpenMetrics, Text};
    for (accept, expected) in [
        ("", Text),
        ("*/*", Text),
        ("text/plain", Text),
        ("application/openmetrics-text", OpenMetrics),
        ("application/openmetrics-text; version=1.0.0; q=0.5, text/plain;q=0.4", OpenMetrics),
        ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.9", Text),
        ("application/openmetrics-text;version=2.0.0", Text),
        ("application/openmetrics-text;q=0", Text),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OpenMetrics,
        ),
    ] {
        assert_eq!(Exposition::negotiate(accept), expected, "{accept}");
    }
}

proptest! {
    /// Every sample line of the text has the shape `name{labels} float`, whatever an upstream is called.
    #[test]
    fn names_do_not_break_the_text(upstream in "\\PC{0,12}[\"\\\\\n]{0,3}", status in 0_u16..1200, grpc in proptest::option::of(any::<u8>())) {
        let observer = Observer::new(1);
        let mut r = record(&Method::GET);
        (r.status, r.grpc_status) = (status, grpc);
        handle(&observer.worker(0), &upstream, "r").finish(&r);
        for line in text(&observer).split('\n').filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            prop_assert!(value.parse::<f64>().is_ok(), "{line}");
            prop_assert!(name.starts_with("outrigger_") || name.starts_with("process_"), "{line}");
            prop_assert!(!name.contains('{') || name.ends_with("\"}"), "{line}");
        }
        prop_assert!(Exposition::OpenMetrics.render(&observer.gather(None)).ends_with(b"# EOF\n"));
    }
}
