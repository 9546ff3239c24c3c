//! What is received: frames, one after the other (RFC 9113 6).

use std::ops::Range;

use super::{
    By,
    core::{Core, Fatal, Going, Partial, fatal},
    head::{Block, Reader, Trailers},
};
use crate::{
    error::Failure,
    http::{
        RequestHead,
        h2::check::list_bound,
        h2::frame::{self, HEAD, Head, MAX_31, MAX_PAYLOAD, Reason, flag, kind, unpadded, word},
    },
};

/// What is at the front of the bytes that came.
pub(super) enum Step {
    /// Less than a frame.
    More,
    /// A frame of so many bytes, which was obeyed.
    Done(usize),
    /// The whole header block of a request, which ends after so many bytes.
    Request(Opening, usize),
}

/// A request whose header block is to be read.
pub(super) struct Opening {
    id: u32,
    end_stream: bool,
    malformed: bool,
    block: Where,
}

enum Where {
    /// In the frame that is at the front.
    Here(Range<usize>),
    Gathered(Vec<u8>),
}

/// A stream that was opened.
pub(super) struct New {
    pub(super) index: u32,
    /// `content-length`
    pub(super) length: Option<u64>,
    /// The request ended with its head.
    pub(super) ended: bool,
    /// It is to be answered with this.
    pub(super) refused: Option<Failure>,
}

