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
    sync::OnceLock,
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
    static UNIX: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    static TOLD: Cell<(Option<Instant>, u64)> = const { Cell::new((None, 0)) };
}

/// For so many nanoseconds, Unix time is counted on from the last look at the wall clock.
const COUNTED_ON: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

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
    let now = nanos(now());
    if let Some((at, millis)) = UNIX.get() {
        let age = now.saturating_sub(at);
        if age < COUNTED_ON {
            return millis + age / MILLI;
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    UNIX.set(Some((now, millis)));
    millis
}

/// A point in time as nanoseconds, of which only differences mean something; pinned at the ends of the range, a day before
/// the first call and 584 years after it.
///
/// What is asked for every request subtracts these: a difference of two `Instant`s takes 37 instructions and a request
/// some ten of them, of a time that is the same one for most.
#[inline]
#[must_use]
pub fn nanos(at: Instant) -> u64 {
    let (told, nanos) = TOLD.get();
    if told == Some(at) { nanos } else { look_up(at) }
}

#[cold]
fn look_up(at: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // Clocks of tests, and other threads, may have begun earlier.
    let origin = ORIGIN.get_or_init(|| at.checked_sub(Duration::from_secs(24 * 3600)).unwrap_or(at));
    let nanos = u64::try_from(at.saturating_duration_since(*origin).as_nanos()).unwrap_or(u64::MAX);
    TOLD.set((Some(at), nanos));
    nanos
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

    #[test]
    fn nanoseconds_are_those_between() {
        let start = Instant::now();
        let (a, b) = (start + Duration::from_nanos(7), start + Duration::from_secs(3));
        for _ in 0..2 {
            assert_eq!(nanos(a) - nanos(start), 7);
            assert_eq!(nanos(b) - nanos(a), 2_999_999_993);
        }
    }
}
