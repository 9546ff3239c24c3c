//! What the worker threads and the control thread share: the snapshot in force, the upstreams' live
//! state, and the drain.
//!
//! A [`Snapshot`] is immutable and swapped whole. What lives longer than a snapshot ([`UpstreamState`],
//! [`BoundListener`]) is carried over by [`Shared::apply`] where the part of the model that it stands
//! for is unchanged, so a reload resets nothing that it does not concern. Workers learn of a new
//! snapshot through [`Shared::changes`] and keep their own reference: a request never touches a
//! reference count that another thread writes.

mod endpoints;
mod listen;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_config::{
    Compiled, Fault, Severity,
    model::{self, Endpoint, EndpointSource, Model, UpstreamId},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    discovery::{Discovery, Routing},
    error::Reason,
    fallback::Store,
    inflight::{self, InFlight},
    observe::Observer,
    policy::{Target, breaker::State},
    resolve::Kicker,
    tls::{Identity, TlsContexts},
};

pub use endpoints::{EndpointSet, EndpointState, Resolution, WorkerSlot};
pub use listen::BoundListener;

use listen::bind;

/// One per process.
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    changes: watch::Sender<u64>,
    phase: watch::Sender<Phase>,
    /// Number of worker threads; fixed at start.
    pub workers: usize,
    /// Metrics, access log, diagnostics.
    pub observer: Arc<Observer>,
    /// Connections of clients that are open, all listeners together.
    pub open_connections: AtomicU64,
    /// Inbound requests in flight, for the outbound calls behind them.
    pub inflight: Arc<InFlight>,
    /// Last good answers (`staleIfError`).
    pub good: Arc<Store>,
    resolver: OnceLock<Kicker>,
    discovery: OnceLock<Arc<Discovery>>,
    /// The identity that a source other than files has delivered last.
    delivered: ArcSwapOption<Identity>,
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes work.
    Serving,
    /// In a pod that ends: clients of the inbound side are served and asked to go elsewhere (`Connection: close`, GOAWAY), what
    /// the app sends is carried as before.
    Leaving,
    /// It finishes what it has: listeners closed, `Connection: close`, GOAWAY.
    Draining,
    /// It ends now.
    Stopping,
}

/// One configuration in force.
pub struct Snapshot {
    /// Counts the configurations applied since the start, from 1.
    pub version: u64,
    /// What was compiled.
    pub model: Model,
    /// Faults that did not stop it.
    pub warnings: Vec<Fault>,
    /// Live state, indexed by [`UpstreamId`].
    pub upstreams: Vec<Arc<UpstreamState>>,
    /// Certificates and roots, read when the snapshot was made.
    pub tls: Arc<TlsContexts>,
    /// In the order of the model.
    pub listeners: Vec<Arc<BoundListener>>,
    /// When it was applied.
    pub applied: SystemTime,
    /// Where redirected connections go; `None`: the configuration is of files.
    pub routing: Option<Arc<Routing>>,
}

impl Snapshot {
    /// The live state of an upstream of this snapshot's model.
    #[must_use]
    pub fn upstream(&self, id: UpstreamId) -> &Arc<UpstreamState> {
        &self.upstreams[id.0 as usize]
    }
}

/// The live state of one upstream, kept over reloads that do not change it.
pub struct UpstreamState {
    /// What it was made from.
    pub config: Arc<model::Upstream>,
    /// State of its policy.
    pub target: Arc<Target>,
    /// State of the policies of its rules, by their index: the upstream's own where no policy targets the
    /// rule or its route.
    pub rules: Vec<Arc<Target>>,
    endpoints: ArcSwap<EndpointSet>,
    /// Whether there was an answer, good or bad: one channel for all states of a source, over reloads.
    answered: watch::Sender<bool>,
}

