//! One worker's view of one upstream: endpoints, connections kept open, and the choice between them.
//!
//! Everything here belongs to one thread. Views are made anew for each snapshot; what is worth keeping
//! over a reload (connections, latencies) hangs on [`Endpoint`], and is carried over by address as long
//! as upstream, protocol and TLS are the same.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use outrigger_config::model::{self, EndpointSource};
use tokio::time::{Instant, timeout};

use crate::{
    clock,
    discovery::{Explicit, assemble, explicit},
    error::{Failure, Reason, Repeat},
    observe::{UpstreamObserver, WorkerObserver},
    policy::Target,
    shared::{BoundListener, EndpointSet, EndpointState, Resolution, Shared, Snapshot, UpstreamState},
    tls::{ClientContext, TlsContexts},
};

pub mod balance;
pub mod connect;
mod lease;
pub mod pool;
pub mod target;

pub use lease::Lease;
pub use pool::{H1Conn, H2Lease};
pub use target::TargetView;

use balance::{Ask, Balancer, Health};

/// How long a request waits for the first answer of a resolver, which gives up after five seconds.
const FIRST_ANSWER: Duration = Duration::from_secs(6);

/// See the module.
pub struct UpstreamView {
    /// What it was compiled from.
    pub config: Arc<model::Upstream>,
    /// State of its policy.
    pub target: Rc<TargetView>,
    /// State of the policies of its rules, by their index.
    pub rules: Vec<Rc<TargetView>>,
    /// Counters.
    pub observer: Rc<UpstreamObserver>,
    /// How its endpoints are dialled, if not in plaintext.
    pub tls: Option<Arc<ClientContext>>,
    /// The slot of this worker in shared state.
    pub worker: usize,
    state: Arc<UpstreamState>,
    endpoints: RefCell<Rc<Endpoints>>,
    /// Where this process listens.
    own: Rc<Own>,
    /// It is an ExternalName Service: whoever may write one in any namespace has chosen the name, and nobody that name's
    /// addresses. An Upstream document is of the pod's own configuration.
    external_name: bool,
    /// Endpoints that a connection was made for and that the source does not list.
    pins: RefCell<HashMap<SocketAddr, Rc<Endpoint>>>,
    /// For endpoints with an identity of their own.
    contexts: Arc<TlsContexts>,
}

/// Where this process listens.
#[derive(Debug, Default)]
pub struct Own {
    /// Every listener. A request may pass through several of them, and is counted as it does.
    pub listeners: Vec<SocketAddr>,
    /// Listeners of a pod that only redirection, or the app itself, leads to: what the proxy would send there comes back for
    /// ever, so it is not sent.
    pub refused: Vec<SocketAddr>,
    /// Of a pod whose app names its destinations to the proxy: what it may not name, and the addresses of the pod.
    explicit: Option<(Explicit, Vec<IpAddr>)>,
}

impl Own {
    /// Those of a snapshot. The addresses of a pod are where its listeners are that listen everywhere.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let listeners: Vec<_> = snapshot.listeners.iter().map(|l| l.local).collect();
        let Some(routing) = &snapshot.routing else { return Self { listeners, ..Self::default() } };
        let refused = snapshot
            .listeners
            .iter()
            .filter(|bound| Self::leads_back(snapshot, bound))
            .flat_map(|bound| {
                let everywhere = bound.local.ip().is_unspecified();
                let ips = routing.own_ips().iter().filter(move |_| everywhere);
                let at_each = ips.map(|ip| SocketAddr::new(*ip, bound.local.port()));
                std::iter::once(bound.local).chain(at_each)
            })
            .collect();
        let explicit = &routing.explicit;
        let names = explicit.proxy || !explicit.outbound.is_empty();
        let explicit = names.then(|| (explicit.clone(), routing.own_ips().to_vec()));
        Self { listeners, refused, explicit }
    }

    /// Whether what is sent to this listener of a pod comes back for ever. Not so with one that stands before the app: the app
    /// is behind it.
    #[must_use]
    pub fn leads_back(snapshot: &Snapshot, bound: &BoundListener) -> bool {
        let before_app = snapshot.routing.as_ref().is_some_and(|r| r.explicit.moved(&bound.name).is_some());
        !before_app
            && snapshot
                .model
                .listeners
                .iter()
                .any(|l| l.name == bound.name && (l.original_destination || l.direction == model::Direction::Outbound))
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|own| leads_to(address, *own))
    }

    fn refuses(&self, address: SocketAddr) -> bool {
        self.refused.iter().any(|own| leads_to(address, *own))
    }

    /// Whether an app that names its destinations may not name this one.
    fn forbids(&self, address: SocketAddr) -> bool {
        self.explicit.as_ref().is_some_and(|(explicit, ips)| !explicit.allows(address, ips))
    }
}

