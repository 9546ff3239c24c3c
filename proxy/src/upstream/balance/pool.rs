//! A set of endpoints to choose from, and the five ways to do so.
//!
//! Where weights are equal, two endpoints taken at random are compared ("The Power of Two Choices",
//! Mitzenmacher 1996): that spreads load nearly as well as looking at all of them, and never herds. Latencies
//! that differ by less than a quarter are no reason to prefer one, so they are blurred by so much.
//!
//! Where they differ, comparing `cost / weight` would give everything to the heaviest while nothing is in
//! flight. Instead a few endpoints run an exponential race: the one with the smallest
//! `latency * (in flight + E) / weight` wins, `E` drawn from Exp(1). With equal latencies and an idle
//! upstream that is exactly a draw by weight (the minimum of exponentials), under load it evens out the
//! requests in flight per weight, and a slow endpoint loses in proportion. Of many, two are drawn by weight.
//!
//! An endpoint without an answer yet is compared by its requests in flight alone: any assumed latency would
//! either starve or flood it.

use std::cell::Cell;

use outrigger_config::model::{self, Algorithm};
use tokio::time::Instant;

use super::{Target, maglev::Table};

/// Up to this many endpoints of different weights race; more are drawn by weight. A race costs about 20 ns
/// for each.
const RACE: usize = 8;
/// Draws by weight until one is wanted, before all are looked at.
const DRAWS: usize = 8;
/// Latencies within this factor around one another are the same.
const BLUR: f64 = 0.25;

/// What a choice makes of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Not this one.
    No,
    /// It may be chosen.
    Yes,
    /// It is half-open: whether it is well shows only if it is asked.
    First,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Positions in the list of endpoints, weights above 0.
    members: Vec<u32>,
    /// Running sum of their weights.
    sums: Vec<u64>,
    equal: bool,
    /// Of smooth round robin.
    credit: Vec<Cell<f64>>,
    table: Option<Table>,
}