impl UpstreamState {
    /// Under `config`; what `old` has and still fits is kept.
    fn new(config: Arc<model::Upstream>, workers: usize, old: Option<&Self>) -> Self {
        let now = Instant::now();
        let renew = |policy: &Arc<model::TrafficPolicy>, old: Option<&Arc<Target>>| {
            Arc::new(old.map_or_else(|| Target::new(policy, workers, now), |o| o.renewed(policy, now)))
        };
        let target = renew(&config.policy, old.map(|o| &o.target));
        let rules = config.routes.rules.iter();
        let rules = rules.map(|rule| {
            // What a route itself says (`timeouts`, `retry`) changes no state; another document does.
            if rule.policy.name == config.policy.name {
                return Arc::clone(&target);
            }
            renew(&rule.policy, old.and_then(|o| o.rule_target(rule)))
        });
        let rules = rules.collect();
        let (endpoints, resolution) = Self::first_endpoints(&config, workers, now, old);
        let known = old.filter(|o| o.config.source == config.source);
        let answered = known.map_or_else(|| watch::Sender::new(false), |o| o.answered.clone());
        let endpoints = ArcSwap::from_pointee(EndpointSet { endpoints, resolution });
        Self { config, target, rules, endpoints, answered }
    }

    /// The state of a policy that targets this rule, under this configuration.
    fn rule_target(&self, rule: &model::Rule) -> Option<&Arc<Target>> {
        let same = |r: &model::Rule| r.route == rule.route && r.name == rule.name && r.policy.name == rule.policy.name;
        let index = self.config.routes.rules.iter().position(|r| same(r))?;
        self.rules.get(index)
    }

    fn first_endpoints(
        config: &model::Upstream,
        workers: usize,
        now: Instant,
        old: Option<&Self>,
    ) -> (Vec<Arc<EndpointState>>, Resolution) {
        let old = old.map(|o| (o, o.endpoints.load()));
        if let Some((state, set)) = &old
            && state.config.source == config.source
        {
            // The endpoints of an unchanged source survive a change of policy: their latencies and
            // connections are still those of the same servers.
            return (set.endpoints.clone(), set.resolution.clone());
        }
        let known = old.as_ref().map_or(&[][..], |(_, set)| &set.endpoints);
        match &config.source {
            EndpointSource::Static(list) => {
                let all = list.iter().map(|e| EndpointState::beside(known, e.clone(), workers, now)).collect();
                (all, Resolution::Static)
            }
            EndpointSource::Dns { .. }
            | EndpointSource::Srv { .. }
            | EndpointSource::Registry(_)
            | EndpointSource::Discovered
            | EndpointSource::Local { .. } => (Vec::new(), Resolution::Pending),
        }
    }

    /// What becomes of requests for `endpoint`: `ready`, `ejected` by the breaker, `draining` (weight 0).
    #[must_use]
    pub fn standing(&self, endpoint: &EndpointState) -> &'static str {
        let breaker = self.target.known_breaker(endpoint.config.address);
        match breaker.map(|b| b.state()) {
            _ if endpoint.config.weight == 0 => "draining",
            Some(State::Open | State::HalfOpen) => "ejected",
            Some(State::Closed) | None => "ready",
        }
    }

    /// The endpoints now.
    #[must_use]
    pub fn endpoints(&self) -> &ArcSwap<EndpointSet> {
        &self.endpoints
    }

    /// True once a resolver has said anything of the source, good or bad.
    #[must_use]
    pub fn answered(&self) -> watch::Receiver<bool> {
        self.answered.subscribe()
    }

    /// Takes what `newer`, of the same source, has been told: a request may still be under the older one.
    pub fn adopt(&self, newer: &Self) {
        if !std::ptr::eq(self, newer) {
            self.endpoints.store(newer.endpoints.load_full());
        }
    }

    /// Takes the answer of a resolver. Endpoints that were there before keep their state.
    pub fn resolved(&self, list: Vec<Endpoint>, ttl: Duration, workers: usize) {
        self.replace(list, Resolution::Resolved { at: SystemTime::now(), ttl }, workers);
    }

    fn replace(&self, list: Vec<Endpoint>, resolution: Resolution, workers: usize) {
        let old = self.endpoints.load();
        let now = Instant::now();
        let endpoints: Vec<_> =
            list.into_iter().map(|e| EndpointState::beside(&old.endpoints, e, workers, now)).collect();
        let listed = |address: &SocketAddr| endpoints.iter().any(|e| e.config.address == *address);
        for target in std::iter::once(&self.target).chain(&self.rules) {
            target.retain(listed);
        }
        self.endpoints.store(Arc::new(EndpointSet { endpoints, resolution }));
        self.answered.send_replace(true);
    }

    /// Takes what the control plane says. Endpoints that were there before keep their state; the same list changes nothing.
    pub fn discovered(&self, list: &[Endpoint], workers: usize) {
        let old = self.endpoints.load();
        let known = matches!(old.resolution, Resolution::Discovered { .. });
        if known && old.endpoints.iter().map(|e| &e.config).eq(list) {
            return;
        }
        self.replace(list.to_vec(), Resolution::Discovered { at: SystemTime::now() }, workers);
    }

    /// Notes a failure of the resolver; the last good answer stays.
    pub fn failed(&self, reason: Reason, details: String) {
        let old = self.endpoints.load();
        let resolution = Resolution::Failed { at: SystemTime::now(), reason, details };
        self.endpoints.store(Arc::new(EndpointSet { endpoints: old.endpoints.clone(), resolution }));
        self.answered.send_replace(true);
    }
}

