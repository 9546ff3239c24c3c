//! Properties of the codec. The table of cases is in `tests/h1_corpus.rs`.

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::http::{Headers, Known, RequestHead, ResponseHead, Version};

const LIMITS: Limits = Limits { max_header_bytes: 4096, max_header_count: 50 };

fn fields(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn names(headers: &Headers) -> Vec<String> {
    headers.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Names that mean something to the codec, and others.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}",
        prop::sample::select(vec![
            "Accept",
            "cookie",
            "X-Request-Id",
            "TE",
            "Via",
            "Keep-Alive",
            "Upgrade",
            "Expect",
            "Trailer",
            "Proxy-Connection"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_filter("the codec writes these itself", |n| {
        !matches!(
            Known::of(n.as_bytes()),
            Known::Host
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::Connection
                | Known::Upgrade
                | Known::Te
        )
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    "([!-~\u{80}-\u{ff}]([ \t!-~]{0,20}[!-~])?)?".prop_map(String::into_bytes)
}

fn field_list() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec((name(), value()), 0..12)
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::None), (0..i64::MAX as u64).prop_map(Framing::Length), Just(Framing::Chunked)]
}

/// Bytes that look like messages often enough to get past the first check.
fn message_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\n"[..],
        b"HTTP/1.1 200 OK\r\n",
        b"POST ",
        b"/x?y",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: ",
        b"close, x",
        b"\0",
        b"\xff",
        b"X: y\r\n",
        b"CONNECT a:1",
        b"http://a",
        b"* ",
        b"5",
        b"5\r\nhello\r\n",
        b"0\r\n",
        b";e=f",
        b"\t",
        b"Upgrade: h2c\r\n",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat()),
    ]
}

