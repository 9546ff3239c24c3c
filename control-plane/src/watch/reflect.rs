//! Keeps the index equal to what the API server has of one kind.
//!
//! First everything, then what changes: by a streaming list where the server has them (KEP-3157), by pages otherwise. What was
//! seen stays in force through any outage; nothing is forgotten because the API server does not answer.
//!
//! Not `kube::runtime::watcher`, because of what happens when the API server comes back with another history (a fresh or a restored
//! etcd): a watch from a version that is ahead of the server's is not refused, it is silent, until the server has caught up; and a version
//! that was refused before the stream opened is tried again for ever. So the version is ours, and before each resumption a list of one object
//! tells where the server is. Behind us: everything is listed anew.
//!
//! A kind that is not served is an empty one, and is asked for again at intervals. One that *was* served must be missed
//! several times, by the group's own list of kinds, before its objects are forgotten: a server that starts answers 404 too.
//!
//! Full lists happen at the start, after a history was lost, and never faster than [`Cost::List`] allows.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::core::WatchEvent;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Resource, Update,
    api::{Api, Fault, Unread, chain, next},
    backoff::{Backoff, Cost},
    decode::{Arrived, Trimmed},
};
use crate::{index::ObjectName, observe::Metrics};

/// Follows one kind for ever.
pub(crate) struct Reflector<T> {
    pub(crate) api: Api,
    pub(crate) out: mpsc::Sender<Update>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the server has streaming lists; learned by one kind for all.
    pub(crate) streaming: Arc<AtomicBool>,
    /// Up to where everything is known.
    at: Option<String>,
    backoff: Backoff,
    /// Checks in a row that a kind whose objects we hold is not served.
    missed: u32,
    /// Something of this kind has been handed on.
    filled: bool,
    told: Told,
    of: PhantomData<fn() -> T>,
}

/// What was logged last, so that an outage of an hour is a line and not a thousand.
#[derive(Default)]
struct Told {
    reason: &'static str,
    at: Option<Instant>,
}

/// Whoever owns the index is gone: the program ends.
pub(crate) struct Closed;

