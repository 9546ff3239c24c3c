//! Names to endpoints: keeps the endpoints of every upstream whose source is DNS or a registry up to date.
//!
//! One task per upstream on the control thread asks, publishes into [`UpstreamState`] and sleeps until the
//! answer expires. What an answer means is decided in `policy`, without a socket; how it is got in
//! `lookup`. Workers never wait for a name: they use what was published last, and a resolver that is dead
//! changes nothing for them.
//!
//! [`UpstreamState`]: crate::shared::UpstreamState

mod consul;
mod etcd;
mod lookup;
mod names;
mod policy;
mod registry;
mod servers;
mod source;
mod zookeeper;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use outrigger_config::model::EndpointSource;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use self::servers::{Servers, WrongServers};
use self::{
    lookup::Lookup,
    policy::{Answer, Schedule, Step},
    source::{AnyRegistry, Names, Source},
};
use crate::{error::Reason, shared::Shared};

/// Questions in flight at once: a configuration with many names must not flood a small resolver.
const MAX_IN_FLIGHT: usize = 32;
/// Bound on one answer, all search domains and both families included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between an answer and the next question that a kick may cause.
const KICK_PAUSE: Duration = Duration::from_secs(1);
/// How long `/etc/resolv.conf` and `/etc/hosts` are believed before they are read again.
const REREAD: Duration = Duration::from_secs(5);

/// The resolver of a proxy. Its tasks end with the control runtime.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
}

/// Asks for a name before its answer expires: what workers hold of the resolver.
#[derive(Clone, Default)]
pub struct Kicker {
    tasks: Arc<ArcSwap<HashMap<Arc<str>, Task>>>,
}

impl Kicker {
    /// Asks again for the endpoints of `upstream`, at most once a second. For use after a failure to
    /// connect. Does nothing for an upstream without a name. Takes no lock and never waits.
    pub fn kick(&self, upstream: &str) {
        if let Some(task) = self.tasks.load().get(upstream) {
            task.kick.notify_one();
        }
    }
}

struct Inner {
    shared: Arc<Shared>,
    servers: Servers,
    lookup: Mutex<Option<(Instant, Arc<Lookup>)>>,
    in_flight: Semaphore,
    /// By name of the upstream.
    tasks: Arc<ArcSwap<HashMap<Arc<str>, Task>>>,
    /// Upstreams whose first answer is awaited.
    unsettled: watch::Sender<usize>,
}

#[derive(Clone)]
struct Task {
    source: EndpointSource,
    kick: Arc<Notify>,
    abort: AbortHandle,
}

impl Resolver {
    /// Starts to resolve the names of the snapshot in force. Must be called on the control runtime.
    #[must_use]
    pub fn start(shared: &Arc<Shared>, servers: Servers) -> Self {
        let resolver = Self {
            inner: Arc::new(Inner {
                shared: Arc::clone(shared),
                servers,
                lookup: Mutex::default(),
                in_flight: Semaphore::new(MAX_IN_FLIGHT),
                tasks: Arc::default(),
                unsettled: watch::Sender::new(0),
            }),
        };
        resolver.sync();
        resolver
    }

    /// Follows the snapshot in force: new names are asked for, names that went are forgotten, and what
    /// did not change keeps its schedule.
    pub fn sync(&self) {
        let old = self.inner.tasks.load_full();
        let mut tasks = HashMap::new();
        for upstream in &self.inner.shared.snapshot().upstreams {
            let (name, source) = (&upstream.config.name, &upstream.config.source);
            if !matches!(source, EndpointSource::Dns { .. } | EndpointSource::Srv { .. } | EndpointSource::Registry(_))
            {
                continue;
            }
            let kept = old.get(name).filter(|t| t.source == *source).cloned();
            tasks.insert(Arc::clone(name), kept.unwrap_or_else(|| self.spawn(name, source)));
        }
        for (name, task) in old.iter() {
            if tasks.get(name).is_none_or(|t| !Arc::ptr_eq(&t.kick, &task.kick)) {
                task.abort.abort();
            }
        }
        self.inner.tasks.store(Arc::new(tasks));
    }

    /// For other threads. It does not keep the resolver, nor what is shared, alive.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        Kicker { tasks: Arc::clone(&self.inner.tasks) }
    }

    /// Waits until every name had an answer, or the failure to get one.
    pub async fn settled(&self) {
        let mut unsettled = self.inner.unsettled.subscribe();
        if unsettled.wait_for(|n| *n == 0).await.is_err() {
            tracing::debug!("the resolver has ended");
        }
    }

    fn spawn(&self, name: &Arc<str>, source: &EndpointSource) -> Task {
        let kick = Arc::new(Notify::new());
        let first = FirstAnswer::new(&self.inner.unsettled);
        let life = Life { inner: Arc::clone(&self.inner), name: Arc::clone(name), source: source.clone() };
        let task = match source {
            EndpointSource::Registry(registry) => {
                tokio::spawn(life.keep(AnyRegistry::new(registry), Arc::clone(&kick), first))
            }
            _ => {
                let names = Names::new(Arc::clone(&self.inner), source.clone());
                tokio::spawn(life.keep(names, Arc::clone(&kick), first))
            }
        };
        Task { source: source.clone(), kick, abort: task.abort_handle() }
    }
}

