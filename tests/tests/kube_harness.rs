//! The harness itself against the real API server: what other scenarios rely on.

use outrigger_tests::kube::{Backend, Cluster};
use serde_json::json;

#[test]
fn kube_objects_tokens_and_crds_are_real() {
    let Some(cluster) = Cluster::shared("kube_objects_tokens_and_crds_are_real") else { return };
    let version = cluster.send(http::Method::GET, "/version", "", &json!(null)).expect("a version");
    assert_eq!((version["major"].as_str(), version["minor"].as_str()), (Some("1"), Some("34")), "{version}");

    let ns = cluster.namespace("harness");
    cluster.service_account(&ns, "web");
    let pod = cluster.pod(&ns, "web-1", "web", "10.0.0.7");
    assert_eq!(pod["status"]["podIP"], "10.0.0.7");
    let ip = cluster.service(&ns, "web", 80, &json!({}));
    assert!(ip.starts_with("10.96."), "{ip}");
    cluster.slice(&ns, "web", 1, "", 8080, &[Backend::ready("10.0.0.7", "web-1")]);

    let token = cluster.token(&ns, "web", &["outrigger.dev"], 600, Some("web-1"));
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": token, "audiences": ["outrigger.dev"] } });
    let uri = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = cluster.send(http::Method::POST, uri, "application/json", &review).expect("a review");
    assert_eq!(answer["status"]["user"]["username"], format!("system:serviceaccount:{ns}:web"));
    assert_eq!(answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"][0], "web-1");

    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: r, namespace: {ns} }}\n\
         spec: {{ parentRefs: [{{ group: '', kind: Service, name: web }}] }}"
    );
    assert_eq!(cluster.apply(&route)[0]["spec"]["rules"][0]["matches"][0]["path"]["value"], "/");
    let wrong = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: {{ name: u, namespace: {ns} }}\nspec: {{ endpoint: [] }}"
    );
    let refusal = cluster.try_apply(&wrong).expect_err("an unknown field");
    assert!(refusal.message.contains("endpoint"), "{refusal:?}");
}

#[test]
fn kube_an_api_server_comes_back_with_its_data_and_a_replaced_one_without() {
    let Some(cluster) = Cluster::start("kube_an_api_server_comes_back") else { return };
    let ns = cluster.namespace("kept");
    cluster.kill_api();
    assert!(cluster.get("Namespace", "", &ns).is_none());
    cluster.restart_api();
    assert!(cluster.get("Namespace", "", &ns).is_some());
    cluster.etcd().kill();
    assert!(cluster.try_apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: lost }").is_err());
    cluster.etcd().restart();
    cluster.wait_ready();
    assert!(cluster.get("Namespace", "", &ns).is_some());
    cluster.replace();
    assert!(cluster.get("Namespace", "", &ns).is_none());
}
