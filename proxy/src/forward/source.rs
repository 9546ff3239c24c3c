//! Where a body comes from: nothing, bytes, an HTTP/1 connection, an HTTP/2 stream; and what was taken of it,
//! kept to be sent again.

mod client;

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use tokio::time::Instant;

use super::{Left, PumpError, Step};
use crate::{
    buffer::Buf,
    fallback::Recorder,
    http::{
        Headers,
        h1::{self, Event},
        h2::{convert, server::Receive},
    },
    io::Io,
};
use client::ClientBody;

/// Where a body comes from.
pub struct Source<'a> {
    from: Origin<'a>,
    limits: h1::Limits,
    trailers: Headers,
    /// Payload bytes taken by the attempt under way.
    pub taken: u64,
    record: Option<Record>,
    /// Takes the body down, to answer with it later.
    recorder: Option<Box<Recorder>>,
}

enum Origin<'a> {
    Empty,
    Bytes(Bytes),
    H1 { io: &'a Io, buf: &'a mut Buf, left: Left, ready: usize },
    H2 { stream: RecvStream, ready: Bytes, data_over: bool, over: bool },
    Client(ClientBody),
}

/// What was taken so far, kept to be sent again.
struct Record {
    bytes: Vec<u8>,
    limit: usize,
    /// Bytes of it that the attempt under way has taken.
    replayed: usize,
}

impl Record {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.replayed..]
    }
}

