//! An attempt over HTTP/2.

use std::{future::poll_fn, task::Poll};

use super::{After, Attempt, Unanswered, Upload, Waiting, admit, over_h1, pass_on, timed_out};
use crate::{
    clock,
    error::{Failure, Reason, Repeat},
    forward::{Sink, Source},
    http::{
        Known, Scheme,
        h1::{Framing, Limits},
        h2::convert,
    },
    serve::{RESPONSE_HEAD_BYTES, access::Standing, exchange::Exchange},
    upstream::H2Lease,
};

const LIMITS: Limits = Limits { max_header_bytes: RESPONSE_HEAD_BYTES as usize, max_header_count: 200 };

/// Sends the request of `ex` to the attempt's endpoint, and the answer to the client.
///
/// # Errors
/// No head of an answer came.
pub(super) async fn attempt(ex: &mut Exchange<'_>, at: &Attempt<'_>) -> Result<After, Unanswered> {
    if ex.arrived.upgrade.is_some() {
        let details = format!("{} speaks HTTP/2, which has no Upgrade", at.who());
        return Err(Failure::new(Reason::HttpUpgradeFailed, details).into());
    }
    let worker = &ex.client.worker;
    let endpoint = &at.lease.endpoint;
    let place = endpoint.h2.acquire(worker, at.direction(ex), at.upstream, endpoint, at.fresh, at.limit);
    let mut place = Box::pin(place);
    let lease = admit::wait(ex, |cx| place.as_mut().poll(cx)).await??;
    let scheme = if at.upstream.tls.is_some() || endpoint.state.config.identity.is_some() {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let length = match ex.arrived.framing {
        Framing::Length(n) | Framing::Declared(n) => Some(n),
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    };
    if ex.head.authority.is_empty() {
        ex.head.authority = endpoint.address().to_string();
    }
    let request = convert::request_to(ex.head, scheme, length)?;
    let mut sender = lease.sender();
    let timer = &mut *ex.timer;
    let ready = poll_fn(|cx| match sender.poll_ready(cx) {
        Poll::Pending if timer.poll_opt(cx, at.limit).is_ready() => Poll::Ready(None),
        other => other.map(Some),
    })
    .await;
    match ready {
        None => {
            lease.unanswered(at.lease.started(), clock::now());
            return Err(timed_out(ex, at).into());
        }
        Some(Err(e)) => {
            lease.condemn();
            return Err(failed(at, &lease, &e).repeat(Repeat::Unprocessed).into());
        }
        Some(Ok(())) => {}
    }
    let end = ex.body.is_over();
    let (mut answer, stream) = sender.send_request(request, end).map_err(|e| {
        lease.condemn();
        // Nothing was sent: the connection took no further stream.
        failed(at, &lease, &e).repeat(Repeat::Unprocessed)
    })?;
    let mut upload = Upload::new(Sink::H2 { stream, ended: end });
    let mut interim: u64 = 0;
    let Exchange { body, reply, timer, response, head, arrived, cancelled, client, view, way, asked, ruling, .. } = ex;
    let mut standing = Standing::new(client, view, *way, head, asked.as_deref(), ruling);
    let mut waiting = Waiting::new(at, reply, timer, cancelled);
    let head = poll_fn(|cx| {
        standing.check().map_err(Some)?;
        if let Poll::Ready(failure) = upload.poll(cx, body) {
            return Poll::Ready(Err(Some(failure)));
        }
        while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
            let (parts, ()) = head.into_parts();
            interim += 1;
            if interim > over_h1::MAX_INTERIM {
                let details = format!("{} sent more 1xx answers than any server does", at.who());
                return Poll::Ready(Err(Some(Failure::new(Reason::HttpProtocolError, details))));
            }
            if convert::response_from(&parts, &LIMITS, response).is_ok()
                && (response.status != 100 || arrived.expects_continue)
            {
                waiting.reply.inform(response);
            }
        }
        if let Poll::Ready(result) = std::pin::Pin::new(&mut answer).poll(cx) {
            return Poll::Ready(result.map_err(|e| Some(failed(at, &lease, &e))));
        }
        waiting.poll(cx, at, &upload, body, interim).map(Err)
    })
    .await;
    let (parts, stream) = match head {
        Ok(response) => response.into_parts(),
        Err(failure) => {
            cancel(&mut upload);
            let silent = |f: &Failure| f.reason == Reason::ConnectionReadTimeout;
            if failure.as_ref().is_none_or(silent) {
                lease.unanswered(at.lease.started(), clock::now());
            }
            return Err(failure.unwrap_or_else(|| timed_out(ex, at)).into());
        }
    };
    convert::response_from(&parts, &LIMITS, ex.response).map_err(|f| f.repeat(Repeat::IfIdempotent))?;
    if let Some(again) = super::retry_answer(ex, at) {
        if !upload.done() {
            cancel(&mut upload);
        }
        return Err(again);
    }
    let framing = framing(ex, stream.is_end_stream());
    // What comes after a head that has no body is none of it: an HTTP/1 client would take it for its next answer.
    let bodiless = matches!(framing, Framing::None | Framing::Declared(_));
    let mut source = if bodiless { Source::empty() } else { Source::h2(stream, LIMITS) };
    let passed = pass_on(ex, at, &mut upload, &mut source, framing).await;
    if !upload.done() {
        cancel(&mut upload);
    }
    drop((source, upload));
    match passed {
        Ok(after) => Ok(after),
        Err(failure) => Ok(ex.answer(failure).await),
    }
}

/// How the answer's body is framed towards an HTTP/1 client.
fn framing(ex: &mut Exchange<'_>, ended: bool) -> Framing {
    let declared = crate::http::h2::content_length(&ex.response.headers);
    ex.response.headers.remove_known(Known::ContentLength);
    let bodiless = ex.head.method == http::Method::HEAD || ex.response.status == 304;
    match declared {
        Some(n) if bodiless => Framing::Declared(n),
        _ if bodiless || ex.response.status == 204 => Framing::None,
        Some(n) => Framing::Length(n),
        None if ended => Framing::Length(0),
        None => Framing::Chunked,
    }
}

/// The upstream is told at once that nobody waits for the answer any more.
fn cancel(upload: &mut Upload<'_>) {
    if let Sink::H2 { stream, .. } = &mut upload.sink {
        stream.send_reset(h2::Reason::CANCEL);
    }
}

/// What a failing stream or connection means for the request.
fn failed(at: &Attempt<'_>, lease: &H2Lease, error: &h2::Error) -> Failure {
    if let Some(failure) = lease.tls_failure(&at.who()) {
        return failure;
    }
    let refused = error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // Streams above the last one that a GOAWAY names fail with it, and were not looked at (RFC 9113 6.8).
    let above = error.is_go_away() && error.is_remote();
    let repeat = if refused || above { Repeat::Unprocessed } else { Repeat::IfIdempotent };
    let reason =
        if error.is_io() || refused || above { Reason::ConnectionTerminated } else { Reason::HttpProtocolError };
    Failure::new(reason, format!("{} failed the stream before its answer began: {error}", at.who())).repeat(repeat)
}
