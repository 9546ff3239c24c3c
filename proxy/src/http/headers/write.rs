//! Writing fields as lines of HTTP/1.
//!
//! A head that was parsed stands in the arena as it came. Where neighbouring fields stand there exactly as
//! they would be written, `Name: value CR LF`, they are copied together; what was edited, added or spelt
//! with other blanks is written piece by piece. The bytes written are the same either way.

use super::{Headers, KnownSet, slice};

impl Headers {
    /// Appends a line for each field, in order, but for those of the names in `apart`.
    pub(crate) fn write_lines(&self, apart: KnownSet, out: &mut Vec<u8>) {
        // A piece of the arena that is due to be written.
        let (mut start, mut end) = (0, 0);
        for field in &self.fields {
            if apart.has(field.known) {
                continue;
            }
            let name = field.name.start as usize;
            if !field.line {
                out.extend_from_slice(&self.arena[start..end]);
                (start, end) = (name, name);
                write_line(slice(&self.arena, field.name), slice(&self.arena, field.value), out);
                continue;
            }
            if name != end {
                out.extend_from_slice(&self.arena[start..end]);
                start = name;
            }
            end = field.value.start as usize + field.value.len as usize + 2;
        }
        out.extend_from_slice(&self.arena[start..end]);
    }
}

/// Appends one field.
pub(in crate::http) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // One reservation for four writes.
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
