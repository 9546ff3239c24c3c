//! `outrigger check` and `outrigger explain` against a real API server.

use std::process::{Command, Output, Stdio};

use outrigger_config::identity::{TRUST_CONFIG_MAP, TRUST_CONFIG_MAP_KEY};
use outrigger_control_plane::ca::{Authority, encode_certificates};
use outrigger_tests::{
    binary,
    kube::{Backend, Cluster},
};
use serde_json::{Value, json};

fn outrigger(cluster: &Cluster, args: &[&str]) -> Output {
    Command::new(binary::outrigger())
        .args(args)
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn check(cluster: &Cluster, args: &[&str]) -> (Option<i32>, Value) {
    let output = outrigger(cluster, &[&["check", "-o", "json"], args].concat());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {words}")))
}

/// Result and message of the lines of this name.
fn lines(report: &Value, name: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["checks"].as_array().expect("checks").iter().filter(|check| check["name"] == name);
    all.map(|check| (text(&check["result"]), text(&check["message"]))).collect()
}

#[test]
fn kube_check_says_what_is_there_and_what_is_missing() {
    let Some(cluster) = Cluster::shared("kube_check_says_what_is_there_and_what_is_missing") else { return };
    let (code, report) = check(cluster, &["--pre"]);
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report:#}");
    for name in ["api-server", "version", "clock", "gateway-api", "crds", "permissions"] {
        let found = lines(&report, name);
        assert!(found.len() == 1 && found[0].0 == "ok", "{name}: {found:?}");
    }
    let (code, report) = check(cluster, &["--mesh-namespace", "nowhere"]);
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report:#}");
    assert_eq!(lines(&report, "control-plane")[0].0, "fault");
    let faults = report["checks"].as_array().expect("checks").iter().filter(|check| check["result"] != "ok");
    for fault in faults {
        assert!(fault["remedy"].is_string(), "every fault has its remedy: {fault}");
    }
    let text = outrigger(cluster, &["check", "--mesh-namespace", "nowhere"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("-> install the chart") && !text.contains('\x1b'), "{text}");
}

#[test]
fn kube_check_looks_at_replicas_roots_webhook_and_pods() {
    let Some(cluster) = Cluster::shared("kube_check_looks_at_replicas_roots_webhook_and_pods") else { return };
    let mesh = cluster.namespace("mesh");
    cluster.service(&mesh, "outrigger-control-plane", 9980, &json!({}));
    let one = Backend::ready("10.0.0.1", "a");
    cluster.slice(&mesh, "outrigger-control-plane", 1, "", 9980, &[one]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let root = Authority::generate("cluster.local", 30 * 86_400 + 3600, now).expect("a root");
    let pem = encode_certificates([root.certificate()]);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": TRUST_CONFIG_MAP, "namespace": mesh },
        "data": { (TRUST_CONFIG_MAP_KEY): pem },
    });
    cluster.apply_as("tests", &map, "").expect("it is taken");
    let shop = cluster.namespace("shop");
    let label = json!({ "metadata": { "labels": { "outrigger.dev/inject": "enabled" } } });
    cluster.patch("Namespace", "", &shop, "", &label);
    cluster.plain_pod(&shop, "bare-1", "default", "10.0.0.8");
    cluster.pod(&shop, "meshed-1", "default", "10.0.0.9");
    let args = ["--mesh-namespace", &mesh, "--webhook", "nowhere"];
    let (code, report) = check(cluster, &args);
    assert_eq!(
        lines(&report, "control-plane"),
        [("ok".to_owned(), "all 1 replicas of the control plane are ready".to_owned())]
    );
    let roots = lines(&report, "ca");
    assert!(roots.len() == 1 && roots[0].0 == "warning" && roots[0].1.contains("30 days"), "{roots:?}");
    assert_eq!(lines(&report, "webhook")[0].0, "warning");
    assert_eq!(lines(&report, "injection")[0].0, "warning");
    let unmeshed = lines(&report, "unmeshed");
    assert!(unmeshed[0].0 == "warning" && unmeshed[0].1.contains(&format!("{shop}/bare-1")), "{unmeshed:?}");
    assert!(!unmeshed[0].1.contains("meshed-1"), "{unmeshed:?}");
    assert_eq!(code, Some(0), "warnings are no faults: {report:#}");
}

#[test]
fn kube_check_tries_injection_and_names_a_webhook_that_is_not_reached() {
    let Some(cluster) = Cluster::shared("kube_check_tries_injection") else { return };
    let mesh = cluster.namespace("mesh");
    cluster.service_account("default", "default");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let root = Authority::generate("cluster.local", 365 * 86_400, now).expect("a root");
    let pem = encode_certificates([root.certificate()]);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": TRUST_CONFIG_MAP, "namespace": mesh },
        "data": { (TRUST_CONFIG_MAP_KEY): pem },
    });
    cluster.apply_as("tests", &map, "").expect("it is taken");
    let bundle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem);
    let webhook = |pods: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": mesh },
            "webhooks": [{
                "name": "pod.inject.outrigger.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 2,
                "clientConfig": { "url": "https://127.0.0.1:1/mutate", "caBundle": bundle },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } },
                "objectSelector": { "matchLabels": { "outrigger.dev/inject": pods } },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
            }],
        })
    };
    let args = ["--mesh-namespace", &mesh, "--webhook", &mesh];
    for (pods, word) in [("enabled", "refused"), ("nothing", "without a proxy")] {
        cluster.apply_as("tests", &webhook(pods), "").expect("it is taken");
        // The API server takes notice of a configuration a moment later.
        let found = outrigger_tests::eventually(word, outrigger_tests::LONG, || {
            let (code, report) = check(cluster, &args);
            let found = lines(&report, "injection");
            let told = found.iter().any(|(result, message)| result == "fault" && message.contains(word));
            told.then_some((code, found))
        });
        assert!(found.0 == Some(1) && found.1[0].0 == "ok", "{found:?}");
    }
    cluster.delete("MutatingWebhookConfiguration", "", &mesh);
    assert!(cluster.list("Pod", "default").is_empty(), "it was a dry run");
}

