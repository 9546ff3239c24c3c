//! Retries, as a policy says them and as a route lays its own over them.

use std::time::Duration as StdDuration;

use crate::{
    compile::Context,
    documents::{BudgetSpec, RetryMethodsSpec, RetrySpec, RouteRetry, Spanned},
    load::Loaded,
    model::{Retry, RetryBudget, RetryMethods},
};

impl Context<'_> {
    pub(super) fn retry(&mut self, at: &Loaded, spec: &RetrySpec) -> Retry {
        let default = Retry::default();
        let neither = spec.codes.is_empty() && spec.grpc_codes.is_empty();
        let (base, max) = spec.backoff.as_ref().map_or((None, None), |b| (b.base.as_ref(), b.max.as_ref()));
        let backoff_base = base.map_or(default.backoff_base, |d| d.inner.0);
        let backoff_max = max.map_or(backoff_base.saturating_mul(10), |d| d.inner.0);
        let known = base.is_some() || !spec.backoff.as_ref().is_some_and(|b| at.may_have(b.mark, &["base"]));
        if let Some(mark) = max.map(|d| d.mark).filter(|_| backoff_max < backoff_base && known) {
            self.fault(at, mark, "`max` is shorter than `base`");
        }
        Retry {
            attempts: spec.attempts.as_ref().map_or(default.attempts, |n| n.inner),
            codes: if neither { default.codes } else { spec.codes.iter().map(|c| c.inner).collect() },
            grpc_codes: if neither { default.grpc_codes } else { spec.grpc_codes.iter().map(|c| c.number()).collect() },
            methods: match &spec.methods {
                None | Some(RetryMethodsSpec::Word(_)) => RetryMethods::Idempotent,
                // The checker has passed them.
                Some(RetryMethodsSpec::List(methods)) => {
                    RetryMethods::List(methods.iter().filter_map(|m| m.parse().ok()).collect())
                }
            },
            backoff_base,
            backoff_max,
            budget: self.budget(at, spec.budget.as_ref(), default.budget),
            max_body_bytes: spec.max_body_bytes.unwrap_or(default.max_body_bytes),
        }
    }

    fn budget(&mut self, at: &Loaded, spec: Option<&Spanned<BudgetSpec>>, default: RetryBudget) -> RetryBudget {
        let Some(spec) = spec else { return default };
        let interval = spec.interval.as_ref().map_or(default.interval, |d| d.inner.0);
        let bounds = StdDuration::from_secs(1)..=StdDuration::from_secs(3600);
        if let Some(said) = spec.interval.as_ref().filter(|_| !bounds.contains(&interval)) {
            self.fault(at, said.mark, format!("`{}` is not from 1s to 1h (GEP-3388)", said.inner));
        }
        let (count, per) = spec.min_retry_rate.as_ref().map_or((None, None), |r| (r.count, r.interval.as_ref()));
        RetryBudget {
            percent: spec.percent.unwrap_or(default.percent),
            interval,
            min_count: count.unwrap_or(default.min_count),
            min_interval: self.positive(at, per, default.min_interval),
        }
    }
}

/// What a route's own `retry` makes of the policy's (GEP-1731): the route's words win, the rest stays.
pub(super) fn overlay(below: Option<Retry>, route: &RouteRetry) -> Retry {
    let mut retry = below.unwrap_or_default();
    if let Some(attempts) = &route.attempts {
        retry.attempts = attempts.inner;
    }
    if !route.codes.is_empty() {
        retry.codes = route.codes.iter().map(|c| c.inner).collect();
    }
    if let Some(backoff) = &route.backoff {
        retry.backoff_base = backoff.inner.0;
        retry.backoff_max = backoff.inner.0.saturating_mul(10);
    }
    retry
}
