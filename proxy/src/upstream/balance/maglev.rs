//! Maglev's consistent hashing (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Every endpoint has a permutation of the table's slots, made of its address alone; in turns each takes
//! the first free slot of its own, heavier ones more often (the turns are Envoy's). So the order in which a
//! resolver lists endpoints is without effect, each gets its share within about a percent, and when one
//! leaves, hardly any slot moves but its own.
//!
//! The size is a prime: of two only, because another size moves every key. Keys of an endpoint that cannot
//! take a request are rehashed, which spreads them over the others by weight, and always in the same way.

use std::net::{IpAddr, SocketAddr};

/// Slots up to [`SMALL_FOR`] endpoints: 32 KiB, and 100 slots for each.
const SMALL: usize = 16_381;
/// Largest number of endpoints with the small table.
const SMALL_FOR: usize = 160;
/// Slots beyond; the paper's and Envoy's number. Up to 655 endpoints have 100 slots or more.
const LARGE: usize = 65_537;
/// Rehashes before all endpoints are looked at: with half of them gone, one key in 256 gets that far.
const REHASHES: u64 = 8;

/// A filled table.
#[derive(Debug)]
pub struct Table {
    /// Positions in what it was built from.
    slots: Box<[u16]>,
    /// The endpoints' keys, by position.
    keys: Box<[u64]>,
}

impl Table {
    /// Of endpoints (key, weight above 0). More than a slot can name are left out.
    #[must_use]
    pub fn build(endpoints: &[(u64, u32)]) -> Self {
        let endpoints = &endpoints[..endpoints.len().min(usize::from(u16::MAX))];
        let keys = endpoints.iter().map(|(key, _)| *key).collect();
        if endpoints.is_empty() {
            return Self { slots: Box::default(), keys };
        }
        let size = if endpoints.len() <= SMALL_FOR { SMALL } else { LARGE };
        Self { slots: fill(endpoints, size), keys }
    }

    /// The position for `hash`: the first that is `wanted` on the key's own path.
    pub fn find(&self, hash: u64, mut wanted: impl FnMut(usize) -> bool) -> Option<usize> {
        let size = u64::try_from(self.slots.len()).ok().filter(|s| *s > 0)?;
        for k in 0..=REHASHES {
            let slot = usize::try_from(mix(hash.wrapping_add(k.wrapping_mul(STEP))) % size).ok()?;
            let position = usize::from(*self.slots.get(slot)?);
            if wanted(position) {
                return Some(position);
            }
        }
        // Highest random weight (Thaler, Ravishankar 1998): as stable, and finds one if there is one.
        (0..self.keys.len()).filter(|p| wanted(*p)).max_by_key(|p| mix(hash ^ self.keys[*p]))
    }

    /// Slots, for figures.
    #[must_use]
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }
}

/// An endpoint while a table is filled.
struct Turn {
    position: u16,
    weight: u64,
    /// It is its turn when `round * weight` has come up to this.
    due: u64,
    next: usize,
    skip: usize,
}

fn fill(endpoints: &[(u64, u32)], size: usize) -> Box<[u16]> {
    const FREE: u16 = u16::MAX;
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    order.sort_unstable_by_key(|i| endpoints[*i].0);
    let heaviest = endpoints.iter().map(|(_, w)| u64::from(*w)).max().unwrap_or(1).max(1);
    let mut turns: Vec<Turn> = order
        .into_iter()
        .map(|i| {
            let (key, weight) = endpoints[i];
            Turn {
                position: u16::try_from(i).unwrap_or(0),
                weight: u64::from(weight.max(1)),
                due: 0,
                next: below(mix(key), size),
                skip: below(mix(key ^ STEP), size - 1) + 1,
            }
        })
        .collect();
    let mut slots = vec![FREE; size].into_boxed_slice();
    let mut left = size;
    let mut round = 0_u64;
    while left > 0 {
        for turn in &mut turns {
            if round.saturating_mul(turn.weight) < turn.due {
                continue;
            }
            turn.due = turn.due.saturating_add(heaviest);
            // Ends: `skip` and the prime `size` are coprime, so every slot is visited, and one is free.
            while slots[turn.next] != FREE {
                turn.next = (turn.next + turn.skip) % size;
            }
            slots[turn.next] = turn.position;
            left -= 1;
            if left == 0 {
                break;
            }
        }
        round += 1;
    }
    slots
}

fn below(hash: u64, bound: usize) -> usize {
    usize::try_from(hash % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
}

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser.
#[must_use]
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(STEP);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number that stands for an address: the same in every process.
#[must_use]
pub fn key(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    let low = u64::try_from(ip & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(ip >> 64).unwrap_or(0);
    mix(mix(mix(high) ^ low) ^ u64::from(address.port()))
}

/// FNV-1a, of what a policy hashes on.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3))
}
