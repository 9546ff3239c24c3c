//! Installed, upgraded, rolled back, uninstalled, and installed again: what is kept is what docs/upgrade.md says.

use outrigger_tests::{eventually, helm::chart};
use serde_json::{Value, json};

use crate::world::{MESH, MINUTE, NAME, World};

const DEFINITIONS: [&str; 4] = [
    "accesspolicies.outrigger.dev",
    "meshpolicies.outrigger.dev",
    "trafficpolicies.outrigger.dev",
    "upstreams.outrigger.dev",
];

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn kube_chart_upgrades_and_uninstalls_without_losing_what_is_not_its_own() {
    let Some(world) = World::without_definitions("kube_chart_upgrades_and_uninstalls") else { return };
    let cluster = &world.cluster;
    world.helm.install(cluster, MESH, "outrigger-crds", &chart("outrigger-crds"), &[]);
    world.install(&[]);
    let shop = cluster.namespace("shop");
    cluster.service(&shop, "web", 80, &json!({}));
    let upstream = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: {{ name: mine, namespace: {shop} }}\nspec: {{ endpoints: [{{ address: '10.9.9.9:80' }}] }}"
    );
    eventually("policies can be written", MINUTE, || cluster.try_apply(&upstream).ok());
    let control_plane = world.control_plane("cp-1");
    let bundles = world.wait_bundles();
    let secret = cluster.get("Secret", MESH, "outrigger-ca").expect("the CA");

    upgrades(&world, &bundles);
    assert_eq!(
        uid(&cluster.get("Secret", MESH, "outrigger-ca").expect("the CA")),
        uid(&secret),
        "an upgrade keeps the CA"
    );
    assert!(control_plane.process.runs(), "{}", control_plane.log());
    let log = control_plane.log();
    assert!(!log.contains("forbidden"), "{log}");

    uninstall(&world, &shop, &secret);
    drop(control_plane);
    again(&world, &shop, &secret);
}

/// To other values, by force, and back: the caBundle is there at any time.
#[track_caller]
fn upgrades(world: &World, bundles: &[String]) {
    let (cluster, helm) = (&world.cluster, &world.helm);
    let ha = chart("outrigger").join("values-ha.yaml");
    let ha = ["-f", ha.to_str().expect("UTF-8")];
    let versions = |world: &World| -> Vec<Value> {
        let kinds = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];
        let found = kinds.iter().filter_map(|kind| world.cluster.get(kind, "", "outrigger"));
        found.map(|object| object["metadata"]["generation"].clone()).collect()
    };
    let before = versions(world);
    helm.upgrade(cluster, MESH, "outrigger", &chart("outrigger"), &ha);
    assert_eq!(versions(world), before, "webhooks whose values are the same are not touched");
    let deployment = cluster.get("Deployment", MESH, NAME).expect("the Deployment");
    assert_eq!(deployment["spec"]["replicas"], 3);
    // Replaces every object, so that whatever the chart does not say is lost: it says the caBundle.
    helm.upgrade(cluster, MESH, "outrigger", &chart("outrigger"), &[&ha[..], &["--force"]].concat());
    assert_eq!(world.wait_bundles(), bundles);
    helm.upgrade(cluster, MESH, "outrigger", &chart("outrigger"), &["--set", "injection.failurePolicy=Ignore"]);
    assert_eq!(world.wait_bundles(), bundles);
    let mutating = cluster.get("MutatingWebhookConfiguration", "", "outrigger").expect("it is there");
    assert_eq!(mutating["webhooks"][0]["failurePolicy"], "Ignore");
    // To the first revision, which was stored before there was a bundle; the control plane repairs what that blanks.
    helm.on(cluster, &["rollback", "outrigger", "1", "--namespace", MESH]);
    assert_eq!(world.wait_bundles(), bundles);
    helm.upgrade(cluster, MESH, "outrigger-crds", &chart("outrigger-crds"), &[]);
}

