//! Values of log lines, made safe: what a caller sends ends neither a string nor a line, and never reaches
//! a terminal as a control sequence.
//!
//! Most values need nothing, which one scan finds out; then they are copied whole.

/// Bytes of one value in a line. A head may have 60 KiB; ten such fields would fill the buffer with one line.
pub(crate) const VALUE_LIMIT: usize = 4096;

/// Appends `value` as a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn json(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    each(out, value);
    out.push(b'"');
}

/// Appends `value` as the value of `key=value` text: bare if it can be, quoted otherwise.
pub(crate) fn text(out: &mut Vec<u8>, value: &[u8]) {
    if !value.is_empty() && value.len() <= VALUE_LIMIT && !any(value, special_in_text) {
        out.extend_from_slice(value);
        return;
    }
    json(out, value);
}

/// Is there a byte for which `test` holds? Looks at all of them, without a branch, so that it becomes a few
/// vector instructions; values are short and hits are rare.
#[inline]
fn any(value: &[u8], test: impl Fn(u8) -> bool) -> bool {
    value.iter().fold(false, |found, &b| found | test(b))
}

/// Bytes that a JSON string cannot have as they are, or that may begin a character worth an escape.
#[inline]
fn special(b: u8) -> bool {
    !(0x20..0x7f).contains(&b) | (b == b'"') | (b == b'\\')
}

#[inline]
fn special_in_text(b: u8) -> bool {
    !(0x21..0x7f).contains(&b) | (b == b'"') | (b == b'\\') | (b == b'=')
}

/// Copies runs of plain bytes, and escapes the rest character by character.
fn each(out: &mut Vec<u8>, value: &[u8]) {
    let cut = value.len() > VALUE_LIMIT;
    let value = if cut { &value[..boundary(value, VALUE_LIMIT)] } else { value };
    if any(value, special) {
        for chunk in value.utf8_chunks() {
            let mut plain = chunk.valid();
            while let Some(at) = plain.bytes().position(special) {
                // All bytes before a special one are ASCII, so `at` is a boundary.
                out.extend_from_slice(&plain.as_bytes()[..at]);
                let mut rest = plain[at..].chars();
                if let Some(c) = rest.next() {
                    json_char(out, c);
                }
                plain = rest.as_str();
            }
            out.extend_from_slice(plain.as_bytes());
            if !chunk.invalid().is_empty() {
                json_char(out, char::REPLACEMENT_CHARACTER);
            }
        }
    } else {
        out.extend_from_slice(value);
    }
    if cut {
        out.extend_from_slice("\u{2026}".as_bytes());
    }
}

/// The last place at or before `limit` where a character may begin.
fn boundary(value: &[u8], limit: usize) -> usize {
    (limit.saturating_sub(3)..=limit).rev().find(|&i| value[i] & 0xc0 != 0x80).unwrap_or(limit)
}

fn json_char(out: &mut Vec<u8>, c: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // C0, DEL, C1; the bidirectional overrides and line separators, which deceive readers of a terminal.
        c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            let code = c as u32;
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                out.push(HEX[(code >> shift & 0xf) as usize]);
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
