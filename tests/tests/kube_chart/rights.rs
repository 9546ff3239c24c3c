//! The account may do what the control plane does, and nothing else: nothing is refused, and every verb of every rule is used.
//!
//! The API server's audit log says both. One verb does not show in it: a server-side apply that makes an object needs `create`
//! beside `patch`, and is logged as a patch; that is shown by taking the verb away.

use std::{collections::BTreeSet, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, Request};
use outrigger_tests::{
    LONG, Proxy, binary, eventually,
    kube::{Asked, Cluster, block_on, client_of},
};
use serde_json::{Value, json};

use crate::{
    checked::tries_injection,
    world::{ControlPlane, MESH, MINUTE, NAME, World},
};

/// One document of each kind that gets a status, all good.
fn documents(namespace: &str) -> String {
    let metadata = format!("metadata: {{ name: web, namespace: {namespace} }}");
    let route =
        "parentRefs: [{ group: '', kind: Service, name: web }], rules: [{ backendRefs: [{ name: web, port: 80 }] }]";
    let target = "targetRefs: [{ kind: Service, name: web }]";
    [
        ("gateway.networking.k8s.io/v1", "HTTPRoute", route),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", route),
        ("outrigger.dev/v1alpha1", "Upstream", "endpoints: [{ address: '10.9.9.9:80' }]"),
        ("outrigger.dev/v1alpha1", "TrafficPolicy", &format!("{target}, timeouts: {{ request: 3s }}")),
        (
            "outrigger.dev/v1alpha1",
            "MeshPolicy",
            &format!("targetRefs: [{{ kind: Namespace, name: {namespace} }}], mtls: permissive"),
        ),
        (
            "outrigger.dev/v1alpha1",
            "AccessPolicy",
            &format!("{target}, rules: [{{ action: allow, from: [{{ namespaces: [ops] }}] }}]"),
        ),
    ]
    .map(|(api, kind, spec)| format!("---\napiVersion: {api}\nkind: {kind}\n{metadata}\nspec: {{ {spec} }}\n"))
    .concat()
}

#[test]
fn kube_chart_gives_the_least_rights_that_suffice() {
    let Some(world) = World::start("kube_chart_gives_the_least_rights") else { return };
    let cluster = &world.cluster;
    world.install(&[]);
    let first = world.control_plane("cp-1");
    let shop = cluster.namespace("shop");
    cluster.service(&shop, "web", 80, &json!({}));
    cluster.apply(&documents(&shop));
    // It makes its CA, and tells everybody of it.
    assert!(cluster.get("Secret", MESH, "outrigger-ca").is_some());
    world.wait_bundles();
    eventually("the namespace has the bundle", MINUTE, || cluster.get("ConfigMap", &shop, "outrigger-trust"));
    injects(cluster);
    tries_injection(&world);
    asks_for_the_namespace(cluster);
    // It leads and writes status.
    for kind in ["HTTPRoute", "GRPCRoute", "Upstream", "TrafficPolicy", "MeshPolicy", "AccessPolicy"] {
        eventually(&format!("{kind} has a status"), MINUTE, || {
            cluster.get(kind, &shop, "web").filter(|object| !object["status"].is_null())
        });
    }
    // It gives a proxy its certificate.
    drop(proxy(cluster, &shop, &first));
    refused_by_validation(cluster, &shop);
    exchanges_refusals(cluster);
    let log = first.log();
    assert!(!log.to_lowercase().contains("forbidden"), "{log}");
    // What it holds survives the API server, whose history it asks for before it goes on.
    cluster.restart_api();
    cluster.service(&shop, "late", 80, &json!({}));
    let all_used = eventually_all_used(cluster);
    assert_eq!(all_used, Vec::<String>::new(), "granted and never used");

    // An API server that starts knows no roles for a moment, and refuses what it allows next.
    let asked = cluster.asked(MESH, NAME);
    let later = |refused: &Asked| {
        asked.iter().any(|a| Asked { allowed_by: String::new(), ..a.clone() } == *refused && a != refused)
    };
    let refused: Vec<&Asked> = asked.iter().filter(|a| a.allowed_by.is_empty() && !later(a)).collect();
    assert!(refused.is_empty(), "asked for and refused: {refused:?}");
    let log = first.log();
    assert!(first.process.runs(), "{log}");
    drop(first);
    create_is_needed(cluster, &shop);
}

