//! What a source pays whose TLS handshakes fail: each costs a signature and a key exchange, a third of a
//! millisecond, which everybody could make us spend.
//!
//! A failure books [`COST`] on its source (GCRA, as for rate limits). A source whose booking is more than [`CREDIT`]
//! ahead waits for that before its next handshake, within the time that a handshake may take. It is not refused,
//! since a proxy that has just got its certificate renewed comes from the same address. Handshakes that succeed cost
//! nothing, and no one pays for others.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::{Instant, sleep_until};

/// One failure: 50 of them a second are 2 % of a CPU.
const COST: Duration = Duration::from_millis(20);
/// 250 failures at once are free: more than the connections of a caller whose certificate has just expired.
const CREDIT: Duration = Duration::from_secs(5);
/// Longest booking: nobody waits for more than five seconds, half of the time that a handshake may take by default. From
/// there on it is the number of connections side by side that bounds what a source can make us do.
const MOST: Duration = Duration::from_secs(10);
/// Sources that are remembered, 64 KiB a worker. Those that nobody can tell apart any more share one booking.
const SOURCES: usize = 1024;

thread_local! {
    static BOOKED: RefCell<Bookings> = RefCell::default();
}

/// Until when each source has used up its time.
#[derive(Default)]
struct Bookings {
    sources: HashMap<IpAddr, Instant>,
    others: Option<Instant>,
}

impl Bookings {
    /// When the next handshake of `source` may begin.
    fn due(&self, source: IpAddr) -> Option<Instant> {
        let booked = self.sources.get(&source).copied().or_else(|| self.others.filter(|_| self.is_full()));
        booked.and_then(|until| until.checked_sub(CREDIT))
    }

    fn note(&mut self, source: IpAddr, now: Instant) {
        if self.is_full() && !self.sources.contains_key(&source) {
            self.sources.retain(|_, until| *until > now);
        }
        let booked = if self.is_full() && !self.sources.contains_key(&source) {
            self.others.get_or_insert(now)
        } else {
            self.sources.entry(source).or_insert(now)
        };
        *booked = ((*booked).max(now) + COST).min(now + MOST);
    }

    fn is_full(&self) -> bool {
        self.sources.len() >= SOURCES
    }
}

/// Waits until `source` may begin a handshake.
pub(super) async fn pay(source: IpAddr) {
    let due = BOOKED.with_borrow(|b| if b.sources.is_empty() { None } else { b.due(source) });
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

/// A handshake of `source` has failed.
pub(super) fn note(source: IpAddr, now: Instant) {
    BOOKED.with_borrow_mut(|b| b.note(source, now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_on_and_on_waits_and_nobody_else_does() {
        let now = Instant::now() + Duration::from_secs(100);
        let mut bookings = Bookings::default();
        for n in 0..1000 {
            bookings.note(source(1), now);
            let due = bookings.due(source(1)).unwrap();
            assert_eq!(due > now, n >= 250, "{n}");
        }
        assert_eq!(bookings.due(source(1)), Some(now + MOST - CREDIT));
        assert_eq!(bookings.due(source(2)), None);
        bookings.note(source(1), now + Duration::from_secs(3600));
        assert!(bookings.due(source(1)).unwrap() < now + Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_bounded() {
        let now = Instant::now() + Duration::from_secs(100);
        let mut bookings = Bookings::default();
        for n in 0..3000 {
            bookings.note(source(n), now);
        }
        assert_eq!(bookings.sources.len(), SOURCES);
        assert!(bookings.due(source(2999)).unwrap() > now, "the sources without a place share one");
        bookings.note(source(5000), now + Duration::from_secs(1));
        assert_eq!(bookings.sources.len(), 1, "what is paid is forgotten");
    }
}
