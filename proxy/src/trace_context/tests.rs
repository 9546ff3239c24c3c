//! The cases of the W3C test suite, B3 in all its forms, and properties.

use proptest::prelude::*;

use super::*;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const PLAIN: &str = "00-12345678901234567890123456789012-1234567890123456-01";

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn all(headers: &Headers, name: Known) -> Vec<String> {
    headers.all_known(name).map(|v| String::from_utf8(v.to_vec()).unwrap()).collect()
}

/// What goes out for what came in, and where it came from.
fn pass(fields: &[(&str, &str)], child: bool) -> (Headers, TraceContext, Origin) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut headers = headers(fields);
    let (mut context, origin) = TraceContext::join_or_start(&headers, &mut rng, |_| true);
    if child {
        context = context.child(&mut rng);
    }
    context.inject(&mut headers);
    (headers, context, origin)
}

fn state(values: &[&str]) -> Vec<String> {
    let fields: Vec<_> =
        [("traceparent", PLAIN)].into_iter().chain(values.iter().map(|v| ("tracestate", *v))).collect();
    let (headers, _, origin) = pass(&fields, true);
    assert_eq!(origin, Origin::Joined);
    all(&headers, Known::Tracestate)
}

#[test]
fn traceparent_is_joined_only_if_it_is_valid() {
    let t = TRACE;
    let p = PARENT;
    for (value, want) in [
        (format!("00-{t}-{p}-00"), Some(0)),
        (format!("00-{t}-{p}-01"), Some(1)),
        (format!("00-{t}-{p}-02"), Some(2)),
        (format!("00-{t}-{p}-03"), Some(3)),
        // Flags that nobody knows yet are not passed on.
        (format!("00-{t}-{p}-ff"), Some(3)),
        (format!("00-{t}-{p}-08"), Some(0)),
        // Later versions: read as far as known, and followed by nothing or a dash.
        (format!("cc-{t}-{p}-01"), Some(1)),
        (format!("cc-{t}-{p}-01-what-the-future-will-be-like"), Some(1)),
        (format!("cc-{t}-{p}-01-"), Some(1)),
        (format!("01-{t}-{p}-01"), Some(1)),
        (format!("cc-{t}-{p}-01.what"), None),
        (format!("cc-{t}-{p}-01x"), None),
        // Version 00 ends there.
        (format!("00-{t}-{p}-01-"), None),
        (format!("00-{t}-{p}-01-x"), None),
        (format!("00-{t}-{p}-01."), None),
        // Version.
        (format!("ff-{t}-{p}-01"), None),
        (format!("FF-{t}-{p}-01"), None),
        (format!(".0-{t}-{p}-01"), None),
        (format!("0.-{t}-{p}-01"), None),
        (format!("CC-{t}-{p}-01"), None),
        (format!("0-{t}-{p}-01"), None),
        (format!("000-{t}-{p}-01"), None),
        // Trace id.
        (format!("00-{}-{p}-01", "0".repeat(32)), None),
        (format!("00-.{}-{p}-01", &t[1..]), None),
        (format!("00-A{}-{p}-01", &t[1..]), None),
        (format!("00-{}-{p}-01", &t[1..]), None),
        (format!("00-{t}1-{p}-01"), None),
        // Parent id.
        (format!("00-{t}-{}-01", "0".repeat(16)), None),
        (format!("00-{t}-.{}-01", &p[1..]), None),
        (format!("00-{t}-F{}-01", &p[1..]), None),
        (format!("00-{t}-{}-01", &p[1..]), None),
        (format!("00-{t}-{p}1-01"), None),
        // Flags.
        (format!("00-{t}-{p}-.0"), None),
        (format!("00-{t}-{p}-0."), None),
        (format!("00-{t}-{p}-A0"), None),
        (format!("00-{t}-{p}-1"), None),
        (format!("00-{t}-{p}-"), None),
        (format!("00-{t}-{p}"), None),
        (format!("00-{t}_{p}-01"), None),
        (String::new(), None),
        ("00".to_owned(), None),
        ("-".to_owned(), None),
    ] {
        let (headers, context, origin) = pass(&[("traceparent", &value), ("tracestate", "foo=1")], true);
        let [out] = &all(&headers, Known::Traceparent)[..] else { panic!("{value}") };
        assert_eq!((out.len(), &out[..3]), (55, "00-"), "{value}");
        match want {
            Some(flags) => {
                assert_eq!(origin, Origin::Joined, "{value}");
                assert_eq!((&out[3..35], context.flags), (t, flags), "{value}");
                assert_ne!(&out[36..52], p);
                assert_eq!(context.parent.unwrap().to_string(), p);
                assert_eq!(all(&headers, Known::Tracestate), ["foo=1"], "{value}");
            }
            None => {
                assert_eq!(origin, Origin::Started, "{value}");
                assert_ne!(&out[3..35], t, "{value}");
                assert_eq!(context.flags, SAMPLED | RANDOM);
                assert!(!headers.has(Known::Tracestate), "{value}");
            }
        }
    }
}

