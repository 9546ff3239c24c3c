//! The one task that talks to the control plane, and keeps what it says in force.
//!
//! It is single-threaded and owns all of its state: the stream, the resources, what workers wait for. News are taken in
//! batches of what has arrived by then, and each batch is compiled once; a reconnect that brings a hundred services is one
//! snapshot. The order is always: snapshot first, then the directory that leads to it, then whoever waits is told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use outrigger_config::discovery::{
    Acknowledge, ControlMessage, ProxyMessage, Refuse, Subscribe, Unsubscribe, control_message, proxy_message,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_stream::{Stream as _, StreamExt as _};

use super::{
    Ask, Bootstrap, Discovery,
    assemble::Mesh,
    backoff::Backoff,
    cache::{Cache, Change, WORKLOAD},
    identity::{self, Issued},
    link::{LinkError, Stream},
    wants::Wants,
};
use crate::{shared::Shared, tls::Identity};

mod apply;
mod stream;
mod trust;

/// How often use is looked at, and what was saved is written.
const TICK: Duration = Duration::from_secs(1);
/// Messages of one batch. More than the keys of one proxy, so that a resume is one batch; a bound for a peer that never stops.
const BATCH: usize = 8192;
/// Longest wait that a `GoAway` may ask for.
const MAX_SPREAD: Duration = Duration::from_secs(30);
/// Shortest life of a stream that is sent away: replicas that send each other's proxies away must not keep them busy.
const LEAST_STAY: Duration = Duration::from_millis(100);

/// See the module.
pub struct Agent {
    boot: Arc<Bootstrap>,
    shared: Arc<Shared>,
    discovery: Arc<Discovery>,
    /// Told when a snapshot is in force, so that names of Upstreams are resolved.
    applied: Box<dyn Fn() + Send>,
    cache: Cache,
    wants: Wants,
    mesh: Mesh,
    /// Numbers of services, for the directory.
    slots: HashMap<String, u32>,
    /// Services asked for by their own key, at a reconnect.
    explicit: std::collections::BTreeSet<String>,
    identity: Option<Arc<Identity>>,
    roots: Vec<CertificateDer<'static>>,
    /// An identity and its roots that could not be put in force, for the next try.
    undelivered: Option<(Arc<Identity>, Vec<CertificateDer<'static>>)>,
    /// Key and version of the bundle that is not in force yet.
    unacknowledged: Option<(String, String)>,
    stream: Option<(Stream, Instant)>,
    /// When the stream that was sent away is left for another.
    leave: Option<Instant>,
    /// Keys, and the versions named, of the first messages of the stream that is being opened.
    sent: BTreeMap<String, String>,
    /// Something is in force that is not saved.
    unsaved: bool,
    /// The number of the next new service.
    next_slot: u32,
}

/// What has happened.
enum Event {
    Ask(Ask),
    Issued(Issued),
    Connected(Result<Stream, LinkError>),
    Messages(Vec<ControlMessage>),
    Lost(Option<Box<tonic::Status>>),
    Leave,
    Resolved(super::wants::Resolved),
    Tick,
}

type Connecting = std::pin::Pin<Box<dyn Future<Output = Result<Stream, LinkError>> + Send>>;

impl Agent {
    /// With the resources that were saved, if any; `applied` is called after each snapshot.
    #[must_use]
    pub fn new(
        boot: Arc<Bootstrap>,
        shared: Arc<Shared>,
        discovery: Arc<Discovery>,
        applied: impl Fn() + Send + 'static,
    ) -> Self {
        let mut agent = Self {
            wants: Wants::new(boot.idle),
            boot,
            shared,
            discovery,
            applied: Box::new(applied),
            cache: Cache::default(),
            mesh: Mesh::default(),
            slots: HashMap::new(),
            explicit: std::collections::BTreeSet::new(),
            identity: None,
            roots: Vec::new(),
            undelivered: None,
            unacknowledged: None,
            stream: None,
            leave: None,
            sent: BTreeMap::new(),
            unsaved: false,
            next_slot: 0,
        };
        agent.restore();
        agent
    }

