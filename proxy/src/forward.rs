//! Bodies on their way: where they come from ([`Source`]), where they go ([`Sink`]), and the pump between.
//!
//! The same pump carries requests up and answers down, between any two codecs, with back-pressure: a
//! source is read only when the sink has taken what was read before. What a sink has buffered is
//! written as soon as the source has nothing more to give at once, so a stream of events is never held
//! back, while a head and the body that came with it leave in one write.

use std::{
    fmt, io,
    task::{Context, Poll, ready},
};

use crate::http::{
    h1::{self, ChunkedDecoder, Framing, Message},
    h2::server::Reset,
};

mod sink;
mod source;

pub use sink::Sink;
pub use source::Source;

/// A sink buffers up to this much before it writes: a head and a small body.
const COALESCE: usize = 16 * 1024;
/// Largest piece handed to an HTTP/2 stream at once.
const PIECE: usize = 64 * 1024;

/// Which end of a pump failed, and how.
#[derive(Debug)]
pub enum PumpError {
    /// The source ended early.
    Truncated,
    /// The source broke its framing.
    Malformed(h1::ParseError),
    /// The trailers pass a limit.
    Trailers(&'static str),
    /// Reading failed.
    Read(io::Error),
    /// The peer reset the stream that was read.
    ReadReset(StreamError),
    /// Writing failed.
    Write(io::Error),
    /// The peer reset the stream that was written, or its connection failed.
    WriteReset(StreamError),
}

impl PumpError {
    /// True if the end that was read is at fault.
    #[must_use]
    pub fn at_source(&self) -> bool {
        !matches!(self, Self::Write(_) | Self::WriteReset(_))
    }
}

impl fmt::Display for PumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the body ended before its announced length"),
            Self::Malformed(e) => e.fmt(f),
            Self::Trailers(what) => f.write_str(what),
            Self::Read(e) | Self::Write(e) => e.fmt(f),
            Self::ReadReset(e) | Self::WriteReset(e) => e.fmt(f),
        }
    }
}

/// How an HTTP/2 stream failed.
#[derive(Debug)]
pub enum StreamError {
    /// One to an upstream.
    Upstream(h2::Error),
    /// One of a client.
    Client(Reset),
}

impl From<h2::Error> for StreamError {
    fn from(error: h2::Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<Reset> for StreamError {
    fn from(reset: Reset) -> Self {
        Self::Client(reset)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => error.fmt(f),
            Self::Client(reset) => reset.fmt(f),
        }
    }
}

/// Where the bytes of an HTTP/1 body end.
pub enum Left {
    /// After this many more.
    Length(u64),
    /// With the last chunk.
    Chunked(Box<ChunkedDecoder>),
    /// With the connection.
    UntilClose,
    /// Here.
    Done,
}

impl Left {
    /// For a message with this framing.
    #[must_use]
    pub fn of(framing: Framing, message: Message) -> Self {
        match framing {
            Framing::None | Framing::Declared(_) | Framing::Length(0) => Self::Done,
            Framing::Length(n) => Self::Length(n),
            Framing::Chunked => Self::Chunked(Box::new(ChunkedDecoder::new(message))),
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

/// What [`Source::poll_data`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// [`Source::chunk`] is not empty.
    Data,
    /// The body is over; [`Source::trailers`] may have some.
    End,
}

/// Carries one body from its source to its sink.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Pump {
    /// Bytes flow.
    #[default]
    Flowing,
    /// Everything was taken; what the sink has buffered is written.
    Flushing,
    /// It is over.
    Done,
}

impl Pump {
    /// Moves what can be moved. `progress` counts movements.
    ///
    /// # Errors
    /// Which end failed.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
        progress: &mut u64,
    ) -> Poll<Result<(), PumpError>> {
        while *self == Self::Flowing {
            match source.poll_data(cx) {
                Poll::Ready(Ok(Step::Data)) => {
                    ready!(sink.poll_accept(cx, source))?;
                    *progress += 1;
                }
                Poll::Ready(Ok(Step::End)) => {
                    sink.finish(source.trailers())?;
                    *progress += 1;
                    *self = Self::Flushing;
                }
                Poll::Ready(Err(e)) => {
                    // What came before the failure belongs to the peer, as far as it takes it at once.
                    drop(sink.poll_flush(cx));
                    return Poll::Ready(Err(e));
                }
                Poll::Pending => {
                    ready!(sink.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        if *self == Self::Flushing {
            ready!(sink.poll_flush(cx))?;
            *self = Self::Done;
        }
        Poll::Ready(Ok(()))
    }
}
