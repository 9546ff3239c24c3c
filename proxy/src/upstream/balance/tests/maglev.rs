//! Maglev's promises: even, stable, without regard to the order of the list.

use super::super::maglev::{Table, hash, key, mix};

fn addresses(n: u64) -> Vec<(u64, u32)> {
    (0..n)
        .map(|i| {
            let address = format!("10.1.{}.{}:8080", i / 250, i % 250 + 1).parse().unwrap();
            (key(address), 1)
        })
        .collect()
}

fn any(_: usize) -> bool {
    true
}

#[test]
fn few_slots_move_when_one_of_100_endpoints_leaves() {
    let before = addresses(100);
    let table = Table::build(&before);
    let size = table.slots().len();
    let shares: Vec<f64> = (0..100)
        .step_by(10)
        .map(|gone| {
            let mut after = before.clone();
            after.remove(gone);
            let smaller = Table::build(&after);
            let endpoint_of = |s: usize| after[usize::from(smaller.slots()[s])].0;
            let moved = (0..size).filter(|s| before[usize::from(table.slots()[*s])].0 != endpoint_of(*s)).count();
            f64::from(u32::try_from(moved).unwrap()) / f64::from(u32::try_from(size).unwrap())
        })
        .collect();
    let worst = shares.iter().copied().fold(0.0, f64::max);
    let mean = shares.iter().sum::<f64>() / 10.0;
    println!("moved when one of 100 leaves: {:.2} % on average, {:.2} % at worst", mean * 100.0, worst * 100.0);
    assert!(worst < 0.04, "{worst}");
}

#[test]
fn every_endpoint_has_its_share() {
    for n in [2, 10, 100, 300] {
        let endpoints = addresses(n);
        let table = Table::build(&endpoints);
        let mut counts = vec![0_u32; endpoints.len()];
        for slot in table.slots() {
            counts[usize::from(*slot)] += 1;
        }
        let fair = f64::from(u32::try_from(table.slots().len()).unwrap()) / f64::from(u32::try_from(n).unwrap());
        let worst = counts.iter().map(|c| (f64::from(*c) / fair - 1.0).abs()).fold(0.0, f64::max);
        println!("{n} endpoints, {} slots: off by {:.2} % at worst", table.slots().len(), worst * 100.0);
        assert!(worst < 0.02, "{worst}");
    }
}

#[test]
fn the_order_of_the_list_is_without_effect() {
    let endpoints = addresses(20);
    let mut shuffled = endpoints.clone();
    fastrand::Rng::with_seed(1).shuffle(&mut shuffled);
    let (a, b) = (Table::build(&endpoints), Table::build(&shuffled));
    for i in 0..2000_u64 {
        let h = mix(i);
        assert_eq!(endpoints[a.find(h, any).unwrap()], shuffled[b.find(h, any).unwrap()]);
    }
}

#[test]
fn keys_of_an_endpoint_that_is_out_spread_over_the_others_and_come_back() {
    let table = Table::build(&addresses(10));
    let mut counts = [0_u32; 10];
    for i in 0..20_000_u64 {
        let h = hash(&i.to_be_bytes());
        let usual = table.find(h, any).unwrap();
        let without = table.find(h, |p| p != 3).unwrap();
        assert!(usual == without || usual == 3, "only its own keys move");
        if usual == 3 {
            counts[without] += 1;
        }
        assert_eq!(without, table.find(h, |p| p != 3).unwrap(), "always in the same way");
    }
    let moved: u32 = counts.iter().sum();
    assert!(counts.iter().all(|c| *c < moved / 4), "{counts:?}");
}

#[test]
fn the_last_one_wanted_is_found() {
    let table = Table::build(&addresses(200));
    for i in 0..200 {
        assert_eq!(table.find(mix(7), |p| p == i), Some(i));
    }
    assert_eq!(table.find(1, |_| false), None);
    assert_eq!(Table::build(&[]).find(1, any), None);
}

#[test]
fn sizes_are_primes() {
    for size in [16_381_u32, 65_537] {
        assert!((2..=256).all(|d| size % d != 0), "{size}");
    }
}
