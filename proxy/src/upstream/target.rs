//! One worker's view of a policy's target: the shared state, and the handles that go with it.
//!
//! Views are shared by `Rc`: the counts of the `Arc`s inside are cache lines of all workers, and no request
//! touches them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use outrigger_config::model::{Mode, TrafficPolicy};
use tokio::time::Instant;

use super::{Endpoint, balance::Health};
use crate::{
    observe::{Circuit, CircuitState, Counter, WorkerObserver},
    policy::{
        Target,
        breaker::{Admit, Breaker, Eligible, Permit, Standing, State},
        limits::Door,
        observe::Action,
        retry::Ended,
    },
};

/// Breakers that an endpoint remembers, of all targets it was used under. More than the policies that a
/// request can meet there twice; the oldest goes.
const REMEMBERED: usize = 8;

/// See the module.
pub struct TargetView {
    /// The shared state.
    pub target: Arc<Target>,
    /// The way to its limit on requests.
    pub requests: Rc<Door>,
    /// The way to its limit on connections.
    pub connections: Rc<Door>,
    breaker: Option<Rc<Local>>,
    circuit: Option<Arc<Circuit>>,
    observed: RefCell<Vec<(Action, Arc<Counter>)>>,
    observer: Rc<WorkerObserver>,
    worker: usize,
}

/// The breakers of one endpoint, by the target that they belong to.
#[derive(Default)]
pub struct Breakers(RefCell<Vec<Known>>);

struct Known {
    /// Held, so that no other target can have its address.
    target: Arc<Target>,
    breaker: Rc<Local>,
}

/// A breaker as one worker holds it: counted by the worker alone.
struct Local(Arc<Breaker>);

/// A leave to go ahead, to be given back with what came of it.
pub struct Leave {
    view: Rc<TargetView>,
    breaker: Rc<Local>,
    permit: Cell<Option<Permit>>,
}

impl TargetView {
    /// A view of `target`, whose metrics carry the name `upstream`.
    #[must_use]
    pub fn new(target: &Arc<Target>, upstream: &Arc<str>, observer: &Rc<WorkerObserver>, worker: usize) -> Self {
        let state = &target.state;
        let scope = match (&state.breaker, &state.ejections) {
            (Some(_), _) => Some("upstream"),
            (None, Some(_)) => Some("endpoint"),
            (None, None) => None,
        };
        Self {
            target: Arc::clone(target),
            requests: state.bulkhead.requests.door(worker),
            connections: state.bulkhead.connections.door(worker),
            breaker: state.breaker.as_ref().map(|b| Rc::new(Local(Arc::clone(b)))),
            circuit: scope.map(|scope| observer.circuit(upstream, scope)),
            observed: RefCell::default(),
            observer: Rc::clone(observer),
            worker,
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<TrafficPolicy> {
        self.target.state.policy()
    }

    /// True if `action` is to be done; in observe mode it is counted instead.
    #[must_use]
    pub fn acts(&self, action: Action) -> bool {
        crate::policy::observe::acts(self.policy().mode, action, |action| self.would(action))
    }

    /// Counts what an observed policy would have done.
    pub fn would(&self, action: Action) {
        let mut observed = self.observed.borrow_mut();
        let counter = match observed.iter().position(|(a, _)| *a == action) {
            Some(index) => &observed[index].1,
            None => {
                let counter = self.observer.observed(&self.policy().name, action.as_str());
                observed.push((action, counter));
                &observed[observed.len() - 1].1
            }
        };
        counter.add(1);
    }

    /// Asks the breaker of the whole upstream (or rule).
    ///
    /// # Errors
    /// It is open: for so long.
    pub fn ask(self: &Rc<Self>, now: Instant) -> Result<Option<Leave>, std::time::Duration> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        let answer = breaker.0.admit(now);
        self.changed(answer.transition());
        if let Admit::Refuse { retry_after, .. } = &answer {
            let refuse = self.acts(Action::Refuse(crate::error::Reason::CircuitOpen));
            return if refuse { Err(*retry_after) } else { Ok(None) };
        }
        Ok(answer.permit().map(|permit| self.leave(breaker, permit)))
    }

    /// Asks the breaker of one endpoint. Endpoints that are out are used all the same in a panic.
    #[must_use]
    pub fn ask_endpoint(self: &Rc<Self>, endpoint: &Endpoint, now: Instant) -> Option<Leave> {
        let breaker = self.of(endpoint, now)?;
        let answer = breaker.0.admit(now);
        self.changed(answer.transition());
        answer.permit().map(|permit| self.leave(&breaker, permit))
    }

    /// What the breakers say of `endpoint`, one of `of`.
    #[must_use]
    pub fn health(&self, endpoint: &Endpoint, of: usize, now: Instant) -> Health {
        let Some(ejections) = &self.target.state.ejections else { return Health::Ready };
        if ejections.standing(of) != Standing::SomeOut {
            return Health::Ready;
        }
        let eligible = self.of(endpoint, now).map_or(Eligible::Yes, |b| b.0.eligible(now));
        match eligible {
            Eligible::Yes => Health::Ready,
            _ if self.policy().mode == Mode::Observe => Health::Ready,
            Eligible::Probe => Health::Probe,
            Eligible::No => Health::Ejected,
        }
    }

    fn leave(self: &Rc<Self>, breaker: &Rc<Local>, permit: Permit) -> Leave {
        Leave { view: Rc::clone(self), breaker: Rc::clone(breaker), permit: Cell::new(Some(permit)) }
    }

    fn of(&self, endpoint: &Endpoint, now: Instant) -> Option<Rc<Local>> {
        self.target.state.ejections.as_ref()?;
        let mut known = endpoint.breakers.0.borrow_mut();
        if let Some(known) = known.iter().find(|k| Arc::ptr_eq(&k.target, &self.target)) {
            return Some(Rc::clone(&known.breaker));
        }
        let breaker = Rc::new(Local(self.target.breaker(endpoint.address(), now)?));
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push(Known { target: Arc::clone(&self.target), breaker: Rc::clone(&breaker) });
        Some(breaker)
    }

    fn changed(&self, to: Option<State>) {
        let (Some(to), Some(circuit)) = (to, &self.circuit) else { return };
        let to = match to {
            State::Closed => CircuitState::Closed,
            State::HalfOpen => CircuitState::HalfOpen,
            State::Open => CircuitState::Open,
        };
        circuit.set(to);
        if to == CircuitState::Open && self.target.state.ejections.is_some() && self.policy().mode == Mode::Observe {
            self.would(Action::Eject);
        }
    }
}

impl Leave {
    /// Gives it back with the verdict on what came of it; without one, it is as if it had not been taken.
    pub fn end(&self, ended: Ended<'_>, now: Instant) {
        let Some(permit) = self.permit.take() else { return };
        if let Some(ok) = crate::policy::breaker::verdict(ended) {
            self.view.changed(self.breaker.0.record(permit, self.view.worker, ok, now));
        }
    }
}
