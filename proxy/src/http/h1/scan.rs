//! Whether parsing what was read of a head is worth it: keeps bytes that trickle in from costing a parse each.
//!
//! A parser without state starts again at the first byte each time. One byte at a time, 60 KiB would cost
//! 1.8 G byte visits. So after a parse that came back incomplete, the next one is due when the head has
//! ended (the search goes on where it stopped), or when there is twice as much: faults are found early, and all
//! parses together cost less than two of the whole. A head that comes in one read costs no search at all.

/// State of the search in one head. Made anew, or [`HeadScanner::reset`], for each message.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScanner {
    parsed: usize,
    scanned: usize,
}

impl HeadScanner {
    /// Ready for the next head.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// True if `buf`, everything read of this head so far, should be parsed now. The parse is taken to have
    /// happened; if it says that the head is incomplete, read more and ask again.
    pub fn due(&mut self, buf: &[u8], limits: &super::Limits) -> bool {
        let due = buf.len() >= self.parsed.saturating_mul(2)
            || buf.len() >= limits.max_header_bytes
            || ends(buf.get(self.scanned..).unwrap_or_default());
        // The last two bytes may be the beginning of an end.
        self.scanned = buf.len().saturating_sub(2);
        if due {
            self.parsed = buf.len();
        }
        due
    }
}

/// True if there is an empty line. A bare LF counts: it will be refused, and the sooner the better.
fn ends(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}
