//! Chunked bodies.

use super::*;

/// Data and trailers, or the fault; and the bytes consumed.
type Outcome = (Result<(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>), Fault>, usize);

/// Decodes `input` in pieces of `step` bytes; an input without an end is `ChunkEnd`, as if the peer closed.
fn decode(input: &[u8], step: usize) -> Outcome {
    let mut decoder = ChunkedDecoder::new(Message::Response);
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in input.chunks(step) {
        let mut at = 0;
        while at < piece.len() && !decoder.is_done() {
            let decoded = match decoder.decode(&piece[at..], &LIMITS) {
                Ok(decoded) => decoded,
                Err(error) => return (Err(error.fault), consumed),
            };
            if let Event::Data { start, len } = decoded.event {
                assert!(len > 0 && start + len == decoded.consumed);
                data.extend_from_slice(&piece[at + start..at + start + len]);
            }
            assert!(decoded.consumed > 0, "no progress");
            at += decoded.consumed;
            consumed += decoded.consumed;
        }
    }
    if !decoder.is_done() {
        return (Err(Fault::ChunkEnd), consumed);
    }
    let trailers = decoder.trailers.iter().map(|(_, n, v)| (n.to_vec(), v.to_vec())).collect();
    (Ok((data, trailers)), consumed)
}

fn at_all_steps(input: &[u8]) -> Outcome {
    let whole = decode(input, input.len().max(1));
    for step in 1..input.len().min(40) {
        let parts = decode(input, step);
        assert_eq!(parts.0, whole.0, "in steps of {step}: {}", show(input));
        if whole.0.is_ok() {
            assert_eq!(parts.1, whole.1, "in steps of {step}: {}", show(input));
        }
    }
    whole
}

#[test]
fn good_bodies() {
    type Case = (&'static [u8], &'static [u8], &'static [(&'static str, &'static str)]);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (b"0\r\n\r\n", b"", &[]),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", &[]),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", &[]),
        (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789", &[]),
        (b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x", &[]),
        (b"1;a\r\nx\r\n1 ; a=b\r\ny\r\n1\t;c=\"d;e\"\r\nz\r\n0;f\r\n\r\n", b"xyz", &[]),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", &[]),
        (b"0\r\nA: 1\r\nGrpc-Status:  0 \r\nE:\r\n\r\n", b"", &[("A", "1"), ("Grpc-Status", "0"), ("E", "")]),
        (b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nConnection: x\r\nok: 1\r\n\r\n", b"", &[("ok", "1")]),
        (b"0\r\nTrailer: x\r\nTE: x\r\nAuthorization: x\r\nContent-Encoding: gzip\r\nX-Forwarded-For: x\r\n\r\n", b"", &[]),
    ];
    for (input, data, trailers) in cases {
        let trailers: Vec<_> = trailers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        assert_eq!(at_all_steps(input), (Ok((data.to_vec(), trailers.clone())), input.len()), "{}", show(input));
        // The next message stays where it is.
        let followed = [input, &b"\r\nGET /"[..]].concat();
        assert_eq!(at_all_steps(&followed), (Ok((data.to_vec(), trailers)), input.len()), "{}", show(input));
    }
}

#[test]
fn bad_bodies() {
    #[rustfmt::skip]
    let cases: &[(&[u8], Fault)] = &[
        (b"\r\n", Fault::ChunkSize),
        (b";a\r\n", Fault::ChunkSize),
        (b" 5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"5 \r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"5 5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"+5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"-5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"0x5\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"5h\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"g\r\n", Fault::ChunkSize),
        (b"5_0\r\n", Fault::ChunkSize),
        (b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"00000000000000001\r\nx\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"FFFFFFFFFFFFFFFFF\r\n", Fault::ChunkSize),
        (b"10000000000000005\r\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"5\nhello\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"5\rhello\r\n0\r\n\r\n", Fault::LineEnd),
        (b"5\r\r\nhello\r\n0\r\n\r\n", Fault::LineEnd),
        (b"5;a\nhello\r\n0\r\n\r\n", Fault::ChunkExtension),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", Fault::LineEnd),
        (b"5;a\0\r\nhello\r\n0\r\n\r\n", Fault::ChunkExtension),
        (b"5\r\nhello0\r\n\r\n", Fault::ChunkEnd),
        (b"5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
        (b"5\r\nhello\r0\r\n\r\n", Fault::ChunkEnd),
        (b"5\r\nhello!\r\n0\r\n\r\n", Fault::ChunkEnd),
        (b"6\r\nhello\r\n0\r\n\r\n", Fault::ChunkEnd),
        (b"5\r\nhell", Fault::ChunkEnd),
        (b"0\r\n", Fault::ChunkEnd),
        (b"0\r\n\n", Fault::LineEnd),
        (b"0\r\nA: 1\n\r\n", Fault::LineEnd),
        (b"0\r\nA: 1\r\r\n\r\n", Fault::FieldValue),
        (b"0\r\nA: a\rb\r\n\r\n", Fault::FieldValue),
        (b"0\r\nA: 1\r\n 2\r\n\r\n", Fault::FoldedLine),
        (b"0\r\nA : 1\r\n\r\n", Fault::BlankBeforeColon),
        (b"0\r\n: 1\r\n\r\n", Fault::FieldName),
        (b"0\r\nA\r\n\r\n", Fault::FieldName),
        (b"0\r\nA: \0\r\n\r\n", Fault::FieldValue),
    ];
    for (input, fault) in cases {
        assert_eq!(at_all_steps(input).0, Err(*fault), "{}", show(input));
    }
}

#[test]
fn bodies_are_bounded() {
    // One long extension, and many short ones.
    let long = [b"1;".to_vec(), vec![b'a'; 17 * 1024]].concat();
    assert_eq!(decode(&long, 1000).0, Err(Fault::ChunkExtensionsTooLarge));
    let many = b"1;aaaaaaa\r\nx\r\n".repeat(3000);
    assert_eq!(decode(&many, 1000).0, Err(Fault::ChunkExtensionsTooLarge));
    let trailer = [b"0\r\nA: ".to_vec(), vec![b'a'; 4000]].concat();
    assert_eq!(decode(&trailer, 1000).0, Err(Fault::TrailersTooLarge));
    let trailers = [b"0\r\n".to_vec(), b"A: b\r\n".repeat(21)].concat();
    assert_eq!(decode(&trailers, 1000).0, Err(Fault::TrailersTooLarge));
    // The largest size there is, of which little comes.
    let (result, consumed) = decode(b"FFFFFFFFFFFFFFFF\r\nabc", 100);
    assert_eq!((result, consumed), (Err(Fault::ChunkEnd), 21));
}