proptest! {
    #[test]
    fn requests_survive_encoding_and_parsing(
        method in prop::sample::select(vec!["GET", "POST", "OPTIONS", "M-SEARCH"]),
        target in "/[!-\"$-~]{0,30}",
        authority in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        list in field_list(),
        framing in framing(),
        close in any::<bool>(),
    ) {
        let mut head = RequestHead { target, authority, ..RequestHead::default() };
        head.method = Method::from_bytes(method.as_bytes()).unwrap();
        for (name, value) in &list {
            head.headers.append(name.as_bytes(), value);
        }
        let mut bytes = Vec::new();
        encode_request(&head, framing, if close { Persist::Close } else { Persist::KeepAlive }, &mut bytes);
        let mut parsed = RequestHead::default();
        let meta = parse_request(&bytes, &LIMITS, &mut parsed).unwrap().unwrap();
        prop_assert_eq!((meta.consumed, meta.framing, meta.keep_alive), (bytes.len(), framing, !close));
        prop_assert_eq!((&parsed.method, &parsed.target, &parsed.authority), (&head.method, &head.target, &head.authority));
        prop_assert_eq!(fields(&parsed.headers), fields(&head.headers));
        // And byte for byte the second time.
        let mut again = Vec::new();
        encode_request(&parsed, framing, if close { Persist::Close } else { Persist::KeepAlive }, &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn responses_survive_encoding_and_parsing(
        status in (200..=999_u16).prop_filter("bodies", |s| !matches!(s, 204 | 304)),
        reason in "[ -~]{0,20}",
        list in field_list(),
        framing in prop_oneof![framing().prop_filter("said", |f| *f != Framing::None), Just(Framing::UntilClose)],
    ) {
        let mut head = ResponseHead { status, reason: reason.into_bytes(), ..ResponseHead::default() };
        for (name, value) in &list {
            head.headers.append(name.as_bytes(), value);
        }
        let mut bytes = Vec::new();
        encode_response(&head, framing, Version::Http11, Persist::KeepAlive, &mut bytes);
        let mut parsed = ResponseHead::default();
        let meta = parse_response(&bytes, &LIMITS, &Method::GET, &mut parsed).unwrap().unwrap();
        prop_assert_eq!((meta.consumed, meta.framing), (bytes.len(), framing));
        prop_assert_eq!(meta.keep_alive, framing != Framing::UntilClose);
        prop_assert_eq!(parsed.status, status);
        prop_assert_eq!(fields(&parsed.headers), fields(&head.headers));
    }

    #[test]
    fn chunks_survive_encoding_and_any_split(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..5),
        list in field_list(),
        cuts in prop::collection::vec(1..30_usize, 1..50),
    ) {
        let mut trailers = Headers::new();
        for (name, value) in &list {
            trailers.append(name.as_bytes(), value);
        }
        let mut bytes = Vec::new();
        for piece in &pieces {
            encode_chunk_head(piece.len(), &mut bytes);
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        encode_chunk_end(Some(&trailers), &mut bytes);

        let mut decoder = ChunkedDecoder::default();
        let (mut data, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if decoder.is_done() {
                break;
            }
            let input = &rest[..rest.len().min(*cut)];
            prop_assert!(!input.is_empty());
            let decoded = decoder.decode(input, &LIMITS).unwrap();
            if let Event::Data { start, len } = decoded.event {
                data.extend_from_slice(&input[start..start + len]);
            }
            rest = &rest[decoded.consumed..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(data, pieces.concat());
        trailers.retain(|known, name, _| trailer_allowed(known, name));
        prop_assert_eq!(fields(&decoder.trailers), fields(&trailers));
    }

    /// No panic, nothing taken that the same bytes would not be taken for when they come in two parts,
    /// and what is taken can be written and read again.
    #[test]
    fn arbitrary_bytes(bytes in message_like(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len() + 1);
        let (mut head, mut early) = (RequestHead::default(), RequestHead::default());
        let whole = parse_request(&bytes, &LIMITS, &mut head);
        match parse_request(&bytes[..cut], &LIMITS, &mut early) {
            Ok(None) => {}
            Ok(meta) => {
                prop_assert_eq!(whole, Ok(meta));
                prop_assert_eq!(fields(&head.headers), fields(&early.headers));
            }
            Err(_) => prop_assert!(whole.is_err()),
        }
        if let Ok(Some(meta)) = whole {
            prop_assert!(meta.consumed <= bytes.len());
            let mut out = Vec::new();
            strip_hop_by_hop(&mut head.headers, true);
            encode_request(&head, meta.framing, Persist::KeepAlive, &mut out);
            let again = parse_request(&out, &LIMITS, &mut early).unwrap().unwrap();
            prop_assert_eq!((again.consumed, again.framing), (out.len(), meta.framing));
        }
        let mut head = ResponseHead::default();
        let whole = parse_response(&bytes, &LIMITS, &Method::GET, &mut head);
        match parse_response(&bytes[..cut], &LIMITS, &Method::GET, &mut head) {
            Ok(None) => {}
            Ok(meta) => prop_assert_eq!(whole, Ok(meta)),
            Err(_) => prop_assert!(whole.is_err()),
        }
        let mut decoder = ChunkedDecoder::default();
        let mut rest = &bytes[..];
        while let Ok(Decoded { consumed, .. }) = decoder.decode(rest, &LIMITS) {
            rest = &rest[consumed..];
            if decoder.is_done() || rest.is_empty() {
                break;
            }
            prop_assert!(consumed > 0);
        }
    }

    /// What the short way takes, the long way takes for the same.
    #[test]
    fn plain_heads_are_read_as_any_head(
        list in field_list(),
        ends in prop::collection::vec(prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", " \r\n", "\t\r\n", "\r\r\n"]), 14),
        colons in prop::collection::vec(prop::sample::select(vec![": ", ": ", ":", ":  ", ":\t", " :", ": :"]), 12),
        line in prop::sample::select(vec![
            "GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "GET http://b/ HTTP/1.1", "OPTIONS * HTTP/1.0", "GET  / HTTP/1.1",
            "GET /# HTTP/1.1", "CONNECT a:1 HTTP/1.1", "G T / HTTP/1.1", "GET /\u{e9} HTTP/1.1", "HTTP/1.1 200 OK",
            "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 404 Not\tFound", "HTTP/1.1 200 O\0K", "HTTP/1.1 200 O\rK", "HTTP/1.1 099 x", "HTTP/1.1 2000 x", "HTTP/1.2 204 \u{e9}",
        ]),
        more in prop::sample::select(vec!["", "Host: a\r\n", "Host: a\r\nContent-Length: 5\r\n", "Host: b\r\nTransfer-Encoding: chunked\r\n"]),
        noise in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut text = [line.as_bytes(), ends[12].as_bytes(), more.as_bytes()].concat();
        for (i, (name, value)) in list.iter().enumerate() {
            text.extend_from_slice(&[name.as_bytes(), colons[i].as_bytes(), value, ends[i].as_bytes()].concat());
        }
        text.extend_from_slice(ends[13].as_bytes());
        if let Some((at, byte)) = noise {
            let at = at.index(text.len());
            text[at] = byte;
        }
        both_ways(&text);
    }

    #[test]
    fn arbitrary_bytes_are_read_one_way(bytes in message_like()) {
        both_ways(&bytes);
    }

    #[test]
    fn trickling_costs_few_parses(padding in 0..3000_usize) {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(padding)).into_bytes();
        let mut scanner = HeadScanner::default();
        let parses = (1..=bytes.len()).filter(|end| scanner.due(&bytes[..*end], &LIMITS)).count();
        prop_assert!(parses <= 14, "{parses}");
        scanner.reset();
        prop_assert!(!scanner.due(&bytes[..bytes.len() - 1], &LIMITS) || scanner.due(&bytes, &LIMITS));
    }
}

fn both_ways(text: &[u8]) {
    let most = LIMITS.max_header_count;
    let (mut short, mut long) = (RequestHead::default(), RequestHead::default());
    if let Some(meta) = request::plain(text, most, &mut short) {
        assert_eq!(request::strict(text, &LIMITS, &mut long), Ok(Some(meta)), "{}", text.escape_ascii());
        assert_eq!(fields(&short.headers), fields(&long.headers));
        assert_eq!((short.method, short.version), (long.method, long.version));
        assert_eq!((short.target, short.authority), (long.target, long.authority));
    }
    let (mut short, mut long) = (ResponseHead::default(), ResponseHead::default());
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        if let Some(meta) = response::plain(text, most, &method, &mut short) {
            let any = response::strict(text, &LIMITS, &method, &mut long);
            assert_eq!(any, Ok(Some(meta)), "{}", text.escape_ascii());
            assert_eq!(fields(&short.headers), fields(&long.headers));
            assert_eq!((short.status, short.version, &short.reason), (long.status, long.version, &long.reason));
        }
    }
}

#[test]
fn hop_by_hop_fields_are_dropped() {
    let mut h = headers(&[
        ("Connection", "close, X-Named, upgrade"),
        ("x-named", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "x"),
        ("Proxy-Authorization", "x"),
        ("Accept", "x"),
        ("TE", "gzip, Trailers"),
        ("connection", "host, , te, authorization,x-forwarded-for, \"odd"),
        ("Authorization", "x"),
        ("X-Forwarded-For", "x"),
        ("X-Other", "x"),
    ]);
    let mut response = h.clone();
    strip_hop_by_hop(&mut h, true);
    assert_eq!(names(&h), ["Accept", "Authorization", "X-Forwarded-For", "X-Other", "te"]);
    assert_eq!(h.get(b"te"), Some(&b"trailers"[..]));
    strip_hop_by_hop(&mut response, false);
    assert_eq!(names(&response), ["Accept", "Authorization", "X-Forwarded-For", "X-Other"]);
}

#[test]
fn heads_are_written_as_the_rfc_has_it() {
    let mut out = Vec::new();
    let mut head = RequestHead { target: "/a".into(), authority: "h:1".into(), ..RequestHead::default() };
    head.headers = headers(&[("te", "trailers"), ("Content-Length", "9"), ("transfer-encoding", "x"), ("A", "b")]);
    encode_request(&head, Framing::Length(5), Persist::Close, &mut out);
    let text =
        "GET /a HTTP/1.1\r\nHost: h:1\r\nte: trailers\r\nA: b\r\nContent-Length: 5\r\nConnection: close, TE\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);

    out.clear();
    head = RequestHead { method: Method::CONNECT, authority: "h:1".into(), ..RequestHead::default() };
    encode_request(&head, Framing::None, Persist::KeepAlive, &mut out);
    assert_eq!(out, b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");

    out.clear();
    head = RequestHead { authority: "h".into(), ..RequestHead::default() };
    encode_request(&head, Framing::None, Persist::Upgrade(b"websocket"), &mut out);
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

#[test]
fn edited_heads_are_written_as_if_made_anew() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB:2\r\nConnection: x\r\nC:  3 \r\nD: 4\r\nE: 5\r\nX: 6\r\nF:\r\nG: \r\n\r\n";
    let mut head = RequestHead::default();
    parse_request(input, &LIMITS, &mut head).unwrap().unwrap();
    strip_hop_by_hop(&mut head.headers, true);
    head.headers.set(b"D", b"44");
    head.headers.append(b"H", b"7");
    head.headers.append(b": ", b"\r\n");
    head.headers.remove(b": ");
    let mut out = Vec::new();
    encode_request(&head, Framing::None, Persist::KeepAlive, &mut out);
    let text = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 44\r\nE: 5\r\nF: \r\nG: \r\nH: 7\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}

#[test]
fn responses_are_written_for_their_client() {
    let write = |status, framing, version, persist| {
        let mut out = Vec::new();
        let head = ResponseHead { status, ..ResponseHead::default() };
        encode_response(&head, framing, version, persist, &mut out);
        String::from_utf8(out).unwrap()
    };
    use Persist::{Close, KeepAlive, Upgrade};
    use Version::{Http10, Http11};
    for (status, framing, version, persist, text) in [
        (200, Framing::Length(1), Http11, KeepAlive, "200 OK\r\nContent-Length: 1\r\n"),
        (200, Framing::Chunked, Http11, Close, "200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"),
        (304, Framing::Declared(7), Http11, KeepAlive, "304 Not Modified\r\nContent-Length: 7\r\n"),
        (200, Framing::Length(1), Http10, KeepAlive, "200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n"),
        (200, Framing::UntilClose, Http10, KeepAlive, "200 OK\r\nConnection: close\r\n"),
        (204, Framing::Length(0), Http11, KeepAlive, "204 No Content\r\n"),
        (100, Framing::None, Http11, Close, "100 Continue\r\n"),
        (101, Framing::None, Http11, Upgrade(b"x"), "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n"),
        (599, Framing::Length(0), Http11, KeepAlive, "599 \r\nContent-Length: 0\r\n"),
    ] {
        assert_eq!(write(status, framing, version, persist), format!("HTTP/1.1 {text}\r\n"));
    }
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for len in [1, 9, 10, 15, 16, 255, 256, 65_535, usize::MAX] {
        let mut out = Vec::new();
        encode_chunk_head(len, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{len:x}\r\n"));
    }
}

#[test]
fn what_passes_for_a_known_field_is_dropped_and_the_mesh_s_own_are_of_trusted_peers() {
    let claims = [
        "x_forwarded_client_cert",
        "X_Forwarded-Client_Cert",
        "X.Forwarded.Client~Cert",
        "Transfer_Encoding",
        "content_length",
        "X_Outrigger_Attempt",
        "x_outrigger-a-name-that-is-longer-than-any-that-is-known",
    ];
    let ours = ["x-outrigger-timeout-ms", "x-outrigger-attempt", "X-Outrigger-Anything"];
    let apps = ["api_key", "x_forwarded_clients", "x-forwarded-for", "x-outrigger-hops", "_", "x_", "accept"];
    for trusted in [true, false] {
        let all: Vec<_> = claims.iter().chain(&ours).chain(&apps).map(|n| (*n, "1")).collect();
        let mut h = headers(&all);
        strip_claims(&mut h, trusted);
        let kept: Vec<&str> = if trusted { ours.iter().chain(&apps).copied().collect() } else { apps.to_vec() };
        assert_eq!(names(&h), kept);
    }
    for name in claims.iter().chain(&ours[..2]).chain(&["x-outrigger-hops", "x-forwarded-client-cert"]) {
        assert!(!trailer_allowed(Known::of(name.as_bytes()), name.as_bytes()), "{name}");
    }
    assert!(trailer_allowed(Known::Other, b"api_sum"));
}

#[test]
fn claims_of_a_head_that_was_read_are_those_of_one_that_was_put_together() {
    let names = [
        "Accept-Encoding",
        "X_Forwarded_For",
        "x.request.id",
        "X-Outrigger-Foo",
        "x-outrigger-attempt",
        "foo_bar",
        "A",
    ];
    for several in names.iter().flat_map(|a| names.iter().map(move |b| [*a, *b])) {
        for blank in [" ", "\t"] {
            let [a, b] = several;
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{a}:{blank}1\r\n{b}: 2\r\n\r\n");
            for trusted in [false, true] {
                let mut head = RequestHead::default();
                parse_request(text.as_bytes(), &Limits::default(), &mut head).unwrap().unwrap();
                let mut built = Headers::new();
                built.append(a.as_bytes(), b"1");
                built.append(b.as_bytes(), b"2");
                strip_claims(&mut head.headers, trusted);
                strip_claims(&mut built, trusted);
                assert_eq!(format!("{:?}", head.headers), format!("{built:?}"), "{text:?}");
            }
        }
    }
}
