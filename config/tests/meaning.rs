//! What documents mean: defaults, merging, precedence.

use std::{sync::Arc, time::Duration};

use outrigger_config::{Source, compile, model::*};

const BASE: &str = "
apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: p }
spec: { listeners: [{ name: in, address: 127.0.0.1:1, direction: inbound }, { name: out, address: 127.0.0.1:2, direction: outbound }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: a }
spec: { endpoints: [{ address: 127.0.0.1:3 }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: b, namespace: shop }
spec: { hostnames: ['*.b.example', '*.x.b.example', 'b.example:8080'], endpoints: [{ address: 127.0.0.1:4 }] }
";

fn build(more: &str) -> (Model, Vec<String>) {
    let text = format!("{BASE}---\n{more}");
    let compiled = compile(&[Source { name: "f".into(), text }]).unwrap_or_else(|f| panic!("{f:#?}"));
    (compiled.model, compiled.warnings.iter().map(|w| w.message.clone()).collect())
}

fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\n\
         spec: {{ parentRefs: [{{ kind: Upstream, name: a }}], {spec} }}\n"
    )
}

fn policy(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: outrigger.dev/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n")
}

fn order(upstream: &Upstream) -> Vec<String> {
    let name = |m: &RouteMatch| upstream.routes.rules[m.rule as usize].name.to_string();
    upstream.routes.matches.iter().map(name).collect()
}

#[test]
fn defaults_hold_where_nothing_is_said() {
    let (model, warnings) = build("");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(model.proxy.admin, "127.0.0.1:9990".parse().unwrap());
    assert_eq!(model.proxy.drain_timeout, Duration::from_secs(30));
    assert_eq!(model.listeners[0].mtls, MtlsMode::Disabled);
    assert_eq!(model.listeners[0].protocol, ListenerProtocol::Detect);
    assert_eq!(model.listeners[0].limits, ListenerLimits::default());
    assert_eq!(*model.upstreams[0].policy, TrafficPolicy::default());
    let ListenerTarget::ByHost(hosts) = &model.listeners[1].target else { panic!() };
    let wildcard: Vec<&str> = hosts.wildcard.iter().map(|(h, _)| &**h).collect();
    assert_eq!(wildcard, [".x.b.example", ".b.example"]);
    assert_eq!(hosts.exact.iter().map(|(h, _)| &**h).collect::<Vec<_>>(), ["a", "b", "b.example:8080"]);
}

/// Gateway API, HTTPRouteRule: host names, exact path, longest prefix, method, headers, query; then the order.
#[test]
fn the_most_specific_match_stands_first() {
    let rules = "rules: [
        { name: all },
        { name: regex, matches: [{ path: { type: RegularExpression, value: '/a.*' } }] },
        { name: query, matches: [{ path: { value: /a }, queryParams: [{ name: q, value: x }] }] },
        { name: header, matches: [{ path: { value: /a }, headers: [{ name: h, value: x }] }] },
        { name: headers, matches: [{ path: { value: /a }, headers: [{ name: h, value: x }, { name: i, value: x }] }] },
        { name: method, matches: [{ path: { value: /a }, method: GET }] },
        { name: prefix, matches: [{ path: { value: /a/ } }] },
        { name: second, matches: [{ path: { value: /a } }] },
        { name: longer, matches: [{ path: { value: /a/b } }] },
        { name: exact, matches: [{ path: { type: Exact, value: /a } }] }]";
    let (model, _) = build(&route("HTTPRoute", "r", rules));
    let wanted = ["exact", "longer", "method", "headers", "header", "query", "prefix", "second", "regex", "all"];
    assert_eq!(order(&model.upstreams[0]), wanted);
    let prefix = &model.upstreams[0].routes.matches[6].path;
    assert_eq!(*prefix, PathMatch::Prefix("/a".into()), "a trailing slash says nothing");
}

