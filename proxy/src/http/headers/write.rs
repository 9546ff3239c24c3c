//! Writing fields as lines of HTTP/1.
//!
//! A head that was parsed stands in the arena as it came. Where neighbouring fields stand there exactly as
//! they would be written, `Name: value CR LF`, they are copied together; what was edited, added or spelt
//! with other blanks is written piece by piece. The bytes written are the same either way.

use super::{Field, Headers, Known, slice};

impl Headers {
    /// Appends a line for each field, in order, for which `wanted` holds.
    pub(in crate::http) fn write_lines(&self, mut wanted: impl FnMut(Known) -> bool, out: &mut Vec<u8>) {
        // A piece of the arena that is due to be written.
        let (mut start, mut end) = (0, 0);
        for field in &self.fields {
            if !wanted(field.known) {
                continue;
            }
            let name = field.name.start as usize;
            match self.line_end(field) {
                Some(line_end) if name == end => end = line_end,
                line_end => {
                    out.extend_from_slice(&self.arena[start..end]);
                    (start, end) = (name, line_end.unwrap_or(name));
                    if line_end.is_none() {
                        write_line(slice(&self.arena, field.name), slice(&self.arena, field.value), out);
                    }
                }
            }
        }
        out.extend_from_slice(&self.arena[start..end]);
    }

    /// Where the field's line ends, if it stands in the arena as it is written.
    fn line_end(&self, field: &Field) -> Option<usize> {
        let colon = field.name.start as usize + field.name.len as usize;
        let value = field.value.start as usize;
        let end = value + field.value.len as usize;
        (value == colon + 2
            && self.arena.get(colon..value) == Some(b": ")
            && self.arena.get(end..end + 2) == Some(b"\r\n"))
        .then_some(end + 2)
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
