//! A request at an endpoint: counted while it is there, and what the endpoint's latency is learnt from.

use std::{cell::Cell, rc::Rc, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Endpoint;
use crate::clock;

/// A request in flight at an endpoint. Returned (dropped) when the body of the answer has ended.
pub struct Lease {
    /// The endpoint.
    pub endpoint: Rc<Endpoint>,
    started: Instant,
    /// The same ([`clock::nanos`]).
    began: u64,
    judged: Cell<bool>,
}

impl Lease {
    /// Starts one.
    #[must_use]
    pub fn new(endpoint: Rc<Endpoint>, now: Instant) -> Self {
        let in_flight = endpoint.load.start();
        let slot = endpoint.slot();
        slot.in_flight.store(in_flight, Ordering::Relaxed);
        slot.requests.store(slot.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Self { endpoint, started: now, began: clock::nanos(now), judged: Cell::new(false) }
    }

    /// When it was taken.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The head of an answer came, `ok` or not: feeds the latency.
    pub fn answered(&self, now: Instant, ok: bool) {
        self.judged.set(true);
        let ewma = self.endpoint.load.observe(now, Duration::from_nanos(clock::nanos(now).saturating_sub(self.began)));
        self.endpoint.slot().ewma_bits.store(ewma.to_bits(), Ordering::Relaxed);
        if !ok {
            self.count_failure();
        }
    }

    /// No answer came.
    pub fn failed(&self, now: Instant) {
        if !self.judged.replace(true) {
            // A failure is quick; without a penalty the balancer would prefer the endpoint that fails.
            let ewma = self.endpoint.load.penalise(now);
            self.endpoint.slot().ewma_bits.store(ewma.to_bits(), Ordering::Relaxed);
            self.count_failure();
        }
    }

    /// The answer was 429 or 503 with `Retry-After`: others are preferred for so long, within a bound.
    pub fn hold(&self, retry_after: Duration, now: Instant) {
        self.endpoint.state.presence.hold(retry_after, now);
    }

    fn count_failure(&self) {
        let failures = &self.endpoint.slot().failures;
        failures.store(failures.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let in_flight = self.endpoint.load.end();
        self.endpoint.slot().in_flight.store(in_flight, Ordering::Relaxed);
    }
}
