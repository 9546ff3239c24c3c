//! `status.ancestors` of policies (`PolicyStatus` of GEP-713): an entry for each target.

use outrigger_config::documents::Kind;
use serde_json::{Value, json};

use super::{
    CONTROLLER, Refusal,
    condition::Conditions,
    route::{reference, unresolved},
};
use crate::index::{Destination, DocumentRef, Entry, Index, ObjectName, Target, TargetRef};

/// Entries that `PolicyStatus` takes, those of other controllers included.
const MAX_ANCESTORS: usize = 16;

/// One entry for each target, as far as there is room.
pub(super) fn ancestors(index: &Index, entry: &Entry, refusals: &[Refusal]) -> Vec<Value> {
    let document: Value = serde_json::from_str(&entry.document.json).unwrap_or_default();
    let refs = &document["spec"]["targetRefs"];
    let entry_of = |target: &TargetRef| {
        let mut conditions = Conditions::new(entry.document.generation);
        match accepted(index, entry, target) {
            Ok(()) => conditions.accepted("Accepted", &entry.warnings.join("; ")),
            Err((reason, message)) => conditions.refused("Accepted", reason, &message),
        }
        if !entry.links.backends.is_empty() {
            match entry.links.backends.iter().find_map(|b| unresolved(index, entry, b)) {
                Some((reason, message)) => conditions.refused("ResolvedRefs", reason, &message),
                None => conditions.accepted("ResolvedRefs", ""),
            }
        }
        conditions.proxies(refusals);
        json!({
            "ancestorRef": ancestor(&refs[target.index], target, entry),
            "controllerName": CONTROLLER,
            "conditions": conditions.finish(),
        })
    };
    entry.links.targets.iter().take(MAX_ANCESTORS).map(entry_of).collect()
}

/// The target as its author wrote it; a whole namespace, or that of the mesh, where nothing is written.
fn ancestor(r: &Value, target: &TargetRef, entry: &Entry) -> Value {
    let mut ancestor = reference(r);
    let Some(map) = ancestor.as_object_mut() else { return ancestor };
    if map.is_empty() {
        let namespace = match &target.to {
            Some(Target::Namespace(namespace)) => namespace,
            _ => &entry.document.at.namespace,
        };
        return json!({ "group": "", "kind": "Namespace", "name": &**namespace });
    }
    // The default of `group` is that of a Gateway, which no target of ours is.
    let group = match &target.to {
        Some(Target::Destination(to)) => to.kind().0,
        Some(Target::Route(_)) => "gateway.networking.k8s.io",
        _ => "",
    };
    map.entry("group").or_insert_with(|| group.into());
    ancestor
}

type Refused = (&'static str, String);

fn accepted(index: &Index, entry: &Entry, target: &TargetRef) -> Result<(), Refused> {
    if !entry.errors.is_empty() {
        let effect = match entry.document.kind {
            Kind::AccessPolicy => " (until this is mended, it refuses everyone)",
            _ => "",
        };
        return Err(("Invalid", format!("{}{effect}", entry.errors.join("; "))));
    }
    let Some(to) = &target.to else {
        return Err(("Invalid", "it cannot be for this kind".into()));
    };
    exists(index, entry, to, target.section.as_deref())?;
    // Every AccessPolicy holds; of the others the oldest does.
    if entry.document.kind == Kind::AccessPolicy {
        return Ok(());
    }
    match winner(index, entry, to, target.section.as_deref()) {
        Some(other) => {
            let at = &other.document.at;
            let kind = other.document.kind.as_str();
            let why = if other.created == entry.created { "is the first by name" } else { "is older" };
            Err(("Conflicted", format!("{kind} {}/{} is for the same target and {why}", at.namespace, at.name)))
        }
        None => Ok(()),
    }
}

fn exists(index: &Index, entry: &Entry, to: &Target, section: Option<&str>) -> Result<(), Refused> {
    let missing = |what: String| Err(("TargetNotFound", what));
    let from = DocumentRef { kind: entry.document.kind, at: entry.document.at.clone() };
    let permitted = |kind: (&str, &str), at: &ObjectName| {
        if index.entries().granted(&from, kind, at) {
            return Ok(());
        }
        Err(("TargetNotFound", format!("no ReferenceGrant in namespace {} lets it refer there", at.namespace)))
    };
    match to {
        Target::Destination(to @ Destination::Service(at)) => {
            permitted(to.kind(), at)?;
            match (index.service(at), section) {
                (None, _) => missing(format!("there is no Service {}/{}", at.namespace, at.name)),
                (Some(service), Some(section)) if !service.ports.iter().any(|p| *p.name == *section) => {
                    missing(format!("Service {}/{} has no TCP port called {section}", at.namespace, at.name))
                }
                _ => Ok(()),
            }
        }
        Target::Destination(to @ Destination::Upstream(at)) => {
            permitted(to.kind(), at)?;
            match index.document(&DocumentRef { kind: Kind::Upstream, at: at.clone() }) {
                None => missing(format!("there is no Upstream {}/{}", at.namespace, at.name)),
                Some(_) => Ok(()),
            }
        }
        Target::Route(route) => {
            permitted(("gateway.networking.k8s.io", route.kind.as_str()), &route.at)?;
            let title = format!("{} {}/{}", route.kind.as_str(), route.at.namespace, route.at.name);
            match (index.document(route), section) {
                (None, _) => missing(format!("there is no {title}")),
                (Some(document), Some(rule)) if !has_rule(&document.json, rule) => {
                    missing(format!("{title} has no rule called {rule}"))
                }
                _ => Ok(()),
            }
        }
        Target::Namespace(name) => {
            let mesh = &*index.settings().mesh_namespace;
            if **name != *from.at.namespace && *from.at.namespace != *mesh {
                return Err(("Invalid", format!("a policy is for its own namespace, unless it stands in {mesh}")));
            }
            match index.namespace(name) {
                None => missing(format!("there is no namespace {name}")),
                Some(_) => Ok(()),
            }
        }
        Target::Mesh => Ok(()),
    }
}

fn has_rule(route: &str, name: &str) -> bool {
    let document: Value = serde_json::from_str(route).unwrap_or_default();
    let rules = document["spec"]["rules"].as_array();
    rules.into_iter().flatten().any(|rule| rule["name"].as_str() == Some(name))
}

/// Another policy of the kind for the same target, that is taken and older.
fn winner<'i>(index: &'i Index, entry: &Entry, to: &Target, section: Option<&str>) -> Option<&'i Entry> {
    let age = |e: &Entry| (e.created.is_empty(), e.created.clone(), e.document.at.clone());
    let own = age(entry);
    let rivals = index.entries().policies(to).filter(|other| {
        other.document.kind == entry.document.kind
            && other.errors.is_empty()
            && other.links.targets.iter().any(|t| t.to.as_ref() == Some(to) && t.section.as_deref() == section)
            && exists(index, other, to, section).is_ok()
            && age(other) < own
    });
    rivals.min_by_key(|e| age(e))
}
