//! The retry budget (GEP-3388): retries are at most a percentage of the requests of an interval; and so many
//! per shorter interval are always allowed, so that a service with little traffic can retry at all.
//!
//! Invariant: at the moment of each retry that is granted, either the retries of the last `interval`, this
//! one included, are within `percent` of the requests of that interval, or those of the last `min_interval`
//! are within `min_count`. That holds for any moment, not only at the edges of some clock.
//!
//! Requests are counted by each worker in its own slot ([`Window`]). Retries are rare and must not be
//! granted twice, so they are counted under a lock, in eighths too: rounded so that requests are counted
//! over no more than the interval, retries over no less.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use outrigger_config::model::RetryBudget;
use tokio::time::Instant;

use crate::{
    clock,
    policy::{nanos, nanos_since, window::Window},
};

/// Eighths of an interval, and the one that is only partly over.
const BUCKETS: usize = 9;

/// See the module. One per upstream or policy.
pub struct Budget {
    epoch: u64,
    percent: u64,
    min_count: u64,
    requests: Window,
    retries: Mutex<Retries>,
}

struct Retries {
    long: Ring,
    short: Ring,
}

impl Budget {
    /// With nothing spent.
    #[must_use]
    pub fn new(config: &RetryBudget, workers: usize, now: Instant) -> Self {
        Self {
            epoch: clock::nanos(now),
            percent: u64::from(config.percent),
            min_count: u64::from(config.min_count),
            requests: Window::new(config.interval, workers),
            retries: Mutex::new(Retries { long: Ring::new(config.interval), short: Ring::new(config.min_interval) }),
        }
    }

    /// Counts a request (not its retries) of `worker`.
    pub fn request(&self, worker: usize, now: Instant) {
        self.requests.add(worker, nanos_since(self.epoch, now), false);
    }

    /// How many more retries it would allow now, for people.
    #[must_use]
    pub fn left(&self, now: Instant) -> u64 {
        let now = nanos_since(self.epoch, now);
        let share = self.requests.sum(now, None).all * self.percent / 100;
        let retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let by_share = share.saturating_sub(retries.long.sum(now));
        by_share.max(self.min_count.saturating_sub(retries.short.sum(now)))
    }

    /// Draws one retry; false if there is none left.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        let now = nanos_since(self.epoch, now);
        let requests = self.requests.sum(now, None).all;
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let within = (retries.long.sum(now) + 1) * 100 <= requests * self.percent;
        if !within && retries.short.sum(now) >= self.min_count {
            return false;
        }
        retries.long.add(now);
        retries.short.add(now);
        true
    }
}

/// Counts of one interval, by eighths.
struct Ring {
    width: u64,
    /// Number of the eighth, count.
    buckets: [(u64, u64); BUCKETS],
}

impl Ring {
    fn new(span: Duration) -> Self {
        Self { width: nanos(span).div_ceil(BUCKETS as u64 - 1).max(1), buckets: [(0, 0); BUCKETS] }
    }

    fn add(&mut self, now: u64) {
        let tick = now / self.width;
        let bucket = &mut self.buckets[tick as usize % BUCKETS];
        // Another thread's clock may have been read a moment later: then it counts there.
        if bucket.0 < tick {
            *bucket = (tick, 0);
        }
        bucket.1 += 1;
    }

    fn sum(&self, now: u64) -> u64 {
        let tick = now / self.width;
        let recent = |b: &&(u64, u64)| tick.saturating_sub(b.0) < BUCKETS as u64;
        self.buckets.iter().filter(recent).map(|b| b.1).sum()
    }
}
