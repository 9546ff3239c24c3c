//! Tables for the order of verdicts, callers, operations and the spellings of a path.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::{Origin, explain::ExplainRequest};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const OPS: &str = "spiffe://cluster.local/ns/ops/sa/any";

fn get(path: &str) -> ExplainRequest {
    ExplainRequest::new("GET", path, &[], None).unwrap()
}

fn rule(action: AccessAction, from: Vec<Source>, to: Vec<Operation>) -> AccessRule {
    AccessRule { action, from, to }
}

fn policy(mode: Mode, rules: Vec<AccessRule>) -> Arc<AccessPolicy> {
    Arc::new(AccessPolicy { name: "p".into(), mode, rules, origin: Origin::new("t.yaml", 1, 1) })
}

fn identity(id: &str) -> Source {
    Source { identities: vec![id.into()], ..Source::default() }
}

fn path(path: &str) -> Operation {
    Operation { paths: vec![path.into()], ..Operation::default() }
}

fn ask<'m>(policies: &'m [Arc<AccessPolicy>], identity: Option<&str>, url: &str) -> Access<'m> {
    let caller = Caller { identity, address: Ipv4Addr::new(10, 0, 0, 1).into(), may_hide: false };
    evaluate(policies, &caller, 8080, &get(url))
}

#[test]
fn without_a_rule_everything_passes() {
    assert_eq!(ask(&[], None, "/"), Access::OPEN);
    assert_eq!(ask(&[policy(Mode::Enforce, vec![])], None, "/"), Access::OPEN);
}

#[test]
fn with_an_allow_rule_the_rest_is_denied() {
    let policies =
        [policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![identity(WEB)], vec![path("/orders/*")])])];
    assert!(matches!(ask(&policies, Some(WEB), "/orders/1").verdict, Verdict::Allow(Cause { rule: Some(0), .. })));
    assert!(matches!(ask(&policies, Some(WEB), "/other").verdict, Verdict::Deny(Cause { rule: None, .. })));
    assert!(matches!(ask(&policies, Some(OPS), "/orders/1").verdict, Verdict::Deny(_)));
    assert!(matches!(ask(&policies, None, "/orders/1").verdict, Verdict::Deny(_)));
}

#[test]
fn deny_wins_whatever_the_order_and_leaves_the_rest_open() {
    let allow = rule(AccessAction::Allow, vec![], vec![]);
    let deny = rule(AccessAction::Deny, vec![identity(WEB)], vec![]);
    for rules in [vec![allow.clone(), deny.clone()], vec![deny.clone(), allow.clone()]] {
        let policies = [policy(Mode::Enforce, rules)];
        assert!(!ask(&policies, Some(WEB), "/").passes());
        assert!(ask(&policies, Some(OPS), "/").passes());
    }
    let apart = [policy(Mode::Enforce, vec![allow]), policy(Mode::Enforce, vec![deny.clone()])];
    assert!(!ask(&apart, Some(WEB), "/").passes());
    let only_deny = [policy(Mode::Enforce, vec![deny])];
    assert_eq!(ask(&only_deny, Some(OPS), "/").verdict, Verdict::Open);
}

#[test]
fn allow_rules_of_several_policies_add_up() {
    let one = policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![identity(WEB)], vec![])]);
    let two = policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![identity(OPS)], vec![])]);
    let both = [one, two];
    assert!(ask(&both, Some(WEB), "/").passes() && ask(&both, Some(OPS), "/").passes());
    assert!(!ask(&both, None, "/").passes());
}

#[test]
fn an_observing_policy_lets_pass_and_tells() {
    let allow_web = policy(Mode::Observe, vec![rule(AccessAction::Allow, vec![identity(WEB)], vec![])]);
    let access = ask(std::slice::from_ref(&allow_web), None, "/");
    assert!(access.passes() && access.observed.is_some());
    let access = ask(std::slice::from_ref(&allow_web), Some(WEB), "/");
    assert!(access.passes() && access.observed.is_none());
    // Together with an enforced one that allows, it would only have widened.
    let allow_ops = policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![identity(OPS)], vec![])]);
    let both = [allow_ops, allow_web];
    let access = ask(&both, Some(OPS), "/");
    assert!(access.passes() && access.observed.is_none());
    // It cannot allow what is denied.
    assert!(!ask(&both, Some(WEB), "/").passes());
    let deny = [policy(Mode::Observe, vec![rule(AccessAction::Deny, vec![], vec![])])];
    assert!(matches!(
        ask(&deny, None, "/"),
        Access { verdict: Verdict::Open, observed: Some(Cause { rule: Some(0), .. }) }
    ));
}

