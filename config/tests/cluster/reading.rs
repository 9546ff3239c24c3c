//! How objects are read: fields of newer versions, what Kubernetes adds, objects that come twice, and where faults are.

use super::*;

fn told(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn fields_of_newer_versions_are_left_out() {
    let policy = json!({ "targetRefs": [{ "kind": "Service", "name": "o" }], "warp": 9, "retry": { "attempts": 1, "hedge": true } });
    let kept = object("TrafficPolicy", "shop", "t", &policy);
    let faults = validate_in(std::slice::from_ref(&kept), &cluster("shop"));
    assert!(faults.iter().all(|f| f.severity == Severity::Warning));
    assert_eq!(
        told(&faults),
        [
            "TrafficPolicy shop/t: spec.warp: warning: field `warp` is left out: it is not known to this version",
            "TrafficPolicy shop/t: spec.retry.hedge: warning: field `hedge` is left out: it is not known to this version",
        ]
    );
    let wanted = Source::admission("TrafficPolicy shop/t", kept.text);
    let faults = validate_in(&[wanted], &cluster("shop"));
    assert_eq!(faults.iter().filter(|f| f.severity == Severity::Error).count(), 2, "{faults:?}");
}

#[test]
fn a_rule_of_access_never_loses_a_field() {
    let rules = json!([{ "from": [{ "namespaces": ["ops"], "hours": "9-17" }] }]);
    let spec = json!({ "targetRefs": [{ "kind": "Service", "name": "o" }], "rules": rules });
    let faults = validate_in(&[object("AccessPolicy", "shop", "a", &spec)], &cluster("shop"));
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].severity, Severity::Error);
    assert_eq!(&*faults[0].origin.path.clone().unwrap(), "spec.rules[0].from[0].hours");
}

#[test]
fn kubernetes_keeps_more_than_is_read() {
    let text = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "o", "namespace": "shop", "managedFields": [{ "a": 1 }], "newInKubernetes": {} },
        "spec": { "clusterIP": "None", "ports": [{ "port": 80, "nodePort": 30000 }], "trafficDistribution": "PreferClose" },
        "status": { "loadBalancer": {} }, "extra": 1,
    });
    assert_eq!(validate_in(&[Source::object("Service shop/o", text.to_string())], &cluster("shop")), []);
}

#[test]
fn faults_are_located_by_field() {
    let spec = json!({
        "parentRefs": [{ "kind": "Service", "name": "o" }],
        "rules": [
            { "backendRefs": [{ "name": "o", "port": 80 }] },
            { "matches": [{ "path": { "type": "RegularExpression", "value": "(" } }], "backendRefs": [{ "name": "o" }] },
            { "timeouts": { "request": "1.5s" } },
        ],
    });
    let faults = validate_in(&[object("HTTPRoute", "shop", "r", &spec)], &cluster("shop"));
    let places: Vec<String> = faults.iter().map(|f| f.origin.to_string()).collect();
    assert_eq!(
        places,
        [
            "HTTPRoute shop/r: spec.rules[1].matches[0].path.value",
            "HTTPRoute shop/r: spec.rules[1].backendRefs[0].name",
            "HTTPRoute shop/r: spec.rules[2].timeouts.request",
        ]
    );
}

#[test]
fn an_object_that_comes_twice_is_one() {
    let old = service("shop", "orders", &[80]);
    let new = service("shop", "orders", &[81]);
    let model = build("shop", &[old.clone(), old, new]);
    assert_eq!(model.upstreams.iter().map(|u| &*u.name).collect::<Vec<_>>(), ["shop/orders:81"]);
}

#[test]
fn services_and_grants_stand_in_no_file() {
    for (kind, version) in [("Service", "v1"), ("ReferenceGrant", "gateway.networking.k8s.io/v1beta1")] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: a }}\nspec: {{}}\n");
        let faults = outrigger_config::validate(&[Source { name: "f.yaml".into(), text }]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().starts_with("f.yaml:2:7: a "), "{}", faults[0]);
        assert!(faults[0].message.contains("in a file"), "{}", faults[0]);
    }
}

#[test]
fn a_list_of_a_cluster_is_read_as_its_items() {
    let inner: Vec<Value> = [service("shop", "a", &[80]), service("shop", "b", &[80])]
        .iter()
        .map(|s| serde_json::from_str(&s.text).unwrap())
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": inner });
    let model = build("shop", &[Source::object("List", list.to_string())]);
    assert_eq!(model.upstreams.len(), 2);
}

/// Alone, a document has no grants beside it, and they may well be there.
#[test]
fn a_document_alone_is_not_told_of_grants() {
    let foreign = route("shop", "r", ("shop", "orders"), &[("ops", "orders", 80, 1)]);
    assert_eq!(validate_in(std::slice::from_ref(&foreign), &cluster("shop")), []);
    let faults = validate_in(&[foreign, service("ops", "orders", &[80])], &cluster("shop"));
    assert!(
        faults[0].message.starts_with("no ReferenceGrant in namespace `ops` lets HTTPRoute shop/r refer"),
        "{faults:?}"
    );
}
