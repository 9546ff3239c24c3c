//! Which known name a field has: one hash of two words, one comparison of them.
//!
//! Every field of every message passes here; a search through the names of equal length cost 190
//! instructions for each, this costs about 30. The table is made, and shown to be free of collisions, when
//! the crate is compiled.

use super::Known;

/// The known name that `name` is, in any case. `name` is a token (RFC 9110 5.6.2).
#[inline]
pub(super) fn classify(name: &[u8]) -> Known {
    let Some(key) = Key::of(name) else { return Known::Other };
    let candidate = TABLE[key.slot()];
    let known = &KEYS[candidate as usize];
    // Names of more than 16 bytes have a middle.
    let equal = key.a == known.a && key.b == known.b && key.length == known.length;
    if equal && (key.length <= 16 || name[8..16].eq_ignore_ascii_case(&candidate.as_str().as_bytes()[8..16])) {
        candidate
    } else {
        Known::Other
    }
}

/// The two ends of a name, which overlap or leave at most eight bytes between them.
#[derive(Clone, Copy)]
struct Key {
    a: u64,
    b: u64,
    length: usize,
}

impl Key {
    const NONE: Self = Self { a: 0, b: 0, length: 0 };

    /// `None`: it is longer than every known name, or empty. Of the bytes of tokens only letters become letters by
    /// setting 0x20; digits and `-` stay as they are.
    #[inline]
    const fn of(name: &[u8]) -> Option<Self> {
        const LOWER: u64 = 0x2020_2020_2020_2020;
        let length = name.len();
        if length == 0 || length > LONGEST {
            return None;
        }
        let (a, b) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first) | LOWER, u64::from_le_bytes(*last) | LOWER),
            _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(first), Some(last)) => (
                    (u32::from_le_bytes(*first) | LOWER as u32) as u64,
                    (u32::from_le_bytes(*last) | LOWER as u32) as u64,
                ),
                _ => {
                    let three = [name[0] | 0x20, name[length / 2] | 0x20, name[length - 1] | 0x20, 0];
                    (u32::from_le_bytes(three) as u64, 0)
                }
            },
        };
        Some(Self { a, b, length })
    }

    /// A perfect hash of the names. The factor was found by trying; the assertion in `TABLE` says whether it still
    /// serves after a name was added.
    #[inline]
    const fn slot(self) -> usize {
        const FACTOR: u64 = 0x9176_6207_387c_c283;
        let mixed = (self.a ^ self.b.rotate_left(23)).wrapping_add(self.length as u64);
        (mixed.wrapping_mul(FACTOR) >> (64 - SLOTS.trailing_zeros())) as usize
    }
}

const SLOTS: usize = 128;

const LONGEST: usize = 23;

/// By the number of the known name.
static KEYS: [Key; Known::ALL.len() + 1] = {
    let mut keys = [Key::NONE; Known::ALL.len() + 1];
    let mut i = 0;
    while i < Known::ALL.len() {
        let Some(key) = Key::of(Known::ALL[i].as_str().as_bytes()) else {
            panic!("no known name is empty or too long")
        };
        keys[Known::ALL[i] as usize] = key;
        i += 1;
    }
    keys
};

static TABLE: [Known; SLOTS] = {
    let mut table = [Known::Other; SLOTS];
    let mut i = 0;
    while i < Known::ALL.len() {
        let Some(key) = Key::of(Known::ALL[i].as_str().as_bytes()) else {
            panic!("no known name is empty or too long")
        };
        assert!(matches!(table[key.slot()], Known::Other), "two known names share a slot: find another factor");
        table[key.slot()] = Known::ALL[i];
        i += 1;
    }
    table
};
