//! The circuit breaker: of one endpoint, or of a whole upstream.
//!
//! Closed, it counts failures: a streak, and a rate over a window. Too many open it. Open, it refuses until
//! its time is over. Then it is half-open and lets `halfOpenProbes` requests through in all: if every one
//! is good it closes, the first bad one opens it again, for twice as long, up to the maximum. Once it has
//! been closed for as long as it was open, the next opening begins at the base time again; before that,
//! at the time it had come to.
//!
//! Invariants:
//! - Only failures open: a success never does, even if it is the one that makes up `minRequests`.
//! - Half-open, the probes in flight and those that succeeded are never more than `halfOpenProbes`. A probe
//!   that ends without a verdict (its client went away) gives its place back, by `Drop`.
//! - A half-open breaker whose probes never come back is not stuck: when the last one to start is older
//!   than the longest open time, that counts as a bad probe.
//! - A result counts only in the period in which its request was let through: what was sent before the
//!   breaker opened and fails after it has closed again says nothing about now.
//!
//! All of the state that has to change together is one word (module `word`) and changes by compare-and-swap, so
//! there is no lock and no order of stores to get wrong. A closed breaker costs a request one load of the
//! word, one of the streak, and, with a failure rate, a count in its worker's own slot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_config::model::CircuitBreaker;
use tokio::time::Instant;

mod eject;
mod verdict;
mod word;

#[cfg(test)]
mod tests;

pub use eject::{Ejections, Standing};
pub use verdict::verdict;
pub use word::State;
use word::Word;

use super::{nanos, nanos_since, window::Window};
use crate::clock;

/// What a caller is told while all probes are on their way: their verdict is a matter of a request's time.
const PROBING_WAIT: Duration = Duration::from_secs(1);
const MILLI: u64 = 1_000_000;

/// See the module.
pub struct Breaker {
    epoch: u64,
    word: AtomicU64,
    /// Failures since the last success.
    streak: AtomicU32,
    /// Milliseconds since the epoch at which probes that are still out count as bad.
    probes_until: AtomicU64,
    window: Option<Window>,
    /// Percent and requests of the failure rate.
    rate: (u32, u32),
    consecutive: u32,
    probes: u32,
    base: u64,
    max: u64,
    ejections: Option<Arc<Ejections>>,
}

/// What a breaker says to a request.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a request without a verdict"]
pub enum Admit {
    /// It is closed.
    Pass(Permit),
    /// It is half-open and this is one of the probes.
    Probe {
        /// To be given back with the verdict.
        permit: Permit,
        /// This request made it half-open.
        began: bool,
    },
    /// It is open, or half-open with all probes out.
    Refuse {
        /// When to come back.
        retry_after: Duration,
        /// Probes that did not come back have opened it again just now.
        reopened: bool,
    },
}

impl Admit {
    /// The state that the breaker changed to with this, if it did.
    #[must_use]
    pub fn transition(&self) -> Option<State> {
        match self {
            Self::Probe { began: true, .. } => Some(State::HalfOpen),
            Self::Refuse { reopened: true, .. } => Some(State::Open),
            _ => None,
        }
    }

    /// The permit, unless it refused.
    pub fn permit(self) -> Option<Permit> {
        match self {
            Self::Pass(permit) | Self::Probe { permit, .. } => Some(permit),
            Self::Refuse { .. } => None,
        }
    }
}

/// One request's leave to go ahead; [`Breaker::record`] takes it back.
///
/// Holds a reference only for probes: those are rare, and the count of an `Arc` is a shared cache line.
#[derive(Debug)]
pub struct Permit {
    generation: u16,
    probe: Option<Arc<Breaker>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(breaker) = self.probe.take() {
            breaker.release(self.generation);
        }
    }
}

/// Whether an endpoint is worth choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligible {
    /// Closed.
    Yes,
    /// It wants a probe: the next request should go there, or it will never come back.
    Probe,
    /// Open, or all its probes are out.
    No,
}

impl Breaker {
    /// A closed one. With `ejections`, it is one of the endpoints counted there.
    #[must_use]
    pub fn new(config: &CircuitBreaker, workers: usize, ejections: Option<Arc<Ejections>>, now: Instant) -> Arc<Self> {
        let base = nanos(config.open_base).div_ceil(MILLI).max(1);
        Arc::new(Self {
            epoch: clock::nanos(now),
            word: AtomicU64::new(Word::INITIAL.0),
            streak: AtomicU32::new(0),
            probes_until: AtomicU64::new(0),
            window: config.failure_rate.as_ref().map(|r| Window::new(r.window, workers)),
            rate: config.failure_rate.as_ref().map_or((u32::MAX, u32::MAX), |r| (r.percent, r.min_requests)),
            consecutive: config.consecutive_failures.unwrap_or(u32::MAX),
            probes: config.half_open_probes.clamp(1, Word::MAX_PROBES),
            base,
            max: nanos(config.open_max).div_ceil(MILLI).max(base),
            ejections,
        })
    }

    /// May a request go ahead at `now`?
    pub fn admit(self: &Arc<Self>, now: Instant) -> Admit {
        loop {
            let word = self.load();
            let (next, began) = match word.state() {
                State::Closed => return Admit::Pass(Permit { generation: word.generation(), probe: None }),
                State::Open => {
                    if let Some(retry_after) = self.rest(word, now) {
                        return Admit::Refuse { retry_after, reopened: false };
                    }
                    (word.half_open(), true)
                }
                State::HalfOpen if word.admitted() < self.probes => (word.one_more(), false),
                State::HalfOpen => {
                    let at = self.millis(now);
                    let lost = word.admitted() > word.succeeded() && at > self.probes_until.load(Ordering::Acquire);
                    if !lost {
                        return Admit::Refuse { retry_after: PROBING_WAIT, reopened: false };
                    }
                    let next = self.reopen(word, now);
                    if self.change(word, next) {
                        let retry_after = self.rest(next, now).unwrap_or_default();
                        return Admit::Refuse { retry_after, reopened: true };
                    }
                    continue;
                }
            };
            // Before the word, so that whoever sees this probe sees its time as well.
            self.probes_until.fetch_max(self.millis(now).saturating_add(self.max), Ordering::AcqRel);
            if self.change(word, next) {
                let permit = Permit { generation: next.generation(), probe: Some(Arc::clone(self)) };
                return Admit::Probe { permit, began };
            }
        }
    }

