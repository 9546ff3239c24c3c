//! CONNECT (RFC 9110 9.3.6): a tunnel that the app asks for where nothing is captured.
//!
//! What is inside is served like a captured connection: it goes where the CONNECT named, and its protocol is found out, so that
//! routes, policies and mTLS hold inside a tunnel as well. A destination outside of policies' reach (an address outside the
//! mesh, a chosen pod) is dialled before the 200, so that a client learns at once that there is nobody; a Service is not, because each
//! request inside chooses its own endpoint.

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use outrigger_config::model::{Listener, ListenerProtocol, UpstreamProtocol, UpstreamTls};
use tokio::time::timeout;

use super::{
    Client, Spoken, course,
    first::{First, Leave, Rival, first_bytes, poll_detect},
    passed_on, take,
};
use crate::{
    buffer::{Buf, Out},
    clock,
    detect::Detected,
    error::{Failure, Reason},
    io::Io,
    serve::{exchange::After, http1, locate},
    timer::Timer,
    upstream::{H1Conn, UpstreamView},
};

/// For the client to take the 200, some bytes.
const ANSWER: Duration = Duration::from_secs(5);

/// A tunnel that was granted.
pub struct Tunnelled {
    /// Where it goes.
    authority: Arc<str>,
    /// The connection that was made to see whether anybody is there.
    dialled: Option<H1Conn>,
}

/// Judges a CONNECT for `authority`, and answers it if it is granted.
///
/// # Errors
/// Why it is not. Nothing was answered then.
pub(in crate::serve) async fn ask(client: &Client, authority: &str, io: &Io, out: &mut Out) -> Result<After, Failure> {
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.is_empty() || port.ends_with(']')) {
        let details = "CONNECT needs a host and a port, HOST:PORT (RFC 9110 9.3.6)";
        return Err(Failure::new(Reason::HttpRequestError, details));
    }
    let authority: Arc<str> = authority.into();
    locate::settle_name(&client.worker, &authority).await;
    let view = client.worker.view();
    let target = locate::tunnel(&client.worker, &view, &authority)?;
    let upstream = view.upstream(target.id);
    let dialled = match target.pinned {
        Some(endpoint) if is_plain(upstream) && endpoint.state.config.identity.is_none() => {
            Some(H1Conn::open(&client.worker, client.direction, upstream, &endpoint, None, None).await?)
        }
        _ => None,
    };
    out.data().extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
    let sent = timeout(ANSWER, poll_fn(|cx| out.poll_flush(io, cx))).await;
    Ok(match sent {
        Ok(Ok(())) => After::Connect(Box::new(Tunnelled { authority, dialled })),
        Ok(Err(_)) | Err(_) => After::Gone,
    })
}

/// True if whatever the client speaks can be sent on a plain connection to it.
fn is_plain(upstream: &UpstreamView) -> bool {
    let protocol = &upstream.config.protocol;
    matches!(protocol, UpstreamProtocol::Auto | UpstreamProtocol::Http | UpstreamProtocol::Tcp)
        && matches!(upstream.config.tls, UpstreamTls::None)
}

/// Serves what is inside a tunnel until it ends.
pub(in crate::serve) async fn serve(conn: Box<http1::Connection>, Tunnelled { authority, dialled }: Tunnelled) {
    let (outer, io, mut buf) = conn.into_parts();
    let worker = Rc::clone(&outer.worker);
    let view = worker.view();
    let Some(listener) = view.listener(outer.index, &outer.listener) else { return };
    let target = locate::target(&worker, &view, listener, None, Some(&authority));
    let listener = passed_on(&view, listener, target.as_ref());
    let client = Rc::new(Client { named: Some(authority), unasked: true, ..Client::clone(&outer) });
    let mut timer = Timer::default();
    let (first, dialled) = match (dialled, &target) {
        (Some(conn), Some(target)) => {
            let upstream = view.upstream(target.id);
            let (first, conn) = who_speaks(&client, listener, upstream, &io, &mut buf, conn, &mut timer).await;
            match (first, conn) {
                // It becomes the first connection of the pool.
                (First::Client(Detected::Http1), Some(conn)) => {
                    Box::new(conn).give_back(upstream, clock::now());
                    (First::Client(Detected::Http1), None)
                }
                other => other,
            }
        }
        _ => {
            let (target, begun) = (target.as_ref(), &mut None);
            let first =
                first_bytes(&worker, &view, listener, target, Rival::AtOnce, &io, &mut buf, &mut timer, begun).await;
            (first, None)
        }
    };
    let spoken = Spoken { first, dialled: dialled.map(Box::new), target };
    let course = course(&client, &view, listener, spoken, &io, &mut buf, &mut timer).await;
    drop(view);
    if let Some(http1) = take(&client, course, io, buf, timer, None).await {
        Box::pin(http1::serve(http1)).await;
    }
}

/// Waits for whoever speaks first, the client or the server of a connection that was made.
async fn who_speaks(
    client: &Client,
    listener: &Listener,
    upstream: &UpstreamView,
    io: &Io,
    buf: &mut Buf,
    mut conn: H1Conn,
    timer: &mut Timer,
) -> (First, Option<H1Conn>) {
    let mut leave = Leave::default();
    let idle = upstream.config.policy.timeouts.idle.map(|t| clock::now() + t);
    let mut begun = None;
    let opaque = listener.protocol == ListenerProtocol::Tcp;
    let first = poll_fn(|cx| {
        if let Poll::Ready(first) = poll_detect(io, buf, opaque, cx) {
            return Poll::Ready(Some(first));
        }
        let H1Conn { io, buf: said, .. } = &mut conn;
        match said.poll_fill(io, cx) {
            Poll::Ready(Ok(1..)) => return Poll::Ready(None),
            Poll::Ready(_) => return Poll::Ready(Some(First::Closed)),
            Poll::Pending => {}
        }
        if buf.is_empty() && leave.poll(&client.worker, timer, cx).is_ready() {
            return Poll::Ready(Some(First::Closed));
        }
        let limit = match buf.is_empty() {
            true => idle,
            false => {
                let patience = listener.limits.header_read_timeout;
                *begun.get_or_insert_with(|| patience.map(|t| clock::now() + t))
            }
        };
        timer.poll_opt(cx, limit).map(|()| Some(First::Closed))
    })
    .await;
    match first {
        Some(first) => (first, Some(conn)),
        None => (First::Server(Box::new(conn)), None),
    }
}
