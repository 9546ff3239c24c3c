//! Objects of a [`Cluster`] as JSON: applied, read, deleted; tokens.
//!
//! Paths come from a table and not from the server's discovery, which would cost several requests per kind and change
//! while CRDs are installed.

use std::{path::PathBuf, time::Duration};

use http::{Method, Request};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Cluster, block_on, certs};

/// Time limit of one request: far above what the server takes on a loaded machine, and it waits for a dead etcd for ever.
const ANSWER: Duration = Duration::from_secs(15);

/// Why the API server did not do it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status; 0: no answer.
    pub code: u16,
    /// Its message.
    pub message: String,
}

impl Cluster {
    /// Applies YAML documents (server-side, forced) and returns what was stored.
    ///
    /// # Panics
    /// The server refuses one.
    #[track_caller]
    pub fn apply(&self, yaml: &str) -> Vec<Value> {
        self.try_apply(yaml).unwrap_or_else(|refusal| panic!("{refusal:?}: {yaml}"))
    }

    /// The same.
    ///
    /// # Errors
    /// The server refuses one; those after it are not applied.
    pub fn try_apply(&self, yaml: &str) -> Result<Vec<Value>, Refusal> {
        documents(yaml).iter().map(|document| self.apply_as("tests", document, "")).collect()
    }

    /// Applies one document as this field manager, to a subresource (`/status`) or to the object itself (empty).
    ///
    /// # Errors
    /// The server refuses it.
    pub fn apply_as(&self, manager: &str, document: &Value, subresource: &str) -> Result<Value, Refusal> {
        let path = path_of(document);
        let uri = format!("{path}{subresource}?fieldManager={manager}&force=true&fieldValidation=Strict");
        self.send(Method::PATCH, &uri, "application/apply-patch+yaml", document)
    }

    /// Merges `patch` into an object or its subresource (`/status`).
    ///
    /// # Panics
    /// The server refuses it.
    #[track_caller]
    pub fn patch(&self, kind: &str, namespace: &str, name: &str, subresource: &str, patch: &Value) -> Value {
        let uri = format!("{}{subresource}?fieldManager=tests", path(kind, namespace, name));
        self.send(Method::PATCH, &uri, "application/merge-patch+json", patch)
            .unwrap_or_else(|refusal| panic!("{refusal:?}: {kind} {namespace}/{name}"))
    }

    /// An object. `namespace` is empty for cluster-scoped kinds. `None`: there is none, or no answer.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.send(Method::GET, &path(kind, namespace, name), "", &Value::Null).ok()
    }

    /// All objects of a kind in a namespace.
    #[must_use]
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let list = self.send(Method::GET, &path(kind, namespace, ""), "", &Value::Null).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Deletes an object at once; it need not exist.
    #[track_caller]
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let body = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 });
        let result = self.send(Method::DELETE, &path(kind, namespace, name), "application/json", &body);
        if let Err(refusal) = result {
            assert_eq!(refusal.code, 404, "{kind} {namespace}/{name}: {refusal:?}");
        }
    }

    /// A token of a service account, by TokenRequest: for these audiences (none: the API server's), this many seconds
    /// (600 is the least that the server gives), bound to a pod of this name if any.
    ///
    /// # Panics
    /// The server refuses it.
    #[must_use]
    #[track_caller]
    pub fn token(&self, namespace: &str, account: &str, audiences: &[&str], seconds: u32, pod: Option<&str>) -> String {
        let mut spec = json!({ "audiences": audiences, "expirationSeconds": seconds });
        if let Some(name) = pod {
            let uid = self.get("Pod", namespace, name).expect("the pod exists")["metadata"]["uid"].clone();
            spec["boundObjectRef"] = json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
        }
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let uri = format!("{}/token", path("ServiceAccount", namespace, account));
        let answer = self.send(Method::POST, &uri, "application/json", &body);
        let answer = answer.unwrap_or_else(|refusal| panic!("{refusal:?}: token of {namespace}/{account}"));
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// A kubeconfig file of a service account, which may do what RBAC gives it.
    #[must_use]
    #[track_caller]
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.token(namespace, account, &[], 3600, None);
        let file = self.dir.join(format!("{namespace}-{account}.kubeconfig"));
        let text = certs::kubeconfig(&self.dir, self.address, &format!("token: {token}"));
        std::fs::write(&file, text).expect("the directory is writable");
        file
    }

    /// Any request with the administrator's rights; `body` null: none.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub fn send(&self, method: Method, uri: &str, content: &str, body: &Value) -> Result<Value, Refusal> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut request = Request::builder().method(method).uri(uri);
        if !content.is_empty() {
            request = request.header("content-type", content);
        }
        let request = request.body(bytes).expect("a request");
        let client = self.client();
        let answer = block_on(async { timeout(ANSWER, client.request::<Value>(request)).await });
        let answer = answer.map_err(|_| Refusal { code: 0, message: format!("no answer within {ANSWER:?}") })?;
        answer.map_err(|error| match error {
            kube::Error::Api(status) => Refusal { code: status.code, message: status.message.clone() },
            other => Refusal { code: 0, message: other.to_string() },
        })
    }
}