#[test]
fn two_traceparents_start_a_trace_anew() {
    let other = format!("00-{TRACE}-{PARENT}-00");
    let (headers, _, origin) = pass(&[("traceparent", PLAIN), ("traceparent", &other), ("tracestate", "a=1")], true);
    assert_eq!(origin, Origin::Started);
    assert_eq!(all(&headers, Known::Traceparent).len(), 1);
    assert!(!headers.has(Known::Tracestate));
}

#[test]
fn names_are_known_in_any_case() {
    let (headers, context, _) = pass(&[("TraceParent", PLAIN), ("TRACESTATE", "a=1")], false);
    assert_eq!(context.trace_id.to_string(), TRACE);
    assert_eq!(
        (all(&headers, Known::Traceparent), all(&headers, Known::Tracestate)),
        (vec![PLAIN.to_owned()], vec!["a=1".to_owned()])
    );
}

#[test]
fn tracestate_without_traceparent_is_dropped() {
    let (headers, _, origin) = pass(&[("tracestate", "foo=1")], true);
    assert_eq!(origin, Origin::Started);
    assert!(!headers.has(Known::Tracestate));
}

#[test]
fn a_valid_tracestate_passes_as_it_is() {
    let longest_key = "z".repeat(256);
    let tenant = format!("{}@{}", "t".repeat(241), "v".repeat(14));
    let longest_value = "v".repeat(256);
    let full: Vec<_> = (0..32).map(|i| format!("bar{i:02}=1")).collect();
    for value in [
        "foo=1".to_owned(),
        "foo=1,bar=2".to_owned(),
        "foo=1 , \t bar=2".to_owned(),
        "foo=1,,bar=2,".to_owned(),
        ",".to_owned(),
        "foo=1,foo=1".to_owned(),
        "foo=1,foo=2".to_owned(),
        "a-_*/0@b-_*/0=1".to_owned(),
        "0foo=1".to_owned(),
        "foo= 1".to_owned(),
        "foo=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~".to_owned(),
        format!("{longest_key}=1"),
        format!("{tenant}=1"),
        format!("foo={longest_value}"),
        full.join(","),
    ] {
        assert_eq!(state(&[&value]), [value]);
    }
}

#[test]
fn an_invalid_tracestate_is_dropped_whole() {
    let many: Vec<_> = (0..33).map(|i| format!("bar{i:02}=1")).collect();
    for value in [
        "foo".to_owned(),
        "foo=1,bar".to_owned(),
        "foo=1;bar=2".to_owned(),
        "foo =1".to_owned(),
        "FOO=1".to_owned(),
        "foo.bar=1".to_owned(),
        "foo@=1,bar=2".to_owned(),
        "@foo=1,bar=2".to_owned(),
        "foo@@bar=1,bar=2".to_owned(),
        "foo@bar@baz=1,bar=2".to_owned(),
        "foo@0bar=1".to_owned(),
        "=1".to_owned(),
        "foo=,bar=3".to_owned(),
        "foo=bar=baz,a=1".to_owned(),
        "foo=\u{e4}".to_owned(),
        "foo=a\tb".to_owned(),
        format!("{}=1", "z".repeat(257)),
        format!("{}@v=1", "t".repeat(242)),
        format!("t@{}=1", "v".repeat(15)),
        format!("foo={}", "v".repeat(257)),
        many.join(","),
    ] {
        assert!(state(&[&value]).is_empty(), "{value}");
    }
}

#[test]
fn several_tracestates_are_joined_in_order() {
    assert_eq!(state(&["foo=1", "", "bar=2,baz=3"]), ["foo=1,bar=2,baz=3"]);
    assert_eq!(state(&["", "foo=1"]), ["foo=1"]);
    assert!(state(&["foo=1", "bar"]).is_empty());
    let half: Vec<_> = (0..17).map(|i| format!("a{i}=1")).collect();
    assert!(state(&[&half.join(","), &half.join(",")]).is_empty());
}