#[test]
fn sources_hold_by_identity_namespace_and_address() {
    let address = Ipv4Addr::new(10, 1, 2, 3);
    let from = |identity, address| Caller { identity, address, may_hide: false };
    let holds = |source: &Source, identity| source.holds(AccessAction::Allow, &from(identity, address.into()));
    let namespaces = Source { namespaces: vec!["ops".into()], ..Source::default() };
    assert!(holds(&namespaces, Some(OPS)) && !holds(&namespaces, Some(WEB)) && !holds(&namespaces, None));
    let cidrs = Source { cidrs: vec!["10.1.0.0/16".parse().unwrap()], ..Source::default() };
    assert!(holds(&cidrs, None));
    assert!(cidrs.holds(AccessAction::Allow, &from(None, address.to_ipv6_mapped().into())));
    assert!(!cidrs.holds(AccessAction::Allow, &from(None, Ipv4Addr::new(10, 2, 0, 0).into())));
    let both =
        Source { namespaces: vec!["ops".into()], cidrs: vec!["192.168.0.0/16".parse().unwrap()], ..Source::default() };
    assert!(!holds(&both, Some(OPS)));
    assert!(holds(&Source::default(), None));
}

#[test]
fn namespaces_come_from_ids_of_one_shape() {
    for (id, want) in [
        (WEB, Some("shop")),
        ("spiffe://other/ns/a/sa/b", Some("a")),
        ("spiffe://td/ns/a", None),
        ("spiffe://td/ns/a/sa/b/c", None),
        ("spiffe://td/x/ns/a/sa/b", None),
        ("spiffe://td/sa/a/ns/b", None),
        ("https://td/ns/a/sa/b", None),
        ("", None),
    ] {
        assert_eq!(namespace_of(id), want, "{id}");
    }
}

#[test]
fn operations_hold_by_method_port_and_header() {
    let request = ExplainRequest::new("POST", "/x", &["x-a: 1".to_owned()], None).unwrap();
    let holds = |to: &Operation| to.holds(AccessAction::Allow, 8080, &request);
    assert!(holds(&Operation { methods: vec![http::Method::GET, http::Method::POST], ..Operation::default() }));
    assert!(!holds(&Operation { methods: vec![http::Method::GET], ..Operation::default() }));
    assert!(holds(&Operation { ports: vec![8080], ..Operation::default() }));
    assert!(!holds(&Operation { ports: vec![80], ..Operation::default() }));
    let header = |value: &str| Operation {
        headers: vec![crate::model::ValueMatch {
            name: "x-a".into(),
            value: crate::model::StringMatch::Exact(value.into()),
        }],
        ..Operation::default()
    };
    assert!(holds(&header("1")) && !holds(&header("2")));
}

/// Operations that name what an opaque connection does not show, each at any port and at 8080.
fn unread() -> Vec<Operation> {
    let header = crate::model::ValueMatch { name: "x-a".into(), value: crate::model::StringMatch::Exact("1".into()) };
    let any_port = [
        Operation { methods: vec![http::Method::GET], ..Operation::default() },
        path("*"),
        Operation { headers: vec![header], ..Operation::default() },
    ];
    let at_port = any_port.clone().map(|to| Operation { ports: vec![8080], ..to });
    any_port.into_iter().chain(at_port).collect()
}

fn connect<'m>(policies: &'m [Arc<AccessPolicy>], identity: Option<&str>, port: u16) -> Access<'m> {
    let caller = Caller { identity, address: Ipv4Addr::new(10, 0, 0, 1).into(), may_hide: false };
    evaluate_connection(policies, &caller, port)
}

#[test]
fn an_opaque_connection_is_denied_by_what_it_does_not_show() {
    for to in unread() {
        let policies = [policy(Mode::Enforce, vec![rule(AccessAction::Deny, vec![identity(WEB)], vec![to.clone()])])];
        let access = connect(&policies, Some(WEB), 8080);
        assert!(matches!(access.verdict, Verdict::Deny(Cause { rule: Some(0), .. })), "{to:?}");
        // Caller and port are seen, so those that the rule does not name pass.
        assert_eq!(connect(&policies, Some(OPS), 8080).verdict, Verdict::Open, "{to:?}");
        assert_eq!(connect(&policies, None, 8080).verdict, Verdict::Open, "{to:?}");
        assert_eq!(connect(&policies, Some(WEB), 80).passes(), !to.ports.is_empty(), "{to:?}");
        // An allow rule does not outweigh it.
        let allow = policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![], vec![])]);
        let both = [allow, policies[0].clone()];
        assert!(!connect(&both, Some(WEB), 8080).passes() && connect(&both, Some(OPS), 8080).passes(), "{to:?}");
    }
}

