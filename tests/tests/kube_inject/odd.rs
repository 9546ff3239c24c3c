//! Odd pods: injected exactly as documented, accepted by the API server, and injected twice is injected once.

use http::Method;
use outrigger_tests::{eventually, kube::Cluster};
use serde_json::{Value, json};

use crate::{
    pods::{again, as_documented, create, is_injected, namespace, pod, says},
    world::{MESH, MINUTE, World},
};

/// What is to become of a pod.
enum Then {
    Injected,
    /// As it was sent.
    Untouched,
    /// With this in the message.
    Refused(&'static str),
}
use Then::{Injected, Refused, Untouched};

struct Odd {
    name: &'static str,
    namespace: &'static str,
    metadata: Value,
    spec: Value,
    then: Then,
}

fn odd(name: &'static str, metadata: Value, spec: Value, then: Then) -> Odd {
    Odd { name, namespace: "meshed", metadata, spec, then }
}

fn notes(annotations: &Value) -> Value {
    json!({ "annotations": annotations })
}

fn asks(label: &str) -> Value {
    json!({ "labels": { "outrigger.dev/inject": label } })
}

fn web(more: &Value) -> Value {
    let mut container = json!({ "name": "web", "image": "web", "ports": [{ "name": "http", "containerPort": 8080 }] });
    crate::pods::merge(&mut container, more);
    json!({ "containers": [container] })
}

fn shapes() -> Vec<Odd> {
    let sidecar = json!({ "name": "cache", "image": "c", "restartPolicy": "Always", "startupProbe": { "tcpSocket": { "port": 6379 } } });
    let many: Vec<Value> = (0..40)
        .map(|i| {
            json!({
                "name": format!("c-{i}"), "image": "web", "env": [{ "name": "X", "value": "x".repeat(2000) }],
                "readinessProbe": { "httpGet": { "port": 8000 + i, "path": format!("/ready/{i}") } },
            })
        })
        .collect();
    let owner = |kind: &str| {
        json!({ "ownerReferences": [{
        "apiVersion": "batch/v1", "kind": kind, "name": "j", "uid": "0d3f0b1e-0000-4000-8000-000000000001", "controller": true,
    }], "labels": { "job-name": "j" } })
    };
    let dns = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["192.0.2.53"] }, "hostname": "h", "subdomain": "s" });
    let own = json!([{ "name": "data", "emptyDir": {} }, { "name": "token", "projected": { "sources": [{ "configMap": { "name": "c" } }] } }]);
    let gates = json!({
        "schedulingGates": [{ "name": "example.com/wait" }], "tolerations": [{ "operator": "Exists" }],
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" }],
    });
    let groups = json!({ "securityContext": {
        "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 3000, "supplementalGroups": [4000],
    } });
    let ordinary = json!({ "outrigger.dev/native-sidecar": "disabled" });
    vec![
        odd("plain", json!({}), json!({}), Injected),
        odd("no-token", json!({}), json!({ "automountServiceAccountToken": false }), Injected),
        odd(
            "init",
            json!({}),
            json!({ "initContainers": [{ "name": "migrate", "image": "m" }, { "name": "seed", "image": "s" }] }),
            Injected,
        ),
        odd("sidecar", json!({}), json!({ "initContainers": [sidecar] }), Injected),
        odd("job", owner("Job"), json!({ "restartPolicy": "Never" }), Injected),
        odd(
            "cron-job",
            owner("CronJob"),
            json!({ "restartPolicy": "OnFailure", "activeDeadlineSeconds": 60 }),
            Injected,
        ),
        odd("huge", notes(&json!({ "notes": "n".repeat(150_000) })), json!({ "containers": many }), Injected),
        odd("groups", json!({}), groups, Injected),
        odd("host-users", json!({}), json!({ "hostUsers": false }), Injected),
        odd("pull-secrets", json!({}), json!({ "imagePullSecrets": [{ "name": "registry" }] }), Injected),
        odd("shared-processes", json!({}), json!({ "shareProcessNamespace": true }), Injected),
        odd("no-grace", json!({}), json!({ "terminationGracePeriodSeconds": 0 }), Injected),
        odd("dns", json!({}), dns, Injected),
        odd("gates", json!({}), gates, Injected),
        odd("own-volumes", json!({}), json!({ "volumes": own }), Injected),
        odd(
            "whole-resources",
            json!({}),
            json!({ "resources": { "requests": { "memory": "64Mi" }, "limits": { "memory": "64Mi" } } }),
            Injected,
        ),
        odd("host-port", json!({}), web(&json!({ "ports": [{ "containerPort": 8080, "hostPort": 9990 }] })), Injected),
        odd(
            "ordinary",
            notes(&ordinary),
            web(&json!({ "readinessProbe": { "httpGet": { "port": "http" } } })),
            Injected,
        ),
        odd(
            "default-container",
            notes(&json!({ "kubectl.kubernetes.io/default-container": "web" })),
            json!({}),
            Injected,
        ),
    ]
}

