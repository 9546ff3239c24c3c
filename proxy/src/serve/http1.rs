//! An HTTP/1 client: one request after the other, all in the connection's own task.

use std::{future::poll_fn, task::Poll, time::Duration};

use http::Method;
use tokio::time::Instant;

use super::{
    connection::Client,
    exchange::{After, Arrived, Tunnel},
    opaque,
    reply::Reply,
    request::{self, Scratch},
};
use crate::{
    answer::Answer,
    buffer::{Buf, Out},
    correlate::RequestId,
    error::{Failure, Reason},
    forward::{Left, Source},
    http::{
        Known, Version,
        h1::{self, Framing, HeadScanner, Limits, Message, Persist, RequestMeta},
    },
    io::Io,
    observe::Record,
};

/// After the last answer on a connection, its client's bytes are read for so long: closing with unread
/// bytes would reset the connection and take the answer with it (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// And so many: a client that goes on sending is not waited for.
const LINGER_BYTES: usize = 1024 * 1024;

/// How long a kept-alive connection stays open for another request once the proxy drains.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// What a wait for a request ended with.
enum Next {
    Request(RequestMeta),
    Bad(Failure),
    Closed,
}

/// Serves an HTTP/1 client until its connection ends.
pub async fn serve(client: &Client, io: Io, mut buf: Buf) {
    let mut scratch = Scratch::default();
    let mut out = Out::default();
    loop {
        let limits = limits(client);
        let meta = match next(client, &io, &mut buf, &mut out, &mut scratch, &limits).await {
            Next::Request(meta) => meta,
            Next::Bad(failure) => {
                reject(client, &io, &mut out, &scratch, failure).await;
                return linger(&io, &mut buf, &mut scratch).await;
            }
            Next::Closed => return,
        };
        let started = Instant::now();
        buf.consume(meta.consumed);
        scratch.head.scheme = client.scheme;
        let version = scratch.head.version;
        let upgrade =
            meta.upgrade.then(|| scratch.head.headers.get_known(Known::Upgrade).map(<[u8]>::to_vec)).flatten();
        let arrived = Arrived {
            framing: meta.framing,
            upgrade,
            expects_continue: meta.expect_continue,
            keep_alive: meta.keep_alive,
        };
        let body = Source::h1(&io, &mut buf, Left::of(meta.framing, Message::Request), limits);
        let reply = Reply::H1 { io: &io, out: &mut out, version };
        match Box::pin(request::serve(client, &mut scratch, arrived, body, reply, started, None)).await {
            After::KeepAlive => {}
            After::Close => return linger(&io, &mut buf, &mut scratch).await,
            // A chunked body without its end, or a length not reached: only the close says that it is cut.
            After::Abort | After::Gone => return io.abort(),
            After::Tunnel(tunnel, idle) => {
                return self::tunnel(client, &io, buf, out, *tunnel, scratch, idle).await;
            }
        }
    }
}

fn limits(client: &Client) -> Limits {
    let view = client.worker.view();
    view.listener(client.index, &client.listener).map_or_else(Limits::default, |l| Limits {
        max_header_bytes: l.limits.max_header_bytes as usize,
        max_header_count: usize::from(l.limits.max_header_count),
    })
}

