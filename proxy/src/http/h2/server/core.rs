//! The state of a connection, and what its driver and the handles of its streams do with it.

use std::{collections::VecDeque, task::Waker};

use tokio::time::Instant;

use super::{Bounds, By, IDLE_FRAMES, RESET_WINDOW, Reset, slots::Slots};
use crate::{
    buffer::Out,
    http::{
        h2::frame::{self, MAX_31, Reason, kind, setting},
        hpack,
    },
};

/// What every window is before anybody says otherwise (RFC 9113 6.9.2).
pub(super) const FIRST_WINDOW: i64 = 65_535;
/// The payload of the PING that asks whether a GOAWAY has arrived.
pub(super) const GOING: [u8; 8] = *b"outgoing";
/// Streams whose end is remembered: frames may still be on their way to those that we have reset, and a frame on one that
/// the client has ended is another fault than one on a stream that never was. A power of two.
const REMEMBERED: usize = 32;

/// A header block that has not come whole.
pub(super) struct Partial {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) malformed: bool,
    pub(super) frames: usize,
    pub(super) block: Vec<u8>,
}

/// How far the end of the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// It goes on.
    Not,
    /// GOAWAY was sent, which refuses nothing yet.
    Announced,
    /// Streams above the last one are not served any more.
    Closed,
    /// It is over; only what waits is written.
    Over,
}

/// See the module.
pub(super) struct Core {
    pub(super) bounds: Bounds,
    pub(super) decoder: hpack::Decoder,
    pub(super) encoder: hpack::Encoder,
    pub(super) slots: Slots,
    /// Frames that wait to be written.
    pub(super) out: Out,
    /// Streams that wait for what they share, first come first served.
    pub(super) waiting: VecDeque<u32>,
    /// Who writes; to be woken if it `sleeps`.
    pub(super) driver: Option<Waker>,
    pub(super) sleeps: bool,
    pub(super) partial: Option<Partial>,
    /// The preface came.
    pub(super) greeted: bool,
    /// The client's first SETTINGS came.
    pub(super) settled: bool,
    pub(super) going: Going,
    /// Highest identifier that the client has used.
    pub(super) last: u32,
    /// The one that the last GOAWAY named: it must not grow (RFC 9113 6.8).
    served: u32,
    /// Identifiers that the client left out when it opened the last stream that was not the next: from, and below.
    pub(super) skipped: (u32, u32),
    /// Streams that are not over, as `SETTINGS_MAX_CONCURRENT_STREAMS` counts them.
    pub(super) active: u32,
    /// Bytes of bodies that the client may send.
    pub(super) receive: i64,
    /// Bytes of bodies that were taken, and of which the client was not told.
    pub(super) taken: u32,
    /// Bytes of bodies that the client takes.
    pub(super) send: i64,
    /// What the client gives a new stream.
    pub(super) send_first: i64,
    /// Since when is counted.
    window: Option<Instant>,
    pub(super) resets: u32,
    pub(super) idle_frames: u32,
    /// Identifiers of streams that have ended, with [`BY_US`].
    ended: [u32; REMEMBERED],
    ends: usize,
}

/// Marks a stream that we have reset.
const BY_US: u32 = 1 << 31;

/// A fault that ends the connection.
pub(super) struct Fatal(pub(super) Reason);

pub(super) const fn fatal<T>(reason: Reason) -> Result<T, Fatal> {
    Err(Fatal(reason))
}

