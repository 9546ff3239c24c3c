//! HPACK, the compression of header fields in HTTP/2 (RFC 7541).
//!
//! Sans-io: a [`Decoder`] reads complete header blocks of one connection in their order, an [`Encoder`] appends to a
//! vector. What is known of a field (which name it is, whether RFC 9113 allows it) is found once, when it is put in a
//! table, and comes with each use: a field that comes again costs a look at one entry, no classification, no check, no
//! copy.
//!
//! Memory: the dynamic table of each direction allocates nothing before its first field, and at most twice its
//! size in text and half its size in entries (4096 bytes by default: 10 KiB). The encoder's index is 1.5 KiB.
//! All input is hostile: every length is checked against what there is, integers have 32 bits, and text that Huffman
//! coding expands is at most 8/5 of what came.

mod decode;
mod encode;
mod huffman;
mod integer;
mod static_table;
mod table;
mod validity;

use super::{Headers, Known};

pub use decode::Decoder;
pub use encode::Encoder;
pub(in crate::http) use encode::differs;

/// The size of both dynamic tables until something else is agreed on, in bytes (RFC 9113 6.5.2).
const DEFAULT_TABLE: usize = 4096;

/// What an entry counts beyond its text, in bytes (RFC 7541 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Which pseudo-header field a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:protocol` (RFC 8441)
    Protocol,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
}

/// What a name is, found once when it is put in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A pseudo-header field.
    Pseudo(Pseudo),
    /// A name that starts with `:` and is none of these.
    UnknownPseudo,
    /// Any other name; [`Known::Other`] for those that are not known, and for those that are no lower-case tokens.
    Regular(Known),
}

/// One field as it was decoded.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// What the name is.
    pub class: Class,
    /// The name as it came.
    pub name: &'a [u8],
    /// The value as it came.
    pub value: &'a [u8],
    /// The name is a lower-case token, or `:` and one; the value has no control characters but tabs, and no blank
    /// or tab at its ends (RFC 9113 8.2.1, RFC 9110 5.5).
    pub valid: bool,
    /// `name: value CR LF` if it stands so in a table; else empty.
    line: &'a [u8],
}

impl Field<'_> {
    /// Appends it to `headers`: one copy for a field that stands in the dynamic table. It has to be valid and of
    /// [`Class::Regular`]; a pseudo-header field is none of those that `headers` holds, and is left out.
    #[inline]
    pub fn append_to(&self, headers: &mut Headers) {
        let Class::Regular(known) = self.class else { return };
        if self.line.is_empty() {
            return headers.push(known, self.name, self.value);
        }
        let at = headers.adopt(self.line);
        let value = at + self.name.len() + SEPARATOR.len();
        headers.push_at(known, (at, self.name.len()), (value, self.value.len()), true);
    }
}

/// What stands between a name and its value, as [`Headers`] writes it.
const SEPARATOR: &[u8; 2] = b": ";

/// Why a header block cannot be decoded. The tables of both sides differ from now on, so each is an error of the
/// connection: COMPRESSION_ERROR (RFC 9113 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// RFC 7541 5.1, 5.2
    #[error("the header block ends within a field")]
    Truncated,
    /// RFC 7541 5.1
    #[error("an integer in the header block has more than 32 bits or five continuation bytes")]
    Integer,
    /// RFC 7541 2.3.3, 6.1
    #[error("the header block refers to index {0}, which neither table has")]
    Index(u32),
    /// RFC 7541 5.2
    #[error("a Huffman-coded string has the end-of-string symbol in it")]
    EndOfString,
    /// RFC 7541 5.2
    #[error("a Huffman-coded string ends in neither a symbol nor at most seven one-bits")]
    Padding,
    /// RFC 7541 6.3
    #[error("the header block sets the table to {size} bytes, the announced maximum is {most}")]
    TableSize {
        /// What it sets, in bytes.
        size: u32,
        /// What was announced, in bytes.
        most: usize,
    },
    /// RFC 7541 4.2
    #[error("the header block changes the size of the table after a field")]
    LateTableSize,
}

#[cfg(test)]
mod tests;
