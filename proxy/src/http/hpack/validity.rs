//! What RFC 9113 8.2.1 and RFC 9110 5.5 allow in names and values, and which name is which.

use super::{Class, Known, Pseudo};

/// What `name` is, and whether it may be one.
pub(super) fn classify(name: &[u8]) -> (Class, bool) {
    match name {
        [b':', rest @ ..] => (pseudo(rest).map_or(Class::UnknownPseudo, Class::Pseudo), is_lower_token(rest)),
        // Only tokens may be looked up among the known names.
        _ if is_lower_token(name) => (Class::Regular(Known::of(name)), true),
        _ => (Class::Regular(Known::Other), false),
    }
}

/// By the name without its colon.
fn pseudo(name: &[u8]) -> Option<Pseudo> {
    Some(match name {
        b"authority" => Pseudo::Authority,
        b"method" => Pseudo::Method,
        b"path" => Pseudo::Path,
        b"protocol" => Pseudo::Protocol,
        b"scheme" => Pseudo::Scheme,
        b"status" => Pseudo::Status,
        _ => return None,
    })
}

fn is_lower_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| LOWER_TOKEN[usize::from(*b)])
}

/// RFC 9110 5.6.2, but for capital letters.
static LOWER_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mark = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        table[byte as usize] = mark || byte.is_ascii_digit() || byte.is_ascii_lowercase();
        byte += 1;
    }
    table
};

/// No control character but tabs, and no blank or tab at either end.
#[inline]
pub(super) fn is_value(value: &[u8]) -> bool {
    let (Some(first), Some(last)) = (value.first(), value.last()) else { return true };
    if matches!(first, b' ' | b'\t') || matches!(last, b' ' | b'\t') {
        return false;
    }
    no_controls(value) || value.iter().all(|b| !b.is_ascii_control() || *b == b'\t')
}

/// True without any control character, tabs among them; looks at eight bytes at a time.
#[inline]
fn no_controls(value: &[u8]) -> bool {
    let Some(last) = value.last_chunk::<8>() else {
        return value.iter().fold(true, |good, b| good & !b.is_ascii_control());
    };
    // The last eight overlap those before them.
    let (whole, _) = value.as_chunks::<8>();
    whole.iter().fold(controls(*last), |found, eight| found | controls(*eight)) == 0
}

/// Not zero if one of eight bytes is a control character. A borrow goes only from a byte that is one itself.
#[inline]
fn controls(eight: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let bytes = u64::from_le_bytes(eight);
    let delete = bytes ^ (ONES * 0x7f);
    let low = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    let zero = delete.wrapping_sub(ONES) & !delete;
    (low | zero) & (ONES << 7)
}