impl Shared {
    /// Applies the first configuration.
    ///
    /// # Errors
    /// A listener that cannot be bound, with its place.
    pub fn start(compiled: Compiled, workers: usize, observer: Arc<Observer>) -> Result<Arc<Self>, Vec<Fault>> {
        Self::start_with(compiled, None, workers, observer)
    }

    /// The same, with what the control plane says beside documents.
    ///
    /// # Errors
    /// As [`Shared::start`].
    pub fn start_with(
        compiled: Compiled,
        routing: Option<Routing>,
        workers: usize,
        observer: Arc<Observer>,
    ) -> Result<Arc<Self>, Vec<Fault>> {
        let snapshot = build(compiled, routing, None, None, workers)?;
        Ok(Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            changes: watch::Sender::new(1),
            phase: watch::Sender::new(Phase::Serving),
            workers,
            observer,
            open_connections: AtomicU64::new(0),
            inflight: Arc::new(InFlight::new(workers, inflight::CAPACITY)),
            good: Arc::default(),
            resolver: OnceLock::new(),
            discovery: OnceLock::new(),
            delivered: ArcSwapOption::empty(),
        }))
    }

    /// Applies a further configuration: all of it, or nothing.
    ///
    /// # Errors
    /// As [`Shared::start`]; what was in force stays in force.
    pub fn apply(&self, compiled: Compiled) -> Result<u64, Vec<Fault>> {
        self.apply_with(compiled, None)
    }

    /// The same, with what the control plane says beside documents.
    ///
    /// # Errors
    /// As [`Shared::start`]; what was in force stays in force.
    pub fn apply_with(&self, compiled: Compiled, routing: Option<Routing>) -> Result<u64, Vec<Fault>> {
        let delivered = self.delivered.load_full();
        let snapshot = build(compiled, routing, delivered.as_ref(), Some(&self.snapshot.load()), self.workers)?;
        let version = snapshot.version;
        self.snapshot.store(Arc::new(snapshot));
        self.changes.send_replace(version);
        Ok(version)
    }

    /// Takes over the identity that its source (a Workload API, the control plane) has delivered, or `None` when it
    /// has withdrawn it: handshakes fail from then on. No connection is closed. Only the control thread calls this.
    ///
    /// # Errors
    /// No contexts can be made with it, or it has expired and the one before has not; that one stays in force.
    pub fn deliver_identity(&self, identity: Option<Arc<Identity>>) -> Result<(), Vec<Fault>> {
        let old = self.snapshot.load_full();
        let tls = Arc::new(TlsContexts::load_keeping(&old.model, identity.as_ref(), Some(&old.tls))?);
        self.delivered.store(identity);
        let snapshot = Snapshot {
            version: old.version + 1,
            model: old.model.clone(),
            warnings: old.warnings.clone(),
            upstreams: old.upstreams.clone(),
            tls,
            listeners: old.listeners.clone(),
            applied: old.applied,
            routing: old.routing.clone(),
        };
        let version = snapshot.version;
        self.snapshot.store(Arc::new(snapshot));
        self.changes.send_replace(version);
        Ok(())
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Version of the snapshot in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.snapshot.load().version
    }

    /// Versions of snapshots, as they are applied.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Lets workers ask the control plane for destinations. Once, at the start.
    pub fn set_discovery(&self, discovery: Arc<Discovery>) {
        // A second one would be of a second control plane, which no process has.
        drop(self.discovery.set(discovery));
    }

    /// What the control plane says of destinations; `None`: the configuration is of files.
    #[must_use]
    pub fn discovery(&self) -> Option<&Arc<Discovery>> {
        self.discovery.get()
    }

    /// Lets workers ask for a name again ([`Shared::resolve_again`]). Once, at the start.
    pub fn set_resolver(&self, kicker: Kicker) {
        // A second one would be of a second resolver, which no process has.
        drop(self.resolver.set(kicker));
    }

    /// The endpoints of `upstream` do not answer: their names may stand for others by now.
    pub fn resolve_again(&self, upstream: &str) {
        if let Some(kicker) = self.resolver.get() {
            kicker.kick(upstream);
        }
    }

    /// The phase and its changes.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves on to `phase`; there is no way back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let on = phase > *now;
            if on {
                *now = phase;
            }
            on
        });
    }
}

