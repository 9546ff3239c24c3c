//! What the policies of a request cost, one by one: each is asked once or twice per request.

use std::{hash::RandomState, hint::black_box, net::Ipv4Addr, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger_config::model::{BreakerScope, CircuitBreaker, FailureRate, RateLimit, RateLimitKey, Retry};
use outrigger_proxy::policy::{
    breaker::Breaker,
    limits::Gate,
    rate_limit::{Caller, RateLimiter},
    retry::Budget,
};
use tokio::time::Instant;

fn evaluate(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    let start = Instant::now();
    // Time goes on by a request's distance, so that windows slide.
    let mut now = start;
    let mut step = move || {
        now += Duration::from_micros(20);
        now
    };

    let rate = FailureRate { percent: 50, min_requests: 20, window: Duration::from_secs(10) };
    let breaker = CircuitBreaker {
        scope: BreakerScope::Upstream,
        consecutive_failures: Some(5),
        failure_rate: Some(rate),
        open_base: Duration::from_secs(5),
        open_max: Duration::from_secs(60),
        half_open_probes: 1,
        max_ejected_percent: 50,
    };
    let breaker = Breaker::new(&breaker, 1, None, start);
    group.bench_function("breaker: admit and record", |b| {
        b.iter(|| {
            let now = step();
            let permit = black_box(&breaker).admit(now).permit().expect("it is closed");
            breaker.record(permit, 0, true, now)
        });
    });

    let gate = Gate::new(4096, 128, 1).door(0);
    group.bench_function("limits: enter and leave", |b| b.iter(|| drop(black_box(&gate).enter(step(), None))));

    let budget = Budget::new(&Retry::default().budget, 1, start);
    group.bench_function("retry budget: count a request", |b| b.iter(|| black_box(&budget).request(0, step())));

    let limit =
        RateLimit { requests: 1_000_000, per: Duration::from_secs(1), burst: 1_000_000, by: RateLimitKey::Client };
    let limiter = RateLimiter::new(&limit, RandomState::new(), start);
    let caller = Caller::Address(Ipv4Addr::LOCALHOST.into());
    group.bench_function("rate limit: check", |b| {
        b.iter(|| black_box(&limiter).check(black_box(caller), |_| None, step()).is_ok());
    });
    group.finish();
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
