//! Latency and load of one endpoint, as one worker sees them.
//!
//! Peak-EWMA (Finagle): a latency above the average replaces it at once, one below pulls it down slowly, so
//! that an endpoint that turns slow is left alone after its first slow answer. The average also fades while
//! nobody asks: an endpoint that was slow once is tried again after a few decays, and one good answer then
//! counts for nearly everything, because the old average has faded by as much.
//!
//! Fading alone is too slow for one that fails or stalls and is well again: nobody asks it, so it is never ejected
//! either, and nothing probes it. So who turns bad (fails, or takes several times what it usually does) rests, is
//! then given one request ([`Load::is_due`]), and if that is answered as usual, all is forgotten.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use crate::clock;

/// Time in which an old latency loses 63 % of its weight. Half of Finagle's 10 s: an endpoint that was slow
/// once (1 s, against the 2 ms of the others) is then asked again after half a minute, not after a whole one.
const DECAY: Duration = Duration::from_secs(5);
/// The part of [`DECAY`] that a nanosecond is.
const PER_NANO: f64 = 1e-9 / DECAY.as_secs() as f64;
/// What a failure counts as, in seconds: failures are quick, and must not look like speed.
const PENALTY: f64 = 1.0;
/// Slower than usual by so much is bad. Less is what the average is for.
const BAD: f64 = 4.0;
/// After this time one that turned bad is asked again. It doubles while it stays bad, for what a dead or slow
/// address is given takes long.
const REST: Duration = Duration::from_secs(1);
/// The longest rest of one that fails. Below the default time of an ejection, 5 s: without a breaker nobody is
/// left alone for longer than with one.
const REST_OF_FAILING: Duration = Duration::from_secs(4);
/// Of one that answers, but slowly: that is often how it stays.
const REST_OF_SLOW: Duration = Duration::from_secs(32);
/// Differences below this are the noise of a clock, and keep products of latencies from becoming zero.
const FLOOR: f64 = 10e-6;

/// See the module. Without an answer yet, there is no latency.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: Cell<u32>,
    ewma: Cell<f64>,
    /// When it was last heard of ([`clock::nanos`]).
    at: Cell<Option<u64>>,
    /// How long it is left alone; zero: it is not bad.
    rest: Cell<Duration>,
    /// What it was last heard of was a failure.
    failing: Cell<bool>,
    /// The average when it turned bad; zero: there was none.
    usual: Cell<f64>,
    /// Requests in flight when it was last bad, that one included: what is left of them is no new one.
    bad_with: Cell<u32>,
}

impl Load {
    /// One more in flight; tells how many.
    pub fn start(&self) -> u32 {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
        self.in_flight.get()
    }

    /// One fewer in flight; tells how many are left.
    pub fn end(&self) -> u32 {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.in_flight.get()
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Takes a latency in; tells the new average in seconds.
    pub fn observe(&self, now: Instant, latency: Duration) -> f64 {
        let seconds = latency.as_secs_f64();
        let bad = match (self.rest.get().is_zero(), self.at.get()) {
            (true, None) => false,
            (true, Some(_)) => seconds > self.ewma.get().max(FLOOR) * BAD,
            (false, _) => self.usual.get() > 0.0 && seconds > self.usual.get() * BAD,
        };
        if bad && self.failing.replace(false) {
            // It answers at all: the next request shows how fast it is now.
            self.rest.set(REST);
        } else if bad {
            self.bad(now, REST_OF_SLOW);
        } else if self.has_rested(now) {
            self.failing.set(false);
            self.rest.set(Duration::ZERO);
            self.at.set(None);
        }
        self.take(now, seconds)
    }

    /// Takes a failure in; tells the new average in seconds.
    pub fn penalise(&self, now: Instant) -> f64 {
        self.failing.set(true);
        self.bad(now, REST_OF_FAILING);
        self.take(now, PENALTY.max(self.ewma.get()))
    }

    /// It was bad when it was last heard of, and has rested long enough: whether it is well again shows only if
    /// it is asked.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.in_flight.get() < self.bad_with.get() && self.has_rested(now)
    }

