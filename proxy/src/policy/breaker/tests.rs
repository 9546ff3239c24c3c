//! Seeded histories of breakers, against invariants and a model that is told everything.

use std::collections::VecDeque;

use outrigger_config::model::{BreakerScope, FailureRate};

use super::*;

const HISTORIES: u64 = 10_000;

fn config() -> CircuitBreaker {
    CircuitBreaker {
        scope: BreakerScope::Upstream,
        consecutive_failures: Some(3),
        failure_rate: None,
        open_base: Duration::from_secs(1),
        open_max: Duration::from_secs(8),
        half_open_probes: 2,
        max_ejected_percent: 50,
    }
}

fn random(rng: &mut fastrand::Rng) -> CircuitBreaker {
    let rate = FailureRate { percent: rng.u32(20..=100), min_requests: rng.u32(1..20), window: secs(rng.u64(1..20)) };
    let base = rng.u64(1..3000);
    CircuitBreaker {
        consecutive_failures: rng.bool().then(|| rng.u32(1..6)),
        failure_rate: rng.bool().then_some(rate),
        open_base: Duration::from_millis(base),
        open_max: Duration::from_millis(base * rng.u64(1..20)),
        half_open_probes: rng.u32(1..5),
        ..config()
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn call(breaker: &Arc<Breaker>, ok: bool, now: Instant) -> Option<State> {
    breaker.record(breaker.admit(now).permit().expect("admitted"), 0, ok, now)
}

fn refused(breaker: &Arc<Breaker>, now: Instant) -> Duration {
    match breaker.admit(now) {
        Admit::Refuse { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

fn open(breaker: &Arc<Breaker>, now: Instant) {
    assert_eq!([false; 3].map(|ok| call(breaker, ok, now)), [None, None, Some(State::Open)]);
}

fn opened(now: Instant) -> Arc<Breaker> {
    let breaker = Breaker::new(&config(), 1, None, now);
    open(&breaker, now);
    breaker
}

#[test]
fn consecutive_failures_open_and_a_success_between_them_starts_anew() {
    let now = Instant::now();
    let breaker = Breaker::new(&config(), 1, None, now);
    for ok in [false, false, true, false, false] {
        assert_eq!(call(&breaker, ok, now), None);
    }
    assert_eq!(call(&breaker, false, now), Some(State::Open));
    assert_eq!(refused(&breaker, now + Duration::from_millis(400)), Duration::from_millis(600));
}

#[test]
fn a_failure_rate_opens_once_there_are_enough_requests() {
    let now = Instant::now();
    let failure_rate = Some(FailureRate { percent: 50, min_requests: 20, window: secs(10) });
    let config = CircuitBreaker { consecutive_failures: None, failure_rate, ..config() };
    let breaker = Breaker::new(&config, 2, None, now);
    for i in 0..19 {
        assert_eq!(call(&breaker, i % 2 == 0, now), None);
    }
    assert_eq!(call(&breaker, false, now), Some(State::Open));
    // After it has closed, the failures of before are not held against it.
    let later = now + secs(1);
    assert_eq!([true; 2].map(|ok| call(&breaker, ok, later)), [None, Some(State::Closed)]);
    assert_eq!(call(&breaker, false, later), None);
}

#[test]
fn open_time_doubles_is_capped_and_resets_after_a_stable_time() {
    let start = Instant::now();
    let mut now = start;
    let breaker = opened(now);
    for expected in [1, 2, 4, 8, 8] {
        assert_eq!(refused(&breaker, now), secs(expected));
        now += secs(expected);
        assert_eq!(call(&breaker, false, now), Some(State::Open));
    }
    now += secs(8);
    assert_eq!([true; 2].map(|ok| call(&breaker, ok, now)), [None, Some(State::Closed)]);
    // Soon after: as long as before.
    open(&breaker, now + secs(1));
    assert_eq!(refused(&breaker, now + secs(1)), secs(8));
    now += secs(9);
    assert_eq!([true; 2].map(|ok| call(&breaker, ok, now)), [None, Some(State::Closed)]);
    // After a stable time: from the beginning.
    open(&breaker, now + secs(8));
    assert_eq!(refused(&breaker, now + secs(8)), secs(1));
}

#[test]
fn a_probe_without_a_verdict_gives_its_place_back() {
    let now = Instant::now();
    let breaker = opened(now);
    let later = now + secs(1);
    let first = breaker.admit(later);
    assert_eq!(first.transition(), Some(State::HalfOpen));
    let _second = breaker.admit(later);
    assert_eq!(breaker.eligible(later), Eligible::No);
    refused(&breaker, later);
    drop(first);
    assert_eq!(breaker.eligible(later), Eligible::Probe);
    assert!(matches!(breaker.admit(later), Admit::Probe { began: false, .. }));
}

#[test]
fn probes_that_never_come_back_open_it_again() {
    let now = Instant::now();
    let breaker = opened(now);
    let begun = now + secs(1);
    let lost = [breaker.admit(begun), breaker.admit(begun)];
    assert!(matches!(breaker.admit(begun + secs(8)), Admit::Refuse { reopened: false, .. }));
    let at = begun + secs(8) + Duration::from_millis(1);
    let again = breaker.admit(at);
    assert_eq!(again.transition(), Some(State::Open));
    assert_eq!(breaker.retry_after(at), Some(secs(2)));
    // Their late verdicts change nothing.
    for late in lost {
        assert_eq!(breaker.record(late.permit().expect("probe"), 0, true, at), None);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_result_from_before_the_opening_does_not_count_after_the_closing() {
    let now = Instant::now();
    let breaker = Breaker::new(&config(), 1, None, now);
    let slow: Vec<_> = (0..5).map(|_| breaker.admit(now).permit().expect("closed")).collect();
    open(&breaker, now);
    let later = now + secs(1);
    assert_eq!([true; 2].map(|ok| call(&breaker, ok, later)), [None, Some(State::Closed)]);
    for permit in slow {
        assert_eq!(breaker.record(permit, 0, false, later), None);
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// One random history. The invariants are checked at every step.
fn history(seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let config = random(rng);
    let mut now = Instant::now();
    let breaker = Breaker::new(&config, 2, None, now);
    let mut flights: VecDeque<(Permit, bool)> = VecDeque::new();
    let (mut state, mut opened_at, mut good) = (State::Closed, now, 0);
    let mut open_for = Duration::ZERO;
    let health = rng.f64();
    for _ in 0..60 {
        now += Duration::from_micros(rng.u64(0..1_500_000));
        let mut change = None;
        if rng.u8(..100) < 60 {
            let admit = breaker.admit(now);
            change = admit.transition();
            match admit {
                Admit::Pass(permit) => {
                    assert_eq!(state, State::Closed, "seed {seed}");
                    flights.push_back((permit, false));
                }
                Admit::Probe { permit, began } => {
                    assert_eq!(began, state == State::Open, "seed {seed}");
                    if began {
                        assert!(now >= opened_at + config.open_base, "seed {seed}: probed too early");
                        flights.iter_mut().for_each(|f| f.1 = false);
                        good = 0;
                    }
                    flights.push_back((permit, true));
                }
                Admit::Refuse { .. } => assert_ne!(state, State::Closed, "seed {seed}"),
            }
        } else if let Some((permit, probe)) = flights.remove(rng.usize(..flights.len().max(1)))
            && rng.u8(..10) > 0
        {
            let ok = rng.f64() < health;
            change = breaker.record(permit, rng.usize(..2), ok, now);
            good += usize::from(probe && ok && state == State::HalfOpen);
            assert!(!(ok && change == Some(State::Open)), "seed {seed}: a success opened it");
        }
        if let Some(to) = change {
            if to == State::Open {
                let next = breaker.retry_after(now).expect("open");
                let milli = Duration::from_millis(1);
                assert!(next <= config.open_max + milli && next + milli >= config.open_base, "seed {seed}: capped");
                if state == State::HalfOpen {
                    assert!(next + milli >= (open_for * 2).min(config.open_max), "seed {seed}: doubles");
                }
                (open_for, opened_at) = (next - milli.min(next), now);
            }
            if to != State::HalfOpen {
                flights.iter_mut().for_each(|f| f.1 = false);
            }
            state = to;
        }
        let probes = flights.iter().filter(|f| f.1).count();
        if state == State::HalfOpen {
            assert!(probes + good <= config.half_open_probes as usize, "seed {seed}: too many probes");
        }
        assert_eq!(breaker.state(), state, "seed {seed}: every change was told");
    }
    // However it ended: once every probe succeeds, it closes.
    flights.clear();
    for _ in 0..4 * (1 + config.half_open_probes) {
        if let Some(permit) = breaker.admit(now).permit() {
            let _changed = breaker.record(permit, 0, true, now);
        } else {
            now += breaker.retry_after(now).unwrap_or(config.open_max);
        }
    }
    assert_eq!(breaker.state(), State::Closed, "seed {seed}: stuck");
}

#[test]
fn sweep_half_open_never_more_than_its_probes_open_time_doubles_and_is_capped_and_nothing_gets_stuck() {
    (0..HISTORIES).for_each(history);
}

#[test]
fn sweep_ejected_share_is_never_above_the_maximum_and_comes_back_to_nothing() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let config = CircuitBreaker { max_ejected_percent: rng.u32(0..=100), ..random(rng) };
        let ejections = Arc::new(Ejections::new(config.max_ejected_percent));
        let mut now = Instant::now();
        let total = rng.usize(1..12);
        let make = |now| Breaker::new(&config, 1, Some(Arc::clone(&ejections)), now);
        let mut breakers: Vec<_> = (0..total).map(|_| make(now)).collect();
        for _ in 0..80 {
            now += Duration::from_millis(rng.u64(0..400));
            let chosen = rng.usize(..total);
            if rng.u8(..40) == 0 {
                // Another endpoint takes its place.
                breakers[chosen] = make(now);
            } else if let Some(permit) = breakers[chosen].admit(now).permit() {
                let _changed = breakers[chosen].record(permit, 0, rng.u8(..10) < 3, now);
            }
            let out = breakers.iter().filter(|b| b.state() != State::Closed).count();
            assert_eq!(ejections.out() as usize, out, "seed {seed}");
            let left_out = match ejections.standing(total) {
                Standing::AllIn | Standing::Panic => 0,
                Standing::SomeOut => breakers.iter().filter(|b| b.eligible(now) != Eligible::Yes).count(),
            };
            assert!(left_out * 100 <= total * config.max_ejected_percent as usize, "seed {seed}");
        }
        drop(breakers);
        assert_eq!(ejections.out(), 0, "seed {seed}");
    }
}

#[test]
fn threads_never_get_more_probes_than_there_are_and_agree_on_each_change() {
    use std::sync::atomic::AtomicI32;
    const THREADS: usize = 4;
    let start = Instant::now();
    let config = CircuitBreaker { half_open_probes: 3, open_base: Duration::from_millis(1), ..config() };
    let ejections = Arc::new(Ejections::new(100));
    let breaker = Breaker::new(&config, THREADS, Some(Arc::clone(&ejections)), start);
    let (probing, entered, left) = (AtomicI32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for worker in 0..THREADS {
            let (breaker, probing, entered, left) = (&breaker, &probing, &entered, &left);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(worker as u64);
                for step in 0..20_000_u64 {
                    let now = start + Duration::from_micros(step * 100);
                    let admit = breaker.admit(now);
                    let probe = matches!(admit, Admit::Probe { .. });
                    entered.fetch_add(u32::from(admit.transition() == Some(State::HalfOpen)), Ordering::SeqCst);
                    if admit.transition() == Some(State::Open) {
                        left.fetch_add(1, Ordering::SeqCst);
                    }
                    let Some(permit) = admit.permit() else { continue };
                    if probe {
                        assert!(probing.fetch_add(1, Ordering::SeqCst) < 2 * 3, "of two periods at most");
                        probing.fetch_sub(1, Ordering::SeqCst);
                    }
                    let was = breaker.record(permit, worker, rng.u8(..10) < 4, now);
                    left.fetch_add(u32::from(probe && was.is_some()), Ordering::SeqCst);
                }
            });
        }
    });
    let half_open = u32::from(breaker.state() == State::HalfOpen);
    assert!(entered.load(Ordering::SeqCst) > 0);
    assert_eq!(entered.load(Ordering::SeqCst), left.load(Ordering::SeqCst) + half_open);
    assert_eq!(ejections.out(), u32::from(breaker.state() != State::Closed));
}
