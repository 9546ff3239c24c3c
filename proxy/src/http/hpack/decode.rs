//! Reading header blocks (RFC 7541 3.2, 6).

use super::{
    Class, DEFAULT_TABLE, DecodeError, Field, huffman, integer, static_table,
    table::{Entry, Name, NameText, Table},
    validity,
};

/// What is kept between blocks of the memory that Huffman-coded strings are expanded to, in bytes: that of usual
/// fields. A block needs 8/5 of its length at most.
const KEPT_SCRATCH: usize = 2048;

/// The index of the newest entry of the dynamic table (RFC 7541 2.3.3).
const FIRST_DYNAMIC: u32 = static_table::LEN as u32 + 1;

/// The fields of one direction of one connection, block by block in their order.
pub struct Decoder {
    table: Table,
    /// What was announced, in bytes.
    announced: usize,
    scratch: Vec<u8>,
}

/// A string of a block, and where it is.
#[derive(Clone, Copy)]
enum Text<'b> {
    /// In the block.
    Plain(&'b [u8]),
    /// Between two places of the scratch memory.
    Scratch(usize, usize),
}

impl<'a> Text<'a> {
    #[inline]
    fn bytes(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Scratch(start, end) => &scratch[start..end],
        }
    }
}

/// A literal, and what becomes of it.
struct Literal<'b> {
    name: LiteralName<'b>,
    class: Class,
    name_valid: bool,
    value: Text<'b>,
    value_valid: bool,
    insert: bool,
}

#[derive(Clone, Copy)]
enum LiteralName<'b> {
    Text(Text<'b>),
    Entry(Entry),
}

impl Decoder {
    /// `max_table`: the SETTINGS_HEADER_TABLE_SIZE that was announced, in bytes, at most 2^24. The table has 4096 bytes
    /// until the peer sets it to something else: that is what RFC 9113 6.5.2 begins with, and what holds while the
    /// settings are on their way.
    #[must_use]
    pub fn new(max_table: usize) -> Self {
        let announced = max_table.min(1 << 24);
        Self { table: Table::new(DEFAULT_TABLE, announced.max(DEFAULT_TABLE)), announced, scratch: Vec::new() }
    }

