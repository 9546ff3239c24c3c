//! A model by hand, and what is said about it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::*;
use crate::{
    Origin,
    model::{
        AccessAction, AccessPolicy, AccessRule, Backend, Correlation, Decision as Merge, Endpoint, HeaderEdits,
        HostTable, ListenerLimits, ListenerProtocol, ListenerTarget, Mode, PathEdit, PathMatch, ProxySettings,
        Redirect, Retry, RetryBudget, RetryMethods, RouteKind, RouteMatch, RouteTable, Source, StringMatch, Telemetry,
        Timeouts, UpstreamProtocol, UpstreamTls, ValueMatch,
    },
};

pub(crate) fn policy() -> TrafficPolicy {
    TrafficPolicy::default()
}

fn at(line: u32) -> Origin {
    Origin::new("mesh.yaml", line, 3)
}

fn upstream(name: &str, line: u32, source: EndpointSource) -> Upstream {
    Upstream {
        name: name.into(),
        protocol: UpstreamProtocol::Http,
        hostnames: Vec::new(),
        source,
        tls: UpstreamTls::None,
        policy: Arc::new(policy()),
        access: Vec::new(),
        routes: RouteTable::default(),
        origin: at(line),
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), weight: 1, zone: Some("a".into()), identity: None }
}

fn listener(name: &str, direction: Direction, target: ListenerTarget, line: u32) -> Listener {
    Listener {
        name: name.into(),
        address: SocketAddr::from(([127, 0, 0, 1], 4140)),
        direction,
        protocol: ListenerProtocol::Detect,
        mtls: MtlsMode::Permissive,
        target,
        original_destination: false,
        limits: ListenerLimits::default(),
        origin: at(line),
    }
}

fn rule(name: &str, line: u32, backends: &[(u32, u32)]) -> Rule {
    let backend = |(id, weight): &(u32, u32)| Backend {
        upstream: UpstreamId(*id),
        weight: *weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    Rule {
        route: "payments".into(),
        kind: RouteKind::Http,
        name: name.into(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        redirect: None,
        mirrors: Vec::new(),
        backends: backends.iter().map(backend).collect(),
        total_weight: backends.iter().map(|(_, weight)| weight).sum(),
        policy: Arc::new(policy()),
        origin: at(line),
    }
}

fn matching(path: PathMatch, rule: u32) -> RouteMatch {
    RouteMatch { hostnames: vec![], path, method: None, headers: vec![], query: vec![], grpc: false, rule }
}

/// Outbound by host to `payments` (routes) and `orders` (none), inbound to `orders` (access).
pub(crate) fn model() -> Model {
    let dns = EndpointSource::Dns { name: "payments.internal".into(), port: 8080 };
    let mut payments = upstream("payments", 20, dns);
    let v2 = upstream("payments-v2", 40, EndpointSource::Static(vec![endpoint("10.0.0.7:8080")]));
    let mut orders = upstream("orders", 10, EndpointSource::Static(vec![endpoint("127.0.0.1:3000")]));
    let mut main = rule("main", 60, &[(0, 95), (1, 5)]);
    main.request_headers.set.push(("x-tier".into(), "gold".into()));
    main.policy = Arc::new(TrafficPolicy {
        name: "payments".into(),
        origin: Some(at(80)),
        timeouts: Timeouts { request: Some(Duration::from_secs(3)), ..Timeouts::default() },
        retry: Some(Retry {
            attempts: 2,
            codes: vec![502, 503],
            grpc_codes: vec![],
            methods: RetryMethods::Idempotent,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget: RetryBudget {
                percent: 20,
                interval: Duration::from_secs(10),
                min_count: 10,
                min_interval: Duration::from_secs(1),
            },
            max_body_bytes: 65_536,
        }),
        ..policy()
    });
    let mut old = rule("old", 70, &[]);
    old.redirect = Some(Redirect {
        scheme: Some("https".into()),
        hostname: None,
        port: None,
        path: Some(PathEdit::ReplaceFull("/new".into())),
        status: 301,
    });
    let mut canary = matching(PathMatch::Prefix("/charge".into()), 0);
    canary.headers.push(ValueMatch { name: "x-beta".into(), value: StringMatch::Exact("1".into()) });
    payments.routes = RouteTable {
        matches: vec![
            canary,
            matching(PathMatch::Prefix("/charge".into()), 1),
            matching(PathMatch::Exact("/old".into()), 2),
            matching(PathMatch::Exact("/nowhere".into()), 3),
        ],
        rules: [rule("canary", 50, &[(1, 1)]), main, old, rule("nowhere", 75, &[])].map(Arc::new).to_vec(),
    };
    let web = Source { identities: vec!["spiffe://cluster.local/ns/shop/sa/web".into()], ..Source::default() };
    orders.access = vec![Arc::new(AccessPolicy {
        name: "orders".into(),
        mode: Mode::Enforce,
        rules: vec![AccessRule { action: AccessAction::Allow, from: vec![web], to: vec![] }],
        origin: at(90),
    })];
    let hosts = HostTable {
        exact: vec![("orders".into(), UpstreamId(2)), ("payments".into(), UpstreamId(0))],
        wildcard: vec![],
    };
    let losers = vec![("TrafficPolicy younger".to_owned(), at(85), "it is younger".to_owned())];
    let merge = |subject: &str| Merge {
        subject: subject.to_owned(),
        winner: "TrafficPolicy payments".to_owned(),
        winner_origin: Some(at(80)),
        losers: losers.clone(),
    };
    Model {
        proxy: ProxySettings {
            name: "p".into(),
            workers: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 9990)),
            identity: None,
            telemetry: Telemetry::default(),
            correlation: Correlation::default(),
            drain_timeout: Duration::from_secs(30),
        },
        listeners: vec![
            listener("outbound", Direction::Outbound, ListenerTarget::ByHost(hosts), 3),
            listener("inbound", Direction::Inbound, ListenerTarget::Forward(UpstreamId(2)), 4),
        ],
        upstreams: [payments, v2, orders].map(Arc::new).to_vec(),
        decisions: vec![
            merge("Upstream payments"),
            merge("Upstream orders"),
            merge("rule main of HTTPRoute payments at Upstream payments"),
            merge("rule canary of HTTPRoute shop/payments at Upstream payments"),
            merge("the mesh"),
        ],
    }
}

