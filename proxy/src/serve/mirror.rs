//! `RequestMirror`: copies of requests whose answers are thrown away. A copy can neither delay nor fail
//! the original.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use outrigger_config::model::{Mirror, Rule, UpstreamId};

use super::{
    attempt,
    exchange::{Arrived, Exchange},
    reply::Reply,
    scratch::Scratch,
    view::Way,
};
use crate::{
    clock,
    deadline::Deadline,
    forward::Source,
    http::{RequestHead, h1::Framing},
};

/// Copies under way in one worker. A slow mirror must not make us hold more than this many requests.
const MAX_COPIES: usize = 256;

thread_local! {
    static COPIES: Cell<usize> = const { Cell::new(0) };
}

struct Copy;

impl Copy {
    fn start() -> Option<Self> {
        let now = COPIES.get();
        (now < MAX_COPIES).then(|| {
            COPIES.set(now + 1);
            Self
        })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        COPIES.set(COPIES.get() - 1);
    }
}

/// The mirrors that get a copy of this request.
pub(super) fn choose(ex: &Exchange<'_>, rule: &Rule) -> Vec<UpstreamId> {
    if rule.mirrors.is_empty() || ex.arrived.upgrade.is_some() {
        return Vec::new();
    }
    let mut rng = ex.client.worker.rng.borrow_mut();
    let mut chosen = |m: &&Mirror| m.numerator >= m.denominator || rng.u32(..m.denominator.max(1)) < m.numerator;
    rule.mirrors.iter().filter(|m| chosen(m)).map(|m| m.upstream).collect()
}

/// Sends the copies.
pub(super) fn send(ex: &Exchange<'_>, to: &[UpstreamId], head: &RequestHead, body: &Bytes) {
    for id in to {
        let Some(copy) = Copy::start() else {
            ex.view.upstream(*id).observer.rejected(crate::error::Reason::LimitReached);
            continue;
        };
        let client = ex.client.clone();
        let view = Rc::clone(&ex.view);
        let (id, body, request_id) = (*id, body.clone(), ex.request_id);
        let mut scratch = Scratch { head: head.clone(), ..Scratch::default() };
        tokio::task::spawn_local(async move {
            let _copy = copy;
            let started = clock::now();
            let policy = std::sync::Arc::clone(&view.upstream(id).config.policy);
            let length = body.len() as u64;
            let framing = if length == 0 { Framing::None } else { Framing::Length(length) };
            let arrived = Arrived { framing, upgrade: None, expects_continue: false, keep_alive: false };
            let body = Source::bytes(body);
            let mut exchange = Exchange::new(&client, &view, &mut scratch, arrived, body, Reply::Nobody, started);
            exchange.deadline = Deadline::NONE.within(policy.timeouts.request, started);
            exchange.request_id = request_id;
            exchange.way = Some(Way { to: id, rule: None, backend: None });
            let targets = exchange.targets(id);
            if let Err(failure) = attempt::run(&mut exchange, id, &policy, &targets).await {
                tracing::debug!(%failure, "a mirrored request failed");
            }
        });
    }
}
