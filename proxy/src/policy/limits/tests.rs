//! Seeded histories of a gate, and threads at one.

use std::{
    collections::VecDeque,
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake},
    time::Duration,
};

use super::*;

const HISTORIES: u64 = 10_000;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn go(entered: Enter) -> Permit {
    match entered {
        Enter::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn wait(entered: Enter) -> Pending {
    match entered {
        Enter::Wait(pending) => pending,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_waiter_is_woken_by_the_permit_that_comes_back_and_a_full_queue_refuses_at_once() {
    let gate = Gate::new(1, 1);
    let now = Instant::now();
    let first = go(gate.enter(now, None));
    let mut waiter = wait(gate.enter(now, None));
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    assert!(waiter.poll(cx, now).is_pending());
    assert!(matches!(gate.enter(now, None), Enter::Full));
    drop(first);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Ok(_permit)) = waiter.poll(cx, now) else { panic!("its turn") };
    assert_eq!(gate.view(), GateView { in_flight: 1, limit: Some(1), waiting: 0, max_pending: 1 });
}

#[test]
fn a_full_queue_drops_its_oldest_past_their_time_and_wakes_them() {
    let gate = Gate::new(1, 1);
    let now = Instant::now();
    let _held = go(gate.enter(now, None));
    let mut old = wait(gate.enter(now, Some(now + Duration::from_millis(5))));
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(old.poll(&mut Context::from_waker(&waker), now).is_pending());
    let later = now + Duration::from_millis(6);
    let _new = wait(gate.enter(later, None));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(matches!(old.poll(&mut Context::from_waker(&waker), later), Poll::Ready(Err(Expired))));
}

#[test]
fn one_that_was_granted_and_goes_away_passes_its_place_on() {
    let gate = Gate::new(1, 4);
    let now = Instant::now();
    let held = go(gate.enter(now, None));
    let first = wait(gate.enter(now, None));
    let mut second = wait(gate.enter(now, None));
    drop(held);
    drop(first);
    assert!(matches!(second.poll(&mut Context::from_waker(Waker::noop()), now), Poll::Ready(Ok(_))));
    assert_eq!(gate.view().in_flight, 0);
}

#[test]
fn without_a_limit_nothing_is_counted_and_a_higher_limit_serves_the_queue() {
    let gate = Gate::new(u32::MAX, 0);
    let now = Instant::now();
    let _free = go(gate.enter(now, None));
    assert_eq!(gate.view().in_flight, 0);
    gate.resize(1, 8);
    let _held = go(gate.enter(now, None));
    let mut waiter = wait(gate.enter(now, None));
    gate.resize(2, 8);
    assert!(matches!(waiter.poll(&mut Context::from_waker(Waker::noop()), now), Poll::Ready(Ok(_))));
}

#[test]
fn watching_lets_all_through_and_tells_what_enforcing_would_have_done() {
    let gate = Gate::new(2, 1);
    let mut permits = Vec::new();
    let seen: Vec<_> = (0..5)
        .map(|_| {
            let (permit, seen) = gate.watch();
            permits.push(permit);
            seen
        })
        .collect();
    assert_eq!(seen, [Seen::Go, Seen::Go, Seen::Wait, Seen::Full, Seen::Full]);
    assert_eq!(gate.view().in_flight, 3);
    permits.clear();
    assert_eq!(gate.view().in_flight, 0);
}

#[test]
fn sweep_never_more_in_flight_than_the_bulkhead_first_come_first_served_and_nobody_forgotten() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (limit, most) = (rng.u32(1..5), rng.u32(0..6));
        let gate = Gate::new(limit, most);
        let mut now = Instant::now();
        let mut held: Vec<Permit> = Vec::new();
        let mut queue: VecDeque<(Pending, Option<Instant>)> = VecDeque::new();
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..80 {
            now += Duration::from_millis(rng.u64(0..10));
            match rng.u8(..10) {
                0..5 => {
                    let deadline = rng.bool().then(|| now + Duration::from_millis(rng.u64(0..60)));
                    match gate.enter(now, deadline) {
                        Enter::Go(permit) => {
                            let all_expired = queue.iter().all(|q| q.1.is_some_and(|d| d <= now));
                            assert!(queue.is_empty() || all_expired, "seed {seed}: overtook");
                            held.push(permit);
                        }
                        Enter::Wait(pending) => queue.push_back((pending, deadline)),
                        Enter::Full => assert!(queue.len() >= most as usize && held.len() == limit as usize),
                    }
                }
                5..8 if !held.is_empty() => drop(held.swap_remove(rng.usize(..held.len()))),
                8 if !queue.is_empty() => drop(queue.remove(rng.usize(..queue.len()))),
                _ => {}
            }
            // Everybody looks: those at the front first, and none behind one that still waits.
            let mut blocked = false;
            for (mut pending, deadline) in std::mem::take(&mut queue) {
                match pending.poll(cx, now) {
                    Poll::Pending => {
                        blocked = true;
                        queue.push_back((pending, deadline));
                    }
                    Poll::Ready(Ok(permit)) => {
                        assert!(!blocked, "seed {seed}: not in turn");
                        held.push(permit);
                    }
                    Poll::Ready(Err(Expired)) => assert!(deadline.is_some_and(|d| d <= now), "seed {seed}"),
                }
            }
            let view = gate.view();
            assert!(view.in_flight <= limit, "seed {seed}: more than the limit");
            assert_eq!(view.in_flight as usize, held.len(), "seed {seed}");
            assert_eq!(view.waiting as usize, queue.len(), "seed {seed}");
            assert!(queue.len() <= most as usize, "seed {seed}: the queue is bounded");
            assert!(queue.is_empty() || view.in_flight == limit, "seed {seed}: somebody waits for nothing");
        }
        drop((held, queue));
        assert_eq!((gate.view().in_flight, gate.view().waiting), (0, 0), "seed {seed}");
    }
}

/// Parks the thread that waits.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn threads_never_exceed_the_limit_and_lose_no_wake_up() {
    const LIMIT: usize = 2;
    let gate = Gate::new(LIMIT as u32, 64);
    let (inside, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (gate, inside, served) = (&gate, &inside, &served);
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                let cx = &mut Context::from_waker(&waker);
                let now = Instant::now();
                for turn in 0..2000 {
                    let permit = match gate.enter(now, None) {
                        Enter::Go(permit) => permit,
                        // Now and then one gives up.
                        Enter::Wait(pending) if (turn + thread) % 7 == 0 => {
                            drop(pending);
                            continue;
                        }
                        Enter::Wait(mut pending) => loop {
                            match pending.poll(cx, now) {
                                Poll::Ready(permit) => break permit.expect("no deadline"),
                                // A lost wake-up would hang here; the test harness would tell.
                                Poll::Pending => std::thread::park(),
                            }
                        },
                        Enter::Full => unreachable!("fewer threads than places"),
                    };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    served.fetch_add(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert!(served.load(Ordering::SeqCst) > 6 * 1500);
    assert_eq!((gate.view().in_flight, gate.view().waiting), (0, 0));
}
