//! The HTTP/1 codec: no panic, the same result however the bytes are split, and what is forwarded is read
//! back with the framing that was read.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use outrigger_proxy::http::{
    RequestHead, ResponseHead, Version,
    h1::{
        ChunkedDecoder, Event, Framing, Limits, Persist, encode_request, encode_response, parse_request,
        parse_response, strip_hop_by_hop,
    },
};

const LIMITS: Limits = Limits { max_header_bytes: 4096, max_header_count: 32 };

fuzz_target!(|input: &[u8]| {
    let [what, split, bytes @ ..] = input else { return };
    let cut = usize::from(*split) * bytes.len() / 255;
    match what % 4 {
        0 => request(bytes, cut),
        1 => response(bytes, cut, &Method::GET),
        2 => response(bytes, cut, &Method::HEAD),
        _ => chunked(bytes, usize::from(*split).max(1)),
    }
});

fn request(bytes: &[u8], cut: usize) {
    let mut head = RequestHead::default();
    let early = parse_request(&bytes[..cut], &LIMITS, &mut head);
    let whole = parse_request(bytes, &LIMITS, &mut head);
    match early {
        Ok(None) => {}
        Ok(Some(_)) => assert_eq!(early, whole),
        Err(_) => assert!(whole.is_err()),
    }
    let Ok(Some(meta)) = whole else { return };
    strip_hop_by_hop(&mut head.headers, true);
    let mut out = Vec::new();
    encode_request(&head, meta.framing, Persist::KeepAlive, &mut out);
    let roomy = Limits { max_header_bytes: 8192, max_header_count: 64 };
    let mut again = RequestHead::default();
    let read = parse_request(&out, &roomy, &mut again).expect("forwarded heads are good").expect("and whole");
    assert_eq!((read.consumed, read.framing), (out.len(), meta.framing));
    assert_eq!((&again.method, &again.target, &again.authority), (&head.method, &head.target, &head.authority));
    // What speaks of the connection was written anew, such as `Connection: TE` with a `TE` that stays.
    strip_hop_by_hop(&mut again.headers, true);
    assert!(again.headers.iter().eq(head.headers.iter()));
}

fn response(bytes: &[u8], cut: usize, method: &Method) {
    let mut head = ResponseHead::default();
    let early = parse_response(&bytes[..cut], &LIMITS, method, &mut head);
    let whole = parse_response(bytes, &LIMITS, method, &mut head);
    match early {
        Ok(None) => {}
        Ok(Some(_)) => assert_eq!(early, whole),
        Err(_) => assert!(whole.is_err()),
    }
    let Ok(Some(meta)) = whole else { return };
    strip_hop_by_hop(&mut head.headers, false);
    let mut out = Vec::new();
    encode_response(&head, meta.framing, Version::Http11, Persist::KeepAlive, &mut out);
    let roomy = Limits { max_header_bytes: 8192, max_header_count: 64 };
    let mut again = ResponseHead::default();
    let read = parse_response(&out, &roomy, method, &mut again).expect("forwarded heads are good").expect("and whole");
    assert_eq!((read.consumed, read.framing, again.status), (out.len(), meta.framing, head.status));
    assert!(read.keep_alive || read.upgrade || meta.framing == Framing::UntilClose);
}

fn chunked(bytes: &[u8], step: usize) {
    let whole = body(bytes, bytes.len().max(1));
    let parts = body(bytes, step);
    assert_eq!(whole, parts);
}

/// The data, bytes consumed and trailers; or `None` for what is refused or has no end.
fn body(bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize, String)> {
    let mut decoder = ChunkedDecoder::default();
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() {
            let decoded = decoder.decode(rest, &LIMITS).ok()?;
            match decoded.event {
                Event::Data { start, len } => data.extend_from_slice(&rest[start..start + len]),
                Event::More => assert_eq!(decoded.consumed, rest.len()),
                Event::End => {
                    consumed += decoded.consumed;
                    return Some((data, consumed, format!("{:?}", decoder.trailers)));
                }
            }
            consumed += decoded.consumed;
            rest = &rest[decoded.consumed..];
        }
    }
    None
}
