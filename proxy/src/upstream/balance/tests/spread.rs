//! How evenly load is spread, and how fast a bad endpoint is left alone. The figures are printed.

use super::*;

/// Throws `n` requests that stay at endpoints: the classic balls into bins.
fn fullest(algorithm: Algorithm, endpoints: usize, n: u32) -> u32 {
    let now = Instant::now();
    let list = fakes(&vec![1; endpoints], now);
    for f in &list {
        f.load.observe(now, Duration::from_millis(10));
    }
    let balancer = Balancer::new(&policy(algorithm), &list, None, 0);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..n {
        list[pick(&balancer, &list, now, 50, &mut rng).unwrap().index].load.start();
    }
    list.iter().map(|f| f.load.in_flight()).max().unwrap()
}

#[test]
fn two_choices_spread_nearly_evenly() {
    let average = 10;
    let ewma = fullest(Algorithm::PeakEwma, 100, 100 * average);
    let least = fullest(Algorithm::LeastRequest, 100, 100 * average);
    let random = fullest(Algorithm::Random, 100, 100 * average);
    println!("1,000 requests on 100 endpoints, most on one: peakEwma {ewma}, leastRequest {least}, random {random}");
    assert!(least <= average + 3, "{least}");
    assert!(ewma <= average + 5, "{ewma}");
    assert!(random > ewma);
}

#[test]
fn an_endpoint_slow_by_two_seconds_gets_next_to_nothing() {
    for weights in [[1, 1, 1], [2, 1, 1], [1, 2, 3]] {
        let mut now = Instant::now();
        let list = fakes(&weights, now);
        let balancer = Balancer::new(&policy(Algorithm::PeakEwma), &list, None, 0);
        let mut rng = fastrand::Rng::with_seed(5);
        let latency = |i| if i == 0 { Duration::from_secs(2) } else { Duration::from_millis(2) };
        let shares = shares(&balancer, &list, &mut now, 20_000, &mut rng, latency);
        println!("weights {weights:?}, the first slow by 2 s: shares {shares:.4?}");
        assert!(shares[0] < 0.005, "{shares:?}");
    }
}

#[test]
fn an_endpoint_that_recovers_is_found_again() {
    let mut now = Instant::now();
    let list = fakes(&[1; 3], now);
    let balancer = Balancer::new(&policy(Algorithm::PeakEwma), &list, None, 0);
    let mut rng = fastrand::Rng::with_seed(6);
    let even = |_| Duration::from_millis(2);
    shares(&balancer, &list, &mut now, 1000, &mut rng, even);
    list[0].load.penalise(now);
    let start = now;
    while shares(&balancer, &list, &mut now, 200, &mut rng, even)[0] < 0.2 {
        assert!(now - start < Duration::from_secs(60));
    }
    println!("a fifth of the traffic again after {:?}", now - start);
}

#[test]
fn an_endpoint_not_asked_yet_is_neither_starved_nor_flooded() {
    let now = Instant::now();
    let list = fakes(&[1; 3], now);
    for f in &list[1..] {
        f.load.observe(now, Duration::from_millis(200));
    }
    let balancer = Balancer::new(&policy(Algorithm::PeakEwma), &list, None, 0);
    let mut rng = fastrand::Rng::with_seed(8);
    for _ in 0..300 {
        list[pick(&balancer, &list, now, 50, &mut rng).unwrap().index].load.start();
    }
    let new = list[0].load.in_flight();
    assert!((90..=110).contains(&new), "{new} of 300");
}

#[test]
fn load_jumps_to_a_peak_and_comes_down_slowly() {
    let now = Instant::now();
    let load = Load::default();
    assert_eq!(load.latency(now), None);
    load.observe(now, Duration::from_millis(10));
    load.observe(now, Duration::from_secs(1));
    assert!((load.latency(now).unwrap() - 1.0).abs() < 1e-9);
    // Before it has rested: what was under way with the slow one says little.
    let later = now + Duration::from_millis(500);
    let after = load.observe(later, Duration::from_millis(10));
    assert!((0.85..0.95).contains(&after), "{after}");
    assert!(load.latency(later + Duration::from_secs(60)).unwrap() < 0.001);
}
