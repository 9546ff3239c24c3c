//! When to look at files again after they were touched: once they are quiet.
//!
//! An editor or a volume update writes in several steps, and a look between two of them would find half
//! a file. Sans-io: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Quiet for this long counts as written.
const QUIET: Duration = Duration::from_millis(50);
/// A file that is never quiet is looked at nevertheless, this long after the first touch.
const LIMIT: Duration = Duration::from_millis(500);

/// Gathers touches into one look.
#[derive(Debug, Default)]
pub(super) struct Debounce {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    /// Something was touched.
    pub(super) fn touch(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to look, if there is a reason to.
    pub(super) fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + LIMIT))
    }

    /// It was looked at.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_in_a_row_are_one_look_after_the_last() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        for ms in [0, 10, 40] {
            debounce.touch(start + Duration::from_millis(ms));
        }
        assert_eq!(debounce.due(), Some(start + Duration::from_millis(90)));
        debounce.reset();
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn a_file_that_is_always_written_is_looked_at() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for ms in (0..1000).step_by(20) {
            debounce.touch(start + Duration::from_millis(ms));
        }
        assert_eq!(debounce.due(), Some(start + LIMIT));
    }
}