/// The endpoints as this worker last saw them.
struct Endpoints {
    set: Arc<EndpointSet>,
    list: Vec<Rc<Endpoint>>,
    balancer: Rc<Balancer>,
}

impl Endpoints {
    /// Endpoints of `old` that are still there keep their connections and latencies. A balancer is kept while
    /// nothing has changed: names are resolved again all the time, mostly to the same addresses.
    fn new(set: Arc<EndpointSet>, policy: &model::LoadBalancing, worker: usize, old: Option<&Self>, own: &Own) -> Self {
        let list = list(&set, old, worker, own);
        let same = |old: &&Self| old.balancer.policy() == policy && same_endpoints(&old.list, &list);
        let balancer = old.filter(same).map_or_else(
            || {
                let seed = balance::maglev::mix(u64::try_from(worker).unwrap_or(0));
                Rc::new(Balancer::new(policy, &list, balance::zone::own().map(|z| &**z), seed))
            },
            |old| Rc::clone(&old.balancer),
        );
        Self { set, list, balancer }
    }
}

impl Endpoints {
    /// Lets go of those that `new` does not have.
    fn retire(&self, new: Option<&Self>) {
        let gone = |e: &&Rc<Endpoint>| !new.is_some_and(|n| n.list.iter().any(|k| Rc::ptr_eq(k, e)));
        self.list.iter().filter(gone).for_each(|e| e.retire());
    }
}

/// One endpoint and this worker's connections to it.
pub struct Endpoint {
    /// Address, weight, zone.
    pub state: Arc<EndpointState>,
    /// Connections without a request. In boxes: one is taken out and put back for each request.
    pub idle: RefCell<Vec<Box<H1Conn>>>,
    /// HTTP/2 connections.
    pub h2: pool::H2Pool,
    /// Latency and load, for the balancer.
    pub load: balance::Load,
    /// How long a connection may have been idle to carry what must not be sent twice.
    pub patience: pool::Patience,
    /// Its breakers.
    pub breakers: target::Breakers,
    /// It is a listener of this process: what goes there may come back.
    pub own: Cell<bool>,
    /// Its upstream lists it no more: nothing is kept open to it.
    retired: Cell<bool>,
    worker: usize,
}

impl Endpoint {
    fn new(state: Arc<EndpointState>, worker: usize) -> Self {
        Self {
            state,
            idle: RefCell::default(),
            h2: pool::H2Pool::default(),
            load: balance::Load::default(),
            patience: pool::Patience::default(),
            breakers: target::Breakers::default(),
            own: Cell::new(false),
            retired: Cell::new(false),
            worker,
        }
    }

    /// Closes what is idle. What is in use ends with its request, which may be long after this.
    fn retire(&self) {
        self.retired.set(true);
        let idle = self.idle.take();
        drop(idle);
        self.h2.retire();
    }

    /// This worker's slot of what all threads may read.
    #[must_use]
    pub fn slot(&self) -> &crate::shared::WorkerSlot {
        &self.state.workers[self.worker]
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.state.config.address
    }
}

impl balance::Target for Rc<Endpoint> {
    fn config(&self) -> &model::Endpoint {
        &self.state.config
    }

    fn load(&self) -> &balance::Load {
        &self.load
    }

