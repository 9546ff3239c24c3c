//! Chunked bodies (RFC 9112 7.1), decoded without copying data.
//!
//! The decoder takes every byte it is given, also half a size line or half a trailer, so that the caller's
//! buffer never has to hold more than it has read. Only trailers are stored, within the limits of a head.
//! Chunk extensions are bounded and dropped. Every line ends with CR LF.

use super::{
    Fault, Limits, Message, ParseError,
    fields::{is_field_value, is_token},
    hop::trailer_allowed,
};
use crate::http::{Headers, Known};

/// Digits of a size: all of a `u64`, so that none overflows.
const MAX_DIGITS: u8 = 16;

/// Extensions of one message. Nobody uses them; without a bound, one-byte chunks with long extensions make
/// a proxy read without end for nothing (CVE-2023-39326 in Go).
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Decoder of one body; [`ChunkedDecoder::reset`] makes it ready for the next one.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    /// The trailers once [`Event::End`] has come. Those that [`trailer_allowed`] forbids are dropped.
    pub trailers: Headers,
    message: Message,
    state: State,
    size: u64,
    digits: u8,
    extensions: usize,
    trailer_bytes: usize,
    trailer_count: usize,
    line: Vec<u8>,
}

/// What [`ChunkedDecoder::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with, those of the data included.
    pub consumed: usize,
    /// What they were.
    pub event: Event,
}

/// A piece of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet; all input was consumed.
    More,
    /// `input[start..start + len]`, never empty, is a piece of the body.
    Data {
        /// Where it begins.
        start: usize,
        /// Its length.
        len: usize,
    },
    /// The body and its trailers have ended; what follows is the next message.
    End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    BlankBeforeExtension,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    End,
}

impl ChunkedDecoder {
    /// For a body of that kind of message; it decides only whose fault a fault is.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self { message, ..Self::default() }
    }

    /// Ready for the next body, in that kind of message.
    pub fn reset(&mut self, message: Message) {
        self.trailers.clear();
        self.line.clear();
        self.message = message;
        self.state = State::Size;
        (self.size, self.digits) = (0, 0);
        (self.extensions, self.trailer_bytes, self.trailer_count) = (0, 0, 0);
    }

    /// True once the body and its trailers have ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// Decodes the next piece.
    ///
    /// # Errors
    ///
    /// If the framing is broken or a limit passed; nothing after it can be trusted, and the connection is to
    /// be closed.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Decoded, ParseError> {
        self.step(input, limits).map_err(|fault| ParseError { message: self.message, fault })
    }

    fn step(&mut self, input: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
        let mut at = 0;
        while let Some(&b) = input.get(at) {
            match self.state {
                State::Data => {
                    let left = input.len() - at;
                    let len = usize::try_from(self.size).map_or(left, |size| size.min(left));
                    self.size -= len as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Decoded { consumed: at + len, event: Event::Data { start: at, len } });
                }
                State::Trailer => at += self.trailer(&input[at..], limits)?,
                State::End => return Ok(Decoded { consumed: at, event: Event::End }),
                _ => {
                    self.frame(b)?;
                    at += 1;
                }
            }
        }
        let event = if self.state == State::End { Event::End } else { Event::More };
        Ok(Decoded { consumed: at, event })
    }

    /// One byte of what stands around the data.
    fn frame(&mut self, b: u8) -> Result<(), Fault> {
        self.state = match (self.state, b) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, b' ' | b'\t') if self.digits > 0 => State::BlankBeforeExtension,
            (State::Size, _) => {
                let digit = char::from(b).to_digit(16).filter(|_| self.digits < MAX_DIGITS).ok_or(Fault::ChunkSize)?;
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                State::Size
            }
            // RFC 9112 7.1.1: blanks before `;` are bad, but read; before the line's end they are not.
            (State::BlankBeforeExtension, b' ' | b'\t') => State::BlankBeforeExtension,
            (State::BlankBeforeExtension, b';') => State::Extension,
            (State::BlankBeforeExtension, _) => return Err(Fault::ChunkSize),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b) if b.is_ascii_control() && b != b'\t' => return Err(Fault::ChunkExtension),
            (State::Extension, _) => State::Extension,
            (State::SizeLf, b'\n') if self.size == 0 => State::Trailer,
            (State::SizeLf, b'\n') => State::Data,
            (State::SizeLf, _) => return Err(Fault::LineEnd),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::DataCr | State::DataLf, _) => return Err(Fault::ChunkEnd),
            // Not reached: these are not framing.
            (state @ (State::Data | State::Trailer | State::End), _) => state,
        };
        if matches!(self.state, State::Extension | State::BlankBeforeExtension) {
            self.extensions += 1;
            if self.extensions > MAX_EXTENSIONS {
                return Err(Fault::ChunkExtensionsTooLarge);
            }
        }
        Ok(())
    }

    /// Takes a trailer line, or what has come of it.
    fn trailer(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Fault> {
        if self.line.is_empty() && input.starts_with(b"\r\n") {
            self.state = State::End;
            return Ok(2);
        }
        let taken = memchr::memchr(b'\n', input).map_or(input.len(), |lf| lf + 1);
        self.trailer_bytes += taken;
        if self.trailer_bytes > limits.max_header_bytes {
            return Err(Fault::TrailersTooLarge);
        }
        self.line.extend_from_slice(&input[..taken]);
        if self.line.ends_with(b"\n") {
            let line = self.line.strip_suffix(b"\r\n").ok_or(Fault::LineEnd)?;
            if line.is_empty() {
                self.state = State::End;
            } else {
                self.trailer_count += 1;
                if self.trailer_count > limits.max_header_count {
                    return Err(Fault::TrailersTooLarge);
                }
                store(line, &mut self.trailers)?;
            }
            self.line.clear();
        }
        Ok(taken)
    }
}

/// RFC 9112 7.1.2: a field like those of a head.
fn store(line: &[u8], trailers: &mut Headers) -> Result<(), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::FoldedLine);
    }
    let colon = memchr::memchr(b':', line).ok_or(Fault::FieldName)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if !is_token(name) {
        let blank = matches!(name.last(), Some(b' ' | b'\t'));
        return Err(if blank { Fault::BlankBeforeColon } else { Fault::FieldName });
    }
    if !is_field_value(&line[colon + 1..]) {
        return Err(Fault::FieldValue);
    }
    let known = Known::of(name);
    if trailer_allowed(known, name) {
        trailers.push(known, name, value);
    }
    Ok(())
}