#[test]
fn an_opaque_connection_is_not_allowed_by_what_it_does_not_show() {
    for to in unread() {
        let one = rule(AccessAction::Allow, vec![identity(WEB)], vec![to.clone()]);
        let policies = [policy(Mode::Enforce, vec![one.clone()])];
        let access = connect(&policies, Some(WEB), 8080);
        assert!(matches!(access.verdict, Verdict::Deny(Cause { rule: None, .. })), "{to:?}");
        // Another operation of the rule, or another rule, may allow it.
        let port = Operation { ports: vec![8080], ..Operation::default() };
        let more = [policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![], vec![to.clone(), port])])];
        assert!(connect(&more, None, 8080).passes() && !connect(&more, None, 80).passes(), "{to:?}");
        let second = rule(AccessAction::Allow, vec![identity(WEB)], vec![]);
        let more = [policy(Mode::Enforce, vec![one, second])];
        let access = connect(&more, Some(WEB), 8080);
        assert!(matches!(access.verdict, Verdict::Allow(Cause { rule: Some(1), .. })), "{to:?}");
    }
}

#[test]
fn callers_and_ports_decide_on_an_opaque_connection() {
    assert_eq!(connect(&[], None, 1), Access::OPEN);
    assert_eq!(connect(&[policy(Mode::Enforce, vec![])], None, 1), Access::OPEN);
    let port = Operation { ports: vec![5432, 5433], ..Operation::default() };
    for from in [vec![], vec![identity(WEB)]] {
        let allow = [policy(Mode::Enforce, vec![rule(AccessAction::Allow, from.clone(), vec![port.clone()])])];
        assert!(connect(&allow, Some(WEB), 5432).passes() && connect(&allow, Some(WEB), 5433).passes());
        assert!(!connect(&allow, Some(WEB), 80).passes());
        assert_eq!(connect(&allow, Some(OPS), 5432).passes(), from.is_empty());
        let deny = [policy(Mode::Enforce, vec![rule(AccessAction::Deny, from.clone(), vec![port.clone()])])];
        assert!(!connect(&deny, Some(WEB), 5432).passes() && connect(&deny, Some(WEB), 80).passes());
        assert_eq!(connect(&deny, Some(OPS), 5432).passes(), !from.is_empty());
    }
}

#[test]
fn an_observing_policy_lets_an_opaque_connection_pass_and_tells() {
    for to in unread() {
        for action in [AccessAction::Allow, AccessAction::Deny] {
            let policies = [policy(Mode::Observe, vec![rule(action, vec![], vec![to.clone()])])];
            let access = connect(&policies, Some(WEB), 8080);
            assert!(access.passes() && access.observed.is_some(), "{action:?} {to:?}");
        }
    }
}

#[test]
fn no_spelling_of_a_path_opens_a_door() {
    let allow =
        [policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![], vec![path("/orders"), path("/orders/*")])])];
    let deny = [policy(Mode::Enforce, vec![rule(AccessAction::Deny, vec![], vec![path("/admin"), path("/admin/*")])])];
    for (url, allowed, denied) in [
        ("/orders", true, false),
        ("/orders/1?x=/../", true, false),
        ("/orders/a..b/.c/d.", true, false),
        ("/orders/%31", true, false),
        ("//orders//1", true, false),
        ("/orders2", false, false),
        ("/admin", false, true),
        ("/admin/x", false, true),
        ("//admin", false, true),
        ("/%61dmin", false, true),
        ("/admin%2fx", false, true),
        ("/Admin", false, true),
        ("/admin/", false, true),
        ("/orders/", true, false),
        ("/orders/../admin", false, true),
        ("/orders/..", false, true),
        ("/orders/.", false, true),
        ("/orders/./1", false, true),
        ("/orders/%2e%2e/admin", false, true),
        ("/orders/.%2E/admin", false, true),
        ("/orders%2f..%2fadmin", false, true),
        ("/orders/..;/admin", false, true),
        ("/orders/..;x=1/admin", false, true),
        ("/orders/%5c../admin", false, true),
    ] {
        assert_eq!(ask(&allow, None, url).passes(), allowed, "allow {url}");
        assert_eq!(!ask(&deny, None, url).passes(), denied, "deny {url}");
    }
}

#[test]
fn a_final_star_alone_is_every_path() {
    for wide in [false, true] {
        let path_holds = |pattern, path| path_holds(pattern, path, wide);
        assert!(path_holds("*", "/x") && path_holds("/*", "/") && !path_holds("/a/*", "/a"));
        assert!(path_holds("/a*", "/ab") && !path_holds("/a", "/a//b") && !path_holds("/a", "/ab"));
        assert_eq!((path_holds("/a", "/a/"), path_holds("/a", "/A"), path_holds("/b/*", "/B/c")), (wide, wide, wide));
    }
}

