//! The header fields of one message: ordered, case kept, in one reusable arena.
//!
//! Names and values are spans into one byte vector, so that parsing a head allocates nothing once the
//! vectors have grown, an edit is an append, and writing a head is one pass in the order in which it
//! came. `http::HeaderMap` would hash and lower-case every name, and lose the case that old HTTP/1 apps
//! depend on. Names that the proxy itself looks at are classified once, when they are put in
//! ([`Known`]); a look-up of one of those is a scan over bytes of an enum, never over strings.
//!
//! Invariants: every name is a token (RFC 9110 5.6.2), every value is free of CR, LF and NUL and of
//! leading and trailing blanks. Who puts a field in (the codecs, the policy model) has checked that.

mod classify;
mod known;
mod write;

use std::{fmt, ops::Range};

pub use known::{Known, KnownSet};

pub(super) use write::write_line;

/// A piece of the arena. Heads are bounded well below 4 GiB (`maxHeaderBytes`).
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
    known: Known,
    /// It stands in the arena as it is written: `name: value CR LF`.
    line: bool,
}

/// Header or trailer fields in the order in which they came.
#[derive(Clone, Default)]
pub struct Headers {
    arena: Vec<u8>,
    fields: Vec<Field>,
    /// No name beyond these is among the fields: what most heads do not have is answered without a search.
    /// A name that was removed may still be in it.
    names: KnownSet,
    /// One of the unknown names may be `peculiar`, or nobody has looked.
    peculiar: bool,
}

