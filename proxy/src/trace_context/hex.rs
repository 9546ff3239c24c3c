//! Hexadecimal of fixed length, without allocation.

/// The two lower-case digits of every byte.
pub(crate) static PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Lower-case digits; `M` is twice `N`.
pub(super) fn encode<const N: usize, const M: usize>(bytes: [u8; N]) -> [u8; M] {
    const { assert!(M == 2 * N) };
    let mut out = [0; M];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    out
}

/// The bytes behind exactly `2 * N` lower-case digits (upper case too if `any_case`), if they are not all zero.
pub(super) fn id<const N: usize>(text: &[u8], any_case: bool) -> Option<[u8; N]> {
    decode(text, any_case).filter(|id| *id != [0; N])
}

/// The bytes behind exactly `2 * N` digits.
pub(super) fn decode<const N: usize>(text: &[u8], any_case: bool) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0], any_case)? << 4 | digit(pair[1], any_case)?;
    }
    Some(out)
}

fn digit(byte: u8, any_case: bool) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if any_case => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Digits as text.
pub(super) fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}