fn settings() -> Vec<Odd> {
    let probes = json!({
        "readinessProbe": { "httpGet": { "port": "http", "path": "/r", "httpHeaders": [{ "name": "a", "value": "b" }] } },
        "livenessProbe": { "tcpSocket": { "port": 8080 }, "timeoutSeconds": 5 },
        "startupProbe": { "grpc": { "port": 9000, "service": "x" } },
    });
    let hooks = json!({ "lifecycle": { "preStop": { "httpGet": { "port": 8080, "path": "/bye" } }, "postStart": { "exec": { "command": ["x"] } } } });
    let scrape = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m" });
    let skips = json!({
        "outrigger.dev/skip-inbound-ports": "22,8000-8010", "outrigger.dev/skip-outbound-cidrs": "10.0.0.0/8,fd00::/8",
        "outrigger.dev/skip-uids": "1000",
    });
    let resources = json!({ "outrigger.dev/cpu-request": "100m", "outrigger.dev/cpu-limit": "1", "outrigger.dev/memory-limit": "1Gi" });
    let listeners = json!({
        "outrigger.dev/capture": "none", "outrigger.dev/inbound-listeners": "8080=18080",
        "outrigger.dev/outbound-listeners": "15001=payments.shop:8080",
    });
    let wrong = json!({ "outrigger.dev/drain-timeout": "soon" });
    vec![
        odd("probes", json!({}), web(&probes), Injected),
        odd("hooks", json!({}), web(&hooks), Injected),
        odd("scrape", notes(&scrape), web(&json!({})), Injected),
        odd("skips", notes(&skips), json!({}), Injected),
        odd("tproxy", notes(&json!({ "outrigger.dev/capture": "tproxy" })), json!({}), Injected),
        odd("resources", notes(&resources), json!({}), Injected),
        odd(
            "explicit",
            notes(&listeners),
            web(&json!({ "readinessProbe": { "tcpSocket": { "port": 8080 } } })),
            Injected,
        ),
        Odd { namespace: "limited", ..odd("limit-range", json!({}), json!({}), Injected) },
        Odd { namespace: "restricted", ..odd("no-privilege", notes(&listeners), secure(), Injected) },
        Odd {
            namespace: "restricted",
            ..odd("forbidden", json!({}), secure(), Refused("outrigger.dev/capture: none"))
        },
        Odd {
            namespace: "restricted",
            ..odd(
                "insists",
                notes(&json!({ "outrigger.dev/capture": "redirect" })),
                secure(),
                Refused("violates PodSecurity"),
            )
        },
        odd("wrong", notes(&wrong), json!({}), Refused("metadata.annotations[outrigger.dev/drain-timeout]")),
        odd(
            "misspelt",
            notes(&json!({ "outrigger.dev/captur": "none" })),
            json!({}),
            Refused("did you mean outrigger.dev/capture?"),
        ),
    ]
}

/// What the Pod Security level `restricted` asks of an app.
fn secure() -> Value {
    let security = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000, "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    web(&json!({ "securityContext": security, "readinessProbe": { "tcpSocket": { "port": 8080 } } }))
}