enum Stop {
    Fault(Fault),
    Closed,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl<T: Arrived> Reflector<T> {
    pub(crate) fn new(api: Api, out: mpsc::Sender<Update>, metrics: Arc<Metrics>, streaming: Arc<AtomicBool>) -> Self {
        Self {
            api,
            out,
            metrics,
            streaming,
            at: None,
            backoff: Backoff::default(),
            missed: 0,
            filled: false,
            told: Told::default(),
            of: PhantomData,
        }
    }

    /// Ends when nobody takes the updates any more.
    pub(crate) async fn run(mut self) {
        loop {
            let wait = match self.advance().await {
                Ok(()) => Duration::ZERO,
                Err(Stop::Fault(fault)) => match self.after(fault).await {
                    Ok(wait) => wait,
                    Err(Closed) => return,
                },
                Err(Stop::Closed) => return,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.out.closed() => return,
            }
        }
    }

    /// From where we are to where the server ends the watch.
    async fn advance(&mut self) -> Result<(), Stop> {
        match self.at.clone() {
            Some(version) => {
                self.check_history(&version).await?;
                self.resume(&version).await
            }
            None if self.streaming.load(Ordering::Relaxed) => self.list_by_stream().await,
            None => self.list_by_pages().await,
        }
    }

    /// Everything, then changes, in one request.
    async fn list_by_stream(&mut self) -> Result<(), Stop> {
        let mut events = Box::pin(self.api.watch::<T>(None, watch_seconds()).await?);
        let mut all = Vec::new();
        loop {
            // No fault by itself if it does not come: the server may take a while to prepare a large one.
            match next(&mut events, LIST_IDLE).await {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    all.extend(object.trim(self.resource()));
                }
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    if mark.metadata.annotations.contains_key(INITIAL_END) {
                        self.replace(all, mark.metadata.resource_version).await?;
                        break;
                    }
                }
                Some(Ok(WatchEvent::Deleted(_))) => {}
                Some(Ok(WatchEvent::Error(status))) => return Err(Fault::of_status(self.resource(), &status).into()),
                Some(Err(error)) => return Err(Fault::of(self.resource(), &error).into()),
                None => return Err(Fault::unavailable("a streaming list ended before its end").into()),
            }
        }
        self.follow(events).await
    }

    async fn list_by_pages(&mut self) -> Result<(), Stop> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.api.page::<T>(PAGE, token.as_deref()).await?;
            all.extend(page.items.into_iter().filter_map(|object| object.trim(self.resource())));
            token = page.metadata.next.filter(|next| !next.is_empty());
            if token.is_none() {
                self.replace(all, page.metadata.resource_version).await?;
                return Ok(());
            }
        }
    }

    /// A watch from a version that the server has not reached yet is silent instead of refused.
    async fn check_history(&self, version: &str) -> Result<(), Fault> {
        let theirs = self.api.page::<Unread>(1, None).await?.metadata.resource_version;
        // Versions are numbers of one revision counter of etcd (KEP-5504 makes that official); if ever they are not, there
        // is nothing to compare.
        match (version.parse::<u64>(), theirs.parse::<u64>()) {
            (Ok(ours), Ok(theirs)) if theirs < ours => Err(Fault::OlderHistory { ours, theirs }),
            _ => Ok(()),
        }
    }

    async fn resume(&mut self, version: &str) -> Result<(), Stop> {
        let events = self.api.watch::<T>(Some(version), watch_seconds()).await?;
        self.follow(Box::pin(events)).await
    }

    /// Hands on changes until the stream ends. An end without an error is the server's time limit.
    async fn follow(
        &mut self,
        mut events: impl futures::Stream<Item = Result<WatchEvent<T>, kube::Error>> + Unpin,
    ) -> Result<(), Stop> {
        let since = Instant::now();
        while let Some(event) = next(&mut events, WATCH_IDLE).await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => self.apply(object).await?,
                Ok(WatchEvent::Deleted(object)) => {
                    self.metrics.heard(self.resource().plural, "delete");
                    self.at = Some(object.metadata().resource_version.clone()).filter(|v| !v.is_empty());
                    self.delete(object.metadata().at()).await?;
                }
                Ok(WatchEvent::Bookmark(mark)) => {
                    self.metrics.heard(self.resource().plural, "bookmark");
                    self.at = Some(mark.metadata.resource_version);
                }
                Ok(WatchEvent::Error(status)) => return Err(Fault::of_status(self.resource(), &status).into()),
                // One object that cannot be read must not hide the others; it is skipped, and said.
                Err(error) if is_unreadable(&error) => {
                    self.metrics.watch_errors.with_label_values(&[self.resource().plural, "unreadable"]).inc();
                    let error = chain(&error);
                    tracing::warn!(kind = self.resource().plural, error, "an object cannot be read and is left out");
                }
                Err(error) => return Err(Fault::of(self.resource(), &error).into()),
            }
            if since.elapsed() > HEALTHY {
                self.well();
            }
        }
        if since.elapsed() < SHORTEST {
            return Err(Fault::unavailable("the API server ended a watch at once").into());
        }
        self.well();
        Ok(())
    }

    async fn apply(&mut self, object: T) -> Result<(), Closed> {
        self.metrics.heard(self.resource().plural, "apply");
        let version = object.metadata().resource_version.clone();
        let at = object.metadata().at();
        match object.trim(self.resource()) {
            Some(kept) => self.send(Update::Upsert(kept, Instant::now())).await?,
            // It was something to us, perhaps, and is no more.
            None => self.delete(at).await?,
        }
        self.at = Some(version).filter(|v| !v.is_empty());
        Ok(())
    }

    async fn delete(&self, at: ObjectName) -> Result<(), Closed> {
        self.send(Update::Delete(self.resource().kind, at, Instant::now())).await
    }

    async fn replace(&mut self, all: Vec<Trimmed>, version: String) -> Result<(), Closed> {
        self.metrics.heard(self.resource().plural, "list");
        tracing::debug!(kind = self.resource().plural, objects = all.len(), version, "listed");
        self.at = Some(version).filter(|v| !v.is_empty());
        self.filled = true;
        self.missed = 0;
        self.send(Update::Replace(self.resource().kind, all, Instant::now())).await
    }

    async fn send(&self, update: Update) -> Result<(), Closed> {
        self.out.send(update).await.map_err(|_| Closed)
    }

    fn resource(&self) -> &'static Resource {
        self.api.resource
    }

    /// All is well: forget what was wrong.
    fn well(&mut self) {
        self.backoff.reset();
        if let Some(at) = self.told.at.take() {
            let kind = self.resource().plural;
            tracing::info!(kind, after = ?at.elapsed(), "the API server answers again");
        }
        self.told = Told::default();
    }

    /// What to do about a fault, and how long to wait until then.
    async fn after(&mut self, fault: Fault) -> Result<Duration, Closed> {
        self.metrics.watch_errors.with_label_values(&[self.resource().plural, fault.reason()]).inc();
        let cost = match &fault {
            Fault::NoStreaming => {
                self.streaming.store(false, Ordering::Relaxed);
                return Ok(Duration::ZERO);
            }
            Fault::NotInstalled(_) => return self.not_installed().await,
            Fault::Gone | Fault::OlderHistory { .. } => {
                self.at = None;
                Cost::List
            }
            Fault::Forbidden(_) => Cost::Human,
            Fault::Unavailable { answered: true, .. } if self.at.is_none() => Cost::List,
            Fault::Unavailable { .. } => Cost::Resume,
        };
        self.tell(&fault);
        let asked = match &fault {
            Fault::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        Ok(self.backoff.after(cost, asked, fastrand::f64()))
    }

    /// Empty from the start, or empty after it was missed often enough.
    async fn not_installed(&mut self) -> Result<Duration, Closed> {
        let again = ABSENT.mul_f64(0.8 + 0.4 * fastrand::f64());
        match self.api.is_served().await {
            Ok(false) => {}
            Ok(true) => return Ok(self.backoff.after(Cost::List, None, fastrand::f64())),
            Err(fault) => {
                self.tell(&fault);
                return Ok(self.backoff.after(Cost::Resume, None, fastrand::f64()));
            }
        }
        self.missed += 1;
        if !self.filled || self.missed == MISSES {
            let resource = self.resource();
            tracing::info!(kind = resource.plural, group = resource.group, "not installed; {}", resource.remedy());
            self.replace(Vec::new(), String::new()).await?;
            self.missed = MISSES;
        }
        if self.missed >= MISSES {
            self.missed = MISSES + 1;
            self.at = None;
        }
        Ok(again)
    }

    /// Says what is wrong when it begins, when it becomes another, and now and then.
    fn tell(&mut self, fault: &Fault) {
        let recent = self.told.at.is_some_and(|at| at.elapsed() < REMIND);
        if recent && self.told.reason == fault.reason() {
            tracing::debug!(kind = self.resource().plural, %fault, "watch failed again");
            return;
        }
        self.told = Told { reason: fault.reason(), at: Some(self.told.at.unwrap_or_else(Instant::now)) };
        let kind = self.resource().plural;
        match fault {
            Fault::Forbidden(message) => tracing::error!(
                kind,
                "{message}; add to the ClusterRole of the control plane the rule: {}",
                self.resource().rule("get, list, watch")
            ),
            Fault::Gone => tracing::info!(kind, "{fault}: listing anew"),
            Fault::OlderHistory { .. } => tracing::warn!(kind, "{fault}; listing anew"),
            _ => tracing::warn!(kind, "watch failed, what is known stays in force: {}", chain(fault)),
        }
    }
}

