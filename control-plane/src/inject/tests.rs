use serde_json::{Value, json};

use super::{Context, Flags, INJECTED, NativeSidecars, Outcome, Reason, Refused, Settings, asks, inject, uninject};

mod apps;
mod lifecycle;
mod properties;
mod refusals;
mod settings;

/// A pod that asks for a proxy.
fn pod(spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "labels": { "outrigger.dev/inject": "enabled" } },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    });
    merge(&mut pod["spec"], spec);
    pod
}

fn annotated(annotations: Value, spec: Value) -> Value {
    let mut pod = pod(spec);
    pod["metadata"]["annotations"] = annotations;
    pod
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn try_inject(template: &Value) -> Result<Value, Refused> {
    match inject(template, &Context::default(), &Settings::default())? {
        Outcome::Injected(injected) => Ok(*injected),
        Outcome::Skipped(why) => panic!("skipped: {why}"),
    }
}

#[track_caller]
fn injected(template: &Value) -> Value {
    let injected = try_inject(template).unwrap_or_else(|refused| panic!("{refused}: {template:#}"));
    assert_eq!(uninject(&injected).as_ref(), Some(template), "undone exactly: {injected:#}");
    assert_eq!(try_inject(&injected).unwrap(), injected, "twice is once");
    injected
}

#[track_caller]
fn refused(template: &Value, reason: Reason, field: &str) -> String {
    let refused = try_inject(template).expect_err("a refusal");
    assert_eq!((refused.reason, &*refused.field), (reason, field), "{refused}");
    refused.to_string()
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().into_iter().flatten().find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

fn variable<'v>(container: &'v Value, name: &str) -> &'v Value {
    &named(&container["env"], name)["value"]
}

/// What the proxy of an injected pod is told to ask of the app.
fn endpoints(pod: &Value) -> Value {
    let list =
        if pod["spec"]["initContainers"][0]["name"] == "outrigger-proxy" { "initContainers" } else { "containers" };
    let text = variable(named(&pod["spec"][list], "outrigger-proxy"), "OUTRIGGER_APP_ENDPOINTS");
    text.as_str().map_or(json!({}), |text| serde_json::from_str(text).unwrap())
}

#[test]
fn the_simplest_pod_gets_all_that_is_documented() {
    let after = injected(&pod(json!({})));
    let spec = &after["spec"];
    assert_eq!(names(&spec["initContainers"]), ["outrigger-proxy", "outrigger-redirect"]);
    assert_eq!(names(&spec["containers"]), ["web"]);
    assert_eq!(names(&spec["volumes"]), ["outrigger-token", "outrigger-trust", "outrigger-state"]);
    assert_eq!(after["metadata"]["labels"][INJECTED], "true");
    assert_eq!(after["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "web");
    assert_eq!(after["metadata"]["annotations"]["kubectl.kubernetes.io/default-logs-container"], "web");
    let proxy = &spec["initContainers"][0];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["args"], json!(["run", "--log-format", "json"]));
    assert_eq!(proxy["startupProbe"]["httpGet"], json!({ "path": "/readyz", "port": 9990, "scheme": "HTTP" }));
    assert_eq!(proxy["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(proxy["livenessProbe"]["httpGet"]["path"], "/livez");
    let security = &proxy["securityContext"];
    assert_eq!(security["runAsUser"], 2112);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let token = &spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, json!({ "audience": "outrigger.dev", "expirationSeconds": 3600, "path": "token" }));
    assert_eq!(variable(proxy, "OUTRIGGER_APP_ENDPOINTS"), &Value::Null, "there is nothing to ask");
    assert_eq!(
        variable(proxy, "OUTRIGGER_CONTROL_PLANE"),
        "outrigger-control-plane.outrigger-system.svc.cluster.local:9980"
    );
    assert_eq!(variable(proxy, "OUTRIGGER_NATIVE_SIDECAR"), "true");
    let redirect = &spec["initContainers"][1];
    assert_eq!(redirect["args"], json!(["redirect", "install"]));
    assert_eq!(redirect["securityContext"]["runAsUser"], 0);
    assert_eq!(redirect["securityContext"]["capabilities"], json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }));
    for container in [proxy, redirect] {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let shadowed = mounts.iter().any(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
        assert!(shadowed, "the pod's token for the API server stays out: {container}");
    }
}

#[test]
fn who_asks_decides() {
    let ask = |pod_says: Value, namespace: &str, namespace_says: &str, explicit: bool| {
        let mut template = pod(json!({}));
        template["metadata"]["labels"] = pod_says;
        let namespace_labels = match namespace_says {
            "" => [].into(),
            said => [("outrigger.dev/inject".to_owned(), said.to_owned())].into(),
        };
        let context = Context { namespace: namespace.to_owned(), namespace_labels, explicit };
        match inject(&template, &context, &Settings::default()) {
            Ok(Outcome::Injected(_)) => "injected".to_owned(),
            Ok(Outcome::Skipped(why)) => why,
            Err(refused) => refused.to_string(),
        }
    };
    let label = |value: &str| json!({ "outrigger.dev/inject": value });
    assert!(ask(json!({}), "shop", "", false).contains("neither the pod nor its namespace"));
    assert_eq!(ask(json!({}), "shop", "enabled", false), "injected");
    assert_eq!(ask(json!(null), "shop", "", true), "injected");
    assert_eq!(ask(label("enabled"), "shop", "disabled", false), "injected");
    assert!(ask(label("disabled"), "shop", "enabled", true).contains("the pod's label"));
    assert!(ask(json!({}), "shop", "disabled", true).contains("of the namespace says disabled"));
    let wrong = ask(json!({}), "shop", "true", false);
    assert_eq!(
        wrong,
        "Namespace shop: metadata.labels[outrigger.dev/inject]: \"true\" is neither enabled nor disabled: write enabled"
    );
    assert!(ask(label("yes"), "shop", "", false).contains("metadata.labels[outrigger.dev/inject]"));
    assert!(ask(json!({ "outrigger.dev/inject": true }), "shop", "", false).contains("in quotes"));
    for exempt in ["kube-system", "outrigger-system"] {
        assert!(ask(label("enabled"), exempt, "enabled", true).contains("exempt"));
    }
    assert!(asks(&pod(json!({}))) && !asks(&json!({})));
}

#[test]
fn what_is_not_ours_is_not_undone() {
    assert_eq!(uninject(&pod(json!({}))), None);
    assert_eq!(uninject(&json!(null)), None);
    let mut broken = injected(&pod(json!({})));
    broken["metadata"]["annotations"][INJECTED] = "junk".into();
    assert_eq!(uninject(&broken), None);
    let said = refused(&broken, Reason::Setting, "metadata.annotations[outrigger.dev/injected]");
    assert!(said.contains("remove the annotation"), "{said}");
}
