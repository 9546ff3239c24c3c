//! Finds fields and names in the encoder's table without a search.
//!
//! A hash of a field points to two places that may have the number of its entry; what the entry is gets compared. So a
//! collision, or an entry that was dropped, costs a miss: the field is sent as a literal. Nothing else depends on the
//! hash, which therefore need not resist an attacker, who could as well send values that never come again.

use super::{Class, Table, static_table};

/// Sets of two places for fields: four times as many places as the table has entries of usual size (64 bytes).
const FIELDS: usize = 128;

/// Places for names that the static table has not.
const NAMES: usize = 64;

/// Places for fields that were seen once.
const SEEN: usize = 64;

/// Numbers of entries, or what a place began with: what is found is compared.
#[derive(Clone)]
struct Places {
    fields: [[u32; 2]; FIELDS],
    names: [u32; NAMES],
    seen: [u32; SEEN],
}

/// Allocates its places, 1.5 KiB, when they are first needed.
#[derive(Default)]
pub(super) struct Finder {
    places: Option<Box<Places>>,
}

/// The hash of a field, and that of its name.
#[derive(Clone, Copy)]
pub(super) struct Hash {
    field: u64,
    name: u64,
}

/// Odd, without a pattern: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of a field; the name of a class that tells it need not be read.
#[inline]
pub(super) fn hash(class: Class, name: &[u8], value: &[u8]) -> Hash {
    let name = match class {
        Class::Regular(crate::http::Known::Other) => bytes(1, name),
        Class::Regular(known) => (known as u64 + 2).wrapping_mul(FACTOR),
        Class::Pseudo(_) | Class::UnknownPseudo => 2_u64.wrapping_mul(FACTOR),
    };
    Hash { field: bytes(name, value), name }
}

/// Eight bytes at a time; the last eight overlap those before them.
#[inline]
fn bytes(seed: u64, text: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let hash = seed ^ (text.len() as u64).wrapping_mul(FACTOR);
    let hash = if let Some(last) = text.last_chunk::<8>() {
        let (whole, _) = text.as_chunks::<8>();
        let hash = whole.iter().fold(hash, |hash, eight| mix(hash, u64::from_le_bytes(*eight)));
        mix(hash, u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        mix(hash, u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)))
    } else if let [first, .., last] = text {
        mix(hash, u64::from(u32::from_le_bytes([*first, text[text.len() / 2], *last, 0])))
    } else {
        mix(hash, text.first().map_or(0, |b| u64::from(*b)))
    };
    hash.wrapping_mul(FACTOR)
}

/// The highest bits of a hash are its best.
#[inline]
fn place<const N: usize>(hash: u64) -> usize {
    (hash >> (u64::BITS - N.trailing_zeros())) as usize
}

impl Finder {
    /// The index of a field.
    #[inline]
    pub(super) fn field(&self, table: &Table, hash: Hash, class: Class, name: &[u8], value: &[u8]) -> Option<usize> {
        let set = &self.places.as_ref()?.fields[place::<FIELDS>(hash.field)];
        for number in set {
            let back = table.back(*number);
            if let Some(entry) = table.entry(back)
                && entry.class == class
                && table.value(entry) == value
                && (named(class) || table.name(entry) == name)
            {
                return Some(index(back));
            }
        }
        None
    }

    /// The index of a name that has an entry.
    pub(super) fn name(&self, table: &Table, hash: Hash, class: Class, name: &[u8]) -> Option<usize> {
        let back = table.back(self.places.as_ref()?.names[place::<NAMES>(hash.name)]);
        let entry = table.entry(back).filter(|entry| entry.class == class)?;
        (named(class) || table.name(entry) == name).then(|| index(back))
    }

    /// True if the field was seen not long ago; it has been seen now.
    pub(super) fn seen(&mut self, hash: Hash) -> bool {
        let mark = (hash.field >> 16) as u32;
        let place = &mut self.places().seen[place::<SEEN>(hash.field)];
        std::mem::replace(place, mark) == mark
    }

    /// Remembers the number of a field that is put in the table. Of its set the older one goes.
    pub(super) fn insert(&mut self, hash: Hash, number: u32) {
        let places = self.places();
        let set = &mut places.fields[place::<FIELDS>(hash.field)];
        *set = [number, set[0]];
        places.names[place::<NAMES>(hash.name)] = number;
    }

    fn places(&mut self) -> &mut Places {
        self.places
            .get_or_insert_with(|| Box::new(Places { fields: [[0; 2]; FIELDS], names: [0; NAMES], seen: [0; SEEN] }))
    }
}

/// True if a class stands for one name.
#[inline]
fn named(class: Class) -> bool {
    !matches!(class, Class::Regular(crate::http::Known::Other))
}

/// Of an entry with `back` newer ones (RFC 7541 2.3.3).
#[inline]
fn index(back: u32) -> usize {
    static_table::LEN + 1 + back as usize
}
