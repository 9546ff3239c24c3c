//! HPACK: no panic on any blocks of one connection, what is read of a field is what its bytes say, and what is
//! encoded is decoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_proxy::http::{
    Headers, Known,
    hpack::{Class, Decoder, Encoder, Field},
};

fuzz_target!(|input: &[u8]| {
    let [what, split, bytes @ ..] = input else { return };
    match what % 3 {
        0 => decode(bytes, usize::from(*split).max(1), 4096),
        1 => decode(bytes, usize::from(*split).max(1), [0, 40, 256, 65536][usize::from(what / 3 % 4)]),
        _ => round_trip(bytes, *split),
    }
});

/// Blocks of `length` bytes to one decoder, as long as it takes them.
fn decode(bytes: &[u8], length: usize, max_table: usize) {
    let mut decoder = Decoder::new(max_table);
    for block in bytes.chunks(length) {
        let mut headers = Headers::new();
        let mut count = 0;
        let mut sink = |field: Field<'_>| {
            check(&field);
            if field.valid && matches!(field.class, Class::Regular(_)) {
                field.append_to(&mut headers);
                count += 1;
                let (known, name, value) = headers.iter().last().expect("it was appended");
                assert_eq!((Class::Regular(known), name, value), (field.class, field.name, field.value));
            }
        };
        if decoder.decode(block, &mut sink).is_err() {
            return;
        }
        assert_eq!(headers.len(), count);
    }
}

/// What was found once for an entry is what each of its uses would find.
fn check(field: &Field<'_>) {
    let token = |b: &u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b"!#$%&'*+-.^_`|~".contains(b);
    let text = field.name.strip_prefix(b":").unwrap_or(field.name);
    let name = !text.is_empty() && text.iter().all(token);
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let value = !blank(field.value.first()) && !blank(field.value.last());
    let value = value && field.value.iter().all(|b| !b.is_ascii_control() || *b == b'\t');
    assert_eq!(field.valid, name && value);
    match field.class {
        Class::Regular(known) => assert_eq!(known, if name { Known::of(field.name) } else { Known::Other }),
        Class::Pseudo(_) => assert!(name && field.name.starts_with(b":")),
        Class::UnknownPseudo => assert!(field.name.starts_with(b":")),
    }
}

const NAMES: [&str; 8] = ["Server", "date", "x-odd", "X-Request-Id", "Set-Cookie", "vary", "grpc-status", "X-Other"];

/// Each line of the input is a field; a line that begins with `=` ends the block and sets the size of the table.
fn round_trip(bytes: &[u8], status: u8) {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for block in bytes.split(|b| *b == b'=') {
        let (mut out, mut sent) = (Vec::new(), Vec::new());
        encoder.begin(&mut out);
        encoder.status(200 + u16::from(status), &mut out);
        for line in block.split(|b| *b == b'\n') {
            let [name, value @ ..] = line else { continue };
            let name = NAMES[usize::from(name % 8)];
            encoder.field(Known::of(name.as_bytes()), name.as_bytes(), value, &mut out);
            sent.push((name.to_ascii_lowercase().into_bytes(), value.to_vec()));
        }
        let mut read = Vec::new();
        let mut sink = |field: Field<'_>| read.push((field.name.to_vec(), field.value.to_vec()));
        decoder.decode(&out, &mut sink).expect("what is encoded can be decoded");
        assert_eq!(read[0], (b":status".to_vec(), (200 + u16::from(status)).to_string().into_bytes()));
        assert_eq!(read[1..], sent);
        encoder.set_max_table(block.last().map_or(0, |b| usize::from(*b) * 20));
    }
}
