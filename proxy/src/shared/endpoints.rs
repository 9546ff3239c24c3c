//! The endpoints of an upstream, and what each worker knows of each: kept while the upstream lists them, whatever else
//! changes in the configuration.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use outrigger_config::model::Endpoint;
use tokio::time::Instant;

use crate::{error::Reason, upstream::balance::Presence};

/// The endpoints of an upstream at one time.
pub struct EndpointSet {
    /// In the order of the source.
    pub endpoints: Vec<Arc<EndpointState>>,
    /// How they were found.
    pub resolution: Resolution,
}

/// How the endpoints of an upstream were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// They are written down.
    Static,
    /// The control plane says them.
    Discovered {
        /// When it last said others.
        at: SystemTime,
    },
    /// The first answer is awaited.
    Pending,
    /// The resolver answered.
    Resolved {
        /// When.
        at: SystemTime,
        /// How long the answer holds.
        ttl: Duration,
    },
    /// The resolver failed; the endpoints are those of the last good answer, if there was one.
    Failed {
        /// When.
        at: SystemTime,
        /// `DnsTimeout` or `DnsError`.
        reason: Reason,
        /// What it said.
        details: String,
    },
}

/// One endpoint, kept while its upstream lists it.
pub struct EndpointState {
    /// Address, weight, zone.
    pub config: Endpoint,
    /// One slot per worker, written by that worker alone.
    pub workers: Box<[WorkerSlot]>,
    /// Since when it is there, and whether it asked to be left alone.
    pub presence: Presence,
}

/// What one worker knows of one endpoint. On a cache line of its own; written with plain stores.
#[derive(Default)]
#[repr(align(128))]
pub struct WorkerSlot {
    /// Requests in flight.
    pub in_flight: AtomicU32,
    /// Connections open.
    pub connections: AtomicU32,
    /// Requests since the start.
    pub requests: AtomicU64,
    /// Of those, how many failed (connect, protocol, time-out, 5xx).
    pub failures: AtomicU64,
    /// Bits of an `f64`: peak-EWMA of the latency in seconds.
    pub ewma_bits: AtomicU64,
}

impl EndpointState {
    pub(super) fn new(config: Endpoint, workers: usize, presence: Presence) -> Self {
        Self { config, workers: (0..workers).map(|_| WorkerSlot::default()).collect(), presence }
    }

    /// The state of an endpoint that no source lists.
    #[must_use]
    pub fn alone(config: Endpoint, workers: usize) -> Arc<Self> {
        Arc::new(Self::new(config, workers, Presence::founding(Instant::now())))
    }

    /// The state of `config` beside `old`, the endpoints so far: kept, new with another weight or zone, or
    /// joining; the first endpoints of all join nobody.
    pub(super) fn beside(old: &[Arc<Self>], config: Endpoint, workers: usize, now: Instant) -> Arc<Self> {
        let presence = match old.iter().find(|o| o.config.address == config.address) {
            Some(same) if same.config == config => return Arc::clone(same),
            Some(same) => same.presence.continued(),
            None if old.is_empty() => Presence::founding(now),
            None => Presence::joining(now),
        };
        Arc::new(Self::new(config, workers, presence))
    }

    /// Requests in flight, all workers together.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.workers.iter().map(|w| w.in_flight.load(Ordering::Relaxed)).sum()
    }
}
