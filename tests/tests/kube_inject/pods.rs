//! Pods for the API server, and what is documented of those that come back.

use http::Method;
use outrigger_control_plane::inject::uninject;
use outrigger_tests::kube::{Cluster, Refusal};
use serde_json::{Value, json};

/// A namespace with these labels and a service account.
#[track_caller]
pub(crate) fn namespace(cluster: &Cluster, prefix: &str, labels: &Value) -> String {
    let name = cluster.namespace(prefix);
    cluster.patch("Namespace", "", &name, "", &json!({ "metadata": { "labels": labels } }));
    name
}

/// A pod of one container; `metadata` and `spec` are merged in.
pub(crate) fn pod(name: &str, metadata: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    });
    merge(&mut pod["metadata"], metadata);
    merge(&mut pod["spec"], spec);
    pod
}

pub(crate) fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}

/// Creates a pod as a controller does. What was stored.
pub(crate) fn create(cluster: &Cluster, namespace: &str, pod: &Value) -> Result<Value, Refusal> {
    let uri = format!("/api/v1/namespaces/{namespace}/pods?fieldValidation=Strict");
    cluster.send(Method::POST, &uri, "application/json", pod)
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

pub(crate) fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().into_iter().flatten().find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

pub(crate) fn is_injected(pod: &Value) -> bool {
    ["initContainers", "containers"].iter().any(|list| names(&pod["spec"][*list]).contains(&"outrigger-proxy"))
}

/// Whether all that `sent` says is in `stored`, which may say more.
pub(crate) fn says(stored: &Value, sent: &Value) -> bool {
    match (stored, sent) {
        (Value::Object(stored), Value::Object(sent)) => {
            sent.iter().all(|(key, value)| value.is_null() || stored.get(key).is_some_and(|s| says(s, value)))
        }
        (Value::Array(stored), Value::Array(sent)) => {
            stored.len() >= sent.len() && stored.iter().zip(sent).all(|(stored, sent)| says(stored, sent))
        }
        _ => stored == sent,
    }
}

/// What docs/annotations.md says of a pod that was injected.
#[track_caller]
pub(crate) fn as_documented(sent: &Value, stored: &Value) {
    let spec = &stored["spec"];
    let annotations = &stored["metadata"]["annotations"];
    assert_eq!(stored["metadata"]["labels"]["outrigger.dev/injected"], "true");
    let ordinary = annotations["outrigger.dev/native-sidecar"] == "disabled";
    let captured = annotations["outrigger.dev/capture"] != "none";
    let (list, others) = if ordinary { ("containers", "initContainers") } else { ("initContainers", "containers") };
    let own = |list: &str| names(&sent["spec"][list]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut order = vec!["outrigger-proxy".to_owned()];
    let mut rest = own(others);
    match (captured, ordinary) {
        (true, false) => order.push("outrigger-redirect".to_owned()),
        (true, true) => rest.push("outrigger-redirect".to_owned()),
        (false, _) => {}
    }
    order.extend(own(list));
    assert_eq!((names(&spec[list]), names(&spec[others])), (refs(&order), refs(&rest)));
    let proxy = &spec[list][0];
    let restart = if ordinary { Value::Null } else { "Always".into() };
    assert_eq!(proxy["restartPolicy"], restart);
    restricted(proxy, annotations["outrigger.dev/capture"] == "tproxy");
    volumes(spec);
    // The API server adds the pod's token to every container of the app, and to none of ours.
    for container in [proxy, named(&spec["initContainers"], "outrigger-redirect")] {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let foreign: Vec<_> =
            mounts.filter(|m| !m["name"].as_str().is_some_and(|n| n.starts_with("outrigger-"))).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
    let back = uninject(stored).expect("the record is there");
    assert!(!is_injected(&back) && back["metadata"]["labels"].get("outrigger.dev/injected").is_none());
    let mut sent = sent.clone();
    // Lists that the API server adds to at the end are compared by their beginning.
    if let Some(metadata) = sent["metadata"].as_object_mut() {
        metadata.shift_remove("name");
    }
    assert!(says(&back, &sent), "nothing else has changed: {sent:#}\n{back:#}");
}

fn refs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

#[track_caller]
fn restricted(proxy: &Value, tproxy: bool) {
    let security = &proxy["securityContext"];
    assert_eq!(security["runAsUser"], if tproxy { 0 } else { 2112 });
    assert_eq!(security["runAsGroup"], 2112);
    assert_eq!(security["runAsNonRoot"], !tproxy);
    for (field, value) in [("allowPrivilegeEscalation", false), ("privileged", false), ("readOnlyRootFilesystem", true)]
    {
        assert_eq!(security[field], value, "{field}");
    }
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(security["capabilities"].get("add").is_some(), tproxy);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for (probe, path) in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        assert_eq!((&proxy[probe]["httpGet"]["path"], &proxy[probe]["httpGet"]["port"]), (&json!(path), &json!(9990)));
    }
}

#[track_caller]
fn volumes(spec: &Value) {
    let volumes = &spec["volumes"];
    let token = &named(volumes, "outrigger-token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "outrigger.dev");
    assert!(token["expirationSeconds"].as_u64().is_some_and(|seconds| seconds >= 600), "{token}");
    assert_eq!(named(volumes, "outrigger-trust")["configMap"]["name"], "outrigger-trust");
    assert_eq!(named(volumes, "outrigger-state")["emptyDir"]["medium"], "Memory");
}

/// A pod that was read becomes one that can be created.
pub(crate) fn again(stored: &Value, name: &str) -> Value {
    let mut pod = stored.clone();
    let metadata = pod["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        metadata.shift_remove(field);
    }
    metadata.insert("name".into(), name.into());
    pod.as_object_mut().expect("a pod").shift_remove("status");
    pod
}
