//! Encoding, which only the tests need: the encoder sends text as it is.

use super::{LENGTHS, ORDER, RANGES};

/// The code of a symbol as the last bits, and how many they are.
pub(in crate::http::hpack) fn code(symbol: u16) -> (u32, u32) {
    let length = u32::from(LENGTHS[usize::from(symbol)]);
    let range = &RANGES[length as usize];
    let mut order = ORDER[usize::from(range.first)..].iter();
    let offset = order.position(|s| *s == symbol).unwrap() as u64;
    (((range.start >> (32 - length)) + offset) as u32, length)
}

/// `text` as it is sent.
pub(in crate::http::hpack) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let (code, length) = code(u16::from(*byte));
        bits = bits << length | u64::from(code);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
    out
}
