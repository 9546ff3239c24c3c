//! Kubernetes objects as they arrive, with only those fields that the index keeps.
//!
//! Fields that are not named here are skipped while the JSON is read: managed fields, pod specs and the like never become
//! memory. Reading is as lenient as the API server is strict: it has validated all of this, and one odd object must not
//! stop the watch of its kind, so everything but the name has a default and what does not parse (an `FQDN` slice's addresses) is
//! left out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::Resource;
use crate::{
    index::{
        Document, EndpointState, Grant, Namespace, Object, ObjectKind, ObjectName, Pod, Proven, Service, ServiceKind,
        ServicePort, Slice, SliceEndpoint, TargetPort,
    },
    inject::{PROXY_CONTAINER, REDIRECT_CONTAINER},
};

#[cfg(test)]
mod tests;

/// An object as it arrives.
pub(crate) trait Arrived: DeserializeOwned + Clone + Send + 'static {
    fn metadata(&self) -> &Metadata;

    /// What the index keeps of it; `None`: nothing, as if it were not there.
    fn trim(self, resource: &Resource) -> Option<Trimmed>;
}

/// What is kept of an object.
#[derive(Debug, Clone)]
pub(crate) struct Trimmed {
    pub(crate) object: Object,
    /// Of a route or a policy: what stands in `status` now.
    pub(crate) status: Option<Value>,
}

impl From<Object> for Trimmed {
    fn from(object: Object) -> Self {
        Self { object, status: None }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) resource_version: String,
    uid: Arc<str>,
    generation: i64,
    creation_timestamp: Option<Arc<str>>,
    labels: Option<BTreeMap<Arc<str>, Arc<str>>>,
}

impl Metadata {
    pub(crate) fn at(&self) -> ObjectName {
        ObjectName { namespace: Arc::clone(&self.namespace), name: Arc::clone(&self.name) }
    }
}

