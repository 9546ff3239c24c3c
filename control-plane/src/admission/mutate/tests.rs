use serde_json::{Value, json};

use super::*;

fn request(object: &Value, more: &Value) -> Request {
    let mut request = json!({
        "uid": "0815", "operation": "CREATE", "namespace": "shop", "object": object,
        "resource": { "group": "", "version": "v1", "resource": "pods" },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    Request::read(review.to_string().as_bytes()).unwrap()
}

fn pod(label: Option<&str>, spec: &Value) -> Value {
    let labels = label.map_or_else(|| json!({}), |label| json!({ INJECT_LABEL: label }));
    let mut whole = json!({ "containers": [{ "name": "web", "image": "web" }] });
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "web-", "labels": labels }, "spec": whole })
}

fn enabled() -> Context {
    let namespace_labels = [(INJECT_LABEL.to_owned(), "enabled".to_owned())].into();
    Context { namespace: "shop".to_owned(), namespace_labels, explicit: false }
}

fn reviewed(pod: &Value) -> Reviewed {
    review(&request(pod, &json!({})), &enabled(), &Settings::default())
}

#[test]
fn a_pod_gets_its_proxy_by_a_patch() {
    let pod = pod(None, &json!({ "nodeName": "n" }));
    let done = reviewed(&pod);
    assert_eq!((done.outcome, &done.response["allowed"]), ("injected", &json!(true)));
    assert_eq!(done.response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(done.response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(inject::uninject(&patched), Some(pod));
    // The second call of a webhook that is invoked again has nothing to add.
    assert_eq!(reviewed(&patched).response.get("patch"), None);
}

#[test]
fn what_cannot_be_meshed_runs_without_and_is_told_unless_it_asked() {
    let spec = json!({ "hostNetwork": true });
    let let_in = reviewed(&pod(None, &spec));
    assert_eq!((let_in.outcome, &let_in.response["allowed"]), ("unmeshed", &json!(true)));
    assert!(let_in.warnings[0].contains("spec.hostNetwork"), "{let_in:?}");
    let refused = reviewed(&pod(Some("enabled"), &spec));
    assert_eq!((refused.outcome, &refused.response["allowed"]), ("refused", &json!(false)));
    let status = &refused.response["status"];
    assert_eq!(status["details"]["causes"][0]["field"], "spec.hostNetwork");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("\"web-\"") && message.contains("host_network"), "{message}");
    // What its author can put right is refused, whoever asked.
    let mut wrong = pod(None, &json!({}));
    wrong["metadata"]["annotations"] = json!({ "outrigger.dev/capture": "nome" });
    assert_eq!(reviewed(&wrong).outcome, "refused");
    assert_eq!(reviewed(&pod(Some("disabled"), &json!({}))).outcome, "skipped");
}

#[test]
fn only_pods_that_are_created_concern_us() {
    let concerns = |more: &Value| super::concerns(&request(&pod(None, &json!({})), more));
    assert!(concerns(&json!({})) && concerns(&json!({ "dryRun": true })));
    for more in [
        json!({ "operation": "UPDATE" }),
        json!({ "operation": "DELETE" }),
        json!({ "subResource": "ephemeralcontainers" }),
        json!({ "resource": { "group": "", "version": "v1", "resource": "services" } }),
        json!({ "resource": { "group": "metrics.k8s.io", "version": "v1", "resource": "pods" } }),
    ] {
        assert!(!concerns(&more), "{more}");
    }
}

#[test]
fn native_sidecars_go_by_the_version_of_the_api_server() {
    for (major, minor, native) in [
        ("1", "28", false),
        ("1", "29", true),
        ("1", "29+", true),
        ("1", "34", true),
        ("2", "0", true),
        ("", "", false),
    ] {
        assert_eq!(is_native(major, minor), native, "{major}.{minor}");
    }
}

#[test]
fn junk_is_answered_without_a_panic() {
    for object in [json!(null), json!([]), json!({}), json!({ "metadata": 1, "spec": [] })] {
        let answered = review(&request(&object, &json!({})), &enabled(), &Settings::default());
        assert_eq!(answered.response["allowed"], false, "{object}");
    }
}
