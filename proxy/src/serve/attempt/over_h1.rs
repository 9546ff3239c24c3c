//! An attempt over HTTP/1.1.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::{After, Attempt, Unanswered, Upload, Waiting, admit, answered, broken, pass_on, timed_out};
use crate::{
    buffer::Out,
    clock,
    error::{Failure, Reason, Repeat},
    forward::{Left, Sink, Source},
    http::h1::{self, Framing, HeadScanner, Limits, Message, Persist, ResponseMeta},
    observe::tap::Moment,
    serve::{
        access::Standing,
        exchange::{Exchange, Tunnel},
    },
    tls::Alpn,
    upstream::H1Conn,
};

/// Bound on the 1xx answers before the final one: more than any server sends, fewer than a loop would.
pub(super) const MAX_INTERIM: u64 = 16;

/// Sends the request of `ex` to the attempt's endpoint, and the answer to the client.
///
/// # Errors
/// No head of an answer came.
pub(super) async fn attempt(ex: &mut Exchange<'_>, at: &Attempt<'_>) -> Result<After, Unanswered> {
    let endpoint = &at.lease.endpoint;
    let once = !super::repeatable(ex);
    let reused = if at.fresh { None } else { H1Conn::reuse(at.upstream, endpoint, clock::now(), once) };
    let mut conn = match reused {
        Some(conn) => conn,
        None => {
            let (worker, speaks) = (&ex.client.worker, Some(Alpn::Http1));
            let dial = H1Conn::open(worker, at.direction(ex), at.upstream, endpoint, speaks, at.limit);
            // Boxed: most requests find a connection.
            let mut dial = Box::pin(dial);
            Box::new(admit::wait(ex, |cx| dial.as_mut().poll(cx)).await??)
        }
    };
    let reused = conn.is_reused();
    conn.served = conn.served.saturating_add(1);
    let framing = ex.arrived.framing;
    let persist = ex.arrived.upgrade.as_deref().map_or(Persist::KeepAlive, Persist::Upgrade);
    if ex.head.authority.is_empty() {
        // Only HTTP/1.0 may leave it out; HTTP/1.1 servers insist on it.
        ex.head.authority = endpoint.address().to_string();
    }
    let mut out = Out::default();
    h1::encode_request(ex.head, framing, persist, out.data());
    let before = conn.io.handed();
    let H1Conn { io, buf, .. } = &mut *conn;
    let mut upload = Upload::new(Sink::H1 { io, out: &mut out, chunked: framing == Framing::Chunked });
    let meta = match head(ex, at, &mut upload, io, buf, reused).await {
        Ok(meta) => meta,
        Err((failure, closed)) => {
            if failure.repeat == Repeat::ReusedConnection {
                drop(upload);
                conn.raced(clock::now());
            }
            // Nothing of the request has arrived, so nothing of it was processed: any method may go again. Only
            // an orderly close tells: it acknowledges what came before. A reset acknowledges nothing, and what
            // is still on its way when we give up may arrive yet.
            let unseen = closed && conn.io.undelivered(before);
            return Err(if unseen { failure.repeat(Repeat::Unprocessed) } else { failure }.into());
        }
    };
    if meta.upgrade {
        drop(upload);
        return Ok(switch(ex, at, conn));
    }
    if let Some(again) = super::retry_answer(ex, at) {
        let sent = upload.done();
        drop(upload);
        // A connection is kept if all of the answer that nobody wants is there already.
        let rest = match meta.framing {
            Framing::None | Framing::Declared(_) => Some(0),
            Framing::Length(n) => usize::try_from(n).ok().filter(|n| *n <= buf.len()),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if let (true, true, Some(rest)) = (sent, meta.keep_alive, rest) {
            buf.consume(rest);
            conn.give_back(at.upstream, clock::now());
        }
        return Err(again);
    }
    let mut source = Source::h1(io, buf, Left::of(meta.framing, Message::Response), LIMITS);
    let passed = pass_on(ex, at, &mut upload, &mut source, meta.framing).await;
    let sent = upload.done();
    drop((source, upload));
    let after = match passed {
        Ok(after) => after,
        Err(failure) => return Ok(ex.answer(failure).await),
    };
    if sent && meta.keep_alive && meta.framing != Framing::UntilClose {
        conn.announced = meta.keep_alive_timeout.map(Duration::from_secs);
        conn.give_back(at.upstream, clock::now());
    }
    Ok(after)
}

/// Limits of response heads and trailers.
const LIMITS: Limits = Limits { max_header_bytes: crate::serve::RESPONSE_HEAD_BYTES as usize, max_header_count: 200 };

/// Sends the request and waits for the head of the final answer; passes interim ones on. A failure comes
/// with whether the upstream closed in order before it had sent a byte.
async fn head(
    ex: &mut Exchange<'_>,
    at: &Attempt<'_>,
    upload: &mut Upload<'_>,
    io: &crate::io::Io,
    buf: &mut crate::buffer::Buf,
    reused: bool,
) -> Result<ResponseMeta, (Failure, bool)> {
    let mut scanner = HeadScanner::default();
    let mut interim: u64 = 0;
    let mut seen = false;
    let Exchange { body, reply, timer, response, head, arrived, cancelled, client, view, way, asked, ruling, .. } = ex;
    let head = &*head;
    let mut standing = Standing::new(client, view, *way, head, asked.as_deref(), ruling);
    let upgrades = arrived.upgrade.is_some();
    let mut waiting = Waiting::new(at, reply, timer, cancelled);
    let mut closed = false;
    let mut begun = false;
    let result = poll_fn(|cx| {
        standing.check().map_err(Some)?;
        // Once the request is sent, what wakes this task is the answer nearly always: the client comes after it.
        let sent = upload.rests();
        if !sent && let Poll::Ready(failure) = upload.poll(cx, body) {
            return Poll::Ready(Err(Some(failure)));
        }
        loop {
            if !buf.is_empty() && scanner.due(buf.bytes(), &LIMITS) {
                match h1::parse_response(buf.bytes(), &LIMITS, &head.method, response) {
                    Ok(None) => {}
                    Ok(Some(meta)) => {
                        buf.consume(meta.consumed);
                        scanner.reset();
                        if response.status >= 200 || (meta.upgrade && upgrades) {
                            return Poll::Ready(Ok(meta));
                        }
                        interim += 1;
                        if response.status == 101 || interim > MAX_INTERIM {
                            let what = "sent a 1xx answer that nobody asked for";
                            let details = format!("{} {what}", at.who());
                            return Poll::Ready(Err(Some(Failure::new(Reason::HttpProtocolError, details))));
                        }
                        h1::strip_hop_by_hop(&mut response.headers, false);
                        if response.status != 100 || arrived.expects_continue {
                            waiting.reply.inform(response);
                        }
                        continue;
                    }
                    Err(e) => {
                        let details = format!("{} answered with a bad head: {}", at.who(), e.fault);
                        let failure = Failure::new(e.reason(), details).repeat(Repeat::IfIdempotent);
                        return Poll::Ready(Err(Some(failure)));
                    }
                }
            }
            // What was just sent is not answered yet.
            if !std::mem::replace(&mut begun, true) && io.poll_due(cx).is_pending() {
                break;
            }
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(0)) => {
                    closed = !seen;
                    return Poll::Ready(Err(Some(broken(at, reused && !seen, None))));
                }
                Poll::Ready(Ok(_)) => seen = true,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(Some(broken(at, reused && !seen, Some(&e))))),
                Poll::Pending => break,
            }
        }
        if sent && let Poll::Ready(failure) = upload.poll(cx, body) {
            return Poll::Ready(Err(Some(failure)));
        }
        waiting.poll(cx, at, upload, body, interim).map(Err)
    })
    .await;
    result.map_err(|failure| (failure.unwrap_or_else(|| timed_out(ex, at)), closed))
}

/// The upstream changes the protocol: from here on bytes go both ways.
fn switch(ex: &mut Exchange<'_>, at: &Attempt<'_>, conn: Box<H1Conn>) -> After {
    let protocol = ex.response.headers.get_known(crate::http::Known::Upgrade).map(<[u8]>::to_vec);
    answered(ex, at);
    ex.status = ex.response.status;
    ex.tell(Moment::Answer);
    let protocol = protocol.or_else(|| ex.arrived.upgrade.clone()).unwrap_or_default();
    ex.reply.switch(ex.response, &protocol);
    let pass = ex.pass();
    After::Tunnel(Box::new(Tunnel { conn: *conn, pass, held: std::mem::take(&mut ex.held) }), at.policy.timeouts.idle)
}