#[test]
fn baggage_is_not_touched() {
    let (headers, _, _) = pass(&[("baggage", "k=v;p"), ("baggage", "x=y")], true);
    let values: Vec<_> = headers.all(b"baggage").collect();
    assert_eq!(values, [b"k=v;p".as_slice(), b"x=y"]);
}

#[test]
fn without_a_span_of_ours_the_parent_stays() {
    let (headers, context, _) = pass(&[("traceparent", PLAIN)], false);
    assert_eq!(all(&headers, Known::Traceparent), [PLAIN]);
    assert_eq!((context.parent, context.is_sampled()), (None, true));
}

#[test]
fn a_started_trace_asks_for_sampling_and_shows_no_b3() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut headers = Headers::new();
    let (context, origin) = TraceContext::join_or_start(&headers, &mut rng, |_| false);
    context.inject(&mut headers);
    assert_eq!((origin, context.flags, headers.len()), (Origin::Started, RANDOM, 1));
    assert_eq!(TraceContext::from_headers(&headers).unwrap().trace_id, context.trace_id);
    assert_ne!(TraceContext::start(&mut rng, true).trace_id, context.trace_id);
}

const B3_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const B3_SHORT: &str = "64fe8b2a57d3eff7";
const B3_SPAN: &str = "e457b5a2e4d86bd1";

#[test]
fn single_b3_is_joined_and_written_again() {
    let wide = format!("{B3_TRACE}-{B3_SPAN}");
    let narrow = format!("{B3_SHORT}-{B3_SPAN}");
    for (value, flags, out) in [
        (format!("{wide}-1"), 1, format!("{wide}-1")),
        (format!("{wide}-0"), 0, format!("{wide}-0")),
        (format!("{wide}-d"), 1, format!("{wide}-d")),
        (format!("{wide}-1-05e3ac9a4f6e3b90"), 1, format!("{wide}-1-05e3ac9a4f6e3b90")),
        // Nobody has decided on sampling; our sampler says yes.
        (wide.clone(), 1, format!("{wide}-1")),
        (format!("{narrow}-1"), 1, format!("{narrow}-1")),
        (wide.to_uppercase() + "-1", 1, wide.to_uppercase() + "-1"),
    ] {
        let (headers, context, origin) = pass(&[("b3", &value), ("tracestate", "a=1")], false);
        assert_eq!((origin, context.flags), (Origin::Joined, flags), "{value}");
        assert_eq!(all(&headers, Known::B3), [out], "{value}");
        let id = context.trace_id.to_string();
        assert!(id.ends_with(B3_SHORT), "{value}");
        assert_eq!(all(&headers, Known::Traceparent), [format!("00-{id}-{B3_SPAN}-{flags:02x}")], "{value}");
        assert!(!headers.has(Known::Tracestate));
        assert!(!headers.has(Known::XB3TraceId));
    }
}

#[test]
fn a_child_of_single_b3_names_its_parent() {
    for trace in [B3_TRACE, B3_SHORT] {
        let (headers, context, _) = pass(&[("b3", &format!("{trace}-{B3_SPAN}-d-05e3ac9a4f6e3b90"))], true);
        assert_eq!(all(&headers, Known::B3), [format!("{trace}-{}-d-{B3_SPAN}", context.span_id)]);
    }
}

#[test]
fn invalid_single_b3_starts_anew() {
    let span = B3_SPAN;
    let t = B3_TRACE;
    for value in [
        String::new(),
        "x".to_owned(),
        "1-".to_owned(),
        t.to_owned(),
        format!("{t}-"),
        format!("{t}-{span}-"),
        format!("{t}-{span}-2"),
        format!("{t}-{span}-1-"),
        format!("{t}-{span}-1-{span}-"),
        format!("{t}-{span}-1-{}", "0".repeat(16)),
        format!("{}-{span}-1", "0".repeat(32)),
        format!("{}-{span}-1", "0".repeat(16)),
        format!("{t}-{}-1", "0".repeat(16)),
        format!("{}-{span}-1", &t[1..]),
        format!("{t}-{}-1", &span[1..]),
    ] {
        let (headers, _, origin) = pass(&[("b3", &value)], true);
        assert_eq!(origin, Origin::Started, "{value}");
        assert!(!headers.has(Known::B3) && headers.has(Known::Traceparent), "{value}");
    }
}

