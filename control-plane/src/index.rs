//! All that is known of the cluster, and what of it changes.
//!
//! Pure: no client, no clock, no lock. One task owns it, applies events and gets back which topics may have changed; views
//! ([`crate::view`]) are resolved from it on demand.
//!
//! Events may come twice, late, or in another order than things happened in the cluster: each kind is kept apart, every
//! relation between kinds is looked up when it is asked for or kept by name, and an object that is as before changes nothing.
//! An event costs what it touches (the endpoints of one slice, the pods that one selector selects, the documents that
//! refer to one Service), never the mesh.

mod addresses;
mod apply;
mod documents;
mod links;
mod lookup;
mod names;
mod objects;
mod proven;
mod slices;
#[cfg(test)]
pub(crate) mod tests;
mod topic;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use outrigger_config::{discovery::TrustBundle, documents::Kind};

pub(crate) use documents::{Documents, Entry, origin};
pub(crate) use links::{Backend, Parent, TargetRef};
pub use links::{Destination, Target};
pub(crate) use lookup::Served;
pub use objects::*;
pub use proven::Proven;
pub use topic::{Changes, Topic};

/// What does not change while the program runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `cluster.local`
    pub trust_domain: String,
    /// `cluster.local`
    pub cluster_domain: String,
    /// The control plane's own namespace.
    pub mesh_namespace: String,
}

/// What happened in the cluster.
#[derive(Debug, Clone)]
pub enum Event {
    /// It is there, or changed; if it is as before, nothing happens.
    Upsert(Object),
    /// It is gone; if it was not there, nothing happens.
    Delete(ObjectKind, ObjectName),
    /// These are all there are of a kind (after a list): what is not among them is gone.
    Replace(ObjectKind, Vec<Object>),
}

/// The index.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    trust: TrustBundle,
    names: names::Names,
    services: HashMap<ObjectName, ServiceEntry>,
    /// The Service of each slice.
    slices: HashMap<ObjectName, Arc<str>>,
    pods: HashMap<ObjectName, Pod>,
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Names of Services and pods, by namespace.
    inhabitants: HashMap<Arc<str>, Inhabitants>,
    addresses: addresses::Addresses,
    documents: Documents,
}

/// A Service and its endpoints, either of which may be known before the other.
#[derive(Debug, Default)]
struct ServiceEntry {
    service: Option<Service>,
    slices: slices::Slices,
}

#[derive(Debug, Default)]
struct Inhabitants {
    services: HashSet<Arc<str>>,
    pods: HashSet<Arc<str>>,
}

impl Index {
    /// An index that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            trust: TrustBundle::default(),
            names: names::Names::default(),
            services: HashMap::new(),
            slices: HashMap::new(),
            pods: HashMap::new(),
            namespaces: HashMap::new(),
            inhabitants: HashMap::new(),
            addresses: addresses::Addresses::default(),
            documents: Documents::default(),
        }
    }

    /// The roots that proxies trust from now on.
    pub fn set_trust(&mut self, trust: TrustBundle) -> Changes {
        let mut changes = Changes::default();
        if self.trust != trust {
            self.trust = trust;
            changes.topics.insert(Topic::Trust);
        }
        changes
    }

    /// The roots that proxies trust.
    #[must_use]
    pub fn trust(&self) -> &TrustBundle {
        &self.trust
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The pod of that name.
    #[must_use]
    pub fn pod(&self, at: &ObjectName) -> Option<&Pod> {
        self.pods.get(at)
    }

    /// Every pod, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// The Service of that name.
    #[must_use]
    pub fn service(&self, at: &ObjectName) -> Option<&Service> {
        self.services.get(at)?.service.as_ref()
    }

    /// The namespace of that name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The document of that name.
    #[must_use]
    pub fn document(&self, at: &DocumentRef) -> Option<&Document> {
        self.documents.get(at).map(|e| &e.document)
    }

    /// Every document, for status after an election and for `explain`.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().map(|e| &e.document)
    }

    /// Documents and what they refer to.
    pub(crate) fn entries(&self) -> &Documents {
        &self.documents
    }

    /// How many objects of a kind it holds, for metrics.
    #[must_use]
    pub fn count(&self, kind: ObjectKind) -> usize {
        match kind {
            ObjectKind::Service => self.inhabitants.values().map(|i| i.services.len()).sum(),
            ObjectKind::Slice => self.slices.len(),
            ObjectKind::Pod => self.pods.len(),
            ObjectKind::Namespace => self.namespaces.len(),
            ObjectKind::Grant => self.documents.grants().count(),
            ObjectKind::Document(kind) => self.documents.of_kind(kind).count(),
        }
    }

    /// How many of them have a fault.
    #[must_use]
    pub fn count_refused(&self, kind: Kind) -> usize {
        self.documents.iter().filter(|e| e.document.kind == kind && !e.errors.is_empty()).count()
    }
}
