//! What one proxy is told: the resource behind a key, as the pod that asks sees it.
//!
//! A resource is made of the index alone, with every list in an order that the content has, and its version is a digest of its
//! encoding. So all replicas, whenever they started and in whatever order they heard of things, give the same content the
//! same version.

mod address;
mod delta;
mod document;
mod name;
mod service;
#[cfg(test)]
mod tests;
mod workload;

use outrigger_config::discovery::{Absent, Key, Resource, resource::Body};
use prost::Message as _;

pub use delta::delta;

use crate::index::{Index, ObjectName, Topic};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// The pod.
    pub pod: ObjectName,
}

/// For whom alone an answer is meant: resources of one key and scope are the same, so they are made once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everyone.
    Mesh,
    /// Every pod of the subscriber's namespace.
    Namespace,
    /// The subscriber.
    Pod,
}

/// Who shares the answer to `key`.
#[must_use]
pub fn scope(key: &Key) -> Scope {
    match key {
        Key::Trust => Scope::Mesh,
        Key::Workload => Scope::Pod,
        Key::Address(_) | Key::Name { .. } | Key::Service { .. } | Key::Upstream { .. } => Scope::Namespace,
    }
}

/// What an answer is made of, and what it depends on: resolve again when one of these topics changes.
///
/// They may be others after each resolution.
#[must_use]
pub fn topics(index: &Index, subscriber: &Subscriber, key: &Key) -> Vec<Topic> {
    let mut topics = match key {
        Key::Trust => vec![Topic::Trust],
        Key::Workload => workload::topics(index, &subscriber.pod),
        Key::Address(address) => address::topics(index, address.ip()),
        Key::Name { host, .. } => name::topics(index, &subscriber.pod.namespace, host),
        Key::Service { namespace, name, .. } => {
            let at = ObjectName { namespace: namespace.clone(), name: name.clone() };
            vec![
                Topic::Service(at.clone()),
                Topic::Endpoints(at.clone()),
                Topic::Documents(at),
                Topic::Namespace(namespace.clone()),
                Topic::Mesh,
            ]
        }
        Key::Upstream { namespace, name } => {
            let at = ObjectName { namespace: namespace.clone(), name: name.clone() };
            vec![Topic::Upstream(at), Topic::Namespace(namespace.clone()), Topic::Mesh]
        }
    };
    topics.sort();
    topics.dedup();
    topics
}

/// The resource behind `key`, with the version that its content has. What is not there is `Absent`.
#[must_use]
pub fn resolve(index: &Index, subscriber: &Subscriber, key: &Key) -> Resource {
    let namespace = &subscriber.pod.namespace;
    let body = match key {
        Key::Trust => Ok(Body::Trust(index.trust().clone())),
        Key::Workload => workload::resolve(index, &subscriber.pod).map(Body::Workload),
        Key::Address(address) => address::resolve(index, *address).map(Body::Binding),
        Key::Name { host, port } => name::resolve(index, namespace, host, *port).map(Body::Binding),
        Key::Service { namespace: of, name, port } => {
            let at = ObjectName { namespace: of.clone(), name: name.clone() };
            service::of_service(index, namespace, &at, *port).map(Body::Service)
        }
        Key::Upstream { namespace: of, name } => {
            let at = ObjectName { namespace: of.clone(), name: name.clone() };
            service::of_upstream(index, namespace, &at).map(Body::Service)
        }
    };
    let body = body.unwrap_or_else(|reason| Body::Absent(Absent { reason }));
    seal(Resource { key: key.to_string(), version: String::new(), body: Some(body) })
}

/// Writes the version: half a SHA-256 of the encoding without it. What two contents of one version would do to a proxy is stay
/// stale, so a version must not be forged by who writes documents, and 128 bits suffice for that.
fn seal(mut resource: Resource) -> Resource {
    resource.version.clear();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &resource.encode_to_vec());
    resource.version = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    resource
}

/// The keys that a proxy is sent unasked, before `resource`: what a binding leads to and what routes refer to.
#[must_use]
pub fn references(resource: &Resource) -> Vec<Key> {
    let keys: Vec<&str> = match &resource.body {
        Some(Body::Binding(binding)) => vec![&binding.service],
        Some(Body::Service(service)) => service.references.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    // What resolve writes is a key, or empty.
    keys.into_iter().filter_map(|key| key.parse().ok()).collect()
}
