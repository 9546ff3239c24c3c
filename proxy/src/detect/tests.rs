//! A table, and the properties that the caller counts on.

use proptest::prelude::*;

use super::*;

#[test]
fn first_bytes() {
    use Detected::{Http1, Http2, Opaque, Tls};
    let cases: &[(&[u8], Option<Detected>)] = &[
        (b"", None),
        (b"G", None),
        (b"GET", None),
        (b"GET ", None),
        (b"GET /", Some(Http1)),
        (b"GET h", None),
        (b"GET HTTP:/", None),
        (b"GET http://a", Some(Http1)),
        (b"GET https://", Some(Http1)),
        (b"\r", None),
        (b"\r\n", None),
        (b"\r\nPOST /", Some(Http1)),
        (b"\r\n\r\n", None),
        (b"\n", None),
        (b"\r\n\r\nhello", Some(Opaque)),
        (b"\r\n\r\nGET /", Some(Http1)),
        (b"\nGET /", Some(Http1)),
        (b"\n\n\n\n\n\n\n\n\n", Some(Http1)),
        (b"OPTIONS * HTTP/1.1", Some(Http1)),
        (b"WHO *\r\n", Some(Opaque)),
        (b"M-SEARCH * HTTP/1.1", Some(Http1)),
        (b"PROPFIND /x", Some(Http1)),
        (b"CONNECT a:443", Some(Http1)),
        (b"CONNECT [", Some(Http1)),
        (b"CONNECT {\"verbose\"", Some(Opaque)),
        (b"CONNECT\naccept-version", Some(Opaque)),
        (b"EHLO x", Some(Opaque)),
        (b"HELO http.example", Some(Opaque)),
        (b"NICK y", Some(Opaque)),
        (b"USER anonymous", Some(Opaque)),
        (b"OPTIONS rtsp://a", Some(Opaque)),
        (b"REGISTER sip:a", Some(Opaque)),
        (b"SSH-2.0-x\r\n", Some(Opaque)),
        (b"get /key\r\n", Some(Opaque)),
        (b"*2\r\n$3\r\n", Some(Opaque)),
        (b" GET /", Some(Opaque)),
        (b"PING\r\n", Some(Opaque)),
        (b"\0\0\0\x0f", Some(Opaque)),
        (b"PRI", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Some(Http2)),
        (b"PRI * HTTP/1.1\r\n", Some(Http1)),
        (b"PRINT /", Some(Http1)),
        (b"\x16", None),
        (b"\x16\x03\x01\x02\x00", None),
        (b"\x16\x03\x01\x02\x00\x01\x00", Some(Tls)),
        (b"\x16\x03\x03\x00\xf0\x01", Some(Tls)),
        (b"\x16\x03\x00", Some(Opaque)),
        (b"\x16\x03\x05", Some(Opaque)),
        (b"\x16\x02", Some(Opaque)),
        (b"\x16\x03\x01\x41", Some(Opaque)),
        (b"\x16\x03\x01\x00\x10\x02", Some(Opaque)),
        (b"\x15\x03\x01", Some(Opaque)),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345 /", Some(Http1)),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456", Some(Opaque)),
    ];
    for (input, expected) in cases {
        assert_eq!(detect(input), *expected, "{}", input.escape_ascii());
    }
}

fn opening() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"GET"[..],
        b" ",
        b"/",
        b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI",
        b"* HTTP/",
        b"http",
        b"://",
        b"\x16\x03",
        b"\x01",
        b"CONNECT ",
        b"a",
        b"ABCDEFGHIJKLMNOPQ",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
    ]
}

proptest! {
    #[test]
    fn never_changes_its_mind_and_decides_in_time(bytes in opening()) {
        let mut found = None;
        for end in 0..=bytes.len() {
            let now = detect(&bytes[..end]);
            prop_assert!(found.is_none() || now == found);
            prop_assert!(now.is_some() || end < MAX_PREFIX);
            found = now;
        }
    }
}