    fn presence(&self) -> &balance::Presence {
        &self.state.presence
    }
}

impl UpstreamView {
    /// A view of `state`; connections and latencies of `old` are kept where they still fit.
    #[must_use]
    pub fn new(
        state: Arc<UpstreamState>,
        observers: (&Rc<WorkerObserver>, Rc<UpstreamObserver>),
        (tls, contexts): (Option<Arc<ClientContext>>, &Arc<TlsContexts>),
        worker: usize,
        own: &Rc<Own>,
        old: Option<&Self>,
    ) -> Self {
        let (worker_observer, observer) = observers;
        let config = Arc::clone(&state.config);
        let view = |t: &Arc<Target>| Rc::new(TargetView::new(t, &config.name, worker_observer, worker));
        let target = view(&state.target);
        let rules = state.rules.iter();
        let rules = rules.map(|t| if Arc::ptr_eq(t, &state.target) { Rc::clone(&target) } else { view(t) }).collect();
        let fits = |o: &&Self| {
            o.config.tls == config.tls && o.config.protocol == config.protocol && same(o.tls.as_ref(), tls.as_ref())
        };
        let old = old.filter(fits);
        let known = old.map(|o| Rc::clone(&o.endpoints.borrow()));
        let pins = old.map(|o| o.pins.clone()).unwrap_or_default();
        let set = state.endpoints().load_full();
        let endpoints = Endpoints::new(set, &config.policy.load_balancing, worker, known.as_deref(), own);
        let endpoints = RefCell::new(Rc::new(endpoints));
        let contexts = Arc::clone(contexts);
        let external_name = assemble::is_external_name(&config);
        Self {
            config,
            target,
            rules,
            observer,
            tls,
            worker,
            state,
            endpoints,
            own: Rc::clone(own),
            external_name,
            pins,
            contexts,
        }
    }

    /// Chooses an endpoint for a request that is under `targets` and has failed at `tried`. Endpoints that a
    /// breaker has ejected are used only where too many are.
    ///
    /// # Errors
    /// There is none.
    pub fn pick(
        &self,
        targets: &[Option<Rc<TargetView>>],
        tried: &[Rc<Endpoint>],
        hash: u64,
        rng: &mut fastrand::Rng,
    ) -> Result<Rc<Endpoint>, Failure> {
        self.refresh();
        let endpoints = self.endpoints.borrow();
        let Endpoints { list, balancer, set, .. } = &**endpoints;
        let max_ejected_percent = self.config.policy.circuit_breaker.as_ref().map_or(100, |b| b.max_ejected_percent);
        let ask = Ask { now: clock::now(), hash, max_ejected_percent };
        let health = |endpoint: &Rc<Endpoint>| {
            let worse = |a, b| match (a, b) {
                (Health::Ejected, _) | (_, Health::Ejected) => Health::Ejected,
                (Health::Probe, _) | (_, Health::Probe) => Health::Probe,
                _ => Health::Ready,
            };
            targets.iter().flatten().map(|t| t.health(endpoint, list.len(), ask.now)).fold(Health::Ready, worse)
        };
        let failed = |endpoint: &Rc<Endpoint>| tried.iter().any(|t| Rc::ptr_eq(t, endpoint));
        let choice = balancer.pick(list, &ask, rng, health, failed);
        choice.map(|choice| Rc::clone(&list[choice.index])).ok_or_else(|| self.unavailable(set))
    }

    /// Whether its name became known with the request and is not resolved yet: under a control plane destinations come
    /// when they are called first. With files, readiness has waited for it.
    #[must_use]
    pub fn is_new(&self, shared: &Shared) -> bool {
        matches!(self.config.source, EndpointSource::Dns { .. } | EndpointSource::Srv { .. })
            && shared.discovery().is_some()
            && self.state.endpoints().load().resolution == Resolution::Pending
    }

