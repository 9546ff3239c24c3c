//! Seeded histories of rate limits, against the definition.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const HISTORIES: u64 = 10_000;

fn limit(requests: u32, per: Duration, burst: u32, by: RateLimitKey) -> RateLimit {
    RateLimit { requests, per, burst, by }
}

fn none(_: &str) -> Option<&'static [u8]> {
    None
}

fn address(n: u32) -> Caller<'static> {
    Caller::Address(Ipv4Addr::from(n).into())
}

#[test]
fn a_burst_then_one_per_interval_and_the_wait_is_told() {
    let now = Instant::now();
    for by in [RateLimitKey::All, RateLimitKey::Client] {
        let limiter = RateLimiter::new(&limit(100, Duration::from_secs(1), 50, by), RandomState::new(), now);
        let passed = (0..200).filter(|_| limiter.check(address(1), none, now).is_ok()).count();
        assert_eq!(passed, 50);
        let limited = limiter.check(address(1), none, now).expect_err("empty");
        assert_eq!(limited.retry_after, Duration::from_millis(10));
        let later = now + limited.retry_after;
        assert!(limiter.check(address(1), none, later).is_ok());
        assert!(limiter.check(address(1), none, later).is_err());
    }
}

#[test]
fn callers_have_buckets_of_their_own_by_what_is_known_of_them() {
    let now = Instant::now();
    let once = |by| RateLimiter::new(&limit(1, Duration::from_secs(1), 1, by), RandomState::new(), now);
    let client = once(RateLimitKey::Client);
    let v6 = |last| Caller::Address(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last).into());
    let mapped = Caller::Address(Ipv4Addr::from(7).to_ipv6_mapped().into());
    assert!(client.check(Caller::Identity("spiffe://a"), none, now).is_ok());
    assert!(client.check(Caller::Identity("spiffe://b"), none, now).is_ok());
    assert!(client.check(address(7), none, now).is_ok());
    assert!(client.check(mapped, none, now).is_err(), "one address in two forms");
    assert!(client.check(v6(1), none, now).is_ok());
    assert!(client.check(v6(2), none, now).is_err(), "one host's /64");
    let header = once(RateLimitKey::Header("x-tenant".into()));
    assert!(header.check(address(1), |_| Some(b"a"), now).is_ok());
    assert!(header.check(address(2), |_| Some(b"a"), now).is_err());
    assert!(header.check(address(2), |_| Some(b"b"), now).is_ok());
    assert!(header.check(address(3), none, now).is_ok());
    assert!(header.check(address(4), none, now).is_err(), "leaving it out is no way around");
}

#[test]
fn made_up_keys_neither_grow_the_table_nor_refill_a_heavy_callers_bucket() {
    let now = Instant::now();
    let config = limit(10, Duration::from_secs(10), 10, RateLimitKey::Client);
    let limiter = RateLimiter::new(&config, RandomState::new(), now);
    while limiter.check(address(0), none, now).is_ok() {}
    for n in 1..100_000 {
        assert!(limiter.check(address(n), none, now).is_ok(), "a newcomer is let through");
    }
    assert!(limiter.keys() <= MAX_KEYS);
    assert!(limiter.check(address(0), none, now).is_err());
    // Once they are full again, they make room.
    let later = now + Duration::from_secs(10);
    (1..1000).for_each(|n| assert!(limiter.check(address(n), none, later).is_ok()));
    assert!(limiter.keys() < MAX_KEYS);
}

#[test]
fn sweep_no_key_ever_gets_more_than_its_burst_and_its_rate_nor_less() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let by = if rng.bool() { RateLimitKey::All } else { RateLimitKey::Client };
        let config = limit(rng.u32(1..200), Duration::from_millis(rng.u64(1..5000)), rng.u32(1..20), by);
        let mut now = Instant::now();
        let limiter = RateLimiter::new(&config, RandomState::new(), now);
        let interval = nanos(config.per).div_ceil(u64::from(config.requests));
        let mut passed: Vec<Instant> = Vec::new();
        for _ in 0..80 {
            now += Duration::from_nanos(rng.u64(0..interval * 3));
            if rng.u8(..10) == 0 {
                now += Duration::from_nanos(interval * rng.u64(0..30));
            }
            let fits = |at: Instant| {
                // Over any stretch that ends now: a burst, and one per interval.
                passed.iter().rev().enumerate().all(|(later, since)| {
                    let earned = nanos(at - *since) / interval;
                    later as u64 + 2 <= u64::from(config.burst) + earned
                })
            };
            match limiter.check(address(1), none, now) {
                Ok(()) => {
                    assert!(fits(now), "seed {seed}: too many");
                    passed.push(now);
                }
                Err(limited) => {
                    assert!(!fits(now), "seed {seed}: refused though it fits");
                    assert!(!limited.retry_after.is_zero());
                    assert!(fits(now + limited.retry_after), "seed {seed}: told to come back too early");
                    let sooner = limited.retry_after - Duration::from_nanos(1);
                    assert!(!fits(now + sooner), "seed {seed}: told to come back too late");
                }
            }
        }
    }
}

#[test]
fn threads_together_get_no_more_than_the_limit() {
    for by in [RateLimitKey::All, RateLimitKey::Client] {
        let now = Instant::now();
        let config = limit(1000, Duration::from_secs(1), 500, by);
        let limiter = RateLimiter::new(&config, RandomState::new(), now);
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let ok = (0..1000).filter(|_| limiter.check(address(1), none, now).is_ok()).count();
                    passed.fetch_add(ok, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(passed.into_inner(), 500);
    }
}
