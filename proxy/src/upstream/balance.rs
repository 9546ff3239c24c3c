//! Which endpoint gets a request. Pure: time and randomness are arguments.
//!
//! A [`Balancer`] is made for one list of endpoints and thrown away with it; what is to survive a change of
//! the list hangs on the endpoints ([`Load`], [`Presence`]). A choice goes through narrowing wishes:
//!
//! 1. available (not ejected), not held by a `Retry-After`, not tried before by this request, and through
//!    its slow start;
//! 2. the same without slow start; 3. tried before; 4. held, not tried before; 5. just available.
//!
//! Only if more than `max_ejected_percent` of all endpoints are ejected, all are taken for available: what
//! looks like so many broken endpoints is mostly something else, and a few must not get everything (panic).
//! That is counted only once an ejected endpoint was met, so in good times a choice looks at two endpoints.
//!
//! Invariants: an ejected endpoint is chosen in panic only, one of weight 0 never; with `zone: only` no
//! endpoint of another zone; if anything is available, something is chosen. Nothing allocates.

use std::{cell::Cell, time::Duration};

use outrigger_config::model::{self, Algorithm, LoadBalancing, ZoneMode};
use tokio::time::Instant;

pub mod maglev;
pub mod zone;

mod load;
mod pool;
mod presence;

#[cfg(test)]
mod tests;

pub use load::Load;
pub use maglev::hash;
pub use presence::{LONGEST_HOLD, Presence};

use pool::{Pool, Want};

/// What the balancer sees of an endpoint.
pub trait Target {
    /// Address, weight, zone.
    fn config(&self) -> &model::Endpoint;
    /// Latency and requests in flight.
    fn load(&self) -> &Load;
    /// Slow start and `Retry-After`.
    fn presence(&self) -> &Presence;
}

/// What the breaker says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Ready,
    /// It is half-open and may be given one as a probe: it goes first, or it would never come back.
    Probe,
    /// It takes none.
    Ejected,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Now.
    pub now: Instant,
    /// Of what the policy hashes on; a random number if the request has none.
    pub hash: u64,
    /// Percentage of ejected endpoints above which all are used.
    pub max_ejected_percent: u32,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Index in the list.
    pub index: usize,
    /// Too many are ejected, so ejected ones are used as well.
    pub panic: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Balancer {
    policy: LoadBalancing,
    /// All that count for panic and take traffic: with `only`, those of the own zone.
    all: Pool,
    /// With `prefer`: those of the own zone, and the others.
    zones: Option<(Pool, Pool)>,
    /// When the share of the own zone was last looked at, and what it was.
    stays: Cell<Option<(Instant, f64)>>,
}

/// The share of the own zone is looked at as often as this: it takes a look at every endpoint of the zone.
const ZONE_LOOK: Duration = Duration::from_millis(20);
/// The number of wishes; see the module.
const WISHES: u8 = 5;

impl Balancer {
    /// For `list`; `own_zone` is the proxy's, `seed` lets workers begin in different places.
    #[must_use]
    pub fn new<T: Target>(policy: &LoadBalancing, list: &[T], own_zone: Option<&str>, seed: u64) -> Self {
        let pool = |algorithm, pass: &dyn Fn(&model::Endpoint) -> bool| Pool::new(list, algorithm, seed, pass);
        let own = |e: &model::Endpoint| e.zone.as_deref() == own_zone;
        let zone = if own_zone.is_some() { policy.zone } else { ZoneMode::Ignore };
        let (all, zones) = match zone {
            ZoneMode::Ignore => (pool(policy.algorithm, &|_| true), None),
            ZoneMode::Only => (pool(policy.algorithm, &own), None),
            ZoneMode::Prefer => {
                let (near, far) = (pool(policy.algorithm, &own), pool(policy.algorithm, &|e| !own(e)));
                if near.is_empty() {
                    (far, None)
                } else if far.is_empty() {
                    (near, None)
                } else {
                    // Only counted, never chosen from: it needs no table.
                    (pool(Algorithm::Random, &|_| true), Some((near, far)))
                }
            }
        };
        Self { policy: policy.clone(), all, zones, stays: Cell::new(None) }
    }

    /// The policy that it carries out.
    #[must_use]
    pub fn policy(&self) -> &LoadBalancing {
        &self.policy
    }

    /// Chooses one of `list`, which has to be the one that this balancer was made for. `tried`: this request
    /// has failed there.
    pub fn pick<T: Target>(
        &self,
        list: &[T],
        ask: &Ask,
        rng: &mut fastrand::Rng,
        health: impl Fn(&T) -> Health,
        tried: impl Fn(&T) -> bool,
    ) -> Option<Choice> {
        let met_ejected = Cell::new(false);
        let seen = |t: &T| {
            let health = health(t);
            met_ejected.set(met_ejected.get() || health == Health::Ejected);
            health
        };
        let choice = self.among(list, ask, rng, &seen, &tried);
        if !met_ejected.get() || !self.panics(list, ask, &health) {
            return choice.map(|index| Choice { index, panic: false });
        }
        let all = |_: &T| Health::Ready;
        self.among(list, ask, rng, &all, &tried).map(|index| Choice { index, panic: true })
    }