/// Waits for the next head.
async fn next(client: &Client, io: &Io, buf: &mut Buf, out: &mut Out, scratch: &mut Scratch, limits: &Limits) -> Next {
    let (idle, patience) = {
        let view = client.worker.view();
        let times = view.listener(client.index, &client.listener).map(|l| &l.limits);
        (times.and_then(|t| t.idle_timeout), times.and_then(|t| t.header_read_timeout))
    };
    let mut scanner = HeadScanner::default();
    let mut limit = None;
    let mut last = None;
    let Scratch { head, timer, .. } = scratch;
    poll_fn(|cx| {
        loop {
            if !buf.is_empty() && scanner.due(buf.bytes(), limits) {
                match h1::parse_request(buf.bytes(), limits, head) {
                    Ok(Some(meta)) => return Poll::Ready(Next::Request(meta)),
                    Ok(None) => {}
                    Err(e) => return Poll::Ready(Next::Bad(e.into())),
                }
            }
            let was_empty = buf.is_empty();
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(0)) if buf.is_empty() => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(0)) => {
                    let details = "the connection closed in the middle of a head";
                    return Poll::Ready(Next::Bad(Failure::new(Reason::HttpRequestError, details)));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Closed),
                // The time for a head begins with its first byte.
                Poll::Ready(Ok(_)) if was_empty => limit = None,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        let waiting = buf.is_empty();
        if waiting {
            // An idle connection holds no buffer.
            buf.release();
            out.release();
        }
        let draining = client.worker.draining();
        let at = match limit {
            _ if draining && waiting => {
                // The client's next request may be on its way: it is awaited for a moment, and answered.
                Some(*last.get_or_insert_with(|| Instant::now() + LAST_REQUEST))
            }
            Some((at, was)) if was == waiting => at,
            _ => {
                let at = if waiting { idle } else { patience }.map(|t| Instant::now() + t);
                limit = Some((at, waiting));
                at
            }
        };
        match timer.poll_opt(cx, at) {
            Poll::Ready(()) if waiting => Poll::Ready(Next::Closed),
            Poll::Ready(()) => {
                let details = "the request's head did not come within headerReadTimeout";
                Poll::Ready(Next::Bad(Failure::new(Reason::RequestTimeout, details)))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Answers what could not be read as a request. It is logged and counted like any other.
async fn reject(client: &Client, io: &Io, out: &mut Out, scratch: &Scratch, failure: Failure) {
    let started = Instant::now();
    let view = client.worker.view();
    let request_id = {
        let mut rng = client.worker.rng.borrow_mut();
        RequestId::generate(super::request::unix_millis(), &mut rng)
    };
    let mut head = crate::http::ResponseHead::default();
    let mut body = Vec::new();
    Answer::new(&request_id).write(&failure, &mut head, &mut body);
    view.correlator.set(&mut head.headers, &request_id);
    let framing = Framing::Length(body.len() as u64);
    h1::encode_response(&head, framing, Version::Http11, Persist::Close, out.data());
    out.data().extend_from_slice(&body);
    drop(tokio::time::timeout(LINGER, poll_fn(|cx| out.poll_flush(io, cx))).await);
    // The head may be half read: what it seems to say is not repeated.
    let _ = scratch;
    view.observer(&client.worker.observer, client.direction, None).finish(&Record {
        listener: &client.listener,
        rule: "",
        method: &Method::GET,
        authority: "",
        target: "",
        version: Version::Http11,
        status: head.status,
        grpc_status: None,
        failure: Some(&failure),
        request_id: request_id.as_str(),
        trace: None,
        peer_address: client.peer,
        peer_identity: client.identity.as_ref(),
        endpoint: None,
        attempts: 0,
        duration: started.elapsed(),
        first_byte: None,
        request_bytes: 0,
        response_bytes: body.len() as u64,
        user_agent: None,
        notes: &[],
    });
}

/// Closes in order.
async fn linger(io: &Io, buf: &mut Buf, scratch: &mut Scratch) {
    let limit = Instant::now() + LINGER;
    let timer = &mut scratch.timer;
    let mut read = 0;
    let mut shut = false;
    poll_fn(|cx| {
        if !shut {
            // A peer that is gone already has no half to close.
            drop(std::task::ready!(io.poll_shutdown(cx)));
            shut = true;
        }
        loop {
            buf.consume(buf.len());
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => read += n,
                Poll::Pending => return timer.poll_at(cx, limit),
            }
            if read > LINGER_BYTES {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// What follows `101 Switching Protocols`.
async fn tunnel(
    client: &Client,
    io: &Io,
    mut buf: Buf,
    mut out: Out,
    tunnel: Tunnel,
    mut scratch: Scratch,
    idle: Option<Duration>,
) {
    let Tunnel { mut conn, held } = tunnel;
    let mut up = Out::default();
    let (a, b) = (opaque::End { io, buf: &mut buf }, opaque::End { io: &conn.io, buf: &mut conn.buf });
    let ended = opaque::tunnel(a, b, [&mut up, &mut out], &mut scratch.timer, idle).await;
    drop(held);
    tracing::debug!(listener = &*client.listener, peer = %client.peer, ?ended, "an upgraded connection ended");
}
