//! Which attempts are repeated, when, and how many in all.

use std::time::SystemTime;

use outrigger_config::model::RetryBudget;

use super::*;

const HISTORIES: u64 = 10_000;

fn budget(percent: u32, min_count: u32) -> RetryBudget {
    RetryBudget { percent, interval: Duration::from_secs(10), min_count, min_interval: Duration::from_secs(1) }
}

fn plenty(now: Instant) -> Budget {
    Budget::new(&budget(100, 1_000_000), 1, now)
}

fn attempt<'a>(policy: Option<&'a Retry>, ended: Ended<'a>, method: &'a Method) -> Attempt<'a> {
    Attempt {
        policy,
        made: 1,
        ended,
        method,
        keyed: false,
        begun: false,
        replayable: true,
        hint: Hint::None,
        deadline: Deadline::NONE,
    }
}

fn ask(attempt: &Attempt<'_>) -> Verdict {
    let now = Instant::now();
    decide(attempt, &plenty(now), now, &mut fastrand::Rng::with_seed(1))
}

fn stops(attempt: &Attempt<'_>) -> Option<Stop> {
    match ask(attempt) {
        Verdict::Retry { .. } => None,
        Verdict::Stop(stop) => Some(stop),
    }
}

fn failure(reason: Reason, repeat: Repeat) -> Failure {
    Failure::new(reason, "test").repeat(repeat)
}

#[test]
fn what_was_never_processed_is_repeated_once_without_a_policy_whatever_the_method() {
    let refused = failure(Reason::ConnectionRefused, Repeat::Unprocessed);
    let post = attempt(None, Ended::Failed(&refused), &Method::POST);
    assert_eq!(ask(&post), Verdict::Retry { after: Duration::ZERO, fresh: true });
    assert_eq!(stops(&Attempt { made: 2, ..post }), Some(Stop::Exhausted));
    assert_eq!(stops(&Attempt { begun: true, ..post }), Some(Stop::Final));
    assert_eq!(stops(&Attempt { replayable: false, ..post }), Some(Stop::BodyTooLarge));
}

#[test]
fn a_post_without_a_key_that_may_have_arrived_is_not_repeated() {
    let policy = Retry::default();
    for policy in [None, Some(&policy)] {
        for repeat in [Repeat::ReusedConnection, Repeat::IfIdempotent] {
            let closed = failure(Reason::ConnectionTerminated, repeat);
            let post = attempt(policy, Ended::Failed(&closed), &Method::POST);
            assert!(matches!(stops(&post), Some(Stop::NotIdempotent | Stop::Final)));
            if policy.is_some() {
                assert_eq!(stops(&Attempt { keyed: true, ..post }), None);
                assert_eq!(stops(&Attempt { method: &Method::PUT, ..post }), None);
            }
        }
        let race = failure(Reason::ConnectionTerminated, Repeat::ReusedConnection);
        assert_eq!(stops(&attempt(policy, Ended::Failed(&race), &Method::GET)), None);
    }
    assert_eq!(stops(&attempt(Some(&policy), Ended::Status(503), &Method::POST)), Some(Stop::NotIdempotent));
    let list = Retry { methods: RetryMethods::List(vec![Method::POST]), ..Retry::default() };
    assert_eq!(stops(&attempt(Some(&list), Ended::Status(503), &Method::POST)), None);
    assert_eq!(stops(&attempt(Some(&list), Ended::Status(503), &Method::GET)), Some(Stop::NotIdempotent));
}

#[test]
fn only_listed_statuses_are_repeated_as_often_as_the_policy_says() {
    let policy = Retry::default();
    for (ended, expected) in [
        (Ended::Status(503), None),
        (Ended::Status(500), Some(Stop::Final)),
        (Ended::Grpc(14), None),
        (Ended::Grpc(13), Some(Stop::Final)),
    ] {
        assert_eq!(stops(&attempt(Some(&policy), ended, &Method::GET)), expected, "{ended:?}");
        assert_eq!(stops(&attempt(None, ended, &Method::GET)), Some(Stop::Final));
    }
    let get = attempt(Some(&policy), Ended::Status(503), &Method::GET);
    assert_eq!(stops(&Attempt { made: 2, ..get }), None);
    assert_eq!(stops(&Attempt { made: 3, ..get }), Some(Stop::Exhausted));
    assert_eq!(stops(&attempt(Some(&policy), Ended::Grpc(14), &Method::POST)), None, "gRPC knows no methods");
    let off = Retry { attempts: 0, ..Retry::default() };
    assert_eq!(stops(&attempt(Some(&off), Ended::Status(503), &Method::GET)), Some(Stop::Final));
}

