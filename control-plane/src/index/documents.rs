//! Documents, what each of them refers to, and who refers to a thing.
//!
//! A document is judged alone when it arrives, with the compiler that runs it. One with a fault is not sent to proxies, lest it
//! keep them from everything else, with two exceptions that fail closed: an AccessPolicy with a fault refuses everyone at what it
//! is for, and a MeshPolicy with a fault still says what it says of mutual TLS (`strict` if that is not legible). This is decided
//! from the document alone, so every replica and every restart decides alike.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use outrigger_config::{Cluster, Severity, Source, documents::Kind, validate_in};
use serde_json::{Value, json};

use super::{Changes, Document, DocumentRef, Grant, ObjectName, Settings, Topic, links::*};

/// A document and what came of looking at it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) document: Document,
    /// `metadata.creationTimestamp`
    pub(crate) created: Arc<str>,
    /// What proxies are sent; `None`: nothing, for it has a fault.
    pub(crate) sent: Option<Arc<str>>,
    pub(crate) links: Links,
    /// With the paths of the fields.
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    all: BTreeMap<DocumentRef, Entry>,
    by_parent: HashMap<Destination, BTreeSet<DocumentRef>>,
    by_backend: HashMap<Destination, BTreeSet<DocumentRef>>,
    by_target: HashMap<Target, BTreeSet<DocumentRef>>,
    /// By the namespace that they refer into from outside.
    by_foreign: HashMap<Arc<str>, BTreeSet<DocumentRef>>,
    /// Upstreams by namespace.
    upstreams: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    grants: HashMap<Arc<str>, BTreeMap<Arc<str>, Grant>>,
}

impl Documents {
    pub(crate) fn get(&self, at: &DocumentRef) -> Option<&Entry> {
        self.all.get(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.all.values()
    }

    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &DocumentRef> {
        self.all.keys().filter(move |d| d.kind == kind)
    }

    pub(super) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().flat_map(BTreeMap::values)
    }

