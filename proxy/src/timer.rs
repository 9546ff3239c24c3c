//! One timer per task for all of its time limits, armed lazily.
//!
//! Nearly every time limit is set and never met: moving a timer in the wheel for each request would
//! cost more than the limit is worth. [`Timer`] leaves its one entry where it is as long as it goes off
//! no later than the limit now asked for; when it does go off early, it is moved on. A keep-alive
//! connection with a 3 s time-out so moves its entry about once in 3 s, whatever its request rate. An entry that
//! will wake the task that asks, and has not gone off, is not even polled.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

/// See the module.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the entry wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Ready once `at` is reached. Wakes the task of the last call.
    #[inline]
    pub fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if let (Some(sleep), Some(waker)) = (&self.sleep, &self.waker)
            && sleep.deadline() <= at
            && !sleep.is_elapsed()
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        self.poll_entry(cx, at)
    }

    fn poll_entry(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// [`Timer::poll_at`], if there is a limit.
    pub fn poll_opt(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        at.map_or(Poll::Pending, |at| self.poll_at(cx, at))
    }

    /// Waits until `at`.
    pub async fn until(&mut self, at: Instant) {
        std::future::poll_fn(|cx| self.poll_at(cx, at)).await;
    }
}

/// Notices that nothing has moved for a time, without reading the clock when something does.
///
/// Looks at a progress counter four times per limit, so it fires between 1 and 1.25 limits after the
/// last movement.
pub struct Idle {
    limit: Option<Duration>,
    next: Option<Instant>,
    seen: u64,
    quiet: u32,
}

impl Idle {
    /// `None`: it never fires.
    #[must_use]
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, next: None, seen: 0, quiet: 0 }
    }

    /// The same, for what began at `start`: saves a look at the clock.
    #[must_use]
    pub fn since(limit: Option<Duration>, start: Instant) -> Self {
        Self { next: limit.map(|l| start + l / 4), ..Self::new(limit) }
    }

    /// When [`Idle::expired`] wants to be called next.
    pub fn next_look(&mut self) -> Option<Instant> {
        let limit = self.limit?;
        Some(*self.next.get_or_insert_with(|| clock::now() + limit / 4))
    }

    /// To be called at [`Idle::next_look`] with the progress so far: true if it has not moved for the limit.
    pub fn expired(&mut self, now: Instant, progress: u64) -> bool {
        let (Some(limit), Some(next)) = (self.limit, self.next) else {
            return false;
        };
        if now < next {
            return false;
        }
        self.next = Some(now + limit / 4);
        if progress == self.seen {
            self.quiet += 1;
        } else {
            self.seen = progress;
            self.quiet = 0;
        }
        self.quiet >= 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_later_limit_does_not_move_the_entry_and_an_earlier_one_does() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let armed = start + Duration::from_secs(1);
        std::future::poll_fn(|cx| {
            assert!(timer.poll_at(cx, armed).is_pending());
            assert!(timer.poll_at(cx, start + Duration::from_secs(3)).is_pending());
            assert_eq!(timer.sleep.as_ref().map(|s| s.deadline()), Some(armed));
            assert!(timer.poll_at(cx, start + Duration::from_millis(5)).is_pending());
            Poll::Ready(())
        })
        .await;
        timer.until(start + Duration::from_secs(2)).await;
        assert_eq!(start.elapsed().as_millis() / 10, 200);
    }

    #[test]
    fn idle_fires_after_four_quiet_looks() {
        let start = Instant::now();
        let mut idle = Idle::new(Some(Duration::from_secs(4)));
        idle.next = Some(start);
        let at = |s| start + Duration::from_secs(s);
        assert!(!idle.expired(at(0), 7));
        assert!((1..4).all(|s| !idle.expired(at(s), 7)));
        assert!(idle.expired(at(4), 7));
        assert!(!Idle::new(None).expired(at(9), 0));
    }
}
