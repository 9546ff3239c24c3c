//! The request on its way up, and what a failure on the way means.

use std::{io, task::Poll};

use super::{Attempt, Exchange, gone};
use crate::{
    clock,
    error::{Failure, Reason, Repeat},
    forward::{Pump, PumpError, Sink, Source},
    tls::{Side, failure},
};

/// The request on its way up.
pub(super) struct Upload<'a> {
    pub(super) pump: Pump,
    pub(super) sink: Sink<'a>,
    pub(super) progress: u64,
    /// The upstream takes no more of it; it may still answer.
    pub(super) broken: bool,
}

impl<'a> Upload<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { pump: Pump::default(), sink, progress: 0, broken: false }
    }

    /// The whole request was sent.
    pub(super) fn done(&self) -> bool {
        self.pump == Pump::Done && !self.broken
    }

    /// All that can be sent was.
    pub(super) fn rests(&self) -> bool {
        self.pump == Pump::Done || self.broken
    }

    /// The upstream would take more, and the client sends none.
    pub(super) fn waits_for_client(&self, body: &Source<'_>) -> bool {
        let unsent = matches!(&self.sink, Sink::H1 { out, .. } if !out.is_empty());
        self.pump == Pump::Flowing && !self.broken && !unsent && body.chunk().is_empty()
    }

    /// Moves the request on, or watches the client once it is sent.
    pub(super) fn poll(&mut self, cx: &mut std::task::Context<'_>, body: &mut Source<'_>) -> Poll<Failure> {
        if self.rests() {
            return body.poll_gone(cx).map(|()| gone());
        }
        match self.pump.poll(cx, body, &mut self.sink, &mut self.progress) {
            Poll::Ready(Err(e)) if e.at_source() => Poll::Ready(at_client(&e)),
            Poll::Ready(Err(_)) => {
                self.broken = true;
                body.poll_gone(cx).map(|()| gone())
            }
            // What was sent last registers no wake-up for the client: from here on it is watched.
            Poll::Ready(Ok(())) => body.poll_gone(cx).map(|()| gone()),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Nothing has moved for `timeouts.idle`, and the head of an answer did not come.
pub(super) fn quiet(attempt: &Attempt<'_>, upload: &Upload<'_>, body: &Source<'_>) -> Failure {
    if upload.waits_for_client(body) {
        return Failure::new(Reason::RequestTimeout, "nothing came of the request's body for timeouts.idle");
    }
    let details = format!("nothing moved between {} and the client for timeouts.idle", attempt.who());
    Failure::new(Reason::ConnectionReadTimeout, details)
}

/// What a client's body did wrong.
pub(super) fn at_client(error: &PumpError) -> Failure {
    match error {
        PumpError::Malformed(e) => Failure::from(*e),
        PumpError::Trailers(what) => Failure::new(Reason::RequestHeaderSize, *what),
        PumpError::Truncated | PumpError::Read(_) | PumpError::ReadReset(_) => {
            Failure::new(Reason::ClientDisconnected, format!("the client broke off its request: {error}"))
        }
        PumpError::Write(_) | PumpError::WriteReset(_) => gone(),
    }
}

/// What an upstream's body did wrong.
pub(super) fn at_upstream(who: &str, error: &PumpError) -> Failure {
    let reason = match error {
        PumpError::Malformed(_) | PumpError::Trailers(_) => Reason::HttpProtocolError,
        _ => Reason::HttpResponseIncomplete,
    };
    Failure::new(reason, format!("{who} broke off its answer: {error}"))
}

/// The time of an attempt, or of the whole operation, is up before the head of an answer came.
pub(super) fn timed_out(ex: &Exchange<'_>, attempt: &Attempt<'_>) -> Failure {
    if ex.deadline.is_over(clock::now()) {
        return ex.deadline.failure();
    }
    let details = format!("{} did not begin its answer within timeouts.backendRequest", attempt.who());
    Failure::new(Reason::HttpResponseTimeout, details).repeat(Repeat::IfIdempotent)
}

/// A connection that failed before the head of an answer came.
pub(super) fn broken(attempt: &Attempt<'_>, reused: bool, error: Option<&io::Error>) -> Failure {
    if let Some(failure) = error.and_then(|e| failure::of_io(e, Side::Server, &attempt.who())) {
        // Under TLS 1.3 a server refuses our certificate when our handshake is over; it has read no request.
        let refused = !reused && failure.reason == Reason::TlsAlertReceived;
        return failure.repeat(if refused { Repeat::Unprocessed } else { Repeat::IfIdempotent });
    }
    let what = error.map_or_else(|| "closed the connection".to_owned(), |e| format!("broke the connection ({e})"));
    let details = format!("{} {what} before its answer began", attempt.who());
    let repeat = if reused { Repeat::ReusedConnection } else { Repeat::IfIdempotent };
    Failure::new(Reason::ConnectionTerminated, details).repeat(repeat)
}
