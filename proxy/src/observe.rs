//! What the outside is told: metrics, access log, diagnostics.
//!
//! The [`Observer`] is one per process and lives on the control thread's side; a [`WorkerObserver`] is one
//! worker's own, and hands out handles (routes, upstreams, connections) that are resolved when configuration
//! is compiled. A worker only ever adds to its own cells and appends to its own log buffer; the control
//! thread sums and renders when somebody asks, the log's thread writes. Nothing here waits on the outside.

mod cells;
mod edges;
mod families;
mod log;
mod plaintext;
mod recent;
mod registry;
mod route;
mod totals;
mod upstream;

pub mod diagnostics;
pub mod openmetrics;
pub mod render;
pub mod tap;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use outrigger_config::model::{self, Direction};

pub use cells::{BUCKETS, Counter, Distribution};
pub use edges::{Edge, EdgeKey};
pub use plaintext::{Open, Unproven};
pub use registry::{OTHER, SERIES_LIMIT};
pub use route::{AccessNote, ConnectionRecord, Counted, Record, RouteObserver};
pub use totals::{RouteKey, Totals};
pub use upstream::{ConnectionObserver, Outcome, RetryResult, Side, UpstreamObserver};

use crate::error::Reason;
use families::Family;
use registry::Registry;
use upstream::Named;

/// One per process.
pub struct Observer {
    registry: Registry,
    log: Arc<log::AccessLog>,
    /// Workers; the control thread has the slot behind the last one.
    workers: usize,
    /// Seconds since 1970; 0: there is no identity.
    identity_expiry: AtomicU64,
    /// -1: there is none to connect to; 0: not connected; 1: connected.
    control_plane: AtomicI8,
    /// State of breakers, by upstream and scope.
    circuits: Mutex<Vec<Arc<Circuit>>>,
    /// Who comes without mutual TLS.
    plaintext: Arc<plaintext::Sources>,
    /// Who looks at requests as they pass.
    taps: Arc<tap::Taps>,
    /// What has failed lately.
    recent: recent::Recent,
}

impl Observer {
    /// The observer of a process with so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let registry = Registry::new();
        let dropped = (0..workers).map(|w| registry.counter(Family::LogDropped, &[], w)).collect();
        // There from the start: a rate over what appears with the first event misses that event.
        for result in ["success", "failure"] {
            drop(registry.counter(Family::ConfigReloads, &[result], workers));
        }
        let written_off = registry.counter(Family::LogDropped, &[], workers);
        Arc::new(Self {
            log: Arc::new(log::AccessLog::new(dropped, written_off)),
            registry,
            workers,
            identity_expiry: AtomicU64::new(0),
            control_plane: AtomicI8::new(-1),
            circuits: Mutex::default(),
            plaintext: Arc::default(),
            taps: Arc::default(),
            recent: recent::Recent::default(),
        })
    }

    /// The observer of worker `index`. One for each: two would write the same cells.
    #[must_use]
    pub fn worker(self: &Arc<Self>, index: usize) -> Rc<WorkerObserver> {
        let core = WorkerCore {
            log: log::WorkerLog::new(Arc::clone(&self.log), index),
            peers: route::Peers::new(),
            observer: Arc::clone(self),
            index,
        };
        let cell = |family, label: &'static str| core.counter(family, &[label]);
        Rc::new(WorkerObserver {
            correlation: [cell(Family::Correlation, "generated"), cell(Family::Correlation, "kept")],
            attributed: AttributedBy::ALL.map(|s| cell(Family::Attributed, s.as_str())),
            detected: Named::new(Family::Detected),
            handshakes_failed: Named::new(Family::HandshakesFailed),
            plaintext: plaintext::Cells::default(),
            taps: Arc::clone(&self.taps),
            core: Rc::new(core),
        })
    }

    /// Who looks at requests as they pass.
    #[must_use]
    pub fn taps(&self) -> &Arc<tap::Taps> {
        &self.taps
    }

    /// What has failed lately, the latest first.
    #[must_use]
    pub fn recent_errors(&self) -> serde_json::Value {
        self.recent.view()
    }

    /// Takes the access log of a configuration. Its file is opened again even if nothing changed, so that
    /// a reload is what log rotation needs. `None`: errors go to the diagnostics.
    pub fn set_access_log(&self, settings: Option<&model::AccessLog>) {
        self.log.configure(settings);
    }

    /// Writes out what workers have logged, and waits for it: for so long at most.
    pub fn close(&self, patience: Duration) {
        self.log.close(patience);
    }

    /// A reload was applied, or refused.
    pub fn reloaded(&self, applied: bool) {
        let result = if applied { "success" } else { "failure" };
        self.registry.counter(Family::ConfigReloads, &[result], self.workers).add_shared(1);
    }

    /// The identity in use expires then.
    pub fn set_identity_expiry(&self, expiry: Option<SystemTime>) {
        let seconds = expiry.and_then(|e| e.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
        self.identity_expiry.store(seconds, Ordering::Relaxed);
    }

    /// Counts an event of discovery. Rare: it happens when a destination is met for the first time, or not known.
    pub fn discovery(&self, event: &'static str) {
        self.registry.counter(Family::Discovery, &[event], self.workers).add_shared(1);
    }

    /// Who comes without mutual TLS to listeners that let him.
    #[must_use]
    pub fn plaintext(&self) -> serde_json::Value {
        self.plaintext.view()
    }

    /// Whether the control plane is connected; `None`: the proxy has none.
    pub fn set_control_plane(&self, connected: Option<bool>) {
        self.control_plane.store(connected.map_or(-1, i8::from), Ordering::Relaxed);
    }

    /// The gauge of one breaker. Breakers change state rarely, so any thread may set it.
    #[must_use]
    pub fn circuit(&self, upstream: &Arc<str>, scope: &'static str) -> Arc<Circuit> {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = circuits.iter().find(|c| c.upstream == *upstream && c.scope == scope) {
            return Arc::clone(known);
        }
        let transitions = CircuitState::ALL.map(|s| {
            let labels = [&**upstream, s.as_str()];
            self.registry.counter(Family::CircuitTransitions, &labels, self.workers)
        });
        let circuit =
            Arc::new(Circuit { upstream: Arc::clone(upstream), scope, state: AtomicU64::new(0), transitions });
        circuits.push(Arc::clone(&circuit));
        circuit
    }
}

