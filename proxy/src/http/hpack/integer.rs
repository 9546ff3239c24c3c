//! Integers with a prefix (RFC 7541 5.1).
//!
//! 32 bits and five continuation bytes hold every index and length that can be meant; a longer row of bytes, even of
//! zeros, is refused.

use super::DecodeError;

/// The integer whose prefix is the last `prefix` bits of `first`; takes its continuation off `rest`.
///
/// # Errors
/// It is too large, or not whole.
#[inline]
pub(super) fn decode(first: u8, prefix: u32, rest: &mut &[u8]) -> Result<u32, DecodeError> {
    let most = (1_u8 << prefix) - 1;
    let value = first & most;
    if value < most { Ok(u32::from(value)) } else { continuation(u64::from(most), rest) }
}

#[cold]
#[inline(never)]
fn continuation(mut value: u64, rest: &mut &[u8]) -> Result<u32, DecodeError> {
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = after;
        value += u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return u32::try_from(value).map_err(|_| DecodeError::Integer);
        }
    }
    Err(DecodeError::Integer)
}

/// Appends `value` with a prefix of `prefix` bits, at most seven; `flags` are the bits before it.
#[inline]
pub(super) fn encode(flags: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return out.push(flags | value as u8);
    }
    out.push(flags | most as u8);
    let mut value = value - most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
