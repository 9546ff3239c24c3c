//! What a policy targets, an upstream or a rule, with all state that the policy has there. One per proxy.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use outrigger_config::model::TrafficPolicy;
use tokio::time::Instant;

use super::{PolicyState, breaker::Breaker};

/// See the module.
pub struct Target {
    /// Everything but the breakers of endpoints.
    pub state: PolicyState,
    /// Of the endpoints that were used; as many as the upstream has had endpoints since the last
    /// [`Target::retain`].
    breakers: Mutex<HashMap<SocketAddr, Arc<Breaker>>>,
}

impl Target {
    /// Fresh state.
    #[must_use]
    pub fn new(policy: &Arc<TrafficPolicy>, workers: usize, now: Instant) -> Self {
        Self { state: PolicyState::new(Arc::clone(policy), workers, now), breakers: Mutex::default() }
    }

    /// The same target under `policy`: what is configured as before goes on as it was.
    #[must_use]
    pub fn renewed(&self, policy: &Arc<TrafficPolicy>, now: Instant) -> Self {
        let state = self.state.renewed(policy, now);
        let kept = if state.keeps_breakers(&self.state) { self.lock().clone() } else { HashMap::new() };
        Self { state, breakers: Mutex::new(kept) }
    }

    /// The breaker of the endpoint at `address`, with `scope: endpoint`.
    #[must_use]
    pub fn breaker(&self, address: SocketAddr, now: Instant) -> Option<Arc<Breaker>> {
        self.state.ejections.as_ref()?;
        let mut breakers = self.lock();
        if let Some(known) = breakers.get(&address) {
            return Some(Arc::clone(known));
        }
        let made = self.state.endpoint_breaker(now)?;
        breakers.insert(address, Arc::clone(&made));
        Some(made)
    }

    /// The breaker of that endpoint, if it was ever used.
    #[must_use]
    pub fn known_breaker(&self, address: SocketAddr) -> Option<Arc<Breaker>> {
        self.lock().get(&address).map(Arc::clone)
    }

    /// Forgets endpoints that are no longer listed.
    pub fn retain(&self, listed: impl Fn(&SocketAddr) -> bool) {
        self.lock().retain(|address, _| listed(address));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Breaker>>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