/// Is it a line that is no event? The client takes one for a status without a code, as all fields of a status may be absent.
fn is_unreadable(error: &kube::Error) -> bool {
    match error {
        kube::Error::SerdeError(_) => true,
        kube::Error::Api(status) => status.code == 0,
        _ => false,
    }
}

/// On the bookmark that ends a streaming list.
const INITIAL_END: &str = "k8s.io/initial-events-end";
/// As client-go's pager.
const PAGE: u32 = 500;
/// Between objects of a streaming list.
const LIST_IDLE: Duration = Duration::from_secs(30);
/// Bookmarks come about once a minute. Without one for longer the connection may be dead, and to resume costs two small requests.
const WATCH_IDLE: Duration = Duration::from_secs(100);
/// A watch that lived this long was no accident.
const HEALTHY: Duration = Duration::from_secs(10);
/// One that ends sooner counts as a failure, so that a server that ends them all is not asked in a loop.
const SHORTEST: Duration = Duration::from_secs(1);
/// Between two looks for a kind that is not installed: two requests that the server answers from memory.
const ABSENT: Duration = Duration::from_secs(3);
/// Looks in a row after which a kind that had objects is believed to be gone.
const MISSES: u32 = 5;
/// Between two log lines about one outage.
const REMIND: Duration = Duration::from_secs(300);

/// Spread, so that watches which began together do not end together.
fn watch_seconds() -> u32 {
    fastrand::u32(240..360)
}
