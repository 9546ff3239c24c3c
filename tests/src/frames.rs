//! HTTP/2 frames by hand, for peers that break the rules.
//!
//! Header blocks are literals without indexing or Huffman coding (RFC 7541 6.2.2), so any byte can be put into
//! them; answers are seen as frames only, their header blocks are not decoded.

use std::{
    io::{self, Read},
    net::SocketAddr,
};

use crate::Wire;

/// Frame types of RFC 9113.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM, and ACK.
pub const END_STREAM: u8 = 1;
/// END_HEADERS.
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    #[must_use]
    pub fn error(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        self.payload.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// A client connection.
#[derive(Debug)]
pub struct Frames {
    wire: Wire,
}

impl Frames {
    /// Connects, sends preface and empty SETTINGS.
    #[must_use]
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        let mut frames = Self { wire: Wire::connect(to) };
        frames.wire.send(PREFACE);
        frames.send(kind::SETTINGS, 0, 0, &[]).expect("a fresh connection");
        frames
    }

    /// Sends one frame; an error means that the peer has closed.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.wire.try_send(frame(kind, flags, stream, payload))
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.try_send(bytes)
    }

    /// Sends a `GET /` with these fields after the pseudo-headers, and ends the stream.
    pub fn get(&mut self, stream: u32, more: &[(&str, &str)]) -> io::Result<()> {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")];
        fields.extend(more);
        self.send(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    }

    /// The next frame; `None` at the end of the connection.
    pub fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 9];
        if let Err(error) = self.wire.read_exact(&mut head) {
            let ended = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            return if ended { Ok(None) } else { Err(error) };
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length];
        self.wire.read_exact(&mut payload)?;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == kind::SETTINGS && frame.flags & 1 == 0 {
            self.send(kind::SETTINGS, 1, 0, &[]).ok();
        }
        Ok(Some(frame))
    }

    /// Frames up to the first that `wanted` accepts; `None` if the connection ends before it.
    #[track_caller]
    pub fn find(&mut self, mut wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read().expect("frames or an end")?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// How the peer ended a stream or the connection: the error code of the first RST_STREAM or GOAWAY.
    #[track_caller]
    pub fn refusal(&mut self) -> Option<u32> {
        self.find(|frame| frame.error().is_some()).and_then(|frame| frame.error())
    }

    /// The status of the answer on `stream`, if it comes as the first field and indexed or literal.
    #[track_caller]
    pub fn status(&mut self, stream: u32) -> Option<u16> {
        let frame = self.find(|f| f.stream == stream && (f.kind == kind::HEADERS || f.error().is_some()))?;
        (frame.kind == kind::HEADERS).then(|| status(&frame.payload)).flatten()
    }
}

/// The status in a HEADERS frame, under the same condition.
#[must_use]
pub fn status_of(frame: &Frame) -> Option<u16> {
    // Neither padding nor priority: this proxy's library sends none.
    status(&frame.payload)
}

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("payloads of tests are small");
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len(), 7);
            out.extend(text.bytes());
        }
    }
    out
}

/// RFC 7541 5.1, with the bits before the prefix zero.
fn integer(out: &mut Vec<u8>, mut value: usize, prefix: u32) {
    let max = (1 << prefix) - 1;
    if value < max {
        out.push(u8::try_from(value).expect("below the prefix's maximum"));
        return;
    }
    out.push(u8::try_from(max).expect("at most 7 bits"));
    value -= max;
    while value >= 128 {
        out.push(u8::try_from(value % 128 + 128).expect("below 256"));
        value /= 128;
    }
    out.push(u8::try_from(value).expect("below 128"));
}

/// `:status` at the start of a header block: from the static table, or a literal with an indexed name.
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A table size update may come first (RFC 7541 4.2).
    let block = if block.first()? & 0xe0 == 0x20 { &block[1..] } else { block };
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return INDEXED.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let length = *block.get(1)?;
    let text = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { huffman_digits(text) }
}

/// Three Huffman-coded digits (RFC 7541 appendix B: `0`-`2` have 5 bits, `3`-`9` six).
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let take =
        |at: usize, n: usize| Some(bits.get(at..at + n)?.iter().fold(0u16, |sum, bit| sum << 1 | u16::from(*bit)));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = take(at, 5)?;
        let digit = if short < 3 {
            at += 5;
            short
        } else {
            let long = take(at, 6)?;
            at += 6;
            long.checked_sub(0x19)? + 3
        };
        value = value * 10 + digit;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_literals_use_continuation_bytes() {
        let long = "x".repeat(300);
        let bytes = block(&[("a", &long)]);
        assert_eq!(&bytes[..6], &[0, 1, b'a', 127, 173, 1]);
    }

    #[test]
    fn statuses_are_read_in_all_codings() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x48, 3, b'4', b'3', b'1']), Some(431));
        // RFC 7541 C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
    }
}
