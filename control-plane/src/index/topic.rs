//! What subscriptions wait for.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{DocumentRef, ObjectName};

/// A part of the index that a resource depends on ([`crate::view::topics`]) and that events change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Existence, ports and addresses of a Service.
    Service(ObjectName),
    /// Endpoints of a Service.
    Endpoints(ObjectName),
    /// Routes and policies of a Service and of its namespace, and what its routes refer to.
    Documents(ObjectName),
    /// An Upstream, its routes and its policies.
    Upstream(ObjectName),
    /// Which Upstream of a namespace has which host name.
    Hosts(Arc<str>),
    /// What has an address.
    Address(IpAddr),
    /// What a pod serves.
    Pod(ObjectName),
    /// Policies of the namespace as a whole.
    Namespace(Arc<str>),
    /// Policies of the whole mesh.
    Mesh,
    /// The trust bundle.
    Trust,
}

/// What an event may have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Subscriptions to these are to be resolved again.
    pub topics: BTreeSet<Topic>,
    /// The status of these is to be derived again; some may be gone.
    pub documents: BTreeSet<DocumentRef>,
}

impl Changes {
    /// Nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.documents.is_empty()
    }

    /// Both of them.
    pub fn merge(&mut self, other: Self) {
        self.topics.extend(other.topics);
        self.documents.extend(other.documents);
    }
}
