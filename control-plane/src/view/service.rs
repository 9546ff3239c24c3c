//! Services and Upstreams: their documents, what their routes lead to, their endpoints.

use std::collections::BTreeSet;

use outrigger_config::{
    discovery::{self, Key},
    documents::Kind,
};

use super::document::{Documents, allowed, policies};
use crate::index::{Backend, Destination, DocumentRef, Entry, Index, ObjectName, Target, origin};

/// A port of a Service as pods of `namespace` see it; `Err`: why there is none.
pub(super) fn of_service(
    index: &Index,
    namespace: &str,
    at: &ObjectName,
    port: u16,
) -> Result<discovery::Service, String> {
    let service = index.service(at).ok_or_else(|| format!("there is no Service {}/{}", at.namespace, at.name))?;
    let Some(its) = service.ports.iter().find(|p| p.port == port) else {
        let ports: Vec<String> = service.ports.iter().map(|p| p.port.to_string()).collect();
        return Err(format!("Service {}/{} has no TCP port {port}; it has {}", at.namespace, at.name, list(&ports)));
    };
    let to = Destination::Service(at.clone());
    let mut documents = Documents::default();
    documents.add_service(service);
    // A route for another port of it says nothing here.
    let for_port = |entry: &Entry| {
        entry.links.parents.iter().any(|p| {
            p.to == to && p.port.is_none_or(|p| p == port) && p.section.as_ref().is_none_or(|s| *s == its.name)
        })
    };
    let references = documents_of(index, namespace, &to, for_port, &mut documents);
    Ok(discovery::Service {
        namespace: at.namespace.to_string(),
        name: at.name.to_string(),
        port: port.into(),
        documents: documents.finish(Some(origin("Service", at))),
        references: without(references, &Key::service(&at.namespace, &at.name, port)),
        endpoints: index.endpoints(service, its),
    })
}

/// An Upstream as pods of `namespace` see it.
pub(super) fn of_upstream(index: &Index, namespace: &str, at: &ObjectName) -> Result<discovery::Service, String> {
    let document = DocumentRef { kind: Kind::Upstream, at: at.clone() };
    let nothing = || format!("there is no Upstream {}/{}", at.namespace, at.name);
    let entry = index.entries().get(&document).ok_or_else(nothing)?;
    if entry.sent.is_none() {
        return Err(format!("Upstream {}/{} has a fault: {}", at.namespace, at.name, list(&entry.errors)));
    }
    let mut documents = Documents::default();
    documents.add(index, entry);
    let to = Destination::Upstream(at.clone());
    let for_it = |entry: &Entry| entry.links.parents.iter().any(|p| p.to == to);
    let references = documents_of(index, namespace, &to, for_it, &mut documents);
    Ok(discovery::Service {
        namespace: at.namespace.to_string(),
        name: at.name.to_string(),
        port: 0,
        documents: documents.finish(Some(origin("Upstream", at))),
        references: without(references, &Key::upstream(&at.namespace, &at.name)),
        endpoints: Vec::new(),
    })
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn without(mut keys: BTreeSet<Key>, own: &Key) -> Vec<String> {
    keys.remove(own);
    keys.iter().map(Key::to_string).collect()
}

/// Routes of the Service's namespace and of the caller's, the policies over them, and what all of them lead to.
fn documents_of(
    index: &Index,
    namespace: &str,
    to: &Destination,
    attached: impl Fn(&Entry) -> bool,
    documents: &mut Documents,
) -> BTreeSet<Key> {
    let mut references = BTreeSet::new();
    let mut add = |entry: &Entry| {
        documents.add(index, entry);
        if entry.sent.is_some() {
            let leads = entry.links.backends.iter().filter_map(|b| lead(index, entry, b));
            references.extend(leads);
        }
    };
    let own = &to.at().namespace;
    let is_traffic = |entry: &&Entry| entry.document.kind == Kind::TrafficPolicy;
    let near = |entry: &&Entry| {
        let its = &entry.document.at.namespace;
        (its == own || **its == *namespace) && attached(entry)
    };
    for route in index.entries().routes(to).filter(near) {
        add(route);
        let target = Target::Route(DocumentRef { kind: route.document.kind, at: route.document.at.clone() });
        policies(index, &target).filter(is_traffic).for_each(&mut add);
    }
    policies(index, &Target::Destination(to.clone())).filter(is_traffic).for_each(&mut add);
    for target in [Target::Namespace(own.clone()), Target::Mesh] {
        let general = |e: &&Entry| matches!(e.document.kind, Kind::TrafficPolicy | Kind::MeshPolicy);
        policies(index, &target).filter(general).for_each(&mut add);
    }
    references
}

/// The key of a backend that is there and may be referred to.
fn lead(index: &Index, entry: &Entry, backend: &Backend) -> Option<Key> {
    let to = backend.to.as_ref().filter(|to| allowed(index, entry, to))?;
    let at = to.at();
    match to {
        Destination::Service(_) => {
            let port = backend.port?;
            let service = index.service(at)?;
            service.ports.iter().any(|p| p.port == port).then(|| Key::service(&at.namespace, &at.name, port))
        }
        Destination::Upstream(_) => {
            let there = index.entries().get(&DocumentRef { kind: Kind::Upstream, at: at.clone() })?;
            there.sent.is_some().then(|| Key::upstream(&at.namespace, &at.name))
        }
    }
}
