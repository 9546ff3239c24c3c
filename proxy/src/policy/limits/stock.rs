//! Permits that a worker has at hand: drawn from the shared count, taken and given back without writing it.
//!
//! Each worker has a word on a cache line of its own, which others write only when there is nothing left in the shared
//! count. All stocks together hold at most a quarter of the limit.

use std::sync::atomic::{AtomicU32, Ordering};

/// Most permits that are drawn at once: with more, the shared word would be written less than once in a hundred requests
/// instead of once in some tens, which no longer shows.
const MOST: u32 = 64;
/// Fewer than this are not worth a stock.
const FEWEST: u32 = 4;
/// A draw of each worker is this part of the limit; a stock may hold two.
const PART: u32 = 8;

/// The stocks of all workers.
#[derive(Debug)]
pub(super) struct Stocks {
    /// Permits of one draw; 0: none are drawn.
    draw: AtomicU32,
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(AtomicU32);

impl Stocks {
    /// Empty ones, under a limit. A single worker shares its count with nobody and needs none.
    pub(super) fn new(workers: usize, limit: u32) -> Self {
        let slots = if workers > 1 { (0..workers).map(|_| Slot::default()).collect() } else { Box::default() };
        let stocks = Self { draw: AtomicU32::new(0), slots };
        stocks.resize(limit);
        stocks
    }

    /// What is drawn under another limit.
    pub(super) fn resize(&self, limit: u32) {
        let workers = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let draw = limit.checked_div(workers.saturating_mul(PART)).unwrap_or(0).min(MOST);
        self.draw.store(if draw < FEWEST { 0 } else { draw }, Ordering::Relaxed);
    }

    /// Permits to be drawn at once; 0: this worker has no stock.
    pub(super) fn draw(&self, worker: usize) -> u32 {
        if worker < self.slots.len() { self.draw.load(Ordering::Relaxed) } else { 0 }
    }

    /// One of a worker's own.
    pub(super) fn take(&self, worker: usize) -> bool {
        self.slots.get(worker).is_some_and(Slot::take)
    }

    /// One of any worker's.
    pub(super) fn take_any(&self) -> bool {
        self.slots.iter().any(Slot::take)
    }

    /// Adds to a worker's own; tells how many there are.
    pub(super) fn put(&self, worker: usize, n: u32) -> u32 {
        self.slots[worker].0.fetch_add(n, Ordering::SeqCst) + n
    }

    /// Takes `n` of a worker's own away, if there are as many.
    pub(super) fn reduce(&self, worker: usize, n: u32) -> bool {
        let less = |have: u32| have.checked_sub(n);
        self.slots[worker].0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// Takes all away; tells how many there were.
    pub(super) fn empty(&self) -> u32 {
        self.slots.iter().map(|slot| slot.0.swap(0, Ordering::SeqCst)).sum()
    }

    /// How many there are, for people.
    pub(super) fn sum(&self) -> u32 {
        self.slots.iter().map(|slot| slot.0.load(Ordering::Relaxed)).sum()
    }
}

impl Slot {
    fn take(&self) -> bool {
        let less = |have: u32| have.checked_sub(1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}