impl<'a> Source<'a> {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(Origin::Empty, h1::Limits::default())
    }

    /// These bytes.
    #[must_use]
    pub fn bytes(bytes: Bytes) -> Self {
        Self::new(Origin::Bytes(bytes), h1::Limits::default())
    }

    /// The body of an HTTP/1 message whose head was consumed from `buf`.
    #[must_use]
    pub fn h1(io: &'a Io, buf: &'a mut Buf, left: Left, limits: h1::Limits) -> Self {
        Self::new(Origin::H1 { io, buf, left, ready: 0 }, limits)
    }

    /// The body of an HTTP/2 message.
    #[must_use]
    pub fn h2(stream: RecvStream, limits: h1::Limits) -> Self {
        let over = stream.is_end_stream();
        Self::new(Origin::H2 { stream, ready: Bytes::new(), data_over: over, over }, limits)
    }

    /// The body of a request of an HTTP/2 client, of `length` bytes if that was announced.
    #[must_use]
    pub fn client(stream: Receive, length: Option<u64>) -> Self {
        Self::new(Origin::Client(ClientBody::new(stream, length)), h1::Limits::default())
    }

    fn new(from: Origin<'a>, limits: h1::Limits) -> Self {
        Self { from, limits, trailers: Headers::new(), taken: 0, record: None, recorder: None }
    }

    /// Keeps what is taken, up to `limit` bytes, so that [`Source::rewind`] can start again.
    pub fn record(&mut self, limit: usize) {
        if !self.is_over() && self.taken == 0 && self.record.is_none() {
            self.record = Some(Record { bytes: Vec::new(), limit, replayed: 0 });
        }
    }

    /// True if [`Source::rewind`] would succeed.
    #[must_use]
    pub fn can_rewind(&self) -> bool {
        self.record.is_some() || self.taken == 0
    }

    /// Starts again from the beginning; false if that is no longer possible.
    pub fn rewind(&mut self) -> bool {
        let possible = self.can_rewind();
        if let Some(record) = &mut self.record {
            record.replayed = 0;
            self.taken = 0;
        }
        possible
    }

    /// Takes the body down from here on.
    pub fn take_down(&mut self, recorder: Recorder) {
        self.recorder = Some(Box::new(recorder));
    }

    /// The body came whole: what was taken down is kept.
    pub fn taken_down(&mut self, now: Instant) {
        if let Some(recorder) = self.recorder.take() {
            recorder.finish(now);
        }
    }

    /// True if nothing is left to be sent: neither of the peer nor of what was kept.
    #[must_use]
    pub fn is_over(&self) -> bool {
        if self.record.as_ref().is_some_and(|r| !r.rest().is_empty()) {
            return false;
        }
        match &self.from {
            Origin::Empty => true,
            Origin::Bytes(bytes) => bytes.is_empty(),
            Origin::H1 { left, ready, .. } => *ready == 0 && matches!(left, Left::Done),
            Origin::H2 { ready, over, .. } => *over && ready.is_empty(),
            Origin::Client(body) => body.is_over(),
        }
    }

    /// The whole body, where it was recorded and has been taken to its end.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        match &self.record {
            Some(record) if self.is_over() => Some(Bytes::copy_from_slice(&record.bytes)),
            None if self.taken == 0 && self.is_over() => Some(Bytes::new()),
            _ => None,
        }
    }

    /// Trailers, once [`Source::poll_data`] has found the end.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        (!self.trailers.is_empty()).then_some(&self.trailers)
    }

    /// Makes [`Source::chunk`] hold something, or tells that the body is over.
    ///
    /// # Errors
    /// The source broke off or broke its framing.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, PumpError>> {
        if self.record.as_ref().is_some_and(|r| !r.rest().is_empty()) {
            return Poll::Ready(Ok(Step::Data));
        }
        match &mut self.from {
            Origin::Empty => Poll::Ready(Ok(Step::End)),
            Origin::Bytes(bytes) => Poll::Ready(Ok(if bytes.is_empty() { Step::End } else { Step::Data })),
            Origin::H1 { io, buf, left, ready } => poll_h1(cx, io, buf, left, ready, &self.limits, &mut self.trailers),
            Origin::H2 { stream, ready, data_over, over } => {
                while ready.is_empty() && !*data_over {
                    match ready!(stream.poll_data(cx)) {
                        Some(Ok(bytes)) => *ready = bytes,
                        Some(Err(e)) => return Poll::Ready(Err(PumpError::ReadReset(e.into()))),
                        None => *data_over = true,
                    }
                }
                if !ready.is_empty() {
                    return Poll::Ready(Ok(Step::Data));
                }
                if !*over {
                    let trailers = ready!(stream.poll_trailers(cx)).map_err(|e| PumpError::ReadReset(e.into()))?;
                    if let Some(map) = trailers {
                        convert::trailers_from(&map, &self.limits, &mut self.trailers).map_err(PumpError::Trailers)?;
                    }
                    *over = true;
                }
                Poll::Ready(Ok(Step::End))
            }
            Origin::Client(body) => body.poll_data(cx, &mut self.trailers),
        }
    }

    /// What is there to be taken; not empty after [`Step::Data`].
    #[must_use]
    pub fn chunk(&self) -> &[u8] {
        if let Some(record) = &self.record
            && !record.rest().is_empty()
        {
            return record.rest();
        }
        match &self.from {
            Origin::Empty => &[],
            Origin::Bytes(bytes) => bytes,
            Origin::H1 { buf, ready, .. } => &buf.bytes()[..*ready],
            Origin::H2 { ready, .. } => ready,
            Origin::Client(body) => body.chunk(),
        }
    }

    /// True if nothing follows the first `n` bytes of the chunk, as far as is known, trailers neither.
    #[must_use]
    pub fn ends_after(&self, n: usize) -> bool {
        let rest = self.chunk().len() - n;
        let recorded = self.record.as_ref().is_some_and(|r| !r.rest().is_empty());
        rest == 0
            && self.trailers.is_empty()
            && match &self.from {
                Origin::Empty | Origin::Bytes(_) => !recorded,
                Origin::H1 { left, .. } => !recorded && matches!(left, Left::Length(rest) if *rest == n as u64),
                // The end of a stream is found by asking for more.
                Origin::H2 { .. } | Origin::Client(_) => false,
            }
    }

    /// Takes the first `n` bytes of the chunk as a value of their own.
    pub fn take(&mut self, n: usize) -> Bytes {
        if let Origin::H2 { ready, .. } = &self.from
            && self.record.is_none()
        {
            let bytes = ready.slice(..n);
            self.advance(n);
            return bytes;
        }
        let bytes = Bytes::copy_from_slice(&self.chunk()[..n]);
        self.advance(n);
        bytes
    }

    /// Drops the first `n` bytes of the chunk.
    pub fn advance(&mut self, n: usize) {
        self.taken += n as u64;
        if let Some(mut recorder) = self.recorder.take() {
            recorder.push(&self.chunk()[..n]);
            self.recorder = Some(recorder);
        }
        if let Some(record) = &mut self.record {
            if !record.rest().is_empty() {
                record.replayed += n;
                return;
            }
            let chunk = match &self.from {
                Origin::Empty => &[],
                Origin::Bytes(bytes) => &bytes[..n],
                Origin::H1 { buf, .. } => &buf.bytes()[..n],
                Origin::H2 { ready, .. } => &ready[..n],
                Origin::Client(body) => &body.chunk()[..n],
            };
            if record.bytes.len() + n > record.limit {
                self.record = None;
            } else {
                record.bytes.extend_from_slice(chunk);
                record.replayed += n;
            }
        }
        match &mut self.from {
            Origin::Empty => {}
            Origin::Bytes(bytes) => bytes::Buf::advance(bytes, n),
            Origin::H1 { buf, left, ready, .. } => {
                buf.consume(n);
                *ready -= n;
                if let Left::Length(rest) = left {
                    *rest -= n as u64;
                    if *rest == 0 {
                        *left = Left::Done;
                    }
                }
            }
            Origin::H2 { stream, ready, .. } => {
                bytes::Buf::advance(ready, n);
                // Fails only for a stream that is gone, which the next poll reports.
                drop(stream.flow_control().release_capacity(n));
            }
            Origin::Client(body) => body.advance(n),
        }
    }

    /// Watches for a peer that goes away while its whole body has been read: ready if it did.
    ///
    /// An HTTP/1 client may send its next request early; that is kept, and watching pauses once
    /// `WATCHED` bytes of it wait. An end of its stream counts as going away: a client that closes its
    /// half while it waits for the answer cannot be told from one that gave up.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Origin::H1 { io, buf, left: Left::Done, .. } = &mut self.from else {
            return Poll::Pending;
        };
        while buf.len() < WATCHED {
            ready!(io.poll_due(cx));
            match ready!(buf.poll_fill(io, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}

/// Bytes of pipelined requests read ahead while an answer is awaited.
const WATCHED: usize = 4 * 1024;

fn poll_h1(
    cx: &mut Context<'_>,
    io: &Io,
    buf: &mut Buf,
    left: &mut Left,
    ready: &mut usize,
    limits: &h1::Limits,
    trailers: &mut Headers,
) -> Poll<Result<Step, PumpError>> {
    loop {
        if *ready > 0 {
            return Poll::Ready(Ok(Step::Data));
        }
        if !buf.is_empty() {
            match left {
                Left::Done => {}
                Left::Length(n) => {
                    *ready = usize::try_from(*n).unwrap_or(usize::MAX).min(buf.len());
                    continue;
                }
                Left::UntilClose => {
                    *ready = buf.len();
                    continue;
                }
                Left::Chunked(decoder) => {
                    let decoded = decoder.decode(buf.bytes(), limits).map_err(PumpError::Malformed)?;
                    match decoded.event {
                        Event::Data { start, len } => {
                            buf.consume(start);
                            *ready = len;
                            continue;
                        }
                        Event::End => {
                            buf.consume(decoded.consumed);
                            *trailers = std::mem::take(&mut decoder.trailers);
                            *left = Left::Done;
                        }
                        Event::More => buf.consume(decoded.consumed),
                    }
                }
            }
        }
        if matches!(left, Left::Done) {
            return Poll::Ready(Ok(Step::End));
        }
        match ready!(buf.poll_fill(io, cx)) {
            Ok(0) if matches!(left, Left::UntilClose) => *left = Left::Done,
            Ok(0) => return Poll::Ready(Err(PumpError::Truncated)),
            Ok(_) => {}
            Err(e) => return Poll::Ready(Err(PumpError::Read(e))),
        }
    }
}
