//! Heads of requests.

use super::*;

#[test]
fn good_requests() {
    use Framing::{Chunked, Length, None};
    #[rustfmt::skip]
    let cases: &[(&[u8], Framing, bool, &str, &str)] = &[
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "/"),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "/"),
        (b"GET /a?b=c HTTP/1.1\r\nHOST:\t a.example:8080 \t\r\n\r\n", None, true, "a.example:8080", "/a?b=c"),
        (b"GET //x/../y HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "//x/../y"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", None, true, "", "/"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", None, true, "[::1]:80", "/"),
        (b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", None, true, "a:", "/"),
        (b"GET / HTTP/1.1\r\nHost: a_b-c.%41~\r\n\r\n", None, true, "a_b-c.%41~", "/"),
        // RFC 9110 2.5: a later minor version is read as the one that is known.
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", None, true, "a", "/"),
        (b"POST / HTTP/1.9\r\nHost:\ta\r\nContent-Length: 5\r\n\r\n", Length(5), true, "a", "/"),
        (b"GET / HTTP/1.0\r\n\r\n", None, false, "", "/"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", None, true, "a", "/"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", None, false, "", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", None, false, "a", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: y , close\r\n\r\n", None, false, "a", "/"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Length(5), true, "a", "/"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Length(0), true, "a", "/"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n", Length(i64::MAX as u64), true, "a", "/"),
        (b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", Length(5), false, "", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Length(5), true, "a", "/"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Chunked, true, "a", "/"),
        (b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:ChUnKeD \r\n\r\n", Chunked, true, "a", "/"),
        (b"GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "b.example", "/x?y"),
        (b"GET HTTPS://b:1 HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "b:1", "/"),
        (b"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "b", "/?q"),
        (b"OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", None, true, "b", "*"),
        (b"OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n", None, true, "b", "/"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "*"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: b\r\n\r\n", None, true, "a.example:443", ""),
        (b"CONNECT [::1]:443 HTTP/1.1\r\nHost: b\r\n\r\n", None, true, "[::1]:443", ""),
        (b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "/"),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345 / HTTP/1.1\r\nHost: a\r\n\r\n", None, true, "a", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\t \"\r\nEmpty:\r\nEmpty2: \t\r\n\r\n", None, true, "a", "/"),
    ];
    for (input, framing, keep_alive, authority, target) in cases {
        let (result, head) = request(input);
        let meta = result.unwrap_or_else(|e| panic!("{}: {e}", show(input))).expect("whole");
        assert_eq!(
            (meta.consumed, meta.framing, meta.keep_alive, &*head.authority, &*head.target),
            (input.len(), *framing, *keep_alive, *authority, *target),
            "{}",
            show(input)
        );
        assert_eq!(meta.connect, input.starts_with(b"CONNECT"));
        // What follows is not looked at.
        for tail in [&b"\r\n"[..], b" x", b"GET / HTTP/1.1\r\n\r\n", b"\0\n"] {
            let followed = [input, tail].concat();
            assert_eq!(parse_request(&followed, &LIMITS, &mut RequestHead::default()), Ok(Some(meta)));
        }
    }
}

#[test]
fn bad_requests() {
    #[rustfmt::skip]
    let cases: &[(&[u8], Fault)] = &[
        // The first line.
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
        (b"\0", Fault::Method),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456 / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::MethodTooLong),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Version),
        (b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.0\n\r\n", Fault::LineEnd),
        (b"GET /\r\n", Fault::RequestLine),
        (b"GET / \r\n\r\n", Fault::Version),
        (b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Version),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", Fault::Version),
        (b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/11\r\nHost: a\r\n\r\n", Fault::Version),
        (b"GET / HTTP/.1\r\nHost: a\r\n\r\n", Fault::Version),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Fault::UnknownVersion),
        (b"GET / HTTP/0.9\r\n\r\n", Fault::UnknownVersion),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::UnknownVersion),
        // Targets.
        (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetBytes),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetBytes),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetAuthority),
        (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetAuthority),
        (b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetAuthority),
        (b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetAuthority),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"CONNECT [::1] HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"CONNECT http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetForm),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Fault::ConnectBody),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::ConnectBody),
        // Host.
        (b"GET / HTTP/1.1\r\n\r\n", Fault::HostMissing),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", Fault::HostMissing),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Fault::HostRepeated),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Fault::HostRepeated),
        (b"GET / HTTP/1.0\r\nHost: a\r\nhost: \r\n\r\n", Fault::HostRepeated),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [::1]80\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [::1]a:80\r\n\r\n", Fault::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", Fault::HostInvalid),
        (b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::HostInvalid),
        // Content-Length.
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Fault::ContentLengthRepeated),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", Fault::ContentLengthRepeated),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xd9\xa5\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", Fault::ContentLengthInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", Fault::ContentLengthInvalid),
        // Transfer-Encoding.
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::LengthAndCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", Fault::LengthAndCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", Fault::LengthAndCoding),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInOldVersion),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::UnknownCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::UnknownCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked, chunked\r\n\r\n", Fault::UnknownCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\xc2\xa0\r\n\r\n", Fault::CodingInvalid),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Fault::FieldValue),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", Fault::FoldedLine),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", Fault::BlankBeforeColon),
        // Fields.
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Fault::FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Fault::FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n", Fault::FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Fault::FoldedLine),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Fault::BlankBeforeColon),
        (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Fault::BlankBeforeColon),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", Fault::FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", Fault::FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n", Fault::FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n", Fault::FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: y\r\n\r\n", Fault::FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", Fault::FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\nY: z\r\n\r\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\nHost: a\n\n", Fault::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", Fault::LineEnd),
    ];
    for (input, fault) in cases {
        let (result, _) = request(input);
        let error = result.expect_err(&show(input));
        assert_eq!(error.fault, *fault, "{}", show(input));
        let reason = match fault {
            Fault::UnknownVersion | Fault::MethodTooLong | Fault::UnknownCoding => Reason::NotImplemented,
            _ => Reason::HttpRequestError,
        };
        assert_eq!(error.reason(), reason, "{}", show(input));
    }
    assert!(cases.len() >= 100);
}

