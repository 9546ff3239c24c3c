//! What controllers and kubelets would write: service accounts, pods with their status, EndpointSlices.

use serde_json::{Value, json};

use super::Cluster;

/// One endpoint of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Backend<'a> {
    /// Its address, without the port.
    pub ip: &'a str,
    /// Name of the pod behind it; empty: none.
    pub pod: &'a str,
    /// The three conditions of discovery/v1.
    pub ready: bool,
    /// See `ready`.
    pub serving: bool,
    /// See `ready`.
    pub terminating: bool,
}

impl<'a> Backend<'a> {
    /// A ready one.
    #[must_use]
    pub fn ready(ip: &'a str, pod: &'a str) -> Self {
        Self { ip, pod, ready: true, serving: true, terminating: false }
    }

    /// One that terminates and still serves.
    #[must_use]
    pub fn draining(ip: &'a str, pod: &'a str) -> Self {
        Self { ready: false, terminating: true, ..Self::ready(ip, pod) }
    }
}

impl Cluster {
    /// A service account.
    #[track_caller]
    pub fn service_account(&self, namespace: &str, name: &str) {
        let metadata = format!("{{ name: {name}, namespace: {namespace} }}");
        self.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {metadata}"));
    }

    /// A running, ready pod of this account and IP, with the proxy's container in it.
    #[track_caller]
    pub fn pod(&self, namespace: &str, name: &str, account: &str, ip: &str) -> Value {
        self.pod_with(namespace, name, account, ip, &json!({}))
    }

    /// The same with more in `metadata` (labels, annotations).
    #[track_caller]
    pub fn pod_with(&self, namespace: &str, name: &str, account: &str, ip: &str, metadata: &Value) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": "node-1", "serviceAccountName": account, "terminationGracePeriodSeconds": 0,
                "initContainers": [{ "name": "outrigger-proxy", "image": "outrigger-proxy", "restartPolicy": "Always" }],
                "containers": [{ "name": "app", "image": "app" }],
            },
        });
        if let (Some(into), Some(more)) = (pod["metadata"].as_object_mut(), metadata.as_object()) {
            into.extend(more.clone());
        }
        self.create(&pod)
            .and_then(|_| self.set_pod_status(namespace, name, ip))
            .unwrap_or_else(|refusal| panic!("{refusal:?}: {pod}"))
    }

    /// A plain pod: not of the mesh.
    #[track_caller]
    pub fn plain_pod(&self, namespace: &str, name: &str, account: &str, ip: &str) -> Value {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": "node-1", "serviceAccountName": account, "terminationGracePeriodSeconds": 0,
                "containers": [{ "name": "app", "image": "app" }],
            },
        });
        self.create(&pod)
            .and_then(|_| self.set_pod_status(namespace, name, ip))
            .unwrap_or_else(|refusal| panic!("{refusal:?}: {pod}"))
    }

    fn create(&self, object: &Value) -> Result<Value, super::Refusal> {
        self.apply_as("tests", object, "")
    }

    /// A pod runs, is ready and has this address.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn set_pod_status(&self, namespace: &str, name: &str, ip: &str) -> Result<Value, super::Refusal> {
        let status = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace },
            "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": "192.0.2.1",
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        self.apply_as("tests", &status, "/status")
    }

    /// The EndpointSlice `SERVICE-INDEX` of a Service, replaced whole; its port is called `port_name` (empty for a Service
    /// with one port).
    #[track_caller]
    pub fn slice(
        &self,
        namespace: &str,
        service: &str,
        index: u32,
        port_name: &str,
        port: u16,
        backends: &[Backend<'_>],
    ) {
        let endpoints: Vec<Value> = backends.iter().map(|b| endpoint(namespace, b)).collect();
        let v6 = backends.first().is_some_and(|b| b.ip.contains(':'));
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-{index}"), "namespace": namespace,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "ports": [{ "name": port_name, "port": port, "protocol": "TCP" }],
            "endpoints": endpoints,
        });
        self.create(&slice).unwrap_or_else(|refusal| panic!("{refusal:?}: {slice}"));
    }

    /// A Service of one TCP port; `more` are fields of its spec. Returns its (first) cluster IP, or `None`.
    #[track_caller]
    pub fn service(&self, namespace: &str, name: &str, port: u16, more: &Value) -> String {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
            "spec": { "selector": { "app": name }, "ports": [{ "port": port, "protocol": "TCP" }] },
        });
        if let (Some(into), Some(more)) = (service["spec"].as_object_mut(), more.as_object()) {
            into.extend(more.clone());
        }
        let stored = self.create(&service).unwrap_or_else(|refusal| panic!("{refusal:?}: {service}"));
        stored["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned()
    }
}

fn endpoint(namespace: &str, backend: &Backend<'_>) -> Value {
    let conditions = json!({ "ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating });
    let mut endpoint = json!({ "addresses": [backend.ip], "conditions": conditions });
    if !backend.pod.is_empty() {
        endpoint["targetRef"] = json!({ "kind": "Pod", "name": backend.pod, "namespace": namespace });
    }
    endpoint
}