impl Core {
    /// A connection whose client has sent nothing yet. Our SETTINGS are the first that waits to be written.
    pub(super) fn new(bounds: Bounds) -> Self {
        let mut out = Out::default();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, bounds.max_streams),
            (setting::INITIAL_WINDOW_SIZE, bounds.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, u32::try_from(bounds.head.max_header_bytes).unwrap_or(MAX_31)),
        ];
        frame::write_settings(out.data(), &settings);
        let more = i64::from(bounds.connection_window) - FIRST_WINDOW;
        if let Ok(more @ 1..) = u32::try_from(more) {
            frame::write_window(out.data(), 0, more);
        }
        Self {
            bounds,
            decoder: hpack::Decoder::new(4096),
            encoder: hpack::Encoder::new(),
            slots: Slots::default(),
            out,
            waiting: VecDeque::new(),
            driver: None,
            sleeps: false,
            partial: None,
            greeted: false,
            settled: false,
            going: Going::Not,
            last: 0,
            served: MAX_31,
            skipped: (0, 0),
            active: 0,
            receive: FIRST_WINDOW.max(bounds.connection_window.into()),
            taken: 0,
            send: FIRST_WINDOW,
            send_first: FIRST_WINDOW,
            window: None,
            resets: 0,
            idle_frames: 0,
            ended: [0; REMEMBERED],
            ends: 0,
        }
    }

    /// How a stream ended that has no room any more, if that was lately: true if we have reset it.
    pub(super) fn lately(&self, id: u32) -> Option<bool> {
        self.ended.iter().find(|e| **e & !BY_US == id).map(|e| e & BY_US != 0)
    }

    fn remember(&mut self, id: u32, by_us: bool) {
        self.ended[self.ends % REMEMBERED] = if by_us { id | BY_US } else { id };
        self.ends += 1;
    }

    /// Leaves the room of a stream that is over.
    fn clear_away(&mut self, index: u32) {
        let slot = self.slots.get(index);
        let (id, by_us) = (slot.id, slot.reset.is_some_and(|r| r.by == By::Us));
        self.remember(id, by_us);
        self.slots.remove(index);
    }

    /// Has the driver write what waits, once all that is about to be sent now was.
    #[inline]
    pub(super) fn wake_driver(&mut self) {
        if self.sleeps
            && let Some(driver) = &self.driver
        {
            self.sleeps = false;
            driver.wake_by_ref();
        }
    }

    /// Counts from anew once in [`RESET_WINDOW`].
    pub(super) fn tick(&mut self, now: Instant) {
        if self.window.is_none_or(|since| now.saturating_duration_since(since) >= RESET_WINDOW) {
            self.window = Some(now);
            (self.resets, self.idle_frames) = (0, 0);
        }
    }

    /// Counts a frame that changes nothing.
    pub(super) fn idle_frame(&mut self) -> Result<(), Fatal> {
        self.idle_frames += 1;
        if self.idle_frames > IDLE_FRAMES { Err(Fatal(Reason::ENHANCE_YOUR_CALM)) } else { Ok(()) }
    }

    /// Tells the client that the connection will end (RFC 9113 6.8): first that, and what it has sent by the time that
    /// it learns of it is served.
    pub(super) fn announce_end(&mut self) {
        if self.going == Going::Not {
            self.going = Going::Announced;
            frame::write_goaway(self.out.data(), MAX_31, Reason::NO_ERROR);
            frame::write(self.out.data(), kind::PING, 0, 0, &GOING);
        }
    }

    /// Serves no stream above the last one.
    pub(super) fn close(&mut self) {
        if matches!(self.going, Going::Not | Going::Announced) {
            self.going = Going::Closed;
            self.served = self.last;
            frame::write_goaway(self.out.data(), self.last, Reason::NO_ERROR);
        }
    }

    /// Ends the connection and all its streams, with a GOAWAY where there is a reason for one.
    pub(super) fn end(&mut self, reason: Option<Reason>) {
        if self.going == Going::Over {
            return;
        }
        self.going = Going::Over;
        if let Some(reason) = reason {
            frame::write_goaway(self.out.data(), self.last.min(self.served), reason);
        }
        self.partial = None;
        self.waiting.clear();
        for index in self.slots.all() {
            self.mark_reset(index, Reset { reason: reason.unwrap_or(Reason::CANCEL), by: By::Connection });
        }
    }

    /// True once nothing is left to be done but to write what waits.
    pub(super) fn is_over(&self) -> bool {
        self.going == Going::Over || (self.going == Going::Closed && self.slots.len() == 0)
    }

    /// The stream is over: its task learns it, and what came of its body is dropped.
    pub(super) fn mark_reset(&mut self, index: u32, reset: Reset) {
        let slot = self.slots.get(index);
        if slot.is_over() {
            // Its body may still be read to the end.
            return;
        }
        slot.reset = Some(reset);
        slot.wake();
        let unread = std::mem::take(&mut slot.data).len();
        self.active -= 1;
        self.credit(unread);
        if self.slots.get(index).handles == 0 {
            self.clear_away(index);
        }
    }

    /// Resets a stream, and tells the client.
    pub(super) fn reset(&mut self, index: u32, reason: Reason) {
        let slot = self.slots.get(index);
        if slot.is_over() {
            return;
        }
        frame::write_reset(self.out.data(), slot.id, reason);
        self.mark_reset(index, Reset { reason, by: By::Us });
        self.wake_driver();
    }

    /// Refuses a stream that gets no room, and bears with what the client sends on it.
    pub(super) fn refuse(&mut self, id: u32, reason: Reason) {
        frame::write_reset(self.out.data(), id, reason);
        self.remember(id, true);
    }

    /// One direction of a stream has ended.
    pub(super) fn side_ended(&mut self, index: u32) {
        let slot = self.slots.get(index);
        if slot.received_all && slot.sent_all {
            self.active -= 1;
            if slot.handles == 0 {
                self.clear_away(index);
            }
        }
    }

    /// A handle of a stream is dropped. The last one ends what has not ended: an answer that breaks off is a reset, a
    /// request that nobody has read to its end is one without a fault (RFC 9113 8.1).
    pub(super) fn dropped(&mut self, index: u32) {
        let slot = self.slots.get(index);
        slot.handles -= 1;
        if slot.handles > 0 {
            return;
        }
        if slot.waits {
            slot.waits = false;
            self.waiting.retain(|other| *other != index);
        }
        let slot = self.slots.get(index);
        if slot.is_over() {
            self.clear_away(index);
        } else {
            let reason = if slot.sent_all { Reason::NO_ERROR } else { Reason::CANCEL };
            self.reset(index, reason);
        }
        // It may have been woken for what it did not use.
        self.wake_next();
        if self.slots.len() == 0 {
            self.wake_driver();
        }
    }

    /// Nobody will read the body of a request any more, of which `given` bytes were handed out and not used.
    pub(super) fn unread(&mut self, index: u32, given: usize) {
        let slot = self.slots.get(index);
        slot.unread = true;
        let unread = std::mem::take(&mut slot.data).len();
        self.credit(unread + given);
    }

    /// Gives memory back; for a connection without a stream.
    pub(super) fn release(&mut self) {
        self.slots.release();
        self.waiting = VecDeque::new();
        self.out.release();
    }
}
