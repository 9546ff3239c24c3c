//! How long to wait before asking again.
//!
//! Exponential with full jitter: eleven kinds of several replicas lose the API server at the same moment, and must not come
//! back at the same moment. The state is a counter and randomness is an argument, so that it is tested without waiting.

use std::time::Duration;

/// Waits between attempts that fail.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backoff {
    /// Of each [`Cost`]: an hour without an answer must not delay the one list that follows it.
    failures: [u32; 3],
}

/// How dear an attempt is to whom it is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// One request that nobody answers, is refused, or resumes a watch. Bounded so that an API server that is back is used again within
    /// five seconds.
    Resume,
    /// A list of everything of a kind.
    List,
    /// Permissions and definitions change when people change them.
    Human,
}

impl Cost {
    fn bounds(self) -> (Duration, Duration) {
        match self {
            Self::Resume => (Duration::from_millis(100), Duration::from_secs(2)),
            Self::List => (Duration::from_millis(200), Duration::from_secs(10)),
            Self::Human => (Duration::from_millis(500), Duration::from_secs(10)),
        }
    }
}

impl Backoff {
    /// The wait after another failure; `random` is evenly distributed in `0.0..1.0`. At least a tenth of the bound, so that it is
    /// never a busy loop, and at least what the server asked for.
    pub(crate) fn after(&mut self, cost: Cost, asked: Option<Duration>, random: f64) -> Duration {
        let (base, max) = cost.bounds();
        let failures = &mut self.failures[cost as usize];
        let bound = base.saturating_mul(1 << (*failures).min(16)).min(max);
        *failures = failures.saturating_add(1);
        let wait = bound.mul_f64(0.1 + 0.9 * random.clamp(0.0, 1.0));
        wait.max(asked.unwrap_or_default().min(MOST_ASKED))
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = [0; 3];
    }
}

/// Of a `Retry-After`: more is not believed.
const MOST_ASKED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_are_spread() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.after(Cost::Resume, None, 1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!(backoff.after(Cost::Resume, None, 0.0).as_millis(), 200);
        // The first list after a long outage is not the price of the outage.
        assert_eq!(backoff.after(Cost::List, None, 1.0).as_millis(), 200);
        for _ in 0..100 {
            assert!(backoff.after(Cost::List, None, 0.5) <= Duration::from_secs(10));
        }
        backoff.reset();
        assert_eq!(backoff.after(Cost::List, None, 1.0).as_millis(), 200);
    }

    #[test]
    fn the_server_may_ask_for_more_time() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(Cost::Resume, Some(Duration::from_secs(5)), 0.0), Duration::from_secs(5));
        assert_eq!(backoff.after(Cost::Resume, Some(Duration::from_secs(3600)), 0.0), MOST_ASKED);
    }
}
