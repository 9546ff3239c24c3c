//! Fallbacks: when, what, and what is never kept.

use std::{sync::Arc, time::Duration};

use http::Method;
use tokio::time::Instant;

use super::*;
use crate::http::RequestHead;

mod keeping;
mod sweep;

pub(super) const KEEP: Duration = Duration::from_secs(60);

pub(super) fn request(target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead { method: Method::GET, ..RequestHead::default() };
    head.authority = "Shop.example".into();
    head.target = target.into();
    for (name, value) in fields {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    head
}

pub(super) fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead { status, ..ResponseHead::default() };
    for (name, value) in fields {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    head
}

pub(super) fn asked(head: &RequestHead) -> Asked<'_> {
    Asked { upstream: "shop", rule: None, caller: None, head }
}

/// Keeps `body` as the answer; false if it may not be kept.
pub(super) fn keep(store: &Arc<Store>, asked: &Asked<'_>, head: &ResponseHead, body: &[u8], now: Instant) -> bool {
    let Some(mut recorder) = Recorder::begin(store, asked, head, KEEP, now) else { return false };
    body.chunks(1000).for_each(|piece| recorder.push(piece));
    let kept = !recorder.gave_up();
    recorder.finish(now);
    kept
}

fn fixed(status: u16, headers: &[(&str, &str)], body: &str) -> StaticResponse {
    let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    StaticResponse { status, headers, body: body.into() }
}

fn field<'a>(head: &'a ResponseHead, name: &str) -> Option<&'a str> {
    head.headers.get(name.as_bytes()).map(|v| std::str::from_utf8(v).unwrap())
}

#[test]
fn only_the_tokens_of_the_policy_fall_back() {
    let policy = model::Fallback {
        on: vec!["circuit_open".into(), "http_response_timeout".into(), "client_disconnected".into()],
        action: FallbackAction::StaleIfError(KEEP),
    };
    for reason in Reason::ALL {
        let wanted = matches!(reason, Reason::CircuitOpen | Reason::HttpResponseTimeout);
        assert_eq!(action(Some(&policy), reason).is_some(), wanted, "{reason}");
        assert!(action(None, reason).is_none());
    }
}

#[test]
fn a_fixed_answer_is_what_was_written_and_marked() {
    let (mut head, mut body) = (response(500, &[("x-old", "1")]), b"old".to_vec());
    let fixed = fixed(200, &[("content-type", "application/json"), ("content-length", "7")], "{\"items\":[]}");
    write_static(&fixed, Reason::CircuitOpen, false, false, &mut head, &mut body);
    assert_eq!((head.status, &*body), (200, &b"{\"items\":[]}"[..]));
    assert_eq!(field(&head, "x-outrigger-degraded"), Some("circuit_open"));
    assert_eq!(field(&head, "content-type"), Some("application/json"));
    assert_eq!((field(&head, "x-old"), field(&head, "content-length")), (None, None));
    write_static(&fixed, Reason::CircuitOpen, false, true, &mut head, &mut body);
    assert!(body.is_empty(), "HEAD");
}

#[test]
fn a_text_has_a_type_and_204_no_body() {
    let (mut head, mut body) = Default::default();
    write_static(&fixed(200, &[], "try later"), Reason::CircuitOpen, false, false, &mut head, &mut body);
    assert_eq!(field(&head, "content-type"), Some("text/plain; charset=utf-8"));
    write_static(&fixed(204, &[], "try later"), Reason::CircuitOpen, false, false, &mut head, &mut body);
    assert!(body.is_empty() && field(&head, "content-type").is_none());
}

#[test]
fn grpc_gets_trailers_only() {
    let (mut head, mut body) = Default::default();
    let answer = fixed(200, &[("content-type", "text/html"), ("x-a", "b")], "späť later\n");
    write_static(&answer, Reason::HttpResponseTimeout, true, false, &mut head, &mut body);
    assert_eq!((head.status, body.len()), (200, 0));
    assert_eq!(field(&head, "content-type"), Some("application/grpc"));
    assert_eq!(field(&head, "grpc-status"), Some("4"));
    assert_eq!(field(&head, "grpc-message"), Some("sp%C3%A4%C5%A5 later"));
    assert_eq!((field(&head, "x-a"), field(&head, "x-outrigger-degraded")), (Some("b"), Some("http_response_timeout")));
    write_static(&fixed(200, &[("grpc-status", "9")], ""), Reason::CircuitOpen, true, false, &mut head, &mut body);
    assert_eq!((field(&head, "grpc-status"), field(&head, "grpc-message")), (Some("9"), None));
}