#[test]
fn host_names_decide_before_paths_and_ties_go_to_the_first_name() {
    let one = |name: &str, hosts: &str, path: &str| {
        let spec =
            format!("hostnames: [{hosts}], rules: [{{ name: {name}, matches: [{{ path: {{ value: {path} }} }}] }}]");
        route("HTTPRoute", name, &spec)
    };
    let text = [
        one("z", "", "/same"),
        one("any", "", "/a/very/long/path"),
        one("b", "", "/same"),
        one("wild", "'*.example'", "/"),
        one("wilder", "'*.a.example'", "/"),
        one("host", "a.a.example", "/"),
    ]
    .concat();
    let (model, _) = build(&text);
    assert_eq!(order(&model.upstreams[0]), ["host", "wilder", "wild", "any", "b", "z"]);
}

#[test]
fn grpc_methods_become_paths() {
    let rules = "rules: [
        { name: all },
        { name: method, matches: [{ method: { method: Get } }] },
        { name: service, matches: [{ method: { service: s.A } }] },
        { name: both, matches: [{ method: { service: s.A, method: Get } }] },
        { name: regex, matches: [{ method: { type: RegularExpression, service: 's\\..|t', method: 'G[a-z]*' } }] }]";
    let (model, _) = build(&route("GRPCRoute", "g", rules));
    let table = &model.upstreams[0].routes;
    assert_eq!(order(&model.upstreams[0]), ["both", "service", "regex", "method", "all"]);
    assert!(table.matches.iter().all(|m| m.grpc));
    assert_eq!(table.matches[0].path, PathMatch::Exact("/s.A/Get".into()));
    assert_eq!(table.matches[1].path, PathMatch::Prefix("/s.A".into()));
    let PathMatch::Regex(pattern) = &table.matches[2].path else { panic!() };
    assert!(pattern.regex.is_match(b"/s.A/Get") && pattern.regex.is_match(b"/t/G"));
    assert!(!pattern.regex.is_match(b"/s.A/Get/x") && !pattern.regex.is_match(b"/s"));
}

#[test]
fn the_more_specific_policy_wins_whole_and_the_mesh_lies_under_all() {
    let text = [
        route(
            "HTTPRoute",
            "r",
            "rules: [{ name: one, matches: [{ path: { value: /1 } }], timeouts: { request: 7s } }, \
             { name: two, retry: { attempts: 9 } }]",
        ),
        policy("MeshPolicy", "m", "timeouts: { connect: 9s, idle: 8s, upstreamIdle: 0s }"),
        policy(
            "TrafficPolicy",
            "upstream",
            "targetRefs: [{ kind: Upstream, name: a }], timeouts: { request: 1s, connect: 2s }, \
             circuitBreaker: {}",
        ),
        policy(
            "TrafficPolicy",
            "route",
            "targetRefs: [{ kind: HTTPRoute, name: r }], retry: { attempts: 1, codes: [500] }",
        ),
        policy(
            "TrafficPolicy",
            "rule",
            "targetRefs: [{ kind: HTTPRoute, name: r, sectionName: one }], timeouts: { idle: 0s }",
        ),
    ]
    .concat();
    let (model, warnings) = build(&text);
    assert_eq!(warnings, Vec::<String>::new());
    let a = &model.upstreams[0];
    assert_eq!(&*a.policy.name, "upstream");
    assert_eq!(a.policy.circuit_breaker.as_ref().unwrap().consecutive_failures, Some(5));
    let times = &a.policy.timeouts;
    assert_eq!((times.request, times.connect), (Some(Duration::from_secs(1)), Some(Duration::from_secs(2))));
    assert_eq!((times.idle, times.upstream_idle), (Some(Duration::from_secs(8)), None));
    let rule = |name: &str| -> Arc<Rule> { a.routes.rules.iter().find(|r| &*r.name == name).unwrap().clone() };
    let one = rule("one").policy.clone();
    assert_eq!(&*one.name, "rule");
    assert_eq!((one.timeouts.request, one.timeouts.idle), (Some(Duration::from_secs(7)), None));
    assert!(one.retry.is_none() && one.circuit_breaker.is_none(), "nothing of the less specific ones is left");
    let retry = rule("two").policy.retry.clone().unwrap();
    assert_eq!((retry.attempts, retry.codes), (9, vec![500]));
    assert_eq!(model.upstreams[1].policy.timeouts.connect, Some(Duration::from_secs(9)));
    let decision = model.decisions.iter().find(|d| d.subject.contains("rule one")).unwrap();
    assert_eq!(decision.winner, "TrafficPolicy rule");
    let losers: Vec<&str> = decision
        .losers
        .iter()
        .map(|(who, _, why)| {
            assert_eq!(why, "less specific");
            &**who
        })
        .collect();
    assert_eq!(losers, ["TrafficPolicy route", "TrafficPolicy upstream"]);
}

