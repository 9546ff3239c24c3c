//! Which known name a field has: one hash of four numbers, one comparison of at most three words.
//!
//! Every field of every message passes here; a search through the names of equal length cost 190
//! instructions for each, this costs about 30. The table is made, and shown to be free of collisions, when
//! the crate is compiled.

use super::Known;

/// The known name that `name` is, in any case. `name` is a token (RFC 9110 5.6.2).
pub(super) fn classify(name: &[u8]) -> Known {
    let Some(slot) = slot(name) else { return Known::Other };
    let candidate = TABLE[slot];
    if same(name, NAMES[candidate as usize].as_bytes()) { candidate } else { Known::Other }
}

/// A perfect hash of the names: length, first, middle and last byte tell all of them apart. The factors
/// were found by trying; the assertion in `TABLE` says whether they still serve after a name was added.
const fn slot(name: &[u8]) -> Option<usize> {
    let length = name.len();
    if length == 0 || length > LONGEST {
        return None;
    }
    // 0x20 makes letters lower case and leaves digits and `-` as they are.
    let (first, middle, last) = (name[0] | 0x20, name[length / 2] | 0x20, name[length - 1] | 0x20);
    Some((length * 26 + first as usize * 40 + middle as usize * 21 + last as usize) % SLOTS)
}

const SLOTS: usize = 128;

const LONGEST: usize = 23;

/// True if `name` is `lower` in any case, eight bytes at a time; the words overlap. Of the bytes of tokens
/// only letters become letters by setting 0x20.
fn same(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) else {
        return name.eq_ignore_ascii_case(lower);
    };
    let (Some(lower_first), Some(lower_last)) = (lower.first_chunk::<8>(), lower.last_chunk::<8>()) else {
        return false;
    };
    let equal = fold(first) == u64::from_ne_bytes(*lower_first) && fold(last) == u64::from_ne_bytes(*lower_last);
    // Names of 17 to 23 bytes have a middle.
    equal && (name.len() <= 16 || name[8..16].eq_ignore_ascii_case(&lower[8..16]))
}

fn fold(word: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*word) | 0x2020_2020_2020_2020
}

static NAMES: [&str; Known::ALL.len() + 1] = {
    let mut names = [""; Known::ALL.len() + 1];
    let mut i = 0;
    while i < Known::ALL.len() {
        names[Known::ALL[i] as usize] = Known::ALL[i].as_str();
        i += 1;
    }
    names
};

static TABLE: [Known; SLOTS] = {
    let mut table = [Known::Other; SLOTS];
    let mut i = 0;
    while i < Known::ALL.len() {
        let name = Known::ALL[i].as_str().as_bytes();
        assert!(name.len() <= LONGEST);
        let Some(slot) = slot(name) else { panic!("a known name is not empty") };
        assert!(matches!(table[slot], Known::Other), "two known names share a slot: find other factors");
        table[slot] = Known::ALL[i];
        i += 1;
    }
    table
};
