//! What the chart renders is what the API server and the Prometheus operator know, for every values file: strictly, with nothing
//! dropped; and its pods fit the restricted Pod Security Standard.

use http::Method;
use outrigger_tests::{
    binary::target_dir,
    helm::{chart, values_files},
    kube::Cluster,
    peers::skip,
};
use serde_json::{Value, json};

use crate::world::{MESH, NAME, World};

fn dry_run(cluster: &Cluster, document: &Value) {
    let api = document["apiVersion"].as_str().expect("a version");
    let kind = document["kind"].as_str().expect("a kind");
    let plural = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let group = if api.contains('/') { format!("/apis/{api}") } else { format!("/api/{api}") };
    let namespace = document["metadata"]["namespace"].as_str().map_or_else(String::new, |n| format!("/namespaces/{n}"));
    let name = document["metadata"]["name"].as_str().expect("a name");
    let uri = format!("{group}{namespace}/{plural}/{name}?fieldManager=tests&fieldValidation=Strict&dryRun=All");
    let answer = cluster.send(Method::PATCH, &uri, "application/apply-patch+yaml", document);
    answer.unwrap_or_else(|refusal| panic!("{kind} {name}: {refusal:?}"));
}

#[test]
fn kube_chart_is_accepted_strictly_for_every_values_file() {
    let Some(world) = World::start("kube_chart_is_accepted_strictly") else { return };
    let cluster = &world.cluster;
    cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {MESH} }}"));
    for kind in ["podmonitors", "prometheusrules", "servicemonitors"] {
        let file = target_dir().join(format!("test-tools/prometheus-operator/{kind}.yaml"));
        if !file.is_file() {
            return skip("kube_chart_is_accepted_strictly", "the CRDs of the Prometheus operator missing")
                .unwrap_or_default();
        }
        cluster.install_definitions(&file);
    }
    for file in values_files(&chart("outrigger")) {
        let args = ["-f", file.to_str().expect("UTF-8")];
        for document in world.helm.template(&chart("outrigger"), &args).expect("it renders") {
            dry_run(cluster, &document);
        }
    }
}

#[test]
fn kube_chart_pods_fit_the_restricted_standard() {
    let Some(world) = World::start("kube_chart_pods_fit_the_restricted_standard") else { return };
    let cluster = &world.cluster;
    world.install(&["-f", chart("outrigger").join("values-ha.yaml").to_str().expect("UTF-8")]);
    let strict = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    cluster.patch("Namespace", "", MESH, "", &strict);
    let deployment = cluster.get("Deployment", MESH, NAME).expect("the Deployment");
    let template = &deployment["spec"]["template"];
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    pod["metadata"]["namespace"] = json!(MESH);
    pod["metadata"]["name"] = json!("cp");
    // Its priority class is one of the cluster's own, which a controller makes; PodSecurity is what is asked here.
    pod["spec"].as_object_mut().expect("a spec").remove("priorityClassName");
    cluster.apply_as("tests", &pod, "").expect("it fits");
    pod["metadata"]["name"] = json!("privileged");
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = cluster.apply_as("tests", &pod, "").expect_err("the standard is enforced");
    assert!(refusal.message.contains("violates PodSecurity"), "{refusal:?}");
}
