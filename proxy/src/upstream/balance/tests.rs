//! Doubles of endpoints, and what the tests share.

use std::{cell::Cell, time::Duration};

use outrigger_config::model::{self, Algorithm, LoadBalancing, ZoneMode};
use tokio::time::Instant;

use super::{Ask, Balancer, Choice, Health, Load, Presence, Target};

mod invariants;
mod maglev;
mod share;
mod spread;

pub(super) struct Fake {
    pub(super) config: model::Endpoint,
    pub(super) load: Load,
    pub(super) presence: Presence,
    pub(super) health: Cell<Health>,
    pub(super) tried: Cell<bool>,
}

impl Target for Fake {
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

pub(super) fn fake(i: usize, weight: u32, zone: Option<&str>, presence: Presence) -> Fake {
    let host = u16::try_from(i).unwrap();
    let address = format!("10.0.{}.{}:8080", host / 250, host % 250 + 1).parse().unwrap();
    Fake {
        config: model::Endpoint { address, weight, zone: zone.map(Into::into), identity: None },
        load: Load::default(),
        presence,
        health: Cell::new(Health::Ready),
        tried: Cell::new(false),
    }
}

/// Endpoints of these weights, there from the start.
pub(super) fn fakes(weights: &[u32], now: Instant) -> Vec<Fake> {
    weights.iter().enumerate().map(|(i, w)| fake(i, *w, None, Presence::founding(now))).collect()
}

pub(super) fn policy(algorithm: Algorithm) -> LoadBalancing {
    LoadBalancing { algorithm, hash_on: None, slow_start: None, zone: ZoneMode::Ignore }
}

pub(super) fn pick(
    balancer: &Balancer,
    list: &[Fake],
    now: Instant,
    max: u32,
    rng: &mut fastrand::Rng,
) -> Option<Choice> {
    let ask = Ask { now, hash: rng.u64(..), max_ejected_percent: max };
    balancer.pick(list, &ask, rng, |f| f.health.get(), |f| f.tried.get())
}

/// How often each is chosen in `n` choices; each is answered after `latency` before the next.
pub(super) fn shares(
    balancer: &Balancer,
    list: &[Fake],
    now: &mut Instant,
    n: u32,
    rng: &mut fastrand::Rng,
    latency: impl Fn(usize) -> Duration,
) -> Vec<f64> {
    let mut counts = vec![0_u32; list.len()];
    for _ in 0..n {
        let choice = pick(balancer, list, *now, 50, rng).unwrap();
        counts[choice.index] += 1;
        let load = &list[choice.index].load;
        load.start();
        *now += Duration::from_millis(5);
        // A clock is noisy: a tenth more or less.
        load.observe(*now, latency(choice.index).mul_f64(rng.f64().mul_add(0.2, 0.9)));
        load.end();
    }
    counts.into_iter().map(|c| f64::from(c) / f64::from(n)).collect()
}

pub(super) const ALL: [Algorithm; 5] =
    [Algorithm::PeakEwma, Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random, Algorithm::Maglev];