fn ask(listener: &str, url: &str, headers: &[&str], from: Option<&str>) -> Explanation {
    let headers: Vec<_> = headers.iter().map(|h| (*h).to_owned()).collect();
    let request = ExplainRequest::new("GET", url, &headers, from).unwrap();
    explain(&model(), listener, &request, &Offline).unwrap()
}

#[test]
fn a_request_is_told_its_rule_policy_shares_and_lines() {
    let told = ask("outbound", "http://payments:80/charge/1?x", &[], None);
    let route = told.route.as_ref().unwrap();
    assert_eq!((route.kind, &*route.name, &*route.rule), ("HTTPRoute", "payments", "main"));
    assert_eq!(told.filters, ["request header: set x-tier: gold"]);
    let policy = told.policy.as_ref().unwrap();
    assert!(policy.settings.contains(&("timeouts.request", "3s".to_owned())));
    assert!(policy.settings.contains(&("retry.backoff", "25ms to 250ms".to_owned())));
    let shares: Vec<_> = told.backends.iter().map(|b| (&*b.upstream, b.percent)).collect();
    assert_eq!(shares, [("payments", 95.0), ("payments-v2", 5.0)]);
    assert!(told.backends[0].endpoints.is_none() && told.backends[1].endpoints.as_ref().unwrap().len() == 1);
    assert_eq!(told.access.as_ref().unwrap().verdict, "unchecked");
    assert!(told.answer.is_none());
    let about: Vec<_> = told.decisions.iter().map(|d| &*d.subject).collect();
    assert_eq!(about, ["Upstream payments", "rule main of HTTPRoute payments at Upstream payments", "the mesh"]);
    let text = told.to_string();
    for line in [
        "request   GET payments:80/charge/1?x",
        "listener  outbound (127.0.0.1:4140, outbound, protocol detect, mtls permissive)  [mesh.yaml:3:3]",
        "upstream  payments: it has the host name payments  [mesh.yaml:20:3]",
        "route     HTTPRoute payments, rule main  [mesh.yaml:60:3]",
        "  matched path starts with /charge",
        "policy    payments (enforce)  [mesh.yaml:80:3]",
        "  timeouts.request: 3s",
        "  TrafficPolicy younger loses: it is younger  [mesh.yaml:85:3]",
        "backend   payments-v2 (weight 5, 5%)  [mesh.yaml:40:3]",
        "  endpoint 10.0.0.7:8080 (weight 1, zone a)",
        "answer    that of the upstream",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    }
}

#[test]
fn headers_choose_the_canary() {
    let told = ask("outbound", "/charge", &["Host: payments", "X-Beta: 1"], None);
    assert_eq!(told.route.as_ref().unwrap().rule, "canary");
    assert_eq!(told.route.unwrap().matched, "path starts with /charge, header x-beta is \"1\"");
    assert!(told.decisions.iter().any(|d| d.subject.starts_with("rule canary")));
}

