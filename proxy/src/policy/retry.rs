//! Is a failed attempt worth another one, and when?
//!
//! [`decide`] is a pure function. Its order matters: the budget is asked last, so that nothing is drawn from
//! it for an attempt that something else forbids. Rules:
//!
//! - Never after the client has seen a part of the answer, nor for what is the client's own fault.
//! - What certainly was not processed may go again whatever its method; without a policy once. A reused
//!   connection that closes before the first byte proves nothing (the request may have crossed the close),
//!   so there the method decides, as for everything else: RFC 9110 section 9.2.2, `Idempotency-Key`, or the
//!   policy's list. A POST without a key so arrives once or not at all.
//! - Without a policy, nothing else is repeated. gRPC statuses are repeated where a policy lists them,
//!   whatever the method: gRPC has none (every call is a POST), its status is the server's own word on what
//!   may be tried again (gRFC A6).
//! - The wait is the back-off (never less than its base, GEP-1731; jitter over all that is above), the
//!   server's `Retry-After` if that is longer, or exactly what a gRPC server asks for. One that does not
//!   fit into the deadline is not begun.

use std::time::Duration;

use http::Method;
use outrigger_config::model::{Retry, RetryMethods};
use tokio::time::Instant;

use crate::{
    deadline::Deadline,
    error::{Failure, Reason, Repeat},
    observe::RetryResult,
};

mod budget;
mod hint;

#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use hint::Hint;

/// How an attempt ended that might be repeated.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// Without an answer.
    Failed(&'a Failure),
    /// With this status.
    Status(u16),
    /// With this `grpc-status`, in the head of the answer.
    Grpc(u8),
}

/// One attempt, and what holds for its request.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The policy, if there is one.
    pub policy: Option<&'a Retry>,
    /// Attempts made, this one included.
    pub made: u32,
    /// How it ended.
    pub ended: Ended<'a>,
    /// Of the request.
    pub method: &'a Method,
    /// It carries an `Idempotency-Key`.
    pub keyed: bool,
    /// The client has seen a part of the answer.
    pub begun: bool,
    /// The whole body can be sent again.
    pub replayable: bool,
    /// What the server says.
    pub hint: Hint,
    /// Of the whole operation.
    pub deadline: Deadline,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt.
    Retry {
        /// After this time.
        after: Duration,
        /// On a fresh connection.
        fresh: bool,
    },
    /// No further attempt.
    Stop(Stop),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Nobody asked for it to be repeated.
    Final,
    /// All attempts were made.
    Exhausted,
    /// The server asked not to.
    PushedBack,
    /// The request is not safe to repeat.
    NotIdempotent,
    /// Its body was not kept.
    BodyTooLarge,
    /// The wait does not fit into the time that is left.
    Deadline,
    /// The budget is used up.
    Budget,
}

impl Stop {
    /// What `retries_total` counts; a request that nobody wanted to repeat is none.
    #[must_use]
    pub const fn result(self) -> Option<RetryResult> {
        match self {
            Self::Final | Self::Exhausted | Self::PushedBack => None,
            Self::NotIdempotent => Some(RetryResult::NotIdempotent),
            Self::BodyTooLarge => Some(RetryResult::BodyTooLarge),
            Self::Deadline => Some(RetryResult::Deadline),
            Self::Budget => Some(RetryResult::Budget),
        }
    }
}

/// Decides; see the module. A retry has been drawn from `budget`.
#[must_use]
pub fn decide(attempt: &Attempt<'_>, budget: &Budget, now: Instant, rng: &mut fastrand::Rng) -> Verdict {
    match weigh(attempt, now, rng) {
        Err(stop) => Verdict::Stop(stop),
        Ok(Plan { charged: true, .. }) if !budget.withdraw(now) => Verdict::Stop(Stop::Budget),
        Ok(plan) => Verdict::Retry { after: plan.after, fresh: plan.fresh },
    }
}

