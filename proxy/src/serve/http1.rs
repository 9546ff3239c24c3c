//! An HTTP/1 client: one request after the other, all in the connection's own task.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use http::Method;
use outrigger_config::model::Direction;

use super::{
    connection::{self, Client},
    exchange::{After, Arrived, Tunnel},
    opaque::{self, Told, TunnelError},
    reply::Reply,
    request,
    scratch::{self, Scratch},
};
use crate::{
    answer::Answer,
    buffer::{Buf, Out},
    clock,
    correlate::RequestId,
    error::{Failure, Reason},
    forward::{Left, Source},
    http::{
        Known, Version,
        h1::{self, Framing, HeadScanner, Limits, Message, Persist, RequestMeta},
    },
    io::Io,
    observe::{self, AccessNote, Record},
    timer::Timer,
};

mod places;

pub(super) use places::Places;

/// After the last answer on a connection, its client's bytes are read for so long: closing with unread
/// bytes would reset the connection and take the answer with it (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// And so many: a client that goes on sending is not waited for.
const LINGER_BYTES: usize = 1024 * 1024;

/// How long a kept-alive connection stays open for another request once the proxy drains.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// What the wait for a head ended with.
enum Next {
    Request(RequestMeta),
    Bad(Failure),
    Closed,
}

/// A client's connection that speaks HTTP/1, and all of it that is there between two requests.
///
/// Most connections idle most of the time, so that is little: what a request needs is in the box of `turn`.
pub struct Connection {
    /// Who is at the other end.
    pub client: Rc<Client>,
    /// The stream.
    pub io: Io,
    /// What was read of it.
    pub buf: Buf,
    out: Out,
    timer: Timer,
    /// Its client has said that its request was the last one, and there is no body to it.
    last: bool,
    /// That it is not mTLS where it could be, as long as it is open.
    _unproven: Option<observe::Open>,
}

impl Connection {
    /// One of which `buf` was read so far.
    #[must_use]
    pub fn new(client: Rc<Client>, io: Io, buf: Buf, unproven: Option<observe::Open>) -> Self {
        Self { client, io, buf, out: Out::default(), timer: Timer::default(), last: false, _unproven: unproven }
    }

    /// Its client, its stream and what was read of that, to be served in another way.
    #[must_use]
    pub fn into_parts(self) -> (Rc<Client>, Io, Buf) {
        (self.client, self.io, self.buf)
    }

    /// Nothing that its client has sent is left unread, and TLS has no end to tell. A client that has also said that
    /// this was its last request sends nothing more (RFC 9112 9.6), so a close cannot reset the connection.
    fn is_quiet(&self) -> bool {
        self.buf.is_empty() && self.out.is_empty() && self.io.tls().is_none()
    }
}

/// Serves an HTTP/1 client until its connection ends.
pub async fn serve(mut conn: Box<Connection>) {
    loop {
        if conn.buf.is_empty() && !arrives(&mut conn).await {
            return;
        }
        let worker = Rc::clone(&conn.client.worker);
        let after;
        (conn, after) = worker.places.serve(conn).await;
        match after {
            After::KeepAlive => {}
            After::Close if conn.last && conn.is_quiet() => return,
            After::Close => return Box::pin(linger(&mut conn)).await,
            // A chunked body without its end, or a length not reached: only the close says that it is cut.
            After::Abort | After::Gone => return conn.io.abort(),
            After::Connect(tunnel) => return Box::pin(connection::serve_tunnel(conn, *tunnel)).await,
            After::Tunnel(upstream, idle) => return Box::pin(tunnel(&mut conn, *upstream, idle)).await,
        }
    }
}

/// Waits for the first byte of a request. `false`: there is no next one.
async fn arrives(conn: &mut Connection) -> bool {
    let Connection { client, io, buf, out, timer, .. } = conn;
    let mut until = None;
    let mut last = None;
    let mut begun = false;
    poll_fn(|cx| {
        // Nearly nobody asks again before the answer: only who is woken takes a buffer to read into.
        if std::mem::replace(&mut begun, true) || io.poll_readable(cx).is_ready() {
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(_)) => return Poll::Ready(true),
                Poll::Pending => {}
            }
        }
        // An idle connection holds no buffer.
        buf.release();
        out.release();
        io.shrink();
        let at = if client.worker.draining(client.direction) {
            // The client's next request may be on its way: it is awaited for a moment, and answered.
            Some(*last.get_or_insert_with(|| clock::now() + LAST_REQUEST))
        } else {
            let idle = || times(client).and_then(|(idle, _)| idle);
            *until.get_or_insert_with(|| idle().map(|t| clock::now() + t))
        };
        timer.poll_opt(cx, at).map(|()| false)
    })
    .await
}

/// One request, from its first byte to the end of its answer.
async fn turn(mut conn: Box<Connection>) -> (Box<Connection>, After) {
    let mut scratch = scratch::lend();
    // One timer for the connection's idle time and its requests: it wakes the same task, and is rarely moved.
    std::mem::swap(&mut conn.timer, &mut scratch.timer);
    let after = request(&mut conn, &mut scratch).await;
    std::mem::swap(&mut conn.timer, &mut scratch.timer);
    (conn, after)
}