    /// Routes attached to a destination, whatever namespace they are of.
    pub(crate) fn routes<'s>(&'s self, parent: &Destination) -> impl Iterator<Item = &'s Entry> + use<'s> {
        self.entries(self.by_parent.get(parent))
    }

    /// Policies for a target.
    pub(crate) fn policies<'s>(&'s self, target: &Target) -> impl Iterator<Item = &'s Entry> + use<'s> {
        self.entries(self.by_target.get(target))
    }

    fn entries<'s>(&'s self, set: Option<&'s BTreeSet<DocumentRef>>) -> impl Iterator<Item = &'s Entry> + use<'s> {
        set.into_iter().flatten().filter_map(|d| self.all.get(d))
    }

    /// Upstreams of a namespace, oldest first.
    pub(crate) fn upstreams(&self, namespace: &str) -> Vec<&Entry> {
        let names = self.upstreams.get(namespace).into_iter().flatten();
        let at = |name: &Arc<str>| ObjectName { namespace: namespace.into(), name: Arc::clone(name) };
        let mut entries: Vec<&Entry> =
            names.filter_map(|name| self.all.get(&DocumentRef { kind: Kind::Upstream, at: at(name) })).collect();
        entries.sort_by(|a, b| (&a.created, &a.document.at).cmp(&(&b.created, &b.document.at)));
        entries
    }

    /// The grants that let `from` refer into `namespace`.
    pub(crate) fn grants_for<'s>(&'s self, from: &'s DocumentRef, namespace: &str) -> impl Iterator<Item = &'s Grant> {
        let (version, kind) = (from.kind.api_version(), from.kind.as_str());
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let grants = self.grants.get(namespace).into_iter().flat_map(BTreeMap::values);
        grants.filter(move |grant| {
            grant.from.iter().any(|(g, k, ns)| **g == *group && **k == *kind && *ns == from.at.namespace)
        })
    }

    /// Whether `from` may refer to something of `group` and `kind`.
    pub(crate) fn granted(&self, from: &DocumentRef, (group, kind): (&str, &str), to: &ObjectName) -> bool {
        from.at.namespace == to.namespace
            || self.grants_for(from, &to.namespace).any(|grant| {
                grant.to.iter().any(|(g, k, name)| {
                    **g == *group && **k == *kind && name.as_ref().is_none_or(|name| *name == to.name)
                })
            })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let sets = self.by_parent.is_empty() && self.by_backend.is_empty() && self.by_target.is_empty();
        self.all.is_empty() && sets && self.by_foreign.is_empty() && self.grants().next().is_none()
    }

    /// Takes in a document; `None` drops the one that is there.
    pub(super) fn set(
        &mut self,
        at: &DocumentRef,
        document: Option<Document>,
        settings: &Settings,
        changes: &mut Changes,
    ) {
        if document.as_ref() == self.all.get(at).map(|e| &e.document) {
            return;
        }
        if let Some(old) = self.all.remove(at) {
            self.unlink(at, &old.links);
            self.touch(at, &old.links, changes);
        }
        if let Some(document) = document {
            let entry = judge(document, settings);
            self.link(at, &entry.links);
            self.all.insert(at.clone(), entry);
            let links = self.all.get(at).map(|e| e.links.clone()).unwrap_or_default();
            self.touch(at, &links, changes);
        }
        changes.documents.insert(at.clone());
    }

    pub(super) fn set_grant(&mut self, at: &ObjectName, grant: Option<Grant>, changes: &mut Changes) {
        let grants = self.grants.entry(Arc::clone(&at.namespace)).or_default();
        if grants.get(&at.name) == grant.as_ref() {
            return;
        }
        match grant {
            Some(grant) => grants.insert(Arc::clone(&at.name), grant),
            None => grants.remove(&at.name),
        };
        let affected: Vec<DocumentRef> = self.by_foreign.get(&at.namespace).into_iter().flatten().cloned().collect();
        for document in affected {
            self.touch_document(&document, changes);
        }
    }

    /// A Service has come, gone or changed its ports: what refers to it may lead elsewhere now.
    pub(super) fn touch_referrers(&self, to: &Destination, changes: &mut Changes) {
        for document in self.by_backend.get(to).into_iter().flatten() {
            self.touch_document(document, changes);
        }
        let attached = self.by_parent.get(to).into_iter().chain(self.by_target.get(&Target::Destination(to.clone())));
        changes.documents.extend(attached.flatten().cloned());
    }

    /// A namespace has come or gone: policies for it have a target now, or none.
    pub(super) fn touch_policies(&self, namespace: &Arc<str>, changes: &mut Changes) {
        let policies = self.by_target.get(&Target::Namespace(Arc::clone(namespace)));
        changes.documents.extend(policies.into_iter().flatten().cloned());
    }

    fn touch_document(&self, document: &DocumentRef, changes: &mut Changes) {
        changes.documents.insert(document.clone());
        if let Some(entry) = self.all.get(document) {
            self.touch(document, &entry.links, changes);
        }
    }

    /// Whoever hears of a document with such links is to hear of it again.
    fn touch(&self, at: &DocumentRef, links: &Links, changes: &mut Changes) {
        for parent in &links.parents {
            changes.topics.insert(topic(&parent.to));
        }
        let policies = self.by_target.get(&Target::Route(at.clone()));
        changes.documents.extend(policies.into_iter().flatten().cloned());
        for target in links.targets.iter().filter_map(|t| t.to.as_ref()) {
            // One of them wins and the others lose.
            changes.documents.extend(self.by_target.get(target).into_iter().flatten().cloned());
            match target {
                Target::Destination(to) => drop(changes.topics.insert(topic(to))),
                Target::Namespace(namespace) => drop(changes.topics.insert(Topic::Namespace(Arc::clone(namespace)))),
                Target::Mesh => drop(changes.topics.insert(Topic::Mesh)),
                Target::Route(route) => {
                    let parents = self.all.get(route).into_iter().flat_map(|r| &r.links.parents);
                    changes.topics.extend(parents.map(|p| topic(&p.to)));
                }
            }
        }
        if at.kind == Kind::Upstream {
            changes.topics.insert(Topic::Upstream(at.at.clone()));
            changes.topics.insert(Topic::Hosts(Arc::clone(&at.at.namespace)));
            self.touch_referrers(&Destination::Upstream(at.at.clone()), changes);
        }
    }

    fn link(&mut self, at: &DocumentRef, links: &Links) {
        self.each(at, links, |set, at| {
            set.insert(at.clone());
        });
        if at.kind == Kind::Upstream {
            let names = self.upstreams.entry(Arc::clone(&at.at.namespace)).or_default();
            names.insert(Arc::clone(&at.at.name));
        }
    }

    fn unlink(&mut self, at: &DocumentRef, links: &Links) {
        self.each(at, links, |set, at| {
            set.remove(at);
        });
        if at.kind == Kind::Upstream
            && let Some(names) = self.upstreams.get_mut(&at.at.namespace)
        {
            names.remove(&at.at.name);
        }
        self.by_parent.retain_used(links.parents.iter().map(|p| &p.to));
        self.by_backend.retain_used(links.backends.iter().filter_map(|b| b.to.as_ref()));
        self.by_foreign.retain(|_, set| !set.is_empty());
        self.by_target.retain_used(links.targets.iter().filter_map(|t| t.to.as_ref()));
    }

    fn each(&mut self, at: &DocumentRef, links: &Links, act: impl Fn(&mut BTreeSet<DocumentRef>, &DocumentRef)) {
        let mut foreign: BTreeSet<&Arc<str>> = BTreeSet::new();
        for parent in &links.parents {
            act(self.by_parent.entry(parent.to.clone()).or_default(), at);
        }
        for to in links.backends.iter().filter_map(|b| b.to.as_ref()) {
            act(self.by_backend.entry(to.clone()).or_default(), at);
            foreign.insert(&to.at().namespace);
        }
        for to in links.targets.iter().filter_map(|t| t.to.as_ref()) {
            act(self.by_target.entry(to.clone()).or_default(), at);
            foreign.extend(match to {
                Target::Destination(to) => Some(&to.at().namespace),
                Target::Route(route) => Some(&route.at.namespace),
                Target::Namespace(_) | Target::Mesh => None,
            });
        }
        for namespace in foreign.into_iter().filter(|n| **n != at.at.namespace) {
            act(self.by_foreign.entry(Arc::clone(namespace)).or_default(), at);
        }
    }
}