    /// More than the policy wants are ejected.
    fn panics<T: Target>(&self, list: &[T], ask: &Ask, health: &impl Fn(&T) -> Health) -> bool {
        let gone = self.all.members().filter(|i| health(&list[*i]) == Health::Ejected).count();
        gone.saturating_mul(100) > self.all.len().saturating_mul(ask.max_ejected_percent as usize)
    }

    /// The first wish that comes true; the preferred zone comes before the next wish.
    fn among<T: Target>(
        &self,
        list: &[T],
        ask: &Ask,
        rng: &mut fastrand::Rng,
        health: &impl Fn(&T) -> Health,
        tried: &impl Fn(&T) -> bool,
    ) -> Option<usize> {
        let order = match &self.zones {
            None => [Some(&self.all), None],
            Some((near, far)) if self.stays_near(near, list, ask, rng, health) => [Some(near), Some(far)],
            Some((near, far)) => [Some(far), Some(near)],
        };
        (0..WISHES).find_map(|wish| {
            order.into_iter().flatten().find_map(|pool| self.choose(pool, wish, list, ask, rng, health, tried))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one wish of one choice: grouping them would name nothing")]
    fn choose<T: Target>(
        &self,
        pool: &Pool,
        wish: u8,
        list: &[T],
        ask: &Ask,
        rng: &mut fastrand::Rng,
        health: &impl Fn(&T) -> Health,
        tried: &impl Fn(&T) -> bool,
    ) -> Option<usize> {
        let luck = match (self.policy.slow_start, self.policy.algorithm) {
            (None, _) => 0.0,
            // A key that has moved to a new endpoint stays there while the share grows.
            (Some(_), Algorithm::Maglev) => fraction(ask.hash),
            (Some(_), _) => rng.f64(),
        };
        let by_latency = self.policy.algorithm == Algorithm::PeakEwma;
        let want = |i: usize| {
            let target = &list[i];
            let presence = target.presence();
            let wanted = match wish {
                0 => {
                    !presence.held(ask.now) && !tried(target) && luck < presence.share(self.policy.slow_start, ask.now)
                }
                1 => !presence.held(ask.now) && !tried(target),
                2 => !presence.held(ask.now),
                3 => !tried(target),
                _ => true,
            };
            // What is not wanted anyway is still looked at: only so is it known whether there is a panic.
            match (health(target), wanted) {
                // Its latency keeps it from being asked in its turn.
                (Health::Ready, true) if by_latency && target.load().is_due(ask.now) => Want::First,
                (Health::Ready, true) => Want::Yes,
                (Health::Probe, true) => Want::First,
                _ => Want::No,
            }
        };
        match self.policy.algorithm {
            Algorithm::PeakEwma => pool.cheapest(list, true, ask.now, rng, want),
            Algorithm::LeastRequest => pool.cheapest(list, false, ask.now, rng, want),
            Algorithm::Random => pool.random(list, rng, want),
            Algorithm::RoundRobin => pool.in_turn(list, want),
            Algorithm::Maglev => pool.hashed(ask.hash, want),
        }
    }

    /// True if this request stays in the own zone.
    fn stays_near<T: Target>(
        &self,
        near: &Pool,
        list: &[T],
        ask: &Ask,
        rng: &mut fastrand::Rng,
        health: &impl Fn(&T) -> Health,
    ) -> bool {
        let known = self.stays.get().filter(|(at, _)| ask.now.saturating_duration_since(*at) < ZONE_LOOK);
        let share = known.map_or_else(
            || {
                let available = |i: &usize| health(&list[*i]) != Health::Ejected;
                let weight = |i: usize| u64::from(list[i].config().weight);
                let share = zone::share(near.members().filter(available).map(weight).sum(), near.total());
                self.stays.set(Some((ask.now, share)));
                share
            },
            |(_, share)| share,
        );
        if share >= 1.0 {
            return true;
        }
        let luck = if self.policy.algorithm == Algorithm::Maglev { fraction(ask.hash ^ ZONE_SALT) } else { rng.f64() };
        luck < share
    }
}

/// Keeps the choice of a zone independent of that of slow start.
const ZONE_SALT: u64 = 0x5A0E_5A17;

/// A number from 0 to 1 that stays the same for a hash.
fn fraction(hash: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (maglev::mix(hash) >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}