/// Counts an upstream as unsettled while it lives; a task that is aborted drops it, too.
struct FirstAnswer(watch::Sender<usize>);

impl FirstAnswer {
    fn new(unsettled: &watch::Sender<usize>) -> Self {
        unsettled.send_modify(|n| *n += 1);
        Self(unsettled.clone())
    }
}

impl Drop for FirstAnswer {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// The life of one upstream's source.
struct Life {
    inner: Arc<Inner>,
    name: Arc<str>,
    source: EndpointSource,
}

impl Life {
    async fn keep(self, mut source: impl Source, kick: Arc<Notify>, first: FirstAnswer) {
        let mut first = Some(first);
        let mut schedule = match &self.source {
            EndpointSource::Registry(_) => Schedule::of_registry(),
            _ => Schedule::default(),
        };
        let mut fresh = true;
        loop {
            let answer = source.next(fresh).await;
            let (step, wait) = schedule.take(answer, fastrand::f64());
            fresh = matches!(step, Step::Keep { .. });
            self.inner.publish(&self.name, &self.source, step, wait);
            drop(first.take());
            let asked = Instant::now();
            tokio::select! {
                () = sleep(wait) => {}
                () = kick.notified() => sleep_until(asked + KICK_PAUSE.min(wait)).await,
            }
        }
    }
}

impl Inner {
    async fn ask(&self, source: &EndpointSource) -> Answer {
        // Never closed, so it never fails.
        let _permit = self.in_flight.acquire().await;
        let lookup = match self.lookup() {
            Ok(lookup) => lookup,
            Err(details) => return Answer::Failed { reason: Reason::DnsError, details },
        };
        let answer = async {
            match source {
                EndpointSource::Static(_)
                | EndpointSource::Registry(_)
                | EndpointSource::Discovered
                | EndpointSource::Local { .. } => Answer::Nothing { ttl: None, details: "no name".into() },
                EndpointSource::Dns { name, port } => policy::addresses(lookup.addresses(name).await, *port),
                EndpointSource::Srv { name } => lookup.services(name).await,
            }
        };
        timeout(LOOKUP_TIMEOUT, answer).await.unwrap_or_else(|_| Answer::Failed {
            reason: Reason::DnsTimeout,
            details: format!("no answer in {} s", LOOKUP_TIMEOUT.as_secs()),
        })
    }

    /// The client of the name servers; made anew now and then, because the files that it reads change.
    fn lookup(&self) -> Result<Arc<Lookup>, String> {
        let mut cached = self.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &*cached {
            Some((made, lookup)) if now < *made + REREAD => Ok(Arc::clone(lookup)),
            _ => {
                let lookup = Arc::new(Lookup::new(&self.servers)?);
                *cached = Some((now, Arc::clone(&lookup)));
                Ok(lookup)
            }
        }
    }

    fn publish(&self, name: &str, source: &EndpointSource, step: Step, next: Duration) {
        let snapshot = self.shared.snapshot();
        let Some(state) = snapshot.upstreams.iter().find(|u| *u.config.name == *name && u.config.source == *source)
        else {
            return;
        };
        let before = state.endpoints().load_full();
        let addresses = |set: &crate::shared::EndpointSet| -> Vec<_> {
            set.endpoints.iter().map(|e| e.config.address.to_string()).collect()
        };
        match step {
            Step::Replace { endpoints, ttl } => {
                state.resolved(endpoints, ttl, self.shared.workers);
                let now = state.endpoints().load();
                if now.endpoints.len() != before.endpoints.len()
                    || now.endpoints.iter().zip(&before.endpoints).any(|(n, b)| !Arc::ptr_eq(n, b))
                {
                    tracing::info!(upstream = name, endpoints = addresses(&now).join(","), ?ttl, "resolved");
                }
            }
            Step::Empty { details } => {
                if !before.endpoints.is_empty() {
                    tracing::warn!(upstream = name, "there are no addresses any more: {details}");
                    state.resolved(Vec::new(), next, self.shared.workers);
                }
                state.failed(Reason::DnsError, details);
            }
            Step::Keep { reason, details, first } => {
                if first {
                    let kept = before.endpoints.len();
                    tracing::warn!(upstream = name, kept, %reason, next = ?next, "not resolved: {details}");
                }
                state.failed(reason, details);
            }
        }
    }
}

#[cfg(test)]
mod tests;