#[test]
fn incomplete_requests() {
    for input in [&b""[..], b"\r", b"\r\n", b"\r\n\r", b"G", b"GET / HTTP/2", b"GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        assert_eq!(request(input).0, Ok(None), "{}", show(input));
    }
}

#[test]
fn limits_are_exact() {
    let head = |padding: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(padding)).into_bytes();
    let fits = head(LIMITS.max_header_bytes - head(0).len());
    assert!(matches!(request(&fits).0, Ok(Some(RequestMeta { consumed: 2048, .. }))));
    let more = head(LIMITS.max_header_bytes - head(0).len() + 1);
    for end in [more.len() - 1, more.len()] {
        let error = parse_request(&more[..end], &LIMITS, &mut RequestHead::default()).expect_err("too large");
        assert_eq!((error.fault, error.reason()), (Fault::HeadTooLarge, Reason::RequestHeaderSize));
    }
    // A target without end is too large as well.
    let target = [b"GET /".to_vec(), vec![b'x'; 4000]].concat();
    assert_eq!(request(&target).0.expect_err("too large").reason(), Reason::RequestHeaderSize);

    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(n - 1)).into_bytes();
    assert!(request(&fields(20)).0.is_ok());
    let error = request(&fields(21)).0.expect_err("too many");
    assert_eq!((error.fault, error.reason()), (Fault::TooManyFields, Reason::RequestHeaderSize));
    // More than the stack holds.
    let wide = Limits { max_header_bytes: 60_000, max_header_count: 300 };
    let mut head = RequestHead::default();
    assert!(matches!(parse_request(&fields(300), &wide, &mut head), Ok(Some(_))));
    assert_eq!(head.headers.len(), 299);
    assert!(parse_request(&fields(301), &wide, &mut head).is_err());
}

#[test]
fn upgrade_and_expect() {
    let meta = |fields: &str| {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        request(input.as_bytes()).0.expect("good").expect("whole")
    };
    assert!(meta("Connection: Upgrade\r\nUpgrade: websocket\r\n").upgrade);
    assert!(meta("Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\nContent-Length: 0\r\n").upgrade);
    for no in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c/1\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert!(!meta(no).upgrade, "{no}");
    }
    assert!(meta("Expect: 100-Continue\r\nContent-Length: 1\r\n").expect_continue);
    assert!(!meta("Expect: 100-continue\r\n").expect_continue);
    assert!(!meta("Expect: other\r\nContent-Length: 1\r\n").expect_continue);
    let (old, _) = request(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert!(!old.expect("good").expect("whole").expect_continue);
}

#[test]
fn framing_and_host_are_not_among_the_fields() {
    let (_, head) =
        request(b"POST / HTTP/1.1\r\nA: 1\r\nHost: a\r\nContent-Length: 5\r\nConnection: keep-alive\r\nb: 2\r\n\r\n");
    let names: Vec<_> = head.headers.iter().map(|(_, name, _)| name.to_vec()).collect();
    assert_eq!(names, [b"A".to_vec(), b"b".to_vec()]);
}
