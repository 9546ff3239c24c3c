//! Tables for hosts, paths, queries, headers and weights; properties for whatever else a peer may send.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::{
    Origin,
    explain::ExplainRequest,
    model::{
        HostTable, ListenerLimits, ListenerProtocol, MtlsMode, PathMatch, Pattern, RouteKind, StringMatch, ValueMatch,
    },
};

fn request(method: &str, url: &str, headers: &[&str]) -> ExplainRequest {
    let headers: Vec<_> = headers.iter().map(|h| (*h).to_owned()).collect();
    ExplainRequest::new(method, url, &headers, None).unwrap()
}

fn get(url: &str) -> ExplainRequest {
    request("GET", url, &[])
}

fn pattern(text: &str) -> Pattern {
    Pattern { text: text.into(), regex: regex::bytes::Regex::new(&format!("^(?:{text})$")).unwrap() }
}

fn exact(name: &str, value: &str) -> ValueMatch {
    ValueMatch { name: name.into(), value: StringMatch::Exact(value.into()) }
}

fn any() -> RouteMatch {
    RouteMatch {
        hostnames: Vec::new(),
        path: PathMatch::Prefix("/".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
        grpc: false,
        rule: 0,
    }
}

fn rule(backends: &[u32]) -> Rule {
    let backend = |(i, weight): (usize, &u32)| Backend {
        upstream: UpstreamId(u32::try_from(i).unwrap()),
        weight: *weight,
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    Rule {
        route: "r".into(),
        kind: RouteKind::Http,
        name: "0".into(),
        request_headers: Default::default(),
        response_headers: Default::default(),
        rewrite: None,
        redirect: None,
        mirrors: Vec::new(),
        backends: backends.iter().enumerate().map(backend).collect(),
        total_weight: backends.iter().sum(),
        policy: Arc::new(crate::explain::tests::policy()),
        origin: Origin::new("t.yaml", 1, 1),
    }
}

fn table(matches: Vec<RouteMatch>) -> RouteTable {
    let rules = (0..=matches.iter().map(|m| m.rule).max().unwrap_or(0)).map(|_| Arc::new(rule(&[1]))).collect();
    RouteTable { matches, rules }
}

fn hosts() -> HostTable {
    let mut exact: Vec<(Box<str>, UpstreamId)> = vec![
        ("payments".into(), UpstreamId(1)),
        ("payments:8080".into(), UpstreamId(2)),
        ("payments.shop".into(), UpstreamId(3)),
        ("a.example.org".into(), UpstreamId(4)),
        ("[::1]".into(), UpstreamId(5)),
        ("[::1]:81".into(), UpstreamId(6)),
        ("10.0.0.1:80".into(), UpstreamId(7)),
    ];
    exact.sort();
    let mut wildcard: Vec<(Box<str>, UpstreamId)> = vec![
        (".example.org".into(), UpstreamId(20)),
        (".b.example.org".into(), UpstreamId(21)),
        (".example.org:8443".into(), UpstreamId(22)),
    ];
    wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    HostTable { exact, wildcard }
}

#[test]
fn a_host_table_prefers_the_port_then_the_name_then_the_longest_wildcard() {
    let table = hosts();
    for (authority, want) in [
        ("payments", Some(1)),
        ("PAYMENTS", Some(1)),
        ("payments.", Some(1)),
        ("payments:80", Some(1)),
        ("payments:", Some(1)),
        ("payments:8080", Some(2)),
        ("Payments:8080", Some(2)),
        ("payments.:8080", Some(2)),
        ("payments:80801", Some(1)),
        ("payments.shop", Some(3)),
        ("payments.shop:8080", Some(3)),
        ("payment", None),
        ("paymentss", None),
        ("", None),
        (":80", None),
        (".", None),
        ("a.example.org", Some(4)),
        ("A.Example.ORG:9", Some(4)),
        ("x.example.org", Some(20)),
        ("y.x.example.org", Some(20)),
        ("x.b.example.org", Some(21)),
        ("X.B.EXAMPLE.ORG:1", Some(21)),
        ("x.example.org:8443", Some(22)),
        ("b.example.org", Some(20)),
        ("example.org", None),
        (".example.org", None),
        ("xexample.org", None),
        ("[::1]", Some(5)),
        ("[::1]:80", Some(5)),
        ("[::1]:81", Some(6)),
        ("10.0.0.1:80", Some(7)),
        ("10.0.0.1", Some(7)),
        ("10.0.0.1:81", None),
    ] {
        assert_eq!(table.find(authority), want.map(UpstreamId), "{authority}");
    }
}

#[test]
fn hostnames_of_routes_take_wildcards_of_any_depth_in_any_case() {
    for (pattern, host, want) in [
        ("a.org", "A.ORG", true),
        ("a.org", "b.a.org", false),
        ("*.a.org", "b.a.org", true),
        ("*.a.org", "c.B.a.org", true),
        ("*.a.org", "a.org", false),
        ("*.a.org", "ba.org", false),
        ("*.a.org", "", false),
        ("*", "anything", true),
    ] {
        assert_eq!(hostname_holds(pattern, host), want, "{pattern} {host}");
    }
}

#[test]
fn prefixes_match_whole_elements() {
    for (prefix, path, want) in [
        ("/", "/", true),
        ("/", "/a", true),
        ("/", "*", true),
        ("/a", "/a", true),
        ("/a", "/a/", true),
        ("/a", "/a/b", true),
        ("/a", "/ab", false),
        ("/a", "/", false),
        ("/a", "/A", false),
        ("/a/", "/a", true),
        ("/a/", "/a/b", true),
        ("/a/b", "/a", false),
        ("/a", "/%61", false),
        ("/a", "//a", false),
    ] {
        assert_eq!(PathMatch::Prefix(prefix.into()).holds(path), want, "{prefix} {path}");
    }
    assert!(PathMatch::Exact("/a".into()).holds("/a"));
    assert!(!PathMatch::Exact("/a".into()).holds("/a/"));
    assert!(PathMatch::Regex(pattern("/a|/b+")).holds("/bb"));
    assert!(!PathMatch::Regex(pattern("/a|/b+")).holds("/a/b"));
}

#[test]
fn the_first_parameter_of_a_name_counts_decoded() {
    for (query, name, value, want) in [
        ("a=1", "a", "1", true),
        ("b=2&a=1", "a", "1", true),
        ("a=2&a=1", "a", "1", false),
        ("a=1&a=2", "a", "1", true),
        ("a", "a", "", true),
        ("a=", "a", "", true),
        ("", "a", "", false),
        ("", "", "", true),
        ("A=1", "a", "1", false),
        ("a=b=c", "a", "b=c", true),
        ("a=b%20c", "a", "b c", true),
        ("a=b+c", "a", "b c", true),
        ("a=b%2Bc", "a", "b+c", true),
        ("a=b%2bc", "a", "b+c", true),
        ("%61=1", "a", "1", true),
        ("a=%", "a", "%", true),
        ("a=%4", "a", "%4", true),
        ("a=%zz", "a", "%zz", true),
        ("a=%C3%A4", "a", "ä", true),
        ("a=1;b=2", "b", "2", false),
    ] {
        assert_eq!(exact(name, value).query_holds(query), want, "{query}");
    }
    let regex = ValueMatch { name: "a".into(), value: StringMatch::Regex(pattern("x y?")) };
    assert!(regex.query_holds("a=x+") && regex.query_holds("a=x%20y") && !regex.query_holds("a=xx"));
}

#[test]
fn every_condition_of_a_match_must_hold() {
    let full = RouteMatch {
        hostnames: vec!["*.shop".into(), "pay".into()],
        method: Some(http::Method::POST),
        headers: vec![exact("x-beta", "1"), exact("x-list", "a, b")],
        query: vec![exact("v", "2")],
        grpc: true,
        ..any()
    };
    let table = table(vec![full]);
    let headers = ["x-beta: 1", "X-List: a", "x-list: b", "content-type: application/grpc+proto"];
    assert!(table.find(&request("POST", "http://Pay:1/x?v=2", &headers)).is_some());
    assert!(table.find(&request("POST", "http://a.b.shop/x?v=2", &headers)).is_some());
    assert!(table.find(&request("GET", "http://pay/x?v=2", &headers)).is_none());
    assert!(table.find(&request("POST", "http://shop/x?v=2", &headers)).is_none());
    assert!(table.find(&request("POST", "http://pay/x?v=3", &headers)).is_none());
    assert!(table.find(&request("POST", "http://pay/x", &headers)).is_none());
    for missing in 0..headers.len() {
        let rest: Vec<_> = headers.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, h)| *h).collect();
        assert!(table.find(&request("POST", "http://pay/x?v=2", &rest)).is_none(), "{missing}");
    }
}

