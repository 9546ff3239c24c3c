//! Writing header blocks (RFC 7541 6).
//!
//! Strings are sent as they are: those that come again are sent once and are an index from then on, those that differ
//! would cost the time of Huffman coding, here and at the peer, to save a fifth of their bytes inside a cluster.
//!
//! What goes into the dynamic table: a field whose name is new to the peer, and a field that is seen a second time. A
//! value that is another for each message thus pushes nothing out, whatever its name, and is sent with the index of
//! its name. Names of secrets (RFC 7541 7.1.3) and of fields that differ in each message by their nature are never
//! put in and never looked for.

mod finder;
mod rules;

use super::{
    Class, DEFAULT_TABLE, ENTRY_OVERHEAD, Known, Pseudo, integer, static_table,
    table::{Name, NameText, Table},
};
use finder::{Finder, Hash};
pub(in crate::http) use rules::differs;
use rules::{Rule, rule};

/// A part of the table that a field may take at most: a larger one would push out most of what comes again.
const LARGEST_PART: usize = 4;

/// What is kept of the memory for names in lower case, in bytes: that of usual names.
const KEPT_NAME: usize = 256;

/// The bits that say what a field is, with the length of the prefix behind them (RFC 7541 6).
const INDEXED: (u8, u32) = (0x80, 7);
const INSERT: (u8, u32) = (0x40, 6);
const PLAIN: (u8, u32) = (0, 4);
const NEVER: (u8, u32) = (0x10, 4);
const TABLE_SIZE: (u8, u32) = (0x20, 5);

/// The fields of one direction of one connection, block by block in their order.
pub struct Encoder {
    table: Table,
    finder: Finder,
    /// The size of the table that the peer knows, and the smallest since then, in bytes.
    announced: usize,
    smallest: usize,
    /// A name in lower case.
    name: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// With a dynamic table of 4096 bytes, and nothing allocated.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE, DEFAULT_TABLE),
            finder: Finder::default(),
            announced: DEFAULT_TABLE,
            smallest: DEFAULT_TABLE,
            name: Vec::new(),
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes; more than 4096 are not used. Announced with the next block, so
    /// it may only be said between blocks.
    pub fn set_max_table(&mut self, size: usize) {
        self.table.set_max(size);
        self.smallest = self.smallest.min(self.table.max());
    }

    /// Starts a header block: the smallest and the final size that the table had since the last one, if they are
    /// news (RFC 7541 4.2).
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let max = self.table.max();
        let between = self.smallest < max.min(self.announced);
        if between {
            integer::encode(TABLE_SIZE.0, TABLE_SIZE.1, self.smallest, out);
        }
        if between || self.announced != max {
            integer::encode(TABLE_SIZE.0, TABLE_SIZE.1, max, out);
        }
        (self.announced, self.smallest) = (max, max);
    }

    /// `:status`, three digits.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            other => {
                let mut text = itoa::Buffer::new();
                let (class, value) = (Class::Pseudo(Pseudo::Status), text.format(other).as_bytes());
                let hash = finder::hash(class, b"", value);
                if !self.found(hash, class, b"", value, out) {
                    self.missed(hash, class, b":status", 8, value, out);
                }
                return;
            }
        };
        out.push(INDEXED.0 | index);
    }

    /// A regular field: `known` is [`Known::of`] of `name`, a token in any case, which is written in lower case. The
    /// value is one that RFC 9113 8.2.1 allows.
    pub fn field(&mut self, known: Known, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if known == Known::Other {
            return self.other(name, value, out);
        }
        let prefix = match rule(known) {
            Rule::Index => return self.known(known, value, out),
            Rule::Plain => PLAIN,
            Rule::Never => NEVER,
        };
        literal(prefix, static_table::index_of_known(known).into(), known.as_str().as_bytes(), value, out);
    }

    /// A field of a known name, which is read only if it is not in the table.
    #[inline]
    fn known(&mut self, known: Known, value: &[u8], out: &mut Vec<u8>) {
        let class = Class::Regular(known);
        let hash = finder::hash(class, b"", value);
        if !self.found(hash, class, b"", value, out) {
            let index = static_table::index_of_known(known);
            self.missed(hash, class, known.as_str().as_bytes(), index, value, out);
        }
    }

    /// A field whose name is not a known one.
    fn other(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let mut lower = std::mem::take(&mut self.name);
        lower.clear();
        lower.extend(name.iter().map(u8::to_ascii_lowercase));
        let class = Class::Regular(Known::Other);
        let hash = finder::hash(class, &lower, value);
        if !self.found(hash, class, &lower, value, out) {
            self.missed(hash, class, &lower, static_table::index_of_other(&lower), value, out);
        }
        if lower.capacity() <= KEPT_NAME {
            self.name = lower;
        }
    }

    /// `content-length: N`
    pub fn content_length(&mut self, length: u64, out: &mut Vec<u8>) {
        let index = static_table::index_of_known(Known::ContentLength);
        let mut text = itoa::Buffer::new();
        literal(PLAIN, index.into(), b"", text.format(length).as_bytes(), out);
    }

    /// Appends the index of a field that is in the table. The name of a class that stands for one is not needed.
    #[inline]
    fn found(&self, hash: Hash, class: Class, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        let index = self.finder.field(&self.table, hash, class, name, value);
        if let Some(index) = index {
            integer::encode(INDEXED.0, INDEXED.1, index, out);
        }
        index.is_some()
    }

    /// A field that is not in the table, and may get there. `index` is that of its name in the static table, or zero.
    #[cold]
    fn missed(&mut self, hash: Hash, class: Class, name: &[u8], index: u8, value: &[u8], out: &mut Vec<u8>) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let fits = size <= self.table.max() / LARGEST_PART;
        let index = match index {
            0 => self.finder.name(&self.table, hash, class, name),
            index => Some(index.into()),
        };
        if !fits || (index.is_some() && !self.finder.seen(hash)) {
            return literal(PLAIN, index.unwrap_or(0), name, value, out);
        }
        literal(INSERT, index.unwrap_or(0), name, value, out);
        self.finder.insert(hash, self.table.next_number());
        self.table.insert(Name { text: NameText::Bytes(name), class, valid: true }, value, true);
    }
}

/// A literal whose name is that of `index`, or follows if it is zero.
#[inline]
fn literal((flags, prefix): (u8, u32), index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // Three integers of at most five bytes for lengths below 2^32.
    out.reserve(name.len() + value.len() + 15);
    integer::encode(flags, prefix, index, out);
    if index == 0 {
        integer::encode(0, 7, name.len(), out);
        out.extend_from_slice(name);
    }
    integer::encode(0, 7, value.len(), out);
    out.extend_from_slice(value);
}

#[cfg(test)]
impl Encoder {
    /// The entries of the dynamic table, the newest first, and what they count.
    pub(super) fn entries(&self) -> (Vec<super::tests::Pair>, usize) {
        self.table.entries()
    }
}
