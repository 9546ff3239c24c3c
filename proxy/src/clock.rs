//! The time, looked at once each time that a task is polled.
//!
//! A request is asked for the time some ten times: when it began, by limits, breakers and the balancer, when its
//! answer began and ended. Most of that happens in the same poll of its task, within microseconds, and a look at
//! the clock costs 25 to 50 ns. So a task that is [`pinned`](per_poll) to this clock looks at it when it is first
//! asked in a poll, and all that happens in that poll happens at that time.
//!
//! The time told is therefore never ahead, and behind by at most the length of one poll of one task: tens of
//! microseconds, bounded by the budget of operations that the runtime gives a task. Limits are in milliseconds, and
//! the lowest bucket of the durations is 5 ms. A timer that has gone off did so before the poll that sees it, so no
//! limit is taken for unmet that was met. Outside of such a task the clock is looked at each time.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

#[derive(Clone, Copy)]
enum Reading {
    /// No task that uses this clock is being polled.
    Off,
    /// One is, and has not asked yet.
    Due,
    /// It has.
    At(Instant),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Off) };
    static UNIX: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// For so long, Unix time is counted on from the last look at the wall clock.
const COUNTED_ON: Duration = Duration::from_secs(1);

/// The time.
#[must_use]
pub fn now() -> Instant {
    READING.with(|reading| match reading.get() {
        Reading::At(now) => now,
        Reading::Off => Instant::now(),
        Reading::Due => {
            let now = Instant::now();
            reading.set(Reading::At(now));
            now
        }
    })
}

/// Milliseconds of Unix time, for identifiers that sort by it: a step of the wall clock shows within a second.
#[must_use]
pub fn unix_millis() -> u64 {
    let now = now();
    if let Some((at, millis)) = UNIX.get() {
        let age = now.saturating_duration_since(at);
        if age < COUNTED_ON {
            return millis + u64::from(age.subsec_millis());
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    UNIX.set(Some((now, millis)));
    millis
}

/// Runs `future` with one look at the clock for each of its polls.
pub async fn per_poll<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    poll_fn(|cx| {
        let _turn = Turn::begin();
        future.as_mut().poll(cx)
    })
    .await
}

/// One poll. Ends what is known of the time, however it ends.
struct Turn;

impl Turn {
    fn begin() -> Self {
        READING.set(Reading::Due);
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        READING.set(Reading::Off);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_within_a_poll_and_only_there() {
        let work = pin!(async {
            let first = now();
            tokio::time::advance(Duration::from_secs(1)).await;
            let second = now();
            assert_eq!(now(), second);
            (first, second)
        });
        let (first, second) = per_poll(work).await;
        assert_eq!(second - first, Duration::from_secs(1));
        assert_eq!(now(), Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now(), second + Duration::from_secs(1));
    }
}