/// Grants that nobody has used, once nothing changes any more.
#[track_caller]
fn eventually_all_used(cluster: &Cluster) -> Vec<String> {
    let mut left = Vec::new();
    let deadline = tokio::time::Instant::now() + MINUTE;
    eventually("every grant is used, or time is up", MINUTE + LONG, || {
        let asked = cluster.asked(MESH, NAME);
        left = granted(cluster)
            .into_iter()
            .filter(|grant| !grant.used(&asked))
            .map(|grant| format!("{grant:?}"))
            .collect();
        (left.is_empty() || tokio::time::Instant::now() > deadline).then_some(())
    });
    left
}

/// One verb of one rule, on one resource and one name.
#[derive(Debug)]
struct Grant {
    role: String,
    group: String,
    resource: String,
    name: Option<String>,
    verb: String,
}

impl Grant {
    fn used(&self, asked: &BTreeSet<Asked>) -> bool {
        // See the head of this file.
        if self.verb == "create" && self.name.is_some() {
            return true;
        }
        asked.iter().any(|a| {
            a.allowed_by == self.role
                && (&a.group, &a.resource, &a.verb) == (&self.group, &self.resource, &self.verb)
                && self.name.as_ref().is_none_or(|name| *name == a.name)
        })
    }
}

fn granted(cluster: &Cluster) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (kind, namespace) in [("ClusterRole", ""), ("Role", MESH)] {
        let role = cluster.get(kind, namespace, NAME).expect("the role is there");
        for rule in role["rules"].as_array().expect("rules") {
            let list = |key: &str| -> Vec<String> {
                let items = rule[key].as_array().into_iter().flatten();
                items.map(|item| item.as_str().expect("text").to_owned()).collect()
            };
            let names = list("resourceNames");
            let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        let (role, group, resource) = (format!("{kind} {NAME}"), group.clone(), resource.clone());
                        let one = |name: &Option<String>| Grant {
                            role: role.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                            verb: verb.clone(),
                        };
                        grants.extend(names.iter().map(one));
                    }
                }
            }
        }
    }
    assert!(grants.len() > 40, "{}", grants.len());
    grants
}

/// A proxy of a pod, which has its certificate.
#[track_caller]
pub(crate) fn proxy(cluster: &Cluster, namespace: &str, control_plane: &ControlPlane) -> Proxy {
    cluster.service_account(namespace, "web");
    cluster.pod(namespace, "web-1", "web", "10.0.0.7");
    let dir = tempfile::TempDir::new().expect("a directory").keep();
    let put = |name: &str, bytes: &[u8]| {
        let file = dir.join(name);
        std::fs::write(&file, bytes).expect("writable");
        file
    };
    let secret = cluster.get("Secret", MESH, "outrigger-ca").expect("the CA");
    let root = STANDARD.decode(secret["data"]["ca.crt"].as_str().expect("ca.crt")).expect("base64");
    let token = cluster.token(namespace, "web", &["outrigger.dev"], 3600, Some("web-1"));
    let mut command = Command::new(binary::proxy());
    command.args(["run", "--control-plane", &control_plane.discovery.to_string()]);
    command.args(["--control-plane-namespace", MESH, "--pod-namespace", namespace, "--pod-name", "web-1"]);
    command.args(["--service-account", "web", "--pod-ips", "10.0.0.7", "--workers", "1", "--admin", "127.0.0.1:0"]);
    command.args(["--inbound", "127.0.0.1:0", "--outbound", "127.0.0.1:0"]);
    command.arg("--trust-bundle").arg(put("ca.crt", &root)).arg("--token").arg(put("token", token.as_bytes()));
    let proxy = Proxy::spawn_command(command);
    proxy.wait_ready();
    eventually("it was signed for", MINUTE, || {
        (control_plane.sum("csr_total", &[("outcome", "signed")]) >= 1.0).then_some(())
    });
    std::fs::remove_dir_all(dir).expect("it is ours");
    proxy
}

/// The API server reaches the webhook through its Service, and believes it.
#[track_caller]
fn refused_by_validation(cluster: &Cluster, namespace: &str) {
    let wrong = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: wrong, namespace: {namespace} }}\n\
         spec: {{ targetRefs: [{{ kind: Service, name: web }}], timeouts: {{ request: 1s, backendRequest: 2s }} }}"
    );
    eventually("validation refuses what no proxy could run", MINUTE, || {
        let refusal = cluster.try_apply(&wrong).err();
        if refusal.is_none() {
            cluster.delete("TrafficPolicy", namespace, "wrong");
        }
        refusal.filter(|refusal| {
            refusal.message.contains("validate.outrigger.dev") && refusal.message.contains("backendRequest")
        })
    });
}

