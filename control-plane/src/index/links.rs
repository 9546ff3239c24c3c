//! What a document refers to, read from its JSON whether or not the rest of it makes sense.

use std::sync::Arc;

use outrigger_config::documents::Kind;
use serde_json::Value;

use super::{DocumentRef, ObjectName};

/// What requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A Service.
    Service(ObjectName),
    /// An `Upstream` document.
    Upstream(ObjectName),
}

impl Destination {
    /// Its name.
    #[must_use]
    pub fn at(&self) -> &ObjectName {
        match self {
            Self::Service(at) | Self::Upstream(at) => at,
        }
    }

    /// Group and kind, as a ReferenceGrant names it.
    #[must_use]
    pub fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Service(_) => ("", "Service"),
            Self::Upstream(_) => ("outrigger.dev", "Upstream"),
        }
    }
}

/// What a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A Service or an Upstream.
    Destination(Destination),
    /// A route.
    Route(DocumentRef),
    /// All of a namespace.
    Namespace(Arc<str>),
    /// Everything.
    Mesh,
}

/// To what a route is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Place in `parentRefs`.
    pub(crate) index: usize,
    pub(crate) to: Destination,
    pub(crate) port: Option<u16>,
    pub(crate) section: Option<Arc<str>>,
}

/// Where requests may be sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    /// `None`: of a kind that is not known here.
    pub(crate) to: Option<Destination>,
    pub(crate) port: Option<u16>,
    /// For people.
    pub(crate) title: String,
}

/// What a policy is for, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetRef {
    /// Place in `targetRefs`.
    pub(crate) index: usize,
    /// `None`: of a kind that is not known here.
    pub(crate) to: Option<Target>,
    pub(crate) section: Option<Arc<str>>,
}

/// All of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) parents: Vec<Parent>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) targets: Vec<TargetRef>,
    /// Hosts of an Upstream, its name included.
    pub(crate) hosts: Vec<Arc<str>>,
}

impl Links {
    /// Reads `document`, of `kind` and called `at`. `mesh_namespace` is where a MeshPolicy without targets is for everyone.
    pub(crate) fn of(kind: Kind, at: &ObjectName, document: &Value, mesh_namespace: &str) -> Self {
        let spec = &document["spec"];
        let mut links = Self::default();
        match kind {
            Kind::HTTPRoute | Kind::GRPCRoute => {
                let refs = list(spec, "parentRefs").enumerate();
                links.parents = refs.filter_map(|(index, r)| parent(index, at, r)).collect();
                for rule in list(spec, "rules") {
                    mirrors(rule, at, &mut links.backends);
                    for backend in list(rule, "backendRefs") {
                        links.backends.push(backend_of(at, backend));
                        mirrors(backend, at, &mut links.backends);
                    }
                }
            }
            Kind::TrafficPolicy | Kind::AccessPolicy | Kind::MeshPolicy => {
                links.targets = list(spec, "targetRefs").enumerate().map(|(i, r)| target(i, at, r)).collect();
                if kind == Kind::MeshPolicy && links.targets.is_empty() {
                    let to = if *at.namespace == *mesh_namespace {
                        Target::Mesh
                    } else {
                        Target::Namespace(Arc::clone(&at.namespace))
                    };
                    links.targets.push(TargetRef { index: 0, to: Some(to), section: None });
                }
                if let Some(backend) = spec.pointer("/fallback/backendRef") {
                    links.backends.push(backend_of(at, backend));
                }
            }
            Kind::Upstream => {
                links.hosts.push(Arc::clone(&at.name));
                links.hosts.extend(list(spec, "hostnames").filter_map(Value::as_str).map(Arc::from));
            }
            _ => {}
        }
        links.backends.sort();
        links.backends.dedup();
        links
    }
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str)
}

fn port(value: &Value) -> Option<u16> {
    value.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok())
}

fn named(at: &ObjectName, r: &Value) -> Option<ObjectName> {
    let namespace = text(r, "namespace").map_or_else(|| Arc::clone(&at.namespace), Arc::from);
    Some(ObjectName { namespace, name: text(r, "name")?.into() })
}

/// The destination that a reference names; a kind that is not said is `otherwise`.
fn destination(at: &ObjectName, r: &Value, otherwise: &str) -> Option<Destination> {
    let group = text(r, "group");
    match text(r, "kind").unwrap_or(otherwise) {
        "Service" if group.is_none_or(str::is_empty) => named(at, r).map(Destination::Service),
        "Upstream" if group.is_none_or(|g| g == "outrigger.dev") => named(at, r).map(Destination::Upstream),
        _ => None,
    }
}

/// `None`: a Gateway, or what else is another controller's.
fn parent(index: usize, at: &ObjectName, r: &Value) -> Option<Parent> {
    let to = destination(at, r, "Gateway")?;
    Some(Parent { index, to, port: port(r), section: text(r, "sectionName").map(Arc::from) })
}

fn backend_of(at: &ObjectName, r: &Value) -> Backend {
    let kind = text(r, "kind").unwrap_or("Service");
    let name = named(at, r).map_or_else(String::new, |n| format!("{}/{}", n.namespace, n.name));
    Backend { to: destination(at, r, "Service"), port: port(r), title: format!("{kind} {name}") }
}

fn mirrors(value: &Value, at: &ObjectName, backends: &mut Vec<Backend>) {
    let refs = list(value, "filters").filter_map(|f| f.pointer("/requestMirror/backendRef"));
    backends.extend(refs.map(|r| backend_of(at, r)));
}

fn target(index: usize, at: &ObjectName, r: &Value) -> TargetRef {
    let to = match text(r, "kind").unwrap_or_default() {
        "HTTPRoute" => named(at, r).map(|at| Target::Route(DocumentRef { kind: Kind::HTTPRoute, at })),
        "GRPCRoute" => named(at, r).map(|at| Target::Route(DocumentRef { kind: Kind::GRPCRoute, at })),
        "Namespace" => text(r, "name").map(|name| Target::Namespace(name.into())),
        _ => destination(at, r, "").map(Target::Destination),
    };
    TargetRef { index, to, section: text(r, "sectionName").map(Arc::from) }
}
