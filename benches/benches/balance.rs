//! What it costs to choose an endpoint, by the algorithm and the number of endpoints.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger_config::model::{self, Algorithm, LoadBalancing, ZoneMode};
use outrigger_proxy::upstream::balance::{Ask, Balancer, Health, Load, Presence, Target};
use tokio::time::Instant;

struct Endpoint {
    config: model::Endpoint,
    load: Load,
    presence: Presence,
}

impl Target for Endpoint {
    fn config(&self) -> &model::Endpoint {
        &self.config
    }

    fn load(&self) -> &Load {
        &self.load
    }

    fn presence(&self) -> &Presence {
        &self.presence
    }
}

/// Endpoints that have answered, each in its own time.
fn endpoints(count: u16, now: Instant) -> Vec<Endpoint> {
    let endpoint = |i: u16| {
        let [high, low] = i.to_be_bytes();
        let config =
            model::Endpoint { address: ([10, 0, high, low], 8080).into(), weight: 100, zone: None, identity: None };
        let load = Load::default();
        load.observe(now, Duration::from_micros(u64::from(i) * 10 + 500));
        Endpoint { config, load, presence: Presence::founding(now) }
    };
    (0..count).map(endpoint).collect()
}

fn pick(c: &mut Criterion) {
    let now = Instant::now();
    for (name, algorithm) in [
        ("peak-EWMA", Algorithm::PeakEwma),
        ("least request", Algorithm::LeastRequest),
        ("round robin", Algorithm::RoundRobin),
        ("random", Algorithm::Random),
        ("maglev", Algorithm::Maglev),
    ] {
        let mut group = c.benchmark_group(format!("pick by {name}"));
        for count in [3, 100] {
            let list = endpoints(count, now);
            let policy = LoadBalancing { algorithm, hash_on: None, slow_start: None, zone: ZoneMode::Ignore };
            let balancer = Balancer::new(&policy, &list, None, 1);
            let mut rng = fastrand::Rng::with_seed(1);
            let mut ask = Ask { now: now + Duration::from_millis(1), hash: 0, max_ejected_percent: 50 };
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                b.iter(|| {
                    ask.hash = rng.u64(..);
                    balancer.pick(black_box(&list), &ask, &mut rng, |_| Health::Ready, |_| false)
                });
            });
        }
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
