//! Where a body goes: an HTTP/1 connection, an HTTP/2 stream, nowhere.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;

use super::{COALESCE, PIECE, PumpError, Source};
use crate::{
    buffer::Out,
    http::{
        Headers, h1,
        h2::{convert, server::Send},
    },
    io::Io,
};

/// Where a body goes.
pub enum Sink<'a> {
    /// An HTTP/1 peer. The head is in `out` already.
    H1 {
        /// Its connection.
        io: &'a Io,
        /// What waits to be written.
        out: &'a mut Out,
        /// Chunks, or bytes as they are.
        chunked: bool,
    },
    /// An HTTP/2 stream whose head was sent.
    H2 {
        /// The stream.
        stream: SendStream<Bytes>,
        /// END_STREAM was sent.
        ended: bool,
    },
    /// The stream of an HTTP/2 client, to which the head was sent.
    Client {
        /// The stream.
        stream: Send,
        /// END_STREAM was sent.
        ended: bool,
    },
    /// Nowhere: the message has no body.
    None,
}

impl Sink<'_> {
    /// Takes some of the source's chunk.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>, source: &mut Source<'_>) -> Poll<Result<(), PumpError>> {
        match self {
            Self::None => {
                let n = source.chunk().len();
                source.advance(n);
                Poll::Ready(Ok(()))
            }
            Self::H1 { io, out, chunked } => {
                if out.len() >= COALESCE {
                    ready!(out.poll_flush(io, cx)).map_err(PumpError::Write)?;
                }
                let len = source.chunk().len();
                let small = out.len() + len <= COALESCE;
                if *chunked || small {
                    let n = if small { len } else { len.min(PIECE) };
                    let chunk = &source.chunk()[..n];
                    if *chunked {
                        h1::encode_chunk_head(n, out.data());
                        out.data().extend_from_slice(chunk);
                        out.data().extend_from_slice(b"\r\n");
                    } else {
                        out.data().extend_from_slice(chunk);
                    }
                    source.advance(n);
                    return Poll::Ready(Ok(()));
                }
                let written = if out.is_empty() {
                    ready!(io.poll_write(cx, source.chunk()))
                } else {
                    let slices = [io::IoSlice::new(out.bytes()), io::IoSlice::new(source.chunk())];
                    ready!(io.poll_write_vectored(cx, &slices))
                };
                let written = written.map_err(PumpError::Write)?;
                if written == 0 {
                    return Poll::Ready(Err(PumpError::Write(io::ErrorKind::WriteZero.into())));
                }
                let head = out.len().min(written);
                out.written(head);
                source.advance(written - head);
                Poll::Ready(Ok(()))
            }
            Self::H2 { stream, ended } => {
                let want = source.chunk().len().min(PIECE);
                if stream.capacity() == 0 {
                    stream.reserve_capacity(want);
                }
                let room = match stream.capacity() {
                    0 => match ready!(stream.poll_capacity(cx)) {
                        Some(Ok(n)) => n,
                        Some(Err(e)) => return Poll::Ready(Err(PumpError::WriteReset(e.into()))),
                        None => {
                            let closed = h2::Error::from(h2::Reason::STREAM_CLOSED);
                            return Poll::Ready(Err(PumpError::WriteReset(closed.into())));
                        }
                    },
                    n => n,
                };
                let n = want.min(room);
                if n > 0 {
                    let bytes = source.take(n);
                    let last = source.is_over() && source.trailers().is_none();
                    stream.send_data(bytes, last).map_err(|e| PumpError::WriteReset(e.into()))?;
                    *ended = last;
                }
                Poll::Ready(Ok(()))
            }
            Self::Client { stream, ended } => {
                let room = ready!(stream.poll_room(cx)).map_err(|e| PumpError::WriteReset(e.into()))?;
                let n = source.chunk().len().min(room).min(PIECE);
                let last = source.ends_after(n);
                stream.data(&source.chunk()[..n], last).map_err(|e| PumpError::WriteReset(e.into()))?;
                source.advance(n);
                *ended = last;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends the message.
    pub(super) fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), PumpError> {
        match self {
            Self::None => Ok(()),
            Self::H1 { out, chunked, .. } => {
                if *chunked {
                    h1::encode_chunk_end(trailers, out.data());
                }
                Ok(())
            }
            Self::H2 { ended: true, .. } | Self::Client { ended: true, .. } => Ok(()),
            Self::Client { stream, ended } => {
                *ended = true;
                match trailers {
                    Some(trailers) => stream.trailers(trailers),
                    None => stream.data(&[], true),
                }
                .map_err(|e| PumpError::WriteReset(e.into()))
            }
            Self::H2 { stream, ended } => {
                *ended = true;
                match trailers {
                    Some(trailers) => stream.send_trailers(convert::to_map(trailers)),
                    None => stream.send_data(Bytes::new(), true),
                }
                .map_err(|e| PumpError::WriteReset(e.into()))
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        match self {
            Self::H1 { io, out, .. } => out.poll_flush(io, cx).map_err(PumpError::Write),
            Self::H2 { .. } | Self::Client { .. } | Self::None => Poll::Ready(Ok(())),
        }
    }

    /// Ready if the peer no longer wants the message.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H2 { stream, ended: false } => stream.poll_reset(cx).map(|_| ()),
            Self::Client { stream, ended: false } => stream.poll_reset(cx).map(|_| ()),
            _ => Poll::Pending,
        }
    }
}
