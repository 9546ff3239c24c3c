//! What a peer that means harm, or errs, may send.

use super::*;

#[test]
fn what_is_malformed_is_refused() {
    use DecodeError::{EndOfString, Index, Integer, LateTableSize, Padding, TableSize, Truncated};
    for (block, error) in [
        ("80", Index(0)),
        ("be", Index(62)),
        ("ff00", Index(127)),
        ("7f00", Index(63)),
        ("ffff ffff ff0e", Index(4_026_531_839 + 127)),
        ("ffff ffff ff0f", Integer),
        ("ffff ffff ff80", Integer),
        ("ff80 8080 8080 00", Integer),
        ("ff80 8080 8080", Integer),
        ("ff80 8080 80", Truncated),
        ("ff", Truncated),
        ("7f", Truncated),
        ("40", Truncated),
        ("4001", Truncated),
        ("400161", Truncated),
        ("40016101", Truncated),
        ("41", Truncated),
        ("4101", Truncated),
        ("417f", Truncated),
        ("417f ffff ff0f", Truncated),
        ("417f ffff ffff 0f", Integer),
        ("417f ffff ffff 0e", Truncated),
        ("0f80", Truncated),
        ("3f", Truncated),
        ("82 20", LateTableSize),
        ("20 82 3f00", LateTableSize),
        ("3fe2 1f", TableSize { size: 4097, most: 4096 }),
        ("3f80 8080 8010", Integer),
        ("4184 ffff ffff", EndOfString),
        ("4181 00", Padding),
        ("4182 07ff", Padding),
        ("4181 ff", Padding),
    ] {
        assert_eq!(read(&mut Decoder::new(4096), &bytes(block)), Err(error), "{block}");
    }
}

#[test]
fn what_is_unusual_but_allowed_is_read() {
    let decoder = &mut Decoder::new(4096);
    // An integer with needless zeros, empty strings, Huffman coding of nothing.
    assert_eq!(read(decoder, &bytes("ff80 8080 8000")), Err(DecodeError::Index(127)));
    assert_eq!(read(decoder, &bytes("4000 00")).unwrap(), [pair("", "")]);
    assert_eq!(read(decoder, &bytes("0080 80")).unwrap(), [pair("", "")]);
    assert_eq!(read(decoder, &bytes("")).unwrap(), []);
    // Sizes: smallest, final, with and without fields.
    assert_eq!(read(decoder, &bytes("20 3fe1 1f 82")).unwrap(), [pair(":method", "GET")]);
    assert_eq!(read(decoder, &bytes("be")), Err(DecodeError::Index(62)));
    assert_eq!(read(decoder, &bytes("20 20 20 20")).unwrap(), []);
}

#[test]
fn an_entry_larger_than_the_table_empties_it_and_is_read_all_the_same() {
    let decoder = &mut Decoder::new(4096);
    let small = [bytes("3f21"), bytes("4001610162")].concat();
    assert_eq!(read(decoder, &small).unwrap(), [pair("a", "b")]);
    assert_eq!(decoder.entries().1, 34);
    // Its name is that of the entry which goes.
    let value = "v".repeat(40);
    let mut block = bytes("7e28");
    block.extend_from_slice(value.as_bytes());
    assert_eq!(read(decoder, &block).unwrap(), [pair("a", &value)]);
    assert_eq!(decoder.entries(), (vec![], 0));
}

#[test]
fn a_name_survives_the_entry_that_it_is_of() {
    let decoder = &mut Decoder::new(4096);
    // 64 bytes: one entry at a time.
    read(decoder, &bytes("3f21")).unwrap();
    read(decoder, &bytes("400361626301 62")).unwrap();
    for i in 0..1000 {
        let value = "x".repeat(i % 29);
        let mut block = vec![0x7e, value.len() as u8];
        block.extend_from_slice(value.as_bytes());
        assert_eq!(read(decoder, &block).unwrap(), [pair("abc", &value)]);
        assert_eq!(decoder.entries(), (vec![pair("abc", &value)], 35 + value.len()));
    }
}

#[test]
fn validity_stays_with_an_entry() {
    let decoder = &mut Decoder::new(4096);
    // A capital letter in the name; then its name with another value, and both again.
    for (block, count) in [("4001 4101 62", 1), ("7e01 63", 1), ("be bf", 2)] {
        let mut seen = 0;
        let mut sink = |field: Field<'_>| {
            assert!(!field.valid);
            seen += 1;
        };
        decoder.decode(&bytes(block), &mut sink).unwrap();
        assert_eq!(seen, count);
    }
    // A fault in the value is not one of the name.
    let mut valid = Vec::new();
    decoder.decode(&bytes("4001 6101 0a 7e01 62 be bf"), &mut |field| valid.push(field.valid)).unwrap();
    assert_eq!(valid, [false, true, true, false]);
}

/// A block that our encoder wrote, or one that uses all representations and Huffman coding.
fn valid_block(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.usize(0..8) {
        let text: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(b' '..=b'z')).collect();
        let (flags, prefix) = *rng.choice(&[(0x80, 7), (0x40, 6), (0, 4), (0x10, 4)]).unwrap();
        let index = rng.usize(usize::from(flags == 0x80)..64);
        integer::encode(flags, prefix, index, &mut out);
        let strings = if flags == 0x80 { 0 } else { 1 + usize::from(index == 0) };
        for _ in 0..strings {
            let coded = rng.bool();
            let string = if coded { huffman::reverse::encode(&text) } else { text.clone() };
            integer::encode(if coded { 0x80 } else { 0 }, 7, string.len(), &mut out);
            out.extend_from_slice(&string);
        }
    }
    out
}

#[test]
fn no_input_panics() {
    for seed in 0..10_000 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut decoder = Decoder::new(*rng.choice(&[0, 64, 4096, 65536]).unwrap());
        for _ in 0..8 {
            let mut block = match rng.u8(0..3) {
                0 => (0..rng.usize(0..60)).map(|_| rng.u8(..)).collect(),
                _ => valid_block(rng),
            };
            for _ in 0..rng.usize(0..3) {
                if !block.is_empty() {
                    let at = rng.usize(0..block.len());
                    match rng.u8(0..3) {
                        0 => block[at] ^= 1 << rng.u8(0..8),
                        1 => block.truncate(at),
                        _ => block.insert(at, rng.u8(..)),
                    }
                }
            }
            // Whatever it says, the table counts what is in it.
            drop(read(&mut decoder, &block));
            let (entries, size) = decoder.entries();
            assert_eq!(entries.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>(), size);
        }
    }
}
