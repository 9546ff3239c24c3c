//! Dialling an endpoint: TCP, TLS where the upstream asks for it, the HTTP/2 preface where it speaks that.
//!
//! Whatever fails here has processed nothing, so every failure is [`Repeat::Unprocessed`], but for a loop, which another try
//! would enter again.

use std::{future::poll_fn, io, rc::Rc, time::Duration};

use outrigger_config::model::Mode;
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Endpoint, UpstreamView};
use crate::{
    clock,
    error::{Failure, Reason, Repeat},
    io::Io,
    policy::{
        limits::{Enter, Permit, Seen},
        observe::Action,
    },
    tls::Alpn,
};

/// Keep-alive probes begin after this silence: finds peers that vanished before a stream's idle time does.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens a connection to `endpoint`, by `deadline` and within the policy's connect time-out. `speaks` is what
/// will be spoken on it: under TLS exactly that is offered, as a server that may choose does.
///
/// # Errors
/// Which phase failed, at which address.
pub async fn dial(
    view: &UpstreamView,
    endpoint: &Rc<Endpoint>,
    speaks: Option<Alpn>,
    deadline: Option<Instant>,
) -> Result<Io, Failure> {
    let address = endpoint.address();
    view.leads_out(address)?;
    let tls = view.tls_to(endpoint)?;
    let connect = view.config.policy.timeouts.connect.map(|t| clock::now() + t);
    let limit = match (connect, deadline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let dialled = async {
        let tcp = TcpStream::connect(address).await.map_err(|e| refused(view, endpoint, &e))?;
        tune(&tcp);
        match &tls {
            None => Ok(Io::plain(tcp)),
            Some(context) => Io::connect_tls(tcp, context, speaks).await,
        }
    };
    match limit {
        None => dialled.await,
        Some(limit) => timeout_at(limit, dialled).await.unwrap_or_else(|_| {
            let details = format!("upstream {} did not take a connection at {address} in time", view.config.name);
            Err(Failure::new(Reason::ConnectionTimeout, details).repeat(Repeat::Unprocessed))
        }),
    }
}

/// A place among the connections to the upstream (`limits.maxConnections`), waited for until `deadline`.
///
/// # Errors
/// There is none, and too many wait for one.
pub async fn place(view: &UpstreamView, deadline: Option<Instant>) -> Result<Permit, Failure> {
    let gate = &view.target.connections;
    let policy = view.target.policy();
    let refuse = Action::Refuse(Reason::LimitReached);
    if policy.mode == Mode::Observe {
        let (permit, seen) = gate.watch();
        match seen {
            Seen::Go => {}
            Seen::Wait => view.target.would(Action::Queue),
            Seen::Full => view.target.would(refuse),
        }
        return Ok(permit);
    }
    let full = || {
        let details =
            format!("upstream {} has all its connections ({})", view.config.name, policy.limits.max_connections);
        Failure::new(Reason::LimitReached, details).retry_after(Duration::from_secs(1))
    };
    if let Some(permit) = gate.try_enter() {
        return Ok(permit);
    }
    // A connection that nobody uses is worth less than a request that waits, which may not be one that can use
    // it: it may be for another endpoint.
    view.close_idle();
    view.target.target.state.bulkhead.wanted.notify_waiters();
    let now = clock::now();
    match gate.enter(now, deadline) {
        Enter::Go(permit) => Ok(permit),
        Enter::Full => Err(full()),
        Enter::Wait(mut pending) => {
            let granted = poll_fn(|cx| pending.poll(cx, clock::now()));
            let limit = deadline.unwrap_or(now + LONGEST_WAIT);
            timeout_at(limit, granted).await.ok().and_then(Result::ok).ok_or_else(full)
        }
    }
}

/// A place that is free now, for a connection that may not be needed.
#[must_use]
pub fn free_place(view: &UpstreamView) -> Option<Permit> {
    let gate = &view.target.connections;
    if view.target.policy().mode == Mode::Observe { Some(gate.watch().0) } else { gate.try_enter() }
}

/// How long a request without a deadline waits for a place among the connections.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Sets what every forwarded connection has. None of it is needed for correctness, so failures are ignored.
fn tune(tcp: &TcpStream) {
    // Heads and bodies are written when they are complete: waiting for more (Nagle) only adds latency.
    drop(tcp.set_nodelay(true));
    drop(SockRef::from(tcp).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE)));
}

fn refused(view: &UpstreamView, endpoint: &Rc<Endpoint>, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Reason::DestinationIpUnroutable,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Reason::ConnectionRefused,
        _ => Reason::ProxyInternalError,
    };
    let details = format!("upstream {} could not be reached at {}: {error}", view.config.name, endpoint.address());
    Failure::new(reason, details).repeat(Repeat::Unprocessed)
}
