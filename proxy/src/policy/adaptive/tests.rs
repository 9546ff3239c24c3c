//! The limiter in front of a model of a server: `workers` that work, and a queue before them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::*;

const MILLI: u64 = 1_000_000;

/// How long one request takes.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Within a tenth of this.
    Steady(u64),
    /// Exponential with this mean.
    Exponential(u64),
}

impl Work {
    fn draw(self, rng: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Steady(mean) => (mean as f64 * (0.9 + 0.2 * rng.f64())) as u64,
            Self::Exponential(mean) => (mean as f64 * -(1.0 - rng.f64()).ln()) as u64,
        }
    }

    fn mean(self) -> u64 {
        match self {
            Self::Steady(mean) | Self::Exponential(mean) => mean,
        }
    }

    fn p99(self) -> f64 {
        match self {
            Self::Steady(mean) => mean as f64 * 1.098,
            Self::Exponential(mean) => mean as f64 * 100_f64.ln(),
        }
    }
}

struct Run {
    /// Share of the capacity that was served.
    goodput: f64,
    p99: f64,
    refused: u64,
    limit: u32,
}

struct Server {
    workers: usize,
    work: Work,
    busy: usize,
    queue: VecDeque<Slot>,
    finishing: BinaryHeap<Reverse<(u64, u64)>>,
    slots: std::collections::HashMap<u64, Slot>,
    next: u64,
}

impl Server {
    fn new(workers: usize, work: Work) -> Self {
        Self {
            workers,
            work,
            busy: 0,
            queue: VecDeque::new(),
            finishing: BinaryHeap::new(),
            slots: Default::default(),
            next: 0,
        }
    }

    fn take(&mut self, slot: Slot, now: u64, rng: &mut fastrand::Rng) {
        if self.busy < self.workers {
            self.busy += 1;
            self.begin(slot, now, rng);
        } else {
            self.queue.push_back(slot);
        }
    }

    fn begin(&mut self, slot: Slot, now: u64, rng: &mut fastrand::Rng) {
        self.next += 1;
        self.finishing.push(Reverse((now + self.work.draw(rng), self.next)));
        self.slots.insert(self.next, slot);
    }

    /// The slot that is done first, if that is before `until`.
    fn finish(&mut self, until: u64, rng: &mut fastrand::Rng) -> Option<(Slot, u64)> {
        let at = self.finishing.peek().map(|Reverse((at, _))| *at).filter(|at| *at <= until)?;
        let Reverse((_, id)) = self.finishing.pop()?;
        match self.queue.pop_front() {
            Some(next) => self.begin(next, at, rng),
            None => self.busy -= 1,
        }
        Some((self.slots.remove(&id)?, at))
    }
}

/// `load` times the capacity is offered for `seconds`; what is counted begins after `warm` of them.
fn run(server: &mut Server, limiter: &Arc<Adaptive>, start: u64, load: f64, warm: u64, seconds: u64, seed: u64) -> Run {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let now = Instant::now();
    let epoch = now - Duration::from_nanos(clock::nanos(now) - limiter.epoch);
    let at = |nanos| epoch + Duration::from_nanos(nanos);
    let gap = server.work.mean() as f64 / server.workers as f64 / load;
    let (warm, end) = (start + warm * 1000 * MILLI, start + seconds * 1000 * MILLI);
    let (mut now, mut refused) = (start as f64, 0);
    let mut latencies = Vec::new();
    while (now as u64) < end {
        now += gap * -(1.0 - rng.f64()).ln();
        while let Some((slot, done)) = server.finish(now as u64, rng) {
            if done >= warm {
                latencies.push((at(done) - slot.started).as_secs_f64() * 1e9);
            }
            slot.finish(at(done));
        }
        match limiter.admit(at(now as u64)) {
            Some(slot) => server.take(slot, now as u64, rng),
            None if now as u64 >= warm => refused += 1,
            None => {}
        }
    }
    latencies.sort_by(f64::total_cmp);
    let capacity = server.workers as f64 / server.work.mean() as f64 * (end - warm) as f64;
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    Run { goodput: latencies.len() as f64 / capacity, p99, refused, limit: limiter.limit() }
}

fn limiter() -> Arc<Adaptive> {
    Adaptive::new(&AdaptiveConcurrency { min_limit: 4, max_limit: 1000 }, Instant::now())
}

