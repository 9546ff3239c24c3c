//! Whether an attempt is followed by another one, and what an observed policy would have done.

use std::time::{Duration, SystemTime};

use outrigger_config::model::{Mode, TrafficPolicy};
use tokio::time::Instant;

use super::{Attempt, Exchange, Targets, Unanswered, grpc_status};
use crate::{
    clock,
    error::Reason,
    http::Known,
    policy::{
        breaker,
        observe::Action,
        retry::{self, Ended, Hint, Verdict},
    },
};

/// In observe mode: counts what the policy's times would have ended.
pub(super) fn watch_times(
    ex: &Exchange<'_>,
    policy: &TrafficPolicy,
    targets: &Targets,
    started: Instant,
    now: Instant,
) {
    let Some(own) = targets[0].as_ref().filter(|_| policy.mode == Mode::Observe) else { return };
    let head = ex.first_byte.unwrap_or(now);
    let over = |limit: Option<Duration>, time: Duration| limit.is_some_and(|limit| time > limit);
    if over(policy.timeouts.request, now.saturating_duration_since(ex.started))
        || over(policy.timeouts.backend_request, head.saturating_duration_since(started))
    {
        own.would(Action::Refuse(Reason::HttpResponseTimeout));
    }
}

/// Whether, when and how to try again after an attempt that `ended` so.
pub(super) fn again(ex: &Exchange<'_>, at: &Attempt<'_>, ended: Ended<'_>, hint: Hint) -> Option<(Duration, bool)> {
    let target = at.targets[0].as_ref()?;
    let attempt = retry::Attempt {
        policy: at.policy.retry.as_ref().filter(|_| ex.arrived.upgrade.is_none()),
        made: ex.attempts,
        ended,
        method: &ex.head.method,
        keyed: ex.head.headers.has(Known::IdempotencyKey),
        begun: ex.reply.begun(),
        replayable: ex.body.can_rewind(),
        hint,
        deadline: ex.deadline,
    };
    let budget = &target.target.state.budget;
    let now = clock::now();
    let mut rng = ex.client.worker.rng.borrow_mut();
    let verdict = match at.policy.mode {
        Mode::Enforce => retry::decide(&attempt, budget, now, &mut rng),
        Mode::Observe => {
            let (verdict, would) = retry::watch(&attempt, budget, now, &mut rng);
            if would {
                target.would(Action::Retry);
            }
            verdict
        }
    };
    match verdict {
        Verdict::Retry { after, fresh } => Some((after, fresh)),
        Verdict::Stop(stop) => {
            if let Some(result) = stop.result() {
                at.upstream.observer.retry(result);
            }
            None
        }
    }
}

/// The head of an answer is there: whether the policy wants another one instead. Also keeps away from an
/// endpoint that asks for it.
pub(super) fn retry_answer(ex: &mut Exchange<'_>, at: &Attempt<'_>) -> Option<Unanswered> {
    let headers = &ex.response.headers;
    let status = ex.response.status;
    let grpc = if ex.grpc { grpc_status(headers) } else { None };
    if status < 400 && grpc.is_none_or(|code| code == 0) {
        return None;
    }
    let mut hint = Hint::None;
    if let Some(value) = headers.get_known(Known::RetryAfter) {
        hint = Hint::retry_after(value, SystemTime::now());
        if let (429 | 503, Hint::AtLeast(time)) = (status, hint) {
            at.lease.hold(time, clock::now());
        }
    }
    if let Some(value) = headers.get_known(Known::GrpcRetryPushbackMs) {
        hint = Hint::pushback(value);
    }
    let ended = grpc.map_or(Ended::Status(status), Ended::Grpc);
    let (after, _) = again(ex, at, ended, hint)?;
    at.lease.answered(clock::now(), false);
    ex.body.rewind().then(|| Unanswered::Again { after, ok: breaker::verdict(ended) })
}

/// Safe to be sent twice (RFC 9110 9.2.2).
pub(super) fn repeatable(ex: &Exchange<'_>) -> bool {
    ex.head.method.is_idempotent() || ex.head.headers.has(Known::IdempotencyKey)
}
