//! Heads of responses.

use super::*;

/// Method of the request, response, and its status, framing, `keep_alive` and `upgrade`.
type Case = (Method, &'static [u8], u16, Framing, bool, bool);

#[test]
fn good_responses() {
    use Framing::{Chunked, Declared, Length, None, UntilClose};
    const GET: Method = Method::GET;
    const HEAD: Method = Method::HEAD;
    const CONNECT: Method = Method::CONNECT;
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Length(5), true, false),
        (GET, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, Length(0), true, false),
        (GET, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, Length(0), true, false),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, Chunked, true, false),
        (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", 200, Chunked, false, false),
        (GET, b"HTTP/1.1 200 OK\r\n\r\n", 200, UntilClose, false, false),
        (GET, b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Length(5), true, false),
        (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Length(5), false, false),
        (GET, b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n", 200, Length(5), true, false),
        (GET, b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", 200, UntilClose, false, false),
        (GET, b"HTTP/1.1 999 \xff\t!\r\nContent-Length: 5\r\n\r\n", 999, Length(5), true, false),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n", 204, None, true, false),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None, true, false),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, None, false, false),
        (GET, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, None, false, false),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, Declared(5), true, false),
        (GET, b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, None, true, false),
        (GET, b"HTTP/1.1 100 Continue\r\n\r\n", 100, None, true, false),
        (GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 103, None, true, false),
        (GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 101, None, false, true),
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Declared(5), true, false),
        (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None, true, false),
        (HEAD, b"HTTP/1.1 200 OK\r\n\r\n", 200, None, true, false),
        (CONNECT, b"HTTP/1.1 200 OK\r\n\r\n", 200, None, false, true),
        (CONNECT, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, None, false, true),
        (CONNECT, b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", 403, Length(5), true, false),
    ];
    for (method, input, status, framing, keep_alive, upgrade) in cases {
        let (result, head) = response(method, input);
        let meta = result.unwrap_or_else(|e| panic!("{}: {e}", show(input))).expect("whole");
        assert_eq!(
            (head.status, meta.consumed, meta.framing, meta.keep_alive, meta.upgrade),
            (*status, input.len(), *framing, *keep_alive, *upgrade),
            "{}",
            show(input)
        );
    }
}

#[test]
fn bad_responses() {
    #[rustfmt::skip]
    let cases: &[(&[u8], Fault)] = &[
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        (b"\nHTTP/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        (b"GET / HTTP/1.1\r\n\r\n", Fault::Version),
        (b"HTTP/2.0 200 OK\r\n\r\n", Fault::Version),
        (b"HTTP/1.1  200 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1\t200 OK\r\n\r\n", Fault::Version),
        (b"HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 099 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 -20 OK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", Fault::StatusLine),
        (b"HTTP/1.1 200 OK\n\r\n", Fault::LineEnd),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", Fault::LineEnd),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n", Fault::LineEnd),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\n", Fault::LineEnd),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Fault::FoldedLine),
        (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", Fault::BlankBeforeColon),
        (b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", Fault::FieldValue),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::LengthAndCoding),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Fault::ContentLengthRepeated),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::CodingInvalid),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::UnknownCoding),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInOldVersion),
        (b"HTTP/1.1 204 OK\r\nTransfer-Encoding: identity\r\n\r\n", Fault::CodingInvalid),
    ];
    for (input, fault) in cases {
        let error = response(&Method::GET, input).0.expect_err(&show(input));
        assert_eq!((error.fault, error.reason()), (*fault, Reason::HttpProtocolError), "{}", show(input));
    }
}

#[test]
fn too_large_and_keep_alive() {
    let input = [b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 4000]].concat();
    let error = response(&Method::GET, &input).0.expect_err("too large");
    assert_eq!(error.reason(), Reason::HttpResponseHeaderSectionSize);
    let seconds = |value: &str| {
        let input = format!("HTTP/1.1 204 x\r\nKeep-Alive: {value}\r\n\r\n");
        response(&Method::GET, input.as_bytes()).0.expect("good").expect("whole").keep_alive_timeout
    };
    assert_eq!(seconds("timeout=5, max=100"), Some(5));
    assert_eq!(seconds("max=100;Timeout = 7"), Some(7));
    assert_eq!((seconds("timeout=x"), seconds("timeout"), seconds("max=1")), (None, None, None));
}
