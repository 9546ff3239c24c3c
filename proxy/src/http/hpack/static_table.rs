//! The static table (RFC 7541 appendix A), and where in it a name stands.
//!
//! A known name has its index by its number; the others are found by a hash that is free of collisions, as the compiler
//! checks.

use super::{Class, Known, Pseudo};

/// A field of the static table; all are valid.
#[derive(Clone, Copy)]
pub(super) struct StaticField {
    pub(super) class: Class,
    pub(super) name: &'static [u8],
    pub(super) value: &'static [u8],
}

/// Number of its fields; the dynamic table begins behind them.
pub(super) const LEN: usize = TEXT.len();

/// The field of an index, which begins with one.
#[inline]
pub(super) fn get(index: u32) -> Option<&'static StaticField> {
    FIELDS.get((index as usize).wrapping_sub(1))
}

/// The first index that has a known name; zero without one, and for [`Known::Other`].
#[inline]
pub(super) fn index_of_known(known: Known) -> u8 {
    KNOWN[known as usize]
}

/// The first index that has a name which is not a known one; zero without one. `name` is in lower case.
#[inline]
pub(super) fn index_of_other(name: &[u8]) -> u8 {
    let index = OTHER[slot(name)];
    if index != 0 && FIELDS[usize::from(index) - 1].name == name { index } else { 0 }
}

/// A perfect hash of those names. The factor was found by trying.
#[inline]
const fn slot(name: &[u8]) -> usize {
    let [first, .., last] = name else { return 0 };
    let middle = name[name.len() / 2];
    let key = u32::from_le_bytes([*first, middle, *last, name.len() as u8]);
    (key.wrapping_mul(FACTOR) >> (32 - SLOTS.trailing_zeros())) as usize
}

const FACTOR: u32 = 0x84b2_8055;

const SLOTS: usize = 64;

static FIELDS: [StaticField; LEN] = {
    let mut fields = [StaticField { class: Class::UnknownPseudo, name: b"", value: b"" }; LEN];
    let mut i = 0;
    while i < LEN {
        let (name, value) = TEXT[i];
        fields[i] = StaticField { class: class_of(name.as_bytes()), name: name.as_bytes(), value: value.as_bytes() };
        i += 1;
    }
    fields
};

static KNOWN: [u8; Known::ALL.len() + 1] = {
    let mut indices = [0; Known::ALL.len() + 1];
    let mut i = LEN;
    while i > 0 {
        if let Class::Regular(known) = class_of(TEXT[i - 1].0.as_bytes()) {
            indices[known as usize] = i as u8;
        }
        i -= 1;
    }
    indices[Known::Other as usize] = 0;
    indices
};

static OTHER: [u8; SLOTS] = {
    let mut indices = [0; SLOTS];
    let mut i = 0;
    while i < LEN {
        let name = TEXT[i].0.as_bytes();
        if matches!(class_of(name), Class::Regular(Known::Other)) {
            assert!(indices[slot(name)] == 0, "two static names share a slot: find another factor");
            indices[slot(name)] = i as u8 + 1;
        }
        i += 1;
    }
    indices
};

const fn class_of(name: &[u8]) -> Class {
    if name[0] == b':' {
        return Class::Pseudo(match name[1] {
            b'a' => Pseudo::Authority,
            b'm' => Pseudo::Method,
            b'p' => Pseudo::Path,
            b's' if name[2] == b'c' => Pseudo::Scheme,
            _ => Pseudo::Status,
        });
    }
    let mut i = 0;
    while i < Known::ALL.len() {
        if equal(name, Known::ALL[i].as_str().as_bytes()) {
            return Class::Regular(Known::ALL[i]);
        }
        i += 1;
    }
    Class::Regular(Known::Other)
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// RFC 7541 appendix A.
const TEXT: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
