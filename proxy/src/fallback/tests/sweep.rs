//! 10,000 seeded histories: memory stays within the bound, and what is found is the latest that was kept.

use std::collections::HashMap;

use super::*;

#[test]
fn memory_is_bounded_and_what_is_found_is_the_latest() {
    let languages = ["de", "fr", "en"];
    for seed in 0..10_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let capacity = rng.usize(2_000..40_000);
        let store = Arc::new(Store::new(capacity));
        let mut latest: HashMap<(u8, usize), (Vec<u8>, Instant)> = HashMap::new();
        let mut now = Instant::now();
        let mut open: Vec<Recorder> = Vec::new();
        for _ in 0..24 {
            now += Duration::from_millis(rng.u64(..20_000));
            let (path, language) = (rng.u8(..6), rng.usize(..3));
            let head = request(&format!("/{path}"), &[("accept-language", languages[language])]);
            match rng.u8(..4) {
                0 | 1 => {
                    let body = vec![rng.u8(..); rng.usize(..4000)];
                    if keep(&store, &asked(&head), &response(200, &[("vary", "accept-language")]), &body, now) {
                        latest.insert((path, language), (body, now));
                    }
                }
                2 => {
                    if let Some(good) = store.find(&asked(&head), KEEP, now) {
                        let (body, at) = &latest[&(path, language)];
                        assert_eq!(good.body, *body, "the latest");
                        assert!(now - *at <= KEEP, "never older than the policy allows");
                    }
                }
                _ => {
                    open.extend(Recorder::begin(&store, &asked(&head), &response(200, &[]), KEEP, now));
                    open.iter_mut().for_each(|r| r.push(&[0; 700]));
                    if open.len() > 3 {
                        drop(open.swap_remove(rng.usize(..open.len())));
                    }
                }
            }
            assert!(store.bytes() <= capacity + capacity / 4, "within the bound");
        }
    }
}

#[test]
fn what_was_longest_of_no_use_goes_first() {
    let (store, now) = (Arc::new(Store::new(10_000)), Instant::now());
    let heads: Vec<_> = (0..4).map(|i| request(&format!("/{i}"), &[])).collect();
    for head in &heads[..3] {
        assert!(keep(&store, &asked(head), &response(200, &[]), &[0; 2_400], now));
        assert!(store.find(&asked(&heads[0]), KEEP, now).is_some());
    }
    assert!(keep(&store, &asked(&heads[3]), &response(200, &[]), &[0; 2_400], now));
    let found = heads.iter().map(|h| store.find(&asked(h), KEEP, now).is_some());
    assert_eq!(found.collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn variants_of_a_key_are_bounded() {
    let (store, now) = (Arc::new(Store::default()), Instant::now());
    let vary = response(200, &[("vary", "x-a")]);
    for i in 0..store::VARIANTS + 2 {
        let head = request("/", &[("x-a", &i.to_string())]);
        assert!(keep(&store, &asked(&head), &vary, b"x", now));
    }
    let found = |i: usize| store.find(&asked(&request("/", &[("x-a", &i.to_string())])), KEEP, now).is_some();
    assert!(!found(0) && !found(1) && found(2) && found(store::VARIANTS + 1));
}