/// What one breaker shows.
#[derive(Debug)]
pub struct Circuit {
    upstream: Arc<str>,
    scope: &'static str,
    state: AtomicU64,
    transitions: [Arc<Counter>; 3],
}

impl Circuit {
    /// The breaker has changed to `state`.
    pub fn set(&self, state: CircuitState) {
        if self.state.swap(state as u64, Ordering::Relaxed) != state as u64 {
            self.transitions[state as usize].add_shared(1);
        }
    }
}

/// The state of a breaker, as the gauge counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum CircuitState {
    /// Requests pass.
    Closed,
    /// Probes pass.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl CircuitState {
    const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What the handles of one worker share.
pub(crate) struct WorkerCore {
    observer: Arc<Observer>,
    index: usize,
    peers: route::Peers,
    log: log::WorkerLog,
}

impl WorkerCore {
    fn counter(&self, family: Family, labels: &[&str]) -> Arc<Counter> {
        self.observer.registry.counter(family, labels, self.index)
    }
}

/// One worker's observer.
pub struct WorkerObserver {
    core: Rc<WorkerCore>,
    correlation: [Arc<Counter>; 2],
    attributed: [Arc<Counter>; 3],
    detected: Named,
    handshakes_failed: Named,
    plaintext: plaintext::Cells,
    taps: Arc<tap::Taps>,
}

impl WorkerObserver {
    /// Who looks at requests as they pass.
    #[inline]
    #[must_use]
    pub fn taps(&self) -> &tap::Taps {
        &self.taps
    }

    /// The handle for the requests of one route; `route` is empty where no route took part. The same labels
    /// mean the same series, whichever configuration they come from.
    #[must_use]
    pub fn route(&self, direction: Direction, upstream: &Arc<str>, route: &Arc<str>) -> Rc<RouteObserver> {
        Rc::new(RouteObserver::new(Rc::clone(&self.core), direction, Arc::clone(upstream), Arc::clone(route)))
    }

    /// The handle for one upstream.
    #[must_use]
    pub fn upstream(&self, upstream: &Arc<str>) -> Rc<UpstreamObserver> {
        Rc::new(UpstreamObserver::new(Rc::clone(&self.core), Arc::clone(upstream)))
    }

    /// The handle for connections of one kind.
    #[must_use]
    pub fn connections(&self, direction: Direction, side: Side, tls: bool) -> ConnectionObserver {
        ConnectionObserver::new(&self.core, direction, side, tls)
    }

    /// A request's correlation identifier was kept, or made.
    pub fn correlation(&self, kept: bool) {
        self.correlation[usize::from(kept)].add(1);
    }

    /// An outbound call was tied to an inbound request, or was not.
    pub fn attributed(&self, source: AttributedBy) {
        self.attributed[source as usize].add(1);
    }

    /// A client's TLS handshake came to nothing.
    pub fn handshake_failed(&self, reason: Reason) {
        self.handshakes_failed.add(&self.core, reason.token());
    }

    /// A connection was refused that comes from this proxy, or would come back to it.
    pub fn loop_refused(&self) {
        self.core.counter(Family::Rejected, &["", Reason::ProxyLoopDetected.token()]).add(1);
    }

    /// A connection without mutual TLS is let in, and is there until the value is dropped.
    #[must_use]
    pub fn unproven(&self, listener: &Arc<str>, source: IpAddr, kind: Unproven) -> Open {
        self.plaintext.add(&self.core, listener, source, kind);
        self.core.observer.plaintext.open(listener, source, kind, SystemTime::now())
    }

    /// Detection found that a connection speaks `protocol`.
    pub fn detected(&self, protocol: &'static str) {
        self.detected.add(&self.core, protocol);
    }

    /// The gauge of one breaker.
    #[must_use]
    pub fn circuit(&self, upstream: &Arc<str>, scope: &'static str) -> Arc<Circuit> {
        self.core.observer.circuit(upstream, scope)
    }

    /// The counter of what a policy in observe mode would have done. To be kept by whoever runs the policy.
    #[must_use]
    pub fn observed(&self, policy: &str, action: &'static str) -> Arc<Counter> {
        self.core.counter(Family::Observed, &[policy, action])
    }
}

/// How an outbound call was tied to an inbound request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum AttributedBy {
    /// By an identifier that it carries.
    Header,
    /// Because only one was in flight.
    Inferred,
    /// Not at all.
    None,
}

impl AttributedBy {
    const ALL: [Self; 3] = [Self::Header, Self::Inferred, Self::None];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Inferred => "inferred",
            Self::None => "none",
        }
    }
}
