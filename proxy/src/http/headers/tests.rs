use super::*;

#[test]
fn every_known_name_is_classified_in_any_case() {
    for tag in 1..=Known::XRequestId as u8 {
        let known = Known::ALL[usize::from(tag) - 1];
        assert_eq!(known as u8, tag);
        assert_eq!(Known::of(known.as_str().as_bytes()), known, "{known:?}");
        assert_eq!(Known::of(known.as_str().to_ascii_uppercase().as_bytes()), known);
    }
    for name in [&b"x-other"[..], b"tx", b"accepts", b"x-forwarded-foo", b"content-lengti", b"x-outrigger-timeout-mz"] {
        assert_eq!(Known::of(name), Known::Other);
    }
    assert_eq!(Known::of(b""), Known::Other);
}

#[test]
fn set_replaces_all_and_keeps_the_place() {
    let mut h = Headers::new();
    h.append(b"A", b"1");
    h.append(b"X-Tier", b"1");
    h.append(b"B", b"2");
    h.append(b"x-tier", b"2");
    h.set(b"x-TIER", b"gold");
    let got: Vec<_> = h.iter().map(|(_, n, v)| (n.to_vec(), v.to_vec())).collect();
    assert_eq!(
        got,
        [(b"A".to_vec(), b"1".to_vec()), (b"X-Tier".to_vec(), b"gold".to_vec()), (b"B".to_vec(), b"2".to_vec())]
    );
    assert!(h.remove(b"a") && !h.remove(b"a"));
    assert_eq!(h.len(), 2);
}
