//! Attempts: an endpoint, a connection, the request up, the answer down; and again, where that is safe.
//!
//! One future drives both directions of an exchange. Until the head of the answer is there, it writes the
//! request, watches the client and the clock, and reads; from then on the client has seen something, no
//! further attempt is possible, and it pumps both ways until the answer has ended.

use std::{rc::Rc, sync::Arc, time::Duration};

use outrigger_config::model::{Direction, Mode, TrafficPolicy, UpstreamId, UpstreamProtocol, UpstreamTls};
use tokio::time::Instant;

use super::{
    admit::{self, Targets},
    exchange::{After, Exchange, abandoned, gone},
};
use crate::{
    clock,
    error::{Failure, Party, Reason, Repeat},
    http::{Known, Version},
    observe::{Outcome, RetryResult, tap::Moment},
    policy::{
        breaker,
        retry::{Ended, Hint},
    },
    upstream::{Endpoint, Lease, UpstreamView, balance, target::Leave},
};

mod again;
mod over_h1;
mod over_h2;
mod relay;
mod upload;

use again::{again, repeatable, retry_answer, watch_times};
pub(super) use relay::grpc_status;
use relay::{Waiting, answered, pass_on};
use upload::{Upload, broken, timed_out};

/// One attempt's place: where it goes, and what holds for it.
struct Attempt<'a> {
    upstream: &'a Rc<UpstreamView>,
    policy: &'a TrafficPolicy,
    targets: &'a Targets,
    lease: Lease,
    started: Instant,
    /// No connection that was used before.
    fresh: bool,
    /// When this attempt has to have an answer's head.
    limit: Option<Instant>,
}

impl Attempt<'_> {
    fn direction(&self, ex: &Exchange<'_>) -> Direction {
        ex.client.direction
    }

    fn who(&self) -> String {
        format!("upstream {} at {}", self.upstream.config.name, self.lease.endpoint.address())
    }
}

