//! The index while the program runs: one writer, many readers, and who waits for what.
//!
//! One task (`Live::follow`) takes the watches' updates, many at a time, applies them to the index and marks what may have
//! changed; it never resolves a resource and never waits for a proxy. What is marked is resolved by whoever wants it next, once for
//! all who share it (`table`): a change that concerns a thousand proxies costs one resolution and a thousand marks.
//!
//! Locks are taken in the order entry, index, table, mailbox, and none is held across an await.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use outrigger_config::discovery::TrustBundle;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    index::{Changes, Event, Index, Object, ObjectKind},
    observe::Metrics,
    watch::{RESOURCES, Resource, Update},
};

mod documents;
mod made;
mod mailbox;
mod table;

pub(crate) use self::{
    documents::Documents,
    made::{Made, encode},
    mailbox::Mailbox,
    table::{Entry, StreamId},
};

use self::table::Table;

/// The index and all who read it.
#[derive(Debug)]
pub struct Live {
    index: RwLock<Index>,
    table: Mutex<Table>,
    /// What the writer of status works on.
    pub(crate) documents: Documents,
    pub(crate) metrics: Arc<Metrics>,
    synced: Mutex<BTreeSet<ObjectKind>>,
    ready: watch::Sender<bool>,
    namespaces: watch::Sender<u64>,
}

/// Updates applied under one lock: few enough that readers wait a millisecond, many enough that a burst is one wake-up for
/// a proxy.
const BATCH: usize = 64;

impl Live {
    /// Around an index, which may be empty.
    #[must_use]
    pub fn new(index: Index, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            index: RwLock::new(index),
            table: Mutex::default(),
            documents: Documents::default(),
            metrics,
            synced: Mutex::default(),
            ready: watch::Sender::new(false),
            namespaces: watch::Sender::new(0),
        })
    }

    /// Takes in what the watches tell, until they are gone.
    pub(crate) async fn follow(self: Arc<Self>, mut updates: mpsc::Receiver<Update>) {
        let mut batch = Vec::with_capacity(BATCH);
        while updates.recv_many(&mut batch, BATCH).await > 0 {
            self.take(batch.drain(..));
            // A full list can take a while; whoever waits for the lock comes first.
            tokio::task::yield_now().await;
        }
    }

    /// Applies updates and marks what they may have changed.
    pub(crate) fn take(&self, updates: impl Iterator<Item = Update>) {
        let mut arrived = Vec::with_capacity(BATCH);
        let mut listed = Vec::new();
        let events: Vec<Event> = updates
            .map(|update| {
                let (event, at) = self.event(update, &mut listed);
                arrived.push(at);
                event
            })
            .collect();
        if let Some(since) = arrived.iter().min().copied() {
            self.change(Some(since), |index| {
                let mut changes = Changes::default();
                for event in events {
                    changes.merge(index.apply(event));
                }
                changes
            });
        }
        for at in arrived {
            self.metrics.watch_lag.observe(at.elapsed().as_secs_f64());
        }
        self.synced(&listed);
    }

    /// One event, as if a watch had brought it now: for simulations.
    pub fn apply(&self, event: Event) {
        self.change(Some(Instant::now()), |index| index.apply(event));
    }

    /// From now on what is not in the index is not in the cluster: for simulations, which have no watches.
    pub fn complete(&self) {
        self.synced(&RESOURCES.map(|r| r.kind));
    }

    /// Changes the index and marks what depends on it. `since`: when the cause became known.
    pub(crate) fn change(&self, since: Option<Instant>, change: impl FnOnce(&mut Index) -> Changes) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let changes = change(&mut index);
        // Under the index's lock: nobody can resolve between the change and the marks and take the old for the new.
        let marks = self.table().mark(&changes.topics);
        drop(index);
        for (mailbox, key) in marks {
            mailbox.mark(key, since);
        }
        self.documents.touch(changes.documents);
    }

    /// The roots that proxies trust from now on.
    pub(crate) fn set_trust(&self, trust: TrustBundle) {
        self.change(None, |index| index.set_trust(trust));
    }

    /// Looks at the index. Keep it short: the writer waits.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Index) -> R) -> R {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// True once every kind has had its first full list. Before, what is not in the index may still be in the cluster, and
    /// nobody may be told that it is absent.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// A counter that changes with every namespace that comes or changes.
    pub(crate) fn namespaces(&self) -> watch::Receiver<u64> {
        self.namespaces.subscribe()
    }

    /// Kinds that have not had their first full list.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        RESOURCES.iter().filter(|r| !synced.contains(&r.kind)).map(|r| r.plural).collect()
    }

    /// Counts the objects, for metrics that are about to be read.
    pub(crate) fn count(&self) {
        self.read(|index| {
            for resource in &RESOURCES {
                let count = i64::try_from(index.count(resource.kind)).unwrap_or(i64::MAX);
                self.metrics.objects.with_label_values(&[resource.plural]).set(count);
                if let ObjectKind::Document(kind) = resource.kind {
                    let refused = i64::try_from(index.count_refused(kind)).unwrap_or(i64::MAX);
                    self.metrics.documents_refused.with_label_values(&[resource.plural]).set(refused);
                }
            }
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an update means to the index; statuses are kept beside it.
    fn event(&self, update: Update, listed: &mut Vec<ObjectKind>) -> (Event, Instant) {
        match update {
            Update::Upsert(trimmed, at) => {
                if let Object::Document(document) = &trimmed.object {
                    self.documents.saw(document.kind, &document.at, trimmed.status);
                }
                if let Object::Namespace(_) = &trimmed.object {
                    self.namespaces.send_modify(|count| *count += 1);
                }
                (Event::Upsert(trimmed.object), at)
            }
            Update::Delete(kind, name, at) => {
                if let ObjectKind::Document(kind) = kind {
                    self.documents.lost(kind, &name);
                }
                (Event::Delete(kind, name), at)
            }
            Update::Replace(kind, all, at) => {
                listed.push(kind);
                if let ObjectKind::Document(kind) = kind {
                    self.documents.replace(kind, &all);
                }
                (Event::Replace(kind, all.into_iter().map(|t| t.object).collect()), at)
            }
        }
    }

    fn synced(&self, listed: &[ObjectKind]) {
        if listed.is_empty() {
            return;
        }
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in listed {
            if let Some(resource) = Resource::of(*kind) {
                self.metrics.watch_synced.with_label_values(&[resource.plural]).set(1);
            }
            synced.insert(*kind);
        }
        if synced.len() == RESOURCES.len() && !self.ready.send_replace(true) {
            tracing::info!("everything of the cluster is known");
        }
    }
}
