//! Faults put in on purpose, to see what an app makes of them: which request gets which.
//!
//! Pure: random numbers are arguments. Delay and abort are drawn apart, so 5 % of delay and 1 % of abort
//! mean that whatever the other does. A delay comes first: that is what a slow server that then fails does.

use std::time::Duration;

use outrigger_config::{
    matching::RequestView,
    model::{FaultAbort, FaultInjection},
};

#[cfg(test)]
mod tests;

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    /// Wait so long first.
    pub delay: Option<Duration>,
    /// Then answer so instead of forwarding.
    pub abort: Option<Abort>,
}

/// An answer instead of forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// HTTP status.
    pub status: u16,
    /// `grpc-status` for gRPC; `None`: that of the table of reasons.
    pub grpc_status: Option<u8>,
}

impl Fault {
    /// None.
    pub const NONE: Self = Self { delay: None, abort: None };

    /// What `request` gets; the draws are uniform in [0, 1).
    #[must_use]
    pub fn decide(policy: &FaultInjection, request: &impl RequestView, delay_draw: f64, abort_draw: f64) -> Self {
        if !policy.when.iter().all(|condition| condition.header_holds(request)) {
            return Self::NONE;
        }
        let delay = policy.delay.as_ref().filter(|d| hits(d.percent, delay_draw)).map(|d| d.duration);
        let abort = policy.abort.as_ref().filter(|a| hits(a.percent, abort_draw)).map(Abort::of);
        Self { delay: delay.filter(|d| !d.is_zero()), abort }
    }

    /// True if the request goes on as if nothing were.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl Abort {
    fn of(policy: &FaultAbort) -> Self {
        Self { status: policy.status, grpc_status: policy.grpc_status }
    }
}

/// 0 never, 100 always, whatever is drawn.
fn hits(percent: f64, draw: f64) -> bool {
    draw * 100.0 < percent
}