impl Core {
    /// Obeys the frame at the front of `bytes`.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Fatal> {
        let Some(head) = Head::read(bytes) else { return Ok(Step::More) };
        if head.length > MAX_PAYLOAD {
            return fatal(Reason::FRAME_SIZE_ERROR);
        }
        let size = HEAD + head.length;
        let Some(payload) = bytes.get(HEAD..size) else { return Ok(Step::More) };
        if !self.settled && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        if self.partial.is_some() && head.kind != kind::CONTINUATION {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            kind::DATA => self.data(head, payload)?,
            kind::HEADERS => {
                if let Some(opening) = self.headers(head, payload)? {
                    return Ok(Step::Request(opening, size));
                }
            }
            kind::CONTINUATION => {
                if let Some(opening) = self.continuation(head, payload)? {
                    return Ok(Step::Request(opening, size));
                }
            }
            _ => self.control(head, payload)?,
        }
        Ok(Step::Done(size))
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if self.never_was(head.stream) {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        let size = payload.len();
        self.receive -= size as i64;
        if self.receive < 0 {
            return fatal(Reason::FLOW_CONTROL_ERROR);
        }
        let Some(bytes) = unpadded(head, payload) else { return fatal(Reason::PROTOCOL_ERROR) };
        let end = head.has(flag::END_STREAM);
        if bytes.is_empty() && !end {
            self.idle_frame()?;
        }
        let Some(index) = self.slots.find(head.stream) else {
            self.credit(size);
            self.idle_frame()?;
            if self.lately(head.stream) != Some(true) {
                frame::write_reset(self.out.data(), head.stream, Reason::STREAM_CLOSED);
            }
            return Ok(());
        };
        let slot = self.slots.get(index);
        if let Some(reset) = slot.reset {
            self.credit(size);
            if reset.by == By::Client {
                frame::write_reset(self.out.data(), head.stream, Reason::STREAM_CLOSED);
            }
            return self.idle_frame();
        }
        slot.receive -= size as i64;
        let length = bytes.len() as u64;
        let fault = if slot.received_all {
            Some(Reason::STREAM_CLOSED)
        } else if slot.receive < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if slot.announced.is_some_and(|rest| length > rest || (end && length < rest)) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = fault {
            self.credit(size);
            return self.fault(index, reason);
        }
        if let Some(rest) = &mut slot.announced {
            *rest -= length;
        }
        slot.received_all = end;
        if !bytes.is_empty() {
            self.idle_frames = 0;
        }
        let unread = slot.unread;
        if !unread {
            slot.data.extend_from_slice(bytes);
        }
        slot.wake();
        // Padding is taken at once, and so is what nobody will read.
        if unread {
            self.credit(size);
        } else if size > bytes.len() {
            self.take(index, size - bytes.len());
        }
        if end {
            self.side_ended(index);
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<Option<Opening>, Fatal> {
        if head.stream.is_multiple_of(2) {
            return fatal(Reason::PROTOCOL_ERROR);
        }
        let Some(mut block) = unpadded(head, payload) else { return fatal(Reason::PROTOCOL_ERROR) };
        let mut malformed = false;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = block.split_at_checked(5) else { return fatal(Reason::FRAME_SIZE_ERROR) };
            malformed = word(priority) & MAX_31 == head.stream;
            block = rest;
        }
        let end_stream = head.has(flag::END_STREAM);
        if !head.has(flag::END_HEADERS) {
            self.partial =
                Some(Partial { stream: head.stream, end_stream, malformed, frames: 0, block: block.to_vec() });
            return Ok(None);
        }
        if head.stream > self.last {
            // The block ends where the padding begins.
            let start = HEAD + usize::from(head.has(flag::PADDED)) + if head.has(flag::PRIORITY) { 5 } else { 0 };
            let block = Where::Here(start..start + block.len());
            return Ok(Some(Opening { id: head.stream, end_stream, malformed, block }));
        }
        self.later_block(head.stream, end_stream, block)?;
        Ok(None)
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<Option<Opening>, Fatal> {
        let bound = 2 * list_bound(&self.bounds.head);
        let Some(partial) = self.partial.as_mut().filter(|p| p.stream == head.stream) else {
            return fatal(Reason::PROTOCOL_ERROR);
        };
        partial.frames += 1;
        // A block that can still be answered with 431, in frames of a size that somebody would choose (CVE-2024-27316).
        if partial.block.len() + payload.len() > bound + MAX_PAYLOAD || partial.frames > 16 + bound / 1024 {
            return fatal(Reason::ENHANCE_YOUR_CALM);
        }
        partial.block.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(Partial { stream: id, end_stream, malformed, block, .. }) = self.partial.take() else {
            return Ok(None);
        };
        if id > self.last {
            return Ok(Some(Opening { id, end_stream, malformed, block: Where::Gathered(block) }));
        }
        self.later_block(id, end_stream, &block)?;
        Ok(None)
    }

    /// A block on a stream that was opened before: trailers, or a fault.
    fn later_block(&mut self, id: u32, end_stream: bool, block: &[u8]) -> Result<(), Fatal> {
        let mut trailers = Trailers::new(self.bounds.head);
        self.decoder
            .decode(block, &mut |field| trailers.field(&field))
            .map_err(|_| Fatal(Reason::COMPRESSION_ERROR))?;
        let Some(index) = self.slots.find(id) else {
            return match self.lately(id) {
                Some(false) => fatal(Reason::STREAM_CLOSED),
                // Below one that is open: it never was, and can no longer be (RFC 9113 5.1.1).
                None if (self.skipped.0..self.skipped.1).contains(&id) => fatal(Reason::PROTOCOL_ERROR),
                // It was on its way when we reset the stream.
                Some(true) | None => self.idle_frame(),
            };
        };
        let slot = self.slots.get(index);
        match slot.reset {
            Some(reset) if reset.by == By::Us => return self.idle_frame(),
            Some(_) => return fatal(Reason::STREAM_CLOSED),
            None if slot.is_over() => return fatal(Reason::STREAM_CLOSED),
            None => {}
        }
        if slot.received_all {
            return self.fault(index, Reason::STREAM_CLOSED);
        }
        match trailers.finish() {
            Some(fields) if end_stream && slot.announced.unwrap_or(0) == 0 => {
                slot.trailers = (!fields.is_empty() && !slot.unread).then(|| Box::new(fields));
                slot.received_all = true;
                slot.wake();
                self.side_ended(index);
                Ok(())
            }
            _ => self.fault(index, Reason::PROTOCOL_ERROR),
        }
    }

    /// Reads the block of a request, of which `bytes` are the frame, into `head`. `None`: there is no stream for it.
    pub(super) fn open(
        &mut self,
        opening: Opening,
        bytes: &[u8],
        head: &mut RequestHead,
    ) -> Result<Option<New>, Fatal> {
        let Opening { id, end_stream, malformed, block } = opening;
        if id > self.last + 2 {
            self.skipped = (self.last + 1, id);
        }
        self.last = id;
        let mut reader = Reader::new(head, self.bounds.head);
        let block = match &block {
            Where::Here(range) => &bytes[range.clone()],
            Where::Gathered(block) => block,
        };
        self.decoder.decode(block, &mut |field| reader.field(&field)).map_err(|_| Fatal(Reason::COMPRESSION_ERROR))?;
        if self.going == Going::Closed {
            // RFC 9113 6.8: the client knows, or will, and sends it elsewhere.
            self.idle_frame()?;
            return Ok(None);
        }
        let most = self.bounds.max_streams;
        if self.active >= most || self.slots.len() >= 2 * most as usize {
            self.idle_frame()?;
            self.refuse(id, Reason::REFUSED_STREAM);
            return Ok(None);
        }
        let (length, refused) = match reader.finish() {
            Block::Request(length) if !malformed && (!end_stream || length.unwrap_or(0) == 0) => (length, None),
            Block::Refused(failure) if !malformed => (None, Some(failure)),
            _ => {
                self.idle_frame()?;
                self.refuse(id, Reason::PROTOCOL_ERROR);
                return Ok(None);
            }
        };
        self.active += 1;
        self.idle_frames = 0;
        let (receive, send) = (self.bounds.stream_window.into(), self.send_first);
        let index = self.slots.insert(id);
        let slot = self.slots.get(index);
        (slot.receive, slot.send) = (receive, send);
        slot.received_all = end_stream;
        slot.announced = length;
        Ok(Some(New { index, length, ended: end_stream, refused }))
    }
}
