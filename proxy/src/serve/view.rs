//! A snapshot as one worker uses it: every handle that a request needs, resolved once.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use outrigger_config::{
    matching::normal::PathUse,
    model::{Direction, Listener, Model, Rule, TrafficPolicy, UpstreamId},
};

use super::connection::Client;
use crate::{
    correlate::Correlator,
    observe::{Counter, RouteObserver, WorkerObserver},
    shared::Snapshot,
    upstream::{Own, UpstreamView},
};

/// See the module.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Which headers carry the correlation identifier.
    pub correlator: Correlator,
    /// Counts the changes of what access is decided by, over all views of the worker.
    pub rulings: u64,
    /// Inbound requests are indexed for the outbound calls behind them: there are outbound listeners.
    pub indexes: bool,
    upstreams: Vec<Rc<UpstreamView>>,
    routes: Vec<Routes>,
    nowhere: [Rc<RouteObserver>; 2],
    /// What paths are for, by upstream: of inbound requests, and of outbound ones.
    path_uses: Vec<[PathUse; 2]>,
    /// Counters of what policies would have denied; as many as there are policies in observe mode.
    observed: RefCell<Vec<(Arc<str>, Arc<Counter>)>>,
}

/// Observers of the requests that address one upstream.
struct Routes {
    inbound: Cells,
    outbound: Cells,
}

/// Made when they are first asked for: by no rule first, then by each rule; there, without a backend
/// first, then by each backend.
type Cells = Vec<Vec<OnceCell<Rc<RouteObserver>>>>;

/// What was decided of a request when it came: the upstream that it addressed, and the rule that matched by its index
/// there. What it stands for is looked up in the view each time: holding it would count an `Arc` of all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The upstream.
    pub to: UpstreamId,
    /// The rule.
    pub rule: Option<u32>,
}

/// Where a request goes, as far as that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The upstream that was addressed.
    pub to: UpstreamId,
    /// Index of the rule among those of its routes.
    pub rule: Option<u32>,
    /// Index of the backend among those of the rule.
    pub backend: Option<u32>,
}