/// An attempt that ended without an answer for the client.
enum Unanswered {
    /// It failed.
    Failed(Failure),
    /// The answer is one that the policy wants to be asked for again.
    Again {
        /// After this time.
        after: Duration,
        /// It says this of its server.
        ok: Option<bool>,
    },
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Forwards the request of `ex` to upstream `id` under `policy`, that of the request as a whole.
///
/// # Errors
/// What went wrong in the last attempt, or what does not let it go ahead.
pub async fn run(
    ex: &mut Exchange<'_>,
    id: UpstreamId,
    policy: &TrafficPolicy,
    targets: &Targets,
) -> Result<After, Failure> {
    let upstream = Rc::clone(ex.view.upstream(id));
    let worker = Rc::clone(&ex.client.worker);
    admit::admit(ex, targets).await.inspect_err(|f| upstream.observer.rejected(f.reason))?;
    let max_body = policy.retry.as_ref().map_or(REPLAY, |r| r.max_body_bytes as usize);
    if !ex.body.is_over() && ex.arrived.upgrade.is_none() {
        ex.body.record(max_body);
    }
    if let Some(own) = &targets[0] {
        own.target.state.budget.request(worker.index, ex.started);
    }
    if upstream.is_new(&worker.shared) {
        Box::pin(upstream.settle(&worker.shared)).await;
    }
    let mut tried: Vec<Rc<Endpoint>> = Vec::new();
    let mut fresh = false;
    loop {
        let now = clock::now();
        if ex.deadline.is_over(now) {
            return Err(ex.deadline.failure());
        }
        let mut leaves = ask(targets, &upstream, now).inspect_err(|f| upstream.observer.rejected(f.reason))?;
        let hash = hash(ex, policy);
        let endpoint = match &ex.pinned {
            Some((to, endpoint)) if *to == id => Ok(Rc::clone(endpoint)),
            _ => upstream.pick(targets, &tried, hash, &mut worker.rng.borrow_mut()),
        };
        let endpoint = endpoint.inspect_err(|f| upstream.observer.rejected(f.reason))?;
        for (target, leave) in targets.iter().zip(&mut leaves[2..]) {
            *leave = target.as_ref().and_then(|t| t.ask_endpoint(&endpoint, now));
        }
        ex.attempts += 1;
        ex.endpoint = Some(endpoint.address());
        if let Some(tapped) = &mut ex.tapped {
            tapped.server = server(&upstream, &endpoint);
            ex.tell(Moment::Attempt);
        }
        let attempt = Attempt {
            upstream: &upstream,
            policy,
            targets,
            fresh,
            limit: attempt_limit(ex, policy, targets, now),
            lease: Lease::new(Rc::clone(&endpoint), now),
            started: now,
        };
        prepare(ex, &endpoint, now);
        let http2 = speaks_http2(&upstream, ex);
        let result = if http2 { over_h2::attempt(ex, &attempt).await } else { over_h1::attempt(ex, &attempt).await };
        let now = clock::now();
        let end = |ended: Ended<'_>| leaves.iter().flatten().for_each(|leave| leave.end(ended, now));
        match result {
            Ok(after) => {
                let ended = match (&ex.failure, ex.grpc_status) {
                    (Some(failure), _) => Ended::Failed(failure),
                    (None, Some(code)) => Ended::Grpc(code),
                    (None, None) => Ended::Status(ex.status),
                };
                end(ended);
                upstream.observer.attempt(told(ended));
                watch_times(ex, policy, targets, attempt.started, now);
                return Ok(after);
            }
            Err(Unanswered::Again { after, ok }) => {
                end(Ended::Status(if ok == Some(false) { 503 } else { 200 }));
                upstream.observer.attempt(if ok == Some(false) { Outcome::ServerError } else { Outcome::Success });
                upstream.observer.retry(RetryResult::Sent);
                ex.tell(Moment::Retry(None));
                admit::pause(ex, after).await?;
                fresh = false;
            }
            Err(Unanswered::Failed(failure)) => {
                // No client can make an endpoint look bad by what it sends.
                if failure.reason.row().origin != Party::Downstream && failure.reason != Reason::AccessDenied {
                    attempt.lease.failed(now);
                }
                if failure.reason == Reason::HttpResponseTimeout {
                    ex.held.measure(now);
                }
                if failure.reason == Reason::ProxyLoopDetected {
                    upstream.observer.rejected(failure.reason);
                }
                if failure.repeat == Repeat::Unprocessed {
                    worker.shared.resolve_again(&upstream.config.name);
                }
                end(Ended::Failed(&failure));
                upstream.observer.attempt(told(Ended::Failed(&failure)));
                match again(ex, &attempt, Ended::Failed(&failure), Hint::None) {
                    Some((after, on_fresh)) if ex.body.rewind() => {
                        upstream.observer.retry(RetryResult::Sent);
                        ex.tell(Moment::Retry(Some(failure.reason)));
                        admit::pause(ex, after).await?;
                        fresh = on_fresh;
                    }
                    _ => return Err(failure),
                }
            }
        }
        tried.push(endpoint);
    }
}

/// The identity that the server of this endpoint has to prove; none without mutual TLS.
#[cold]
fn server(upstream: &UpstreamView, endpoint: &Endpoint) -> Option<Arc<str>> {
    match &upstream.config.tls {
        UpstreamTls::Mesh { identity } => {
            Some(endpoint.state.config.identity.clone().unwrap_or_else(|| identity.clone()))
        }
        UpstreamTls::None | UpstreamTls::Simple { .. } => endpoint.state.config.identity.clone(),
    }
}

/// Body bytes kept for a second attempt where no retry policy says how many: what is lost to the keep-alive
/// race can so be sent again.
const REPLAY: usize = 64 * 1024;

/// Asks the breakers of the whole upstream and rule. The last two places are for those of the endpoint.
fn ask(targets: &Targets, upstream: &UpstreamView, now: Instant) -> Result<[Option<Leave>; 4], Failure> {
    let mut leaves = [const { None }; 4];
    for (target, leave) in targets.iter().zip(&mut leaves) {
        let Some(target) = target else { continue };
        *leave = target.ask(now).map_err(|retry_after| {
            let details = format!(
                "the breaker of TrafficPolicy {} is open: upstream {} has failed too often",
                target.policy().name,
                upstream.config.name
            );
            Failure::new(Reason::CircuitOpen, details).retry_after(retry_after)
        })?;
    }
    Ok(leaves)
}

/// When an attempt has to have begun its answer. In observe mode the policy's time only counts.
fn attempt_limit(ex: &Exchange<'_>, policy: &TrafficPolicy, targets: &Targets, now: Instant) -> Option<Instant> {
    let watched = targets[0].as_ref().is_some_and(|t| t.policy().mode == Mode::Observe);
    let own = if watched { None } else { policy.timeouts.backend_request };
    ex.deadline.within(own, now).at()
}

/// Fields that change from attempt to attempt.
fn prepare(ex: &mut Exchange<'_>, endpoint: &Endpoint, now: Instant) {
    if endpoint.own.get() {
        let hops = itoa::Buffer::new().format(ex.hops + 1).to_owned();
        ex.head.headers.set_known(Known::XOutriggerHops, hops.as_bytes());
    }
    ex.deadline.inject(&mut ex.head.headers, ex.grpc, now);
    if ex.attempts > 1 {
        let number = itoa::Buffer::new().format(ex.attempts).to_owned();
        ex.head.headers.set_known(Known::XOutriggerAttempt, number.as_bytes());
    } else {
        ex.head.headers.remove_known(Known::XOutriggerAttempt);
    }
}

/// HTTP/2 where the upstream says so. Where it says nothing, for gRPC, which knows nothing else, and for a client that was
/// redirected here and speaks it unasked: it knows its server, which may speak nothing else either.
fn speaks_http2(upstream: &UpstreamView, ex: &Exchange<'_>) -> bool {
    match upstream.config.protocol {
        UpstreamProtocol::Http2 | UpstreamProtocol::Grpc => true,
        UpstreamProtocol::Http | UpstreamProtocol::Tcp => false,
        UpstreamProtocol::Auto => ex.grpc || (ex.client.unasked && ex.head.version == Version::Http2),
    }
}

fn hash(ex: &Exchange<'_>, policy: &TrafficPolicy) -> u64 {
    use outrigger_config::model::HashOn;
    let bytes = match &policy.load_balancing.hash_on {
        None => return 0,
        Some(HashOn::Header(name)) => ex.head.headers.get(name.as_bytes()).map(<[u8]>::to_vec),
        Some(HashOn::Cookie(name)) => cookie(ex, name).map(<[u8]>::to_vec),
        Some(HashOn::ClientAddress) => Some(ex.client.peer.ip().to_string().into_bytes()),
    };
    // Without the header every request is a caller of its own.
    bytes.map_or_else(|| ex.client.worker.rng.borrow_mut().u64(..), |b| balance::hash(&b))
}

fn cookie<'a>(ex: &'a Exchange<'_>, name: &str) -> Option<&'a [u8]> {
    ex.head.headers.all_known(Known::Cookie).flat_map(|v| v.split(|b| *b == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|b| *b == b'=')?;
        (&pair[..equals] == name.as_bytes()).then(|| &pair[equals + 1..])
    })
}

/// What the metrics say of an attempt.
fn told(ended: Ended<'_>) -> Outcome {
    match ended {
        Ended::Failed(failure) => outcome(failure),
        ended if breaker::verdict(ended) == Some(false) => Outcome::ServerError,
        Ended::Status(status) if status >= 500 => Outcome::ServerError,
        Ended::Status(_) | Ended::Grpc(_) => Outcome::Success,
    }
}

fn outcome(failure: &Failure) -> Outcome {
    match failure.reason {
        _ if failure.repeat == Repeat::ReusedConnection => Outcome::ReusedClosed,
        Reason::ClientDisconnected | Reason::AccessDenied => Outcome::Canceled,
        Reason::HttpResponseTimeout | Reason::BudgetExhausted | Reason::ConnectionReadTimeout => Outcome::Timeout,
        Reason::HttpProtocolError | Reason::HttpResponseHeaderSectionSize => Outcome::ProtocolError,
        Reason::ConnectionTerminated | Reason::HttpResponseIncomplete => Outcome::Broken,
        _ => Outcome::ConnectFailure,
    }
}
