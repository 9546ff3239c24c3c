//! Adaptive concurrency: a limit on requests in flight that follows the latency, and sheds what is over it.
//!
//! A gradient limiter after Netflix's concurrency-limits (`Gradient2Limit`) and Envoy's adaptive concurrency
//! filter: the limit is multiplied with `TOLERANCE * baseline / latency` and grows by a little headroom, so
//! it settles where requests take a quarter longer than they do without a queue. What decides everything is
//! the baseline. Under a standing queue every latency holds the queue, so one that is only averaged drifts
//! up until the limiter limits nothing (Netflix); one that is measured at minimal concurrency costs
//! throughput (Envoy). Here, while the limit sheds, now and then the limit is halved until halving no longer
//! helps: while the server queues, half as many in flight take half as long; as soon as they do not, there
//! is no queue, and that latency is the baseline. Halving a queue away costs no throughput.
//! While nothing is shed, the baseline follows the latency slowly, as the limit changes nothing about it.
//!
//! Invariants:
//! - Never more in flight than the limit, and the limit stays within `minLimit` and `maxLimit`.
//! - Only requests that were let in under the limit of now are measured ([`Slot`] knows its round).
//! - The limit does not change while less than half of it is used: it has no part in the latency then.
//!
//! Requests add to shared counters (only where a policy asks for it); the one that completes a window takes
//! the controller's lock by `try_lock`, so nobody ever waits.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_config::model::AdaptiveConcurrency;
use tokio::time::Instant;

use super::nanos_since;
use crate::clock;

mod controller;

#[cfg(test)]
mod tests;

use controller::{Controller, Measured};

/// See the module.
pub struct Adaptive {
    epoch: u64,
    limit: AtomicU32,
    in_flight: AtomicU32,
    /// Changes when what was let in before is no longer to be measured.
    round: AtomicU32,
    /// Of the window: most in flight, refused, measured, and their nanoseconds.
    peak: AtomicU32,
    refused: AtomicU32,
    count: AtomicU32,
    nanos: AtomicU64,
    /// When the window may end, and the measurements that it takes.
    ends: AtomicU64,
    needs: AtomicU32,
    controller: Mutex<Controller>,
}

/// A request in flight, to be held until its answer has ended. Dropped without [`Slot::measure`], it is not
/// measured.
#[must_use = "a slot that is dropped is given back"]
pub struct Slot {
    adaptive: Arc<Adaptive>,
    round: u32,
    started: Instant,
    measured: bool,
}

impl Adaptive {
    /// A limiter with the limit that it starts from.
    #[must_use]
    pub fn new(config: &AdaptiveConcurrency, now: Instant) -> Arc<Self> {
        let controller = Controller::new(config.min_limit, config.max_limit);
        Arc::new(Self {
            epoch: clock::nanos(now),
            limit: AtomicU32::new(controller.limit()),
            in_flight: AtomicU32::new(0),
            round: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            count: AtomicU32::new(0),
            nanos: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            needs: AtomicU32::new(controller.needs()),
            controller: Mutex::new(controller),
        })
    }

    /// A place for a request; none: shed it with `overloaded`.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Option<Slot> {
        let limit = self.limit.load(Ordering::Relaxed);
        let add = |n: u32| (n < limit).then(|| n + 1);
        let Ok(before) = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add) else {
            // Once per window is enough to know.
            if self.refused.load(Ordering::Relaxed) == 0 {
                self.refused.store(1, Ordering::Relaxed);
            }
            return None;
        };
        if before >= self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(before + 1, Ordering::Relaxed);
        }
        Some(Slot {
            adaptive: Arc::clone(self),
            round: self.round.load(Ordering::Acquire),
            started: now,
            measured: false,
        })
    }

    /// The limit now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn measured(&self, round: u32, latency: Duration, now: Instant) {
        if self.round.load(Ordering::Acquire) != round {
            return;
        }
        self.nanos.fetch_add(super::nanos(latency), Ordering::Relaxed);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = nanos_since(self.epoch, now);
        if count >= self.needs.load(Ordering::Relaxed) && now >= self.ends.load(Ordering::Relaxed) {
            self.end_window(now);
        }
    }

    fn end_window(&self, now: u64) {
        // Whoever comes second has nothing to do: the window ends once.
        let Ok(mut controller) = self.controller.try_lock() else { return };
        let count = self.count.swap(0, Ordering::Relaxed);
        let nanos = self.nanos.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let measured = Measured {
            latency: nanos as f64 / f64::from(count),
            peak: self.peak.swap(0, Ordering::Relaxed),
            refused: self.refused.swap(0, Ordering::Relaxed) > 0,
        };
        let new_round = controller.window(&measured, now);
        self.limit.store(controller.limit(), Ordering::Relaxed);
        self.needs.store(controller.needs(), Ordering::Relaxed);
        self.ends.store(controller.ends(now), Ordering::Relaxed);
        if new_round {
            self.round.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Slot {
    /// The head of the answer came, or the attempt has timed out, whose time is one to learn from. What comes
    /// after the head depends on the client too, so only the first call measures. Quick failures say nothing
    /// about the time that work takes: drop their slot.
    pub fn measure(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.measured, true) {
            self.adaptive.measured(self.round, now.saturating_duration_since(self.started), now);
        }
    }

    /// [`Slot::measure`], and the end of the request.
    pub fn finish(mut self, now: Instant) {
        self.measure(now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.adaptive.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
