//! Shares: by weight, in slow start, by zone.

use super::*;

fn even(_: usize) -> Duration {
    Duration::from_millis(4)
}

fn close(shares: &[f64], wanted: &[f64], tolerance: f64) {
    for (share, wanted) in shares.iter().zip(wanted) {
        assert!((share - wanted).abs() <= tolerance, "{shares:.3?}, not {wanted:.3?}");
    }
}

#[test]
fn shares_follow_weights() {
    let few: &[u32] = &[2, 1];
    let some: &[u32] = &[5, 3, 2, 0];
    let many: &[u32] = &[1, 2, 3, 4, 1, 2, 3, 4, 5, 5];
    for algorithm in ALL {
        for weights in [few, some, many] {
            let mut now = Instant::now();
            let list = fakes(weights, now);
            let balancer = Balancer::new(&policy(algorithm), &list, None, 0);
            let mut rng = fastrand::Rng::with_seed(9);
            let shares = shares(&balancer, &list, &mut now, 20_000, &mut rng, even);
            let total: u32 = weights.iter().sum();
            let wanted: Vec<f64> = weights.iter().map(|w| f64::from(*w) / f64::from(total)).collect();
            println!("{algorithm:?} {weights:?}: {shares:.3?}");
            close(&shares, &wanted, 0.03);
        }
    }
}

#[test]
fn equal_weights_get_equal_shares() {
    for algorithm in ALL {
        let mut now = Instant::now();
        let list = fakes(&[1; 5], now);
        let balancer = Balancer::new(&policy(algorithm), &list, None, 0);
        let mut rng = fastrand::Rng::with_seed(10);
        let shares = shares(&balancer, &list, &mut now, 20_000, &mut rng, even);
        println!("{algorithm:?}: {shares:.3?}");
        close(&shares, &[0.2; 5], 0.05);
    }
}

#[test]
fn round_robin_is_smooth() {
    let now = Instant::now();
    let list = fakes(&[5, 1, 1], now);
    let balancer = Balancer::new(&policy(Algorithm::RoundRobin), &list, None, 0);
    let mut rng = fastrand::Rng::with_seed(11);
    let order: Vec<_> = (0..700).map(|_| pick(&balancer, &list, now, 50, &mut rng).unwrap().index).collect();
    for seven in order.chunks(7) {
        let heavy = seven.iter().filter(|i| **i == 0).count();
        assert_eq!(heavy, 5);
    }
    let longest = order.split(|i| *i != 0).map(<[usize]>::len).max().unwrap();
    assert!(longest <= 4, "{longest} in a row");
}

#[test]
fn slow_start_grows_monotonously_to_a_full_share() {
    let start = Instant::now();
    for algorithm in ALL {
        let mut list = fakes(&[1; 3], start);
        list[2].presence = Presence::joining(start);
        let policy = LoadBalancing { slow_start: Some(Duration::from_secs(30)), ..policy(algorithm) };
        let balancer = Balancer::new(&policy, &list, None, 0);
        let mut rng = fastrand::Rng::with_seed(12);
        let mut last = 0.0;
        let mut course = Vec::new();
        for second in [0, 10, 20, 30] {
            // Time stands still while a share is measured.
            let now = start + Duration::from_secs(second);
            let chosen = (0..8000).filter(|_| pick(&balancer, &list, now, 50, &mut rng).unwrap().index == 2).count();
            let share = f64::from(u32::try_from(chosen).unwrap()) / 8000.0;
            course.push(share);
            assert!(share > last - 0.02, "{algorithm:?} {course:.3?}");
            last = share;
        }
        println!("{algorithm:?}: share after 0, 10, 20, 30 of 30 s: {course:.3?}");
        assert!(course[0] < 0.08 && course[0] > 0.0, "{algorithm:?} {course:.3?}");
        assert!((last - 1.0 / 3.0).abs() < 0.03, "{algorithm:?} {course:.3?}");
    }
}

#[test]
fn presence_share_is_monotone_and_ends_at_one() {
    let start = Instant::now();
    let joined = Presence::joining(start);
    let whole = Some(Duration::from_secs(30));
    let shares: Vec<_> = (0..=40).map(|s| joined.share(whole, start + Duration::from_secs(s))).collect();
    assert!(shares.windows(2).all(|w| w[0] <= w[1]));
    assert!((shares[0] - 0.1).abs() < 1e-9 && (shares[30] - 1.0).abs() < 1e-9);
    assert!((Presence::founding(start).share(whole, start) - 1.0).abs() < 1e-9);
    assert!((joined.share(None, start) - 1.0).abs() < 1e-9);
    assert!((joined.share(Some(Duration::ZERO), start) - 1.0).abs() < 1e-9);
}

#[test]
fn a_hold_is_bounded_and_kept() {
    let start = Instant::now();
    let presence = Presence::founding(start);
    assert!(!presence.held(start));
    presence.hold(Duration::MAX, start + Duration::from_secs(1));
    presence.hold(Duration::from_secs(1), start + Duration::from_secs(1));
    assert!(presence.held(start + Duration::from_secs(30)), "a shorter one does not shorten it");
    assert!(!presence.held(start + Duration::from_secs(31)), "no longer than the bound");
}

#[test]
fn the_zone_keeps_what_it_can_carry() {
    let start = Instant::now();
    for algorithm in ALL {
        let list: Vec<Fake> =
            (0..20).map(|i| fake(i, 1, Some(if i < 10 { "a" } else { "b" }), Presence::founding(start))).collect();
        let policy = LoadBalancing { zone: ZoneMode::Prefer, ..policy(algorithm) };
        let balancer = Balancer::new(&policy, &list, Some("a"), 0);
        let mut rng = fastrand::Rng::with_seed(13);
        let mut course = Vec::new();
        for (ejected, wanted) in [(0, 1.0), (2, 1.0), (5, 0.7), (8, 0.28), (10, 0.0)] {
            list[..ejected].iter().for_each(|f| f.health.set(Health::Ejected));
            let now = start + Duration::from_secs(u64::try_from(ejected).unwrap());
            let near = (0..4000).filter(|_| pick(&balancer, &list, now, 50, &mut rng).unwrap().index < 10).count();
            let near = f64::from(u32::try_from(near).unwrap()) / 4000.0;
            course.push(near);
            assert!((near - wanted).abs() < 0.04, "{algorithm:?} {ejected} gone: {near}, not {wanted}");
        }
        println!("{algorithm:?}: share of the own zone with 0, 2, 5, 8, 10 of its 10 ejected: {course:.2?}");
    }
}

#[test]
fn only_refuses_without_an_endpoint_of_the_zone_and_prefer_does_not() {
    let now = Instant::now();
    let list = vec![fake(0, 1, Some("b"), Presence::founding(now)), fake(1, 1, None, Presence::founding(now))];
    let mut rng = fastrand::Rng::with_seed(14);
    let mut chosen = |zone, own| {
        let policy = LoadBalancing { zone, ..policy(Algorithm::PeakEwma) };
        pick(&Balancer::new(&policy, &list, own, 0), &list, now, 50, &mut rng)
    };
    assert_eq!(chosen(ZoneMode::Only, Some("a")), None);
    assert!(chosen(ZoneMode::Prefer, Some("a")).is_some());
    assert!(chosen(ZoneMode::Only, None).is_some(), "who knows no zone has no preference");
}
