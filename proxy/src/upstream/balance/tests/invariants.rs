//! Seeded sweeps: 10,000 histories for each algorithm, every choice held against the invariants.

use super::*;

const HISTORIES: u64 = 10_000;

fn sweep(algorithm: Algorithm) {
    // A maglev table is built once for 25 histories of health: filling it is what takes the time.
    let per_list = if algorithm == Algorithm::Maglev { 25 } else { 1 };
    for seed in 0..HISTORIES / per_list {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let zones = [None, Some("a"), Some("b")];
        let equal = rng.bool();
        let list: Vec<Fake> = (0..rng.usize(1..14))
            .map(|i| {
                let weight = if equal { rng.u32(0..8).min(1) } else { rng.u32(0..5) };
                let presence = if rng.bool() { Presence::founding(now) } else { Presence::joining(now) };
                fake(i, weight, zones[rng.usize(..3)], presence)
            })
            .collect();
        let policy = LoadBalancing {
            algorithm,
            hash_on: None,
            slow_start: rng.bool().then_some(Duration::from_secs(30)),
            zone: [ZoneMode::Ignore, ZoneMode::Prefer, ZoneMode::Only][rng.usize(..3)],
        };
        let balancer = Balancer::new(&policy, &list, zones[rng.usize(..2)], seed);
        let own = if balancer.zones.is_some() || policy.zone == ZoneMode::Only { Some("a") } else { None };
        for _ in 0..per_list {
            history(&balancer, &list, &policy, own, &mut now, &mut rng);
        }
    }
}

fn history(
    balancer: &Balancer,
    list: &[Fake],
    policy: &LoadBalancing,
    own: Option<&str>,
    now: &mut Instant,
    rng: &mut fastrand::Rng,
) {
    let max = [0, 10, 50, 100][rng.usize(..4)];
    for _ in 0..16 {
        *now += Duration::from_millis(rng.u64(0..4000));
        let changed = &list[rng.usize(..list.len())];
        match rng.u8(..6) {
            0 => changed.health.set(Health::Ready),
            1 => changed.health.set(Health::Ejected),
            2 => changed.health.set(Health::Probe),
            3 => changed.presence.hold(Duration::from_secs(rng.u64(..100_000)), *now),
            4 => changed.tried.set(!changed.tried.get()),
            _ => drop(changed.load.penalise(*now)),
        }
        let choice = pick(balancer, list, *now, max, rng);
        check(choice, balancer, list, policy, own, max, *now);
        if let Some(choice) = choice {
            let load = &list[choice.index].load;
            load.start();
            if rng.bool() {
                load.observe(*now, Duration::from_millis(rng.u64(..300)));
                load.end();
            }
        }
    }
}

fn check(
    choice: Option<Choice>,
    balancer: &Balancer,
    list: &[Fake],
    policy: &LoadBalancing,
    own: Option<&str>,
    max: u32,
    now: Instant,
) {
    let scope: Vec<&Fake> = balancer.all.members().map(|i| &list[i]).collect();
    let gone = scope.iter().filter(|f| f.health.get() == Health::Ejected).count();
    let panics = gone * 100 > scope.len() * max as usize;
    let usable = |f: &&&Fake| panics || f.health.get() != Health::Ejected;
    let Some(choice) = choice else {
        assert_eq!(scope.iter().filter(usable).count(), 0, "something is available: something is chosen");
        return;
    };
    let chosen = &list[choice.index];
    assert!(chosen.config.weight > 0, "weight 0 takes no traffic");
    if chosen.health.get() == Health::Ejected {
        assert!(choice.panic, "an ejected endpoint is chosen in panic only");
    }
    if choice.panic {
        assert!(panics, "panic only above the share of the policy");
    }
    if policy.zone == ZoneMode::Only && own.is_some() && balancer.all.len() < list.len() {
        assert!(balancer.all.members().any(|i| i == choice.index), "`only` never leaves the zone");
    }
    if chosen.presence.held(now) {
        let better = scope.iter().filter(usable).any(|f| !f.presence.held(now) && f.health.get() != Health::Ejected);
        assert!(!better, "a held endpoint is chosen if all are held");
    } else if chosen.tried.get() {
        let better = scope.iter().any(|f| f.health.get() != Health::Ejected && !f.presence.held(now) && !f.tried.get());
        assert!(!better, "another endpoint is preferred after a failure");
    }
}

#[test]
fn peak_ewma_keeps_its_invariants() {
    sweep(Algorithm::PeakEwma);
}

#[test]
fn least_request_keeps_its_invariants() {
    sweep(Algorithm::LeastRequest);
}

#[test]
fn round_robin_keeps_its_invariants() {
    sweep(Algorithm::RoundRobin);
}

#[test]
fn random_keeps_its_invariants() {
    sweep(Algorithm::Random);
}

#[test]
fn maglev_keeps_its_invariants() {
    sweep(Algorithm::Maglev);
}

#[test]
fn with_everything_ejected_max_100_refuses_and_less_panics() {
    let now = Instant::now();
    for algorithm in ALL {
        for n in [1, 3] {
            let list = fakes(&vec![1; n], now);
            let balancer = Balancer::new(&policy(algorithm), &list, None, 0);
            list.iter().for_each(|f| f.health.set(Health::Ejected));
            let mut rng = fastrand::Rng::with_seed(1);
            assert_eq!(pick(&balancer, &list, now, 100, &mut rng), None);
            assert!(pick(&balancer, &list, now, 99, &mut rng).unwrap().panic);
        }
    }
}

#[test]
fn panic_spreads_over_all_and_ends_with_the_share() {
    let now = Instant::now();
    for algorithm in ALL {
        let list = fakes(&[1; 4], now);
        let balancer = Balancer::new(&policy(algorithm), &list, None, 0);
        list[..3].iter().for_each(|f| f.health.set(Health::Ejected));
        let mut rng = fastrand::Rng::with_seed(2);
        let chosen = |rng: &mut fastrand::Rng| {
            let mut counts = [0; 4];
            for _ in 0..400 {
                counts[pick(&balancer, &list, now, 50, rng).unwrap().index] += 1;
            }
            counts
        };
        assert!(chosen(&mut rng).iter().all(|c| *c > 30), "{algorithm:?}");
        list[0].health.set(Health::Ready);
        let calm = chosen(&mut rng);
        assert_eq!(calm[1] + calm[2], 0, "{algorithm:?}");
    }
}

#[test]
fn a_probe_goes_first_when_it_is_met() {
    let now = Instant::now();
    let list = fakes(&[1; 3], now);
    for f in &list {
        f.load.observe(now, Duration::from_millis(2));
    }
    list[1].load.penalise(now);
    list[1].health.set(Health::Probe);
    let balancer = Balancer::new(&policy(Algorithm::PeakEwma), &list, None, 0);
    let mut rng = fastrand::Rng::with_seed(3);
    let probes = (0..300).filter(|_| pick(&balancer, &list, now, 50, &mut rng).unwrap().index == 1).count();
    assert!(probes > 150, "{probes} of 300 although its average is that of a failure");
}
