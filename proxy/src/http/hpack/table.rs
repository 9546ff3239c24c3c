//! A dynamic table (RFC 7541 2.3.2, 4): a ring of entries whose text is in one vector.
//!
//! One vector per entry would be reused as well, but an entry of 4 KiB that wanders through 128 of them leaves
//! 512 KiB behind. Here the text of a new entry goes behind that of the newest one, or to the beginning if it does not fit
//! there; it never meets text of an entry that is left:
//!
//! The vector has at most twice as many bytes as the table, M each. A new text of n bytes finds at most M - n left. If it
//! does not fit at the end, the newest entry ends beyond 2M - n, so that the oldest one begins at M or later (all stand
//! in a row) and the n bytes at the beginning are free. After that, what stands at the beginning and what is still at the
//! end are at most M together, and so are their ends apart.
//!
//! Each text is `name: value CR LF`: [`Headers`](crate::http::Headers) takes it in one copy. The two separators are
//! covered by the 32 bytes that an entry counts beyond its text.

use super::{Class, ENTRY_OVERHEAD, Field, SEPARATOR};

/// What an entry is; its text is in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Where its line begins, and how long that and the name are.
    start: u32,
    line: u32,
    name: u32,
    pub(super) class: Class,
    pub(super) name_valid: bool,
    value_valid: bool,
}

impl Entry {
    const EMPTY: Self =
        Self { start: 0, line: 0, name: 0, class: Class::UnknownPseudo, name_valid: false, value_valid: false };

    /// What it counts (RFC 7541 4.1), in bytes.
    fn size(&self) -> usize {
        self.line as usize - AROUND + ENTRY_OVERHEAD
    }
}

/// The ends of all lines.
const END: &[u8; 2] = b"\r\n";

/// What a line has beside name and value, in bytes.
const AROUND: usize = SEPARATOR.len() + END.len();

/// A name that is to be put in the table.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: NameText<'a>,
    pub(super) class: Class,
    pub(super) valid: bool,
}

/// Where its text is.
#[derive(Clone, Copy)]
pub(super) enum NameText<'a> {
    /// Outside of the table.
    Bytes(&'a [u8]),
    /// That of an entry, which may have to go for the new one (RFC 7541 4.4).
    Entry(Entry),
}

pub(super) struct Table {
    text: Vec<u8>,
    /// A power of two of them, or none; the entry of number n is at n modulo their number.
    entries: Vec<Entry>,
    /// Where the text of the next entry begins.
    next: usize,
    /// Entries so far, modulo 2^32: the number of the next one.
    inserted: u32,
    /// Entries that are left.
    len: u32,
    /// What they count (RFC 7541 4.1), in bytes.
    size: usize,
    /// What they may count now, and ever, in bytes.
    max: usize,
    most: usize,
}

impl Table {
    /// Empty, with nothing allocated. `max` is in force at first, it will never be above `most`.
    pub(super) fn new(max: usize, most: usize) -> Self {
        Self { text: Vec::new(), entries: Vec::new(), next: 0, inserted: 0, len: 0, size: 0, max, most }
    }

    /// What the entries may count, in bytes.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// What they count now, in bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The entries, the newest first, and what they count.
    #[cfg(test)]
    pub(super) fn entries(&self) -> (Vec<super::tests::Pair>, usize) {
        let fields = (0..).map_while(|back| self.entry(back)).map(|entry| self.field(entry));
        (fields.map(|f| (f.name.to_vec(), f.value.to_vec())).collect(), self.size)
    }

