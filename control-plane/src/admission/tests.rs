use outrigger_config::Cluster;
use serde_json::{Value, json};

use super::{Finding, answer, judge};

fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "outrigger.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {
            "name": "payments", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "12",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{ "manager": "kubectl" }],
            "labels": { "a": "b" },
        },
        "spec": spec,
        "status": { "ancestors": [] },
    })
}

fn good() -> Value {
    policy(&json!({
        "targetRefs": [{ "group": "outrigger.dev", "kind": "Upstream", "name": "payments" }],
        "timeouts": { "request": "3s" },
    }))
}

fn bad() -> Value {
    policy(&json!({
        "targetRefs": [{ "group": "outrigger.dev", "kind": "Upstream", "name": "payments" }],
        "timeouts": { "request": "1.5s" },
        "retry": { "attempts": 2, "codes": [200] },
    }))
}

fn review(operation: &str, object: &Value, old: &Value, more: &Value) -> Value {
    let mut request = json!({
        "uid": "0815", "operation": operation, "object": object, "oldObject": old,
        "kind": { "group": "outrigger.dev", "version": "v1alpha1", "kind": "TrafficPolicy" },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    let answer = answer(review.to_string().as_bytes(), &Cluster::default()).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn every_fault_is_told_with_its_field() {
    let verdict = judge(&bad(), &Cluster::default()).unwrap();
    let fields: Vec<_> = verdict.errors.iter().map(|f| &*f.field).collect();
    assert_eq!(fields, ["spec.timeouts.request", "spec.retry.codes[0]"], "{verdict:#?}");
    assert!(verdict.errors[0].message.contains("1500ms"), "{verdict:#?}");
    assert_eq!(judge(&good(), &Cluster::default()).unwrap().errors, []);
}

#[test]
fn an_unknown_field_is_a_fault_with_a_suggestion() {
    let mut object = good();
    object["spec"]["tiemouts"] = json!({});
    let Finding { field, message } = judge(&object, &Cluster::default()).unwrap().errors.remove(0);
    assert!(field.starts_with("spec"), "{field}");
    assert!(message.contains("timeouts"), "{message}");
}

#[test]
fn a_review_is_answered_in_its_form() {
    let answer = review("CREATE", &bad(), &Value::Null, &Value::Null);
    assert_eq!((&answer["kind"], &answer["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("0815"), &json!(false)));
    assert_eq!((&response["status"]["code"], &response["status"]["reason"]), (&json!(422), &json!("Invalid")));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("TrafficPolicy \"payments\" is invalid: spec.timeouts.request: "), "{message}");
    assert_eq!(response["status"]["details"]["causes"][1]["field"], "spec.retry.codes[0]");
    let answer = review("CREATE", &good(), &Value::Null, &Value::Null);
    assert_eq!(answer["response"], json!({ "uid": "0815", "allowed": true }));
}

#[test]
fn what_is_wrong_can_still_be_removed_and_repaired() {
    let allowed = |operation, object: &Value, old: &Value, more: Value| {
        review(operation, object, old, &more)["response"]["allowed"].as_bool().unwrap()
    };
    let bad = bad();
    assert!(!allowed("UPDATE", &bad, &good(), json!({})));
    assert!(!allowed("CREATE", &bad, &Value::Null, json!({ "dryRun": true })), "a dry run is told the truth");
    assert!(allowed("DELETE", &Value::Null, &bad, json!({})));
    assert!(allowed("UPDATE", &bad, &good(), json!({ "subResource": "status" })));
    assert!(allowed("CONNECT", &Value::Null, &Value::Null, json!({})));
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"]["c"] = json!("d");
    assert!(allowed("UPDATE", &labelled, &bad, json!({})), "spec is as it was");
    let mut going = bad.clone();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(allowed("UPDATE", &going, &good(), json!({})), "a finalizer must be able to go");
    assert!(allowed("UPDATE", &good(), &bad, json!({})));
}

#[test]
fn routes_of_gateways_are_not_ours() {
    let route = |parents: Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "r", "namespace": "shop" },
            "spec": {
                "parentRefs": parents,
                "rules": [{ "matches": [{ "path": { "type": "PathPrefix", "value": "no-slash" } }] }],
            },
        })
    };
    assert_eq!(judge(&route(json!([{ "name": "edge" }])), &Cluster::default()), None);
    let ours = judge(&route(json!([{ "group": "", "kind": "Service", "name": "payments" }])), &Cluster::default());
    let errors = ours.unwrap().errors;
    assert_eq!(errors[0].field, "spec.rules[0].matches[0].path.value", "{errors:?}");
    assert_eq!(judge(&json!({ "apiVersion": "v1", "kind": "Pod" }), &Cluster::default()), None);
}

#[test]
fn junk_is_refused_without_a_panic() {
    for body in ["", "{}", "[]", "null", "{\"apiVersion\":\"admission.k8s.io/v1\"}"] {
        assert!(answer(body.as_bytes(), &Cluster::default()).is_err(), "{body}");
    }
    let old = json!({ "apiVersion": "admission.k8s.io/v1beta1", "request": { "uid": "1", "operation": "CREATE" } });
    let refused = answer(old.to_string().as_bytes(), &Cluster::default()).unwrap_err();
    assert!(refused.to_string().contains("v1beta1"));
    for object in
        [json!(null), json!([]), json!({ "apiVersion": 7 }), json!({ "apiVersion": "outrigger.dev/v1alpha1" })]
    {
        review("CREATE", &object, &Value::Null, &Value::Null);
    }
}
