//! `mode: observe`: every policy decides as ever, and then only says what it would have done.
//!
//! The caller asks [`acts`] where a decision would change the fate of a request. Whatever counts (failures,
//! tokens, slots) counts in both modes, so a policy that is watched for a week is one whose numbers can be
//! believed. Two differ: a bulkhead counts with `Gate::watch` instead of
//! `Gate::enter`, as nobody may wait for a policy that does nothing, and retries are decided
//! by [`super::retry::watch`]. A request that a breaker, a rate limit or adaptive concurrency would have
//! refused goes ahead without permit, token or slot: to them it is not there, as it would not have been.

use outrigger_config::model::Mode;

use crate::error::Reason;

/// What a policy does, or would do: the `action` of `observed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Refuses or ends the request for this reason; the label is its token.
    Refuse(Reason),
    /// Takes an endpoint out of the balancing.
    Eject,
    /// Keeps the request in the queue of the bulkhead.
    Queue,
    /// Makes another attempt.
    Retry,
}

impl Action {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse(reason) => reason.token(),
            Self::Eject => "eject",
            Self::Queue => "queue",
            Self::Retry => "retry",
        }
    }
}

/// True if `action` is to be done. In observe mode it is not, and `tell` learns of it (to count it).
#[must_use]
pub fn acts(mode: Mode, action: Action, tell: impl FnOnce(Action)) -> bool {
    match mode {
        Mode::Enforce => true,
        Mode::Observe => {
            tell(action);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observing_tells_and_enforcing_acts() {
        let mut told = Vec::new();
        let action = Action::Refuse(Reason::CircuitOpen);
        assert!(acts(Mode::Enforce, action, |a| told.push(a)));
        assert!(told.is_empty());
        assert!(!acts(Mode::Observe, action, |a| told.push(a)));
        assert_eq!(told.iter().map(|a| a.as_str()).collect::<Vec<_>>(), ["circuit_open"]);
    }
}
