//! The life of a request, from its head to the last byte of its answer: read [`serve`] from top to bottom.
//!
//! Whatever goes wrong comes out of `forward` as one [`Failure`] and becomes one answer; whatever
//! happened is told once, by [`Exchange::finish`].

use std::{rc::Rc, sync::Arc};

use http::Method;
use outrigger_config::{
    matching::{Decision, Destination},
    model::{Attribute, Direction, FallbackAction, HeaderEdits, Mode, PathMatch, Rule, TrafficPolicy, UpstreamId},
};
use tokio::time::Instant;

use super::{
    access,
    admit::Held,
    attempt,
    connection::Client,
    exchange::{After, Arrived, Exchange},
    locate, mirror,
    reply::Reply,
    scratch::Scratch,
    view::{Decided, View, Way},
};
use crate::{
    clock, correlate,
    deadline::Deadline,
    edit,
    error::{Failure, Reason},
    fallback,
    forward::Source,
    http::{Known, RequestHead, h1},
    observe::AttributedBy,
    trace_context::TraceContext,
};

/// Largest request body of which a mirror gets a copy; larger ones are not mirrored, as a copy has to be
/// kept until the original has been read.
const MIRRORED: usize = 64 * 1024;

/// Serves one request. `refused`: why the codec does not let it be forwarded.
pub async fn serve(
    client: &Client,
    scratch: &mut Scratch,
    arrived: Arrived,
    body: Source<'_>,
    reply: Reply<'_>,
    started: Instant,
    refused: Option<Failure>,
) -> After {
    if client.direction == Direction::Outbound && !locate::is_known(client, &scratch.head.authority) {
        Box::pin(locate::settle(client, &scratch.head.authority)).await;
    }
    let view = client.worker.view();
    let mut exchange = Exchange::new(client, &view, scratch, arrived, body, reply, started);
    identify(&mut exchange, &view);
    exchange.tap();
    let result = match refused {
        Some(failure) => Err(failure),
        None => forward(&mut exchange, &view).await,
    };
    let result = match result {
        Err(failure) => fall_back(&mut exchange, failure).await,
        done => done,
    };
    let after = match result {
        Ok(after) => after,
        Err(failure) => exchange.answer(failure).await,
    };
    exchange.finish();
    if let Some(inbound) = exchange.inbound.take()
        && !matches!(after, After::Abort | After::Gone)
    {
        inbound.finish();
    }
    after
}

/// The stages. Each takes what the one before has found.
async fn forward(ex: &mut Exchange<'_>, view: &Rc<View>) -> Result<After, Failure> {
    let client = ex.client;
    let listener = view.listener_of(client).ok_or_else(|| {
        Failure::new(Reason::DestinationNotFound, "the listener of this connection is no longer configured")
    })?;
    if let Some(failure) = access::unproven(client, listener) {
        // Accepted in plaintext, before a reload made the listener strict.
        return Err(failure);
    }
    if ex.head.method == Method::CONNECT {
        return Err(Failure::new(Reason::NotImplemented, "CONNECT is not served: this is no forward proxy"));
    }
    if let edit::HopLimit::Answer = edit::hop_limit(ex.head) {
        return last_hop(ex).await;
    }
    hops(ex)?;
    let destination = locate::destination(ex, view, listener)?;
    let mut way = Way { to: destination.id, rule: None, backend: None };
    ex.way = Some(way);
    access::normalise(ex, destination.id)?;
    access::authorize(ex, &destination)?;
    let decision = route(destination, ex.head)?;
    let policy = decision.policy();
    let decided = Some(Decided { to: decision.id, rule: decision.route.map(|(matched, _)| matched.rule) });
    ex.policy = decided;
    set_deadline(ex, policy, view);
    if ex.deadline.is_over(ex.started) {
        return Err(ex.deadline.failure());
    }
    let Some((matched, rule)) = decision.route else {
        let targets = ex.targets(decision.id);
        return attempt::run(ex, decision.id, policy, &targets).await;
    };
    way.rule = Some(matched.rule);
    ex.way = Some(way);
    ex.rule = decided;
    if rule.redirect.is_some() {
        return redirect(ex, rule, &matched.path).await;
    }
    let (index, chosen) = filter(ex, rule, &matched.path)?;
    access::authorize_backend(ex, chosen)?;
    way.backend = Some(index);
    ex.way = Some(way);
    let mut mirrors = mirror::choose(ex, rule);
    mirrors.retain(|id| access::may_reach(ex, *id));
    if !mirrors.is_empty() && !ex.body.is_over() {
        ex.body.record(MIRRORED);
    }
    let copy = (!mirrors.is_empty()).then(|| Box::new(ex.head.clone()));
    let targets = ex.targets(chosen);
    let result = attempt::run(ex, chosen, policy, &targets).await;
    if let (Some(head), Some(body)) = (copy, ex.body.whole()) {
        mirror::send(ex, &mirrors, &head, &body);
    }
    result
}