    /// Waits for the first answer of the resolver, good or bad.
    pub async fn settle(&self, shared: &Shared) {
        let mut answered = self.state.answered();
        if !matches!(timeout(FIRST_ANSWER, answered.wait_for(|answered| *answered)).await, Ok(Ok(_))) {
            return;
        }
        // Another configuration may have come meanwhile, and the answer to its state.
        let same = |u: &&Arc<UpstreamState>| u.config.name == self.config.name && u.config.source == self.config.source;
        if let Some(newer) = shared.snapshot().upstreams.iter().find(same).filter(|_| self.is_new(shared)) {
            self.state.adopt(newer);
        }
    }

    /// The endpoint that a connection was made for, whether it is listed or not.
    pub fn pinned(&self, config: &model::Endpoint) -> Rc<Endpoint> {
        self.refresh();
        let same = |e: &&Rc<Endpoint>| e.state.config.address == config.address;
        if let Some(known) = self.pins.borrow().get(&config.address).filter(|e| e.state.config == *config) {
            return Rc::clone(known);
        }
        if let Some(listed) = self.endpoints.borrow().list.iter().find(same) {
            return Rc::clone(listed);
        }
        // Its state is this worker's alone; the slots before are nobody's.
        let state = EndpointState::alone(config.clone(), self.worker + 1);
        let endpoint = Rc::new(Endpoint::new(state, self.worker));
        endpoint.own.set(self.own.has(config.address));
        let mut pins = self.pins.borrow_mut();
        if pins.len() >= MAX_PINS {
            pins.retain(|_, e| Rc::strong_count(e) > 1);
        }
        if pins.len() < MAX_PINS
            && let Some(replaced) = pins.insert(config.address, Rc::clone(&endpoint))
        {
            replaced.retire();
        }
        endpoint
    }

    /// Whether a connection to `address` may be made at all.
    ///
    /// # Errors
    /// It would come back to this proxy, and go there again. Or an app that names its destinations has named what resolves to
    /// the pod itself; another address of that name may do.
    pub fn leads_out(&self, address: SocketAddr) -> Result<(), Failure> {
        if self.external_name && self.own.forbids(address) {
            return Err(Failure::new(Reason::AccessDenied, explicit::FORBIDDEN).repeat(Repeat::Unprocessed));
        }
        if !self.own.refuses(address) {
            return Ok(());
        }
        let details = format!("upstream {} is at {address}, where this proxy itself listens", self.config.name);
        Err(Failure::new(Reason::ProxyLoopDetected, details))
    }

    /// How `endpoint` is dialled, if not in plaintext: as itself demands, else as all of the upstream.
    ///
    /// # Errors
    /// It must prove an identity, and we have none to show.
    pub fn tls_to(&self, endpoint: &Endpoint) -> Result<Option<Arc<ClientContext>>, Failure> {
        match &endpoint.state.config.identity {
            Some(identity) => self.contexts.endpoint(identity).map(Some),
            None => Ok(self.tls.clone()),
        }
    }

    /// Closes idle connections to endpoints that `new`, which stands in this one's place, does not have. Nobody
    /// would sweep them, as long as a request or client connection from before keeps this view.
    pub fn retire(&self, new: Option<&Self>) {
        let kept = new.map(|n| Rc::clone(&n.endpoints.borrow()));
        self.endpoints.borrow().retire(kept.as_deref());
        let kept = |pin: &Rc<Endpoint>| new.is_some_and(|n| n.pins.borrow().values().any(|k| Rc::ptr_eq(k, pin)));
        self.pins.borrow().values().filter(|pin| !kept(pin)).for_each(|pin| pin.retire());
    }

    /// Takes note of endpoints that were resolved since the last look.
    fn refresh(&self) {
        let now = self.state.endpoints().load();
        if Arc::as_ptr(&now) != Arc::as_ptr(&self.endpoints.borrow().set) {
            let set = Arc::clone(&now);
            let policy = &self.config.policy.load_balancing;
            let endpoints = Endpoints::new(set, policy, self.worker, Some(&self.endpoints.borrow()), &self.own);
            let new = Rc::new(endpoints);
            let old = self.endpoints.replace(Rc::clone(&new));
            old.retire(Some(&new));
        }
    }

