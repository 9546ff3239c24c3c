//! The time that a request has left: the policy's, or the caller's if that is shorter.
//!
//! A caller passes on what remains as `grpc-timeout` (gRPC) or `x-outrigger-timeout-ms`, relative, so no
//! clocks are compared. It can only shorten: whoever sends it, no request gets more than policy grants.
//! A value that does not parse is as good as none. What is passed on is rounded down, but never to zero
//! while something remains: the receiver would take that for "used up".
//!
//! Sans-io: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    error::{Failure, Reason},
    http::{Headers, Known},
};

#[cfg(test)]
mod tests;

/// Longest time that is obeyed. Beyond it there is no deadline: nobody waits a year, and sums of times
/// stay far from the end of the clock.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The point at which a request has no time left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
    set_by: SetBy,
}

/// Whose time a deadline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetBy {
    Caller,
    Policy,
}

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self { at: None, set_by: SetBy::Policy };

    /// The earlier of what the caller has left and `timeout`, counted from `now`.
    #[must_use]
    pub fn new(headers: &Headers, grpc: bool, timeout: Option<Duration>, now: Instant) -> Self {
        let caller = Self { at: from_caller(headers, grpc).and_then(|left| after(now, left)), set_by: SetBy::Caller };
        caller.within(timeout, now)
    }

    /// The earlier of this one and `timeout` from `now`: that of one attempt, for one.
    #[must_use]
    pub fn within(self, timeout: Option<Duration>, now: Instant) -> Self {
        let policy = timeout.and_then(|timeout| after(now, timeout));
        match (self.at, policy) {
            (Some(own), Some(other)) if other < own => Self { at: Some(other), set_by: SetBy::Policy },
            (None, Some(other)) => Self { at: Some(other), set_by: SetBy::Policy },
            _ => self,
        }
    }

    /// The earlier of this one and `at`, which the caller behind the caller has set.
    #[must_use]
    pub fn inherit(self, at: Option<Instant>) -> Self {
        match (self.at, at) {
            (Some(own), Some(other)) if other >= own => self,
            (_, Some(other)) => Self { at: Some(other), set_by: SetBy::Caller },
            (_, None) => self,
        }
    }

    /// The point in time, for a timer.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// What is left; zero when used up, `None` without a deadline.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(now))
    }

    /// True if nothing is left.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// True if the whole of `wait` fits in: a back-off that does not is not worth beginning.
    #[must_use]
    pub fn allows(&self, wait: Duration, now: Instant) -> bool {
        self.remaining(now).is_none_or(|left| wait < left)
    }

    /// The failure of a request that reached the deadline: the caller's time was used up, or the upstream
    /// did not answer within the policy's.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self.set_by {
            SetBy::Caller => {
                Failure::new(Reason::BudgetExhausted, "the time that the caller gave the request is used up")
            }
            SetBy::Policy => {
                Failure::new(Reason::HttpResponseTimeout, "the upstream did not answer within timeouts.request")
            }
        }
    }

    /// Passes on what is left. Without a deadline the headers stay as they are.
    pub fn inject(&self, headers: &mut Headers, grpc: bool, now: Instant) {
        let Some(left) = self.remaining(now) else { return };
        if grpc {
            let mut buffer = [0; 9];
            headers.set_known(Known::GrpcTimeout, format_grpc_timeout(left, &mut buffer));
            // A second, older truth must not go along.
            headers.remove_known(Known::XOutriggerTimeoutMs);
        } else {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let millis = millis.max(u64::from(!left.is_zero()));
            headers.set_known(Known::XOutriggerTimeoutMs, itoa::Buffer::new().format(millis).as_bytes());
        }
    }
}

/// What the caller has left, by its headers. gRPC callers may send both; the shorter one holds.
fn from_caller(headers: &Headers, grpc: bool) -> Option<Duration> {
    let ours = headers.get_known(Known::XOutriggerTimeoutMs).and_then(parse_millis);
    let theirs = if grpc { headers.get_known(Known::GrpcTimeout).and_then(parse_grpc_timeout) } else { None };
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    }
}

fn after(now: Instant, time: Duration) -> Option<Instant> {
    if time > FOREVER { None } else { now.checked_add(time) }
}

/// `x-outrigger-timeout-ms`: 1 to 15 decimal digits.
fn parse_millis(value: &[u8]) -> Option<Duration> {
    digits(value, 15).map(Duration::from_millis)
}

/// `grpc-timeout`: 1 to 8 decimal digits and one of `HMSmun` (gRPC over HTTP/2, "Timeout").
#[must_use]
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, number) = value.split_last()?;
    let number = digits(number, 8)?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// `time` as `grpc-timeout`, rounded down, in the finest unit in which it has at most 8 digits.
#[must_use]
pub fn format_grpc_timeout(time: Duration, buffer: &mut [u8; 9]) -> &[u8] {
    const MAX: u128 = 99_999_999;
    let seconds = u128::from(time.as_secs());
    let units = [
        (time.as_nanos(), b'n'),
        (time.as_micros(), b'u'),
        (time.as_millis(), b'm'),
        (seconds, b'S'),
        (seconds / 60, b'M'),
    ];
    let (number, unit) =
        units.into_iter().find(|(number, _)| *number <= MAX).unwrap_or(((seconds / 3600).min(MAX), b'H'));
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    let len = digits.len().min(8);
    buffer[..len].copy_from_slice(&digits[..len]);
    buffer[len] = unit;
    &buffer[..=len]
}

/// The number behind 1 to `max` decimal digits; `max` is at most 19.
fn digits(text: &[u8], max: usize) -> Option<u64> {
    if text.is_empty() || text.len() > max {
        return None;
    }
    text.iter().try_fold(0_u64, |number, b| b.is_ascii_digit().then(|| number * 10 + u64::from(b - b'0')))
}
