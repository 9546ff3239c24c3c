//! Frames that carry no part of a message, and what faults of streams cost (RFC 9113 5.4, 6).

use super::{
    By, Reset,
    core::{Core, Fatal, GOING, Going, fatal},
};
use crate::http::h2::frame::{self, Head, MAX_31, MAX_PAYLOAD, Reason, flag, kind, setting, word};

impl Core {
    /// Frames that carry no part of a message.
    pub(super) fn control(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        match head.kind {
            kind::WINDOW_UPDATE if payload.len() == 4 => self.window_update(head.stream, word(payload) & MAX_31),
            kind::WINDOW_UPDATE => fatal(Reason::FRAME_SIZE_ERROR),
            kind::RST_STREAM => self.reset_by_client(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY if head.stream != 0 => fatal(Reason::PROTOCOL_ERROR),
            kind::GOAWAY if payload.len() < 8 => fatal(Reason::FRAME_SIZE_ERROR),
            kind::GOAWAY => {
                self.close();
                Ok(())
            }
            kind::PUSH_PROMISE => fatal(Reason::PROTOCOL_ERROR),
            kind::PRIORITY => self.priority(head, payload),
            // RFC 9113 4.1: what is not known is no fault.
            _ => self.idle_frame(),
        }
    }

    /// Priorities say nothing any more (RFC 9113 5.3.2), but have to be well formed.
    fn priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if payload.len() != 5 {
            return fatal(Reason::FRAME_SIZE_ERROR);
        }
        if head.stream == 0 || word(payload) & MAX_31 == head.stream {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        self.idle_frame()
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        if payload.len() != GOING.len() {
            return fatal(Reason::FRAME_SIZE_ERROR);
        }
        if !head.has(flag::ACK) {
            frame::write(self.out.data(), kind::PING, flag::ACK, 0, payload);
        } else if self.going == Going::Announced && payload == GOING {
            self.close();
        }
        self.idle_frame()
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        if !payload.len().is_multiple_of(6) || (head.has(flag::ACK) && !payload.is_empty()) {
            return fatal(Reason::FRAME_SIZE_ERROR);
        }
        self.idle_frame()?;
        if head.has(flag::ACK) {
            return Ok(());
        }
        self.settled = true;
        // Applied once, however often a frame repeats it: it concerns every stream.
        let mut window = None;
        for entry in payload.chunks_exact(6) {
            let (name, value) = (u16::from_be_bytes([entry[0], entry[1]]), word(&entry[2..]));
            match name {
                setting::HEADER_TABLE_SIZE => self.encoder.set_max_table(value as usize),
                setting::ENABLE_PUSH if value > 1 => return fatal(Reason::PROTOCOL_ERROR),
                setting::INITIAL_WINDOW_SIZE if value > MAX_31 => return fatal(Reason::FLOW_CONTROL_ERROR),
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE if !(MAX_PAYLOAD as u32..1 << 24).contains(&value) => {
                    return fatal(Reason::PROTOCOL_ERROR);
                }
                // Nothing is pushed, frames are of the size that all take, and the client's limit for heads is advice.
                _ => {}
            }
        }
        frame::write(self.out.data(), kind::SETTINGS, flag::ACK, 0, &[]);
        window.map_or(Ok(()), |size| self.first_window(size))
    }

    fn reset_by_client(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if payload.len() != 4 {
            return fatal(Reason::FRAME_SIZE_ERROR);
        }
        if self.never_was(head.stream) {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        let Some(index) = self.slots.find(head.stream) else { return self.idle_frame() };
        if !self.slots.get(index).is_over() {
            self.count_reset()?;
        }
        self.mark_reset(index, Reset { reason: word(payload).into(), by: By::Client });
        Ok(())
    }

    /// Counts a stream that ends because the client wants it so, or makes us: opening and resetting is all that some do
    /// (CVE-2023-44487), or opening and breaking the protocol (CVE-2025-8671).
    fn count_reset(&mut self) -> Result<(), Fatal> {
        self.resets += 1;
        if self.resets > self.bounds.max_resets { fatal(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    /// A fault of a stream: it is reset; one that is over already is told so once more.
    pub(super) fn fault(&mut self, index: u32, reason: Reason) -> Result<(), Fatal> {
        let slot = self.slots.get(index);
        if slot.is_over() {
            frame::write_reset(self.out.data(), slot.id, reason);
            return self.idle_frame();
        }
        self.reset(index, reason);
        self.count_reset()
    }

    /// True of an identifier that no stream of this client can have had.
    pub(super) fn never_was(&self, id: u32) -> bool {
        id > self.last || id.is_multiple_of(2)
    }
}