fn build(
    compiled: Compiled,
    routing: Option<Routing>,
    delivered: Option<&Arc<Identity>>,
    old: Option<&Snapshot>,
    workers: usize,
) -> Result<Snapshot, Vec<Fault>> {
    let Compiled { model, warnings } = compiled;
    let mut faults = Vec::new();
    let mut listeners = Vec::new();
    for listener in &model.listeners {
        let kept =
            old.and_then(|o| o.listeners.iter().find(|b| b.name == listener.name && b.asked == listener.address));
        match kept.map_or_else(|| bind(listener, workers).map(Arc::new), |k| Ok(Arc::clone(k))) {
            Ok(bound) => listeners.push(bound),
            Err(e) => faults.push(Fault {
                origin: listener.origin.clone(),
                severity: Severity::Error,
                message: format!("listener {:?} cannot listen on {}: {e}", listener.name, listener.address),
            }),
        }
    }
    // A reload of files is refused with the file that cannot be read; the control plane has no say in files.
    let load = if routing.is_some() { TlsContexts::load_keeping } else { TlsContexts::load };
    let tls = match load(&model, delivered, old.map(|o| &*o.tls)) {
        Ok(tls) => Arc::new(tls),
        Err(more) => {
            faults.extend(more);
            return Err(faults);
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let upstreams = model
        .upstreams
        .iter()
        .map(|u| {
            let kept = old.and_then(|o| o.upstreams.iter().find(|s| s.config.name == u.name));
            match kept {
                Some(kept) if kept.config == *u => Arc::clone(kept),
                kept => Arc::new(UpstreamState::new(Arc::clone(u), workers, kept.map(|k| &**k))),
            }
        })
        .collect::<Vec<_>>();
    for state in &upstreams {
        // Before anybody sees the snapshot: a service that is new must not be without endpoints for a moment.
        if let Some(list) = routing.as_ref().and_then(|r| r.endpoints.get(&state.config.name)) {
            state.discovered(list, workers);
        }
    }
    let version = old.map_or(1, |o| o.version + 1);
    let routing = routing.map(Arc::new);
    Ok(Snapshot { version, model, warnings, upstreams, tls, listeners, applied: SystemTime::now(), routing })
}
