//! The arithmetic of the limit: windows of latencies in, a limit out. No atomics, no clock.

/// See the module.
#[derive(Debug)]
pub(super) struct Controller {
    limit: f64,
    min: f64,
    max: f64,
    /// Nanoseconds that a request takes where nothing queues; 0: not known yet.
    baseline: f64,
    /// What the last search found to be right; 0: none yet.
    found: f64,
    search: Option<Search>,
    search_due: u64,
}

/// The limit is being halved, until that no longer helps.
#[derive(Debug, Clone, Copy)]
struct Search {
    began: u64,
    /// The last limit that held a queue, and the latency under it. None: the limit was not halved yet; what
    /// is compared has to be measured while the queue stands, not while it fills.
    queued: Option<(f64, f64)>,
    /// Latency under half of that, where it was not much better. One such reading may be chance: the next
    /// halving, which would show a queue four times over, confirms it.
    doubt: Option<f64>,
}

/// A window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Mean, nanoseconds.
    pub(super) latency: f64,
    /// Most in flight.
    pub(super) peak: u32,
    /// Something was shed.
    pub(super) refused: bool,
}

/// Where it starts: what common app servers work on at once without trouble, and low enough that the first
/// search (8 halvings from 1,000, 5 from here) is over in a fraction of a second.
const START: f64 = 100.0;
/// How much longer than the baseline requests may take. 1.25 keeps a server busy through the gaps between
/// requests, and leaves room below twice the unloaded latency.
const TOLERANCE: f64 = 1.25;
/// What the limit grows by beside that, in square roots of it: little in terms of a large limit, enough to
/// find out that a small one is too small.
const HEADROOM: f64 = 0.5;
/// Up to this multiple of the baseline the limit does not fall below what a search has found.
const TRUSTED: f64 = 2.0;
/// Most by which a window moves the limit.
const STEP: std::ops::RangeInclusive<f64> = 0.5..=1.2;
/// Halving helps if the latency falls below this share: one half where all is queue, more the less it is.
const HELPS: f64 = 0.65;
/// Share of a window's deviation that the baseline takes over.
const DRIFT: f64 = 0.05;
/// The same at the least limit, under which queues are as short as they can be.
const DRIFT_AT_MIN: f64 = 0.25;
/// Shortest window.
const WINDOW: u64 = 50_000_000;
/// Fewest and most measurements of a window: the mean of 20 exponential times is right within a quarter.
const SAMPLES: (f64, f64) = (20.0, 200.0);
/// Measurements of a step of the search for each place of the limit, and the fewest and most. The requests
/// that end first are the short ones: only after several in each place does the mean tell the truth.
const SEARCH_SAMPLES: (f64, f64, f64) = (4.0, 40.0, 2000.0);
/// Time between searches, at least; and that in terms of a search, so that it costs 5 % of the time at most.
const SEARCH_EVERY: u64 = 10_000_000_000;
const SEARCH_SHARE: u64 = 20;

impl Controller {
    pub(super) fn new(min: u32, max: u32) -> Self {
        let (min, max) = (f64::from(min.max(1)), f64::from(max.max(min).max(1)));
        Self { limit: START.clamp(min, max), min, max, baseline: 0.0, found: 0.0, search: None, search_due: 0 }
    }

    pub(super) fn limit(&self) -> u32 {
        // In range: `min` and `max` are from u32.
        self.limit as u32
    }

    /// Measurements that the window takes.
    pub(super) fn needs(&self) -> u32 {
        let (each, least, most) = SEARCH_SAMPLES;
        let needs = match self.search {
            Some(_) => (self.limit * each).clamp(least, most),
            None => self.limit.clamp(SAMPLES.0, SAMPLES.1),
        };
        needs as u32
    }

    /// When the window that begins now may end.
    pub(super) fn ends(&self, now: u64) -> u64 {
        if self.search.is_some() { now } else { now.saturating_add(WINDOW) }
    }

    /// Takes a window; true if the next one is to measure only what comes from now on.
    pub(super) fn window(&mut self, measured: &Measured, now: u64) -> bool {
        let latency = measured.latency.max(1.0);
        if let Some(search) = self.search.take() {
            self.searched(search, latency, now);
            return true;
        }
        if measured.refused && now >= self.search_due && self.limit > self.min {
            self.search = Some(Search { began: now, queued: None, doubt: None });
            return true;
        }
        self.learn(measured, latency);
        let mut target = self.limit * self.gradient(latency) + self.limit.sqrt() * HEADROOM;
        if latency < self.baseline * TRUSTED {
            // A baseline that was measured a little too low would pull the limit down without end, as the
            // latency cannot follow it.
            target = target.max(self.found);
        }
        // A limit that is not used has no part in the latency, and learns nothing from it.
        if measured.refused || f64::from(measured.peak) * 2.0 >= self.limit {
            self.set(target);
        }
        false
    }

    fn learn(&mut self, measured: &Measured, latency: f64) {
        let at_min = self.limit <= self.min;
        if self.baseline == 0.0 {
            self.baseline = latency;
        } else if at_min {
            // There is nothing better to measure: a server that has become slower for good has to be
            // believed here.
            self.baseline += DRIFT_AT_MIN * (latency - self.baseline);
        } else if !measured.refused || latency < self.baseline {
            self.baseline += DRIFT * (latency - self.baseline);
        }
    }

    /// One more step of the search has been measured.
    fn searched(&mut self, search: Search, latency: f64, now: u64) {
        let helped = search.queued.is_none_or(|(_, before)| latency < before * HELPS);
        let at_min = self.limit <= self.min;
        match search.queued {
            Some((limit, before)) if !helped && (at_min || search.doubt.is_some()) => {
                self.baseline = search.doubt.map_or(latency, |doubt| f64::midpoint(doubt, latency));
                self.found(limit, before, search.began, now);
            }
            Some((limit, before)) if at_min => {
                self.baseline = latency;
                self.found(limit, before, search.began, now);
            }
            _ if helped => {
                self.search = Some(Search { queued: Some((self.limit, latency)), doubt: None, ..search });
                self.set(self.limit / 2.0);
            }
            _ => {
                self.search = Some(Search { doubt: Some(latency), ..search });
                self.set(self.limit / 2.0);
            }
        }
    }

    /// Back to the last limit that held a queue, as far as that was right.
    fn found(&mut self, limit: f64, before: f64, began: u64, now: u64) {
        self.found = limit * (TOLERANCE * self.baseline / before).min(*STEP.end());
        self.set(self.found);
        let took = now.saturating_sub(began);
        self.search_due = now.saturating_add(SEARCH_EVERY.max(took.saturating_mul(SEARCH_SHARE)));
    }

    fn gradient(&self, latency: f64) -> f64 {
        (TOLERANCE * self.baseline / latency).clamp(*STEP.start(), *STEP.end())
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min, self.max);
    }
}
