//! One request and its answer: all that the stages of a request's life add to.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use outrigger_config::model::{HeaderEdits, Rule, UpstreamId};
use tokio::time::Instant;

use super::{
    access::{Pass, Ruling},
    admit::{Held, Targets},
    connection::{Client, Tunnelled},
    reply::{Reply, for_client},
    scratch::Scratch,
    view::{Decided, View, Way},
};
use crate::{
    answer::Answer,
    clock,
    correlate::RequestId,
    deadline::Deadline,
    error::{Failure, Reason},
    fallback::Asked,
    fault::Abort,
    forward::{Pump, Source},
    http::{Known, RequestHead, ResponseHead, h1::Framing},
    inflight::{Cancelled, Guard},
    observe::{
        Counted, Record, RouteObserver,
        tap::{Moment, Tapped},
    },
    timer::Timer,
    trace_context::TraceContext,
    upstream::{Endpoint, H1Conn},
};

/// What the codec in front knows of a request beside its head.
pub struct Arrived {
    /// How the body is framed towards an HTTP/1 upstream.
    pub framing: Framing,
    /// The protocol that an HTTP/1 client wants to change to.
    pub upgrade: Option<Vec<u8>>,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
}

/// What becomes of the client's connection (HTTP/1) or stream (HTTP/2).
pub enum After {
    /// It takes the next request, if the body was read.
    KeepAlive,
    /// It closes in order.
    Close,
    /// It breaks off, so that the client knows that the answer is not whole.
    Abort,
    /// The same, and it is the client who did so.
    Gone,
    /// It becomes a tunnel that its client has asked for by CONNECT, and is served anew.
    Connect(Box<Tunnelled>),
    /// It changes its protocol, and so does this connection to the upstream.
    Tunnel(Box<Tunnel>, Option<Duration>),
}

/// What a connection whose protocol has changed goes on with.
pub struct Tunnel {
    /// The connection to the upstream.
    pub conn: H1Conn,
    /// Its place among the requests in flight.
    pub held: Held,
    /// What it was let in with.
    pub pass: Option<Pass>,
}

/// See the module.
pub struct Exchange<'a> {
    /// Who asks, and where.
    pub client: &'a Client,
    /// The configuration of this request.
    pub view: Rc<View>,
    /// The request; edited on its way.
    pub head: &'a mut RequestHead,
    /// What else is known of it.
    pub arrived: Arrived,
    /// Its body.
    pub body: Source<'a>,
    /// The way back.
    pub reply: Reply<'a>,
    /// The head of the answer.
    pub response: &'a mut ResponseHead,
    /// The timer of this task.
    pub timer: &'a mut Timer,
    /// When the request came.
    pub started: Instant,
    /// It is gRPC.
    pub grpc: bool,
    /// The time that it has.
    pub deadline: Deadline,
    /// Its correlation identifier.
    pub request_id: RequestId,
    /// Its span.
    pub trace: Option<TraceContext>,
    /// Where it goes, once that is known.
    pub way: Option<Way>,
    /// The endpoint that the client's connection was made for, where the request goes to this upstream.
    pub pinned: Option<(UpstreamId, Rc<Endpoint>)>,
    /// What the policy of the request as a whole is that of, once its route is known.
    pub policy: Option<Decided>,
    /// The rule that matched.
    pub rule: Option<Decided>,
    /// Edits of the answer that the chosen backend asks for.
    pub backend_edits: Option<HeaderEdits>,
    /// Authority and target as they came, where the normal form or a filter has changed them.
    pub original: Option<Box<(String, String)>>,
    /// Its head as its access was judged, where the rule has edited it since.
    pub asked: Option<Box<RequestHead>>,
    /// What access policies have decided; `None`: there are none.
    pub ruling: Option<Ruling>,
    /// The time that the caller gave, without what policies say.
    pub allowed: Deadline,
    /// What it holds of limits while it is in flight.
    pub held: Held,
    /// The fault that was put in on purpose.
    pub injected: Option<Abort>,
    /// Its place among the inbound requests in flight.
    pub inbound: Option<Guard>,
    /// The inbound request behind it was given up.
    pub cancelled: Option<Cancelled>,
    /// Why the answer is not the real one.
    pub degraded: Option<Reason>,
    /// How often it has passed through this process.
    pub hops: u32,
    /// Attempts so far.
    pub attempts: u32,
    /// Where the last one went.
    pub endpoint: Option<SocketAddr>,
    /// When the head of the answer came.
    pub first_byte: Option<Instant>,
    /// Of the answer that was begun; 0: none.
    pub status: u16,
    /// Of the answer.
    pub grpc_status: Option<u8>,
    /// Bytes of its body.
    pub response_bytes: u64,
    /// Why the proxy answered itself, or cut the exchange short.
    pub failure: Option<Failure>,
    /// Somebody may want to see it.
    pub tapped: Option<Box<Tapped>>,
}

