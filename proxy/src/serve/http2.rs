//! An HTTP/2 client: one task for the connection, one for each stream.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use outrigger_config::model::ListenerLimits;
use tokio::time::Instant;

use super::{
    connection::Client,
    exchange::Arrived,
    reply::Reply,
    request,
    scratch::{self, Lent},
};
use crate::{
    buffer::Buf,
    clock,
    forward::Source,
    http::{
        Known,
        h1::{Framing, Limits},
        h2::server::{Bounds, Next, Opened, Session},
    },
    io::Io,
    timer::Timer,
    upstream::pool::{CONNECTION_WINDOW, STREAM_WINDOW},
};

/// After GOAWAY, a client's streams on the way are still taken for this long (RFC 9113 6.8); the final GOAWAY follows
/// after a round trip.
const LAST_STREAMS: Duration = Duration::from_secs(1);

/// A connection without a stream gives its memory back after this time: between two batches of requests it would only
/// have to take it again.
const RELEASE: Duration = Duration::from_secs(1);

/// A connection without a stream.
struct Idle {
    release: Instant,
    released: bool,
    until: Instant,
}

impl Idle {
    fn since(now: Instant, limit: Option<Duration>) -> Self {
        let until = now + limit.unwrap_or(FOREVER);
        Self { release: until.min(now + RELEASE), released: false, until }
    }
}

/// Serves an HTTP/2 client until its connection ends.
pub async fn serve(client: &Rc<Client>, limits: ListenerLimits, mut io: Io, buf: Buf) {
    let traffic = io.watch();
    let head = Limits {
        max_header_bytes: limits.max_header_bytes as usize,
        max_header_count: usize::from(limits.max_header_count),
    };
    let mut session = Session::new(
        io,
        buf,
        Bounds {
            max_streams: limits.max_streams,
            max_resets: limits.max_resets,
            head,
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
        },
    );
    let mut timer = Timer::default();
    let opened = clock::now();
    let patience = opened + limits.header_read_timeout.unwrap_or(FOREVER);
    let mut used = false;
    let mut idle: Option<Idle> = None;
    let mut going: Option<Instant> = None;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = session.poll_next(cx) {
                return Poll::Ready(Some(next));
            }
            if !session.is_settled() {
                return timer.poll_at(cx, patience).map(|()| None);
            }
            if let (Some(since), Some(limit)) = (session.owes_since(), limits.header_read_timeout)
                && timer.poll_at(cx, since + limit).is_ready()
            {
                session.give_up();
                return Poll::Ready(Some(Next::End));
            }
            if client.worker.draining(client.direction) && going.is_none() {
                // One that came after the drain began has a stream on its way, for which it was made.
                if !used && timer.poll_at(cx, opened + LAST_STREAMS).is_pending() {
                    return Poll::Pending;
                }
                session.announce_end();
                going = Some(clock::now() + LAST_STREAMS);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if session.streams() > 0 {
                idle = None;
                return Poll::Pending;
            }
            let idle = idle.get_or_insert_with(|| Idle::since(clock::now(), limits.idle_timeout));
            if !idle.released {
                std::task::ready!(timer.poll_at(cx, going.map_or(idle.release, |g| g.min(idle.release))));
                session.release();
                idle.released = true;
            }
            let at = idle.until;
            std::task::ready!(timer.poll_at(cx, going.map_or(at, |g| g.min(at))));
            let now = clock::now();
            if going.is_some() && traffic.blocked.get() && now < at {
                // The end of an answer waits for its client, who has the idle time to take it.
                going = Some(now + LAST_STREAMS);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None)
        });
        match next.await {
            Some(Next::Request) => {
                (idle, used) = (None, true);
                let mut scratch = scratch::lend();
                if let Some(opened) = session.open(&mut scratch.head) {
                    spawn(client, scratch, opened);
                }
            }
            Some(Next::End) => break,
            None if going.is_some() || !session.is_settled() => break,
            None => {
                session.announce_end();
                going = Some(clock::now() + LAST_STREAMS);
            }
        }
    }
    if let Some(reason) = session.fault() {
        tracing::debug!(reason = reason.description(), peer = %client.peer, "an HTTP/2 client broke the protocol");
    }
    session.finish(LAST_FRAMES).await;
}

/// For a client to take the last frames of its connection, GOAWAY among them.
const LAST_FRAMES: Duration = Duration::from_secs(1);
/// Stands for "no limit" where a point in time is needed.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn spawn(client: &Rc<Client>, scratch: Lent, opened: Opened) {
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        let registered = client.worker.stream().await;
        clock::per_poll(std::pin::pin!(stream(&client, scratch, opened))).await;
        drop(registered);
    });
}

/// Serves one stream.
async fn stream(client: &Client, mut scratch: Lent, opened: Opened) {
    let started = clock::now();
    let framing = match opened.length {
        Some(n) => Framing::Length(n),
        None if opened.ended => Framing::None,
        None => Framing::Chunked,
    };
    let expects_continue = scratch.head.headers.has(Known::Expect);
    let arrived = Arrived { framing, upgrade: None, expects_continue, keep_alive: true };
    let body = Source::client(opened.receive, opened.length);
    let reply = Reply::H2(opened.send);
    // Whether the client goes on matters to a connection of HTTP/1 alone.
    let _after = Box::pin(request::serve(client, &mut scratch, arrived, body, reply, started, opened.refused)).await;
}
