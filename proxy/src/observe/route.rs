//! A finished request: one event, told to the metrics and to the access log together.
//!
//! [`RouteObserver::finish`] is the only way to say that a request ended, so log and metrics cannot drift.
//! It runs for every request, so it formats no label and hashes no string: what varies from request to
//! request (method, status, gRPC status, reason, peer) is packed into one integer, and a small open-addressed
//! table of this worker and route leads from there to the cells. The registry with its lock is asked when
//! a combination is met for the first time.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Method;
use outrigger_config::model::Direction;
use tokio::time::Instant;

use super::{
    WorkerCore,
    cells::{Counter, Histogram},
    families::Family,
    registry::OTHER,
};
use crate::{error::Failure, http::Version, trace_context::TraceContext};

/// Combinations that one worker remembers for one route. A family has room for fewer, so what is beyond
/// is folded anyhow; the bound is for a peer that makes up methods, statuses and identities.
const MAX_ENTRIES: usize = 4096;

/// What is said about a request that has ended, however it ended.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Name of the listener that took it.
    pub listener: &'a str,
    /// Name of the rule that matched, or empty.
    pub rule: &'a str,
    /// As it came.
    pub method: &'a Method,
    /// As it came.
    pub authority: &'a str,
    /// As it came.
    pub target: &'a str,
    /// Of the request.
    pub version: Version,
    /// As the client got it; 0: none was sent.
    pub status: u16,
    /// `None`: not gRPC, or the stream ended without one.
    pub grpc_status: Option<u8>,
    /// Why the proxy answered itself, or cut the exchange short.
    pub failure: Option<&'a Failure>,
    /// The correlation identifier, in ASCII.
    pub request_id: &'a [u8],
    /// Its place in a trace; written out only where it is logged.
    pub trace: Option<&'a TraceContext>,
    /// The other end of the client's connection.
    pub peer_address: SocketAddr,
    /// The identity that the peer proved. One `Arc` for one connection: it is known again by its address.
    pub peer_identity: Option<&'a Arc<str>>,
    /// Where the last attempt went.
    pub endpoint: Option<SocketAddr>,
    /// 0: it was answered without one.
    pub attempts: u32,
    /// From the first byte of the request to the last one of the response.
    pub duration: Duration,
    /// When the request began, and when the first byte of the upstream's response came: a difference that only a log
    /// asks for.
    pub first_byte: Option<[Instant; 2]>,
    /// Of the body.
    pub request_bytes: u64,
    /// Of the body.
    pub response_bytes: u64,
    /// As it came.
    pub user_agent: Option<&'a [u8]>,
    /// What access policies have decided.
    pub access: AccessNote<'a>,
    /// Further `key`, `value` pairs.
    pub notes: &'a [(&'static str, &'a str)],
}

/// What of a request that has ended is counted; all that most requests are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// As it came.
    pub method: &'a Method,
    /// As the client got it; 0: none was sent.
    pub status: u16,
    /// `None`: not gRPC, or the stream ended without one.
    pub grpc_status: Option<u8>,
    /// Why the proxy answered itself, or cut the exchange short.
    pub failure: Option<&'a Failure>,
    /// The identity that the peer proved.
    pub peer_identity: Option<&'a Arc<str>>,
    /// From the first byte of the request to the last one of the response.
    pub duration: Duration,
}

impl Counted<'_> {
    fn is_error(&self) -> bool {
        self.failure.is_some() || self.status >= 500
    }
}

/// What access policies have decided about a request or connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccessNote<'a> {
    /// `allow`, `deny`, `open` (no rule has a say); empty: there is no policy.
    pub verdict: &'static str,
    /// Name of the policy that decided, or empty.
    pub policy: &'a str,
    /// Index of the rule in it; `None`: it has allow rules, and none of them holds.
    pub rule: Option<usize>,
    /// Name of a policy in observe mode that would have denied it, or empty.
    pub observed: &'a str,
}

/// What is said about a connection whose bytes were passed on unread, once it has ended or was refused.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionRecord<'a> {
    /// Name of the listener that took it.
    pub listener: &'a str,
    /// Why it was refused, or broke.
    pub failure: Option<&'a Failure>,
    /// What access policies have decided.
    pub access: AccessNote<'a>,
    /// The other end of the client's connection.
    pub peer_address: SocketAddr,
    /// The identity that the peer proved.
    pub peer_identity: Option<&'a Arc<str>>,
    /// Where it went; `None`: nowhere.
    pub endpoint: Option<SocketAddr>,
    /// From the client's first byte, or its accept, to the end.
    pub duration: Duration,
    /// To the upstream.
    pub request_bytes: u64,
    /// To the client.
    pub response_bytes: u64,
}

