//! All policy state of one target (an upstream, or a rule with a policy of its own), one per proxy.
//!
//! [`PolicyState::renewed`] carries it over a reload part by part: what is configured as before goes on
//! where it was, open breakers and spent budgets included; limits are resized with what is in flight.

use std::{hash::RandomState, sync::Arc};

use outrigger_config::model::{BreakerScope, Retry, RetryBudget, TrafficPolicy};
use tokio::time::Instant;

use super::{
    adaptive::Adaptive,
    breaker::{Breaker, Ejections},
    limits::Bulkhead,
    rate_limit::RateLimiter,
    retry::Budget,
};

/// See the module.
pub struct PolicyState {
    policy: Arc<TrafficPolicy>,
    workers: usize,
    /// Connections and requests.
    pub bulkhead: Arc<Bulkhead>,
    /// With `scope: upstream`.
    pub breaker: Option<Arc<Breaker>>,
    /// With `scope: endpoint`; the breakers hang on the endpoints, [`PolicyState::endpoint_breaker`] makes them.
    pub ejections: Option<Arc<Ejections>>,
    /// With `rateLimit`.
    pub rate_limit: Option<Arc<RateLimiter>>,
    /// With `adaptiveConcurrency`.
    pub adaptive: Option<Arc<Adaptive>>,
    /// Always there: what is repeated without a policy has a budget too.
    pub budget: Arc<Budget>,
}

impl PolicyState {
    /// Fresh state.
    #[must_use]
    pub fn new(policy: Arc<TrafficPolicy>, workers: usize, now: Instant) -> Self {
        let breaker = policy.circuit_breaker.as_ref();
        Self {
            workers,
            bulkhead: Arc::new(Bulkhead::new(&policy.limits, workers)),
            breaker: breaker.filter(|b| b.scope == BreakerScope::Upstream).map(|b| Breaker::new(b, workers, None, now)),
            ejections: breaker
                .filter(|b| b.scope == BreakerScope::Endpoint)
                .map(|b| Arc::new(Ejections::new(b.max_ejected_percent))),
            rate_limit: policy.rate_limit.as_ref().map(|r| Arc::new(RateLimiter::new(r, RandomState::new(), now))),
            adaptive: policy.adaptive_concurrency.as_ref().map(|a| Adaptive::new(a, now)),
            budget: Arc::new(Budget::new(&budget(&policy), workers, now)),
            policy,
        }
    }

    /// The state under `policy`: parts that are configured as before are kept.
    #[must_use]
    pub fn renewed(&self, policy: &Arc<TrafficPolicy>, now: Instant) -> Self {
        let old = &self.policy;
        let mut new = Self::new(Arc::clone(policy), self.workers, now);
        new.bulkhead = Arc::clone(&self.bulkhead);
        if old.limits != policy.limits {
            new.bulkhead.resize(&policy.limits);
        }
        if old.circuit_breaker == policy.circuit_breaker {
            new.breaker.clone_from(&self.breaker);
            new.ejections.clone_from(&self.ejections);
        }
        if old.rate_limit == policy.rate_limit {
            new.rate_limit.clone_from(&self.rate_limit);
        }
        if old.adaptive_concurrency == policy.adaptive_concurrency {
            new.adaptive.clone_from(&self.adaptive);
        }
        if budget(old) == budget(policy) {
            new.budget = Arc::clone(&self.budget);
        }
        new
    }

    /// What it was made for.
    #[must_use]
    pub fn policy(&self) -> &Arc<TrafficPolicy> {
        &self.policy
    }

    /// The breaker of one endpoint, with `scope: endpoint`. Keep it as long as the endpoint is listed and
    /// [`PolicyState::keeps_breakers`] says that it still fits.
    #[must_use]
    pub fn endpoint_breaker(&self, now: Instant) -> Option<Arc<Breaker>> {
        let ejections = Arc::clone(self.ejections.as_ref()?);
        let config = self.policy.circuit_breaker.as_ref()?;
        Some(Breaker::new(config, self.workers, Some(ejections), now))
    }

    /// True if endpoint breakers made under `old` go on under this.
    #[must_use]
    pub fn keeps_breakers(&self, old: &Self) -> bool {
        match (&self.ejections, &old.ejections) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            _ => false,
        }
    }
}

fn budget(policy: &TrafficPolicy) -> RetryBudget {
    policy.retry.as_ref().map_or_else(|| Retry::default().budget, |r| r.budget.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_config::model::{CircuitBreaker, Limits};

    use super::*;
    use crate::policy::{
        breaker::State,
        limits::{Enter, Seen},
    };

    fn policy(max_requests: u32) -> TrafficPolicy {
        TrafficPolicy {
            circuit_breaker: Some(CircuitBreaker {
                scope: BreakerScope::Upstream,
                consecutive_failures: Some(1),
                failure_rate: None,
                open_base: Duration::from_secs(5),
                open_max: Duration::from_secs(60),
                half_open_probes: 1,
                max_ejected_percent: 50,
            }),
            limits: Limits { max_requests, ..Limits::default() },
            ..TrafficPolicy::default()
        }
    }

    #[test]
    fn a_reload_keeps_an_open_breaker_and_what_is_in_flight() {
        let now = Instant::now();
        let old = PolicyState::new(Arc::new(policy(1)), 2, now);
        let breaker = old.breaker.clone().expect("configured");
        let permit = breaker.admit(now).permit().expect("closed");
        assert_eq!(breaker.record(permit, 0, false, now), Some(State::Open));
        let Enter::Go(held) = old.bulkhead.requests.door(0).enter(now, None) else { panic!("room") };
        let new = old.renewed(&Arc::new(policy(2)), now);
        assert_eq!(new.breaker.as_ref().map(|b| b.state()), Some(State::Open));
        assert_eq!(new.bulkhead.requests.view().in_flight, 1);
        assert_eq!(new.bulkhead.requests.door(0).watch().1, Seen::Go);
        assert!(Arc::ptr_eq(&new.budget, &old.budget));
        drop(held);
        assert_eq!(new.bulkhead.requests.view().in_flight, 0);
    }
}
