//! Shares and conditions of faults.

use outrigger_config::model::{FaultDelay, StringMatch, ValueMatch};

use super::*;
use crate::http::RequestHead;

fn policy(delay: f64, abort: f64) -> FaultInjection {
    FaultInjection {
        delay: Some(FaultDelay { percent: delay, duration: Duration::from_millis(200) }),
        abort: Some(FaultAbort { percent: abort, status: 503, grpc_status: Some(14) }),
        when: Vec::new(),
    }
}

#[test]
fn shares_are_as_asked_and_independent() {
    let (head, policy) = (RequestHead::default(), policy(5.0, 1.0));
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut delayed, mut aborted, mut both) = (0, 0, 0);
    for _ in 0..100_000 {
        let fault = Fault::decide(&policy, &head, rng.f64(), rng.f64());
        delayed += u32::from(fault.delay.is_some());
        aborted += u32::from(fault.abort.is_some());
        both += u32::from(fault.delay.is_some() && fault.abort.is_some());
    }
    assert!((4_700..5_300).contains(&delayed), "{delayed}");
    assert!((850..1_150).contains(&aborted), "{aborted}");
    assert!((20..90).contains(&both), "{both}");
}

#[test]
fn nought_is_never_and_a_hundred_always() {
    let head = RequestHead::default();
    for draw in [0.0, 0.5, 1.0 - f64::EPSILON / 2.0] {
        assert!(Fault::decide(&policy(0.0, 0.0), &head, draw, draw).is_none());
        let fault = Fault::decide(&policy(100.0, 100.0), &head, draw, draw);
        assert_eq!(fault.delay, Some(Duration::from_millis(200)));
        assert_eq!(fault.abort, Some(Abort { status: 503, grpc_status: Some(14) }));
    }
}

#[test]
fn only_requests_with_all_of_the_headers() {
    let mut policy = policy(100.0, 100.0);
    for name in ["x-chaos", "x-more"] {
        policy.when.push(ValueMatch { name: name.into(), value: StringMatch::Exact("1".into()) });
    }
    let mut head = RequestHead::default();
    assert!(Fault::decide(&policy, &head, 0.0, 0.0).is_none());
    head.headers.append(b"X-Chaos", b"1");
    assert!(Fault::decide(&policy, &head, 0.0, 0.0).is_none());
    head.headers.append(b"x-more", b"1");
    assert!(!Fault::decide(&policy, &head, 0.0, 0.0).is_none());
}
