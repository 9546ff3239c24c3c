//! Parsing, formatting, and whose time counts.

use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn grpc_timeouts_have_up_to_eight_digits_and_a_unit() {
    for (text, want) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("3S", Some(Duration::from_secs(3))),
        ("4m", Some(millis(4))),
        ("5u", Some(Duration::from_micros(5))),
        ("6n", Some(Duration::from_nanos(6))),
        ("0m", Some(Duration::ZERO)),
        ("00000001S", Some(Duration::from_secs(1))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("000000001S", None),
        ("123456789S", None),
        ("", None),
        ("S", None),
        ("1", None),
        ("1s", None),
        ("1h", None),
        ("-1S", None),
        ("+1S", None),
        ("1.5S", None),
        ("1 S", None),
        (" 1S", None),
        ("1SS", None),
        ("S1", None),
        ("\u{e4}S", None),
    ] {
        assert_eq!(parse_grpc_timeout(text.as_bytes()), want, "{text}");
    }
}

#[test]
fn what_is_left_is_written_in_the_finest_unit_that_fits() {
    for (time, want) in [
        (Duration::ZERO, "0n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_001), "100000u"),
        (Duration::from_secs(3), "3000000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::from_secs(60 * 100_000_000), "1666666H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(format_grpc_timeout(time, &mut [0; 9]), want.as_bytes(), "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_caller_and_policy_holds() {
    let now = Instant::now();
    let left = |fields: &[(&str, &str)], grpc, policy: Option<u64>| {
        let deadline = Deadline::new(&headers(fields), grpc, policy.map(millis), now);
        let failure = deadline.failure().reason;
        (deadline.remaining(now).map(|d| d.as_millis()), failure)
    };
    let caller = Reason::BudgetExhausted;
    let policy = Reason::HttpResponseTimeout;
    let ours = "x-outrigger-timeout-ms";
    assert_eq!(left(&[], false, None).0, None);
    assert_eq!(left(&[], false, Some(5)), (Some(5), policy));
    assert_eq!(left(&[(ours, "3")], false, Some(5)), (Some(3), caller));
    assert_eq!(left(&[(ours, "7")], false, Some(5)), (Some(5), policy));
    assert_eq!(left(&[(ours, "7")], false, None), (Some(7), caller));
    assert_eq!(left(&[(ours, "0")], false, Some(5)), (Some(0), caller));
    assert_eq!(left(&[("grpc-timeout", "3m")], true, Some(5)), (Some(3), caller));
    assert_eq!(left(&[("grpc-timeout", "3m")], false, Some(5)), (Some(5), policy));
    assert_eq!(left(&[("grpc-timeout", "3m"), (ours, "2")], true, None), (Some(2), caller));
    for bad in ["", "-1", "1.5", "x", "9999999999999999", "5 "] {
        assert_eq!(left(&[(ours, bad)], false, Some(5)), (Some(5), policy), "{bad}");
    }
    // Longer than anybody waits.
    assert_eq!(left(&[(ours, "999999999999999")], false, None).0, None);
    assert_eq!(left(&[("grpc-timeout", "99999999H")], true, Some(5)), (Some(5), policy));
}

#[tokio::test(start_paused = true)]
async fn time_runs_out() {
    let start = Instant::now();
    let deadline = Deadline::new(&Headers::new(), false, Some(millis(100)), start);
    let attempt = deadline.within(Some(millis(30)), start + millis(80));
    assert_eq!(attempt.at(), Some(start + millis(100)));
    assert_eq!(deadline.within(Some(millis(10)), start).at(), Some(start + millis(10)));
    assert_eq!(Deadline::NONE.within(None, start), Deadline::NONE);
    assert!(!deadline.is_over(start + millis(99)) && deadline.is_over(start + millis(100)));
    assert_eq!(deadline.remaining(start + millis(500)), Some(Duration::ZERO));
    assert!(deadline.allows(millis(99), start) && !deadline.allows(millis(100), start));
    assert!(Deadline::NONE.allows(Duration::MAX, start) && !Deadline::NONE.is_over(start));
}

#[tokio::test(start_paused = true)]
async fn what_remains_is_passed_on() {
    let start = Instant::now();
    let mut fields = headers(&[("x-outrigger-timeout-ms", "5000"), ("grpc-timeout", "5S")]);
    let deadline = Deadline::new(&fields, true, Some(Duration::from_secs(3)), start);
    deadline.inject(&mut fields, true, start + millis(1000));
    assert_eq!(fields.get_known(Known::GrpcTimeout), Some(&b"2000000u"[..]));
    assert!(!fields.has(Known::XOutriggerTimeoutMs));

    let mut fields = headers(&[("x-outrigger-timeout-ms", "5000")]);
    let deadline = Deadline::new(&fields, false, Some(Duration::from_secs(3)), start);
    let mut inject = |after| {
        deadline.inject(&mut fields, false, start + after);
        fields.get_known(Known::XOutriggerTimeoutMs).unwrap().to_vec()
    };
    assert_eq!(inject(millis(1)), b"2999");
    assert_eq!(inject(Duration::from_micros(2_999_500)), b"1");
    assert_eq!(inject(millis(3000)), b"0");
    let mut none = headers(&[("grpc-timeout", "junk")]);
    Deadline::new(&none, true, None, start).inject(&mut none, true, start);
    assert_eq!(none.get_known(Known::GrpcTimeout), Some(&b"junk"[..]));
}

proptest! {
    #[test]
    fn a_formatted_timeout_is_never_longer_and_nearly_as_long(nanos: u64) {
        let time = Duration::from_nanos(nanos);
        let mut buffer = [0; 9];
        let again = parse_grpc_timeout(format_grpc_timeout(time, &mut buffer)).unwrap();
        prop_assert!(again <= time);
        prop_assert!(time - again <= time / 1000);
    }

    #[test]
    fn no_value_panics(ours in "[ -~]{0,20}", theirs in "[ -~]{0,10}", digits in "[0-9]{1,16}") {
        let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        rt.block_on(async {
            let now = Instant::now();
            for ours in [&ours, &digits] {
                let mut fields = headers(&[("x-outrigger-timeout-ms", ours), ("grpc-timeout", &theirs)]);
                let deadline = Deadline::new(&fields, true, Some(Duration::MAX), now);
                deadline.within(Some(Duration::MAX), now).inject(&mut fields, false, now);
            }
        });
    }
}