impl Pool {
    /// Of the endpoints that `pass`.
    pub(super) fn new<T: Target>(
        list: &[T],
        algorithm: Algorithm,
        seed: u64,
        pass: impl Fn(&model::Endpoint) -> bool,
    ) -> Self {
        let mut pool = Self { equal: true, ..Self::default() };
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sum = 0_u64;
        for (i, target) in list.iter().enumerate() {
            let endpoint = target.config();
            let Ok(position) = u32::try_from(i) else { break };
            if endpoint.weight == 0 || !pass(endpoint) {
                continue;
            }
            sum = sum.saturating_add(u64::from(endpoint.weight));
            pool.equal &= pool.members.first().is_none_or(|m| list[*m as usize].config().weight == endpoint.weight);
            pool.members.push(position);
            pool.sums.push(sum);
            // Workers that all began with the first endpoint would send it a burst.
            pool.credit.push(Cell::new(rng.f64() * f64::from(endpoint.weight)));
        }
        if algorithm == Algorithm::Maglev {
            let keys: Vec<_> = pool
                .members
                .iter()
                .map(|m| {
                    let endpoint = list[*m as usize].config();
                    (super::maglev::key(endpoint.address), endpoint.weight)
                })
                .collect();
            pool.table = Some(Table::build(&keys));
        }
        pool
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Sum of the weights.
    pub(super) fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|m| *m as usize)
    }

    /// The cheaper of two; see the module. `by_latency`: peak-EWMA, otherwise requests in flight alone.
    pub(super) fn cheapest<T: Target>(
        &self,
        list: &[T],
        by_latency: bool,
        now: Instant,
        rng: &mut fastrand::Rng,
        want: impl Fn(usize) -> Want,
    ) -> Option<usize> {
        let n = self.members.len();
        if n < 2 {
            return self.members().find(|i| want(*i) != Want::No);
        }
        let (a, b) = if self.equal {
            let a = rng.usize(..n);
            (a, (a + 1 + rng.usize(..n - 1)) % n)
        } else if n <= RACE {
            return self.race(list, by_latency, now, rng, want);
        } else {
            let a = self.draw(rng);
            (a, (0..DRAWS).map(|_| self.draw(rng)).find(|b| *b != a).unwrap_or((a + 1) % n))
        };
        let (a, b) = (self.members[a] as usize, self.members[b] as usize);
        match (want(a), want(b)) {
            (Want::First, _) => Some(a),
            (_, Want::First) => Some(b),
            (Want::Yes, Want::Yes) => Some(if self.is_cheaper(list, b, a, by_latency, now, rng) { b } else { a }),
            (Want::Yes, Want::No) => Some(a),
            (Want::No, Want::Yes) => Some(b),
            (Want::No, Want::No) => self.race(list, by_latency, now, rng, want),
        }
    }

    /// Of two that were drawn by weight: is `b` cheaper than `a`?
    fn is_cheaper<T: Target>(
        &self,
        list: &[T],
        b: usize,
        a: usize,
        by_latency: bool,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> bool {
        // In units of the average weight, so that requests in flight grow with it.
        #[expect(clippy::cast_precision_loss, reason = "a ratio of weights")]
        let mean = self.total() as f64 / self.members.len().max(1) as f64;
        let queue = |i: usize| {
            let weight = f64::from(list[i].config().weight);
            f64::from(list[i].load().in_flight()) * (mean / weight) + 1.0
        };
        let latencies = if by_latency { list[a].load().latency(now).zip(list[b].load().latency(now)) } else { None };
        match latencies {
            Some((of_a, of_b)) => {
                let mut factor = || rng.f64() * (2.0 * BLUR) + (1.0 - BLUR);
                let blur = factor() / factor();
                of_b * queue(b) * blur < of_a * queue(a)
            }
            None => queue(b) < queue(a),
        }
    }

    /// The exponential race of all that are wanted.
    fn race<T: Target>(
        &self,
        list: &[T],
        by_latency: bool,
        now: Instant,
        rng: &mut fastrand::Rng,
        want: impl Fn(usize) -> Want,
    ) -> Option<usize> {
        let known = by_latency && self.members().all(|i| list[i].load().latency(now).is_some());
        let mut best: Option<(f64, usize)> = None;
        for i in self.members() {
            match want(i) {
                Want::No => continue,
                Want::First => return Some(i),
                Want::Yes => {}
            }
            let load = list[i].load();
            let latency = if known { load.latency(now).unwrap_or(1.0) } else { 1.0 };
            let exponential = -(1.0 - rng.f64()).ln();
            let cost = latency * (f64::from(load.in_flight()) + exponential) / f64::from(list[i].config().weight);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, i));
            }
        }
        best.map(|(_, i)| i)
    }

    /// By weight.
    pub(super) fn random<T: Target>(
        &self,
        list: &[T],
        rng: &mut fastrand::Rng,
        want: impl Fn(usize) -> Want,
    ) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let i = self.members[self.draw(rng)] as usize;
            if want(i) != Want::No {
                return Some(i);
            }
        }
        // Of a race without load, the winner is drawn by weight.
        let mut best: Option<(f64, usize)> = None;
        for i in self.members().filter(|i| want(*i) != Want::No) {
            let cost = -(1.0 - rng.f64()).ln() / f64::from(list[i].config().weight);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, i));
            }
        }
        best.map(|(_, i)| i)
    }

    /// Smooth weighted round robin (nginx): everybody earns its weight, the richest pays for all.
    pub(super) fn in_turn<T: Target>(&self, list: &[T], want: impl Fn(usize) -> Want) -> Option<usize> {
        let mut earned = 0.0;
        let mut best: Option<(f64, usize)> = None;
        for (k, i) in self.members().enumerate() {
            if want(i) == Want::No {
                continue;
            }
            let weight = f64::from(list[i].config().weight);
            let credit = self.credit[k].get() + weight;
            self.credit[k].set(credit);
            earned += weight;
            if best.is_none_or(|(most, _)| credit > most) {
                best = Some((credit, k));
            }
        }
        let (credit, k) = best?;
        self.credit[k].set(credit - earned);
        Some(self.members[k] as usize)
    }

    /// By consistent hash.
    pub(super) fn hashed(&self, hash: u64, want: impl Fn(usize) -> Want) -> Option<usize> {
        let table = self.table.as_ref()?;
        let found = table.find(hash, |k| want(self.members[k] as usize) != Want::No);
        found.map(|k| self.members[k] as usize)
    }

    /// A member by weight.
    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        if self.equal {
            return rng.usize(..self.members.len());
        }
        let ticket = rng.u64(..self.total());
        self.sums.partition_point(|sum| *sum <= ticket).min(self.members.len() - 1)
    }
}
