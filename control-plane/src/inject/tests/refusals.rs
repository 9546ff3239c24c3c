//! What cannot have a proxy, and what is said of it.

use super::*;

#[test]
fn pods_that_cannot_be_meshed_are_refused_with_the_field() {
    let said = refused(&pod(json!({ "hostNetwork": true })), Reason::HostNetwork, "spec.hostNetwork");
    assert!(said.contains("outrigger.dev/inject: disabled"), "the remedy: {said}");
    let windows = json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["windows"] });
    let linux = json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] });
    let required = |terms: Value| {
        let required = json!({ "nodeSelectorTerms": terms });
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
        pod(json!({ "affinity": affinity }))
    };
    let term = |expression: &Value| json!({ "matchExpressions": [expression] });
    refused(&pod(json!({ "os": { "name": "windows" } })), Reason::Windows, "spec.os.name");
    let selector = pod(json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }));
    refused(&selector, Reason::Windows, "spec.nodeSelector[kubernetes.io/os]");
    refused(&required(json!([term(&windows)])), Reason::Windows, "spec.affinity.nodeAffinity");
    injected(&required(json!([term(&windows), term(&linux)])));
    injected(&pod(json!({ "nodeSelector": { "kubernetes.io/os": "linux" }, "hostNetwork": false })));
}

#[test]
fn pods_of_other_meshes_are_refused() {
    for sidecar in ["istio-proxy", "linkerd-proxy", "consul-dataplane", "kuma-sidecar"] {
        let app = json!({ "name": "web", "image": "web" });
        let list = json!([app, { "name": sidecar, "image": "x" }]);
        refused(&pod(json!({ "containers": list })), Reason::Meshed, "spec.containers[1].name");
        let first = json!([{ "name": sidecar, "image": "x", "restartPolicy": "Always" }]);
        refused(&pod(json!({ "initContainers": first })), Reason::Meshed, "spec.initContainers[0].name");
    }
    for (name, value, clash) in [
        ("sidecar.istio.io/status", "{}", true),
        ("sidecar.istio.io/inject", "true", true),
        ("sidecar.istio.io/inject", "false", false),
        ("linkerd.io/inject", "enabled", true),
        ("linkerd.io/inject", "disabled", false),
        ("linkerd.io/proxy-version", "edge-1", true),
        ("consul.hashicorp.com/connect-inject", "true", true),
        ("kuma.io/sidecar-injected", "true", true),
    ] {
        let pod = annotated(json!({ name: value }), json!({}));
        match clash {
            true => drop(refused(&pod, Reason::Meshed, &format!("metadata.annotations[{name}]"))),
            false => drop(injected(&pod)),
        }
    }
    for name in ["outrigger-proxy", "outrigger-redirect"] {
        let ours = pod(json!({ "initContainers": [{ "name": name, "image": "x" }] }));
        refused(&ours, Reason::Meshed, "spec.initContainers[0].name");
    }
    for name in ["outrigger-token", "outrigger-trust", "outrigger-state"] {
        refused(&pod(json!({ "volumes": [{ "name": name, "emptyDir": {} }] })), Reason::Name, "spec.volumes[0].name");
    }
}

#[test]
fn users_and_ports_of_the_proxy_are_its_own() {
    let as_proxy = json!({ "runAsUser": 2112 });
    refused(&pod(json!({ "securityContext": as_proxy })), Reason::ProxyUser, "spec.securityContext.runAsUser");
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let container = json!([{ "name": "a", "image": "a", "securityContext": as_proxy }]);
        let field = format!("spec.{list}[0].securityContext.runAsUser");
        refused(&pod(json!({ list: container })), Reason::ProxyUser, &field);
    }
    let tproxy = json!({ "outrigger.dev/capture": "tproxy" });
    let group = json!({ "securityContext": { "runAsGroup": 2112 } });
    refused(&annotated(tproxy, group.clone()), Reason::ProxyUser, "spec.securityContext.runAsGroup");
    injected(&pod(group));
    let listens = |port: Value| pod(json!({ "containers": [{ "name": "web", "image": "web", "ports": [port] }] }));
    for port in [9990, 9991, 9992] {
        let field = "spec.containers[0].ports[0].containerPort";
        refused(&listens(json!({ "containerPort": port })), Reason::Port, field);
        injected(&listens(json!({ "containerPort": port, "protocol": "UDP" })));
    }
    injected(&listens(json!({ "containerPort": 8080, "hostPort": 9990 })));
    let probed = |host: &str| {
        let probe = json!({ "tcpSocket": { "port": 9990, "host": host } });
        pod(json!({ "containers": [{ "name": "web", "image": "web", "livenessProbe": probe }] }))
    };
    refused(&probed(""), Reason::Port, "spec.containers[0].livenessProbe.tcpSocket.port");
    injected(&probed("192.0.2.1"));
}