#[test]
fn among_equals_the_oldest_wins_and_the_others_are_warned() {
    let text = [
        policy("TrafficPolicy", "a", "targetRefs: [{ kind: Upstream, name: a }], mode: observe"),
        policy("TrafficPolicy", "z", "targetRefs: [{ kind: Upstream, name: a }]")
            .replace("name: z", "name: z, creationTimestamp: 2020-01-01T00:00:00Z"),
    ]
    .concat();
    let (model, warnings) = build(&text);
    assert_eq!(&*model.upstreams[0].policy.name, "z");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("TrafficPolicy a has no effect on Upstream a"), "{warnings:?}");
}

#[test]
fn a_mesh_policy_for_a_namespace_wins_there() {
    let text = [
        policy(
            "MeshPolicy",
            "all",
            "timeouts: { connect: 9s, idle: 9s }, mtls: permissive, correlation: { headers: [X-Trip] }",
        ),
        policy("MeshPolicy", "shop", "targetRefs: [{ kind: Namespace, name: shop }], timeouts: { connect: 3s }"),
    ]
    .concat();
    let (model, _) = build(&text);
    assert_eq!(model.listeners[0].mtls, MtlsMode::Permissive);
    assert_eq!(model.proxy.correlation.headers, [Arc::from("x-trip")]);
    assert_eq!(model.upstreams[0].policy.timeouts.connect, Some(Duration::from_secs(9)));
    let b = &model.upstreams[1].policy.timeouts;
    assert_eq!((b.connect, b.idle), (Some(Duration::from_secs(3)), Some(Duration::from_secs(300))));
}

#[test]
fn weights_filters_and_limits_are_carried_over() {
    let rules = "rules: [{ backendRefs: [
            { kind: Upstream, name: a, weight: 0 },
            { kind: Upstream, name: b, weight: 3, filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { remove: [X-A] } }] }],
          filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: X-Tier, value: gold }], add: [{ name: x-tier, value: silver }] } },
            { type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: '' } } },
            { type: RequestMirror, requestMirror: { backendRef: { kind: Upstream, name: b }, percent: 10 } }] }]";
    let limits = policy(
        "TrafficPolicy",
        "t",
        "targetRefs: [{ kind: Upstream, name: a }], limits: { maxRequests: 0, maxPending: 5 }",
    );
    let (model, _) = build(&[route("HTTPRoute", "r", rules), limits].concat());
    let rule = &model.upstreams[0].routes.rules[0];
    assert_eq!((rule.backends.len(), rule.total_weight), (1, 3));
    assert_eq!(rule.backends[0].response_headers.remove, [Arc::from("x-a")]);
    assert_eq!(rule.request_headers.set, [("x-tier".into(), "gold".into())]);
    assert_eq!(rule.rewrite.as_ref().unwrap().path, Some(PathEdit::ReplacePrefix("".into())));
    assert_eq!((rule.mirrors[0].numerator, rule.mirrors[0].denominator), (10, 100));
    let limits = &model.upstreams[0].policy.limits;
    assert_eq!((limits.max_requests, limits.max_pending), (u32::MAX, 5));
}

#[test]
fn a_proxy_is_needed_to_run_and_not_to_validate() {
    let source = Source { name: "f".into(), text: policy("MeshPolicy", "m", "mtls: strict") };
    assert_eq!(outrigger_config::validate(std::slice::from_ref(&source)), []);
    let faults = compile(&[source]).unwrap_err();
    assert_eq!(faults[0].to_string(), "f:1:1: there is no document of kind `Proxy`, which names the listeners");
}

#[test]
fn documents_of_several_files_make_one_model() {
    let (one, other) = BASE.split_at(BASE.find("---").unwrap());
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.to_owned() };
    assert!(compile(&[source("one", one), source("other", other)]).is_ok());
    let faults = compile(&[source("one", one), source("other", &other.replace("endpoints", "endpoint"))]).unwrap_err();
    assert!(faults.iter().all(|f| &*f.origin.file == "other"), "{faults:?}");
}