#[test]
fn the_first_match_in_the_table_wins() {
    let at = |path, rule| RouteMatch { path, rule, ..any() };
    let table = table(vec![
        at(PathMatch::Exact("/a/b".into()), 0),
        at(PathMatch::Prefix("/a/b".into()), 1),
        at(PathMatch::Prefix("/a".into()), 2),
    ]);
    for (path, want) in [("/a/b", Some(0)), ("/a/b/c", Some(1)), ("/a/c", Some(2)), ("/c", None)] {
        assert_eq!(table.find(&get(path)).map(|m| m.rule), want, "{path}");
    }
}

#[test]
fn weights_share_out_the_whole_range_of_the_random_number() {
    let weighted = rule(&[95, 5, 0]);
    let mut counts = [0_u32; 3];
    let steps = 100_000_u32;
    for i in 0..steps {
        let random = u32::try_from(u64::from(i) * u64::from(u32::MAX) / u64::from(steps)).unwrap();
        counts[weighted.pick_backend(random).unwrap().upstream.0 as usize] += 1;
    }
    assert!(counts[0].abs_diff(95_000) < 5 && counts[1].abs_diff(5_000) < 5 && counts[2] == 0, "{counts:?}");
    assert_eq!(weighted.pick_backend(0).unwrap().upstream.0, 0);
    assert_eq!(weighted.pick_backend(u32::MAX).unwrap().upstream.0, 1);
    assert!(rule(&[]).pick_backend(7).is_none() && rule(&[0]).pick_backend(7).is_none());
    assert_eq!(rule(&[3]).pick_backend(u32::MAX).unwrap().upstream.0, 0);
    // A share that no backend has goes nowhere.
    let broken = Rule { total_weight: 100, ..rule(&[50]) };
    assert!(broken.pick_backend(0).is_some() && broken.pick_backend(u32::MAX).is_none());
}