impl Headers {
    /// No field, and nothing allocated.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every field and keeps the memory for the next message.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
        self.names = KnownSet::default();
        self.peculiar = false;
    }

    /// Every name among the fields is in this set; it may have others.
    #[must_use]
    pub fn names(&self) -> KnownSet {
        self.names
    }

    /// False: every unknown name is of letters, digits and dashes, and does not begin with `x-outrigger-`.
    #[must_use]
    pub fn peculiar(&self) -> bool {
        self.peculiar
    }

    /// Gives memory back that a large message took: what an idle connection keeps is bounded by `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        self.clear();
        if self.arena.capacity() > bytes {
            self.arena = Vec::new();
        }
        if self.fields.capacity() * size_of::<Field>() > bytes {
            self.fields = Vec::new();
        }
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without a field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends a field; its name is classified here.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.push(Known::of(name), name, value);
    }

    /// Appends a field with a known name in lower case.
    pub fn append_known(&mut self, name: Known, value: &[u8]) {
        self.push(name, name.as_str().as_bytes(), value);
    }

    /// Replaces every field of that name by one; it stands where the first one stood.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let found = if self.names.has(known) { self.fields.iter().position(|f| self.is(f, known, name)) } else { None };
        self.replace(found, known, name, value);
    }

    /// [`Headers::set`] for a known name.
    pub fn set_known(&mut self, name: Known, value: &[u8]) {
        let found = if self.names.has(name) { self.fields.iter().position(|f| f.known == name) } else { None };
        self.replace(found, name, name.as_str().as_bytes(), value);
    }

    /// Drops every field of that name, and tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let known = Known::of(name);
        if known != Known::Other {
            return self.remove_known(known);
        }
        let Self { arena, fields, .. } = self;
        let before = fields.len();
        fields.retain(|f| f.known != Known::Other || !slice(arena, f.name).eq_ignore_ascii_case(name));
        before != fields.len()
    }

    /// [`Headers::remove`] for a known name.
    pub fn remove_known(&mut self, name: Known) -> bool {
        let before = self.fields.len();
        if self.names.has(name) {
            self.fields.retain(|f| f.known != name);
        }
        before != self.fields.len()
    }

    /// Keeps the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let Self { arena, fields, .. } = self;
        fields.retain(|f| keep(f.known, slice(arena, f.name), slice(arena, f.value)));
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let known = Known::of(name);
        self.fields.iter().find(|f| self.is(f, known, name)).map(|f| slice(&self.arena, f.value))
    }

    /// The value of the first field of a known name.
    #[must_use]
    pub fn get_known(&self, name: Known) -> Option<&[u8]> {
        if !self.names.has(name) {
            return None;
        }
        self.fields.iter().find(|f| f.known == name).map(|f| slice(&self.arena, f.value))
    }

    /// True if there is a field of that known name.
    #[must_use]
    pub fn has(&self, name: Known) -> bool {
        self.names.has(name) && self.fields.iter().any(|f| f.known == name)
    }

    /// Every value of a known name, in order.
    pub fn all_known(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |f| f.known == name).map(|f| slice(&self.arena, f.value))
    }

    /// Every value of that name, in order.
    pub fn all<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name);
        self.fields.iter().filter(move |f| self.is(f, known, name)).map(|f| slice(&self.arena, f.value))
    }

    /// Every field in order: class, name as it came, value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Known, &[u8], &[u8])> {
        self.fields.iter().map(|f| (f.known, slice(&self.arena, f.name), slice(&self.arena, f.value)))
    }

    /// The memory that every name and value is a piece of.
    pub(super) fn memory(&self) -> &[u8] {
        &self.arena
    }

    /// Every field in order: class, name as it came, and where its value stands in [`Headers::memory`].
    pub(super) fn places(&self) -> impl Iterator<Item = (Known, &[u8], Range<usize>)> {
        self.fields.iter().map(|f| {
            let start = f.value.start as usize;
            (f.known, slice(&self.arena, f.name), start..start + f.value.len as usize)
        })
    }

    /// Bytes of all names and values, as `SETTINGS_MAX_HEADER_LIST_SIZE` counts them (RFC 9113 6.5.2).
    #[must_use]
    pub fn list_size(&self) -> usize {
        self.fields.iter().map(|f| f.name.len as usize + f.value.len as usize + 32).sum()
    }

    fn is(&self, field: &Field, known: Known, name: &[u8]) -> bool {
        field.known == known && (known != Known::Other || slice(&self.arena, field.name).eq_ignore_ascii_case(name))
    }

    fn replace(&mut self, found: Option<usize>, known: Known, name: &[u8], value: &[u8]) {
        let Some(first) = found else {
            return self.push(known, name, value);
        };
        // The name stays as it was spelt.
        let spelt = self.fields[first].name;
        let start = self.arena.len();
        self.arena.extend_from_within(spelt.start as usize..(spelt.start + spelt.len) as usize);
        let name_len = spelt.len as usize;
        self.fields[first] = self.finish_line(known, start, name_len, value);
        let Self { arena, fields, .. } = self;
        let mut index = 0;
        fields.retain(|f| {
            index += 1;
            index - 1 <= first
                || f.known != known
                || (known == Known::Other && !slice(arena, f.name).eq_ignore_ascii_case(name))
        });
    }

    /// Appends a field whose name has been classified: `known` is [`Known::of`] of `name`.
    pub(super) fn push(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let start = self.arena.len();
        // One reservation for four writes.
        self.arena.reserve(name.len() + value.len() + 4);
        self.arena.extend_from_slice(name);
        let field = self.finish_line(known, start, name.len(), value);
        self.names.insert(known);
        self.peculiar |= known == Known::Other;
        self.fields.push(field);
    }

    /// Puts a value behind the name that ends the arena.
    #[inline]
    fn finish_line(&mut self, known: Known, start: usize, name_len: usize, value: &[u8]) -> Field {
        self.arena.extend_from_slice(b": ");
        let at = self.arena.len();
        self.arena.extend_from_slice(value);
        self.arena.extend_from_slice(b"\r\n");
        self.check_bound();
        Field { name: span(start, name_len), value: span(at, value.len()), known, line: true }
    }

    /// Copies `bytes`, text with fields in it, to where the next [`Headers::push_at`] may point: one copy for a
    /// head instead of two for each field. Returns where they stand.
    pub(crate) fn adopt(&mut self, bytes: &[u8]) -> usize {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.check_bound();
        start
    }

    /// Writes over what was adopted.
    pub(crate) fn write_at<const N: usize>(&mut self, at: usize, bytes: &[u8; N]) {
        self.arena[at..at + N].copy_from_slice(bytes);
    }

    /// Spans have 32 bits.
    #[inline]
    fn check_bound(&self) {
        assert!(self.arena.len() < u32::MAX as usize, "heads are bounded by maxHeaderBytes");
    }

    /// Where [`Headers::adopt`] will put the next bytes.
    pub(super) fn next_offset(&self) -> usize {
        self.arena.len()
    }

    /// Appends a field whose name and value stand in the arena, or will once their text is adopted, as offset and
    /// length. `line`: they stand there as they are written.
    #[inline]
    pub(crate) fn push_at(&mut self, known: Known, name: (usize, usize), value: (usize, usize), line: bool) {
        self.push_judged_at(known, name, value, line, known == Known::Other);
    }

    /// The same, of a name that was looked at: whether it is [`peculiar`](Headers::peculiar).
    #[inline]
    pub(super) fn push_judged_at(
        &mut self,
        known: Known,
        name: (usize, usize),
        value: (usize, usize),
        line: bool,
        peculiar: bool,
    ) {
        self.peculiar |= peculiar;
        self.names.insert(known);
        self.fields.push(Field { name: span(name.0, name.1), value: span(value.0, value.1), known, line });
    }
}

/// A piece of an arena that [`Headers::check_bound`] has seen, or will.
#[inline]
fn span(start: usize, len: usize) -> Span {
    Span { start: start as u32, len: len as u32 }
}

fn slice(arena: &[u8], span: Span) -> &[u8] {
    &arena[span.start as usize..span.start as usize + span.len as usize]
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |b| String::from_utf8_lossy(b).into_owned();
        f.debug_map().entries(self.iter().map(|(_, n, v)| (text(n), text(v)))).finish()
    }
}

#[cfg(test)]
mod tests;
