//! The answer on its way down.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use outrigger_config::model::FallbackAction;
use tokio::time::Instant;

use super::{
    super::reply::Reply,
    After, Attempt, Exchange, abandoned, gone,
    upload::{Upload, at_upstream, quiet},
};
use crate::{
    clock, edit,
    error::{Failure, Reason},
    fallback::{self, Recorder},
    forward::{Pump, Sink, Source},
    http::{
        Known,
        h1::{self, Framing},
    },
    inflight::Cancelled,
    observe::tap::Moment,
    serve::access::Standing,
    timer::{Idle, Timer},
};

/// What may end the wait for the head of an answer but the upstream.
pub(super) struct Waiting<'w, 'a> {
    pub(super) reply: &'w mut Reply<'a>,
    pub(super) timer: &'w mut Timer,
    pub(super) cancelled: &'w mut Option<Cancelled>,
    idle: Idle,
}

impl<'w, 'a> Waiting<'w, 'a> {
    pub(super) fn new(
        at: &Attempt<'_>,
        reply: &'w mut Reply<'a>,
        timer: &'w mut Timer,
        cancelled: &'w mut Option<Cancelled>,
    ) -> Self {
        Self { reply, timer, cancelled, idle: Idle::since(at.policy.timeouts.idle, at.lease.started()) }
    }