impl<'a> Record<'a> {
    fn counted(&self) -> Counted<'a> {
        let Self { method, status, grpc_status, failure, peer_identity, duration, .. } = *self;
        Counted { method, status, grpc_status, failure, peer_identity, duration }
    }

    /// From the first byte of the request to the first one of the upstream's response.
    #[must_use]
    pub fn first_byte_after(&self) -> Option<Duration> {
        self.first_byte.map(|[began, came]| came.saturating_duration_since(began))
    }

    /// Errors are logged whatever share of the requests is.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.failure.is_some() || self.status >= 500
    }
}

/// The handle of one worker for one route. Made when the route is compiled.
pub struct RouteObserver {
    worker: Rc<WorkerCore>,
    pub(crate) direction: Direction,
    pub(crate) upstream: Arc<str>,
    pub(crate) route: Arc<str>,
    table: RefCell<Table>,
}

impl RouteObserver {
    pub(crate) fn new(worker: Rc<WorkerCore>, direction: Direction, upstream: Arc<str>, route: Arc<str>) -> Self {
        Self { worker, direction, upstream, route, table: RefCell::new(Table::new()) }
    }

    /// A request has ended: counts it and logs it.
    pub fn finish(&self, record: &Record<'_>) {
        self.finish_with(&record.counted(), || *record);
    }

    /// The same, of a record that is made only where it is looked at.
    #[inline]
    pub fn finish_with<'a>(&self, counted: &Counted<'_>, record: impl FnOnce() -> Record<'a>) {
        self.count(counted);
        if counted.is_error() || self.worker.log.is_on() {
            self.tell(&record());
        }
    }

    fn count(&self, counted: &Counted<'_>) {
        let peer = counted.peer_identity.map_or(NO_PEER, |p| self.worker.peers.id(p));
        let key = pack(counted, peer);
        let mut table = self.table.borrow_mut();
        let index = match table.find(key) {
            Some(index) => index,
            None => {
                // The lock of the registry is taken here, once for each combination.
                let full = table.entries.len() >= MAX_ENTRIES;
                let entry = self.resolve(counted, peer, full);
                table.insert(key, entry)
            }
        };
        let entry = &table.entries[index];
        entry.requests.add(1);
        entry.duration.record(counted.duration);
    }

    fn tell(&self, record: &Record<'_>) {
        if record.is_error() {
            self.worker.observer.recent.request(self, record, SystemTime::now());
        }
        self.worker.log.write(self, record);
    }

    /// A connection whose bytes were passed on unread has ended: logs it.
    pub fn connection_ended(&self, record: &ConnectionRecord<'_>) {
        if let Some(failure) = record.failure {
            self.worker.observer.recent.connection(self, record, failure, SystemTime::now());
        }
        self.worker.log.write_connection(self, record);
    }

    fn resolve(&self, record: &Counted<'_>, peer: u32, full: bool) -> Entry {
        let registry = &self.worker.observer.registry;
        let direction = self.direction.as_str();
        if full {
            let requests = [direction, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER];
            let duration = [direction, OTHER, OTHER, OTHER];
            return Entry {
                requests: registry.counter(Family::Requests, &requests, self.worker.index),
                duration: registry.histogram(Family::Duration, &duration, self.worker.index),
            };
        }
        let mut status = itoa::Buffer::new();
        let mut grpc = itoa::Buffer::new();
        let labels = [
            direction,
            &self.upstream,
            &self.route,
            method_label(record.method).1,
            status.format(record.status.min(MAX_STATUS)),
            match record.grpc_status {
                None => "",
                Some(code) if code > MAX_GRPC => OTHER,
                Some(code) => grpc.format(code),
            },
            record.failure.map_or("", |f| f.reason.token()),
            match record.peer_identity {
                None => "",
                Some(_) if peer == OTHER_PEER => OTHER,
                Some(identity) => identity,
            },
        ];
        let requests = registry.counter(Family::Requests, &labels, self.worker.index);
        let labels = [direction, &self.upstream, &self.route, status_class(record.status)];
        let duration = registry.histogram(Family::Duration, &labels, self.worker.index);
        Entry { requests, duration }
    }
}

/// gRPC has codes 0 to 16; a server may send anything.
const MAX_GRPC: u8 = 16;
/// HTTP statuses have three digits.
const MAX_STATUS: u16 = 999;
/// No reason, in the packed key; there are far fewer reasons.
const NO_REASON: u64 = 0xff;

