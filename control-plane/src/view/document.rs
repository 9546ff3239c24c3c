//! Documents on their way to a proxy.

use std::collections::BTreeMap;

use outrigger_config::discovery;
use serde_json::json;

use crate::index::{Destination, DocumentRef, Entry, Grant, Index, ObjectName, Service, ServiceKind, Target, origin};

/// Documents of one resource: each once, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Documents {
    all: BTreeMap<String, String>,
}

impl Documents {
    /// A document, unless it is withheld, and the grants that let it refer to other namespaces.
    pub(super) fn add(&mut self, index: &Index, entry: &Entry) {
        let Some(json) = &entry.sent else { return };
        let document = &entry.document;
        let from = DocumentRef { kind: document.kind, at: document.at.clone() };
        let name = origin(document.kind.as_str(), &document.at);
        if self.all.insert(name, json.to_string()).is_some() {
            return;
        }
        let backends = entry.links.backends.iter().filter_map(|b| b.to.as_ref()).map(|to| &to.at().namespace);
        let targets = entry.links.targets.iter().filter_map(|t| match &t.to {
            Some(Target::Destination(to)) => Some(&to.at().namespace),
            Some(Target::Route(route)) => Some(&route.at.namespace),
            _ => None,
        });
        for namespace in backends.chain(targets).filter(|n| **n != from.at.namespace) {
            for grant in index.entries().grants_for(&from, namespace) {
                self.all.insert(origin("ReferenceGrant", &grant.at), grant_json(grant));
            }
        }
    }

    pub(super) fn add_service(&mut self, service: &Service) {
        self.all.insert(origin("Service", &service.at), service_json(service));
    }

    /// The documents, with that of `first` before the others.
    pub(super) fn finish(mut self, first: Option<String>) -> Vec<discovery::Document> {
        let document = |(origin, json)| discovery::Document { json, origin };
        let head = first.and_then(|name| self.all.remove_entry(&name));
        head.into_iter().chain(self.all).map(document).collect()
    }

    /// Policies that hold for all of a namespace or the mesh.
    pub(super) fn add_general(&mut self, index: &Index, namespace: &str, wanted: impl Fn(&Entry) -> bool) {
        for target in [Target::Namespace(namespace.into()), Target::Mesh] {
            for entry in policies(index, &target).filter(|e| wanted(e)) {
                self.add(index, entry);
            }
        }
    }
}

/// Whether a reference of `entry` to `to` counts.
pub(super) fn allowed(index: &Index, entry: &Entry, to: &Destination) -> bool {
    let from = DocumentRef { kind: entry.document.kind, at: entry.document.at.clone() };
    index.entries().granted(&from, to.kind(), to.at())
}

/// Policies for a target whose authors may speak for it. Those of others have no effect, and are not sent: nobody fills the
/// proxies of another namespace.
pub(super) fn policies<'i>(index: &'i Index, target: &Target) -> impl Iterator<Item = &'i Entry> + use<'i> {
    let mesh = &*index.settings().mesh_namespace;
    let policies = index.entries().policies(target);
    let target = target.clone();
    policies.filter(move |entry| {
        let own = &entry.document.at.namespace;
        let from = DocumentRef { kind: entry.document.kind, at: entry.document.at.clone() };
        match &target {
            Target::Destination(to) => index.entries().granted(&from, to.kind(), to.at()),
            Target::Route(route) => {
                index.entries().granted(&from, ("gateway.networking.k8s.io", route.kind.as_str()), &route.at)
            }
            Target::Namespace(namespace) => own == namespace || **own == *mesh,
            Target::Mesh => **own == *mesh,
        }
    })
}

fn metadata(at: &ObjectName, created: &str) -> serde_json::Value {
    let mut metadata = json!({ "name": &*at.name, "namespace": &*at.namespace });
    if let (false, Some(map)) = (created.is_empty(), metadata.as_object_mut()) {
        map.insert("creationTimestamp".into(), created.into());
    }
    metadata
}

/// What the compiler reads of a Service.
fn service_json(service: &Service) -> String {
    let ports: Vec<serde_json::Value> = service
        .ports
        .iter()
        .map(|p| {
            let mut port = json!({ "port": p.port });
            if let Some(map) = port.as_object_mut() {
                if !p.name.is_empty() {
                    map.insert("name".into(), (*p.name).into());
                }
                if !p.app_protocol.is_empty() {
                    map.insert("appProtocol".into(), (*p.app_protocol).into());
                }
            }
            port
        })
        .collect();
    let spec = match &service.kind {
        ServiceKind::ExternalName(name) => json!({ "type": "ExternalName", "externalName": &**name, "ports": ports }),
        ServiceKind::ClusterIp | ServiceKind::Headless => json!({ "type": "ClusterIP", "ports": ports }),
    };
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(&service.at, &service.created), "spec": spec })
        .to_string()
}

fn grant_json(grant: &Grant) -> String {
    let from: Vec<_> = grant
        .from
        .iter()
        .map(|(group, kind, namespace)| json!({ "group": &**group, "kind": &**kind, "namespace": &**namespace }))
        .collect();
    let to: Vec<_> = grant
        .to
        .iter()
        .map(|(group, kind, name)| match name {
            Some(name) => json!({ "group": &**group, "kind": &**kind, "name": &**name }),
            None => json!({ "group": &**group, "kind": &**kind }),
        })
        .collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": metadata(&grant.at, ""), "spec": { "from": from, "to": to },
    })
    .to_string()
}
