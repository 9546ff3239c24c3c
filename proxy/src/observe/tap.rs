//! Requests shown to people as they pass: `GET /tap` of the admin port.
//!
//! A request that nobody wants to see costs one relaxed load and one branch ([`Taps::active`]). One that somebody may
//! want to see keeps a copy of its head, is judged by each tapper's filter as soon as what the filter asks is
//! known (an upstream once it is routed, a status once it is answered), and is rendered by the worker into one line of JSON
//! for each event. Lines go into a bounded queue; when a tapper does not read, they are dropped and counted: no
//! request ever waits. Bodies are never shown, and what proves who somebody is only by name (see `redact`).
//!
//! Bounds: [`TAPPERS`] at once, `QUEUE` lines for each, lines of about `event::HEADER_BYTES` and three values, and
//! at most [`MAX_RATE`] requests per second for each, so that rendering cannot take a worker's time away.

mod event;
mod filter;
pub(crate) mod redact;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use outrigger_config::model::Direction;
use thiserror::Error;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

pub use filter::{DEFAULT_RATE, Filter, MAX_RATE, Settings};

use super::route::{Record, RouteObserver};
use crate::{
    error::Reason,
    http::{RequestHead, ResponseHead},
};

/// Tappers at once: a person, the page and a few programs. Each may cost a worker up to [`MAX_RATE`] renderings a
/// second, so there are few.
pub const TAPPERS: usize = 8;

/// Lines that wait for a tapper: more than a second of what the default rate lets through, and with lines of at most
/// about 16 KiB a few MiB at worst.
const QUEUE: usize = 512;

/// One per process.
#[derive(Debug, Default)]
pub struct Taps {
    /// Somebody taps. Workers look at it for each request, and it hardly ever changes: the line stays in their caches.
    active: AtomicBool,
    /// Requests that were looked at, for their numbers.
    requests: AtomicU64,
    tappers: Mutex<Vec<Arc<Tapper>>>,
}

/// There are [`TAPPERS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{TAPPERS} taps are open already: end one of them")]
pub struct Full;

impl Taps {
    /// Somebody taps.
    #[inline]
    #[must_use]
    pub fn active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Opens a tap; it is closed when the value is dropped.
    ///
    /// # Errors
    /// There are [`TAPPERS`] already.
    pub fn open(self: &Arc<Self>, settings: Settings, now: Instant) -> Result<Tap, Full> {
        let mut tappers = self.lock();
        if tappers.len() >= TAPPERS {
            return Err(Full);
        }
        let (sender, lines) = mpsc::channel(QUEUE);
        let tapper = Arc::new(Tapper::new(settings, sender, now));
        tappers.push(Arc::clone(&tapper));
        self.active.store(true, Ordering::Relaxed);
        Ok(Tap { taps: Arc::clone(self), tapper, lines })
    }