    /// The average in seconds, faded by the time since the last answer; `None` before the first one.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<f64> {
        let at = self.at.get()?;
        Some((self.ewma.get() * keep(at, clock::nanos(now))).max(FLOOR))
    }

    fn bad(&self, now: Instant, longest: Duration) {
        self.bad_with.set(self.in_flight.get().max(1));
        if self.rest.get().is_zero() {
            self.usual.set(self.at.get().map_or(0.0, |_| self.ewma.get().max(FLOOR)));
            self.rest.set(REST);
        } else if self.has_rested(now) {
            // What was under way together is bad together: only a new request makes the rest longer.
            self.rest.set(if self.rest.get() < longest { self.rest.get() * 2 } else { longest });
        }
    }

    fn has_rested(&self, now: Instant) -> bool {
        let rest = self.rest.get();
        !rest.is_zero()
            && self.at.get().is_some_and(|at| Duration::from_nanos(clock::nanos(now).saturating_sub(at)) >= rest)
    }

    fn take(&self, now: Instant, seconds: f64) -> f64 {
        let now = clock::nanos(now);
        let new = match self.at.get() {
            Some(at) => {
                let keep = keep(at, now);
                let old = self.ewma.get() * keep;
                if seconds < self.ewma.get() { old + seconds * (1.0 - keep) } else { seconds }
            }
            None => seconds,
        };
        self.at.set(Some(now));
        self.ewma.set(new);
        new
    }
}

/// What is left of the weight of something seen at `at`.
#[inline]
fn keep(at: u64, now: u64) -> f64 {
    let age = now.saturating_sub(at);
    if age == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a weight need not be exact")]
    let x = age as f64 * PER_NANO;
    // Of a loaded endpoint the last answer was milliseconds ago: there the series is exact to 1e-7.
    if x < 0.005 { 1.0 - x + x * x / 2.0 } else { (-x).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn who_failed_is_asked_again_and_is_then_what_it_was() {
        let (load, mut now) = (Load::default(), Instant::now());
        load.observe(now, millis(2));
        assert!(!load.is_due(now + Duration::from_secs(60)), "it was never bad");
        // Failures that come together are one.
        for _ in 0..10 {
            load.penalise(now);
        }
        for rest in [1, 2, 4, 4] {
            let due = now + Duration::from_secs(rest);
            assert!(!load.is_due(due - millis(1)), "{rest}");
            assert!(load.is_due(due), "{rest}");
            load.start();
            assert!(!load.is_due(due), "one at a time");
            load.penalise(due);
            load.end();
            now = due;
        }
        // What was under way when it failed does not make it well.
        load.observe(now, millis(2));
        assert!(load.latency(now).is_some_and(|l| l > 0.5));
        now += REST_OF_FAILING;
        load.observe(now, millis(3));
        assert!(load.latency(now).is_some_and(|l| l < 0.004));
        assert!(!load.is_due(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_slow_answer_to_the_first_request_after_a_failure_is_not_what_it_is_known_by() {
        // A process that was stopped answers what waited for it late, and the next request at once.
        let (load, mut now) = (Load::default(), Instant::now());
        load.observe(now, millis(1));
        load.penalise(now);
        now += REST;
        load.observe(now, millis(150));
        now += REST;
        assert!(load.is_due(now));
        load.observe(now, millis(1));
        assert!(load.latency(now).is_some_and(|l| l < 0.002));
        assert!(!load.is_due(now + Duration::from_secs(60)));
    }

    #[test]
    fn who_stays_slow_is_asked_ever_more_seldom() {
        let (load, mut now) = (Load::default(), Instant::now());
        load.observe(now, millis(1));
        load.observe(now, millis(50));
        for rest in [1, 2, 4, 8, 16, 32, 32] {
            let due = now + Duration::from_secs(rest);
            assert!(!load.is_due(due - millis(1)), "{rest}");
            assert!(load.is_due(due), "{rest}");
            load.observe(due, millis(50));
            now = due;
        }
    }
}
