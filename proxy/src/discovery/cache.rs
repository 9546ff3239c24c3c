//! The resources that this proxy has of its control plane, and which versions of them. Pure: no socket, no clock.
//!
//! Each resource has a last good version, which is in force. A new version whose documents differ waits until the
//! batch that it came in is compiled ([`Cache::pending`]); one that changes endpoints alone is in force at once. A
//! version that does not compile is refused: its documents are forgotten, but its endpoints are believed, because
//! where servers are is a fact and no policy. A reconnect names the versions that are in force, so that only what
//! changed is sent again.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_config::discovery::{
    Binding, Document, Endpoint, EndpointDelta, Resource, Service, TrustBundle, Workload, resource,
};

/// Key of what the pod serves.
pub const WORKLOAD: &str = "workload";
/// Key of the trust bundle.
pub const TRUST: &str = "trust";

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    held: BTreeMap<String, Held>,
    /// New versions with new documents, that are not compiled yet.
    pending: BTreeMap<String, (String, Body)>,
}

/// A resource in force.
#[derive(Debug, Clone)]
pub struct Held {
    /// The last version that came.
    pub version: String,
    /// That version was refused; what is here is older, but for its endpoints.
    pub refused: bool,
    /// What it says.
    pub body: Body,
}

/// What a resource says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Where a destination leads.
    Binding(Binding),
    /// A Service port, or an Upstream.
    Service(Service),
    /// What the pod serves.
    Workload(Workload),
    /// Whom to believe.
    Trust(TrustBundle),
    /// Nothing of that key is known to the mesh.
    Absent,
}

/// What a message has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It waits to be compiled.
    Documents,
    /// Endpoints of this resource, which are in force.
    Endpoints,
    /// Where a destination leads.
    Binding,
    /// Whom to believe.
    Trust,
    /// Nothing: what came is here already.
    Nothing,
    /// It cannot be applied to what is here: the key must be asked for afresh.
    OutOfStep,
    /// A body that this version does not know.
    Unknown,
}

impl Cache {
    /// Takes a whole resource.
    pub fn resource(&mut self, resource: Resource) -> Change {
        let Resource { key, version, body } = resource;
        let body = match body {
            Some(resource::Body::Binding(b)) => Body::Binding(b),
            Some(resource::Body::Service(s)) => Body::Service(s),
            Some(resource::Body::Workload(w)) => Body::Workload(w),
            Some(resource::Body::Trust(t)) => Body::Trust(t),
            Some(resource::Body::Absent(_)) => Body::Absent,
            None => return Change::Unknown,
        };
        let held = self.held.get(&key);
        if held.is_some_and(|h| h.version == version && !h.refused) && !self.pending.contains_key(&key) {
            return Change::Nothing;
        }
        let change = match (&body, held.map(|h| &h.body)) {
            (Body::Binding(_), _) => Change::Binding,
            (Body::Trust(_), _) => Change::Trust,
            (Body::Absent, Some(Body::Service(_) | Body::Workload(_))) => Change::Documents,
            (Body::Absent, _) => Change::Binding,
            (Body::Service(new), Some(Body::Service(old))) if same_documents(new, old) => Change::Endpoints,
            (Body::Service(_) | Body::Workload(_), _) => Change::Documents,
        };
        if change == Change::Documents {
            self.pending.insert(key, (version, body));
        } else {
            self.pending.remove(&key);
            self.held.insert(key, Held { version, refused: false, body });
        }
        change
    }

    /// Takes a change of a Service's endpoints.
    pub fn delta(&mut self, delta: &EndpointDelta) -> Change {
        if let Some((version, Body::Service(service))) = self.pending.get_mut(&delta.key) {
            if *version != delta.base {
                return Change::OutOfStep;
            }
            patch(&mut service.endpoints, delta);
            version.clone_from(&delta.version);
            return Change::Documents;
        }
        let Some(held) = self.held.get_mut(&delta.key) else { return Change::OutOfStep };
        let Body::Service(service) = &mut held.body else { return Change::OutOfStep };
        if held.version != delta.base {
            return if held.version == delta.version { Change::Nothing } else { Change::OutOfStep };
        }
        patch(&mut service.endpoints, delta);
        held.version.clone_from(&delta.version);
        Change::Endpoints
    }