#[test]
fn at_ten_times_the_capacity_goodput_stays_above_80_percent_and_p99_below_twice_the_unloaded() {
    for (workers, work) in [
        (4, Work::Steady(5 * MILLI)),
        (16, Work::Steady(20 * MILLI)),
        (64, Work::Steady(10 * MILLI)),
        (200, Work::Steady(50 * MILLI)),
        (4, Work::Exponential(5 * MILLI)),
        (16, Work::Exponential(20 * MILLI)),
        (64, Work::Exponential(10 * MILLI)),
    ] {
        for seed in 0..5 {
            let run = run(&mut Server::new(workers, work), &limiter(), 0, 10.0, 2, 32, seed);
            let ratio = run.p99 / work.p99();
            println!("{workers} {work:?} seed {seed}: goodput {:.3} p99 x{ratio:.2} limit {}", run.goodput, run.limit);
            assert!(run.goodput >= 0.8, "{workers} {work:?} seed {seed}: goodput {:.2}", run.goodput);
            assert!(ratio < 2.0, "{workers} {work:?} seed {seed}: p99 {ratio:.2} times the unloaded");
        }
    }
}

#[test]
fn below_the_capacity_nothing_is_shed() {
    for load in [0.1, 0.5, 0.8] {
        for work in [Work::Steady(20 * MILLI), Work::Exponential(20 * MILLI)] {
            let run = run(&mut Server::new(16, work), &limiter(), 0, load, 0, 20, 1);
            println!("{load} {work:?}: refused {} limit {}", run.refused, run.limit);
            assert_eq!(run.refused, 0, "{load} {work:?}: limit {}", run.limit);
        }
    }
}

#[test]
fn after_an_overload_the_limit_comes_back_and_a_slower_server_is_believed() {
    let limiter = limiter();
    let mut server = Server::new(16, Work::Steady(10 * MILLI));
    run(&mut server, &limiter, 0, 10.0, 0, 12, 1);
    let calm = run(&mut server, &limiter, 12_000 * MILLI, 0.7, 1, 10, 2);
    assert_eq!(calm.refused, 0, "limit {}", calm.limit);
    // A tenth of the speed from now on, under overload again.
    server.work = Work::Steady(100 * MILLI);
    let slow = run(&mut server, &limiter, 22_000 * MILLI, 10.0, 25, 60, 3);
    println!("slow: goodput {:.3} p99 x{:.2} limit {}", slow.goodput, slow.p99 / server.work.p99(), slow.limit);
    assert!(slow.goodput >= 0.8, "goodput {:.2}, limit {}", slow.goodput, slow.limit);
}

#[test]
fn sweep_never_more_in_flight_than_the_limit_and_the_limit_within_its_bounds() {
    for seed in 0..10_000 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let min_limit = rng.u32(1..20);
        let config = AdaptiveConcurrency { min_limit, max_limit: min_limit + rng.u32(0..200) };
        let mut now = Instant::now();
        let limiter = Adaptive::new(&config, now);
        let mut slots = Vec::new();
        for _ in 0..200 {
            now += Duration::from_micros(rng.u64(0..20_000));
            if rng.u8(..3) > 0 {
                let limit = limiter.limit() as usize;
                match limiter.admit(now) {
                    Some(slot) => {
                        slots.push(slot);
                        assert!(slots.len() <= limit, "seed {seed}");
                    }
                    None => assert!(slots.len() >= limit, "seed {seed}: refused though there was room"),
                }
            } else if !slots.is_empty() {
                let slot = slots.swap_remove(rng.usize(..slots.len()));
                if rng.u8(..4) > 0 {
                    slot.finish(now);
                }
            }
            assert_eq!(limiter.in_flight() as usize, slots.len());
            assert!((config.min_limit..=config.max_limit).contains(&limiter.limit()), "seed {seed}");
        }
    }
}

#[test]
fn threads_never_exceed_the_greatest_limit_and_give_all_back() {
    let start = Instant::now();
    let limiter = Adaptive::new(&AdaptiveConcurrency { min_limit: 2, max_limit: 3 }, start);
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for step in 0..20_000 {
                    let Some(slot) = limiter.admit(start + Duration::from_micros(step * 50)) else { continue };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    slot.finish(start + Duration::from_micros(step * 50 + 40));
                }
            });
        }
    });
    assert_eq!(limiter.in_flight(), 0);
}
