use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::{redact::REDACTED, *};
use crate::observe::{Observer, tests::record};

fn head(target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead { authority: "shop.test".into(), target: target.into(), ..RequestHead::default() };
    headers.iter().for_each(|(name, value)| head.headers.append(name.as_bytes(), value.as_bytes()));
    head
}

fn settings(query: &[(&str, &str)]) -> Settings {
    Settings::parse(query.iter().copied()).unwrap()
}

fn lines(tap: &mut Tap) -> Vec<serde_json::Value> {
    std::iter::from_fn(|| tap.lines.try_recv().ok()).map(|l| serde_json::from_slice(&l).unwrap()).collect()
}

/// One request from its head to its end, as a worker tells it.
fn pass(observer: &Arc<Observer>, head: &RequestHead, status: u16, now: Instant) {
    let worker = observer.worker(0);
    let route = worker.route(Direction::Inbound, &"orders".into(), &"main".into());
    if !worker.taps().active() {
        return;
    }
    let peer: Arc<str> = "spiffe://cluster.local/ns/shop/sa/web".into();
    let Some(mut tapped) = worker.taps().begin(Direction::Inbound, head, Some(&peer), &mut || 0.5) else { return };
    let mut record = record(&Method::GET);
    record.peer_identity = Some(&peer);
    record.status = 0;
    tapped.tell(Moment::Attempt, &route, &record, &ResponseHead::default(), now);
    record.status = status;
    let mut response = ResponseHead { status, ..ResponseHead::default() };
    response.headers.append(b"set-cookie", b"id=s3cr3t");
    response.headers.append(b"x-plain", b"yes");
    tapped.tell(Moment::Answer, &route, &record, &response, now);
    tapped.tell(Moment::End, &route, &record, &response, now);
}

#[test]
fn a_request_is_three_lines_and_its_secrets_are_none_of_them() {
    let observer = Observer::new(1);
    let mut tap = observer.taps().open(settings(&[]), Instant::now()).unwrap();
    let secret =
        [("authorization", "Bearer abc"), ("cookie", "a=b"), ("X-Api-Key", "k"), ("x-forwarded-client-cert", "By=x")];
    let head = head("/orders?page=2&access_token=s3cr3t", &[&secret[..], &[("accept", "*/*")]].concat());
    pass(&observer, &head, 200, Instant::now());
    let lines = lines(&mut tap);
    let events: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["request", "response", "end"]);
    assert_eq!(lines[0]["path"], format!("/orders?page=2&access_token={REDACTED}"));
    assert_eq!(lines[0]["peer"], "spiffe://cluster.local/ns/shop/sa/web");
    for (name, _) in secret {
        assert!(lines[0]["headers"].as_array().unwrap().contains(&serde_json::json!([name, REDACTED])), "{name}");
    }
    assert!(lines[0]["headers"].as_array().unwrap().contains(&serde_json::json!(["accept", "*/*"])));
    assert_eq!(lines[1]["headers"], serde_json::json!([["set-cookie", REDACTED], ["x-plain", "yes"]]));
    assert_eq!((&lines[2]["status"], &lines[2]["attempts"]), (&200.into(), &1.into()));
    let all: String = lines.iter().map(ToString::to_string).collect();
    assert!(!all.contains("s3cr3t") && !all.contains("Bearer"), "{all}");
}

#[test]
fn what_is_asked_for_by_name_is_shown() {
    let observer = Observer::new(1);
    let mut tap = observer.taps().open(settings(&[("show-header", "Cookie")]), Instant::now()).unwrap();
    pass(&observer, &head("/", &[("cookie", "a=b"), ("authorization", "Basic x")]), 200, Instant::now());
    assert_eq!(lines(&mut tap)[0]["headers"], serde_json::json!([["cookie", "a=b"], ["authorization", REDACTED]]));
}

#[test]
fn filters_hold_together_and_their_values_are_alternatives() {
    let head = head("/orders/7?x=1", &[("x-user", "anna-maria"), ("x-beta", "1")]);
    for (query, shown) in [
        (&[("direction", "inbound")][..], true),
        (&[("direction", "outbound")], false),
        (&[("upstream", "orders")], true),
        (&[("upstream", "ord*")], true),
        (&[("upstream", "ord")], false),
        (&[("upstream", "payments"), ("upstream", "orders")], true),
        (&[("route", "other")], false),
        (&[("method", "get")], true),
        (&[("method", "POST")], false),
        (&[("path", "/orders/")], true),
        (&[("path", "/orders/8")], false),
        (&[("status", "5xx")], true),
        (&[("status", "200"), ("status", "500-503")], true),
        (&[("status", "none")], false),
        (&[("peer", "spiffe://cluster.local/ns/shop/*")], true),
        (&[("peer", "")], false),
        (&[("header", "x-beta")], true),
        (&[("header", "x-beta"), ("header", "x-gamma")], false),
        (&[("header", "x-user: maria")], true),
        (&[("header", "x-user: otto")], false),
        (&[("header", "host: shop.test")], true),
        (&[("sample", "0.4")], false),
        (&[("sample", "0.6")], true),
    ] {
        let observer = Observer::new(1);
        let mut tap = observer.taps().open(settings(query), Instant::now()).unwrap();
        pass(&observer, &head, 503, Instant::now());
        assert_eq!(lines(&mut tap).len(), if shown { 3 } else { 0 }, "{query:?}");
    }
}