    /// Runs for the life of the process.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let (issued_sender, mut issued) = mpsc::channel(1);
        drop(tokio::spawn(identity::keep(Arc::clone(&self.boot), issued_sender)));
        let mut backoff = Backoff::default();
        let mut next_try = Instant::now();
        let mut connecting: Option<Connecting> = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.shared.observer.set_control_plane(Some(false));
        loop {
            if self.stream.is_none() && connecting.is_none() && Instant::now() >= next_try {
                connecting = self.connect();
            }
            let idle = self.stream.is_none() && connecting.is_none() && self.identity.is_some();
            let leave = self.leave;
            let event = tokio::select! {
                Some(ask) = asks.recv() => Event::Ask(ask),
                Some(new) = issued.recv() => Event::Issued(new),
                connected = async { connecting.as_mut().expect("guarded").await }, if connecting.is_some() => {
                    connecting = None;
                    Event::Connected(connected)
                }
                event = receive(&mut self.stream) => event,
                resolved = self.wants.resolved() => Event::Resolved(resolved),
                () = sleep_until(leave.unwrap_or(next_try)), if leave.is_some() => Event::Leave,
                _ = tick.tick() => Event::Tick,
                () = sleep_until(next_try), if idle => continue,
                else => return,
            };
            match event {
                Event::Ask(ask) => self.ask(ask),
                Event::Issued(new) => self.issued(new),
                Event::Connected(Ok(stream)) => self.opened(stream),
                Event::Connected(Err(e)) => {
                    tracing::warn!("the control plane is not reached, what is known stays in force: {e}");
                    next_try = Instant::now() + backoff.next(fastrand::f64());
                }
                Event::Messages(messages) => {
                    if let Some(spread) = self.take(messages) {
                        self.sent_away(spread.mul_f64(fastrand::f64()), Instant::now());
                    }
                }
                Event::Lost(status) => {
                    if let Some((_, since)) = &self.stream {
                        backoff.ended(*since, Instant::now());
                    }
                    let why = status.map(|s| format!("{}: {}", s.code(), s.message()));
                    self.lost(why.as_deref().unwrap_or("it closed the stream"));
                    next_try = Instant::now() + backoff.next(fastrand::f64());
                }
                Event::Leave => {
                    self.lost("it asked to go elsewhere");
                    next_try = Instant::now();
                }
                Event::Resolved(resolved) => {
                    self.wants.take(resolved, Instant::now());
                    self.publish();
                }
                Event::Tick => self.tick(),
            }
        }
    }

    /// A worker asks for a destination.
    fn ask(&mut self, ask: Ask) {
        let Ask { key, done } = ask;
        let key = key.to_string();
        let connected = self.discovery.connected();
        let asked = self.wants.ask(&key, done, connected, Instant::now());
        if let Some(evicted) = asked.evicted {
            self.shared.observer.discovery("evicted");
            self.unsubscribe(&evicted);
        }
        if asked.new {
            self.subscribe(&key);
        }
    }

    /// Takes what came together. `Some`: the replica wants us elsewhere, after a part of this time.
    fn take(&mut self, messages: Vec<ControlMessage>) -> Option<Duration> {
        let mut changes = Changes::default();
        let mut away = None;
        for message in messages.into_iter().filter_map(|m| m.message) {
            match message {
                control_message::Message::Welcome(welcome) => {
                    tracing::info!(
                        replica = welcome.replica,
                        version = welcome.control_plane_version,
                        "connected to the control plane"
                    );
                    let mesh = Mesh { cluster_domain: welcome.cluster_domain, mesh_namespace: welcome.mesh_namespace };
                    changes.documents |= mesh != self.mesh;
                    self.mesh = mesh;
                    self.connected();
                }
                control_message::Message::Resource(resource) => {
                    let (key, version) = (resource.key.clone(), resource.version.clone());
                    let change = self.cache.resource(resource);
                    self.changed(key, version, &change, &mut changes);
                }
                control_message::Message::Endpoints(delta) => {
                    let change = self.cache.delta(&delta);
                    self.changed(delta.key, delta.version, &change, &mut changes);
                }
                control_message::Message::GoAway(go) => {
                    tracing::info!(reason = go.reason, "the control plane's replica asks to go elsewhere");
                    away = Some(Duration::from_millis(go.spread_millis.into()).min(MAX_SPREAD));
                }
            }
        }
        self.settle(changes);
        away
    }

    fn changed(&mut self, key: String, version: String, change: &Change, changes: &mut Changes) {
        match change {
            Change::Documents => changes.documents = true,
            Change::Endpoints => {
                self.endpoints(&key);
                self.acknowledge(key, version, Vec::new());
            }
            Change::Binding => {
                changes.directory = true;
                changes.bindings.push(key.clone());
                self.acknowledge(key, version, Vec::new());
            }
            Change::Trust => changes.trust = Some((key, version)),
            Change::Nothing => self.acknowledge(key, version, Vec::new()),
            Change::OutOfStep => {
                tracing::debug!(key, "a delta does not fit: the resource is asked for afresh");
                self.send(proxy_message::Message::Unsubscribe(Unsubscribe { key: key.clone() }));
                self.explicit.insert(key.clone());
                let known_version = String::new();
                self.send(proxy_message::Message::Subscribe(Subscribe { key, known_version }));
            }
            Change::Unknown => {
                let reasons = vec!["this proxy's version does not know such a resource".to_owned()];
                self.refuse(key, version, reasons);
            }
        }
    }