/// [`decide`] for a policy in observe mode: what is done is what would be done without it; beside that, true
/// if the policy would have made another attempt.
#[must_use]
pub fn watch(attempt: &Attempt<'_>, budget: &Budget, now: Instant, rng: &mut fastrand::Rng) -> (Verdict, bool) {
    let done = decide(&Attempt { policy: None, ..*attempt }, budget, now, rng);
    let would = matches!(done, Verdict::Stop(_)) && matches!(decide(attempt, budget, now, rng), Verdict::Retry { .. });
    (done, would)
}

struct Plan {
    after: Duration,
    fresh: bool,
    charged: bool,
}

fn weigh(attempt: &Attempt<'_>, now: Instant, rng: &mut fastrand::Rng) -> Result<Plan, Stop> {
    let repeat = wish(attempt).filter(|_| !attempt.begun).ok_or(Stop::Final)?;
    let unprocessed = matches!(repeat, Repeat::Unprocessed | Repeat::ReusedConnection);
    let granted = attempt.policy.map_or(0, |p| p.attempts).max(u32::from(unprocessed));
    if attempt.made > granted {
        return Err(if granted == 0 { Stop::Final } else { Stop::Exhausted });
    }
    let by_grpc = matches!(attempt.ended, Ended::Grpc(_));
    if repeat != Repeat::Unprocessed && !by_grpc && !safe(attempt) {
        return Err(Stop::NotIdempotent);
    }
    if !attempt.replayable {
        return Err(Stop::BodyTooLarge);
    }
    // The race with a server that closes an idle connection is over at once; waiting gains nothing.
    let fresh = unprocessed || matches!(attempt.ended, Ended::Failed(_));
    let raced = repeat == Repeat::ReusedConnection && attempt.made == 1;
    let wait = if raced { Duration::ZERO } else { back_off(attempt.policy, attempt.made, rng) };
    let after = match attempt.hint {
        Hint::None => wait,
        Hint::AtLeast(time) => wait.max(time),
        Hint::Exactly(time) => time,
        Hint::Never => return Err(Stop::PushedBack),
    };
    if !attempt.deadline.allows(after, now) {
        return Err(Stop::Deadline);
    }
    Ok(Plan { after, fresh, charged: !(raced || unconnected(attempt)) })
}

/// What is known of the attempt, if another one is wanted.
fn wish(attempt: &Attempt<'_>) -> Option<Repeat> {
    match attempt.ended {
        Ended::Failed(failure) => match failure.repeat {
            Repeat::Never => None,
            Repeat::IfIdempotent => attempt.policy.map(|_| Repeat::IfIdempotent),
            repeat => Some(repeat),
        },
        Ended::Status(status) => attempt.policy.filter(|p| p.codes.contains(&status)).map(|_| Repeat::IfIdempotent),
        Ended::Grpc(code) => attempt.policy.filter(|p| p.grpc_codes.contains(&code)).map(|_| Repeat::IfIdempotent),
    }
}

fn safe(attempt: &Attempt<'_>) -> bool {
    match attempt.policy.map(|p| &p.methods) {
        Some(RetryMethods::List(methods)) => attempt.keyed || methods.contains(attempt.method),
        Some(RetryMethods::Idempotent) | None => attempt.keyed || attempt.method.is_idempotent(),
    }
}

/// The first attempt that reached nobody has cost no server anything: the budget is there to protect them.
/// REFUSED_STREAM comes from a server that has too much to do, and is charged.
fn unconnected(attempt: &Attempt<'_>) -> bool {
    let Ended::Failed(failure) = attempt.ended else { return false };
    let connect = matches!(
        failure.reason,
        Reason::ConnectionRefused | Reason::ConnectionTimeout | Reason::DestinationIpUnroutable
    );
    connect && failure.repeat == Repeat::Unprocessed && attempt.made == 1
}

/// Exponential, with jitter over all that lies above the base.
fn back_off(policy: Option<&Retry>, made: u32, rng: &mut fastrand::Rng) -> Duration {
    let Some(policy) = policy else { return Duration::ZERO };
    let ceiling = policy.backoff_base.saturating_mul(1_u32.checked_shl(made).unwrap_or(u32::MAX));
    let span = ceiling.min(policy.backoff_max).saturating_sub(policy.backoff_base);
    policy.backoff_base.saturating_add(span.mul_f64(rng.f64()))
}
