//! A resource as it goes out: resolved and encoded once, shared by all who get it.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use outrigger_config::discovery::{ControlMessage, Key, Resource, control_message::Message, resource::Body};
use prost::Message as _;

use crate::{index::DocumentRef, view};

/// One version of a resource.
#[derive(Debug)]
pub(crate) struct Made {
    resource: Resource,
    references: Vec<Key>,
    whole: OnceLock<Bytes>,
    /// From which version to this one; `None`: better sent whole.
    deltas: Mutex<Vec<(String, Option<Bytes>)>>,
}

/// Versions from which a delta is kept. Streams are at the last one but for a few that are slow.
const DELTAS: usize = 4;

impl Made {
    pub(crate) fn new(resource: Resource) -> Self {
        let own = resource.key.parse::<Key>().ok();
        let mut references = view::references(&resource);
        // A route of a Service that leads to that Service refers to nothing else.
        references.retain(|key| Some(key) != own.as_ref());
        Self { resource, references, whole: OnceLock::new(), deltas: Mutex::default() }
    }

    pub(crate) fn version(&self) -> &str {
        &self.resource.version
    }

    /// What a proxy must have before.
    pub(crate) fn references(&self) -> &[Key] {
        &self.references
    }

    /// Is this document a part of it? A proxy may blame no other.
    pub(crate) fn has(&self, document: &DocumentRef) -> bool {
        let documents = match &self.resource.body {
            Some(Body::Service(service)) => &service.documents,
            Some(Body::Workload(workload)) => &workload.documents,
            _ => return false,
        };
        let origin = format!("{} {}/{}", document.kind.as_str(), document.at.namespace, document.at.name);
        documents.iter().any(|d| d.origin == origin)
    }

    /// The message that has all of it.
    pub(crate) fn whole(&self) -> Bytes {
        let encode = || encode(Message::Resource(self.resource.clone()));
        self.whole.get_or_init(encode).clone()
    }

    /// The message that makes it of `base`, if there is one and it is worth it.
    pub(crate) fn since(&self, base: &Self) -> Option<Bytes> {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, delta)) = deltas.iter().find(|(version, _)| version == base.version()) {
            return delta.clone();
        }
        let delta = view::delta(&base.resource, &self.resource).map(|delta| encode(Message::Endpoints(delta)));
        if deltas.len() == DELTAS {
            deltas.remove(0);
        }
        deltas.push((base.version().to_owned(), delta.clone()));
        delta
    }
}

/// A message as it goes over the wire.
pub(crate) fn encode(message: Message) -> Bytes {
    ControlMessage { message: Some(message) }.encode_to_vec().into()
}