proptest! {
    #[test]
    fn no_path_panics_and_dot_segments_are_seen(path in "[ -~]{0,40}") {
        let plain: Vec<u8> = unescape(path.as_bytes()).map(|(b, _)| b).collect();
        let segments = plain.split(|b| *b == b'/').map(|s| s.split(|b| *b == b';').next().unwrap_or_default());
        // The part in front of the first slash is no segment.
        let dots = segments.skip(1).any(|s| s == b"." || s == b"..");
        prop_assert_eq!(is_ambiguous(&path), dots || plain.contains(&b'\\'));
        path_holds(&path, &path, true);
    }
}

#[test]
fn who_could_have_proven_an_identity_and_has_not_may_be_the_denied_one() {
    let namespaces = Source { namespaces: vec!["shop".into()], ..Source::default() };
    for source in [identity(WEB), namespaces] {
        let deny = [policy(Mode::Enforce, vec![rule(AccessAction::Deny, vec![source.clone()], vec![])])];
        let allow = [policy(Mode::Enforce, vec![rule(AccessAction::Allow, vec![source], vec![])])];
        for (mtls, denied) in [(MtlsMode::Permissive, true), (MtlsMode::Strict, true), (MtlsMode::Disabled, false)] {
            let caller = Caller::new(None, Ipv4Addr::LOCALHOST.into(), mtls);
            assert_eq!(!evaluate(&deny, &caller, 1, &get("/")).passes(), denied, "{mtls:?}");
            assert_eq!(!evaluate_connection(&deny, &caller, 1).passes(), denied, "{mtls:?}");
            assert!(!evaluate(&allow, &caller, 1, &get("/")).passes());
            let known = Caller::new(Some(OPS), Ipv4Addr::LOCALHOST.into(), mtls);
            assert!(evaluate(&deny, &known, 1, &get("/")).passes());
        }
    }
}

#[test]
fn methods_in_another_case_are_denied_and_not_allowed() {
    let to = Operation { methods: vec![http::Method::DELETE], ..Operation::default() };
    let ask = |action, method: &str| {
        let policies = [policy(Mode::Enforce, vec![rule(action, vec![], vec![to.clone()])])];
        let request = ExplainRequest::new(method, "/", &[], None).unwrap();
        evaluate(&policies, &Caller::new(None, Ipv4Addr::LOCALHOST.into(), MtlsMode::Disabled), 1, &request).passes()
    };
    assert!(!ask(AccessAction::Deny, "DELETE") && !ask(AccessAction::Deny, "delete") && ask(AccessAction::Deny, "GET"));
    assert!(ask(AccessAction::Allow, "DELETE") && !ask(AccessAction::Allow, "delete"));
}

#[test]
fn one_of_several_fields_denies_and_all_of_them_allow() {
    let header = |name: &str, value: &str| Operation {
        headers: vec![ValueMatch { name: name.into(), value: crate::model::StringMatch::Exact(value.into()) }],
        ..Operation::default()
    };
    let role = header("x-role", "admin");
    for (fields, allowed, denied) in [
        (&["x-role: admin"][..], true, true),
        (&["x-role: user"], false, false),
        (&[], false, false),
        (&["x-role: admin", "x-role: user"], false, true),
        (&["x-role: user", "x-role: admin"], false, true),
        (&["x_role: admin"], false, true),
        (&["x.role: admin"], false, true),
        (&["x-role: admin", "X_Role: user"], false, true),
        (&["x-roles: admin"], false, false),
    ] {
        let fields: Vec<_> = fields.iter().map(|f| (*f).to_owned()).collect();
        let request = ExplainRequest::new("GET", "/", &fields, None).unwrap();
        assert_eq!(role.holds(AccessAction::Allow, 1, &request), allowed, "{fields:?}");
        assert_eq!(role.holds(AccessAction::Deny, 1, &request), denied, "{fields:?}");
    }
    let host = header("host", "internal");
    for (authority, allowed, denied) in
        [("internal", true, true), ("Internal.", true, true), ("INTERNAL:80", false, true), ("other", false, false)]
    {
        let request = ExplainRequest::new("GET", &format!("http://{authority}/"), &[], None).unwrap();
        assert_eq!(host.holds(AccessAction::Allow, 1, &request), allowed, "{authority}");
        assert_eq!(host.holds(AccessAction::Deny, 1, &request), denied, "{authority}");
    }
}
