//! Two counts over a sliding window: of all events, and of those that are marked (failures, say).
//!
//! Each worker counts in a slot of its own, one aligned block that no other thread writes, so counting is a
//! load and a store; the slots are summed only when a decision is due. The window slides by eighths: a sum
//! covers the current eighth and the seven before it, never more than the window.
//!
//! A bucket carries the number of its eighth beside its count, in one word, so that no reader can take the
//! count of one time for that of another, and nothing has to clear buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::nanos;

/// Buckets of a window. With two words each, a slot is 128 bytes: two cache lines, which is what the
/// prefetcher of common CPUs fetches together.
const BUCKETS: usize = 8;
/// Shortest bucket, so that its 32-bit number takes weeks to come round again.
const MIN_WIDTH: u64 = 1_000_000;

/// See the module.
pub(super) struct Window {
    /// Nanoseconds of a bucket.
    width: u64,
    slots: Box<[Slot]>,
}

#[derive(Default)]
#[repr(align(128))]
struct Slot {
    buckets: [Bucket; BUCKETS],
}

/// Each word: number of the eighth (32 bits), count (32 bits).
#[derive(Default)]
struct Bucket {
    all: AtomicU64,
    marked: AtomicU64,
}

/// A sum over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    /// All events.
    pub(super) all: u64,
    /// The marked ones.
    pub(super) marked: u64,
}

impl Window {
    /// A window of `span` with a slot for each of `workers`.
    pub(super) fn new(span: Duration, workers: usize) -> Self {
        let width = (nanos(span) / BUCKETS as u64).max(MIN_WIDTH);
        Self { width, slots: (0..workers.max(1)).map(|_| Slot::default()).collect() }
    }

    /// Counts an event of `worker` at `now` (nanoseconds since the owner's epoch).
    pub(super) fn add(&self, worker: usize, now: u64, marked: bool) {
        let tick = self.tick(now);
        let bucket = &self.slots[worker % self.slots.len()].buckets[tick as usize % BUCKETS];
        bump(&bucket.all, tick);
        if marked {
            bump(&bucket.marked, tick);
        }
    }

    /// What was counted in the window that ends at `now`, and not in or before the eighth of `since`.
    pub(super) fn sum(&self, now: u64, since: Option<u64>) -> Sum {
        let tick = self.tick(now);
        let back = since.map_or(BUCKETS as u32, |s| tick.wrapping_sub(self.tick(s)).min(BUCKETS as u32));
        let read = |cell: &AtomicU64| {
            let value = cell.load(Ordering::Relaxed);
            let age = tick.wrapping_sub((value >> 32) as u32);
            if age < back { value & u64::from(u32::MAX) } else { 0 }
        };
        let buckets = self.slots.iter().flat_map(|s| &s.buckets);
        buckets.fold(Sum::default(), |sum, b| Sum { all: sum.all + read(&b.all), marked: sum.marked + read(&b.marked) })
    }

    fn tick(&self, now: u64) -> u32 {
        // Truncated on purpose: only differences of neighbouring ticks are looked at.
        (now / self.width) as u32
    }
}

/// Plain load and store: the worker of the slot is its only writer.
fn bump(cell: &AtomicU64, tick: u32) {
    let value = cell.load(Ordering::Relaxed);
    let count = if (value >> 32) as u32 == tick { (value as u32).saturating_add(1) } else { 1 };
    cell.store(u64::from(tick) << 32 | u64::from(count), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHTH: u64 = 125_000_000;

    #[test]
    fn events_leave_with_their_eighth_and_workers_add_up() {
        let window = Window::new(Duration::from_secs(1), 2);
        window.add(0, 0, true);
        window.add(1, EIGHTH, false);
        assert_eq!(window.sum(EIGHTH * 7, None), Sum { all: 2, marked: 1 });
        assert_eq!(window.sum(EIGHTH * 8, None), Sum { all: 1, marked: 0 });
        assert_eq!(window.sum(EIGHTH * 9, None), Sum::default());
    }

    #[test]
    fn what_came_before_a_point_in_time_is_left_out_with_its_eighth() {
        let window = Window::new(Duration::from_secs(1), 1);
        (0..4).for_each(|i| window.add(0, EIGHTH * i, true));
        assert_eq!(window.sum(EIGHTH * 3, Some(EIGHTH)).marked, 2);
        assert_eq!(window.sum(EIGHTH * 3, Some(EIGHTH * 3)).marked, 0);
    }
}