#[track_caller]
fn uninstall(world: &World, shop: &str, secret: &Value) {
    let (cluster, helm) = (&world.cluster, &world.helm);
    helm.uninstall(cluster, MESH, "outrigger");
    for (kind, namespace) in [
        ("Deployment", MESH),
        ("Role", MESH),
        ("RoleBinding", MESH),
        ("ClusterRole", ""),
        ("ClusterRoleBinding", ""),
        ("ServiceAccount", MESH),
        ("Service", MESH),
        ("PodDisruptionBudget", MESH),
    ] {
        assert!(cluster.get(kind, namespace, NAME).is_none(), "{kind} is gone");
    }
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        assert!(cluster.get(kind, "", "outrigger").is_none(), "{kind} is gone");
    }
    // What the control plane made is not Helm's: it stays, and docs/upgrade.md says how to remove it.
    assert_eq!(uid(&cluster.get("Secret", MESH, "outrigger-ca").expect("the CA is kept")), uid(secret));
    for (kind, expected) in [
        ("Secret", vec!["outrigger-ca"]),
        ("ConfigMap", vec!["outrigger-trust"]),
        ("Lease", vec![NAME]),
        ("Service", vec![]),
        ("ServiceAccount", vec![]),
    ] {
        let names = cluster.list(kind, MESH);
        let names: Vec<&str> = names.iter().map(|o| o["metadata"]["name"].as_str().expect("a name")).collect();
        // Helm's own records go with the releases.
        let names: Vec<&str> =
            names.into_iter().filter(|name| !name.starts_with("sh.helm.release.v1.outrigger-crds.")).collect();
        assert_eq!(names, expected, "{kind}");
    }
    let said = helm.uninstall(cluster, MESH, "outrigger-crds");
    for name in DEFINITIONS {
        assert!(said.contains(name), "it says what is kept: {said}");
        assert!(cluster.get("CustomResourceDefinition", "", name).is_some(), "{name} is kept");
    }
    assert!(cluster.get("Upstream", shop, "mine").is_some(), "and with them what people wrote");
}

#[track_caller]
fn again(world: &World, shop: &str, secret: &Value) {
    let cluster = &world.cluster;
    world.helm.install(cluster, MESH, "outrigger-crds", &chart("outrigger-crds"), &[]);
    world.install(&[]);
    let control_plane = world.control_plane("cp-2");
    world.wait_bundles();
    assert_eq!(
        uid(&cluster.get("Secret", MESH, "outrigger-ca").expect("the CA")),
        uid(secret),
        "proxies that run still trust it"
    );
    assert!(cluster.get("Upstream", shop, "mine").is_some());
    assert!(control_plane.process.runs(), "{}", control_plane.log());
}

/// Who brings the CA keeps it: the control plane waits, makes none, and takes theirs.
#[test]
fn kube_chart_waits_for_a_ca_that_is_brought() {
    let Some(world) = World::start("kube_chart_waits_for_a_ca_that_is_brought") else { return };
    let cluster = &world.cluster;
    world.install(&["--set", "ca.external=true,ca.secretName=mesh-ca"]);
    let control_plane = crate::world::ControlPlane::start(&world, "cp-1");
    eventually("it says what it waits for", MINUTE, || {
        control_plane.log().contains("outrigger-system/mesh-ca").then_some(())
    });
    assert_ne!(control_plane.ask("/readyz").status, 200);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let root = outrigger_control_plane::ca::Authority::generate("cluster.local", 86_400 * 90, now).expect("a root");
    let pem = outrigger_control_plane::ca::encode_certificates([root.certificate()]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mesh-ca", "namespace": MESH }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": pem, "tls.key": root.key().to_pem().as_str(), "ca.crt": pem },
    });
    cluster.apply_as("tests", &secret, "").expect("it is taken");
    control_plane.wait_ready();
    assert!(cluster.get("Secret", MESH, "outrigger-ca").is_none());
}