/// Declares what arrives: `metadata`, and `spec` or what else there is.
macro_rules! arrived {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub(crate) struct $name { metadata: Metadata, $($(#[$attribute])* $field: $type,)* }
        )*
    };
}

/// Declares parts of them.
macro_rules! part {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            struct $name { $($(#[$attribute])* $field: $type,)* }
        )*
    };
}

arrived! {
    AnyNamespace {}
    AnyPod { spec: PodSpec, status: PodStatus, }
    AnyService { spec: ServiceSpec, }
    AnySlice { ports: Option<Vec<SlicePort>>, endpoints: Option<Vec<AnyEndpoint>>, }
    AnyGrant { spec: GrantSpec, }
}

part! {
    PodSpec {
        service_account_name: Arc<str>, host_network: bool,
        containers: Option<Vec<Container>>, init_containers: Option<Vec<Container>>,
    }
    Container {
        name: String, ports: Option<Vec<ContainerPort>>, restart_policy: Option<String>,
        args: Option<Vec<String>>, env: Option<Vec<Variable>>,
    }
    Variable { name: String, value: Option<String>, }
    ContainerPort { name: Arc<str>, container_port: u16, protocol: Option<String>, }
    PodStatus { phase: String, #[serde(rename = "podIP")] pod_ip: String, #[serde(rename = "podIPs")] pod_ips: Option<Vec<PodIp>>, }
    PodIp { ip: String, }
    ServiceSpec {
        r#type: Option<String>, #[serde(rename = "clusterIP")] cluster_ip: Option<String>,
        #[serde(rename = "clusterIPs")] cluster_ips: Option<Vec<String>>, external_name: Arc<str>,
        ports: Option<Vec<AnyServicePort>>, selector: Option<BTreeMap<Arc<str>, Arc<str>>>, publish_not_ready_addresses: bool,
    }
    AnyServicePort {
        name: Arc<str>, port: u16, protocol: Option<String>, target_port: Option<Value>, app_protocol: Option<Arc<str>>,
    }
    SlicePort { name: Option<Arc<str>>, port: Option<u16>, protocol: Option<String>, }
    AnyEndpoint {
        addresses: Vec<String>, conditions: Conditions, hostname: Option<Arc<str>>, target_ref: Option<TargetRef>,
        zone: Option<Arc<str>>, hints: Option<Hints>,
    }
    Conditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    TargetRef { kind: String, name: Arc<str>, }
    Hints { for_zones: Option<Vec<ForZone>>, }
    ForZone { name: Arc<str>, }
    GrantSpec { from: Vec<GrantFrom>, to: Vec<GrantTo>, }
    GrantFrom { group: Arc<str>, kind: Arc<str>, namespace: Arc<str>, }
    GrantTo { group: Arc<str>, kind: Arc<str>, name: Option<Arc<str>>, }
}

/// TCP is what a protocol is where none is said.
fn is_tcp(protocol: Option<&String>) -> bool {
    protocol.is_none_or(|p| p == "TCP")
}

impl Arrived for AnyNamespace {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn trim(self, _: &Resource) -> Option<Trimmed> {
        let labels = self.metadata.labels.unwrap_or_default();
        Some(Object::Namespace(Namespace { name: self.metadata.name, labels }).into())
    }
}

impl Arrived for AnyPod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn trim(self, _: &Resource) -> Option<Trimmed> {
        let containers = self.spec.containers.unwrap_or_default();
        let first = self.spec.init_containers.unwrap_or_default();
        let meshed = containers.iter().chain(&first).any(|c| c.name == PROXY_CONTAINER);
        let proven = proven(&containers, &first);
        // Of the containers that run before the others, sidecars alone go on serving.
        let sidecars = first.into_iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = containers.into_iter().chain(sidecars).filter(|c| c.name != PROXY_CONTAINER);
        let ports = ports.flat_map(|c| c.ports.unwrap_or_default()).filter(|p| is_tcp(p.protocol.as_ref()));
        let mut ips: Vec<IpAddr> =
            self.status.pod_ips.unwrap_or_default().iter().filter_map(|p| p.ip.parse().ok()).collect();
        if ips.is_empty() {
            ips.extend(self.status.pod_ip.parse::<IpAddr>().ok());
        }
        let pod = Pod {
            at: self.metadata.at(),
            uid: self.metadata.uid,
            ips,
            account: non_empty(self.spec.service_account_name, "default"),
            meshed,
            proven,
            host_network: self.spec.host_network,
            ended: matches!(self.status.phase.as_str(), "Succeeded" | "Failed"),
            ports: ports.map(|p| (p.name, p.container_port)).collect(),
            labels: Arc::new(self.metadata.labels.unwrap_or_default()),
        };
        Some(Object::Pod(pod).into())
    }
}

/// At which ports the proxy among these containers answers. One that nobody injected is taken for one whose pod is captured.
fn proven(containers: &[Container], first: &[Container]) -> Proven {
    let named = |name: &str| first.iter().chain(containers).find(|c| c.name == name);
    if let Some(capture) = named(REDIRECT_CONTAINER) {
        return Proven::captured(capture.args.iter().flatten().map(String::as_str));
    }
    let variables = || named(PROXY_CONTAINER).into_iter().flat_map(|c| c.env.iter().flatten());
    let value = |name: &str| variables().find(|v| v.name == name).and_then(|v| v.value.as_deref());
    match value("OUTRIGGER_EXPLICIT") {
        Some("true") => Proven::listed(value("OUTRIGGER_INBOUND_LISTENERS").unwrap_or_default()),
        _ => Proven::default(),
    }
}

fn non_empty(text: Arc<str>, otherwise: &str) -> Arc<str> {
    if text.is_empty() { otherwise.into() } else { text }
}

impl Arrived for AnyService {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn trim(self, _: &Resource) -> Option<Trimmed> {
        let spec = self.spec;
        let at = self.metadata.at();
        let given = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let addresses: Vec<IpAddr> = given.iter().filter_map(|ip| ip.parse().ok()).collect();
        let kind = match spec.r#type.as_deref() {
            Some("ExternalName") => ServiceKind::ExternalName(spec.external_name),
            _ if addresses.is_empty() => ServiceKind::Headless,
            _ => ServiceKind::ClusterIp,
        };
        let ports = spec.ports.unwrap_or_default().into_iter().filter(|p| is_tcp(p.protocol.as_ref()));
        let service = Service {
            at,
            created: self.metadata.creation_timestamp.unwrap_or_default(),
            kind,
            addresses,
            ports: ports.map(AnyServicePort::trim).collect(),
            selector: spec.selector.unwrap_or_default(),
            publish_not_ready: spec.publish_not_ready_addresses,
        };
        Some(Object::Service(service).into())
    }
}

impl AnyServicePort {
    fn trim(self) -> ServicePort {
        let number = |n: &serde_json::Number| n.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
        let target = match &self.target_port {
            Some(Value::String(name)) => TargetPort::Name(name.as_str().into()),
            Some(Value::Number(n)) => TargetPort::Number(number(n).unwrap_or(self.port)),
            _ => TargetPort::Number(self.port),
        };
        ServicePort { name: self.name, port: self.port, target, app_protocol: self.app_protocol.unwrap_or_default() }
    }
}

impl Arrived for AnySlice {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A slice of no Service is nothing to us.
    fn trim(self, _: &Resource) -> Option<Trimmed> {
        let service = self.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let ports = self.ports.unwrap_or_default().into_iter().filter(|p| is_tcp(p.protocol.as_ref()));
        let slice = Slice {
            at: self.metadata.at(),
            service: Arc::clone(service),
            ports: ports.filter_map(|p| Some((p.name.unwrap_or_default(), p.port?))).collect(),
            endpoints: self.endpoints.unwrap_or_default().iter().flat_map(AnyEndpoint::trim).collect(),
        };
        Some(Object::Slice(slice).into())
    }
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl AnyEndpoint {
    fn trim(&self) -> impl Iterator<Item = SliceEndpoint> {
        let pod = self.target_ref.as_ref().filter(|t| t.kind == "Pod").map(|t| Arc::clone(&t.name)).unwrap_or_default();
        let zones = self.hints.as_ref().and_then(|h| h.for_zones.as_ref());
        let for_zones: Vec<Arc<str>> = zones.into_iter().flatten().map(|z| Arc::clone(&z.name)).collect();
        self.addresses.iter().filter_map(|a| a.parse().ok()).map(move |ip| SliceEndpoint {
            ip,
            state: self.conditions.state(),
            pod: Arc::clone(&pod),
            hostname: self.hostname.clone().unwrap_or_default(),
            zone: self.zone.clone().unwrap_or_default(),
            for_zones: for_zones.clone(),
        })
    }
}

impl Conditions {
    /// As the EndpointSlice API says: `ready` not said is ready; `serving` not said is as `ready`; `terminating` not said is not.
    fn state(&self) -> EndpointState {
        let ready = self.ready.unwrap_or(true);
        match (ready, self.serving.unwrap_or(ready), self.terminating.unwrap_or(false)) {
            (true, _, _) => EndpointState::Ready,
            (false, true, true) => EndpointState::Draining,
            _ => EndpointState::Unready,
        }
    }
}

impl Arrived for AnyGrant {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn trim(self, _: &Resource) -> Option<Trimmed> {
        let from = self.spec.from.into_iter().map(|f| (f.group, f.kind, f.namespace)).collect();
        let to = self.spec.to.into_iter().map(|t| (t.group, t.kind, t.name.filter(|n| !n.is_empty()))).collect();
        Some(Object::Grant(Grant { at: self.metadata.at(), from, to }).into())
    }
}

/// A route, a policy or an Upstream: its author's words are kept as they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AnyDocument {
    metadata: Metadata,
    #[serde(rename = "spec")]
    spec: Option<Value>,
    status: Option<Value>,
}

impl Arrived for AnyDocument {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn trim(self, resource: &Resource) -> Option<Trimmed> {
        let ObjectKind::Document(kind) = resource.kind else { return None };
        let mut metadata = serde_json::Map::new();
        metadata.insert("name".into(), self.metadata.name.as_ref().into());
        metadata.insert("namespace".into(), self.metadata.namespace.as_ref().into());
        if let Some(created) = &self.metadata.creation_timestamp {
            metadata.insert("creationTimestamp".into(), created.as_ref().into());
        }
        let json = serde_json::json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": metadata,
            "spec": self.spec.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        });
        let document = Document {
            kind,
            at: self.metadata.at(),
            uid: self.metadata.uid,
            generation: self.metadata.generation,
            json: json.to_string().into(),
        };
        Some(Trimmed { object: Object::Document(document), status: self.status })
    }
}
