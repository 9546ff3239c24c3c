//! What is sent: heads, bodies, trailers, and the windows that bound them.

use std::task::{Context, Poll};

use super::{
    Reset, WAITING,
    core::{Core, Fatal},
};
use crate::http::{
    Headers, Known, ResponseHead,
    h2::{
        check::passes,
        frame::{self, MAX_31, MAX_PAYLOAD, Reason, flag, kind},
    },
};

impl Core {
    /// Sends the head of an answer. Those of 1xx are left out where the client does not read: they are no more than
    /// information, and an upstream may send any number.
    pub(super) fn send_head(
        &mut self,
        index: u32,
        head: &ResponseHead,
        length: Option<u64>,
        end: bool,
    ) -> Result<(), Reset> {
        let slot = self.slots.get(index);
        if let Some(reset) = slot.reset {
            return Err(reset);
        }
        let id = slot.id;
        if head.status < 200 && self.out.len() > WAITING {
            return Ok(());
        }
        slot.sent_all = end;
        let encoder = &mut self.encoder;
        frame::write_block(self.out.data(), id, end, |out| {
            encoder.begin(out);
            encoder.status(head.status, out);
            for (known, name, value) in head.headers.iter() {
                if passes(known, value) && !(known == Known::ContentLength && length.is_some()) {
                    encoder.field(known, name, value, out);
                }
            }
            if let Some(length) = length {
                encoder.content_length(length, out);
            }
        });
        self.sent(index, end);
        Ok(())
    }

    /// Sends trailers, and with them the end.
    pub(super) fn send_trailers(&mut self, index: u32, trailers: &Headers) -> Result<(), Reset> {
        let slot = self.slots.get(index);
        if let Some(reset) = slot.reset {
            return Err(reset);
        }
        let id = slot.id;
        slot.sent_all = true;
        let encoder = &mut self.encoder;
        frame::write_block(self.out.data(), id, true, |out| {
            encoder.begin(out);
            for (known, name, value) in trailers.iter() {
                if passes(known, value) {
                    encoder.field(known, name, value, out);
                }
            }
        });
        self.sent(index, true);
        Ok(())
    }

    /// Sends a part of a body, for which [`Core::poll_room`] has found room.
    pub(super) fn send_data(&mut self, index: u32, bytes: &[u8], end: bool) -> Result<(), Reset> {
        let slot = self.slots.get(index);
        if let Some(reset) = slot.reset {
            return Err(reset);
        }
        let id = slot.id;
        slot.send -= bytes.len() as i64;
        slot.sent_all = end;
        self.send -= bytes.len() as i64;
        let out = self.out.data();
        out.reserve(bytes.len() + (bytes.len() / MAX_PAYLOAD + 1) * frame::HEAD);
        let last = bytes.len().saturating_sub(1) / MAX_PAYLOAD;
        for i in 0..=last {
            let part = &bytes[i * MAX_PAYLOAD..bytes.len().min((i + 1) * MAX_PAYLOAD)];
            let flags = if end && i == last { flag::END_STREAM } else { 0 };
            frame::write(out, kind::DATA, flags, id, part);
        }
        self.idle_frames = 0;
        self.sent(index, end);
        // It was woken alone; what it has left is for the next.
        self.wake_next();
        Ok(())
    }

    fn sent(&mut self, index: u32, end: bool) {
        if end {
            self.side_ended(index);
        }
        self.wake_driver();
    }

    /// Bytes that all streams together may send now.
    fn shared_room(&self) -> i64 {
        self.send.min(WAITING as i64 - self.out.len() as i64)
    }

    /// Bytes that a stream may send, at least one. Streams that wait for what they share get it in turn: one that was not
    /// woken for it does not overtake them.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>, index: u32) -> Poll<Result<usize, Reset>> {
        let shared = self.shared_room();
        let slot = self.slots.get(index);
        if let Some(reset) = slot.reset {
            return Poll::Ready(Err(reset));
        }
        let turn = std::mem::take(&mut slot.turn);
        let room = shared.min(slot.send);
        if room > 0 && (turn || self.waiting.is_empty()) {
            return Poll::Ready(Ok(room as usize));
        }
        slot.register(cx.waker());
        if slot.send <= 0 {
            // It cannot use what it may have been woken for.
            self.wake_next();
        } else if !slot.waits {
            slot.waits = true;
            if turn { self.waiting.push_front(index) } else { self.waiting.push_back(index) }
        }
        Poll::Pending
    }

    /// Wakes the stream that has waited longest, where there is something for it.
    pub(super) fn wake_next(&mut self) {
        if self.waiting.is_empty() || self.shared_room() <= 0 {
            return;
        }
        while let Some(index) = self.waiting.pop_front() {
            let slot = self.slots.get(index);
            slot.waits = false;
            slot.wake();
            if slot.reset.is_none() {
                slot.turn = true;
                return;
            }
        }
    }

    /// The client takes more of a stream, or of all.
    pub(super) fn window_update(&mut self, id: u32, by: u32) -> Result<(), Fatal> {
        self.idle_frame()?;
        if id == 0 {
            self.send += i64::from(by);
            if by == 0 {
                return Err(Fatal(Reason::PROTOCOL_ERROR));
            }
            if self.send > i64::from(MAX_31) {
                return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
            }
            self.wake_next();
            return Ok(());
        }
        let Some(index) = self.slots.find(id) else {
            return if id > self.last || id.is_multiple_of(2) { Err(Fatal(Reason::PROTOCOL_ERROR)) } else { Ok(()) };
        };
        let slot = self.slots.get(index);
        slot.send += i64::from(by);
        let fault = match by {
            0 => Some(Reason::PROTOCOL_ERROR),
            _ if slot.send > i64::from(MAX_31) => Some(Reason::FLOW_CONTROL_ERROR),
            _ => None,
        };
        match fault {
            Some(reason) => self.fault(index, reason),
            None => {
                slot.wake();
                Ok(())
            }
        }
    }

    /// The client changes the window of every stream (RFC 9113 6.9.2).
    pub(super) fn first_window(&mut self, size: u32) -> Result<(), Fatal> {
        let more = i64::from(size) - self.send_first;
        self.send_first = i64::from(size);
        for index in self.slots.all() {
            let slot = self.slots.get(index);
            slot.send += more;
            if slot.send > i64::from(MAX_31) {
                return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
            }
            slot.wake();
        }
        Ok(())
    }

    /// The body of a request was taken by `n` bytes: the client may send as many more, of which it is told by halves of
    /// a window.
    pub(super) fn take(&mut self, index: u32, n: usize) {
        let half = self.bounds.stream_window / 2;
        let slot = self.slots.get(index);
        if slot.reset.is_none() && !slot.received_all {
            slot.taken += n as u32;
            if slot.taken >= half {
                let (id, by) = (slot.id, std::mem::take(&mut slot.taken));
                slot.receive += i64::from(by);
                frame::write_window(self.out.data(), id, by);
                self.wake_driver();
            }
        }
        self.credit(n);
    }

    /// The same for what all streams share.
    pub(super) fn credit(&mut self, n: usize) {
        self.taken += n as u32;
        if self.taken >= self.bounds.connection_window / 2 {
            let by = std::mem::take(&mut self.taken);
            self.receive += i64::from(by);
            frame::write_window(self.out.data(), 0, by);
            self.wake_driver();
        }
    }
}