/// Bits: 63 set (a key is never 0) | 32..62 peer | 22..29 reason | 17..21 gRPC | 7..16 status | 0..6 method.
#[inline]
fn pack(record: &Counted<'_>, peer: u32) -> u64 {
    let grpc = record.grpc_status.map_or(MAX_GRPC + 2, |g| g.min(MAX_GRPC + 1));
    let reason = record.failure.map_or(NO_REASON, |f| f.reason as u64);
    1 << 63
        | u64::from(peer) << 32
        | reason << 22
        | u64::from(grpc) << 17
        | u64::from(record.status.min(MAX_STATUS)) << 7
        | method_label(record.method).0
}

/// A number and the label of a method. Methods that HTTP does not define are `_OTHER`: callers choose them.
#[inline]
fn method_label(method: &Method) -> (u64, &'static str) {
    match *method {
        Method::GET => (0, "GET"),
        Method::POST => (1, "POST"),
        Method::PUT => (2, "PUT"),
        Method::DELETE => (3, "DELETE"),
        Method::HEAD => (4, "HEAD"),
        Method::OPTIONS => (5, "OPTIONS"),
        Method::PATCH => (6, "PATCH"),
        Method::CONNECT => (7, "CONNECT"),
        Method::TRACE => (8, "TRACE"),
        _ => (9, "_OTHER"),
    }
}

fn status_class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "none",
    }
}

struct Entry {
    requests: Arc<Counter>,
    duration: Arc<Histogram>,
}

/// Packed keys to entries: linear probing, at most half full, never shrinks.
struct Table {
    /// Key (0: free) and index of the entry. The length is a power of two.
    slots: Vec<(u64, u32)>,
    entries: Vec<Entry>,
    /// How far a hash is shifted to become an index of `slots`.
    shift: u32,
}

impl Table {
    fn new() -> Self {
        Self { slots: vec![(0, 0); 8], entries: Vec::new(), shift: 64 - 3 }
    }

    #[inline]
    fn probe(&self, key: u64) -> usize {
        // Fibonacci hashing: the high bits of the product are well mixed.
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        while self.slots[at].0 != key && self.slots[at].0 != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        let (found, index) = self.slots[self.probe(key)];
        (found == key).then_some(index as usize)
    }

    /// The index of the entry. A full table keeps the (folded) entry in its last place, under no key.
    fn insert(&mut self, key: u64, entry: Entry) -> usize {
        if self.entries.len() > MAX_ENTRIES {
            return MAX_ENTRIES;
        }
        let index = self.entries.len();
        self.entries.push(entry);
        if index == MAX_ENTRIES {
            return index;
        }
        if self.entries.len() * 2 > self.slots.len() {
            let old = std::mem::replace(&mut self.slots, vec![(0, 0); 0]);
            self.slots = vec![(0, 0); old.len() * 2];
            self.shift -= 1;
            for slot in old.into_iter().filter(|s| s.0 != 0) {
                let at = self.probe(slot.0);
                self.slots[at] = slot;
            }
        }
        let at = self.probe(key);
        self.slots[at] = (key, u32::try_from(index).expect("a table has at most MAX_ENTRIES"));
        index
    }
}

/// The peer number of requests without an identity.
const NO_PEER: u32 = 0;
/// The peer number of identities past [`MAX_PEERS`].
const OTHER_PEER: u32 = 1;
/// Identities that one worker tells apart: no family has room for more.
const MAX_PEERS: usize = 2_000;
/// Connections whose peers are known again without hashing a string. A power of two.
const RECENT_PEERS: usize = 64;

/// An identity and its number.
type RecentPeer = Option<(Arc<str>, u32)>;

/// Numbers for the identities of peers, for the packed key.
pub(crate) struct Peers {
    /// By the address of the `Arc`, which is held here so that it cannot be another's meanwhile.
    recent: RefCell<Vec<RecentPeer>>,
    numbers: RefCell<HashMap<Arc<str>, u32>>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { recent: RefCell::new(vec![None; RECENT_PEERS]), numbers: RefCell::default() }
    }

    fn id(&self, identity: &Arc<str>) -> u32 {
        let slot = (Arc::as_ptr(identity).cast::<u8>() as usize >> 4) & (RECENT_PEERS - 1);
        let mut recent = self.recent.borrow_mut();
        if let Some((known, number)) = &recent[slot]
            && Arc::ptr_eq(known, identity)
        {
            return *number;
        }
        let mut numbers = self.numbers.borrow_mut();
        let number = match numbers.get(identity) {
            Some(number) => *number,
            None if numbers.len() >= MAX_PEERS => OTHER_PEER,
            None => {
                let number = u32::try_from(numbers.len()).expect("at most MAX_PEERS") + 2;
                numbers.insert(Arc::clone(identity), number);
                number
            }
        };
        recent[slot] = Some((Arc::clone(identity), number));
        number
    }
}