#[test]
fn the_client_s_own_fault_is_final() {
    let policy = Retry::default();
    let gone = failure(Reason::ClientDisconnected, Repeat::Never);
    assert_eq!(stops(&attempt(Some(&policy), Ended::Failed(&gone), &Method::GET)), Some(Stop::Final));
}

#[test]
fn servers_are_heard() {
    let policy = Retry::default();
    let get = attempt(Some(&policy), Ended::Status(503), &Method::GET);
    let after = |hint| match ask(&Attempt { hint, ..get }) {
        Verdict::Retry { after, .. } => Some(after),
        Verdict::Stop(stop) => {
            assert_eq!(stop, Stop::PushedBack);
            None
        }
    };
    assert_eq!(after(Hint::retry_after(b"2", SystemTime::UNIX_EPOCH)), Some(Duration::from_secs(2)));
    assert!(after(Hint::retry_after(b"0", SystemTime::UNIX_EPOCH)) >= Some(policy.backoff_base));
    assert_eq!(after(Hint::pushback(b"7")), Some(Duration::from_millis(7)));
    assert_eq!(after(Hint::pushback(b"-1")), None);
    assert_eq!(after(Hint::pushback(b"soon")), None);
}

#[test]
fn hints_parse_strictly_and_never_panic() {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let date = |text: &[u8]| Hint::retry_after(text, wall);
    assert_eq!(date(b"Sun, 06 Nov 1994 08:49:40 GMT"), Hint::AtLeast(Duration::from_secs(3)));
    assert_eq!(date(b"Sun, 06 Nov 1994 08:49:00 GMT"), Hint::AtLeast(Duration::ZERO));
    for nothing in [&b""[..], b"-1", b"1.5", b"\xff", b"tomorrow"] {
        assert_eq!(date(nothing), Hint::None);
    }
    assert_eq!(date(b"99999999999999999999999"), Hint::AtLeast(Duration::from_secs(u64::MAX)));
    assert_eq!(Hint::pushback(b""), Hint::Never);
    assert_eq!(Hint::pushback(b"+1"), Hint::Never);
}

#[test]
fn sweep_back_off_stays_between_base_and_maximum_and_never_passes_the_deadline() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let base = Duration::from_micros(rng.u64(0..100_000));
        let policy = Retry {
            attempts: 40,
            backoff_base: base,
            backoff_max: base.saturating_mul(rng.u32(1..20)),
            ..Retry::default()
        };
        let left = Duration::from_millis(rng.u64(0..500));
        let made = rng.u32(1..=40);
        let hint = if rng.bool() { Hint::None } else { Hint::AtLeast(Duration::from_millis(rng.u64(0..400))) };
        let deadline = Deadline::NONE.within(Some(left), now);
        let get = Attempt { made, hint, deadline, ..attempt(Some(&policy), Ended::Status(503), &Method::GET) };
        match decide(&get, &plenty(now), now, rng) {
            Verdict::Retry { after, .. } => {
                assert!(after < left, "seed {seed}: sleeps past the deadline");
                assert!(after >= base, "seed {seed}: too early");
                let ceiling = base.saturating_mul(1_u32.checked_shl(made).unwrap_or(u32::MAX)).min(policy.backoff_max);
                let hinted = if let Hint::AtLeast(time) = hint { time } else { Duration::ZERO };
                assert!(after >= hinted && after <= ceiling.max(hinted), "seed {seed}: too late");
            }
            Verdict::Stop(stop) => assert_eq!(stop, Stop::Deadline, "seed {seed}"),
        }
    }
}

#[test]
fn jitter_spreads_over_the_whole_range() {
    let policy = Retry::default();
    let rng = &mut fastrand::Rng::with_seed(7);
    let waits: Vec<_> = (0..2000).map(|_| back_off(Some(&policy), 2, rng).as_secs_f64() * 1000.0).collect();
    // Base 25 ms, ceiling of the second 100 ms.
    let share = |from: f64, to: f64| waits.iter().filter(|w| (from..to).contains(w)).count();
    for quarter in 0..4 {
        let from = 25.0 + 18.75 * f64::from(quarter);
        assert!((400..600).contains(&share(from, from + 18.75)));
    }
}

