//! gRPC with `grpcio` on both sides: the four kinds of calls, deadlines, cancellation, errors.

use outrigger_tests::{Proxy, config, origin, peers};
use peers::Server;

/// A server, a proxy before it, and the interpreter for clients.
struct Rig {
    python: std::path::PathBuf,
    server: Server,
    proxy: Proxy,
}

impl Rig {
    fn new(scenario: &str, policy: &str) -> Option<Self> {
        let python = peers::python(scenario)?;
        let server = Server::start(&python, "grpc_server.py", &[]);
        let mut yaml = config::sidecar_protocol(server.address(), "grpc");
        if !policy.is_empty() {
            yaml += &config::policy("app", policy);
        }
        let proxy = Proxy::start(&yaml);
        Some(Self { python, server, proxy })
    }

    #[track_caller]
    fn client(&self, scenario: &str) -> String {
        let address = self.proxy.inbound().to_string();
        peers::check(&self.python, "grpc_client.py", &[&address, scenario]).trim_end().to_owned()
    }
}

#[test]
fn the_four_kinds_of_calls() {
    let Some(rig) = Rig::new("the_four_kinds_of_calls", "") else { return };
    assert_eq!(rig.client("unary"), "hello");
    assert_eq!(rig.client("server_stream"), "['s 0', 's 1', 's 2']");
    assert_eq!(rig.client("client_stream"), "0,1,2,3");
    assert_eq!(rig.client("bidi"), "['b0', 'b1', 'b2', 'b3', 'b4']");
    let metrics = rig.proxy.metrics();
    assert_eq!(metrics.sum("requests_total", &[("grpc_status", "0"), ("status", "200"), ("method", "POST")]), 4.0);
}

#[test]
fn large_messages_and_many_calls() {
    let Some(rig) = Rig::new("large_messages_and_many_calls", "") else { return };
    assert_eq!(rig.client("large"), "ok");
    assert_eq!(rig.client("many"), "ok");
}

#[test]
fn errors_pass_with_their_message() {
    let Some(rig) = Rig::new("errors_pass_with_their_message", "") else { return };
    assert_eq!(rig.client("status"), "NOT_FOUND as you wish: \u{e4}%\nPERMISSION_DENIED");
    assert_eq!(rig.client("unknown"), "UNIMPLEMENTED");
    let metrics = rig.proxy.metrics();
    for code in ["5", "7", "12"] {
        assert_eq!(metrics.sum("requests_total", &[("grpc_status", code)]), 1.0, "grpc_status {code}");
    }
}

#[test]
fn deadlines_end_calls() {
    let Some(rig) = Rig::new("deadlines_end_calls", "") else { return };
    assert_eq!(rig.client("deadline"), "DEADLINE_EXCEEDED True");
    assert_eq!(rig.server.line(), "cancelled");
}

#[test]
fn a_policy_ends_calls_like_a_deadline() {
    let Some(rig) = Rig::new("a_policy_ends_calls_like_a_deadline", "timeouts: { request: 300ms }") else { return };
    assert_eq!(rig.client("policy_deadline"), "DEADLINE_EXCEEDED True\nDEADLINE_EXCEEDED True");
}

#[test]
fn the_deadline_that_arrives_is_what_is_left() {
    let Some(rig) = Rig::new("the_deadline_that_arrives_is_what_is_left", "") else { return };
    let left: f64 = rig.client("remaining").parse().expect("seconds");
    assert!((0.5..=2.0).contains(&left), "{left}");
}

#[test]
fn cancellation_reaches_the_server() {
    let Some(rig) = Rig::new("cancellation_reaches_the_server", "") else { return };
    assert_eq!(rig.client("cancel"), "cancelled");
    assert_eq!(rig.server.line(), "cancelled");
    assert_eq!(rig.client("cancel_stream"), "s 0");
    assert_eq!(rig.server.line(), "cancelled");
}

#[test]
fn failures_of_the_proxy_are_grpc_statuses() {
    let Some(python) = peers::python("failures_of_the_proxy_are_grpc_statuses") else { return };
    let proxy = Proxy::start(&config::sidecar_protocol(origin::refused(), "grpc"));
    let address = proxy.inbound().to_string();
    assert_eq!(peers::check(&python, "grpc_client.py", &[&address, "failure"]).trim_end(), "UNAVAILABLE True");
}
