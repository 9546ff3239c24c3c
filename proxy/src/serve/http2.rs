//! An HTTP/2 client: one task for the connection, one for each stream.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use outrigger_config::model::ListenerLimits;
use tokio::time::{Instant, timeout};

use super::{
    connection::Client,
    exchange::{After, Arrived},
    reply::Reply,
    request, scratch,
};
use crate::{
    buffer::Buf,
    clock,
    forward::Source,
    http::{
        Known,
        h1::{Framing, Limits},
        h2 as convert,
    },
    io::{Gathered, Io},
    timer::Timer,
    upstream::pool::{CONNECTION_WINDOW, STREAM_WINDOW},
};

/// Bytes that one stream may have waiting to be written, beyond its client's window.
const SEND_BUFFER: usize = 256 * 1024;
/// Time in which resets are counted (`maxResets`).
const RESET_WINDOW: Duration = Duration::from_secs(10);
/// After GOAWAY, a client's streams on the way are still taken for this long (RFC 9113 6.8); h2 sends
/// the final GOAWAY after a round trip.
const LAST_STREAMS: Duration = Duration::from_secs(1);

/// What the streams of one connection share.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    aborted: Cell<u32>,
}

/// Serves an HTTP/2 client until its connection ends.
pub async fn serve(client: &Rc<Client>, limits: ListenerLimits, mut io: Io, mut buf: Buf) {
    let traffic = io.watch();
    io.unread(buf.bytes());
    buf.consume(buf.len());
    buf.release();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        .max_send_buffer_size(SEND_BUFFER)
        // Resets of streams that nobody has seen yet cost the client nothing and us a little.
        .max_pending_accept_reset_streams(limits.max_resets as usize)
        .max_concurrent_reset_streams(limits.max_streams as usize);
    let (io, writer) = Gathered::new(io);
    let handshake = writer.drive(builder.handshake::<_, Bytes>(io));
    let patience = limits.header_read_timeout.unwrap_or(Duration::from_secs(3600));
    let mut connection = match timeout(patience, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %client.peer, "an HTTP/2 handshake failed");
            return writer.finish(LAST_FRAMES).await;
        }
        Err(_) => return,
    };
    let head_limits = Limits {
        max_header_bytes: limits.max_header_bytes as usize,
        max_header_count: usize::from(limits.max_header_count),
    };
    let streams = Rc::new(Streams::default());
    let mut timer = Timer::default();
    let mut idle_until: Option<Instant> = None;
    let opened = clock::now();
    let mut used = false;
    let mut window = opened + RESET_WINDOW;
    let mut going = None;
    loop {
        let accepted = writer.drive(poll_fn(|cx| {
            if let Poll::Ready(stream) = connection.poll_accept(cx) {
                return Poll::Ready(Some(stream));
            }
            if client.worker.draining(client.direction) && going.is_none() {
                // One that came after the drain began has a stream on its way, for which it was made.
                if !used && timer.poll_at(cx, opened + LAST_STREAMS).is_pending() {
                    return Poll::Pending;
                }
                connection.graceful_shutdown();
                going = Some(clock::now() + LAST_STREAMS);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if streams.open.get() > 0 {
                idle_until = None;
                return Poll::Pending;
            }
            let at = *idle_until.get_or_insert_with(|| {
                writer.release();
                clock::now() + limits.idle_timeout.unwrap_or(FOREVER)
            });
            std::task::ready!(timer.poll_at(cx, going.map_or(at, |g| g.min(at))));
            let now = clock::now();
            if going.is_some() && traffic.blocked.get() && now < at {
                // The end of an answer waits for its client, who has the idle time to take it.
                going = Some(now + LAST_STREAMS);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None)
        }));
        match accepted.await {
            Some(Some(Ok((request, respond)))) => {
                idle_until = None;
                used = true;
                let now = clock::now();
                if now >= window {
                    window = now + RESET_WINDOW;
                    streams.aborted.set(0);
                }
                if streams.aborted.get() > limits.max_resets {
                    // CVE-2023-44487: opening and resetting is all that this client does.
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                spawn(client, &streams, request, respond, head_limits);
            }
            Some(Some(Err(error))) => {
                tracing::debug!(%error, peer = %client.peer, "an HTTP/2 connection of a client ended");
                break;
            }
            Some(None) => break,
            None if going.is_some() => break,
            None => {
                connection.graceful_shutdown();
                going = Some(clock::now() + LAST_STREAMS);
            }
        }
    }
    writer.finish(LAST_FRAMES).await;
}

/// For a client to take the last frames of its connection, GOAWAY among them.
const LAST_FRAMES: Duration = Duration::from_secs(1);
/// Stands for "no limit" where a point in time is needed.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Counts a stream while it is served.
struct Open(Rc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

fn spawn(
    client: &Rc<Client>,
    streams: &Rc<Streams>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    limits: Limits,
) {
    streams.open.set(streams.open.get() + 1);
    let open = Open(Rc::clone(streams));
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        let registered = client.worker.stream().await;
        let whole = std::pin::pin!(stream(&client, request, respond, limits));
        let after = clock::per_poll(whole).await;
        drop(registered);
        // What an upstream breaks off is no fault of the client's.
        if matches!(after, After::Gone) {
            open.0.aborted.set(open.0.aborted.get() + 1);
        }
    });
}

/// Serves one stream.
async fn stream(client: &Client, request: Request<RecvStream>, respond: SendResponse<Bytes>, limits: Limits) -> After {
    let started = clock::now();
    let (parts, body) = request.into_parts();
    let mut scratch = scratch::lend();
    let read = convert::request_from(&parts, &limits, &mut scratch.head);
    let declared = convert::content_length(&scratch.head.headers);
    scratch.head.headers.remove_known(Known::ContentLength);
    let expects_continue = scratch.head.headers.has(Known::Expect);
    let framing = match declared {
        Some(n) => Framing::Length(n),
        None if body.is_end_stream() => Framing::None,
        None => Framing::Chunked,
    };
    let arrived = Arrived { framing, upgrade: None, expects_continue, keep_alive: true };
    let body = Source::h2(body, limits);
    let (reply, refused) = (Reply::H2(respond), read.err());
    Box::pin(request::serve(client, &mut scratch, arrived, body, reply, started, refused)).await
}
