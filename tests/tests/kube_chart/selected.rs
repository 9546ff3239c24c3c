//! Whom the mutating webhooks see. Nobody answers here, so a pod that is seen is refused (`failurePolicy: Fail`), and one that is not
//! is created: the strictest way to tell.

use outrigger_tests::{eventually, kube::Refusal};
use serde_json::{Value, json};

use crate::world::{MESH, MINUTE, NAME, World};

fn pod(namespace: &str, name: &str, label: Option<&str>) -> Value {
    let labels = label.map_or_else(|| json!({}), |label| json!({ "outrigger.dev/inject": label }));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": { "serviceAccountName": "default", "containers": [{ "name": "app", "image": "app" }] },
    })
}

#[test]
fn kube_chart_without_an_answer_only_pods_that_opted_in_are_held_up() {
    let Some(world) = World::start("kube_chart_without_an_answer") else { return };
    let cluster = &world.cluster;
    let (plain, meshed) = (cluster.namespace("plain"), cluster.namespace("meshed"));
    let extra = cluster.namespace("extra");
    world.install(&["--set", &format!("injection.timeoutSeconds=1,injection.exemptNamespaces={{{extra}}}")]);
    for account in [MESH, "kube-system"] {
        cluster.service_account(account, "default");
    }
    let opt_in = json!({ "metadata": { "labels": { "outrigger.dev/inject": "enabled" } } });
    // Even if somebody opts in what is exempt.
    for namespace in [&*meshed, &*extra, MESH, "kube-system"] {
        cluster.patch("Namespace", "", namespace, "", &opt_in);
    }
    let create = |namespace: &str, label: Option<&str>| -> Result<(), Refusal> {
        let created = cluster.apply_as("tests", &pod(namespace, "p", label), "").map(drop);
        cluster.delete("Pod", namespace, "p");
        created
    };
    // Webhooks take effect a moment after they are stored.
    let held_up =
        |refusal: &Refusal, webhook: &str| refusal.message.contains(&format!("failed calling webhook \"{webhook}\""));
    eventually("a pod of an opted-in namespace is held up", MINUTE, || {
        create(&meshed, None).err().filter(|refusal| held_up(refusal, "namespace.inject.outrigger.dev"))
    });
    for (namespace, label, webhook) in [
        (&*meshed, Some("enabled"), "pod.inject.outrigger.dev"),
        (&*plain, Some("enabled"), "pod.inject.outrigger.dev"),
        // A label that means nothing does not take a pod out of the mesh.
        (&*meshed, Some("yes"), "namespace.inject.outrigger.dev"),
    ] {
        let refusal = create(namespace, label).expect_err("it is held up");
        assert!(held_up(&refusal, webhook), "{namespace} {label:?}: {refusal:?}");
    }
    for (namespace, label) in [
        (&*plain, None),
        (&*plain, Some("disabled")),
        (&*meshed, Some("disabled")),
        (&*extra, None),
        (&*extra, Some("enabled")),
        (MESH, None),
        (MESH, Some("enabled")),
        ("kube-system", None),
        ("kube-system", Some("enabled")),
    ] {
        create(namespace, label).unwrap_or_else(|refusal| panic!("{namespace} {label:?}: {refusal:?}"));
    }
    // The control plane itself can always start.
    let deployment = cluster.get("Deployment", MESH, NAME).expect("the Deployment");
    let template = &deployment["spec"]["template"];
    let mut own =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    own["metadata"]["namespace"] = json!(MESH);
    own["metadata"]["name"] = json!("own");
    cluster.apply_as("tests", &own, "").expect("it can always be created");
    // Documents are stored while nobody can judge them.
    cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: {{ name: u, namespace: {plain} }}\nspec: {{ endpoints: [{{ address: '10.0.0.1:80' }}] }}"
    ));
}
