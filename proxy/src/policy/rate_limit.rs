//! Local rate limit: so many requests in a time, for each caller, each value of a header, or all together.
//!
//! GCRA (ITU-T I.371), the form of the token bucket that needs one number: the time at which the bucket is
//! full again. A request is let through if that lies no further ahead than `burst - 1` intervals, and moves
//! it ahead by one. A bucket whose time has passed is full, which is what no bucket means too, so it can be
//! forgotten at any moment without anybody noticing.
//!
//! Invariants:
//! - A key gets at most `burst` requests and one more per interval, over any time; what is refused costs
//!   nothing.
//! - The table holds at most [`MAX_KEYS`] buckets. When a shard is full, full buckets are forgotten first;
//!   if there is none, the one that is closest to full, whose owner gains least. So someone who makes up
//!   keys can spoil neither the memory nor the bucket of an honest heavy caller, nor lock newcomers out.
//! - Keys are kept as 64-bit hashes under a secret key (`SipHash`): collisions cannot be made up, and among
//!   10,000 keys one happens by chance once in 10^11 tables.
//!
//! One mutex per shard, held for a look-up; it exists only where a policy limits by key. `by: all` is one
//! atomic word.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_config::model::{RateLimit, RateLimitKey};
use tokio::time::Instant;

use super::{nanos, nanos_since};
use crate::clock;

#[cfg(test)]
mod tests;

/// Buckets in the table: 24 bytes each, so the table stays under half a MiB.
pub const MAX_KEYS: usize = SHARDS * SHARD_KEYS;
/// More than the forwarding threads of any pod, so that two rarely meet in one.
const SHARDS: usize = 16;
const SHARD_KEYS: usize = 640;

/// See the module.
pub struct RateLimiter {
    epoch: u64,
    /// Nanoseconds per request.
    interval: u64,
    /// How far ahead the time of a bucket may lie.
    tolerance: u64,
    by: RateLimitKey,
    all: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
    secret: RandomState,
}

type Shard = HashMap<u64, u64, BuildHasherDefault<Plain>>;

/// Whose request it is.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// One that has proven its identity.
    Identity(&'a str),
    /// One that is known by its address alone.
    Address(IpAddr),
}

/// A request over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// When the next one is let through.
    pub retry_after: Duration,
}

impl RateLimiter {
    /// All buckets full. `secret` keys the hashes of this limiter.
    #[must_use]
    pub fn new(config: &RateLimit, secret: RandomState, now: Instant) -> Self {
        // Rounded up: never more than the limit.
        let interval = nanos(config.per).div_ceil(u64::from(config.requests.max(1))).max(1);
        let shards = if config.by == RateLimitKey::All { 0 } else { SHARDS };
        Self {
            epoch: clock::nanos(now),
            interval,
            tolerance: interval.saturating_mul(u64::from(config.burst.max(1)) - 1),
            by: config.by.clone(),
            all: AtomicU64::new(0),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            secret,
        }
    }

    /// Takes a token for a request of `caller`. `header` gives the value of a header of the request;
    /// requests without the header share a bucket, so that leaving it out is no way around.
    ///
    /// # Errors
    /// The bucket is empty.
    pub fn check<'h>(
        &self,
        caller: Caller<'_>,
        header: impl FnOnce(&str) -> Option<&'h [u8]>,
        now: Instant,
    ) -> Result<(), Limited> {
        let key = match &self.by {
            RateLimitKey::All => return self.check_all(nanos_since(self.epoch, now)),
            RateLimitKey::Client => match caller {
                Caller::Identity(id) => self.secret.hash_one((0_u8, id)),
                Caller::Address(address) => self.secret.hash_one((1_u8, network(address))),
            },
            RateLimitKey::Header(name) => self.secret.hash_one(header(name)),
        };
        self.check_key(key, nanos_since(self.epoch, now))
    }

    /// Keys in the table.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn check_all(&self, now: u64) -> Result<(), Limited> {
        let mut full_at = self.all.load(Ordering::Relaxed);
        loop {
            let next = self.draw(full_at, now)?;
            match self.all.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    fn check_key(&self, key: u64, now: u64) -> Result<(), Limited> {
        let shard = &self.shards[(key >> 32) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.get_mut(&key) {
            *full_at = self.draw(*full_at, now)?;
            return Ok(());
        }
        if shard.len() >= SHARD_KEYS {
            make_room(&mut shard, now);
        }
        shard.insert(key, self.draw(0, now)?);
        Ok(())
    }

    /// The time at which a bucket is full again after one more request.
    fn draw(&self, full_at: u64, now: u64) -> Result<u64, Limited> {
        let ahead = full_at.saturating_sub(now);
        match ahead.checked_sub(self.tolerance) {
            Some(wait) if wait > 0 => Err(Limited { retry_after: Duration::from_nanos(wait) }),
            _ => Ok(full_at.max(now).saturating_add(self.interval)),
        }
    }
}

/// Forgets all full buckets; if there is none, the one that is closest to it.
fn make_room(shard: &mut Shard, now: u64) {
    let before = shard.len();
    shard.retain(|_, full_at| *full_at > now);
    if shard.len() == before
        && let Some(key) = shard.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| *key)
    {
        shard.remove(&key);
    }
}

/// What one caller can be expected to hold: an IPv4 address, or an IPv6 /64 (RFC 6177), in which a host
/// picks addresses at will.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 | 1 << 127,
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