    /// What is allocated: bytes of text, and entries.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> (usize, usize) {
        (self.text.capacity(), self.entries.capacity())
    }

    /// Sets what the entries may count, and drops those that do not fit any more. `max` is at most `most`.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.min(self.most);
        self.evict(self.max);
    }

    /// The entry that was put in `back` entries before the newest.
    #[inline]
    pub(super) fn entry(&self, back: u32) -> Option<&Entry> {
        if back >= self.len {
            return None;
        }
        self.entries.get(self.place(self.inserted.wrapping_sub(1).wrapping_sub(back)))
    }

    /// How many entries are newer than that of a number; [`Table::entry`] says whether it is left.
    #[inline]
    pub(super) fn back(&self, number: u32) -> u32 {
        self.inserted.wrapping_sub(1).wrapping_sub(number)
    }

    /// The number that the next entry gets.
    pub(super) fn next_number(&self) -> u32 {
        self.inserted
    }

    #[inline]
    fn place(&self, number: u32) -> usize {
        number as usize & self.entries.len().wrapping_sub(1)
    }

    /// An entry as a field.
    #[inline]
    pub(super) fn field(&self, entry: &Entry) -> Field<'_> {
        let line = &self.text[entry.start as usize..][..entry.line as usize];
        let (name, rest) = line.split_at(entry.name as usize);
        let value = if let [_, _, value @ .., _, _] = rest { value } else { &[] };
        Field { class: entry.class, name, value, valid: entry.name_valid & entry.value_valid, line }
    }

    /// The name of an entry; its text stays where it is until the next entry is put in.
    #[inline]
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        &self.text[entry.start as usize..entry.start as usize + entry.name as usize]
    }

    /// The value of an entry.
    #[inline]
    pub(super) fn value(&self, entry: &Entry) -> &[u8] {
        let line = &self.text[entry.start as usize..][..entry.line as usize];
        &line[entry.name as usize + SEPARATOR.len()..line.len() - END.len()]
    }

    /// Puts an entry in, after dropping those that it has no room beside. One that is larger than the table only
    /// empties it (RFC 7541 4.4). True if it is in.
    pub(super) fn insert(&mut self, name: Name<'_>, value: &[u8], value_valid: bool) -> bool {
        let name_len = match name.text {
            NameText::Bytes(bytes) => bytes.len(),
            NameText::Entry(entry) => entry.name as usize,
        };
        let size = name_len + value.len() + ENTRY_OVERHEAD;
        self.evict(self.max.saturating_sub(size));
        if size > self.max {
            return false;
        }
        let start = self.make_room(name_len + value.len() + AROUND);
        let at = match name.text {
            NameText::Bytes(bytes) => self.write(start, bytes),
            NameText::Entry(entry) => {
                // The new text may lie over the old one; this is the first write, and a move.
                let from = entry.start as usize;
                self.text.copy_within(from..from + name_len, start);
                start + name_len
            }
        };
        let at = self.write(at, SEPARATOR);
        let at = self.write(at, value);
        self.next = self.write(at, END);
        self.size += size;
        let (start, line, name_len) = (start as u32, (self.next - start) as u32, name_len as u32);
        let (class, name_valid) = (name.class, name.valid);
        self.push(Entry { start, line, name: name_len, class, name_valid, value_valid });
        true
    }

    /// Drops the oldest entries until the rest counts at most `size`.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let oldest = self.entries[self.place(self.inserted.wrapping_sub(self.len))];
            self.size -= oldest.size();
            self.len -= 1;
        }
        if self.len == 0 {
            self.next = 0;
        }
    }

    /// Where `len` bytes can be written.
    fn make_room(&mut self, len: usize) -> usize {
        let start = if self.next + len <= 2 * self.most { self.next } else { 0 };
        let end = start + len;
        if end > self.text.capacity() {
            // Doubled, but never beyond what it will ever need.
            let more = (2 * self.text.capacity()).max(FIRST_TEXT).min(2 * self.most).max(end) - self.text.len();
            self.text.reserve_exact(more);
        }
        if end > self.text.len() {
            self.text.resize(end, 0);
        }
        start
    }

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) -> usize {
        self.text[at..at + bytes.len()].copy_from_slice(bytes);
        at + bytes.len()
    }

    fn push(&mut self, entry: Entry) {
        if self.len as usize == self.entries.len() {
            self.grow();
        }
        let place = self.place(self.inserted);
        self.entries[place] = entry;
        self.inserted = self.inserted.wrapping_add(1);
        self.len += 1;
    }

    /// Doubles the ring; each entry moves to where its number says.
    fn grow(&mut self) {
        let places = (2 * self.entries.len()).max(FIRST_ENTRIES);
        let mut grown = vec![Entry::EMPTY; places];
        for back in 0..self.len {
            if let Some(entry) = self.entry(back) {
                grown[self.inserted.wrapping_sub(1).wrapping_sub(back) as usize & (places - 1)] = *entry;
            }
        }
        self.entries = grown;
    }
}

/// What is allocated for the first entry: enough for the fields of most connections, in bytes and entries.
const FIRST_TEXT: usize = 512;
const FIRST_ENTRIES: usize = 16;