    fn tick(&mut self) {
        self.deliver_again();
        let evicted = self.wants.sweep(Instant::now());
        for key in &evicted {
            self.shared.observer.discovery("evicted");
            self.unsubscribe(key);
        }
        if !evicted.is_empty() {
            self.collect();
        }
        if self.unsaved {
            self.save();
        }
    }

    /// Forgets services that nothing leads to any more.
    fn collect(&mut self) {
        let reachable = self.cache.reachable(self.wants.keys().chain([WORKLOAD]));
        let gone: Vec<_> = self.cache.services().into_iter().filter(|k| !reachable.contains(k)).collect();
        for key in &gone {
            if self.explicit.remove(key) {
                self.send(proxy_message::Message::Unsubscribe(Unsubscribe { key: key.clone() }));
            }
            self.cache.forget(key);
            self.slots.remove(key);
        }
        // The directory first: nothing must lead to what is about to go.
        self.publish();
        if !gone.is_empty() {
            self.compile();
        }
        self.forget_breakers();
    }

    /// Forgets what breakers have learnt of addresses that nobody calls any more.
    fn forget_breakers(&self) {
        let (snapshot, directory) = (self.shared.snapshot(), self.discovery.directory());
        let Some(routing) = &snapshot.routing else { return };
        for id in [routing.outside, routing.pods] {
            snapshot.upstream(id).target.retain(|address| directory.has(*address));
        }
    }

    fn subscribe(&mut self, key: &str) {
        let known_version = self.cache.known_version(key);
        self.send(proxy_message::Message::Subscribe(Subscribe { key: key.to_owned(), known_version }));
    }

    fn unsubscribe(&mut self, key: &str) {
        self.cache.forget(key);
        self.send(proxy_message::Message::Unsubscribe(Unsubscribe { key: key.to_owned() }));
    }

    fn acknowledge(&mut self, key: String, version: String, warnings: Vec<String>) {
        self.unsaved = true;
        self.send(proxy_message::Message::Acknowledge(Acknowledge { key, version, warnings }));
    }

    fn refuse(&mut self, key: String, version: String, reasons: Vec<String>) {
        tracing::error!(key, version, ?reasons, "what the control plane sent is refused, the last good version stays");
        self.shared.observer.discovery("version_refused");
        self.send(proxy_message::Message::Refuse(Refuse { key, version, reasons }));
    }

    fn send(&mut self, message: proxy_message::Message) {
        let Some((stream, _)) = &self.stream else { return };
        if stream.send.try_send(ProxyMessage { message: Some(message) }).is_err() {
            // It reads nothing any more: a new stream begins with all that is wanted.
            self.lost("it reads nothing any more");
        }
    }
}

/// What a batch has changed.
#[derive(Default)]
struct Changes {
    documents: bool,
    directory: bool,
    /// Their keys.
    bindings: Vec<String>,
    /// Key and version of the last bundle.
    trust: Option<(String, String)>,
}

/// The next messages: one, and all that have come with it.
async fn receive(stream: &mut Option<(Stream, Instant)>) -> Event {
    let Some((stream, _)) = stream else { return std::future::pending().await };
    let mut messages = match stream.receive.next().await {
        Some(Ok(message)) => vec![message],
        Some(Err(status)) => return Event::Lost(Some(Box::new(status))),
        None => return Event::Lost(None),
    };
    // What follows a wake-up of the socket is in the decoder by now; an error comes again with the next call.
    let more = std::future::poll_fn(|cx| {
        while messages.len() < BATCH {
            match std::pin::Pin::new(&mut stream.receive).poll_next(cx) {
                std::task::Poll::Ready(Some(Ok(message))) => messages.push(message),
                std::task::Poll::Ready(Some(Err(status))) => return std::task::Poll::Ready(Some(status)),
                std::task::Poll::Ready(None) | std::task::Poll::Pending => break,
            }
        }
        std::task::Poll::Ready(None)
    });
    if let Some(status) = more.await {
        tracing::debug!("the stream breaks off behind {} messages: {status}", messages.len());
    }
    Event::Messages(messages)
}