    /// Keys whose new version waits to be compiled.
    #[must_use]
    pub fn pending(&self) -> BTreeSet<String> {
        self.pending.keys().cloned().collect()
    }

    /// True if a new version of it waits to be compiled.
    #[must_use]
    pub fn is_pending(&self, key: &str) -> bool {
        self.pending.contains_key(key)
    }

    /// What is, or would be, in force if the new versions of `taken` were.
    pub fn union<'a>(&'a self, taken: &'a BTreeSet<String>) -> impl Iterator<Item = (&'a str, &'a Body)> {
        let kept = self.held.iter().filter(|(key, _)| !taken.contains(*key)).map(|(key, held)| (&**key, &held.body));
        let new = self.pending.iter().filter(|(key, _)| taken.contains(*key));
        kept.chain(new.map(|(key, (_, body))| (&**key, body)))
    }

    /// Puts the new version of `key` in force; returns it.
    pub fn accept(&mut self, key: &str) -> Option<String> {
        let (version, body) = self.pending.remove(key)?;
        let (told, refused) = (version.clone(), false);
        self.held.insert(key.to_owned(), Held { version, refused, body });
        Some(told)
    }

    /// Refuses the new version of `key`; returns it. The one in force stays, but for its endpoints.
    pub fn refuse(&mut self, key: &str) -> Option<String> {
        let (version, body) = self.pending.remove(key)?;
        let told = version.clone();
        if let Some(held) = self.held.get_mut(key) {
            if let (Body::Service(old), Body::Service(new)) = (&mut held.body, body) {
                old.endpoints = new.endpoints;
            }
            held.version = version;
            held.refused = true;
        }
        Some(told)
    }

    /// A resource in force.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Body> {
        self.held.get(key).map(|h| &h.body)
    }

    /// All in force.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.held.iter().map(|(key, held)| (&**key, held))
    }

    /// The version that a reconnect names: none of what was refused, so that it is judged and told again.
    #[must_use]
    pub fn known_version(&self, key: &str) -> String {
        self.held.get(key).filter(|h| !h.refused).map(|h| h.version.clone()).unwrap_or_default()
    }

    /// Forgets a resource. True if documents went with it.
    pub fn forget(&mut self, key: &str) -> bool {
        let pending = self.pending.remove(key).is_some();
        let held = self.held.remove(key).is_some_and(|h| matches!(h.body, Body::Service(_) | Body::Workload(_)));
        pending || held
    }

    /// The keys that the others refer to, step by step, from `roots`.
    #[must_use]
    pub fn reachable<'a>(&'a self, roots: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = roots.into_iter().collect();
        while let Some(key) = open.pop() {
            if key.is_empty() || !seen.insert(key.to_owned()) {
                continue;
            }
            let bodies = self.held.get(key).map(|h| &h.body).into_iter();
            for body in bodies.chain(self.pending.get(key).map(|(_, body)| body)) {
                match body {
                    Body::Binding(binding) => open.push(&binding.service),
                    Body::Service(service) => open.extend(service.references.iter().map(String::as_str)),
                    Body::Workload(_) | Body::Trust(_) | Body::Absent => {}
                }
            }
        }
        seen
    }

    /// Keys of resources with documents.
    #[must_use]
    pub fn services(&self) -> BTreeSet<String> {
        let held = self.held.iter().filter(|(_, h)| matches!(h.body, Body::Service(_))).map(|(key, _)| key);
        held.chain(self.pending.keys().filter(|k| *k != WORKLOAD)).cloned().collect()
    }
}

impl Body {
    /// The documents of a resource.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        match self {
            Self::Service(s) => &s.documents,
            Self::Workload(w) => &w.documents,
            Self::Binding(_) | Self::Trust(_) | Self::Absent => &[],
        }
    }
}

fn same_documents(a: &Service, b: &Service) -> bool {
    a.documents == b.documents && a.references == b.references && a.port == b.port
}

fn patch(endpoints: &mut Vec<Endpoint>, delta: &EndpointDelta) {
    endpoints.retain(|e| !delta.remove.contains(&e.address));
    for new in &delta.upsert {
        match endpoints.iter_mut().find(|e| e.address == new.address) {
            Some(old) => old.clone_from(new),
            None => endpoints.push(new.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
