//! How long to wait before the next try to reach the control plane.
//!
//! Exponential with full jitter, so that the proxies of a cluster do not come back to a restarted replica all at
//! once; capped low, because a proxy that is told of nothing new should hear of it within 5 s of the control plane's
//! return.

use std::time::Duration;

use tokio::time::Instant;

/// Of the first wait.
const BASE: Duration = Duration::from_millis(100);
/// Of every wait.
const CAP: Duration = Duration::from_secs(3);
/// A connection that lived for so long was a good one: the next loss begins anew.
const STABLE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait; `random` is uniform in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        self.next_within(random, CAP)
    }

    /// The next wait, of at most `cap`.
    pub fn next_within(&mut self, random: f64, cap: Duration) -> Duration {
        let bound = BASE.saturating_mul(1 << self.failures.min(10)).min(cap);
        self.failures = self.failures.saturating_add(1);
        // Never none at all: a server that closes at once would be asked in a circle.
        bound.mul_f64(random.clamp(0.0, 1.0)).max(BASE / 4)
    }

    /// A connection made at `since` has ended.
    pub fn ended(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) >= STABLE {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_again_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits[0], BASE);
        assert_eq!(waits[3], BASE * 8);
        assert!(waits.iter().all(|w| *w <= CAP));
        assert!(backoff.next(0.0) >= BASE / 4);
        let now = Instant::now();
        backoff.ended(now, now + Duration::from_secs(1));
        assert_eq!(backoff.next(1.0), CAP);
        backoff.ended(now, now + STABLE);
        assert_eq!(backoff.next(1.0), BASE);
    }
}
