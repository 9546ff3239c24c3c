//! What the HTTP/1 codec takes and refuses, byte by byte: framing, smuggling, targets, fields, limits.
//!
//! Every case is fed whole and one byte at a time. A good head is incomplete until its last byte; a bad one
//! is refused, at its last byte at the latest, and never taken once it was refused.

use http::Method;
use outrigger_proxy::{
    error::Reason,
    http::{
        RequestHead, ResponseHead,
        h1::{
            ChunkedDecoder, Event, Fault, Framing, HeadScanner, Limits, Message, ParseError, RequestMeta, ResponseMeta,
            parse_request, parse_response,
        },
    },
};

#[path = "h1_corpus/bodies.rs"]
mod bodies;
#[path = "h1_corpus/requests.rs"]
mod requests;
#[path = "h1_corpus/responses.rs"]
mod responses;

/// Small, so that the cases about limits are short.
const LIMITS: Limits = Limits { max_header_bytes: 2048, max_header_count: 20 };

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Parses `input` whole and at every prefix, and returns the result for the whole.
fn at_every_split<M: Copy + PartialEq + std::fmt::Debug>(
    input: &[u8],
    mut parse: impl FnMut(&[u8]) -> Result<Option<M>, ParseError>,
) -> Result<Option<M>, ParseError> {
    let whole = parse(input);
    let mut scanner = HeadScanner::default();
    for end in 0..=input.len() {
        let part = parse(&input[..end]);
        match part {
            Ok(None) => {}
            Ok(Some(_)) => assert_eq!(part, whole, "taken early at {end}: {}", show(input)),
            Err(_) => assert!(whole.is_err(), "refused early at {end}, {part:?}: {}", show(input)),
        }
        // What the scanner holds back would have come back incomplete, or is found at the next due parse.
        if !scanner.due(&input[..end], &LIMITS) {
            assert!(!matches!(part, Ok(Some(_))), "held back at {end}: {}", show(input));
        }
    }
    whole
}

fn request(input: &[u8]) -> (Result<Option<RequestMeta>, ParseError>, RequestHead) {
    let mut head = RequestHead::default();
    let result = at_every_split(input, |part| parse_request(part, &LIMITS, &mut head));
    head = RequestHead::default();
    assert_eq!(parse_request(input, &LIMITS, &mut head), result);
    (result, head)
}

fn response(method: &Method, input: &[u8]) -> (Result<Option<ResponseMeta>, ParseError>, ResponseHead) {
    let mut head = ResponseHead::default();
    let result = at_every_split(input, |part| parse_response(part, &LIMITS, method, &mut head));
    head = ResponseHead::default();
    assert_eq!(parse_response(input, &LIMITS, method, &mut head), result);
    (result, head)
}