/// The documents of a YAML text, empty ones left out.
#[must_use]
fn documents(yaml: &str) -> Vec<Value> {
    let parsed = serde_yaml::Deserializer::from_str(yaml).map(|d| Value::deserialize(d).expect("YAML"));
    parsed.filter(|value| !value.is_null()).collect()
}

fn path_of(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &document["metadata"];
    path(&text(&document["kind"]), &text(&metadata["namespace"]), &text(&metadata["name"]))
}

fn path(kind: &str, namespace: &str, name: &str) -> String {
    let (api, plural) = KINDS
        .iter()
        .find_map(|(api, kinds)| kinds.iter().find(|(k, _)| *k == kind).map(|(_, plural)| (*api, *plural)))
        .unwrap_or_else(|| panic!("add the kind {kind} to the table in tests/src/kube/api.rs"));
    let scope = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{api}{scope}/{plural}{name}")
}

/// API group and version, and the kinds of it with their plurals.
const KINDS: &[(&str, &[(&str, &str)])] = &[
    (
        "/api/v1",
        &[
            ("Namespace", "namespaces"),
            ("Service", "services"),
            ("Pod", "pods"),
            ("Secret", "secrets"),
            ("ConfigMap", "configmaps"),
            ("ServiceAccount", "serviceaccounts"),
            ("Event", "events"),
            ("Node", "nodes"),
        ],
    ),
    ("/apis/apps/v1", &[("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")]),
    ("/apis/batch/v1", &[("Job", "jobs"), ("CronJob", "cronjobs")]),
    ("/apis/discovery.k8s.io/v1", &[("EndpointSlice", "endpointslices")]),
    ("/apis/coordination.k8s.io/v1", &[("Lease", "leases")]),
    (
        "/apis/rbac.authorization.k8s.io/v1",
        &[
            ("Role", "roles"),
            ("RoleBinding", "rolebindings"),
            ("ClusterRole", "clusterroles"),
            ("ClusterRoleBinding", "clusterrolebindings"),
        ],
    ),
    (
        "/apis/admissionregistration.k8s.io/v1",
        &[
            ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
            ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        ],
    ),
    ("/apis/apiextensions.k8s.io/v1", &[("CustomResourceDefinition", "customresourcedefinitions")]),
    ("/apis/policy/v1", &[("PodDisruptionBudget", "poddisruptionbudgets")]),
    ("/apis/gateway.networking.k8s.io/v1", &[("HTTPRoute", "httproutes"), ("GRPCRoute", "grpcroutes")]),
    ("/apis/gateway.networking.k8s.io/v1beta1", &[("ReferenceGrant", "referencegrants")]),
    (
        "/apis/outrigger.dev/v1alpha1",
        &[
            ("Upstream", "upstreams"),
            ("TrafficPolicy", "trafficpolicies"),
            ("AccessPolicy", "accesspolicies"),
            ("MeshPolicy", "meshpolicies"),
        ],
    ),
];