async fn request(conn: &mut Connection, scratch: &mut Scratch) -> After {
    let Connection { client, io, buf, out, last, .. } = conn;
    let limits = limits(client);
    let meta = match head(client, io, buf, scratch, &limits).await {
        Next::Request(meta) => meta,
        Next::Bad(failure) => {
            Box::pin(reject(client, io, out, failure)).await;
            return After::Close;
        }
        Next::Closed => return After::Gone,
    };
    let started = clock::now();
    *last = !meta.keep_alive && meta.framing.is_empty();
    buf.consume(meta.consumed);
    scratch.head.scheme = client.scheme;
    let version = scratch.head.version;
    let refused = match (meta.connect || meta.https) && takes_connect(client) {
        false => None,
        // Who says https is not to be served in plaintext on the way.
        true if meta.https => Some(Failure::new(Reason::HttpRequestError, "a target with https comes by CONNECT")),
        true => match Box::pin(connection::ask_tunnel(client, &scratch.head.authority, io, out)).await {
            Ok(after) => return after,
            Err(failure) => Some(failure),
        },
    };
    let upgrade = meta.upgrade.then(|| scratch.head.headers.get_known(Known::Upgrade).map(<[u8]>::to_vec)).flatten();
    let arrived =
        Arrived { framing: meta.framing, upgrade, expects_continue: meta.expect_continue, keep_alive: meta.keep_alive };
    let body = Source::h1(io, buf, Left::of(meta.framing, Message::Request), limits);
    let reply = Reply::H1 { io, out, version };
    request::serve(client, scratch, arrived, body, reply, started, refused).await
}

/// Whether the app may ask for tunnels on this connection: one that was made to the proxy itself, where nothing is captured.
fn takes_connect(client: &Client) -> bool {
    let view = client.worker.view();
    let explicit = view.snapshot.routing.as_ref().is_some_and(|routing| routing.explicit.proxy);
    explicit && client.direction == Direction::Outbound && client.original.is_none() && client.named.is_none()
}

fn limits(client: &Client) -> Limits {
    let view = client.worker.view();
    view.listener(client.index, &client.listener).map_or_else(Limits::default, |l| Limits {
        max_header_bytes: l.limits.max_header_bytes as usize,
        max_header_count: usize::from(l.limits.max_header_count),
    })
}

/// The idle time-out, and the time for a head, of the client's listener; `None`: it is there no more.
fn times(client: &Client) -> Option<(Option<Duration>, Option<Duration>)> {
    let view = client.worker.view();
    view.listener(client.index, &client.listener).map(|l| (l.limits.idle_timeout, l.limits.header_read_timeout))
}

/// Reads a head, of which a part is there.
async fn head(client: &Client, io: &Io, buf: &mut Buf, scratch: &mut Scratch, limits: &Limits) -> Next {
    let Scratch { head, timer, .. } = scratch;
    let mut scanner = HeadScanner::default();
    let mut until = None;
    poll_fn(|cx| {
        loop {
            if !buf.is_empty() && scanner.due(buf.bytes(), limits) {
                match h1::parse_request(buf.bytes(), limits, head) {
                    Ok(Some(meta)) => return Poll::Ready(Next::Request(meta)),
                    Ok(None) => {}
                    Err(e) => return Poll::Ready(Next::Bad(e.into())),
                }
            }
            match buf.poll_fill(io, cx) {
                Poll::Ready(Ok(0)) => {
                    let details = "the connection closed in the middle of a head";
                    return Poll::Ready(Next::Bad(Failure::new(Reason::HttpRequestError, details)));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        // The time for a head begins with its first byte.
        let patience = || times(client).and_then(|(_, patience)| patience);
        let at = *until.get_or_insert_with(|| patience().map(|t| clock::now() + t));
        timer.poll_opt(cx, at).map(|()| {
            let details = "the request's head did not come within headerReadTimeout";
            Next::Bad(Failure::new(Reason::RequestTimeout, details))
        })
    })
    .await
}

/// Answers what could not be read as a request. It is logged and counted like any other.
async fn reject(client: &Client, io: &Io, out: &mut Out, failure: Failure) {
    let started = clock::now();
    let view = client.worker.view();
    let request_id = {
        let mut rng = client.worker.rng.borrow_mut();
        RequestId::generate(clock::unix_millis(), &mut rng)
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
        request_id: request_id.as_bytes(),
        trace: None,
        peer_address: client.peer,
        peer_identity: client.identity.as_ref(),
        endpoint: None,
        attempts: 0,
        duration: clock::now().saturating_duration_since(started),
        first_byte: None,
        request_bytes: 0,
        response_bytes: body.len() as u64,
        user_agent: None,
        access: AccessNote::default(),
        notes: &[],
    });
}

/// Closes in order.
async fn linger(conn: &mut Connection) {
    let Connection { io, buf, timer, .. } = conn;
    let limit = clock::now() + LINGER;
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
async fn tunnel(client: &mut Connection, upstream: Tunnel, idle: Option<Duration>) {
    let Connection { client, io, buf, out: down, timer, .. } = client;
    let Tunnel { mut conn, held, pass } = upstream;
    let mut up = Out::default();
    let started = clock::now();
    let (a, b) = (opaque::End { io, buf }, opaque::End { io: &conn.io, buf: &mut conn.buf });
    let still = || pass.as_ref().map_or(Ok(()), |pass| pass.check(client));
    let ended = opaque::tunnel(a, b, [&mut up, down], timer, idle, still).await;
    drop(held);
    if let (Some(TunnelError::Denied(denied)), Some(pass)) = (&ended.error, &pass) {
        // Its request has a line already, which could not say how it ends.
        let told = Told { endpoint: conn.io.peer_addr(), started, moved: [ended.up, ended.down], ruling: &denied.1 };
        opaque::tell(client, pass.upstream(), Some(&denied.0), &told);
    }
    tracing::debug!(listener = &*client.listener, peer = %client.peer, ?ended, "an upgraded connection ended");
}