impl View {
    /// The view of `snapshot`; what `old` had and is unchanged is kept.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, observer: &Rc<WorkerObserver>, worker: usize, old: Option<&Self>) -> Self {
        let own = Rc::new(Own::of(&snapshot));
        let mut upstreams = Vec::new();
        let mut routes = Vec::new();
        for (index, state) in snapshot.upstreams.iter().enumerate() {
            let name = &state.config.name;
            let known = old.and_then(|o| o.upstreams.iter().find(|u| u.config.name == *name));
            let handle = known.map_or_else(|| observer.upstream(name), |k| Rc::clone(&k.observer));
            let id = UpstreamId(u32::try_from(index).expect("documents are bounded well below 2^32"));
            let tls = snapshot.tls.client(id).cloned();
            upstreams.push(Rc::new(UpstreamView::new(
                Arc::clone(state),
                (observer, handle),
                (tls, &snapshot.tls),
                worker,
                &own,
                known.map(|k| &**k),
            )));
            let cells = || {
                let rules = state.config.routes.rules.iter().map(|r| r.backends.len());
                std::iter::once(0).chain(rules).map(|n| (0..=n).map(|_| OnceCell::new()).collect()).collect()
            };
            routes.push(Routes { inbound: cells(), outbound: cells() });
        }
        let none: Arc<str> = "".into();
        let nowhere = |direction| observer.route(direction, &none, &none);
        let nowhere = [nowhere(Direction::Inbound), nowhere(Direction::Outbound)];
        let correlator = Correlator::new(&snapshot.model.proxy.correlation.headers);
        let indexes = snapshot.model.listeners.iter().any(|l| l.direction == Direction::Outbound);
        let model = &snapshot.model;
        let uses = |id| [Direction::Inbound, Direction::Outbound].map(|d| PathUse::of(model, d, id));
        let path_uses =
            (0..upstreams.len()).filter_map(|i| u32::try_from(i).ok()).map(|i| uses(UpstreamId(i))).collect();
        let rulings = old.map_or(0, |o| o.rulings + u64::from(!judges_alike(&o.snapshot, &snapshot)));
        let observed = RefCell::default();
        Self { snapshot, correlator, rulings, indexes, upstreams, routes, nowhere, path_uses, observed }
    }

    /// What the path of a request is for.
    #[must_use]
    pub fn path_use(&self, direction: Direction, id: UpstreamId) -> PathUse {
        self.path_uses[id.0 as usize][usize::from(direction == Direction::Outbound)]
    }

    /// A policy in observe mode would have denied something.
    pub fn observed(&self, worker: &WorkerObserver, policy: &Arc<str>) {
        let mut known = self.observed.borrow_mut();
        let at = known.iter().position(|(name, _)| name == policy).unwrap_or_else(|| {
            known.push((Arc::clone(policy), worker.observed(policy, "access_denied")));
            known.len() - 1
        });
        known[at].1.add(1);
    }

    /// Closes idle connections to endpoints that `new`, which stands in this one's place, does not have.
    pub fn retire(&self, new: &Self) {
        for upstream in &self.upstreams {
            let kept = new.upstreams.iter().find(|u| u.config.name == upstream.config.name);
            upstream.retire(kept.map(|k| &**k));
        }
    }

    /// The upstream behind `id`, which comes from this view's model.
    #[must_use]
    pub fn upstream(&self, id: UpstreamId) -> &Rc<UpstreamView> {
        &self.upstreams[id.0 as usize]
    }

    /// All of them.
    #[must_use]
    pub fn upstreams(&self) -> &[Rc<UpstreamView>] {
        &self.upstreams
    }

    /// The rule that was decided on.
    #[must_use]
    pub fn rule(&self, decided: Decided) -> Option<&Rule> {
        let rules = &self.upstream(decided.to).config.routes.rules;
        decided.rule.and_then(|r| rules.get(r as usize)).map(|rule| &**rule)
    }

    /// The policy for the request as a whole: the rule's, else the upstream's.
    #[must_use]
    pub fn policy(&self, decided: Decided) -> &Arc<TrafficPolicy> {
        self.rule(decided).map_or(&self.upstream(decided.to).config.policy, |rule| &rule.policy)
    }

    /// The listener at `index`, or the one called `name` where a reload has moved it. `None`: it is gone.
    #[must_use]
    pub fn listener(&self, index: usize, name: &str) -> Option<&Listener> {
        let listeners = &self.snapshot.model.listeners;
        let same = |l: &&Listener| std::ptr::eq(&*l.name, name) || &*l.name == name;
        listeners.get(index).filter(same).or_else(|| listeners.iter().find(|l| &*l.name == name))
    }

    /// The listener that stands for where the connection of `client` was going. `None`: it is gone, or nothing is let in there.
    #[must_use]
    pub fn listener_of(&self, client: &Client) -> Option<&Listener> {
        self.listener_for(self.listener(client.index, &client.listener)?, client.original)
    }

    /// The same, of a listener and where the client wanted to go.
    #[must_use]
    pub fn listener_for<'a>(&'a self, listener: &'a Listener, original: Option<SocketAddr>) -> Option<&'a Listener> {
        match (&self.snapshot.routing, original) {
            (Some(routing), Some(original)) if listener.direction == Direction::Inbound => {
                routing.inbound(original.port())
            }
            _ => Some(listener),
        }
    }

    /// The upstream that a request goes to: the backend's once it is chosen, until then the one addressed.
    #[must_use]
    pub fn goes_to(&self, way: Way) -> &Rc<UpstreamView> {
        let rules = &self.upstream(way.to).config.routes.rules;
        let rule = way.rule.and_then(|r| rules.get(r as usize));
        let backend = rule.zip(way.backend).and_then(|(rule, b)| rule.backends.get(b as usize));
        self.upstream(backend.map_or(way.to, |b| b.upstream))
    }

    /// The observer of requests that go this way; `None`: no upstream was found.
    #[must_use]
    pub fn observer(&self, worker: &WorkerObserver, direction: Direction, way: Option<Way>) -> &RouteObserver {
        let Some(way) = way else {
            return &self.nowhere[usize::from(direction == Direction::Outbound)];
        };
        let routes = &self.routes[way.to.0 as usize];
        let cells = if direction == Direction::Inbound { &routes.inbound } else { &routes.outbound };
        let cell = &cells[way.rule.map_or(0, |r| r as usize + 1)][way.backend.map_or(0, |b| b as usize + 1)];
        cell.get_or_init(|| {
            let rules = &self.upstream(way.to).config.routes.rules;
            let none: Arc<str> = "".into();
            let route = way.rule.map_or(&none, |r| &rules[r as usize].route);
            worker.route(direction, &self.goes_to(way).config.name, route)
        })
    }
}

/// True if both decide alike who may do what. What is the same here may still be decided otherwise later: only what is
/// open is judged by this.
fn judges_alike(old: &Snapshot, new: &Snapshot) -> bool {
    let listeners = |model: &Model| model.listeners.iter().map(|l| (l.name.clone(), l.mtls)).collect::<Vec<_>>();
    let guarded = |model: &Model| {
        let guarded = model.upstreams.iter().filter(|u| !u.access.is_empty());
        guarded.map(|u| (u.name.clone(), u.access.clone())).collect::<Vec<_>>()
    };
    let ports = |snapshot: &Snapshot| snapshot.routing.as_ref().map(|routing| routing.modes());
    listeners(&old.model) == listeners(&new.model)
        && guarded(&old.model) == guarded(&new.model)
        && ports(old) == ports(new)
}