#[test]
fn kube_check_without_a_cluster_says_what_to_do() {
    let Some(cluster) = Cluster::shared("kube_check_without_a_cluster_says_what_to_do") else { return };
    for args in [["check", "--kubeconfig", "/nowhere"], ["check", "--context", "nowhere"]] {
        let output = outrigger(cluster, &args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("nowhere") && text.contains("-> "), "{text}");
    }
}

#[test]
fn kube_explain_answers_from_the_cluster() {
    let Some(cluster) = Cluster::shared("kube_explain_answers_from_the_cluster") else { return };
    let ns = cluster.namespace("shop");
    cluster.service(&ns, "payments", 80, &json!({}));
    cluster.slice(&ns, "payments", 1, "", 8080, &[Backend::ready("10.0.0.7", "payments-1")]);
    cluster.apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: canary, namespace: {ns} }}\nspec:\n  \
         parentRefs: [{{ group: '', kind: Service, name: payments }}]\n  \
         rules: [{{ matches: [{{ path: {{ type: PathPrefix, value: /charge }} }}], backendRefs: [{{ name: payments, port: 80 }}] }}]\n"
    ));
    let explain = |args: &[&str]| {
        let output = outrigger(cluster, &[&["explain", "-n", &ns], args].concat());
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = explain(&["http://payments/charge"]);
    assert!(code == Some(0) && text.contains("10.0.0.7:8080") && text.contains("canary"), "{code:?} {text}");
    let (code, text) = explain(&["http://payments/other"]);
    assert!(code == Some(0) && text.contains("404"), "a route is bound, and no rule matches: {code:?} {text}");
    let (code, text) = explain(&["http://elsewhere.example/"]);
    assert!(code == Some(0) && text.contains("outside the mesh"), "{code:?} {text}");
    let (code, text) = explain(&["-o", "json", "http://payments/charge"]);
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(code == Some(0) && json["route"].is_object(), "{json:#}");
    let (code, text) = explain(&["--from", "web", "http://payments/"]);
    assert!(code == Some(2) && text.contains("spiffe://"), "{code:?} {text}");
}
