//! Where the bytes are that lines of fields are made of: one bit for each byte of a block.
//!
//! On x86-64 this is SSE2, eleven instructions for 16 bytes. The compiler takes its intrinsics for safe only in
//! functions that are marked to need it, hence the `unsafe` at the one call. It pays with 400 instructions of a
//! request, 2 % of all, against a `memchr` for each line and a count over the head; words of eight bytes, which
//! do the same elsewhere, cost about 900 more. A test holds the two against each other.

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// Bit `i` stands for byte `i` of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masks {
    /// Line feeds.
    pub(super) feeds: u64,
    /// Colons.
    pub(super) colons: u64,
    /// Control characters, line feeds and DEL among them.
    pub(super) controls: u64,
}

/// The masks of a block.
#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code, reason = "the compiler wants it for SSE2 outside of functions that are marked to need it")]
pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
    // SAFETY: every x86-64 processor has SSE2; it is a part of that architecture.
    unsafe { sse2::masks(block) }
}

/// The masks of a block.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
    words::masks(block)
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    use super::{BLOCK, Masks};

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks { feeds: 0, colons: 0, controls: 0 };
        let (quarters, _) = block.as_chunks::<16>();
        for (i, quarter) in quarters.iter().enumerate() {
            let bytes = load(quarter);
            let low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            let controls = _mm_or_si128(low, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)));
            masks.feeds |= bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x0a))) << (i * 16);
            masks.colons |= bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x3a))) << (i * 16);
            masks.controls |= bits(controls) << (i * 16);
        }
        masks
    }

    /// One load: the compiler sees that the halves are neighbours.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let both = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((both >> 64) as i64, both as i64)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(equal: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(equal) as u32)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod words {
    use super::{BLOCK, Masks};

    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW7: u64 = ONES * 0x7f;

    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks { feeds: 0, colons: 0, controls: 0 };
        let (words, _) = block.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            // Below 0x20: none of the upper three bits.
            let low = zeros(word & (ONES * 0xe0));
            masks.feeds |= bits(zeros(word ^ (ONES * 0x0a))) << (i * 8);
            masks.colons |= bits(zeros(word ^ (ONES * 0x3a))) << (i * 8);
            masks.controls |= bits(low | zeros(word ^ LOW7)) << (i * 8);
        }
        masks
    }

    /// The top bit of each byte that is zero.
    fn zeros(word: u64) -> u64 {
        !(((word & LOW7) + LOW7) | word | LOW7)
    }

    /// The top bits of the bytes, the lowest byte's first.
    fn bits(tops: u64) -> u64 {
        (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_bit_everywhere() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                for around in [b'a', 0xff, 0x80, 0x8a, 0xba] {
                    let mut block = [around; BLOCK];
                    block[at] = byte;
                    let bit = |is: bool| u64::from(is) << at;
                    let control = byte < 0x20 || byte == 0x7f;
                    let expected =
                        Masks { feeds: bit(byte == b'\n'), colons: bit(byte == b':'), controls: bit(control) };
                    assert_eq!(masks(&block), expected, "{byte} at {at}");
                    assert_eq!(words::masks(&block), expected, "{byte} at {at}");
                }
            }
        }
    }
}