/// How long the request may take: the caller's time, that of the inbound request behind it, the policy's.
fn set_deadline(ex: &mut Exchange<'_>, policy: &TrafficPolicy, view: &View) {
    // An upgraded connection has no end to wait for.
    let requested = if ex.arrived.upgrade.is_some() { None } else { policy.timeouts.request };
    ex.allowed = Deadline::new(&ex.head.headers, ex.grpc, None, ex.started).inherit(ex.allowed.at());
    let watched = policy.mode == Mode::Observe;
    ex.deadline = ex.allowed.within(if watched { None } else { requested }, ex.started);
    let infers = view.snapshot.model.proxy.correlation.attribute == Attribute::Infer;
    if ex.client.direction == Direction::Inbound && view.indexes && (ex.deadline.at().is_some() || infers) {
        let inflight = &ex.client.worker.inflight;
        ex.inbound = Some(inflight.enter(&ex.request_id, ex.trace.as_ref(), ex.deadline.at()));
    }
}

/// Ties an outbound call to the inbound request behind it, whose time and fate it shares.
fn attribute(ex: &mut Exchange<'_>, view: &View, rng: &mut fastrand::Rng) {
    let worker = &ex.client.worker;
    let inflight = &worker.shared.inflight;
    if inflight.is_empty() {
        worker.observer.attributed(AttributedBy::None);
        return;
    }
    let headers = &mut ex.head.headers;
    let id = view.correlator.find(headers);
    let trace = TraceContext::from_headers(headers);
    let infer = view.snapshot.model.proxy.correlation.attribute == Attribute::Infer;
    let found = inflight.attribute(id.as_ref(), trace.as_ref().map(|t| &t.trace_id), infer);
    worker.observer.attributed(found.by);
    if let (None, Some(id)) = (&id, &found.request_id) {
        view.correlator.set(headers, id);
    }
    if let (None, Some(parent)) = (&trace, found.trace) {
        parent.child(rng).inject(headers);
    }
    ex.allowed = Deadline::NONE.inherit(found.deadline);
    ex.cancelled = found.cancelled;
}

/// Answers a failure in another way, where the policy has one.
async fn fall_back(ex: &mut Exchange<'_>, failure: Failure) -> Result<After, Failure> {
    let view = Rc::clone(&ex.view);
    let policy = ex.policy.map(|decided| view.policy(decided));
    let action = fallback::action(policy.and_then(|p| p.fallback.as_ref()), failure.reason);
    let (Some(action), false) = (action, ex.reply.begun()) else { return Err(failure) };
    if failure.reason == Reason::AccessDenied && !matches!(action, FallbackAction::Response(_)) {
        // Who may not have the answer may not have it from elsewhere either.
        return Err(failure);
    }
    let reason = failure.reason;
    let now = clock::now();
    let mut body = Vec::new();
    match action {
        FallbackAction::Response(response) => {
            let head = ex.head.method == Method::HEAD;
            fallback::write_static(response, reason, ex.grpc, head, ex.response, &mut body);
        }
        FallbackAction::StaleIfError(keep) => {
            let good = ex.client.worker.shared.good.find(&ex.asked(), *keep, now);
            let Some(good) = good else { return Err(failure) };
            good.write(reason, now, ex.response);
            body.extend_from_slice(&good.body);
        }
        FallbackAction::Backend(id) => {
            if !ex.body.rewind() || !access::may_reach(ex, *id) {
                return Err(failure);
            }
            tracing::debug!(%failure, "another upstream is asked instead");
            let other = Arc::clone(&view.upstream(*id).config.policy);
            ex.degraded = Some(reason);
            ex.deadline = ex.allowed.within(other.timeouts.request, now);
            ex.held = Held::default();
            ex.way = Some(Way { to: *id, rule: None, backend: None });
            let targets = ex.targets(*id);
            view.upstream(*id).observer.degraded(reason);
            return attempt::run(ex, *id, &other, &targets).await;
        }
    }
    if let Some(way) = ex.way {
        view.goes_to(way).observer.degraded(reason);
    }
    if ex.grpc {
        ex.grpc_status = attempt::grpc_status(&ex.response.headers);
    }
    ex.failure = Some(failure);
    Ok(ex.send(&body).await)
}

/// Requests that pass through this process again and again are going round: more often than an app that
/// calls itself through both of its proxy's sides, and through a route before each.
const MAX_HOPS: u32 = 8;

