//! What authors read, and what is written over what stands there.

use outrigger_config::documents::Kind;
use serde_json::{Value, json};

use super::*;
use crate::index::{
    Event, Object, ObjectKind,
    tests::{aged, at, document, index, route, world},
};

fn of(kind: Kind, namespace: &str, name: &str) -> DocumentRef {
    DocumentRef { kind, at: at(namespace, name) }
}

/// `TYPE=STATUS/REASON` of each condition of each entry.
fn told(index: &Index, document: &DocumentRef) -> Vec<Vec<String>> {
    let status = wanted(index, document, &[]).unwrap();
    let entries = status.as_object().unwrap().values().next().unwrap().as_array().unwrap().clone();
    let text = |c: &Value| {
        format!("{}={}/{}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
    };
    entries.iter().map(|e| e["conditions"].as_array().unwrap().iter().map(text).collect()).collect()
}

const ACCEPTED: &str = "Accepted=True/Accepted";
const RESOLVED: &str = "ResolvedRefs=True/ResolvedRefs";

#[test]
fn routes_have_an_entry_for_each_parent_of_ours() {
    let spec = json!({
        "parentRefs": [
            { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" },
            { "group": "", "kind": "Service", "name": "orders", "port": 80 },
            { "group": "", "kind": "Service", "name": "orders", "port": 99 },
            { "group": "", "kind": "Service", "name": "nowhere" },
            { "group": "outrigger.dev", "kind": "Upstream", "namespace": "web", "name": "ledger" },
        ],
        "rules": [{ "backendRefs": [{ "name": "orders", "port": 80 }] }],
    });
    let mut objects = world();
    objects.push(Object::Document(document(Kind::HTTPRoute, "shop", "r", &spec)));
    let index = index(objects);
    let document = of(Kind::HTTPRoute, "shop", "r");
    let missing = "Accepted=False/NoMatchingParent";
    assert_eq!(
        told(&index, &document),
        [[ACCEPTED, RESOLVED], [missing, RESOLVED], [missing, RESOLVED], [ACCEPTED, RESOLVED]]
    );
    let status = wanted(&index, &document, &[]).unwrap();
    assert_eq!(
        status["parents"][0]["parentRef"],
        json!({ "group": "", "kind": "Service", "name": "orders", "port": 80 })
    );
    assert_eq!(status["parents"][0]["controllerName"], CONTROLLER);
    assert_eq!(status["parents"][0]["conditions"][0]["observedGeneration"], 7);
    assert_eq!(wanted(&index, &of(Kind::HTTPRoute, "shop", "none"), &[]), None);
}

#[test]
fn references_resolve_or_say_why_not() {
    let with = |backend: Value, more: Vec<Object>| {
        let spec = json!({
            "parentRefs": [{ "group": "", "kind": "Service", "name": "orders" }],
            "rules": [{ "backendRefs": [backend] }],
        });
        let objects =
            world().into_iter().chain([Object::Document(document(Kind::HTTPRoute, "shop", "r", &spec))]).chain(more);
        told(&index(objects), &of(Kind::HTTPRoute, "shop", "r"))[0][1].clone()
    };
    assert_eq!(with(json!({ "name": "orders", "port": 80 }), vec![]), RESOLVED);
    assert_eq!(with(json!({ "name": "nowhere", "port": 80 }), vec![]), "ResolvedRefs=False/BackendNotFound");
    assert_eq!(with(json!({ "name": "orders", "port": 99 }), vec![]), "ResolvedRefs=False/BackendNotFound");
    assert_eq!(
        with(json!({ "name": "x", "namespace": "web", "port": 80 }), vec![]),
        "ResolvedRefs=False/RefNotPermitted"
    );
    assert_eq!(
        with(json!({ "group": "x.io", "kind": "Bucket", "name": "b" }), vec![]),
        "ResolvedRefs=False/InvalidKind"
    );
    let broken = document(Kind::Upstream, "shop", "u", &json!({}));
    let upstream = json!({ "group": "outrigger.dev", "kind": "Upstream", "name": "u" });
    assert_eq!(with(upstream, vec![Object::Document(broken)]), "ResolvedRefs=False/BackendNotFound");
}

#[test]
fn a_route_with_a_fault_says_where() {
    let mut objects = world();
    let spec = json!({
        "parentRefs": [{ "group": "", "kind": "Service", "name": "orders" }],
        "rules": [{ "matches": [{ "path": { "type": "RegularExpression", "value": "(" } }], "backendRefs": [{ "name": "orders", "port": 80 }] }],
    });
    objects.push(Object::Document(document(Kind::HTTPRoute, "shop", "r", &spec)));
    let index = index(objects);
    let status = wanted(&index, &of(Kind::HTTPRoute, "shop", "r"), &[]).unwrap();
    let accepted = &status["parents"][0]["conditions"][0];
    assert_eq!((accepted["status"].as_str(), accepted["reason"].as_str()), (Some("False"), Some("UnsupportedValue")));
    assert!(accepted["message"].as_str().unwrap().starts_with("spec.rules[0].matches[0].path.value: "), "{accepted}");
}

#[test]
fn the_losers_of_a_merge_say_so() {
    let policy = |name: &str, created: &str, target: Value| {
        Object::Document(aged(
            Kind::TrafficPolicy,
            "shop",
            name,
            created,
            &json!({ "targetRefs": [target], "timeouts": { "request": "1s" } }),
        ))
    };
    let payments = json!({ "group": "", "kind": "Service", "name": "payments" });
    let port = json!({ "group": "", "kind": "Service", "name": "payments", "sectionName": "p80" });
    let mut index = index(world().into_iter().chain([
        policy("old", "2026-01-01T00:00:00Z", payments.clone()),
        policy("new", "2026-01-02T00:00:00Z", payments.clone()),
        policy("a-new", "2026-01-02T00:00:00Z", payments.clone()),
        policy("port", "2026-01-03T00:00:00Z", port),
    ]));
    let accepted = |index: &Index, name: &str| told(index, &of(Kind::TrafficPolicy, "shop", name))[0][0].clone();
    assert_eq!(accepted(&index, "old"), ACCEPTED);
    assert_eq!(accepted(&index, "new"), "Accepted=False/Conflicted");
    assert_eq!(accepted(&index, "a-new"), "Accepted=False/Conflicted");
    assert_eq!(accepted(&index, "port"), ACCEPTED, "a port is more specific, not a rival");
    let changes = index.apply(Event::Delete(ObjectKind::Document(Kind::TrafficPolicy), at("shop", "old")));
    assert!(changes.documents.contains(&of(Kind::TrafficPolicy, "shop", "new")), "the next one hears of it");
    assert_eq!(accepted(&index, "a-new"), ACCEPTED);
    assert_eq!(accepted(&index, "new"), "Accepted=False/Conflicted");
}

#[test]
fn policies_find_their_targets() {
    let accepted = |kind: Kind, namespace: &str, target: Value| {
        let mut spec = json!({ "targetRefs": [target] });
        if kind == Kind::TrafficPolicy {
            spec["timeouts"] = json!({ "request": "1s" });
        }
        let policy = document(kind, namespace, "p", &spec);
        let index = index(world().into_iter().chain([Object::Document(policy)]));
        told(&index, &of(kind, namespace, "p"))[0][0].clone()
    };
    let traffic = |target| accepted(Kind::TrafficPolicy, "shop", target);
    let missing = "Accepted=False/TargetNotFound";
    assert_eq!(traffic(json!({ "kind": "Service", "name": "payments" })), ACCEPTED);
    assert_eq!(traffic(json!({ "kind": "Service", "name": "payments", "sectionName": "p80" })), ACCEPTED);
    assert_eq!(traffic(json!({ "kind": "Service", "name": "payments", "sectionName": "no" })), missing);
    assert_eq!(traffic(json!({ "kind": "Service", "name": "nowhere" })), missing);
    assert_eq!(traffic(json!({ "kind": "HTTPRoute", "name": "orders" })), ACCEPTED);
    assert_eq!(traffic(json!({ "kind": "HTTPRoute", "name": "orders", "sectionName": "r" })), ACCEPTED);
    assert_eq!(traffic(json!({ "kind": "HTTPRoute", "name": "orders", "sectionName": "s" })), missing);
    assert_eq!(traffic(json!({ "kind": "GRPCRoute", "name": "orders" })), missing);
    assert_eq!(traffic(json!({ "kind": "Namespace", "name": "shop" })), ACCEPTED);
    assert_eq!(traffic(json!({ "kind": "Namespace", "name": "web" })), "Accepted=False/Invalid");
    assert_eq!(traffic(json!({ "kind": "Service", "name": "orders", "namespace": "web" })), missing);
    assert_eq!(traffic(json!({ "kind": "Gateway", "name": "edge" })), "Accepted=False/Invalid");
    let system = |target| accepted(Kind::MeshPolicy, "outrigger-system", target);
    assert_eq!(system(json!({ "kind": "Namespace", "name": "web" })), ACCEPTED);
    assert_eq!(system(json!({ "kind": "Namespace", "name": "nowhere" })), missing);
}

#[test]
fn access_policies_do_not_rival() {
    let spec = json!({ "targetRefs": [{ "kind": "Service", "name": "orders" }], "rules": [{ "action": "allow" }] });
    let broken = json!({ "targetRefs": [{ "kind": "Service", "name": "orders" }], "rules": [{ "form": [] }] });
    let index = index(world().into_iter().chain([
        Object::Document(document(Kind::AccessPolicy, "shop", "second", &spec)),
        Object::Document(document(Kind::AccessPolicy, "shop", "broken", &broken)),
    ]));
    assert_eq!(told(&index, &of(Kind::AccessPolicy, "shop", "second")), [[ACCEPTED]]);
    assert_eq!(told(&index, &of(Kind::AccessPolicy, "shop", "broken")), [["Accepted=False/Invalid"]]);
    let message = wanted(&index, &of(Kind::AccessPolicy, "shop", "broken"), &[]).unwrap();
    let message = message["ancestors"][0]["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("(until this is mended, it refuses everyone)"), "{message}");
}

#[test]
fn a_policy_without_targets_names_what_it_is_for() {
    let index = index(world().into_iter().chain([Object::Document(document(
        Kind::MeshPolicy,
        "outrigger-system",
        "default",
        &json!({ "mtls": "strict" }),
    ))]));
    let ancestor = |namespace: &str| {
        wanted(&index, &of(Kind::MeshPolicy, namespace, "default"), &[]).unwrap()["ancestors"][0]["ancestorRef"].clone()
    };
    assert_eq!(ancestor("shop"), json!({ "group": "", "kind": "Namespace", "name": "shop" }));
    assert_eq!(ancestor("outrigger-system"), json!({ "group": "", "kind": "Namespace", "name": "outrigger-system" }));
}

#[test]
fn a_refusal_shows_as_long_as_it_lasts() {
    let index = index(world());
    let document = of(Kind::TrafficPolicy, "shop", "orders");
    let refusal = Refusal { pod: "web/web-1".into(), reason: "TrafficPolicy shop/orders: spec.warp: too new".into() };
    let status = wanted(&index, &document, &[refusal.clone(), refusal]).unwrap();
    let last = status["ancestors"][0]["conditions"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["type"], &last["status"]), (&json!(REFUSED), &json!("True")));
    let message = last["message"].as_str().unwrap();
    assert!(message.contains("web/web-1") && message.contains("spec.warp") && message.contains("1 more"), "{message}");
    assert!(!wanted(&index, &document, &[]).unwrap().to_string().contains(REFUSED));
}

#[test]
fn the_blamed_document_is_the_one_that_the_reason_names() {
    let found = |reason: &str| blamed(reason).map(|d| format!("{} {}/{}", d.kind.as_str(), d.at.namespace, d.at.name));
    assert_eq!(found("HTTPRoute shop/r: spec.rules[0]: no").as_deref(), Some("HTTPRoute shop/r"));
    assert_eq!(found("AccessPolicy shop/a").as_deref(), Some("AccessPolicy shop/a"));
    for other in
        ["", "HTTPRoute", "HTTPRoute r: x", "Secret shop/s: x", "Service shop/s: x", "HTTPRoute a/b/c: x", "x y/z"]
    {
        assert_eq!(found(other), None, "{other}");
    }
}

const NOW: &str = "2026-02-02T00:00:00Z";

#[test]
fn entries_of_others_and_times_are_kept() {
    let index = index(world());
    let document = of(Kind::HTTPRoute, "shop", "orders");
    let ours = wanted(&index, &document, &[]).unwrap();
    let other = json!({ "parentRef": { "name": "edge" }, "controllerName": "example.com/gateway", "conditions": [{ "type": "Accepted", "x": 1 }] });

    let first = patch(Some(&json!({ "parents": [other] })), &ours, NOW).unwrap();
    assert_eq!(first["parents"][0], other);
    assert_eq!(first["parents"][1]["conditions"][0]["lastTransitionTime"], NOW);
    assert_eq!(patch(Some(&first), &ours, "2026-03-03T00:00:00Z"), None, "it is so already");

    // A message alone changes no time; a status does.
    let mut changed = ours.clone();
    changed["parents"][0]["conditions"][0]["message"] = json!("other words");
    changed["parents"][0]["conditions"][1]["status"] = json!("False");
    let second = patch(Some(&first), &changed, "2026-03-03T00:00:00Z").unwrap();
    let time = |n: usize| second["parents"][1]["conditions"][n]["lastTransitionTime"].as_str().unwrap().to_owned();
    assert_eq!((time(0).as_str(), time(1).as_str()), (NOW, "2026-03-03T00:00:00Z"));
}

#[test]
fn entries_of_ours_go_when_the_parent_does() {
    let mut index = index(world());
    let document = of(Kind::HTTPRoute, "shop", "orders");
    let there = patch(None, &wanted(&index, &document, &[]).unwrap(), NOW).unwrap();
    let mut detached = route("shop", "orders", ("shop", "orders"), &[("shop", "orders", 80)]);
    let edge = detached.json.replace(r#""group":"","kind":"Service""#, r#""kind":"Gateway""#);
    detached.json = edge.into();
    index.apply(Event::Upsert(Object::Document(detached)));
    let none = wanted(&index, &document, &[]).unwrap();
    assert_eq!(none, json!({ "parents": [] }));
    assert_eq!(patch(Some(&there), &none, NOW), Some(json!({ "parents": [] })));
    assert_eq!(patch(None, &none, NOW), None);
}

#[test]
fn conditions_of_others_at_an_upstream_are_theirs() {
    let index = index(world());
    let ours = wanted(&index, &of(Kind::Upstream, "web", "ledger"), &[]).unwrap();
    let mut there = patch(None, &ours, NOW).unwrap();
    assert_eq!(there["conditions"][0]["type"], "Accepted");
    there["conditions"].as_array_mut().unwrap().push(json!({ "type": "example.com/Checked", "status": "True" }));
    assert_eq!(patch(Some(&there), &ours, NOW), None);
    there["conditions"].as_array_mut().unwrap().push(json!({ "type": REFUSED, "status": "True" }));
    let patched = patch(Some(&there), &ours, NOW).unwrap();
    assert_eq!(patched["conditions"].as_array().unwrap().len(), 1, "what is no more is taken back: {patched}");
}

#[test]
fn there_is_room_for_sixteen_ancestors() {
    let entry = |n: u32, controller: &str| json!({ "ancestorRef": { "name": format!("t{n}") }, "controllerName": controller, "conditions": [] });
    let others: Vec<Value> = (0..4).map(|n| entry(n, "example.com/other")).collect();
    let ours: Vec<Value> = (0..16).map(|n| entry(n, CONTROLLER)).collect();
    let patched = patch(Some(&json!({ "ancestors": others })), &json!({ "ancestors": ours }), NOW).unwrap();
    let list = patched["ancestors"].as_array().unwrap();
    assert_eq!((list.len(), &list[..4]), (16, &others[..]));
    assert_eq!(patch(Some(&patched), &json!({ "ancestors": ours }), NOW), None);
}

#[test]
fn a_namespace_that_comes_is_a_target() {
    let policy = document(Kind::MeshPolicy, "ops", "default", &json!({ "mtls": "strict" }));
    let mut index = index([Object::Document(policy)]);
    let document = of(Kind::MeshPolicy, "ops", "default");
    assert_eq!(told(&index, &document), [["Accepted=False/TargetNotFound"]]);
    let ops = crate::index::Namespace { name: "ops".into(), labels: Default::default() };
    assert!(index.apply(Event::Upsert(Object::Namespace(ops))).documents.contains(&document));
    assert_eq!(told(&index, &document), [[ACCEPTED]]);
    assert!(index.apply(Event::Delete(ObjectKind::Namespace, at("", "ops"))).documents.contains(&document));
}
