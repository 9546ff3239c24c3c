//! Whether a request may go ahead now: rate limit, injected faults, bulkhead, adaptive concurrency.
//!
//! Two targets can have a say: the policy of the request (its rule's, or that of the upstream that it
//! addresses) and that of the upstream that it goes to. They are asked in turn, and each only once.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::exchange::Exchange;
use crate::{
    clock,
    error::{Failure, Reason},
    fault::Fault,
    policy::{
        adaptive::Slot,
        limits::{Enter, Permit, Seen},
        observe::Action,
        rate_limit::Caller,
    },
    upstream::TargetView,
};

/// The targets whose policies a request is under: its own first.
pub type Targets = [Option<Rc<TargetView>>; 2];

/// What a request holds while it is in flight.
#[derive(Default)]
pub struct Held {
    permits: [Option<Permit>; 2],
    slots: [Option<Slot>; 2],
}

impl Held {
    /// The head of the answer came, or its time is up: adaptive concurrency learns from how long that took.
    pub fn measure(&mut self, now: Instant) {
        for slot in self.slots.iter_mut().flatten() {
            slot.measure(now);
        }
    }
}

/// Lets the request in, or says why not.
///
/// # Errors
/// It is refused, its time is up, or its client went away.
pub async fn admit(ex: &mut Exchange<'_>, targets: &Targets) -> Result<(), Failure> {
    let now = ex.started;
    if let Some(own) = &targets[0] {
        rate(ex, own, now)?;
        fault(ex, own).await?;
    }
    for (index, target) in targets.iter().enumerate() {
        let Some(target) = target else { continue };
        ex.held.permits[index] = bulkhead(ex, target).await?;
        ex.held.slots[index] = adaptive(target)?;
    }
    Ok(())
}

fn rate(ex: &Exchange<'_>, target: &TargetView, now: Instant) -> Result<(), Failure> {
    let Some(limiter) = &target.target.state.rate_limit else { return Ok(()) };
    let caller = match &ex.client.identity {
        Some(identity) => Caller::Identity(identity),
        None => Caller::Address(ex.client.peer.ip()),
    };
    let header = |name: &str| ex.head.headers.get(name.as_bytes());
    match limiter.check(caller, header, now) {
        Err(limited) if target.acts(Action::Refuse(Reason::RateLimited)) => {
            let details = format!("TrafficPolicy {} allows no more requests of this caller now", target.policy().name);
            Err(Failure::new(Reason::RateLimited, details).retry_after(limited.retry_after))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Faults put in on purpose: a delay, then perhaps an answer instead of forwarding.
async fn fault(ex: &mut Exchange<'_>, target: &TargetView) -> Result<(), Failure> {
    let Some(policy) = &target.policy().fault else { return Ok(()) };
    let draws = {
        let mut rng = ex.client.worker.rng.borrow_mut();
        (rng.f64(), rng.f64())
    };
    let fault = Fault::decide(policy, &*ex.head, draws.0, draws.1);
    if fault.is_none() || !target.acts(Action::Refuse(Reason::FaultInjected)) {
        return Ok(());
    }
    if let Some(delay) = fault.delay {
        pause(ex, delay).await?;
    }
    let Some(abort) = fault.abort else { return Ok(()) };
    ex.injected = Some(abort);
    let details = format!("TrafficPolicy {} puts this fault in, for a test of the caller", target.policy().name);
    Err(Failure::new(Reason::FaultInjected, details))
}

/// A place in the bulkhead, waited for if there is none.
async fn bulkhead(ex: &mut Exchange<'_>, target: &TargetView) -> Result<Option<Permit>, Failure> {
    let gate = &target.requests;
    let policy = target.policy();
    if policy.mode == outrigger_config::model::Mode::Observe {
        let (permit, seen) = gate.watch();
        match seen {
            Seen::Go => {}
            Seen::Wait => target.would(Action::Queue),
            Seen::Full => target.would(Action::Refuse(Reason::LimitReached)),
        }
        return Ok(Some(permit));
    }
    match gate.enter(clock::now(), ex.deadline.at()) {
        Enter::Go(permit) => Ok(Some(permit)),
        Enter::Full => {
            let limits = &policy.limits;
            let details = format!(
                "TrafficPolicy {}: {} requests are in flight and {} wait",
                policy.name, limits.max_requests, limits.max_pending
            );
            Err(Failure::new(Reason::LimitReached, details).retry_after(Duration::from_secs(1)))
        }
        Enter::Wait(mut pending) => {
            let granted = wait(ex, |cx| pending.poll(cx, clock::now())).await?;
            granted.map(Some).map_err(|_| ex.deadline.failure())
        }
    }
}

fn adaptive(target: &TargetView) -> Result<Option<Slot>, Failure> {
    let Some(adaptive) = &target.target.state.adaptive else { return Ok(None) };
    match adaptive.admit(clock::now()) {
        None if target.acts(Action::Refuse(Reason::Overloaded)) => {
            let details = format!(
                "TrafficPolicy {}: the service answers more slowly the more is in flight; {} requests are enough now",
                target.policy().name,
                adaptive.limit()
            );
            Err(Failure::new(Reason::Overloaded, details).retry_after(Duration::from_secs(1)))
        }
        slot => Ok(slot),
    }
}

/// Waits for a time, unless the request ends before.
///
/// # Errors
/// As [`wait`].
pub async fn pause(ex: &mut Exchange<'_>, time: Duration) -> Result<(), Failure> {
    let mut sleep = std::pin::pin!(tokio::time::sleep(time));
    wait(ex, |cx| sleep.as_mut().poll(cx)).await
}

/// Waits for what `poll` waits for, unless the request ends before.
///
/// # Errors
/// Its client went away, or its time is up.
pub async fn wait<T>(ex: &mut Exchange<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Failure> {
    let Exchange { body, reply, timer, deadline, cancelled, .. } = ex;
    poll_fn(|cx| {
        if let Poll::Ready(value) = poll(cx) {
            return Poll::Ready(Ok(value));
        }
        if (body.is_over() && body.poll_gone(cx).is_ready()) || reply.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(super::exchange::gone()));
        }
        if cancelled.as_mut().is_some_and(|c| c.poll(cx).is_ready()) {
            return Poll::Ready(Err(super::exchange::abandoned()));
        }
        timer.poll_opt(cx, deadline.at()).map(|()| Err(deadline.failure()))
    })
    .await
}