    /// A request has come: the tappers that may want to see it take note. `None`: there are none.
    #[cold]
    pub(crate) fn begin(
        &self,
        direction: Direction,
        head: &RequestHead,
        peer: Option<&str>,
        random: &mut dyn FnMut() -> f64,
    ) -> Option<Box<Tapped>> {
        let wanted = |t: &&Arc<Tapper>| t.settings.filter.may_want(direction, head, peer);
        let seats: Vec<_> = self.lock().iter().filter(wanted).map(|t| Seat::new(Arc::clone(t))).collect();
        let seats: Vec<_> = seats.into_iter().filter(|s| s.tapper.settings.filter.samples(random())).collect();
        if seats.is_empty() {
            return None;
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        Some(Box::new(Tapped { number, head: head.clone(), seats, server: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tapper>>> {
        self.tappers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a tap that reads.
#[derive(Debug)]
pub struct Tap {
    taps: Arc<Taps>,
    tapper: Arc<Tapper>,
    /// JSON, each ended by a line feed.
    pub lines: mpsc::Receiver<Bytes>,
}

/// What a tap has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests shown.
    pub shown: u64,
    /// Requests that fit the filter, and came too fast for its rate.
    pub limited: u64,
    /// Lines lost because the reader was too slow.
    pub dropped: u64,
}

impl Tap {
    /// What it has counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            shown: read(&self.tapper.shown),
            limited: read(&self.tapper.limited),
            dropped: read(&self.tapper.dropped),
        }
    }

    /// True once all requests that were asked for have been shown to their end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let tapper = &self.tapper;
        tapper.settings.max.is_some_and(|max| tapper.shown.load(Ordering::Acquire) >= max)
            && tapper.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut tappers = self.taps.lock();
        tappers.retain(|t| !Arc::ptr_eq(t, &self.tapper));
        self.taps.active.store(!tappers.is_empty(), Ordering::Relaxed);
    }
}

/// The end of a tap that workers write to.
#[derive(Debug)]
struct Tapper {
    settings: Settings,
    lines: mpsc::Sender<Bytes>,
    opened: Instant,
    /// The second since `opened`, and the requests shown in it (low half).
    window: AtomicU64,
    shown: AtomicU64,
    /// Requests shown whose end is outstanding.
    open: AtomicU64,
    limited: AtomicU64,
    dropped: AtomicU64,
}

impl Tapper {
    fn new(settings: Settings, lines: mpsc::Sender<Bytes>, now: Instant) -> Self {
        let zero = AtomicU64::default;
        Self {
            settings,
            lines,
            opened: now,
            window: zero(),
            shown: zero(),
            open: zero(),
            limited: zero(),
            dropped: zero(),
        }
    }

    /// Takes one more request, if rate and number let it.
    fn take(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.opened).as_secs() & u64::from(u32::MAX);
        let rate = u64::from(self.settings.rate);
        let count = |word: u64| match word >> 32 == second {
            true if word & u64::from(u32::MAX) >= rate => None,
            true => Some(word + 1),
            false => Some(second << 32 | 1),
        };
        if self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err() {
            self.limited.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.open.fetch_add(1, Ordering::AcqRel);
        let below = |shown: u64| self.settings.max.is_none_or(|max| shown < max).then_some(shown + 1);
        let taken = self.shown.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok();
        if !taken {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    /// Puts a line into the queue. False: it was dropped.
    fn send(&self, line: Vec<u8>) -> bool {
        match self.lines.try_send(line.into()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
            // It was closed meanwhile.
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// What a tapper has to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Its filter asks for what is not known yet.
    Open,
    /// It is shown.
    Shown,
    /// It is not.
    Passed,
}

/// A request at one tapper.
#[derive(Debug)]
struct Seat {
    tapper: Arc<Tapper>,
    stand: Stand,
}

impl Seat {
    fn new(tapper: Arc<Tapper>) -> Self {
        Self { tapper, stand: Stand::Open }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.stand == Stand::Shown {
            self.tapper.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A request that somebody may want to see.
#[derive(Debug)]
pub struct Tapped {
    number: u64,
    /// As it was taken: policies edit the original.
    head: RequestHead,
    seats: Vec<Seat>,
    /// The identity that the server of the last attempt has proven.
    pub server: Option<Arc<str>>,
}

/// Where a request is on its way.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// An attempt begins: it is known where it goes.
    Attempt,
    /// An attempt came to nothing, and another one is made.
    Retry(Option<Reason>),
    /// The head of the answer is known, and goes to the client.
    Answer,
    /// All is over.
    End,
}

impl Tapped {
    /// Tells those who want to see it.
    pub(crate) fn tell(
        &mut self,
        moment: Moment,
        route: &RouteObserver,
        record: &Record<'_>,
        answer: &ResponseHead,
        now: Instant,
    ) {
        let Self { number, head, seats, server } = self;
        let about = event::About { number: *number, head, answer, server: server.as_deref(), route, record };
        for seat in seats {
            if seat.stand == Stand::Open {
                seat.judge(moment, &about, now);
            }
            if seat.stand == Stand::Shown
                && let Some(line) = event::line(moment, &about, &seat.tapper.settings)
            {
                seat.tapper.send(line);
            }
        }
    }
}

impl Seat {
    /// Decides whether the request is shown, if that is known by now, and begins with its head.
    fn judge(&mut self, moment: Moment, about: &event::About<'_>, now: Instant) {
        let filter = &self.tapper.settings.filter;
        let known = !matches!(moment, Moment::Attempt | Moment::Retry(_));
        if filter.asks_status() && !known {
            return;
        }
        let record = about.record;
        if !filter.wants(&about.route.upstream, &about.route.route, record.status) {
            self.stand = Stand::Passed;
            return;
        }
        self.stand = if self.tapper.take(now) { Stand::Shown } else { Stand::Passed };
        // What cannot be begun is not shown in pieces.
        if self.stand == Stand::Shown && !self.tapper.send(event::request(about, &self.tapper.settings)) {
            self.tapper.open.fetch_sub(1, Ordering::AcqRel);
            self.stand = Stand::Passed;
        }
    }
}
