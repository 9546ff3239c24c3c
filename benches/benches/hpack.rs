//! What the header blocks of one HTTP/2 request cost: reading those of a request, writing that of a response.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger_proxy::http::{
    Headers, Known,
    hpack::{Class, Decoder, Encoder, Field},
};

/// A request as a client sends it first: its fields go into the table.
const FIRST: [(&str, &str); 10] = [
    (":path", "/api/v1/service-10/orders"),
    (":authority", "orders.shop.svc"),
    ("user-agent", "shop-web/3.14 (linux; amd64)"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("authorization", "Bearer 3f1d7c55a0b94e0c8f4e7a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f"),
    ("cache-control", "no-cache"),
    ("x-tenant", "northwind"),
    ("te", "trailers"),
    ("x-tier", "gold"),
];

/// `date`, `location` and `set-cookie` as literals with Huffman coding (the strings of RFC 7541 C.6), 108 characters.
const HUFFMAN: &[u8] = b"\
    \x0f\x12\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x84\xa6\x2d\x1b\xff\
    \x0f\x1f\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3\
    \x0f\x28\xad\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf\xdf\xcd\x5b\x39\x60\xd5\xaf\x27\x08\x7f\x36\x72\xc1\xab\
    \x27\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\x4e\xe5\xb1\x06\x3d\x50\x07";

/// What a service answers, as it comes by HTTP/1.
const ANSWER: [(&str, &str); 6] = [
    ("Server", "orders"),
    ("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("ETag", "\"8f2b9c\""),
    ("X-Request-Id", "0190163d-8694-7000-8000-b94e0c8f4e7a"),
];

/// Literals that go into the table.
fn first() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in FIRST {
        block.extend_from_slice(&[0x40, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

fn read(decoder: &mut Decoder, block: &[u8], headers: &mut Headers) -> usize {
    headers.clear();
    let mut pseudo = 0;
    let mut sink = |field: Field<'_>| match field.class {
        Class::Regular(_) if field.valid => field.append_to(headers),
        _ => pseudo += field.value.len(),
    };
    decoder.decode(block, &mut sink).expect("the block is valid");
    pseudo
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("hpack");
    let (mut decoder, mut headers) = (Decoder::new(4096), Headers::new());
    read(&mut decoder, &first(), &mut headers);
    // `:method: GET`, then what went into the table in its order.
    let indexed: Vec<u8> = std::iter::once(0x82).chain((0x80 | 62..=0x80 | 71).rev()).collect();
    group.bench_function("decode, eleven indexed fields", |b| {
        b.iter(|| read(&mut decoder, black_box(&indexed), &mut headers));
    });
    group.bench_function("decode, three literals with Huffman coding", |b| {
        b.iter(|| read(&mut decoder, black_box(HUFFMAN), &mut headers));
    });
    let first = first();
    group.bench_function("decode, ten fields into the table", |b| {
        b.iter(|| read(&mut decoder, black_box(&first), &mut headers));
    });
}

fn encode(c: &mut Criterion) {
    let fields = ANSWER.map(|(name, value)| (Known::of(name.as_bytes()), name.as_bytes(), value.as_bytes()));
    let (mut encoder, mut out) = (Encoder::new(), Vec::with_capacity(1024));
    c.bench_function("hpack/encode, eight fields", |b| {
        b.iter(|| {
            out.clear();
            encoder.begin(&mut out);
            encoder.status(200, &mut out);
            for (known, name, value) in black_box(&fields) {
                encoder.field(*known, name, value, &mut out);
            }
            encoder.content_length(black_box(1024), &mut out);
            out.len()
        });
    });
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
