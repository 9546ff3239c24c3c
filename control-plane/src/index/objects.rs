//! Objects of the cluster, trimmed to what the mesh uses of them.
//!
//! Each is made of the Kubernetes object at once when it is decoded, so that no more of it is ever held. All are compared by
//! content: a `resourceVersion` says nothing about order, and changes with every status that is written.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use outrigger_config::documents::Kind;

use super::proven::Proven;

/// Namespace and name; the namespace is empty for what has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Of the object.
    pub namespace: Arc<str>,
    /// Of the object.
    pub name: Arc<str>,
}

/// What kinds of objects the index takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// `v1` `Service`.
    Service,
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    Slice,
    /// `v1` `Pod`.
    Pod,
    /// `v1` `Namespace`.
    Namespace,
    /// `gateway.networking.k8s.io` `ReferenceGrant`.
    Grant,
    /// Routes, policies and Upstreams.
    Document(Kind),
}

/// An object of any of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// A part of a Service's endpoints.
    Slice(Slice),
    /// A pod.
    Pod(Pod),
    /// A namespace.
    Namespace(Namespace),
    /// Permission to refer into a namespace.
    Grant(Grant),
    /// A route, a policy, or an Upstream.
    Document(Document),
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub at: ObjectName,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub created: Arc<str>,
    /// How it is reached.
    pub kind: ServiceKind,
    /// `clusterIPs`; none of a headless one.
    pub addresses: Vec<IpAddr>,
    /// Ports whose protocol is TCP.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`.
    pub selector: BTreeMap<Arc<str>, Arc<str>>,
    /// `publishNotReadyAddresses`: unready endpoints are used.
    pub publish_not_ready: bool,
}

/// How a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// By an address of its own.
    ClusterIp,
    /// By the addresses of its pods.
    Headless,
    /// By a DNS name.
    ExternalName(Arc<str>),
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty if it is the only one.
    pub name: Arc<str>,
    /// Of the Service.
    pub port: u16,
    /// Of the pod.
    pub target: TargetPort,
    /// `appProtocol`; empty: not said.
    pub app_protocol: Arc<str>,
}

/// `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// A part of the endpoints of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name.
    pub at: ObjectName,
    /// Label `kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// Name and number; a port without number stands for all and is left out.
    pub ports: Vec<(Arc<str>, u16)>,
    /// The endpoints, one for each address.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One address of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The address.
    pub ip: IpAddr,
    /// What its conditions say together.
    pub state: EndpointState,
    /// Name of the pod, if it is one (of the namespace of the slice); empty otherwise.
    pub pod: Arc<str>,
    /// `hostname`, by which a headless Service has a name for it; empty: none.
    pub hostname: Arc<str>,
    /// Its zone; empty: not known.
    pub zone: Arc<str>,
    /// Zones that should use it; empty: all.
    pub for_zones: Vec<Arc<str>>,
}

/// What the conditions of an endpoint say. The better state is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    /// Takes requests.
    Ready,
    /// Ends, and still serves.
    Draining,
    /// Neither.
    Unready,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub at: ObjectName,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Its service account.
    pub account: Arc<str>,
    /// Whether a proxy of the mesh stands in front of it.
    pub meshed: bool,
    /// At which ports it does, if so.
    pub proven: Proven,
    /// Shares the addresses of its node: its address says nothing about it.
    pub host_network: bool,
    /// Has ended: its addresses may be another's already.
    pub ended: bool,
    /// TCP ports of its containers: name (may be empty) and number.
    pub ports: Arc<[(Arc<str>, u16)]>,
    /// Labels, which selectors of Services look at.
    pub labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// Group, kind and namespace.
pub type GrantFrom = (Arc<str>, Arc<str>, Arc<str>);

/// Group, kind and, unless it is every one, name.
pub type GrantTo = (Arc<str>, Arc<str>, Option<Arc<str>>);

/// A `ReferenceGrant`: who may refer to what of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Namespace and name.
    pub at: ObjectName,
    /// Group, kind and namespace of who may.
    pub from: Vec<GrantFrom>,
    /// Group, kind and, unless it is every one, name of what they may refer to.
    pub to: Vec<GrantTo>,
}

/// A route, a policy, or an Upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub at: ObjectName,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`, which changes with the spec alone.
    pub generation: i64,
    /// The document without `status`, `managedFields`, `resourceVersion` and what else changes without it.
    pub json: Arc<str>,
}

/// What names a document among all kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentRef {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub at: ObjectName,
}
