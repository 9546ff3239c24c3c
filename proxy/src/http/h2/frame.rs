//! Frames of HTTP/2 as bytes (RFC 9113 4 and 6).

pub(super) use h2::Reason;

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Payload of the largest frame that is taken and sent: what every peer starts with (RFC 9113 4.2). Larger ones would
/// only make the streams of a connection wait longer for each other.
pub(super) const MAX_PAYLOAD: usize = 16 * 1024;
/// What a client sends first (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Highest identifier of a stream, and largest window.
pub(super) const MAX_31: u32 = u32::MAX >> 1;

/// Types of frames (RFC 9113 6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

/// Flags of frames (RFC 9113 6).
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 1;
    pub(in super::super) const END_STREAM: u8 = 1;
    pub(in super::super) const END_HEADERS: u8 = 4;
    pub(in super::super) const PADDED: u8 = 8;
    pub(in super::super) const PRIORITY: u8 = 32;
}

/// Identifiers of settings (RFC 9113 6.5.2).
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// Reads it from the front of `bytes`; `None` if it is not whole.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        Some(Self { length, kind: head[3], flags: head[4], stream: word(&head[5..]) & MAX_31 })
    }

    #[inline]
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// As bytes.
    #[inline]
    pub(super) fn bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

/// The first four bytes, which are there.
#[inline]
pub(super) fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Appends a frame with a payload of known bytes.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

/// Appends a SETTINGS frame.
pub(super) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let head = Head { length: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 };
    out.extend_from_slice(&head.bytes());
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a GOAWAY frame.
pub(super) fn write_goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&u32::from(reason).to_be_bytes());
    write(out, kind::GOAWAY, 0, 0, &payload);
}

/// Appends a RST_STREAM frame.
pub(super) fn write_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    write(out, kind::RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes());
}

/// Appends a WINDOW_UPDATE frame.
pub(super) fn write_window(out: &mut Vec<u8>, stream: u32, by: u32) {
    write(out, kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

/// Appends a header block, begun by `encode` behind what is in `out`: a HEADERS frame, and CONTINUATION frames for what
/// does not fit into it.
pub(super) fn write_block(out: &mut Vec<u8>, stream: u32, end_stream: bool, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    encode(out);
    let length = out.len() - start - HEAD;
    let ended = if end_stream { flag::END_STREAM } else { 0 };
    let (flags, rest) = match length {
        0..=MAX_PAYLOAD => (flag::END_HEADERS, Vec::new()),
        _ => (0, out.split_off(start + HEAD + MAX_PAYLOAD)),
    };
    let head = Head { length: length - rest.len(), kind: kind::HEADERS, flags: flags | ended, stream };
    out[start..start + HEAD].copy_from_slice(&head.bytes());
    let mut parts = rest.chunks(MAX_PAYLOAD).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
        write(out, kind::CONTINUATION, flags, stream, part);
    }
}

/// The payload without its padding (RFC 9113 6.1); `None` if there is more padding than payload.
#[inline]
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head { length: 0x01_02_03, kind: 9, flags: 0x25, stream: MAX_31 };
        assert_eq!(Head::read(&head.bytes()), Some(head));
        assert_eq!(Head::read(&head.bytes()[..8]), None);
    }

    #[test]
    fn a_block_that_is_too_large_goes_on_in_continuations() {
        for size in [0, 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 3 * MAX_PAYLOAD, 3 * MAX_PAYLOAD + 5] {
            let mut out = b"before".to_vec();
            write_block(&mut out, 5, true, |out| out.resize(out.len() + size, 7));
            let (mut at, mut total, mut kinds) = (6, 0, Vec::new());
            while let Some(head) = Head::read(&out[at..]) {
                assert!(head.length <= MAX_PAYLOAD && head.stream == 5, "{size}: {head:?}");
                kinds.push((head.kind, head.flags));
                (at, total) = (at + HEAD + head.length, total + head.length);
            }
            let frames = size.div_ceil(MAX_PAYLOAD).max(1);
            assert_eq!((at, total, kinds.len()), (out.len(), size, frames));
            assert_eq!(kinds[0].1 & flag::END_STREAM, flag::END_STREAM);
            assert!(kinds.iter().enumerate().all(|(i, k)| (k.1 & flag::END_HEADERS != 0) == (i + 1 == frames)));
        }
    }

    #[test]
    fn padding_ends_within_its_frame() {
        let head = |flags| Head { length: 0, kind: 0, flags, stream: 1 };
        assert_eq!(unpadded(head(0), b"\x02ab"), Some(&b"\x02ab"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x02abc"), Some(&b"a"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x03abc"), Some(&b""[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x04abc"), None);
        assert_eq!(unpadded(head(flag::PADDED), b""), None);
    }
}