#[test]
fn nothing_is_drawn_from_the_budget_for_what_something_else_forbids() {
    let now = Instant::now();
    let policy = Retry::default();
    let one = Budget::new(&budget(0, 1), 1, now);
    let rng = &mut fastrand::Rng::with_seed(1);
    let get = attempt(Some(&policy), Ended::Status(503), &Method::GET);
    let over = Deadline::NONE.within(Some(Duration::ZERO), now);
    for forbidden in
        [Attempt { deadline: over, ..get }, Attempt { method: &Method::POST, ..get }, Attempt { made: 9, ..get }]
    {
        assert!(matches!(decide(&forbidden, &one, now, rng), Verdict::Stop(_)));
    }
    let refused = failure(Reason::ConnectionRefused, Repeat::Unprocessed);
    let free = Attempt { ended: Ended::Failed(&refused), ..get };
    assert!(matches!(decide(&free, &one, now, rng), Verdict::Retry { .. }));
    assert!(matches!(decide(&get, &one, now, rng), Verdict::Retry { .. }));
    assert_eq!(decide(&get, &one, now, rng), Verdict::Stop(Stop::Budget));
    assert_eq!(Stop::Budget.result(), Some(RetryResult::Budget));
}

#[test]
fn watching_repeats_nothing_but_tells_and_draws_what_would_have_been_repeated() {
    let now = Instant::now();
    let policy = Retry::default();
    let one = Budget::new(&budget(0, 1), 1, now);
    let rng = &mut fastrand::Rng::with_seed(1);
    let get = attempt(Some(&policy), Ended::Status(503), &Method::GET);
    assert_eq!(watch(&get, &one, now, rng), (Verdict::Stop(Stop::Final), true));
    assert_eq!(watch(&get, &one, now, rng), (Verdict::Stop(Stop::Final), false));
    let refused = failure(Reason::ConnectionRefused, Repeat::Unprocessed);
    let done = Verdict::Retry { after: Duration::ZERO, fresh: true };
    assert_eq!(watch(&Attempt { ended: Ended::Failed(&refused), ..get }, &one, now, rng), (done, false));
}

#[test]
fn a_fifth_of_the_traffic_may_be_retried_and_ten_a_second_whatever_the_traffic() {
    let now = Instant::now();
    let config = budget(20, 10);
    let quiet = Budget::new(&config, 1, now);
    assert_eq!((0..50).filter(|_| quiet.withdraw(now)).count(), 10);
    let busy = Budget::new(&config, 2, now);
    (0..1000).for_each(|i| busy.request(i % 2, now));
    assert_eq!((0..500).filter(|_| busy.withdraw(now)).count(), 200);
}

#[test]
fn sweep_total_retries_are_within_the_budget_over_any_window() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let config = RetryBudget {
            percent: rng.u32(0..=100),
            interval: Duration::from_millis(rng.u64(1000..4000)),
            min_count: rng.u32(0..4),
            min_interval: Duration::from_millis(rng.u64(100..3000)),
        };
        let mut now = Instant::now();
        let spent = Budget::new(&config, 2, now);
        let (mut requests, mut retries): (Vec<Instant>, Vec<Instant>) = Default::default();
        let pace = rng.u64(1..200);
        for _ in 0..150 {
            now += Duration::from_millis(rng.u64(0..pace));
            if rng.bool() {
                spent.request(rng.usize(..2), now);
                requests.push(now);
            }
            if rng.bool() && spent.withdraw(now) {
                retries.push(now);
                let within = |times: &[Instant], span| times.iter().filter(|t| now - **t < span).count() as u64;
                let share = within(&retries, config.interval) * 100
                    <= within(&requests, config.interval) * u64::from(config.percent);
                let least = within(&retries, config.min_interval) <= u64::from(config.min_count);
                assert!(share || least, "seed {seed}: over the budget");
            }
        }
    }
}

#[test]
fn threads_together_get_no_more_than_the_budget() {
    let now = Instant::now();
    let shared = Budget::new(&budget(20, 10), 4, now);
    let granted = std::sync::atomic::AtomicUsize::new(0);
    let requested = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (shared, granted, requested) = (&shared, &granted, &requested);
            scope.spawn(move || {
                (0..1000).for_each(|_| shared.request(worker, now));
                requested.wait();
                let got = (0..1000).filter(|_| shared.withdraw(now)).count();
                granted.fetch_add(got, std::sync::atomic::Ordering::Relaxed);
            });
        }
    });
    assert_eq!(granted.into_inner(), 800);
}