    /// Takes the verdict on a request (see [`verdict`]). Returns the state that the breaker changed to, if it
    /// did.
    pub fn record(&self, mut permit: Permit, worker: usize, ok: bool, now: Instant) -> Option<State> {
        if let Some(breaker) = permit.probe.take() {
            return breaker.judge(permit.generation, ok, now);
        }
        let word = self.load();
        if word.state() != State::Closed || word.generation() != permit.generation {
            return None;
        }
        if let Some(window) = &self.window {
            window.add(worker, nanos_since(self.epoch, now), !ok);
        }
        if !ok {
            return self.fail(word, now);
        }
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        None
    }

    /// Whether the balancer should look at this endpoint. Changes nothing.
    #[must_use]
    pub fn eligible(&self, now: Instant) -> Eligible {
        let word = self.load();
        match word.state() {
            State::Closed => Eligible::Yes,
            State::Open if self.rest(word, now).is_some() => Eligible::No,
            State::HalfOpen if word.admitted() >= self.probes => {
                // Lost probes are found by a request that asks.
                let lost = self.millis(now) > self.probes_until.load(Ordering::Acquire);
                if lost && word.admitted() > word.succeeded() { Eligible::Probe } else { Eligible::No }
            }
            State::Open | State::HalfOpen => Eligible::Probe,
        }
    }

    /// The state, for the gauge and for people.
    #[must_use]
    pub fn state(&self) -> State {
        self.load().state()
    }

    /// While open: what is left of the open time.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        let word = self.load();
        if word.state() == State::Open { self.rest(word, now) } else { None }
    }

    /// One more failure in the closed period `word`.
    fn fail(&self, word: Word, now: Instant) -> Option<State> {
        let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if streak < self.consecutive && !self.fails_too_often(word, now) {
            return None;
        }
        // As long as the last opening was: only then was it closed for good.
        let stable = self.millis(now).saturating_sub(word.millis()) >= self.open_time(word.step());
        let step = if stable { 0 } else { word.step() };
        let next = word.open(step, self.until(now, step));
        self.change(word, next).then_some(State::Open)
    }

    fn fails_too_often(&self, word: Word, now: Instant) -> bool {
        let Some(window) = &self.window else { return false };
        let (percent, min_requests) = self.rate;
        let since = (word.generation() > 0 || word.millis() > 0).then(|| word.millis().saturating_mul(MILLI));
        let sum = window.sum(nanos_since(self.epoch, now), since);
        sum.all >= u64::from(min_requests) && sum.marked * 100 >= sum.all * u64::from(percent)
    }

    /// The verdict on a probe of the half-open period `generation`.
    fn judge(&self, generation: u16, ok: bool, now: Instant) -> Option<State> {
        loop {
            let word = self.load();
            if word.state() != State::HalfOpen || word.generation() != generation {
                return None;
            }
            let next = if !ok {
                self.reopen(word, now)
            } else if word.succeeded() + 1 >= self.probes {
                self.streak.store(0, Ordering::Relaxed);
                word.close(self.millis(now))
            } else {
                word.one_good()
            };
            if self.change(word, next) {
                return (next.state() != State::HalfOpen).then(|| next.state());
            }
        }
    }

    /// A probe ended without a verdict.
    fn release(&self, generation: u16) {
        loop {
            let word = self.load();
            let here = word.state() == State::HalfOpen && word.generation() == generation;
            if !here || word.admitted() == 0 || self.change(word, word.one_less()) {
                return;
            }
        }
    }

    fn reopen(&self, word: Word, now: Instant) -> Word {
        let step = if self.open_time(word.step()) < self.max { word.step() + 1 } else { word.step() };
        word.open(step, self.until(now, step))
    }

    /// Milliseconds for which the opening number `step` lasts.
    fn open_time(&self, step: u32) -> u64 {
        self.base.saturating_mul(1 << step.min(Word::MAX_STEP)).min(self.max)
    }

    /// Rounded up: never open for less than the time that was asked for.
    fn until(&self, now: Instant, step: u32) -> u64 {
        nanos_since(self.epoch, now).div_ceil(MILLI).saturating_add(self.open_time(step))
    }

    /// What is left of the time of an open `word`; `None`: nothing.
    fn rest(&self, word: Word, now: Instant) -> Option<Duration> {
        let left = word.millis().saturating_mul(MILLI).saturating_sub(nanos_since(self.epoch, now));
        (left > 0).then(|| Duration::from_nanos(left))
    }

    fn millis(&self, now: Instant) -> u64 {
        nanos_since(self.epoch, now) / MILLI
    }

    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: Word, to: Word) -> bool {
        let done = self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let (true, Some(ejections)) = (done, &self.ejections) {
            ejections.moved(from.state() != State::Closed, to.state() != State::Closed);
        }
        done
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breaker").field("word", &self.load()).finish_non_exhaustive()
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        // An endpoint that is gone is not ejected.
        if let Some(ejections) = &self.ejections {
            ejections.moved(self.state() != State::Closed, false);
        }
    }
}