fn model(target: ListenerTarget, routes: RouteTable) -> Model {
    let mut model = crate::explain::tests::model();
    let listener = Listener {
        name: "l".into(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
        direction: Direction::Outbound,
        protocol: ListenerProtocol::Http,
        mtls: MtlsMode::Disabled,
        target,
        original_destination: false,
        limits: ListenerLimits::default(),
        origin: Origin::new("t.yaml", 1, 1),
    };
    model.listeners = vec![listener];
    let mut upstream = (*model.upstreams[0]).clone();
    upstream.routes = routes;
    model.upstreams[0] = Arc::new(upstream);
    model
}

#[test]
fn a_decision_says_where_it_ended() {
    let by_host = HostTable { exact: vec![("a".into(), UpstreamId(0))], wildcard: Vec::new() };
    let routes = table(vec![RouteMatch { path: PathMatch::Exact("/x".into()), ..any() }]);
    let model = model(ListenerTarget::ByHost(by_host), routes);
    let listener = &model.listeners[0];
    let ask = |url| decide(&model, listener, &get(url)).map(|d| d.route.is_some());
    assert!(matches!(ask("/x"), Err(NotFound::NoHost)));
    assert!(matches!(ask("http://b/x"), Err(NotFound::UnknownHost)));
    assert!(matches!(ask("http://a/y"), Err(NotFound::NoRoute { id: UpstreamId(0), .. })));
    assert!(matches!(ask("http://a/x"), Ok(true)));
}

#[test]
fn an_upstream_without_routes_takes_everything() {
    let model = model(ListenerTarget::Forward(UpstreamId(0)), RouteTable::default());
    let decision = decide(&model, &model.listeners[0], &get("/x")).unwrap();
    assert!(decision.route.is_none() && Arc::ptr_eq(decision.policy(), &model.upstreams[0].policy));
}

proptest! {
    #[test]
    fn no_authority_panics_and_case_never_matters(authority in ".{0,40}") {
        let table = hosts();
        prop_assert_eq!(table.find(&authority), table.find(&authority.to_ascii_uppercase()));
        let (host, port) = split_authority(&authority);
        prop_assert!(host.len() + port.map_or(0, str::len) <= authority.len());
    }

    #[test]
    fn the_table_finds_what_a_scan_finds(host in "[a-c.:0-9]{0,12}", keys in prop::collection::btree_set("[a-c.:0-9]{1,8}", 0..20)) {
        let exact: Vec<_> = keys.iter().map(|key| (key.clone().into_boxed_str(), UpstreamId(0))).collect();
        let table = HostTable { exact, wildcard: Vec::new() };
        let (name, port) = split_authority(&host);
        let whole = format!("{name}{}", port.unwrap_or_default());
        let want = !name.is_empty() && (keys.contains(&whole) || keys.contains(name));
        prop_assert_eq!(table.find(&host).is_some(), want);
    }

    #[test]
    fn no_query_panics(query in ".{0,60}", name in ".{0,5}", value in ".{0,5}") {
        let regex = ValueMatch { name: name.as_str().into(), value: StringMatch::Regex(pattern("(?s-u).*")) };
        let present = regex.query_holds(&query);
        // Whatever the value, a parameter that is not there holds for nothing.
        prop_assert!(present || !exact(&name, &value).query_holds(&query));
    }

    #[test]
    fn every_random_number_picks_a_backend_with_a_weight(random: u32, weights in prop::collection::vec(0_u32..1_000_000, 1..6)) {
        let rule = rule(&weights);
        match rule.pick_backend(random) {
            Some(backend) => prop_assert!(backend.weight > 0),
            None => prop_assert_eq!(rule.total_weight, 0),
        }
    }
}