#[test]
fn b3_without_ids_decides_on_sampling() {
    for (field, value, sampled, tail) in [
        ("b3", "0", false, "-0"),
        ("b3", "1", true, "-1"),
        ("b3", "d", true, "-d"),
        ("x-b3-sampled", "0", false, "0"),
        ("x-b3-sampled", "true", true, "1"),
    ] {
        let (headers, context, origin) = pass(&[(field, value)], false);
        assert_eq!((origin, context.is_sampled()), (Origin::Started, sampled), "{field}: {value}");
        let out = if field == "b3" { all(&headers, Known::B3) } else { all(&headers, Known::XB3Sampled) };
        assert!(out[0].ends_with(tail), "{out:?}");
    }
}

#[test]
fn multiple_b3_is_joined_and_written_again() {
    let ids = [("X-B3-TraceId", B3_TRACE), ("X-B3-SpanId", B3_SPAN), ("X-B3-ParentSpanId", "05e3ac9a4f6e3b90")];
    let with = |more: &[(&'static str, &'static str)], child| pass(&[&ids[..], more].concat(), child);
    let (headers, context, origin) = with(&[("X-B3-Sampled", "0")], false);
    assert_eq!((origin, context.is_sampled()), (Origin::Joined, false));
    assert_eq!(all(&headers, Known::XB3ParentSpanId), ["05e3ac9a4f6e3b90"]);
    assert!(!headers.has(Known::B3));

    let (headers, context, _) = with(&[("X-B3-Sampled", "1")], true);
    assert_eq!(all(&headers, Known::XB3TraceId), [B3_TRACE]);
    assert_eq!(all(&headers, Known::XB3SpanId), [context.span_id.to_string()]);
    assert_eq!(all(&headers, Known::XB3ParentSpanId), [B3_SPAN]);
    assert_eq!(all(&headers, Known::XB3Sampled), ["1"]);

    let (headers, context, _) = with(&[("X-B3-Flags", "1")], true);
    assert!(context.is_sampled() && !headers.has(Known::XB3Sampled));
    assert_eq!(all(&headers, Known::XB3Flags), ["1"]);

    // A trace without a span is none.
    let (headers, _, origin) = pass(&[ids[0]], true);
    assert_eq!(origin, Origin::Started);
    assert!(!headers.has(Known::XB3TraceId));
}

#[test]
fn w3c_is_preferred_and_b3_is_made_to_agree() {
    let (headers, context, _) = pass(&[("traceparent", PLAIN), ("b3", &format!("{B3_SHORT}-{B3_SPAN}-0"))], false);
    assert_eq!(context.trace_id.to_string(), TRACE);
    assert_eq!(all(&headers, Known::B3), [format!("{TRACE}-{PARENT}-1")]);
    // An invalid traceparent gives way to B3.
    let (headers, context, origin) = pass(&[("traceparent", "x"), ("b3", &format!("{B3_TRACE}-{B3_SPAN}-0"))], false);
    assert_eq!((origin, context.trace_id.to_string()), (Origin::Joined, B3_TRACE.to_owned()));
    assert_eq!(all(&headers, Known::Traceparent), [format!("00-{B3_TRACE}-{B3_SPAN}-00")]);
}

proptest! {
    #[test]
    fn no_value_panics_and_what_goes_out_is_valid(
        traceparent in prop::option::of("[0-9a-f-]{0,60}"),
        tracestate in prop::collection::vec("[a-z=,@ ]{0,20}", 0..3),
        b3 in prop::option::of("[0-9a-fd-]{0,70}"),
        multi in prop::option::of("[0-9a-f]{0,33}"),
        child: bool,
    ) {
        let mut fields: Vec<(&str, &str)> = tracestate.iter().map(|v| ("tracestate", &**v)).collect();
        fields.extend(traceparent.iter().map(|v| ("traceparent", &**v)));
        fields.extend(b3.iter().map(|v| ("b3", &**v)));
        fields.extend(multi.iter().map(|v| ("x-b3-traceid", &**v)));
        let (headers, context, _) = pass(&fields, child);
        let again = TraceContext::from_headers(&headers).unwrap();
        prop_assert_eq!((again.trace_id, again.span_id, again.flags), (context.trace_id, context.span_id, context.flags));
        prop_assert_eq!(headers.all_known(Known::Traceparent).count(), 1);
        prop_assert!(headers.all_known(Known::Tracestate).count() <= 1);
    }
}