    fn unavailable(&self, set: &EndpointSet) -> Failure {
        let name = &self.config.name;
        match &set.resolution {
            Resolution::Failed { reason, details, .. } => {
                Failure::new(*reason, format!("the name of upstream {name} could not be resolved: {details}"))
            }
            Resolution::Pending => {
                Failure::new(Reason::DnsTimeout, format!("the name of upstream {name} is not resolved yet"))
            }
            Resolution::Resolved { .. } if set.endpoints.is_empty() => Failure::new(
                Reason::DestinationUnavailable,
                format!("the name of upstream {name} resolves to no address"),
            ),
            Resolution::Static | Resolution::Resolved { .. } | Resolution::Discovered { .. } => Failure::new(
                Reason::DestinationUnavailable,
                format!("upstream {name} has no endpoint that takes requests"),
            ),
        }
    }

    /// Closes the connection that has been without a request for the longest, so that another one can take
    /// its place. False if there is none.
    pub fn close_idle(&self) -> bool {
        let endpoints = Rc::clone(&self.endpoints.borrow());
        // The first of a stack is the one that was put there first.
        let oldest = endpoints.list.iter().filter_map(|e| Some((e.idle.borrow().first()?.idle_since(), e)));
        if let Some((_, endpoint)) = oldest.min_by_key(|(since, _)| *since) {
            drop(endpoint.idle.borrow_mut().remove(0));
            return true;
        }
        endpoints.list.iter().any(|endpoint| endpoint.h2.close_idle())
    }

    /// Closes connections that have been idle for too long or that their server has closed.
    pub fn sweep(&self, now: Instant) {
        // Who waits for a connection may do so on another worker, which cannot close ours.
        if self.target.connections.gate().is_contended() {
            while self.close_idle() {}
        }
        let limit = self.config.policy.timeouts.upstream_idle;
        let mut pins = self.pins.borrow_mut();
        for endpoint in self.endpoints.borrow().list.iter().chain(pins.values()) {
            endpoint.idle.borrow_mut().retain(|c| !c.expired(now, limit) && !c.io.is_stale());
            endpoint.h2.sweep(now, limit.map(|l| l.max(H2_IDLE)));
        }
        pins.retain(|_, e| Rc::strong_count(e) > 1 || e.slot().connections.load(Ordering::Relaxed) > 0);
    }
}

/// Endpoints of one upstream and worker that no source lists and that are remembered, with their connections. Beyond it
/// connections to more of them are made and not kept.
const MAX_PINS: usize = 1024;

/// HTTP/2 says when it closes (GOAWAY), so an idle connection is no risk and is kept for longer.
const H2_IDLE: Duration = Duration::from_secs(60);

/// True if a connection to `address` arrives at the listener at `listener`.
fn leads_to(address: SocketAddr, listener: SocketAddr) -> bool {
    let (ip, own) = (address.ip().to_canonical(), listener.ip().to_canonical());
    let any = own.is_unspecified() && ip.is_loopback();
    // A connection to no address at all (0.0.0.0, ::) is one to loopback.
    let here = ip.is_unspecified() && (own.is_unspecified() || own.is_loopback());
    address.port() == listener.port() && (any || here || ip == own)
}

fn same(a: Option<&Arc<ClientContext>>, b: Option<&Arc<ClientContext>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn same_endpoints(a: &[Rc<Endpoint>], b: &[Rc<Endpoint>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Rc::ptr_eq(a, b))
}

fn list(set: &Arc<EndpointSet>, old: Option<&Endpoints>, worker: usize, own: &Own) -> Vec<Rc<Endpoint>> {
    set.endpoints
        .iter()
        .map(|state| {
            let kept = old.and_then(|o| o.list.iter().find(|e| e.state.config.address == state.config.address));
            let endpoint = match kept {
                Some(kept) if Arc::ptr_eq(&kept.state, state) => Rc::clone(kept),
                _ => Rc::new(Endpoint::new(Arc::clone(state), worker)),
            };
            endpoint.own.set(own.has(endpoint.address()));
            endpoint
        })
        .collect()
}
