//! The shape of answers, and that nothing gets out of its quotes.

use std::borrow::Cow;

use outrigger_config::explain::answers;
use proptest::prelude::*;

use super::*;
use crate::error::Reason;

fn write(change: impl FnOnce(&mut Answer<'_>), reason: Reason, details: &str) -> (ResponseHead, Vec<u8>) {
    let id = RequestId::parse(b"id-1").unwrap();
    let mut answer = Answer::new(&id);
    change(&mut answer);
    let mut head = ResponseHead { status: 999, ..ResponseHead::default() };
    head.headers.append(b"x-stale", b"1");
    let mut body = b"stale".to_vec();
    answer.write(&Failure::new(reason, Cow::Owned(details.to_owned())), &mut head, &mut body);
    (head, body)
}

fn field(head: &ResponseHead, name: Known) -> &str {
    std::str::from_utf8(head.headers.get_known(name).unwrap_or_default()).unwrap()
}

#[test]
fn http_gets_status_proxy_status_and_json() {
    let change = |answer: &mut Answer<'_>| {
        answer.upstream = Some("payments");
        answer.attempts = 3;
        answer.retry_after = Some(Duration::from_millis(1001));
    };
    let (head, body) = write(change, Reason::ConnectionRefused, "10.0.0.7:80 said \"no\" \\ n\u{f6}");
    assert_eq!(head.status, 502);
    assert_eq!(
        field(&head, Known::ProxyStatus),
        r#"outrigger; error=connection_refused; details="10.0.0.7:80 said \"no\" \\ n?""#
    );
    assert_eq!(field(&head, Known::ContentType), "application/json");
    assert_eq!(field(&head, Known::CacheControl), "no-store");
    assert_eq!(field(&head, Known::RetryAfter), "2");
    assert_eq!(head.headers.len(), 4);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let want = serde_json::json!({
        "error": "connection_refused",
        "message": "10.0.0.7:80 said \"no\" \\ n\u{f6}",
        "request_id": "id-1",
        "upstream": "payments",
        "attempts": 3,
    });
    assert_eq!(json, want);
}

#[test]
fn head_gets_no_body_and_an_unknown_upstream_is_null() {
    let (head, body) = write(|answer| answer.head = true, Reason::DestinationNotFound, "");
    assert_eq!((head.status, body.len()), (404, 0));
    assert_eq!(field(&head, Known::ProxyStatus), "outrigger; error=destination_not_found");
    let (_, body) = write(|_| {}, Reason::DestinationNotFound, "");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&json["upstream"], &json["attempts"]), (&serde_json::Value::Null, &0.into()));
}

#[test]
fn grpc_gets_a_trailers_only_response() {
    let (head, body) = write(|answer| answer.grpc = true, Reason::RateLimited, "100% of\r\nf\u{fc}nf ");
    assert_eq!((head.status, body.len()), (200, 0));
    assert_eq!(field(&head, Known::ContentType), "application/grpc");
    assert_eq!(field(&head, Known::GrpcStatus), "8");
    assert_eq!(field(&head, Known::GrpcMessage), "rate_limited: 100%25 of%0D%0Af%C3%BCnf");
    assert!(field(&head, Known::ProxyStatus).starts_with("outrigger; error=rate_limited; details="));
}

#[test]
fn an_injected_fault_has_the_status_of_its_policy() {
    let (head, _) = write(|answer| answer.status = Some(418), Reason::FaultInjected, "");
    assert_eq!(head.status, 418);
    let change = |answer: &mut Answer<'_>| {
        answer.grpc = true;
        answer.status = Some(418);
        answer.grpc_status = Some(5);
    };
    let (head, _) = write(change, Reason::FaultInjected, "");
    assert_eq!((head.status, field(&head, Known::GrpcStatus)), (200, "5"));
}

#[test]
fn every_reason_has_the_status_and_token_of_the_table() {
    for reason in Reason::ALL {
        let (head, body) = write(|_| {}, reason, "x");
        assert_eq!(head.status, reason.row().status);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["error"], reason.token());
    }
}

#[test]
fn explain_foretells_what_is_answered() {
    for (told, reason) in [
        (answers::NOT_FOUND, Reason::DestinationNotFound),
        (answers::UNCLEAR, Reason::HttpRequestError),
        (answers::DENIED, Reason::AccessDenied),
        (answers::NO_BACKEND, Reason::ProxyConfigurationError),
        (answers::NO_ENDPOINT, Reason::DestinationUnavailable),
    ] {
        assert_eq!(told, (reason.row().status, reason.token()));
    }
}

#[test]
fn nobody_is_asked_back_at_once() {
    for (wait, want) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
        let mut headers = Headers::new();
        push_retry_after(Duration::from_millis(wait), &mut headers);
        assert_eq!(headers.get_known(Known::RetryAfter), Some(want.as_bytes()));
    }
}

proptest! {
    #[test]
    fn whatever_the_details_fields_stay_visible_ascii(details in "(?s).{0,700}", grpc: bool) {
        let (head, body) = write(|answer| answer.grpc = grpc, Reason::HttpProtocolError, &details);
        for (_, name, value) in head.headers.iter() {
            prop_assert!(value.iter().all(|b| (b' '..=b'~').contains(b)), "{:?}", name);
            prop_assert_eq!(value.trim_ascii(), value);
        }
        let status = field(&head, Known::ProxyStatus);
        prop_assert!(status.len() < 2 * MAX_DETAILS + 64);
        if !grpc {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }
}