/// Drops sets that have become empty.
trait RetainUsed<K> {
    fn retain_used<'k>(&mut self, keys: impl Iterator<Item = &'k K>)
    where
        K: 'k;
}

impl<K: Eq + std::hash::Hash> RetainUsed<K> for HashMap<K, BTreeSet<DocumentRef>> {
    fn retain_used<'k>(&mut self, keys: impl Iterator<Item = &'k K>)
    where
        K: 'k,
    {
        for key in keys {
            if self.get(key).is_some_and(BTreeSet::is_empty) {
                self.remove(key);
            }
        }
    }
}

/// The topic of a destination's routes and policies.
pub(crate) fn topic(to: &Destination) -> Topic {
    match to {
        Destination::Service(at) => Topic::Documents(at.clone()),
        Destination::Upstream(at) => Topic::Upstream(at.clone()),
    }
}

/// `KIND NAMESPACE/NAME`, by which faults and proxies name a document.
pub(crate) fn origin(kind: &str, at: &ObjectName) -> String {
    format!("{kind} {}/{}", at.namespace, at.name)
}

fn judge(document: Document, settings: &Settings) -> Entry {
    let cluster = Cluster {
        namespace: Arc::clone(&document.at.namespace),
        domain: settings.cluster_domain.as_str().into(),
        mesh_namespace: settings.mesh_namespace.as_str().into(),
        local: Vec::new(),
    };
    let source = Source::object(origin(document.kind.as_str(), &document.at), &*document.json);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for fault in validate_in(&[source], &cluster) {
        let list = if fault.severity == Severity::Error { &mut errors } else { &mut warnings };
        let place = fault.origin.path.as_deref().filter(|p| !p.is_empty()).map_or(String::new(), |p| format!("{p}: "));
        list.push(format!("{place}{}", fault.message));
    }
    let mut value: Value = serde_json::from_str(&document.json).unwrap_or_default();
    let created = value.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or_default().into();
    let sent = if errors.is_empty() {
        Some(Arc::clone(&document.json))
    } else {
        let closed = fail_closed(document.kind, &document.at, &value);
        if let Some(closed) = closed {
            value = closed;
            Some(value.to_string().into())
        } else {
            None
        }
    };
    let links = Links::of(document.kind, &document.at, &value, &settings.mesh_namespace);
    Entry { document, created, sent, links, errors, warnings }
}

/// What stands for a policy with a fault, where to leave it out would let in more than it says.
fn fail_closed(kind: Kind, at: &ObjectName, document: &Value) -> Option<Value> {
    let spec = &document["spec"];
    let known = |r: &&Value| {
        let kind = r.get("kind").and_then(Value::as_str).unwrap_or_default();
        let name = r.get("name").and_then(Value::as_str).unwrap_or_default();
        matches!(kind, "Service" | "Upstream" | "Namespace") && !name.is_empty()
    };
    let targets: Vec<Value> =
        spec.get("targetRefs").and_then(Value::as_array).into_iter().flatten().filter(known).map(bare).collect();
    let spec = match kind {
        Kind::AccessPolicy => {
            let all = json!({ "kind": "Namespace", "name": at.namespace });
            let targets = if targets.is_empty() { vec![all] } else { targets };
            json!({ "targetRefs": targets, "rules": [{ "action": "deny" }] })
        }
        Kind::MeshPolicy => {
            let word = spec.get("mtls")?.as_str().filter(|w| matches!(*w, "strict" | "permissive" | "disabled"));
            let targets: Vec<Value> = targets.into_iter().filter(|t| t["kind"] == "Namespace").collect();
            json!({ "targetRefs": targets, "mtls": word.unwrap_or("strict") })
        }
        _ => return None,
    };
    Some(json!({
        "apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": document["metadata"], "spec": spec,
    }))
}

/// A reference by kind and name alone: its other fields may be the fault.
fn bare(r: &Value) -> Value {
    let mut bare = json!({ "kind": r["kind"], "name": r["name"] });
    if let (Some(namespace), Some(map)) = (r.get("namespace").filter(|n| n.is_string()), bare.as_object_mut()) {
        map.insert("namespace".into(), namespace.clone());
    }
    bare
}
