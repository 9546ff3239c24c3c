//! Which identifier is kept, and what a new one looks like.

use proptest::prelude::*;

use super::*;

fn correlator() -> Correlator {
    Correlator::new(&["x-request-id".into(), "x-correlation-id".into(), "x-trail".into()])
}

fn run(fields: &[(&str, &str)], trusted: bool) -> (Headers, RequestId, Source) {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    let mut rng = fastrand::Rng::with_seed(3);
    let mut id = RequestId::EMPTY;
    let source = correlator().apply(&mut headers, trusted, 0x0123_4567_89ab, &mut rng, &mut id);
    (headers, id, source)
}

#[test]
fn the_first_valid_one_of_a_trusted_peer_is_kept() {
    let long = "a".repeat(128);
    let too_long = "a".repeat(129);
    for (fields, want) in [
        (vec![("x-request-id", "a")], Some("a")),
        (vec![("X-Request-ID", "a")], Some("a")),
        (vec![("x-correlation-id", "b")], Some("b")),
        (vec![("x-trail", "c")], Some("c")),
        (vec![("x-correlation-id", "b"), ("x-request-id", "a")], Some("a")),
        (vec![("x-request-id", "not valid"), ("x-correlation-id", "b")], Some("b")),
        (vec![("x-request-id", ""), ("x-correlation-id", "b")], Some("b")),
        (vec![("x-request-id", "a"), ("x-request-id", "z")], Some("a")),
        (vec![("x-request-id", "Az09._:/+=-")], Some("Az09._:/+=-")),
        (vec![("x-request-id", &long)], Some(&*long)),
        (vec![("x-request-id", &too_long)], None),
        (vec![("x-request-id", "a,b")], None),
        (vec![("x-request-id", "a\"b")], None),
        (vec![("x-request-id", "\u{e4}")], None),
        (vec![], None),
    ] {
        let (headers, id, source) = run(&fields, true);
        match want {
            Some(want) => assert_eq!((id.as_str(), source), (want, Source::Kept)),
            None => assert_eq!((id.as_str().len(), source), (36, Source::Generated)),
        }
        for name in ["x-request-id", "x-correlation-id", "x-trail"] {
            let values: Vec<_> = headers.all(name.as_bytes()).collect();
            assert_eq!(values, [id.as_bytes()], "{name}");
        }
    }
}

#[test]
fn nothing_of_an_untrusted_peer_is_kept() {
    let (headers, id, source) = run(&[("x-request-id", "a"), ("x-correlation-id", "b")], false);
    assert_eq!((source, headers.len()), (Source::Generated, 3));
    assert!(headers.iter().all(|(_, _, value)| value == id.as_bytes()));
}

#[test]
fn a_new_one_is_a_uuid_of_version_7() {
    let (_, id, _) = run(&[], true);
    assert!(id.as_str().starts_with("01234567-89ab-7"), "{id}");
    assert!(matches!(id.as_bytes()[19], b'8'..=b'9' | b'a'..=b'b'), "{id}");
    let mut rng = fastrand::Rng::with_seed(4);
    let now = RequestId::generate(5, &mut rng);
    assert_ne!(now, RequestId::generate(5, &mut rng));
    assert!(now.as_str() < RequestId::generate(6, &mut rng).as_str());
}

#[test]
fn lines_that_are_written_at_once_are_those_that_are_written_one_by_one() {
    let id = RequestId::generate(7, &mut fastrand::Rng::with_seed(1));
    let set = |names: &[&str], before: &[&str]| {
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        let mut headers = Headers::new();
        before.iter().for_each(|name| headers.append(name.as_bytes(), b"old"));
        Correlator::new(&names).set(&mut headers, &id);
        let mut out = Vec::new();
        headers.write_lines(KnownSet::default(), &mut out);
        let seen: Vec<_> = headers.iter().map(|(known, name, value)| (known, name.to_vec(), value.to_vec())).collect();
        (seen, String::from_utf8(out).unwrap())
    };
    let two = ["x-request-id", "x-correlation-id"];
    let expected = format!("accept: old\r\nx-request-id: {id}\r\nx-correlation-id: {id}\r\n");
    let (seen, written) = set(&two, &["accept"]);
    assert_eq!(written, expected);
    assert_eq!(set(&two, &["accept", "x-request-id"]), (seen, written), "it stands where it stood");
    assert_eq!(set(&["x-request-id", "x-mine"], &[]).1, format!("x-request-id: {id}\r\nx-mine: {id}\r\n"));
    assert_eq!(set(&["x-request-id", "x-request-id"], &[]).1, format!("x-request-id: {id}\r\n"));
}

proptest! {
    #[test]
    fn every_new_one_would_be_kept_by_the_next_hop(millis: u64, seed: u64) {
        let id = RequestId::generate(millis, &mut fastrand::Rng::with_seed(seed));
        prop_assert_eq!(id.as_bytes()[14], b'7');
        let fits = |(i, b): (usize, &u8)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            19 => b"89ab".contains(b),
            _ => b.is_ascii_hexdigit(),
        };
        let all = id.as_bytes().iter().enumerate().all(fits);
        prop_assert!(all);
        prop_assert_eq!(RequestId::parse(id.as_bytes()), Some(id));
    }

    #[test]
    fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(id) = RequestId::parse(&value) {
            prop_assert_eq!(id.as_str().as_bytes(), &*value);
        }
    }
}