#[test]
fn a_namespace_that_forbids_capture_is_told_with_the_way_out() {
    let context = |level: &str| Context {
        namespace: "shop".to_owned(),
        namespace_labels: [("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned())].into(),
        explicit: false,
    };
    let settings = Settings::default();
    for level in ["restricted", "baseline"] {
        let refused = inject(&pod(json!({})), &context(level), &settings).unwrap_err();
        assert_eq!(refused.reason, Reason::PodSecurity);
        assert!(refused.to_string().contains("outrigger.dev/capture: none"), "{refused}");
        assert!(!refused.reason.is_nature(), "the author can put it right");
        for capture in ["none", "redirect"] {
            let pod = annotated(json!({ "outrigger.dev/capture": capture }), json!({}));
            assert!(inject(&pod, &context(level), &settings).is_ok(), "{capture} is the author's own choice");
        }
    }
    assert!(inject(&pod(json!({})), &context("privileged"), &settings).is_ok());
    let none = [("outrigger.dev/capture".to_owned(), "none".to_owned())].into();
    let settings = Settings { annotations: none, ..settings };
    assert!(inject(&pod(json!({})), &context("restricted"), &settings).is_ok());
}

#[test]
fn what_is_no_pod_is_refused_with_the_field() {
    for (template, field) in [
        (json!(null), ""),
        (json!([]), ""),
        (json!({}), "spec"),
        (json!({ "spec": 1 }), "spec"),
        (json!({ "spec": {} }), "spec.containers"),
        (json!({ "spec": { "containers": [] } }), "spec.containers"),
        (json!({ "spec": { "containers": {} } }), "spec.containers"),
        (json!({ "spec": { "containers": [1] } }), "spec.containers"),
        (json!({ "spec": { "containers": [{}] } }), "spec.containers[0].name"),
        (json!({ "spec": { "containers": [{ "name": "../x" }] } }), "spec.containers[0].name"),
        (json!({ "spec": { "containers": [{ "name": "a" }, { "name": "a" }] } }), "spec.containers[1].name"),
        (json!({ "spec": { "containers": [{ "name": "a" }], "volumes": "x" } }), "spec.volumes"),
        (json!({ "spec": { "containers": [{ "name": "a" }] }, "metadata": [] }), "metadata"),
        (json!({ "metadata": { "labels": [] }, "spec": { "containers": [{ "name": "a" }] } }), "metadata.labels"),
    ] {
        refused(&template, Reason::Malformed, field);
    }
    let number = annotated(json!({ "prometheus.io/port": 8080 }), json!({}));
    assert!(refused(&number, Reason::Malformed, "metadata.annotations[prometheus.io/port]").contains("\"8080\""));
    let env = json!([{ "name": "web", "env": "x" }]);
    let explicit = annotated(json!({ "outrigger.dev/capture": "none" }), json!({ "containers": env }));
    refused(&explicit, Reason::Malformed, "spec.containers[0].env");
}

#[test]
fn what_would_not_fit_is_refused() {
    let big = annotated(json!({ "notes": "x".repeat(256 * 1024 - 10) }), json!({}));
    refused(&big, Reason::TooLarge, "metadata.annotations");
    let header = json!({ "name": "x", "value": "x".repeat(100 * 1024) });
    let probe = json!({ "httpGet": { "port": 80, "httpHeaders": [header] } });
    let probed = pod(json!({ "containers": [{ "name": "web", "readinessProbe": probe }] }));
    assert!(refused(&probed, Reason::TooLarge, "spec.containers").contains("rewrite-probes: disabled"));
}