    /// Decodes a complete header block, and gives each field to `sink` in its order. The caller bounds the length of
    /// the block, and what `sink` takes: a field that is one byte in the block can be 4 KiB in the table.
    ///
    /// # Errors
    /// The block is malformed: COMPRESSION_ERROR of the connection. `sink` has had the fields before the fault.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl FnMut(Field<'_>)) -> Result<(), DecodeError> {
        let mut rest = block;
        if let Some(0x20..=0x3f) = rest.first() {
            self.sizes(&mut rest)?;
        }
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            // One call of the sink, so that it becomes a part of this loop.
            let mut literal = None;
            let field = if first >= 0x80 {
                self.indexed(integer::decode(first, 7, &mut rest)?)?
            } else {
                let literal = literal.insert(self.literal(first, &mut rest)?);
                self.field(literal)
            };
            sink(field);
            // After the sink, for it may drop the entry that the name is of.
            if let Some(literal) = &literal {
                self.insert(literal);
            }
        }
        if self.scratch.len() > KEPT_SCRATCH {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// Takes the changes of the table's size off the beginning of a block (RFC 7541 4.2, 6.3).
    #[cold]
    fn sizes(&mut self, block: &mut &[u8]) -> Result<(), DecodeError> {
        while let Some((&first @ 0x20..=0x3f, after)) = block.split_first() {
            *block = after;
            let size = integer::decode(first, 5, block)?;
            if size as usize > self.announced {
                return Err(DecodeError::TableSize { size, most: self.announced });
            }
            self.table.set_max(size as usize);
        }
        Ok(())
    }

    /// RFC 7541 6.1.
    #[inline(always)] // Most fields come here; a call would pass nine words by memory, 30 instructions.
    fn indexed(&self, index: u32) -> Result<Field<'_>, DecodeError> {
        if let Some(back) = index.checked_sub(FIRST_DYNAMIC) {
            let entry = self.table.entry(back).ok_or(DecodeError::Index(index))?;
            return Ok(self.table.field(entry));
        }
        let field = static_table::get(index).ok_or(DecodeError::Index(index))?;
        Ok(Field { class: field.class, name: field.name, value: field.value, valid: true, line: &[] })
    }

    /// RFC 7541 6.2.
    #[inline(never)]
    fn literal<'b>(&mut self, first: u8, rest: &mut &'b [u8]) -> Result<Literal<'b>, DecodeError> {
        let insert = first >= 0x40;
        if !insert && first >= 0x20 {
            return Err(DecodeError::LateTableSize);
        }
        let index = integer::decode(first, if insert { 6 } else { 4 }, rest)?;
        let mut used = 0;
        let (name, class, name_valid) = if index == 0 {
            let text = string(rest, &mut self.scratch, &mut used)?;
            let (class, valid) = validity::classify(text.bytes(&self.scratch));
            (LiteralName::Text(text), class, valid)
        } else {
            self.indexed_name(index)?
        };
        let value = string(rest, &mut self.scratch, &mut used)?;
        let value_valid = validity::is_value(value.bytes(&self.scratch));
        Ok(Literal { name, class, name_valid, value, value_valid, insert })
    }

    fn indexed_name(&self, index: u32) -> Result<(LiteralName<'static>, Class, bool), DecodeError> {
        if let Some(back) = index.checked_sub(FIRST_DYNAMIC) {
            let entry = self.table.entry(back).ok_or(DecodeError::Index(index))?;
            return Ok((LiteralName::Entry(*entry), entry.class, entry.name_valid));
        }
        let field = static_table::get(index).ok_or(DecodeError::Index(index))?;
        Ok((LiteralName::Text(Text::Plain(field.name)), field.class, true))
    }

    fn field<'a>(&'a self, literal: &Literal<'a>) -> Field<'a> {
        let name = match &literal.name {
            LiteralName::Text(text) => text.bytes(&self.scratch),
            LiteralName::Entry(entry) => self.table.name(entry),
        };
        let (value, valid) = (literal.value.bytes(&self.scratch), literal.name_valid & literal.value_valid);
        Field { class: literal.class, name, value, valid, line: &[] }
    }

    /// Puts it in the table if it says so.
    #[inline(never)]
    fn insert(&mut self, literal: &Literal<'_>) {
        if !literal.insert {
            return;
        }
        let text = match &literal.name {
            LiteralName::Text(text) => NameText::Bytes(text.bytes(&self.scratch)),
            LiteralName::Entry(entry) => NameText::Entry(*entry),
        };
        let name = Name { text, class: literal.class, valid: literal.name_valid };
        self.table.insert(name, literal.value.bytes(&self.scratch), literal.value_valid);
    }
}

/// Takes a string off `rest` (RFC 7541 5.2). What Huffman coding expands goes to `scratch[used..]`.
fn string<'b>(rest: &mut &'b [u8], scratch: &mut Vec<u8>, used: &mut usize) -> Result<Text<'b>, DecodeError> {
    let (&first, after) = rest.split_first().ok_or(DecodeError::Truncated)?;
    *rest = after;
    let length = integer::decode(first, 7, rest)? as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = after;
    if first < 0x80 {
        return Ok(Text::Plain(bytes));
    }
    let start = *used;
    *used = huffman::decode(bytes, scratch, start)?;
    Ok(Text::Scratch(start, *used))
}

#[cfg(test)]
impl Decoder {
    /// Bytes of the table's text, its entries, bytes of scratch memory.
    pub(super) fn allocated(&self) -> (usize, usize, usize) {
        let (text, entries) = self.table.allocated();
        (text, entries, self.scratch.capacity())
    }

    /// The entries of the dynamic table, the newest first, and what they count.
    pub(super) fn entries(&self) -> (Vec<super::tests::Pair>, usize) {
        self.table.entries()
    }
}
