//! Waiting for a condition, with a deadline.
//!
//! A test that sleeps is either slow or flaky. These probe every few milliseconds, return as soon as the
//! condition holds, and name it when it does not.

use std::time::Duration;

use tokio::time::Instant;

/// The deadline of conditions that hold at once on a healthy machine: long, because CI machines are loaded.
pub const LONG: Duration = Duration::from_secs(10);

/// Time between two probes: short against every deadline, long against the cost of a probe.
const PAUSE: Duration = Duration::from_millis(5);

/// The first `Some` of `probe`. Panics with `what` when `within` has passed.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// Checks that `probe` stays true for `span`: for things that must not happen.
#[track_caller]
pub fn holds(what: &str, span: Duration, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(probe(), "ceased to hold: {what}");
        std::thread::park_timeout(PAUSE);
    }
}
