//! The Huffman code (RFC 7541 5.2, appendix B).
//!
//! The code is canonical: symbols in the order of their lengths, then of their values, have consecutive codes. So the
//! lengths say all of it, and the tables are made of them when the crate is compiled. Text consists of symbols of five
//! to eight bits, which one look at the next eight bits finds; longer ones are found by the ranges of their
//! lengths.

use super::DecodeError;

/// Appendix B: the length of the code of each byte and of the end-of-string symbol, in bits.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The bytes, and the end of a string.
const SYMBOLS: usize = 257;

/// The longest code, in bits.
const LONGEST: usize = 30;

/// Short codes that are read together.
const GROUP: usize = 4;

/// Decodes `whole` to `out[start..]` and returns where the text ends; `out` grows if it has to and keeps what is behind.
///
/// # Errors
/// It has the end-of-string symbol in it, or its padding is wrong.
pub(super) fn decode(whole: &[u8], out: &mut Vec<u8>, start: usize) -> Result<usize, DecodeError> {
    // No code has less than five bits.
    let most = start + whole.len() * 8 / 5;
    if out.len() < most {
        out.resize(most, 0);
    }
    let out = &mut out[..most];
    let mut at = start;
    let mut bits = Bits { whole, rest: whole, word: 0, count: 0 };
    loop {
        bits.refill();
        bits.short_codes(out, &mut at);
        if bits.count < LONGEST as u32 && !bits.rest.is_empty() {
            continue;
        }
        let (symbol, length) = next(bits.word);
        if length > bits.count {
            return if bits.are_padding() { Ok(at) } else { Err(DecodeError::Padding) };
        }
        out[at] = u8::try_from(symbol).map_err(|_| DecodeError::EndOfString)?;
        at += 1;
        bits.take(length);
    }
}

/// The bits that are to be decoded.
struct Bits<'b> {
    whole: &'b [u8],
    /// The end of it that is not in the word.
    rest: &'b [u8],
    /// The next bits, first ones highest. What is below them is zero, or the beginning of the rest.
    word: u64,
    /// How many of them there are.
    count: u32,
}

impl Bits<'_> {
    /// Fills the word up to 56 bits or more, or takes all that is left.
    #[inline]
    fn refill(&mut self) {
        let len = self.rest.len();
        let word = match (self.rest.first_chunk::<8>(), self.whole.last_chunk::<8>()) {
            (Some(eight), _) => u64::from_be_bytes(*eight),
            (None, _) if len == 0 => return,
            // Its last bytes are the rest.
            (None, Some(eight)) => u64::from_be_bytes(*eight) << (64 - 8 * len),
            (None, None) => self.rest.iter().fold(0, |word, b| word << 8 | u64::from(*b)) << (64 - 8 * len),
        };
        self.word |= word >> self.count;
        let (_, rest) = self.rest.split_at(len.min((63 - self.count as usize) / 8));
        self.count += 8 * (len - rest.len()) as u32;
        self.rest = rest;
    }

    /// Decodes up to a long code, or to the last seven bits of the word. Groups come first: one look at what is left of
    /// both sides serves four codes.
    #[inline]
    fn short_codes(&mut self, out: &mut [u8], at: &mut usize) {
        while self.count >= 8 * GROUP as u32
            && let Some(group) = out.get_mut(*at..).and_then(|out| out.first_chunk_mut::<GROUP>())
        {
            for place in group {
                let Some(symbol) = self.short_code() else { return };
                *place = symbol;
                *at += 1;
            }
        }
        while self.count >= 8 {
            let Some(symbol) = self.short_code() else { return };
            out[*at] = symbol;
            *at += 1;
        }
    }

    /// There are eight bits at least, which hold a short code or begin a long one.
    #[inline(always)] // A handful of instructions for each byte of text.
    fn short_code(&mut self) -> Option<u8> {
        let short = SHORT[(self.word >> 56) as usize];
        if short.length == 0 {
            return None;
        }
        self.take(u32::from(short.length));
        Some(short.symbol)
    }

    #[inline]
    fn take(&mut self, count: u32) {
        self.word <<= count;
        self.count -= count;
    }

    /// At most seven bits are left, all of them ones.
    fn are_padding(&self) -> bool {
        self.count < 8 && self.word == !(u64::MAX >> self.count)
    }
}

/// The symbol that the highest bits are, and how many of them.
#[inline]
fn next(bits: u64) -> (u16, u32) {
    let short = SHORT[(bits >> 56) as usize];
    if short.length != 0 { (u16::from(short.symbol), u32::from(short.length)) } else { long(bits) }
}

/// [`next`] for codes of more than eight bits.
#[inline(never)]
fn long(bits: u64) -> (u16, u32) {
    let code = bits >> 32;
    let mut length = 9;
    // Ends at the longest, whose range has no end.
    while code >= RANGES[length].end {
        length += 1;
    }
    let range = &RANGES[length];
    let offset = (code - range.start) >> (32 - length);
    (ORDER[range.first as usize + offset as usize], length as u32)
}

/// A symbol of at most eight bits; a length of zero says that it is longer.
#[derive(Clone, Copy)]
struct Short {
    symbol: u8,
    length: u8,
}

/// By the first eight bits.
static SHORT: [Short; 256] = {
    let mut table = [Short { symbol: 0, length: 0 }; 256];
    let mut length = 1;
    while length <= 8 {
        let range = &RANGES[length];
        let mut code = range.start;
        while code < range.end {
            let offset = (code - range.start) >> (32 - length);
            let symbol = ORDER[range.first as usize + offset as usize] as u8;
            table[(code >> 24) as usize] = Short { symbol, length: length as u8 };
            code += 1 << 24;
        }
        length += 1;
    }
    table
};

/// The codes of one length: their first bits as the highest of 32, the end excluded.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    /// Where in the order the first of them is.
    first: u16,
}

/// By length.
static RANGES: [Range; LONGEST + 1] = {
    let mut ranges = [Range { start: 0, end: 0, first: 0 }; LONGEST + 1];
    let (mut code, mut before, mut length) = (0_u64, 0_u16, 1);
    while length <= LONGEST {
        let (mut many, mut i) = (0, 0);
        while i < SYMBOLS {
            many += (LENGTHS[i] as usize == length) as u16;
            i += 1;
        }
        let end = code + ((many as u64) << (32 - length));
        ranges[length] = Range { start: code, end, first: before };
        (code, before, length) = (end, before + many, length + 1);
    }
    assert!(code == 1 << 32 && before as usize == SYMBOLS, "every row of bits is the beginning of some code");
    ranges
};

/// The symbols in the order of their codes.
static ORDER: [u16; SYMBOLS] = {
    let mut order = [0; SYMBOLS];
    let (mut at, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                order[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    order
};

#[cfg(test)]
pub(super) mod reverse;