#[test]
fn every_answer_of_the_proxy_is_foretold() {
    let answer = |listener, url, from| ask(listener, url, &[], from).answer.map(|a| (a.status, a.token));
    assert_eq!(answer("outbound", "/x", None), Some((404, Some("destination_not_found"))));
    assert_eq!(answer("outbound", "http://nobody/", None), Some((404, Some("destination_not_found"))));
    assert_eq!(answer("outbound", "http://payments/else", None), Some((404, Some("destination_not_found"))));
    assert_eq!(answer("outbound", "http://payments/nowhere", None), Some((500, Some("proxy_configuration_error"))));
    assert_eq!(answer("outbound", "http://payments/old", None), Some((301, None)));
    assert_eq!(answer("inbound", "/", None), Some((403, Some("access_denied"))));
    assert_eq!(answer("inbound", "/", Some("spiffe://cluster.local/ns/shop/sa/web")), None);
}

#[test]
fn a_running_proxy_adds_what_it_knows() {
    struct Live;
    impl LiveState for Live {
        fn endpoints(&self, id: UpstreamId, _: &Upstream) -> Option<Vec<EndpointPart>> {
            let state = Some("ejected".to_owned());
            let address = SocketAddr::from(([10, 0, 0, 9], 1));
            (id == UpstreamId(0)).then(|| vec![EndpointPart { address, weight: 1, zone: None, state }])
        }
    }
    let request = ExplainRequest::new("GET", "http://payments/charge", &[], None).unwrap();
    let told = explain(&model(), "outbound", &request, &Live).unwrap();
    assert!(told.to_string().contains("  endpoint 10.0.0.9:1 (weight 1, ejected)"));
    assert_eq!(told.backends[1].endpoints.as_ref().unwrap()[0].state, None);
}

#[test]
fn the_json_form_is_stable() {
    let json = serde_json::to_value(ask("outbound", "http://payments/charge", &[], None)).unwrap();
    assert_eq!(json["upstream"]["origin"], "mesh.yaml:20:3");
    assert_eq!(json["policy"]["settings"]["timeouts.request"], "3s");
    assert_eq!(json["answer"], serde_json::Value::Null);
    let names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let want =
        ["request", "listener", "upstream", "access", "route", "filters", "policy", "decisions", "backends", "answer"];
    assert_eq!(names, want);
}

#[test]
fn requests_are_read_as_curl_reads_them() {
    use crate::matching::RequestView;
    for (url, authority, target) in [
        ("http://a", "a", "/"),
        ("http://a?x=1", "a", "/?x=1"),
        ("https://u:p@a:8443/x?y#z", "a:8443", "/x?y"),
        ("a.b/c", "a.b", "/c"),
        ("a:80", "a:80", "/"),
        ("/x", "", "/x"),
        ("*", "", "*"),
        ("http://[::1]:80/x", "[::1]:80", "/x"),
    ] {
        let request = ExplainRequest::new("GET", url, &[], None).unwrap();
        assert_eq!((request.authority(), request.target()), (authority, target), "{url}");
    }
    for url in ["ftp://a/", "http://", "http:///x", "", "http://a b/", "/ä b"] {
        assert!(matches!(ExplainRequest::new("GET", url, &[], None), Err(ExplainError::Url(..))), "{url}");
    }
    assert!(matches!(ExplainRequest::new("G T", "/", &[], None), Err(ExplainError::Method(_))));
    for header in ["nocolon", ": x", "a b: c", "a: b\r\nc"] {
        let error = ExplainRequest::new("GET", "/", &[header.to_owned()], None);
        assert!(matches!(error, Err(ExplainError::Header(_))), "{header}");
    }
    assert!(matches!(ExplainRequest::new("GET", "/", &[], Some("web")), Err(ExplainError::Identity(_))));
}

#[test]
fn an_unknown_listener_is_told_the_known_ones() {
    let request = ExplainRequest::new("GET", "/", &[], None).unwrap();
    let error = explain(&model(), "in", &request, &Offline).unwrap_err();
    assert_eq!(error.to_string(), "there is no listener called `in`; there are: outbound, inbound");
}

#[test]
fn durations_are_written_as_gep_2257_has_them() {
    for (millis, want) in [(0, "0s"), (250, "250ms"), (1500, "1s500ms"), (5_400_000, "1h30m"), (60_000, "1m")] {
        assert_eq!(words::duration(Duration::from_millis(millis)), want);
    }
}