/// Counts how often a request has come from this process to itself, and ends it if it goes round.
fn hops(ex: &mut Exchange<'_>) -> Result<(), Failure> {
    let value = ex.head.headers.get_known(Known::XOutriggerHops);
    let Some(value) = value else { return Ok(()) };
    ex.hops = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    ex.head.headers.remove_known(Known::XOutriggerHops);
    if ex.hops >= MAX_HOPS {
        let details = "the request has come back to this proxy again and again: an upstream leads to its own listener";
        return Err(Failure::new(Reason::ProxyLoopDetected, details));
    }
    Ok(())
}

/// Gives the request its identifiers, and takes away what only a hop may say.
fn identify(ex: &mut Exchange<'_>, view: &View) {
    let client = ex.client;
    let headers = &mut ex.head.headers;
    h1::strip_hop_by_hop(headers, true);
    if client.direction == Direction::Inbound {
        // Whatever comes from outside may say anything; what we know of the caller goes there instead.
        headers.remove_known(Known::XForwardedClientCert);
        h1::strip_claims(headers, client.trusted);
        if let Some(forwarded) = &client.forwarded {
            headers.append_known(Known::XForwardedClientCert, forwarded.as_bytes());
        }
    }
    let worker = &client.worker;
    let mut rng = worker.rng.borrow_mut();
    if client.direction == Direction::Outbound {
        attribute(ex, view, &mut rng);
    }
    let headers = &mut ex.head.headers;
    let source = view.correlator.apply(headers, client.trusted, clock::unix_millis(), &mut rng, &mut ex.request_id);
    worker.observer.correlation(source == correlate::Source::Kept);
    let sample = view.snapshot.model.proxy.telemetry.tracing.as_ref().map_or(0.0, |t| t.sample);
    let (trace, _) = TraceContext::join_or_start(headers, &mut rng, |rng| sample > 0.0 && rng.f64() < sample);
    trace.inject(headers);
    ex.trace = Some(trace);
}

fn route<'m>(destination: Destination<'m>, head: &RequestHead) -> Result<Decision<'m>, Failure> {
    destination.route(head).map_err(|e| Failure::new(Reason::DestinationNotFound, e.to_string()))
}

/// True if the rule changes the heads of requests.
fn edits(rule: &Rule) -> bool {
    let backends = rule.backends.iter().any(|b| !b.request_headers.is_empty());
    rule.rewrite.is_some() || !rule.request_headers.is_empty() || backends
}

/// Carries out the filters of a rule, and chooses its backend.
fn filter(ex: &mut Exchange<'_>, rule: &Rule, matched: &PathMatch) -> Result<(u32, UpstreamId), Failure> {
    if ex.client.direction == Direction::Inbound && edits(rule) {
        ex.asked = Some(Box::new(ex.head.clone()));
    }
    edit::apply_to_request(&rule.request_headers, ex.head);
    if let Some(rewrite) = &rule.rewrite {
        let head = &*ex.head;
        ex.original.get_or_insert_with(|| Box::new((head.authority.clone(), head.target.clone())));
        edit::rewrite(ex.head, rewrite, matched);
    }
    let random = ex.client.worker.rng.borrow_mut().u32(..);
    let backend = rule.pick_backend(random).ok_or_else(|| {
        let details = format!("rule {} of {} {} has no backend", rule.name, rule.kind.as_str(), rule.route);
        Failure::new(Reason::ProxyConfigurationError, details)
    })?;
    edit::apply_to_request(&backend.request_headers, ex.head);
    if !backend.response_headers.is_empty() {
        ex.backend_edits = Some(HeaderEdits::clone(&backend.response_headers));
    }
    let index = rule.backends.iter().position(|b| std::ptr::eq(b, backend)).unwrap_or(0);
    Ok((u32::try_from(index).unwrap_or(0), backend.upstream))
}

/// Answers with a redirect.
async fn redirect(ex: &mut Exchange<'_>, rule: &Rule, matched: &PathMatch) -> Result<After, Failure> {
    let Some(redirect) = &rule.redirect else {
        return Err(Failure::new(Reason::ProxyInternalError, "a redirect without a redirect"));
    };
    let (status, location) = edit::redirect(ex.head, redirect, matched, ex.client.local.port());
    ex.response.clear();
    ex.response.status = status;
    ex.response.headers.append_known(Known::Location, location.as_bytes());
    edit::apply(&rule.response_headers, &mut ex.response.headers);
    Ok(ex.send(b"").await)
}

/// `Max-Forwards: 0` (RFC 9110 7.6.2): this proxy is the final recipient.
async fn last_hop(ex: &mut Exchange<'_>) -> Result<After, Failure> {
    if ex.head.method == Method::TRACE {
        // Reflecting a request would show its reader what only servers may see (RFC 9110 9.3.8).
        return Err(Failure::new(Reason::NotImplemented, "TRACE is not answered by this proxy"));
    }
    ex.response.clear();
    ex.response.status = 200;
    Ok(ex.send(b"").await)
}
