//! How many endpoints of an upstream are ejected, and when that is too many.
//!
//! A breaker per endpoint takes its endpoint out of the balancing. If more of them are out than
//! `maxEjectedPercent` allows, the fault is probably not theirs, or sending everything to the few that are
//! left would bring those down too: then all are used as if no breaker were there (panic). So the share
//! that is really left out is never above the maximum.
//!
//! The count is kept by the breakers as they open and close; while nothing is out, a balancer reads one
//! word that nobody writes.

use std::sync::atomic::{AtomicI32, Ordering};

/// See the module. One per upstream.
#[derive(Debug)]
pub struct Ejections {
    /// Signed: two threads that report one after the other changed may be seen in the other order.
    out: AtomicI32,
    max_percent: u32,
}

/// What a balancer does about ejected endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// None is ejected: no breaker need be asked.
    AllIn,
    /// Ask each breaker whether it is [`Eligible`](super::Eligible).
    SomeOut,
    /// Too many are: use them all.
    Panic,
}

impl Ejections {
    /// None is out.
    #[must_use]
    pub fn new(max_percent: u32) -> Self {
        Self { out: AtomicI32::new(0), max_percent }
    }

    /// What holds for an upstream of `endpoints`.
    #[must_use]
    pub fn standing(&self, endpoints: usize) -> Standing {
        match u64::from(self.out()) {
            0 => Standing::AllIn,
            out if out * 100 > endpoints as u64 * u64::from(self.max_percent) => Standing::Panic,
            _ => Standing::SomeOut,
        }
    }

    /// Endpoints whose breaker is not closed.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.out.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// A breaker has changed: was it out, is it out?
    pub(super) fn moved(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                self.out.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.out.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
