//! Which answers are kept, for whom, and for how long.

use super::*;
use crate::fallback::record::LARGEST_BODY;

fn store() -> Arc<Store> {
    Arc::new(Store::default())
}

/// Whether an answer with these fields to a request with those is kept.
fn kept(request_fields: &[(&str, &str)], status: u16, fields: &[(&str, &str)]) -> bool {
    let (store, now) = (store(), Instant::now());
    let head = request("/", request_fields);
    let kept = keep(&store, &asked(&head), &response(status, fields), b"x", now);
    assert_eq!(kept, store.find(&asked(&head), KEEP, now).is_some());
    assert_eq!(store.bytes() > 0, kept, "nothing stays lent");
    kept
}

#[test]
fn an_answer_comes_back_with_its_age_and_mark() {
    let (store, now) = (store(), Instant::now());
    let head = request("/cart?x=1", &[]);
    let fields =
        [("content-type", "text/plain"), ("age", "7"), ("x-request-id", "old"), ("content-length", "4"), ("etag", "1")];
    assert!(keep(&store, &asked(&head), &response(203, &fields), b"good", now));
    let later = now + Duration::from_secs(30);
    let good = store.find(&asked(&head), KEEP, later).unwrap();
    let mut answer = response(502, &[("x-old", "1")]);
    good.write(Reason::ConnectionRefused, later, &mut answer);
    assert_eq!((answer.status, &*good.body), (203, &b"good"[..]));
    assert_eq!(field(&answer, "age"), Some("37"));
    assert_eq!(field(&answer, "x-outrigger-degraded"), Some("connection_refused"));
    assert_eq!((field(&answer, "etag"), field(&answer, "content-type")), (Some("1"), Some("text/plain")));
    for gone in ["x-request-id", "content-length", "x-old"] {
        assert_eq!(field(&answer, gone), None);
    }
}

#[test]
fn it_is_no_older_than_the_policy_allows() {
    let (store, now) = (store(), Instant::now());
    let head = request("/", &[]);
    assert!(keep(&store, &asked(&head), &response(200, &[]), b"x", now));
    assert!(store.find(&asked(&head), KEEP, now + KEEP).is_some());
    assert!(store.find(&asked(&head), KEEP, now + KEEP + Duration::from_millis(1)).is_none());
    assert!(store.find(&asked(&head), Duration::from_secs(5), now + Duration::from_secs(6)).is_none());
}

#[test]
fn what_a_shared_cache_may_not_keep_is_not_kept() {
    assert!(kept(&[], 200, &[]));
    assert!(kept(&[], 204, &[("cache-control", "max-age=0")]));
    for status in [199, 206, 301, 304, 404, 500] {
        assert!(!kept(&[], status, &[]), "{status}");
    }
    let directives = ["no-store", "private", "No-Cache", "private=\"x\"", "max-age=5, no-store", "a=\"b,c\", private"];
    for value in directives {
        assert!(!kept(&[], 200, &[("cache-control", value)]), "{value}");
    }
    assert!(kept(&[], 200, &[("cache-control", "a=\"x, no-store\"")]), "in quotes it is no directive");
    assert!(!kept(&[], 200, &[("set-cookie", "a=b")]));
    assert!(!kept(&[], 200, &[("vary", "accept, *")]));
    assert!(!kept(&[("authorization", "Basic x")], 200, &[("cache-control", "public")]));
    assert!(!kept(&[("cookie", "a=b")], 200, &[]));
    assert!(kept(&[("cookie", "a=b")], 200, &[("cache-control", "public, max-age=3")]));
    assert!(!kept(&[("cache-control", "no-store")], 200, &[]));
    assert!(!kept(&[("cache-control", "no-cache")], 200, &[]));
}

#[test]
fn what_must_be_validated_is_used_while_fresh() {
    let head = request("/", &[]);
    for (value, seconds) in [
        ("max-age=10, must-revalidate", 10),
        ("s-maxage=9", 9),
        ("max-age=100, s-maxage=\"8\"", 8),
        ("max-age=10, max-age=7, proxy-revalidate", 7),
        ("max-age=99999999999999, must-revalidate", 60),
    ] {
        let (store, now) = (store(), Instant::now());
        assert!(keep(&store, &asked(&head), &response(200, &[("cache-control", value)]), b"x", now));
        let find = |s| store.find(&asked(&head), KEEP, now + Duration::from_secs(s)).is_some();
        assert!(find(seconds) && !find(seconds + 1), "{value}");
    }
    for value in ["must-revalidate", "max-age=x, must-revalidate", "s-maxage"] {
        assert!(!kept(&[], 200, &[("cache-control", value)]), "{value}");
    }
}

#[test]
fn only_safe_methods() {
    let (store, now) = (store(), Instant::now());
    for (method, wanted) in [(Method::GET, true), (Method::HEAD, true), (Method::POST, false), (Method::PUT, false)] {
        let mut head = request("/", &[]);
        head.method = method;
        assert_eq!(keep(&store, &asked(&head), &response(200, &[]), b"", now), wanted);
    }
    assert!(!kept(&[("content-type", "application/grpc")], 200, &[]));
}

