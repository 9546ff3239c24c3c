//! What an attempt says about the health of the server that it went to.
//!
//! A breaker protects from servers that fail, not from callers that err: a 4xx is a good answer, a caller
//! that went away or came with no time left says nothing. 429 is the word of a server that is alive and
//! limits one caller. 501 and 505 are about the request.

use crate::{
    error::{Party, Reason},
    policy::retry::Ended,
};

/// True: it works. False: it fails. None: nothing is known; drop the permit.
#[must_use]
pub fn verdict(ended: Ended<'_>) -> Option<bool> {
    match ended {
        Ended::Failed(failure) => match failure.reason {
            Reason::BudgetExhausted => None,
            reason => (reason.row().origin == Party::Upstream).then_some(false),
        },
        Ended::Status(status) => Some(status < 500 || matches!(status, 501 | 505)),
        // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        Ended::Grpc(code) => Some(!matches!(code, 2 | 4 | 13 | 14 | 15)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn servers_are_judged_by_their_own_failures() {
        let failed = |reason| verdict(Ended::Failed(&Failure::new(reason, "")));
        assert_eq!(failed(Reason::ConnectionRefused), Some(false));
        assert_eq!(failed(Reason::HttpResponseTimeout), Some(false));
        assert_eq!(failed(Reason::ClientDisconnected), None);
        assert_eq!(failed(Reason::BudgetExhausted), None);
        assert_eq!(failed(Reason::LimitReached), None);
        for (status, ok) in [(200, true), (404, true), (429, true), (500, false), (501, true), (503, false)] {
            assert_eq!(verdict(Ended::Status(status)), Some(ok), "{status}");
        }
        assert_eq!([0, 5, 14].map(|code| verdict(Ended::Grpc(code))), [Some(true), Some(true), Some(false)]);
    }
}
