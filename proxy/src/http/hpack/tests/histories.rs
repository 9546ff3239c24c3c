//! The encoder against the decoder, in histories of random fields and sizes.

use super::*;

const NAMES: [&str; 16] = [
    "server",
    "Date",
    "content-type",
    "Cache-Control",
    "ETag",
    "x-request-id",
    "set-cookie",
    "X-Odd",
    "vary",
    "x-runtime",
    "grpc-status",
    "authorization",
    "Content-Encoding",
    "x-a",
    "X-B",
    "content-length",
];

/// Appends a random field and tells what has to be read.
fn field(rng: &mut fastrand::Rng, encoder: &mut Encoder, out: &mut Vec<u8>) -> Pair {
    let name = *rng.choice(&NAMES).unwrap();
    let value: Vec<u8> = match rng.u8(0..8) {
        0 => (0..rng.usize(0..1500)).map(|_| rng.u8(0x80..)).collect(),
        1 => rng.u64(..).to_string().into_bytes(),
        n => b"value-of-a-field-that-comes-again"[..usize::from(n) * 4].to_vec(),
    };
    encoder.field(Known::of(name.as_bytes()), name.as_bytes(), &value, out);
    (name.to_ascii_lowercase().into_bytes(), value)
}

#[test]
fn what_is_encoded_is_decoded() {
    for seed in 0..10_000 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for _ in 0..rng.usize(1..12) {
            if rng.u8(0..4) == 0 {
                for _ in 0..rng.usize(0..3) {
                    encoder.set_max_table(*rng.choice(&[0, 100, 500, 4096, 65536]).unwrap());
                }
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            let (status, length) = (rng.u16(200..600), rng.u64(..) >> rng.u8(0..64));
            encoder.status(status, &mut out);
            let mut fields = vec![pair(":status", &status.to_string())];
            for _ in 0..rng.usize(0..8) {
                fields.push(field(rng, &mut encoder, &mut out));
            }
            encoder.content_length(length, &mut out);
            fields.push(pair("content-length", &length.to_string()));
            assert_eq!(read(&mut decoder, &out).unwrap(), fields, "seed {seed}");
            assert_eq!(encoder.entries(), decoder.entries(), "seed {seed}");
        }
    }
}

/// What one field takes in each of some blocks.
fn lengths(encoder: &mut Encoder, name: &str, values: &[&str]) -> Vec<usize> {
    let length = |value: &&str| {
        let mut out = Vec::new();
        encoder.field(Known::of(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut out);
        out.len()
    };
    values.iter().map(length).collect()
}

#[test]
fn what_comes_again_is_an_index_and_what_differs_pushes_nothing_out() {
    let encoder = &mut Encoder::new();
    // A name of the static table: at the second sight.
    assert_eq!(lengths(encoder, "Server", &["orders"; 4]), [9, 8, 1, 1]);
    // A new name: at once; its values from the second time on.
    assert_eq!(lengths(encoder, "X-Tier", &["gold"; 3]), [13, 1, 1]);
    assert_eq!(lengths(encoder, "x-tier", &["lead", "lead", "lead"]), [7, 6, 1]);
    assert_eq!(encoder.entries().0.len(), 3);
    for i in 0..1000 {
        lengths(encoder, "x-runtime", &[&i.to_string()]);
        lengths(encoder, "ETag", &[&i.to_string()]);
    }
    assert_eq!(encoder.entries().0.len(), 4, "{:?}", encoder.entries());
    assert_eq!(lengths(encoder, "server", &["orders"]), [1]);
    // Too large to be worth its room.
    let long = "l".repeat(2000);
    assert_eq!(lengths(encoder, "x-long", &[&long, &long, &long]), [2011; 3]);
    assert_eq!(encoder.entries().0.len(), 4);
}

#[test]
fn secrets_and_what_differs_stay_out_of_the_table() {
    let encoder = &mut Encoder::new();
    for (name, first) in [
        ("Set-Cookie", &[0x1f, 55 - 15][..]),
        ("authorization", &[0x1f, 23 - 15]),
        ("proxy-authorization", &[0x1f, 49 - 15]),
        ("cookie", &[0x1f, 32 - 15]),
        ("X-Request-Id", &[0, 12]),
        ("traceparent", &[0, 11]),
        ("content-length", &[0x0f, 28 - 15]),
    ] {
        for _ in 0..3 {
            let mut out = Vec::new();
            encoder.field(Known::of(name.as_bytes()), name.as_bytes(), b"7", &mut out);
            assert!(out.starts_with(first), "{name}");
            assert_eq!(read(&mut Decoder::new(4096), &out).unwrap(), [pair(&name.to_ascii_lowercase(), "7")]);
        }
    }
    assert_eq!(encoder.entries().0.len(), 0);
}

#[test]
fn a_change_of_size_is_announced_once_smallest_first() {
    let encoder = &mut Encoder::new();
    let mut announced = |sizes: &[usize]| {
        for size in sizes {
            encoder.set_max_table(*size);
        }
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.begin(&mut out);
        out
    };
    assert!(announced(&[]).is_empty());
    assert!(announced(&[4096]).is_empty());
    assert!(announced(&[65536]).is_empty());
    assert_eq!(announced(&[0]), bytes("20"));
    assert!(announced(&[0]).is_empty());
    assert_eq!(announced(&[256]), bytes("3fe101"));
    assert_eq!(announced(&[0, 4096]), bytes("20 3fe11f"));
    assert_eq!(announced(&[4096, 0, 100]), bytes("20 3f45"));
    assert_eq!(announced(&[65536]), bytes("3fe11f"));
    assert_eq!(announced(&[10, 4096, 20]), bytes("2a 34"));
}

#[test]
fn statuses_that_are_not_static_get_into_the_table() {
    let (encoder, decoder) = (&mut Encoder::new(), &mut Decoder::new(4096));
    let mut lengths = Vec::new();
    for status in [200, 204, 206, 304, 400, 404, 500, 201, 201, 201, 503] {
        let mut out = Vec::new();
        encoder.status(status, &mut out);
        lengths.push(out.len());
        assert_eq!(read(decoder, &out).unwrap(), [pair(":status", &status.to_string())]);
    }
    assert_eq!(lengths, [1, 1, 1, 1, 1, 1, 1, 5, 5, 1, 5]);
}
