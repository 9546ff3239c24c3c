//! Time stamps of log lines: RFC 3339 in UTC with milliseconds.
//!
//! The date is worked out once a second; in between only three digits change.

use std::time::{SystemTime, UNIX_EPOCH};

/// Length of `2026-01-02T03:04:05.678Z`.
const LENGTH: usize = 24;

/// The last second that has been formatted.
pub(crate) struct Clock {
    second: Option<u64>,
    text: [u8; LENGTH],
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { second: None, text: *b"1970-01-01T00:00:00.000Z" }
    }

    /// The text of `now`. Times before 1970 show as 1970, after 9999 as 9999.
    pub(crate) fn format(&mut self, now: SystemTime) -> &str {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST_SECOND);
        if self.second != Some(second) {
            self.second = Some(second);
            self.date(second);
        }
        digits(&mut self.text[20..23], u64::from(since.subsec_millis()));
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Days to a date of the Gregorian calendar, with years that begin in March so that the leap day is
    /// the last one (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    fn date(&mut self, second: u64) {
        let days = second / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let time = second % 86_400;
        let text = &mut self.text;
        digits(&mut text[0..4], era * 400 + year_of_era + carry);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], time / 3_600);
        digits(&mut text[14..16], time / 60 % 60);
        digits(&mut text[17..19], time % 60);
    }
}

/// 9999-12-31T23:59:59Z
const LAST_SECOND: u64 = 253_402_300_799;

/// Writes `value` with leading zeros.
fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right() {
        let mut clock = Clock::new();
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_199_500, "2024-02-29T23:59:59.500Z"),
            (1_767_225_599_050, "2025-12-31T23:59:59.050Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(clock.format(UNIX_EPOCH + Duration::from_millis(ms)), text);
        }
        assert_eq!(clock.format(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    }
}
