//! The counters of an upstream and of connections: handles that are made with a route or a listener and
//! add to the cells of one worker.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

use outrigger_config::model::Direction;

use super::{WorkerCore, cells::Counter, families::Family};
use crate::error::Reason;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// A whole answer below 500 (gRPC: no status that means a failing server).
    Success,
    /// An answer of 500 or above (gRPC: a status that means a failing server).
    ServerError,
    /// No connection could be made.
    ConnectFailure,
    /// The connection broke before the answer was whole.
    Broken,
    /// A reused connection closed before the first byte: the keep-alive race.
    ReusedClosed,
    /// It took too long.
    Timeout,
    /// The answer broke the protocol.
    ProtocolError,
    /// The client went away first.
    Canceled,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Success,
        Self::ServerError,
        Self::ConnectFailure,
        Self::Broken,
        Self::ReusedClosed,
        Self::Timeout,
        Self::ProtocolError,
        Self::Canceled,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ServerError => "server_error",
            Self::ConnectFailure => "connect_failure",
            Self::Broken => "broken",
            Self::ReusedClosed => "reused_connection_closed",
            Self::Timeout => "timeout",
            Self::ProtocolError => "protocol_error",
            Self::Canceled => "canceled",
        }
    }
}

/// What became of the wish to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum RetryResult {
    /// Another attempt was made.
    Sent,
    /// The budget was used up.
    Budget,
    /// The request is not safe to repeat.
    NotIdempotent,
    /// Its body was not kept.
    BodyTooLarge,
    /// No time was left.
    Deadline,
}

impl RetryResult {
    const ALL: [Self; 5] = [Self::Sent, Self::Budget, Self::NotIdempotent, Self::BodyTooLarge, Self::Deadline];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Budget => "budget",
            Self::NotIdempotent => "not_idempotent",
            Self::BodyTooLarge => "body_too_large",
            Self::Deadline => "deadline",
        }
    }
}

/// The handle of one worker for one upstream.
pub struct UpstreamObserver {
    worker: Rc<WorkerCore>,
    upstream: Arc<str>,
    attempts: [Arc<Counter>; Outcome::ALL.len()],
    retries: [Arc<Counter>; RetryResult::ALL.len()],
    reused_closed: Arc<Counter>,
    /// Most reasons never refuse anything; a series appears with the first refusal.
    rejected: [OnceCell<Arc<Counter>>; Reason::ALL.len()],
    degraded: [OnceCell<Arc<Counter>>; Reason::ALL.len()],
}

impl UpstreamObserver {
    pub(crate) fn new(worker: Rc<WorkerCore>, upstream: Arc<str>) -> Self {
        let cell = |family, label: &str| worker.counter(family, &[&*upstream, label]);
        let attempts = Outcome::ALL.map(|o| cell(Family::Attempts, o.as_str()));
        let retries = RetryResult::ALL.map(|r| cell(Family::Retries, r.as_str()));
        let reused_closed = worker.counter(Family::ReusedClosed, &[&*upstream]);
        let none = || std::array::from_fn(|_| OnceCell::new());
        Self { worker, upstream, attempts, retries, reused_closed, rejected: none(), degraded: none() }
    }

    /// An attempt has ended.
    pub fn attempt(&self, outcome: Outcome) {
        self.attempts[outcome as usize].add(1);
        if outcome == Outcome::ReusedClosed {
            self.reused_closed.add(1);
        }
    }

    /// Another attempt was made, or was not.
    pub fn retry(&self, result: RetryResult) {
        self.retries[result as usize].add(1);
    }

    /// A request was refused without an attempt.
    pub fn rejected(&self, reason: Reason) {
        self.rejected[reason as usize]
            .get_or_init(|| self.worker.counter(Family::Rejected, &[&*self.upstream, reason.token()]))
            .add(1);
    }
}

impl UpstreamObserver {
    /// A fallback answered in place of a failure of this reason.
    pub fn degraded(&self, reason: Reason) {
        self.degraded[reason as usize]
            .get_or_init(|| self.worker.counter(Family::Degraded, &[&*self.upstream, reason.token()]))
            .add(1);
    }
}

/// Which end of the proxy a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client's.
    Downstream,
    /// To an endpoint.
    Upstream,
}

impl Side {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

/// The handle of one worker for the connections of one kind. Cheap to clone: no count of it is shared between threads.
#[derive(Debug, Clone)]
pub struct ConnectionObserver(Rc<ConnectionCells>);

#[derive(Debug)]
struct ConnectionCells {
    opened: Arc<Counter>,
    closed: Arc<Counter>,
    read: Arc<Counter>,
    written: Arc<Counter>,
}

impl ConnectionObserver {
    pub(crate) fn new(worker: &WorkerCore, direction: Direction, side: Side, tls: bool) -> Self {
        let (direction, side) = (direction.as_str(), side.as_str());
        let kind = [direction, side, if tls { "true" } else { "false" }];
        Self(Rc::new(ConnectionCells {
            opened: worker.counter(Family::Opened, &kind),
            closed: worker.counter(Family::Closed, &kind),
            read: worker.counter(Family::Bytes, &[direction, side, "read"]),
            written: worker.counter(Family::Bytes, &[direction, side, "written"]),
        }))
    }

    /// A connection is there. Each call is paired with one of [`ConnectionObserver::closed`].
    pub fn opened(&self) {
        self.0.opened.add(1);
    }

    /// A connection is gone.
    pub fn closed(&self) {
        self.0.closed.add(1);
    }

    /// Bytes came in.
    #[inline]
    pub fn read(&self, bytes: usize) {
        self.0.read.add(bytes as u64);
    }

    /// Bytes went out.
    #[inline]
    pub fn written(&self, bytes: usize) {
        self.0.written.add(bytes as u64);
    }
}

/// Counters under names that configuration or a small enumeration gives, made when first used.
pub(crate) struct Named {
    family: Family,
    /// A handful; compared in turn.
    cells: RefCell<Vec<(&'static str, Arc<Counter>)>>,
}

impl Named {
    pub(crate) fn new(family: Family) -> Self {
        Self { family, cells: RefCell::default() }
    }

    pub(crate) fn add(&self, worker: &WorkerCore, label: &'static str) {
        let mut cells = self.cells.borrow_mut();
        // One spelling of a label is one address nearly always; if not, the registry still gives one cell.
        if let Some((_, cell)) = cells.iter().find(|(l, _)| *l == label) {
            cell.add(1);
            return;
        }
        let cell = worker.counter(self.family, &[label]);
        cell.add(1);
        cells.push((label, cell));
    }
}