#[test]
fn wrong_filters_say_what_would_be_right() {
    for (query, word) in [
        (("directon", "inbound"), "direction, upstream"),
        (("direction", "in"), "inbound or outbound"),
        (("status", "6xx"), "5xx"),
        (("status", "504-500"), "500-504"),
        (("path", "orders"), "begins with /"),
        (("rate", "0"), "1 to 1000"),
        (("rate", "nan"), "1 to 1000"),
        (("sample", "2"), "0 to 1"),
        (("max", "-1"), "number of requests"),
        (("header", "a b"), "NAME"),
        (("method", "G T"), "no method"),
    ] {
        let error = Settings::parse([query]).unwrap_err();
        assert!(error.contains(word), "{query:?}: {error}");
    }
    let many = vec![("upstream", "x"); 33];
    assert!(Settings::parse(many).unwrap_err().contains("32"));
}

#[test]
fn rate_number_and_queue_are_bounds() {
    let observer = Observer::new(1);
    let start = Instant::now();
    let mut tap = observer.taps().open(settings(&[("rate", "5"), ("max", "8")]), start).unwrap();
    let head = head("/", &[]);
    (0..20).for_each(|_| pass(&observer, &head, 200, start));
    assert_eq!(lines(&mut tap).len(), 15, "five in a second");
    assert_eq!((tap.counts().shown, tap.counts().limited, tap.is_over()), (5, 15, false));
    (0..20).for_each(|_| pass(&observer, &head, 200, start + Duration::from_secs(1)));
    assert_eq!(lines(&mut tap).len(), 9, "eight in all");
    assert!(tap.is_over());
    // Who does not read loses lines, whole requests first.
    let full = observer.taps().open(settings(&[("rate", "1000")]), start).unwrap();
    (0..600).for_each(|_| pass(&observer, &head, 200, start));
    let counts = full.counts();
    assert_eq!(full.lines.len(), 512);
    assert!(counts.dropped > 0 && counts.dropped < 600 * 3, "{counts:?}");
}

#[test]
fn places_are_few_and_given_back() {
    let observer = Observer::new(1);
    assert!(!observer.taps().active());
    let taps: Vec<_> = (0..TAPPERS).map(|_| observer.taps().open(settings(&[]), Instant::now()).unwrap()).collect();
    assert_eq!(observer.taps().open(settings(&[]), Instant::now()).unwrap_err(), Full);
    assert!(observer.taps().active());
    drop(taps);
    assert!(!observer.taps().active());
    assert!(observer.taps().open(settings(&[]), Instant::now()).is_ok());
}

#[test]
fn large_heads_are_cut() {
    let observer = Observer::new(1);
    let mut tap = observer.taps().open(settings(&[]), Instant::now()).unwrap();
    let large = "\u{e4}".repeat(20_000);
    let many: Vec<_> = (0..50).map(|_| ("x-large", &*large)).collect();
    pass(&observer, &head(&format!("/{}", "a/".repeat(10_000)), &many), 200, Instant::now());
    let line = tap.lines.try_recv().unwrap();
    assert!(line.len() < 16 * 1024, "{}", line.len());
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(value["headers"].as_array().unwrap().last().unwrap()[0], "...");
}

#[test]
fn urls_lose_what_is_secret() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    for (before, after) in [
        ("/orders", "/orders"),
        ("/orders?page=2&sort=name", "/orders?page=2&sort=name"),
        ("/a?token=x", "/a?token=[redacted]"),
        ("/a?TOKEN=x&b=1", "/a?TOKEN=[redacted]&b=1"),
        ("/a?access%5Ftoken=x", "/a?access%5Ftoken=[redacted]"),
        ("/a?api_key=x;password=y", "/a?api_key=[redacted];password=[redacted]"),
        ("/a?X-Amz-Signature=00ff&X-Amz-Date=1", "/a?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
        ("/cb?code=abc&state=def", "/cb?code=[redacted]&state=[redacted]"),
        ("/a?q=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5", "/a?q=[redacted]"),
        ("/a?id=0190c5a4-7d1e-7a00-8000-0123456789ab", "/a?id=0190c5a4-7d1e-7a00-8000-0123456789ab"),
        ("/a;jsessionid=1?b=2", "/a;jsessionid=[redacted]?b=2"),
        ("/a?token=", "/a?token="),
        ("/a?flag&b", "/a?flag&b"),
        ("/#access_token=x", "/#access_token=[redacted]"),
        ("https://u:p@host/a?b=1", "https://[redacted]@host/a?b=1"),
        ("/a?u=https%3A%2F%2Fx%2F%3Fb", "/a?u=https%3A%2F%2Fx%2F%3Fb"),
        ("*", "*"),
        ("", ""),
    ] {
        assert_eq!(redact::url(before), after);
    }
    assert_eq!(redact::url(&format!("/verify/{jwt}")), "/verify/[redacted]");
    assert_eq!(redact::url(&format!("/a?x={jwt}")), "/a?x=[redacted]");
    for (name, value, after) in [
        ("location", "/next?token=x", "/next?token=[redacted]"),
        ("referer", "https://u:p@h/?sid=1", "https://[redacted]@h/?sid=[redacted]"),
        ("x-custom", "Bearer abc", REDACTED),
        ("x-custom", jwt, REDACTED),
        ("x-auth-request-email", "a@b", REDACTED),
        ("accept", "text/html;q=0.9, */*;q=0.8", "text/html;q=0.9, */*;q=0.8"),
        ("idempotency-key", "7", "7"),
        ("www-authenticate", "Negotiate", "Negotiate"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        assert_eq!(redact::header(name.as_bytes(), value), after, "{name}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_redaction_and_named_secrets_never_show(text in ".{0,200}", secret in "[a-z]{8,20}Q7") {
        drop(redact::url(&text));
        drop(redact::header(text.as_bytes(), &text));
        for separator in ["?", "&", ";", "#", "?a=b&"] {
            let url = format!("/{text}{separator}token={secret}");
            prop_assert!(!redact::url(&url).contains(&secret), "{url}");
        }
    }
}