fn others() -> Vec<Odd> {
    let ours = json!({ "initContainers": [{ "name": "outrigger-proxy", "image": "x", "restartPolicy": "Always" }] });
    let istio = json!({ "containers": [{ "name": "web", "image": "w" }, { "name": "istio-proxy", "image": "i" }] });
    let windows = json!({ "os": { "name": "windows" } });
    let in_plain = |odd: Odd| Odd { namespace: "plain", ..odd };
    vec![
        odd("host-network", json!({}), json!({ "hostNetwork": true }), Untouched),
        odd("host-network-asks", asks("enabled"), json!({ "hostNetwork": true }), Refused("spec.hostNetwork")),
        odd("istio", json!({}), istio, Untouched),
        odd("linkerd", notes(&json!({ "linkerd.io/inject": "enabled" })), json!({}), Untouched),
        odd("by-hand", json!({}), ours, Untouched),
        odd("windows", json!({}), windows, Untouched),
        odd("windows-selector", json!({}), json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }), Untouched),
        odd("opted-out", asks("disabled"), json!({}), Untouched),
        in_plain(odd("not-asked", json!({}), json!({}), Untouched)),
        in_plain(odd("asks-itself", asks("enabled"), json!({}), Injected)),
        Odd { namespace: MESH, ..odd("of-the-mesh", asks("enabled"), json!({}), Untouched) },
        Odd { namespace: "kube-system", ..odd("of-the-system", asks("enabled"), json!({}), Untouched) },
        odd("neither", asks("yes"), json!({}), Refused("write enabled")),
        odd(
            "as-the-proxy",
            json!({}),
            json!({ "securityContext": { "runAsUser": 2112 } }),
            Refused("spec.securityContext.runAsUser"),
        ),
        odd(
            "on-its-port",
            json!({}),
            web(&json!({ "ports": [{ "containerPort": 9992 }] })),
            Refused("containers[0].ports[0]"),
        ),
        odd(
            "on-its-volume",
            json!({}),
            json!({ "volumes": [{ "name": "outrigger-state", "emptyDir": {} }] }),
            Refused("spec.volumes[0].name"),
        ),
    ]
}

#[test]
fn kube_inject_odd_pods_are_injected_as_documented() {
    let Some(world) = World::start("kube_inject_odd_pods") else { return };
    let cluster = &world.cluster;
    world.install(&[]);
    let control_plane = world.control_plane("a");
    world.wait_bundles();
    let enabled = json!({ "outrigger.dev/inject": "enabled" });
    let meshed = namespace(cluster, "meshed", &enabled);
    let plain = namespace(cluster, "plain", &json!({}));
    let restricted = namespace(
        cluster,
        "restricted",
        &json!({
            "outrigger.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted",
        }),
    );
    let limited = limited(cluster, &enabled);
    for exempt in [MESH, "kube-system"] {
        cluster.service_account(exempt, "default");
        cluster.patch("Namespace", "", exempt, "", &json!({ "metadata": { "labels": enabled } }));
    }
    let place = |name: &str| match name {
        "meshed" => meshed.clone(),
        "plain" => plain.clone(),
        "restricted" => restricted.clone(),
        "limited" => limited.clone(),
        other => other.to_owned(),
    };
    eventually("pods are injected", MINUTE, || {
        let dry = format!("/api/v1/namespaces/{meshed}/pods?dryRun=All");
        let stored = cluster.send(Method::POST, &dry, "application/json", &pod("x", &json!({}), &json!({}))).ok()?;
        is_injected(&stored).then_some(())
    });
    let all: Vec<Odd> = [shapes(), settings(), others()].into_iter().flatten().collect();
    assert!(all.len() >= 45, "{}", all.len());
    for odd in &all {
        check(cluster, &place(odd.namespace), odd);
    }
    later(cluster, &meshed);
    warned(cluster, &meshed);
    // Every decision is counted, and a dry run is none.
    let refused = control_plane.sum("injections_total", &[("outcome", "refused")]);
    assert!(refused >= 6.0, "{refused}");
    assert!(control_plane.sum("injections_total", &[("outcome", "unmeshed")]) >= 6.0);
    assert_eq!(control_plane.sum("injections_total", &[("outcome", "failed")]), 0.0);
}

