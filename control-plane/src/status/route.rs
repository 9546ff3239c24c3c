//! `status.parents` of routes.

use outrigger_config::documents::Kind;
use serde_json::{Map, Value, json};

use super::{CONTROLLER, Refusal, condition::Conditions};
use crate::index::{Backend, Destination, DocumentRef, Entry, Index, Parent, Target};

/// One entry for each parent that is ours.
pub(super) fn parents(index: &Index, entry: &Entry, refusals: &[Refusal]) -> Vec<Value> {
    let document: Value = serde_json::from_str(&entry.document.json).unwrap_or_default();
    let refs = &document["spec"]["parentRefs"];
    let entry_of = |parent: &Parent| {
        let mut conditions = Conditions::new(entry.document.generation);
        match attached(index, parent) {
            _ if !entry.errors.is_empty() => {
                conditions.refused("Accepted", "UnsupportedValue", &entry.errors.join("; "));
            }
            Err(message) => conditions.refused("Accepted", "NoMatchingParent", &message),
            Ok(()) => conditions.accepted("Accepted", &entry.warnings.join("; ")),
        }
        match entry.links.backends.iter().find_map(|b| unresolved(index, entry, b)) {
            Some((reason, message)) => conditions.refused("ResolvedRefs", reason, &message),
            None => conditions.accepted("ResolvedRefs", ""),
        }
        if let Some(message) = affected(index, entry) {
            conditions.add("outrigger.dev/TrafficPolicyAffected", true, "PolicyAffected", &message);
        }
        conditions.proxies(refusals);
        json!({
            "parentRef": reference(&refs[parent.index]),
            "controllerName": CONTROLLER,
            "conditions": conditions.finish(),
        })
    };
    entry.links.parents.iter().map(entry_of).collect()
}

/// The reference as its author wrote it.
pub(super) fn reference(r: &Value) -> Value {
    const FIELDS: [&str; 6] = ["group", "kind", "namespace", "name", "sectionName", "port"];
    let fields = FIELDS.iter().filter_map(|f| Some(((*f).to_owned(), r.get(f)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn attached(index: &Index, parent: &Parent) -> Result<(), String> {
    let at = parent.to.at();
    match &parent.to {
        Destination::Upstream(_) => {
            let document = DocumentRef { kind: Kind::Upstream, at: at.clone() };
            let there = index.document(&document).is_some();
            there.then_some(()).ok_or_else(|| format!("there is no Upstream {}/{}", at.namespace, at.name))
        }
        Destination::Service(_) => {
            let service =
                index.service(at).ok_or_else(|| format!("there is no Service {}/{}", at.namespace, at.name))?;
            let holds = service.ports.iter().any(|p| {
                parent.port.is_none_or(|port| p.port == port) && parent.section.as_ref().is_none_or(|s| *s == p.name)
            });
            holds.then_some(()).ok_or_else(|| format!("Service {}/{} has no such TCP port", at.namespace, at.name))
        }
    }
}

/// Reason and message, if requests for it are answered 500.
pub(super) fn unresolved(index: &Index, entry: &Entry, backend: &Backend) -> Option<(&'static str, String)> {
    let Some(to) = &backend.to else {
        return Some(("InvalidKind", format!("`{}` is no Service and no Upstream", backend.title)));
    };
    let at = to.at();
    let from = DocumentRef { kind: entry.document.kind, at: entry.document.at.clone() };
    if !index.entries().granted(&from, to.kind(), at) {
        let message = format!("no ReferenceGrant in namespace {} lets it refer to {}", at.namespace, backend.title);
        return Some(("RefNotPermitted", message));
    }
    match to {
        Destination::Upstream(_) => {
            let document = DocumentRef { kind: Kind::Upstream, at: at.clone() };
            match index.entries().get(&document) {
                None => Some(("BackendNotFound", format!("there is no {}", backend.title))),
                Some(upstream) if upstream.sent.is_none() => {
                    Some(("BackendNotFound", format!("{} has a fault", backend.title)))
                }
                Some(_) => None,
            }
        }
        Destination::Service(_) => match index.service(at) {
            None => Some(("BackendNotFound", format!("there is no {}", backend.title))),
            Some(service) => {
                let port = backend.port?;
                let missing = !service.ports.iter().any(|p| p.port == port);
                missing.then(|| ("BackendNotFound", format!("{} has no TCP port {port}", backend.title)))
            }
        },
    }
}

/// GEP-713: what a policy does to it shows at the target, too.
fn affected(index: &Index, entry: &Entry) -> Option<String> {
    let route = DocumentRef { kind: entry.document.kind, at: entry.document.at.clone() };
    let target = Target::Route(route);
    let policies =
        index.entries().policies(&target).filter(|p| p.document.kind == Kind::TrafficPolicy && p.sent.is_some());
    let names: Vec<String> =
        policies.map(|p| format!("TrafficPolicy {}/{}", p.document.at.namespace, p.document.at.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