impl<'a> Exchange<'a> {
    /// One that begins now, of which nothing is known but what its codec knows.
    #[must_use]
    pub fn new(
        client: &'a Client,
        view: &Rc<View>,
        scratch: &'a mut Scratch,
        arrived: Arrived,
        body: Source<'a>,
        reply: Reply<'a>,
        started: Instant,
    ) -> Self {
        let Scratch { head, response, timer } = scratch;
        Self {
            client,
            view: Rc::clone(view),
            grpc: head.is_grpc(),
            head,
            arrived,
            body,
            reply,
            response,
            timer,
            started,
            deadline: Deadline::NONE,
            request_id: RequestId::EMPTY,
            trace: None,
            way: None,
            pinned: None,
            policy: None,
            rule: None,
            backend_edits: None,
            original: None,
            asked: None,
            ruling: None,
            allowed: Deadline::NONE,
            held: Held::default(),
            injected: None,
            inbound: None,
            cancelled: None,
            degraded: None,
            hops: 0,
            attempts: 0,
            endpoint: None,
            first_byte: None,
            status: 0,
            grpc_status: None,
            response_bytes: 0,
            failure: None,
            tapped: None,
        }
    }
}

impl Exchange<'_> {
    /// The targets of the policies that it is under when it goes to `upstream`.
    #[must_use]
    pub fn targets(&self, upstream: UpstreamId) -> Targets {
        let backend = &self.view.upstream(upstream).target;
        let Some(way) = self.way else { return [Some(Rc::clone(backend)), None] };
        let addressed = self.view.upstream(way.to);
        let own = way.rule.and_then(|r| addressed.rules.get(r as usize)).unwrap_or(&addressed.target);
        let other = !Rc::ptr_eq(own, backend);
        [Some(Rc::clone(own)), other.then(|| Rc::clone(backend))]
    }

    /// The rule that matched.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        self.rule.and_then(|rule| self.view.rule(rule))
    }

    /// What the store of good answers is asked with.
    #[must_use]
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            upstream: self.upstream_name().map_or("", |name| name),
            rule: self.rule().map(|r| &*r.name),
            caller: self.client.identity.as_deref(),
            head: self.head,
        }
    }

    /// The upstream's name, once there is one.
    #[must_use]
    pub fn upstream_name(&self) -> Option<&Arc<str>> {
        self.way.map(|way| &self.view.goes_to(way).config.name)
    }

    /// True if the connection is not to be kept after this answer.
    #[must_use]
    pub fn closes(&self) -> bool {
        !self.arrived.keep_alive || self.client.worker.draining(self.client.direction)
    }

    /// True if the connection is not to be kept after an answer with this framing.
    #[must_use]
    pub fn closes_after(&self, framing: Framing) -> bool {
        // Only the close ends such a body.
        let ends_it = for_client(framing, self.head.version) == Framing::UntilClose;
        // A client that waits for 100 and gets its answer instead does not know whether to send its body.
        let unsent = self.arrived.expects_continue && self.body.taken == 0 && !self.body.is_over();
        self.closes() || ends_it || unsent
    }

    /// Answers `failure`, or breaks off if an answer was begun.
    pub async fn answer(&mut self, failure: Failure) -> After {
        let gone = failure.reason == Reason::ClientDisconnected;
        if self.reply.begun() || gone {
            self.reply.reset(h2::Reason::CANCEL);
            self.failure = Some(failure);
            return if gone { After::Gone } else { After::Abort };
        }
        let mut answer = Answer::new(&self.request_id);
        answer.upstream = self.way.map(|way| &*self.view.goes_to(way).config.name);
        answer.attempts = self.attempts;
        answer.grpc = self.grpc;
        answer.head = self.head.method == http::Method::HEAD;
        answer.retry_after = failure.retry_after;
        answer.status = self.injected.map(|i| i.status);
        answer.grpc_status = self.injected.and_then(|i| i.grpc_status);
        let mut body = Vec::new();
        answer.write(&failure, self.response, &mut body);
        let token = failure.reason.row();
        self.grpc_status = self.grpc.then_some(answer.grpc_status.unwrap_or(token.grpc));
        self.failure = Some(failure);
        self.send(&body).await
    }

    /// Sends an answer of the proxy's own: `response` and `body`.
    pub async fn send(&mut self, body: &[u8]) -> After {
        self.view.correlator.set(&mut self.response.headers, &self.request_id);
        // Who failed to send its request in order is not trusted with another one, and what it did send
        // of a body need not be read.
        // Behind a refused CONNECT may come what was meant for the tunnel.
        let close = self.closes() || !self.body.is_over() || self.head.method == http::Method::CONNECT;
        let length = body.len() as u64;
        let framing = match (self.grpc, &self.head.method) {
            _ if matches!(self.response.status, 204 | 304) => Framing::None,
            (true, _) if length == 0 => Framing::None,
            (_, &http::Method::HEAD) => Framing::None,
            _ => Framing::Length(length),
        };
        // An HTTP/1 client needs to be told that there is no body; `None` is for heads that imply it.
        let framing = match framing {
            Framing::None if self.grpc && !matches!(self.reply, Reply::H2(_)) => Framing::Length(0),
            other => other,
        };
        let body = if framing.is_empty() { b"" } else { body };
        self.status = self.response.status;
        self.tell(Moment::Answer);
        self.response_bytes = body.len() as u64;
        let Ok(mut sink) = self.reply.begin(self.response, framing, close) else {
            return After::Gone;
        };
        let mut source = Source::bytes(bytes::Bytes::copy_from_slice(body));
        let mut pump = Pump::default();
        let limit = clock::now() + WRITE_ANSWER;
        let mut progress = 0;
        let Self { timer, .. } = self;
        let sent = std::future::poll_fn(|cx| match pump.poll(cx, &mut source, &mut sink, &mut progress) {
            std::task::Poll::Pending if timer.poll_at(cx, limit).is_ready() => std::task::Poll::Ready(false),
            other => other.map(|r| r.is_ok()),
        })
        .await;
        match (sent, close) {
            (false, _) => After::Gone,
            (true, true) => After::Close,
            (true, false) => After::KeepAlive,
        }
    }

    /// Tells metrics, log and taps, once, that the request has ended.
    pub fn finish(&mut self) {
        let tapped = self.tapped.take();
        let observer = self.observer();
        let counted = Counted {
            method: &self.head.method,
            status: self.status,
            grpc_status: self.grpc_status,
            failure: self.failure.as_ref(),
            peer_identity: self.client.identity.as_ref(),
            duration: self.duration(),
        };
        observer.finish_with(&counted, || self.record());
        if let Some(mut tapped) = tapped {
            tapped.tell(Moment::End, observer, &self.record(), self.response, clock::now());
        }
    }

    /// Lets those who tap the worker take note of the request, which is as it came but for its identifiers.
    #[inline]
    pub fn tap(&mut self) {
        let taps = self.client.worker.observer.taps();
        if taps.active() {
            let mut random = || self.client.worker.rng.borrow_mut().f64();
            self.tapped = taps.begin(self.client.direction, self.head, self.client.identity.as_deref(), &mut random);
        }
    }

    /// Tells taps where the request is.
    #[inline]
    pub fn tell(&mut self, moment: Moment) {
        if self.tapped.is_some() {
            self.tell_tapped(moment);
        }
    }

    #[cold]
    fn tell_tapped(&mut self, moment: Moment) {
        if let Some(mut tapped) = self.tapped.take() {
            tapped.tell(moment, self.observer(), &self.record(), self.response, clock::now());
            self.tapped = Some(tapped);
        }
    }

    fn duration(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    fn observer(&self) -> &RouteObserver {
        self.view.observer(&self.client.worker.observer, self.client.direction, self.way)
    }

    /// What is known of it now.
    fn record(&self) -> Record<'_> {
        let (authority, target) = match self.original.as_deref() {
            Some((authority, target)) => (authority, target),
            None => (&self.head.authority, &self.head.target),
        };
        Record {
            listener: &self.client.listener,
            rule: self.rule().map_or("", |r| &r.name),
            method: &self.head.method,
            authority,
            target,
            version: self.head.version,
            status: self.status,
            grpc_status: self.grpc_status,
            failure: self.failure.as_ref(),
            request_id: self.request_id.as_bytes(),
            trace: self.trace.as_ref(),
            peer_address: self.client.peer,
            peer_identity: self.client.identity.as_ref(),
            endpoint: self.endpoint,
            attempts: self.attempts,
            duration: self.duration(),
            first_byte: self.first_byte.map(|came| [self.started, came]),
            request_bytes: self.body.taken,
            response_bytes: self.response_bytes,
            user_agent: self.head.headers.get_known(Known::UserAgent),
            access: self.ruling.as_ref().map(|r| r.note(&self.view)).unwrap_or_default(),
            notes: &[],
        }
    }
}

/// Time for a client to take an answer of the proxy's own, a few hundred bytes.
const WRITE_ANSWER: Duration = Duration::from_secs(5);

/// The client no longer waits.
#[must_use]
pub fn gone() -> Failure {
    Failure::new(Reason::ClientDisconnected, "the client went away before the answer was complete")
}

/// The inbound request that this call belongs to was given up by its caller.
#[must_use]
pub fn abandoned() -> Failure {
    Failure::new(Reason::BudgetExhausted, "the request that this call belongs to was given up by its caller")
}
