//! What the writer of status works on: documents whose status may be another now, what stands there, and what proxies refused.
//!
//! Bounded by the documents of the cluster, and refusals by [`MAX_REFUSALS`] for each of them: an author needs an
//! example, not a list of all pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use outrigger_config::{discovery::Key, documents::Kind};
use serde_json::Value;
use tokio::sync::Notify;

use super::StreamId;
use crate::{
    index::{DocumentRef, Object, ObjectName},
    status::Refusal,
    watch::Trimmed,
};

/// Of documents, beside the index.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// To be looked at.
    touched: BTreeSet<DocumentRef>,
    /// `status` as it was last seen, of those that have one.
    seen: HashMap<DocumentRef, Value>,
    /// Who refused a version with it, and why.
    refused: HashMap<DocumentRef, BTreeMap<(StreamId, Key), Refusal>>,
    /// Where to find them again.
    by_stream: HashMap<StreamId, BTreeMap<Key, BTreeSet<DocumentRef>>>,
    /// What other replicas' proxies refused.
    elsewhere: BTreeMap<DocumentRef, Vec<Refusal>>,
}

/// Refusals kept of one document.
pub(crate) const MAX_REFUSALS: usize = 16;

impl Documents {
    /// The status of these may be another now.
    pub(crate) fn touch(&self, documents: impl IntoIterator<Item = DocumentRef>) {
        let mut state = self.state();
        let before = state.touched.len();
        state.touched.extend(documents);
        let more = state.touched.len() > before;
        drop(state);
        if more {
            self.more.notify_one();
        }
    }

    /// What is to be looked at, at most `most`.
    pub(crate) fn take(&self, most: usize) -> Vec<DocumentRef> {
        let mut state = self.state();
        std::iter::from_fn(|| state.touched.pop_first()).take(most).collect()
    }

    /// Until something is to be looked at.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    /// A document has arrived with this status. One that differs from the last may have lost our entry.
    pub(crate) fn saw(&self, kind: Kind, at: &ObjectName, status: Option<Value>) {
        let document = DocumentRef { kind, at: at.clone() };
        let mut state = self.state();
        if state.seen.get(&document) != status.as_ref() {
            match status {
                Some(status) => state.seen.insert(document.clone(), status),
                None => state.seen.remove(&document),
            };
            drop(state);
            self.touch([document]);
        }
    }

    pub(super) fn lost(&self, kind: Kind, at: &ObjectName) {
        self.state().seen.remove(&DocumentRef { kind, at: at.clone() });
    }

    pub(super) fn replace(&self, kind: Kind, all: &[Trimmed]) {
        let there: BTreeSet<&ObjectName> = all.iter().filter_map(|t| name(&t.object)).collect();
        self.state().seen.retain(|document, _| document.kind != kind || there.contains(&document.at));
        for trimmed in all {
            if let Some(at) = name(&trimmed.object) {
                self.saw(kind, at, trimmed.status.clone());
            }
        }
    }

    /// The status of a document as it was last seen.
    pub(crate) fn seen(&self, document: &DocumentRef) -> Option<Value> {
        self.state().seen.get(document).cloned()
    }

    /// A proxy refused a version of `key`: which documents it blames, and why.
    pub(crate) fn refuse(&self, stream: StreamId, pod: &ObjectName, key: &Key, blamed: Vec<(DocumentRef, String)>) {
        self.accept(stream, key);
        let mut touched = Vec::new();
        let mut state = self.state();
        for (document, reason) in blamed {
            let refusals = state.refused.entry(document.clone()).or_default();
            if refusals.len() >= MAX_REFUSALS {
                continue;
            }
            let pod = format!("{}/{}", pod.namespace, pod.name);
            refusals.insert((stream, key.clone()), Refusal { pod, reason });
            state.by_stream.entry(stream).or_default().entry(key.clone()).or_default().insert(document.clone());
            touched.push(document);
        }
        drop(state);
        self.touch(touched);
    }

    /// A proxy has taken a version of `key`, or does not want it any more.
    pub(crate) fn accept(&self, stream: StreamId, key: &Key) {
        let mut state = self.state();
        let Some(keys) = state.by_stream.get_mut(&stream) else { return };
        let documents = keys.remove(key).unwrap_or_default();
        if keys.is_empty() {
            state.by_stream.remove(&stream);
        }
        for document in &documents {
            state.drop_refusal(document, &(stream, key.clone()));
        }
        drop(state);
        self.touch(documents);
    }

    /// The stream has ended.
    pub(crate) fn end(&self, stream: StreamId) {
        let keys: Vec<Key> =
            self.state().by_stream.get(&stream).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for key in keys {
            self.accept(stream, &key);
        }
    }

    /// What proxies refuse of a document, of this replica and of others.
    pub(crate) fn refusals(&self, document: &DocumentRef) -> Vec<Refusal> {
        let state = self.state();
        let here = state.refused.get(document).into_iter().flat_map(BTreeMap::values);
        let elsewhere = state.elsewhere.get(document).into_iter().flatten();
        let mut all: Vec<Refusal> = here.chain(elsewhere).cloned().collect();
        all.sort_by(|a, b| (&a.pod, &a.reason).cmp(&(&b.pod, &b.reason)));
        all.dedup();
        all.truncate(MAX_REFUSALS);
        all
    }

    /// What proxies of this replica refuse, for the replica that writes status.
    pub(crate) fn refused_here(&self) -> BTreeMap<DocumentRef, Vec<Refusal>> {
        let state = self.state();
        state.refused.iter().map(|(d, r)| (d.clone(), r.values().cloned().collect())).collect()
    }

    /// What proxies of other replicas refuse, all of it.
    pub(crate) fn set_refused_elsewhere(&self, refused: BTreeMap<DocumentRef, Vec<Refusal>>) {
        let mut state = self.state();
        if state.elsewhere == refused {
            return;
        }
        let before = std::mem::replace(&mut state.elsewhere, refused.clone());
        drop(state);
        self.touch(before.into_keys().chain(refused.into_keys()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_refusal(&mut self, document: &DocumentRef, by: &(StreamId, Key)) {
        if let Some(refusals) = self.refused.get_mut(document) {
            refusals.remove(by);
            if refusals.is_empty() {
                self.refused.remove(document);
            }
        }
    }
}

fn name(object: &Object) -> Option<&ObjectName> {
    match object {
        Object::Document(document) => Some(&document.at),
        _ => None,
    }
}