#[test]
fn nobody_gets_the_answer_of_another() {
    let (store, now) = (store(), Instant::now());
    let head = request("/a", &[]);
    let mine = Asked { upstream: "shop", rule: Some("r"), caller: Some("spiffe://a"), head: &head };
    assert!(keep(&store, &mine, &response(200, &[]), b"mine", now));
    let other = request("/b", &[]);
    let mut host = request("/a", &[]);
    host.authority = "other.example".into();
    for others in [
        Asked { upstream: "shop2", ..mine },
        Asked { rule: None, ..mine },
        Asked { caller: None, ..mine },
        Asked { caller: Some("spiffe://b"), ..mine },
        Asked { head: &other, ..mine },
        Asked { head: &host, ..mine },
    ] {
        assert!(store.find(&others, KEEP, now).is_none(), "{others:?}");
    }
    let mut shouted = request("/a", &[]);
    shouted.authority = "SHOP.EXAMPLE".into();
    assert!(store.find(&Asked { head: &shouted, ..mine }, KEEP, now).is_some());
    let secret = request("/a", &[("authorization", "x")]);
    assert!(store.find(&Asked { head: &secret, ..mine }, KEEP, now).is_none());
}

#[test]
fn parts_of_a_key_do_not_run_into_one_another() {
    let (store, now, head) = (store(), Instant::now(), request("/", &[]));
    let one = Asked { upstream: "a", rule: Some("bc"), caller: None, head: &head };
    assert!(keep(&store, &one, &response(200, &[]), b"", now));
    assert!(store.find(&Asked { upstream: "ab", rule: Some("c"), ..one }, KEEP, now).is_none());
}

#[test]
fn variants_are_kept_apart() {
    let (store, now) = (store(), Instant::now());
    let vary = response(200, &[("vary", "Accept-Language, accept")]);
    let german = request("/", &[("accept-language", "de")]);
    let french = request("/", &[("Accept-Language", "fr")]);
    let (none, empty) = (request("/", &[]), request("/", &[("accept-language", "")]));
    assert!(keep(&store, &asked(&german), &vary, b"hallo", now));
    assert!(store.find(&asked(&french), KEEP, now).is_none());
    assert!(keep(&store, &asked(&french), &vary, b"salut", now));
    assert!(keep(&store, &asked(&none), &vary, b"hello", now));
    assert!(store.find(&asked(&empty), KEEP, now).is_none());
    for (head, body) in [(&german, "hallo"), (&french, "salut"), (&none, "hello")] {
        assert_eq!(store.find(&asked(head), KEEP, now).unwrap().body, body);
    }
}

#[test]
fn the_last_good_answer_is_the_last_one() {
    let (store, now) = (store(), Instant::now());
    let head = request("/", &[]);
    assert!(keep(&store, &asked(&head), &response(200, &[]), b"one", now));
    let before = store.bytes();
    assert!(keep(&store, &asked(&head), &response(200, &[]), b"two", now));
    assert_eq!(store.bytes(), before);
    assert_eq!(store.find(&asked(&head), KEEP, now).unwrap().body, "two");
}

#[test]
fn what_has_not_changed_is_copied_again_only_when_it_gets_old() {
    let (store, now) = (store(), Instant::now());
    let head = request("/", &[]);
    let (one, two) = (response(200, &[("etag", "\"1\"")]), response(200, &[("etag", "\"2\"")]));
    assert!(keep(&store, &asked(&head), &one, b"x", now));
    assert!(!keep(&store, &asked(&head), &one, b"x", now + KEEP / 20));
    assert!(keep(&store, &asked(&head), &one, b"x", now + KEEP / 5));
    assert!(keep(&store, &asked(&head), &two, b"y", now + KEEP / 5));
}

#[test]
fn a_change_forgets_the_answers_to_everybody() {
    let (store, now) = (store(), Instant::now());
    let head = request("/a", &[]);
    for caller in [None, Some("spiffe://a")] {
        assert!(keep(&store, &Asked { caller, ..asked(&head) }, &response(200, &[]), b"x", now));
    }
    let mut put = request("/a", &[]);
    put.method = Method::PUT;
    store.forget(&asked(&put));
    assert_eq!(store.bytes(), 0);
}

#[test]
fn what_is_too_large_or_broken_off_is_given_up_silently() {
    let (store, now) = (store(), Instant::now());
    let head = request("/", &[]);
    let length = (LARGEST_BODY + 1).to_string();
    assert!(!keep(&store, &asked(&head), &response(200, &[("content-length", &length)]), b"", now));
    assert!(!keep(&store, &asked(&head), &response(200, &[]), &vec![0; LARGEST_BODY + 1], now));
    let mut recorder = Recorder::begin(&store, &asked(&head), &response(200, &[]), KEEP, now).unwrap();
    recorder.push(b"half");
    drop(recorder);
    assert!(store.find(&asked(&head), KEEP, now).is_none());
    assert_eq!(store.bytes(), 0);
    assert!(keep(&store, &asked(&head), &response(200, &[]), &vec![0; LARGEST_BODY], now));
}