/// A pod that asks for a proxy gets one, of the image and with the defaults that the chart says.
#[track_caller]
fn injects(cluster: &Cluster) {
    let namespace = cluster.namespace("meshed");
    let opt_in = json!({ "metadata": { "labels": { "outrigger.dev/inject": "enabled" } } });
    cluster.patch("Namespace", "", &namespace, "", &opt_in);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "app", "namespace": namespace },
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    });
    let pod = eventually("the pod has a proxy", MINUTE, || {
        let pod = cluster.apply_as("tests", &pod, "").ok()?;
        let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
        let proxy = containers.into_iter().find(|container| container["name"] == "outrigger-proxy");
        cluster.delete("Pod", &namespace, "app");
        proxy
    });
    let wanted = format!("ghcr.io/outrigger-mesh/outrigger:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!((&pod["image"], &pod["restartPolicy"]), (&json!(wanted), &json!("Always")), "{pod}");
}

/// What the watch knows of this namespace does not say `enabled`, so the API server is asked before a pod is judged by it.
#[track_caller]
fn asks_for_the_namespace(cluster: &Cluster) {
    let namespace = cluster.namespace("misspelt");
    let label = json!({ "metadata": { "labels": { "outrigger.dev/inject": "true" } } });
    cluster.patch("Namespace", "", &namespace, "", &label);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "app", "namespace": namespace },
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    });
    eventually("the pod is refused with the label that would be right", MINUTE, || {
        let refusal = cluster.apply_as("tests", &pod, "").err();
        if refusal.is_none() {
            cluster.delete("Pod", &namespace, "app");
        }
        refusal.filter(|refusal| {
            refusal.message.contains("\"true\" is neither enabled nor disabled: write enabled")
                && refusal.message.contains(&namespace)
        })
    });
}

/// What a replica that does not lead writes for the one that does: the request itself, for a proxy that refuses is not at hand.
#[track_caller]
fn exchanges_refusals(cluster: &Cluster) {
    assert_eq!(apply_map(cluster, MESH, "outrigger-refusals"), Ok(()));
}

/// Server-side apply of an empty ConfigMap with the account's rights; `Err`: the status.
fn apply_map(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), u16> {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": {} });
    let uri = format!("/api/v1/namespaces/{namespace}/configmaps/{name}?fieldManager=tests&force=true");
    let request =
        Request::builder().method(Method::PATCH).uri(uri).header("content-type", "application/apply-patch+yaml");
    let request = request.body(map.to_string().into_bytes()).expect("a request");
    let kubeconfig = cluster.kubeconfig_of(MESH, NAME);
    let answer = block_on(async { client_of(&kubeconfig).await.request::<Value>(request).await });
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(other) => panic!("{other}"),
    }
}

/// Takes `create` away from the rules that name their objects: what was made by apply can be made no more.
#[track_caller]
fn create_is_needed(cluster: &Cluster, elsewhere: &str) {
    for (kind, namespace, map, at) in
        [("Role", MESH, "outrigger-refusals", MESH), ("ClusterRole", "", "outrigger-trust", elsewhere)]
    {
        cluster.delete("ConfigMap", at, map);
        assert_eq!(apply_map(cluster, at, map), Ok(()), "{kind}");
        cluster.delete("ConfigMap", at, map);
        let mut role = cluster.get(kind, namespace, NAME).expect("the role is there");
        for rule in role["rules"].as_array_mut().expect("rules") {
            if rule["resourceNames"] == json!([map]) {
                rule["verbs"] = json!(["get", "patch"]);
            }
        }
        cluster.patch(kind, namespace, NAME, "", &json!({ "rules": role["rules"] }));
        eventually(&format!("without create of {map} nothing is made"), LONG, || {
            let forbidden = apply_map(cluster, at, map) == Err(403);
            cluster.delete("ConfigMap", at, map);
            forbidden.then_some(())
        });
        // Nor may it touch any other.
        assert_eq!(apply_map(cluster, at, "anything"), Err(403), "{kind}");
    }
}