/// A namespace where every container needs limits within bounds.
fn limited(cluster: &Cluster, labels: &Value) -> String {
    let name = namespace(cluster, "limited", labels);
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "l" },
        "spec": { "limits": [{
            "type": "Container", "min": { "memory": "8Mi" }, "max": { "cpu": "1", "memory": "1Gi" }, "default": { "cpu": "200m" },
        }] },
    });
    let uri = format!("/api/v1/namespaces/{name}/limitranges");
    cluster.send(Method::POST, &uri, "application/json", &range).expect("a LimitRange");
    name
}

#[track_caller]
fn check(cluster: &Cluster, namespace: &str, odd: &Odd) {
    let name = odd.name;
    let sent = pod(name, &odd.metadata, &odd.spec);
    match (create(cluster, namespace, &sent), &odd.then) {
        (Ok(stored), Injected) => {
            println!("{name}: injected");
            as_documented(&sent, &stored);
            let second = create(cluster, namespace, &again(&stored, &format!("{name}-again")));
            let second = second.unwrap_or_else(|refusal| panic!("{name} again: {refusal:?}"));
            assert_eq!(second["spec"], stored["spec"], "{name}: injected twice is injected once");
            assert_eq!(second["metadata"]["annotations"], stored["metadata"]["annotations"], "{name}");
        }
        (Ok(stored), Untouched) => {
            println!("{name}: untouched");
            assert!(says(&stored, &sent), "{name}: {stored:#}");
            assert!(stored["metadata"]["annotations"].get("outrigger.dev/injected").is_none(), "{name}");
        }
        (Err(refusal), Refused(reason)) => {
            println!("{name}: {}", refusal.message);
            assert!(refusal.message.contains(reason), "{name}: {refusal:?}");
        }
        (Ok(_), Refused(reason)) => panic!("{name} should be refused: {reason}"),
        (Err(refusal), _) => panic!("{name}: {refusal:?}"),
    }
}

/// Names that are made when the pod is stored, and containers that come to a pod that runs.
fn later(cluster: &Cluster, namespace: &str) {
    let mut sent = pod("", &json!({ "generateName": "generated-" }), &json!({}));
    sent["metadata"].as_object_mut().expect("metadata").shift_remove("name");
    let stored = create(cluster, namespace, &sent).expect("a name is made");
    as_documented(&sent, &stored);
    let name = stored["metadata"]["name"].as_str().expect("a name");
    let mut debugged = stored.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": "busybox" }]);
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers");
    let debugged = cluster.send(Method::PUT, &uri, "application/json", &debugged).expect("kubectl debug works");
    let mut without = debugged["spec"].clone();
    without.as_object_mut().expect("a spec").shift_remove("ephemeralContainers");
    assert_eq!(without, stored["spec"], "nothing else changes");
    // An update of a pod is not ours.
    let label = json!({ "metadata": { "labels": { "outrigger.dev/inject": "disabled" } } });
    let labelled = cluster.patch("Pod", namespace, name, "", &label);
    assert!(is_injected(&labelled));
}

/// Whoever creates a pod that cannot be meshed is told.
fn warned(cluster: &Cluster, namespace: &str) {
    let body = pod("warned", &json!({}), &json!({ "hostNetwork": true })).to_string().into_bytes();
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods"))
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body))
        .expect("a request");
    let client = cluster.client();
    let answer = outrigger_tests::kube::block_on(async { client.send(request).await }).expect("an answer");
    let warnings: Vec<_> = answer.headers().get_all("warning").iter().filter_map(|w| w.to_str().ok()).collect();
    assert!(warnings.iter().any(|w| w.contains("runs without a proxy: spec.hostNetwork")), "{warnings:?}");
}