    /// Ready once nobody waits any more: with why, or with `None` if the attempt's time is up. `interim`: answers
    /// before the final one.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        at: &Attempt<'_>,
        upload: &Upload<'_>,
        body: &Source<'_>,
        interim: u64,
    ) -> Poll<Option<Failure>> {
        if self.reply.poll_gone(cx).is_ready() {
            return Poll::Ready(Some(gone()));
        }
        if self.cancelled.as_mut().is_some_and(|c| c.poll(cx).is_ready()) {
            return Poll::Ready(Some(abandoned()));
        }
        if self.timer.poll_opt(cx, earlier(at.limit, self.idle.next_look())).is_ready() {
            let now = clock::now();
            if at.limit.is_some_and(|limit| limit <= now) {
                return Poll::Ready(None);
            }
            if self.idle.expired(now, upload.progress + interim) {
                return Poll::Ready(Some(quiet(at, upload, body)));
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Sends the answer whose head came on to the client, with its body. What becomes of the upstream's connection
/// is for the caller, who knows its protocol.
///
/// # Errors
/// The exchange broke: the client has seen a part of the answer.
pub(super) async fn pass_on(
    ex: &mut Exchange<'_>,
    at: &Attempt<'_>,
    upload: &mut Upload<'_>,
    source: &mut Source<'_>,
    framing: Framing,
) -> Result<After, Failure> {
    answered(ex, at);
    let close = ex.closes_after(framing);
    relay(ex, at, upload, source, framing, close).await?;
    // Part of a body that the upstream did not want is still on its way from the client.
    Ok(if close || !ex.body.is_over() { After::Close } else { After::KeepAlive })
}

/// The head of an answer came: edits it, and notes what it says.
pub(super) fn answered(ex: &mut Exchange<'_>, attempt: &Attempt<'_>) {
    let now = clock::now();
    ex.first_byte = Some(now);
    let response = &mut *ex.response;
    attempt.lease.answered(now, response.status < 500);
    ex.held.measure(now);
    h1::strip_hop_by_hop(&mut response.headers, false);
    if ex.grpc {
        ex.grpc_status = grpc_status(&response.headers);
    }
    if let Some(edits) = &ex.backend_edits {
        edit::apply(edits, &mut response.headers);
    }
    if let Some(rule) = ex.rule.and_then(|rule| ex.view.rule(rule)) {
        edit::apply(&rule.response_headers, &mut response.headers);
    }
    ex.view.correlator.set(&mut response.headers, &ex.request_id);
    if let Some(reason) = ex.degraded {
        fallback::mark(response, reason);
    }
    if response.headers.get_known(Known::ContentType).is_some_and(|t| t.starts_with(b"text/event-stream")) {
        // A stream of events has no end to wait for: only its idle time bounds it.
        ex.deadline = crate::deadline::Deadline::NONE;
    }
}

/// `grpc-status` of a head or of trailers.
pub(in crate::serve) fn grpc_status(headers: &crate::http::Headers) -> Option<u8> {
    std::str::from_utf8(headers.get_known(Known::GrpcStatus)?).ok()?.parse().ok()
}

/// For how long good answers are kept, where the policy falls back on them.
fn keeps(ex: &Exchange<'_>) -> Option<Duration> {
    match ex.view.policy(ex.policy?).fallback.as_ref()?.action {
        FallbackAction::StaleIfError(keep) if ex.degraded.is_none() => Some(keep),
        _ => None,
    }
}

/// Takes the answer down while it is relayed, if it is one to fall back on.
fn keep_answer(ex: &Exchange<'_>, source: &mut Source<'_>, keep: Duration) {
    let store = &ex.client.worker.shared.good;
    let asked = ex.asked();
    if !ex.head.method.is_safe() && ex.response.status < 400 {
        store.forget(&asked);
    }
    if let Some(recorder) = Recorder::begin(store, &asked, ex.response, keep, clock::now()) {
        source.take_down(recorder);
    }
}

/// Carries the answer's body to the client, and what is left of the request's to the upstream.
///
/// # Errors
/// The exchange broke: the client has seen a part of the answer.
async fn relay(
    ex: &mut Exchange<'_>,
    attempt: &Attempt<'_>,
    upload: &mut Upload<'_>,
    source: &mut Source<'_>,
    framing: Framing,
    close: bool,
) -> Result<(), Failure> {
    ex.status = ex.response.status;
    if let Some(keep) = keeps(ex) {
        keep_answer(ex, source, keep);
    }
    Standing::new(ex.client, &ex.view, ex.way, ex.head, ex.asked.as_deref(), &mut ex.ruling).check()?;
    ex.tell(Moment::Answer);
    let mut sink = ex.reply.begin(ex.response, framing, close).map_err(|_| gone())?;
    let mut pump = Pump::default();
    let mut idle = Idle::since(attempt.policy.timeouts.idle, ex.first_byte.unwrap_or(ex.started));
    let mut progress = 0;
    let limit = ex.deadline.at();
    let deadline = ex.deadline;
    let Exchange { body, timer, cancelled, client, view, way, head, asked, ruling, .. } = ex;
    let mut standing = Standing::new(client, view, *way, head, asked.as_deref(), ruling);
    let result = poll_fn(|cx| {
        standing.check()?;
        match pump.poll(cx, source, &mut sink, &mut progress) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(e)) if e.at_source() => return Poll::Ready(Err(at_upstream(&attempt.who(), &e))),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(gone())),
            Poll::Pending => {}
        }
        if let Poll::Ready(failure) = upload.poll(cx, body) {
            return Poll::Ready(Err(failure));
        }
        if sink.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        if cancelled.as_mut().is_some_and(|c| c.poll(cx).is_ready()) {
            return Poll::Ready(Err(abandoned()));
        }
        if timer.poll_opt(cx, earlier(limit, idle.next_look())).is_ready() {
            let now = clock::now();
            if deadline.is_over(now) {
                return Poll::Ready(Err(deadline.failure()));
            }
            if idle.expired(now, progress + upload.progress) {
                let details = format!("nothing moved between {} and the client for timeouts.idle", attempt.who());
                return Poll::Ready(Err(Failure::new(Reason::ConnectionReadTimeout, details)));
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
    ex.response_bytes = source.taken;
    if result.is_ok() {
        source.taken_down(clock::now());
    }
    if let (true, Some(trailers)) = (ex.grpc, source.trailers()) {
        ex.grpc_status = grpc_status(trailers).or(ex.grpc_status);
    }
    if let (Err(failure), Sink::Client { stream, ended: false }) = (&result, &mut sink) {
        if ex.grpc && failure.reason != Reason::ClientDisconnected {
            // A gRPC client learns the reason from trailers; a reset would be INTERNAL to it.
            let mut trailers = crate::http::Headers::new();
            ex.grpc_status = Some(failure.reason.row().grpc);
            crate::answer::push_grpc_status(failure, &mut trailers);
            // A stream that is over needs none.
            let _gone = stream.trailers(&trailers);
        } else {
            stream.reset(h2::Reason::INTERNAL_ERROR);
        }
    }
    result
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
