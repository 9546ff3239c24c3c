//! What all workers know of one endpoint: since when it is there, and until when it asked to be left alone.
//!
//! Slow start: an endpoint that joins a running upstream has cold caches and an app that is still compiling
//! itself, so it takes part in draws with a probability that grows in a straight line from a tenth to one.
//! The endpoints of the first resolution do not: they are equally cold, and somebody has to serve.
//!
//! `Retry-After` of a 429 or 503 holds an endpoint, for at most [`LONGEST_HOLD`]: what an answer says must
//! not be able to take an endpoint out for a day.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Longest time for which `Retry-After` keeps requests away.
pub const LONGEST_HOLD: Duration = Duration::from_secs(30);
/// Share with which a new endpoint begins; Envoy's `min_weight_percent`.
const FIRST_SHARE: f64 = 0.1;

/// See the module.
#[derive(Debug)]
pub struct Presence {
    /// The zero of `held_until`.
    epoch: Instant,
    /// When it joined; `None`: it was there from the start.
    joined: Option<Instant>,
    /// Milliseconds after `epoch`; 0: not held.
    held_until: AtomicU64,
}

impl Presence {
    /// Of an endpoint that is there from the start.
    #[must_use]
    pub fn founding(now: Instant) -> Self {
        Self { epoch: now, joined: None, held_until: AtomicU64::new(0) }
    }

    /// Of an endpoint that joins an upstream that has others already.
    #[must_use]
    pub fn joining(now: Instant) -> Self {
        Self { epoch: now, joined: Some(now), held_until: AtomicU64::new(0) }
    }

    /// The same presence for a new description (another weight) of the same endpoint.
    #[must_use]
    pub fn continued(&self) -> Self {
        Self {
            epoch: self.epoch,
            joined: self.joined,
            held_until: AtomicU64::new(self.held_until.load(Ordering::Relaxed)),
        }
    }

    /// The share of its weight that it takes at `now`, above 0 and at most 1.
    #[must_use]
    pub fn share(&self, slow_start: Option<Duration>, now: Instant) -> f64 {
        let (Some(whole), Some(joined)) = (slow_start, self.joined) else { return 1.0 };
        let age = now.saturating_duration_since(joined);
        if age >= whole { 1.0 } else { (age.as_secs_f64() / whole.as_secs_f64()).max(FIRST_SHARE) }
    }

    /// It asked for `time` without requests.
    pub fn hold(&self, time: Duration, now: Instant) {
        let until = now.saturating_duration_since(self.epoch).saturating_add(time.min(LONGEST_HOLD));
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.held_until.fetch_max(until, Ordering::Relaxed);
    }

    /// True while it is to be left alone.
    #[must_use]
    pub fn held(&self, now: Instant) -> bool {
        let until = self.held_until.load(Ordering::Relaxed);
        until != 0 && now.saturating_duration_since(self.epoch) < Duration::from_millis(until)
    }
}
