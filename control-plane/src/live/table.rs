//! Who subscribes to what, and what that depends on.
//!
//! An [`Entry`] is one key as one scope sees it (a namespace, a pod, everyone): resolved at most once after each change, by the
//! first of its streams that looks, and shared by them all. It lives as long as a stream subscribes to it, so the table is as
//! large as what proxies use, not as the mesh.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use outrigger_config::discovery::Key;
use tokio::time::Instant;

use super::{Live, Made, Mailbox};
use crate::{
    index::Topic,
    view::{self, Scope, Subscriber},
};

/// Names a stream while the program runs.
pub(crate) type StreamId = u64;

/// A key as one scope sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shared {
    key: Key,
    namespace: Option<Arc<str>>,
    pod: Option<Arc<str>>,
}

impl Shared {
    fn of(key: &Key, subscriber: &Subscriber) -> Self {
        let (namespace, pod) = match view::scope(key) {
            Scope::Mesh => (None, None),
            Scope::Namespace => (Some(&subscriber.pod.namespace), None),
            Scope::Pod => (Some(&subscriber.pod.namespace), Some(&subscriber.pod.name)),
        };
        Self { key: key.clone(), namespace: namespace.cloned(), pod: pod.cloned() }
    }
}

/// One of them, and what became of it.
#[derive(Debug)]
pub(crate) struct Entry {
    shared: Shared,
    /// Any of those who share it.
    subscriber: Subscriber,
    /// Counts the changes of what it depends on.
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At which change it was made.
    at: u64,
    made: Option<Arc<Made>>,
    topics: Vec<Topic>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<Shared, Row>,
    topics: HashMap<Topic, HashMap<Shared, Arc<Entry>>>,
}

#[derive(Debug)]
struct Row {
    entry: Arc<Entry>,
    streams: HashMap<StreamId, Arc<Mailbox>>,
}

impl Table {
    /// Marks everything that depends on the topics as changed. Who is to be told: for the caller, when it holds no lock.
    pub(super) fn mark(&self, topics: &BTreeSet<Topic>) -> Vec<(Arc<Mailbox>, Key)> {
        let mut marks = Vec::new();
        for entry in topics.iter().filter_map(|topic| self.topics.get(topic)).flat_map(HashMap::values) {
            entry.changes.fetch_add(1, Ordering::Relaxed);
            let Some(row) = self.rows.get(&entry.shared) else { continue };
            marks.extend(row.streams.values().map(|mailbox| (Arc::clone(mailbox), entry.shared.key.clone())));
        }
        marks
    }

    fn unlink(&mut self, shared: &Shared, topics: &[Topic]) {
        for topic in topics {
            if let Some(entries) = self.topics.get_mut(topic) {
                entries.remove(shared);
                if entries.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
    }

    fn link(&mut self, entry: &Arc<Entry>, topics: &[Topic]) {
        for topic in topics {
            let entries = self.topics.entry(topic.clone()).or_default();
            entries.insert(entry.shared.clone(), Arc::clone(entry));
        }
    }
}

impl Live {
    /// From now on `mailbox` is told when the answer to `key` may have changed.
    pub(crate) fn subscribe(
        &self,
        stream: StreamId,
        mailbox: &Arc<Mailbox>,
        subscriber: &Subscriber,
        key: &Key,
    ) -> Arc<Entry> {
        let shared = Shared::of(key, subscriber);
        let mut table = self.table();
        let row = table.rows.entry(shared.clone()).or_insert_with(|| Row {
            entry: Arc::new(Entry {
                shared,
                subscriber: subscriber.clone(),
                changes: AtomicU64::new(1),
                state: Mutex::default(),
            }),
            streams: HashMap::new(),
        });
        if row.streams.insert(stream, Arc::clone(mailbox)).is_none() {
            self.metrics.subscriptions.inc();
        }
        Arc::clone(&row.entry)
    }

    /// The reverse. The last one takes the entry with it.
    pub(crate) fn unsubscribe(&self, stream: StreamId, entry: &Entry) {
        // The order of locks: entry before table.
        let mut state = entry.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.table();
        let Some(row) = table.rows.get_mut(&entry.shared) else { return };
        if row.streams.remove(&stream).is_some() {
            self.metrics.subscriptions.dec();
        }
        if row.streams.is_empty() {
            table.rows.remove(&entry.shared);
            table.unlink(&entry.shared, &state.topics);
            *state = State::default();
        }
    }

    /// The latest version. Resolves it if what it depends on has changed since it was made.
    pub(crate) fn latest(&self, entry: &Arc<Entry>) -> Arc<Made> {
        let mut state = entry.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let seen = entry.changes.load(Ordering::Relaxed);
        if let Some(made) = state.made.as_ref().filter(|_| state.at == seen) {
            return Arc::clone(made);
        }
        let started = Instant::now();
        let made = self.read(|index| {
            // Changes are counted under the index's write lock, which nobody holds now.
            state.at = entry.changes.load(Ordering::Relaxed);
            let topics = view::topics(index, &entry.subscriber, &entry.shared.key);
            if topics != state.topics {
                let mut table = self.table();
                table.unlink(&entry.shared, &state.topics);
                table.link(entry, &topics);
                state.topics = topics;
            }
            Made::new(view::resolve(index, &entry.subscriber, &entry.shared.key))
        });
        self.metrics.resolve.observe(started.elapsed().as_secs_f64());
        match &state.made {
            // Nothing changed after all: the version is the content.
            Some(old) if old.version() == made.version() => Arc::clone(old),
            _ => Arc::clone(state.made.insert(Arc::new(made))),
        }
    }
}
