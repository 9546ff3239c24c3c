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

/// The only worker's way to a gate of its own.
fn door(limit: u32, max_pending: u32) -> Rc<Door> {
    Gate::new(limit, max_pending, 1).door(0)
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
    let gate = door(1, 1);
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
    assert_eq!(gate.gate().view(), GateView { in_flight: 1, limit: Some(1), waiting: 0, max_pending: 1 });
}

#[test]
fn a_full_queue_drops_its_oldest_past_their_time_and_wakes_them() {
    let gate = door(1, 1);
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
    let gate = door(1, 4);
    let now = Instant::now();
    let held = go(gate.enter(now, None));
    let first = wait(gate.enter(now, None));
    let mut second = wait(gate.enter(now, None));
    drop(held);
    drop(first);
    assert!(matches!(second.poll(&mut Context::from_waker(Waker::noop()), now), Poll::Ready(Ok(_))));
    assert_eq!(gate.gate().view().in_flight, 0);
}

#[test]
fn without_a_limit_nothing_is_counted_and_a_higher_limit_serves_the_queue() {
    let gate = door(u32::MAX, 0);
    let now = Instant::now();
    let _free = go(gate.enter(now, None));
    assert_eq!(gate.gate().view().in_flight, 0);
    gate.gate().resize(1, 8);
    let _held = go(gate.enter(now, None));
    let mut waiter = wait(gate.enter(now, None));
    gate.gate().resize(2, 8);
    assert!(matches!(waiter.poll(&mut Context::from_waker(Waker::noop()), now), Poll::Ready(Ok(_))));
}

#[test]
fn watching_lets_all_through_and_tells_what_enforcing_would_have_done() {
    let gate = door(2, 1);
    let mut permits = Vec::new();
    let seen: Vec<_> = (0..5)
        .map(|_| {
            let (permit, seen) = gate.watch();
            permits.push(permit);
            seen
        })
        .collect();
    assert_eq!(seen, [Seen::Go, Seen::Go, Seen::Wait, Seen::Full, Seen::Full]);
    assert_eq!(gate.gate().view().in_flight, 3);
    permits.clear();
    assert_eq!(gate.gate().view().in_flight, 0);
}

#[test]
fn a_stock_is_drawn_at_once_given_back_in_part_and_found_by_others() {
    let gate = Gate::new(64, 0, 2);
    let (here, there) = (gate.door(0), gate.door(1));
    let now = Instant::now();
    let first = go(here.enter(now, None));
    assert_eq!((gate.drawn.load(Ordering::SeqCst), gate.stocks.sum()), (4, 3), "an eighth of a worker's half");
    drop(first);
    assert_eq!((gate.drawn.load(Ordering::SeqCst), gate.view().in_flight), (4, 0), "the shared word is not written");
    // The other one gets all of it before anybody is refused.
    let all: Vec<_> = (0..64).map(|_| go(there.enter(now, None))).collect();
    assert!(matches!(here.enter(now, None), Enter::Full));
    assert_eq!((gate.view().in_flight, gate.stocks.sum()), (64, 0));
    drop(all);
    assert!(gate.stocks.sum() <= 8, "two draws at most");
    assert_eq!(gate.view().in_flight, 0);
}

#[test]
fn a_lower_limit_is_met_as_permits_return_whatever_is_in_stock() {
    let gate = Gate::new(128, 0, 2);
    let doors = [gate.door(0), gate.door(1)];
    let now = Instant::now();
    let mut held: Vec<_> = (0..100).map(|n| go(doors[n % 2].enter(now, None))).collect();
    gate.resize(70, 0);
    while held.len() >= 70 {
        assert!(matches!(doors[held.len() % 2].enter(now, None), Enter::Full), "{} are out", held.len());
        held.pop();
    }
    held.push(go(doors[0].enter(now, None)));
    assert_eq!(gate.view().in_flight, 70);
    assert!(matches!(doors[1].enter(now, None), Enter::Full));
}

#[test]
fn watching_counts_across_stocks_and_beyond_the_limit() {
    let gate = Gate::new(64, 2, 2);
    let doors = [gate.door(0), gate.door(1)];
    let (permits, seen): (Vec<_>, Vec<_>) = (0..70).map(|n| doors[n % 2].watch()).unzip();
    let times = |what| seen.iter().filter(|s| **s == what).count();
    assert_eq!((times(Seen::Go), times(Seen::Wait), times(Seen::Full)), (64, 2, 4));
    drop(permits);
    assert_eq!(gate.view().in_flight, 0);
}

#[test]
fn sweep_never_more_in_flight_than_the_bulkhead_first_come_first_served_and_nobody_forgotten() {
    for seed in 0..HISTORIES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        // One worker, or several with stocks, of which nearly all is taken.
        let workers = if rng.bool() { 1 } else { rng.usize(2..5) };
        let limit = if workers == 1 { rng.u32(1..5) } else { rng.u32(40..300) };
        let most = rng.u32(0..6);
        let shared = Gate::new(limit, most, workers);
        let doors: Vec<_> = (0..workers).map(|worker| shared.door(worker)).collect();
        let mut now = Instant::now();
        let mut held: Vec<Permit> = (3..limit).map(|_| go(rng.choice(&doors).expect("one").enter(now, None))).collect();
        let mut queue: VecDeque<(Pending, Option<Instant>)> = VecDeque::new();
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..80 {
            now += Duration::from_millis(rng.u64(0..10));
            match rng.u8(..10) {
                0..5 => {
                    let deadline = rng.bool().then(|| now + Duration::from_millis(rng.u64(0..60)));
                    match rng.choice(&doors).expect("one").enter(now, deadline) {
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
            let view = shared.view();
            assert!(view.in_flight <= limit, "seed {seed}: more than the limit");
            assert_eq!(view.in_flight as usize, held.len(), "seed {seed}");
            assert_eq!(view.waiting as usize, queue.len(), "seed {seed}");
            assert!(queue.len() <= most as usize, "seed {seed}: the queue is bounded");
            assert!(queue.is_empty() || view.in_flight == limit, "seed {seed}: somebody waits for nothing");
        }
        drop((held, queue));
        assert_eq!((shared.view().in_flight, shared.view().waiting), (0, 0), "seed {seed}");
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
    // Without stocks, and with stocks of four each.
    for (limit, workers) in [(2, 1), (64, 2)] {
        hammer(limit, workers);
    }
}

/// Six threads for each two places of a small limit; of a large one, all but two places are taken.
fn hammer(limit: usize, workers: usize) {
    let gate = Gate::new(u32::try_from(limit).expect("small"), 64, workers);
    let taken: Vec<_> = (2..limit).map(|n| go(gate.door(n % workers).enter(Instant::now(), None))).collect();
    let (inside, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (gate, inside, served) = (&gate, &inside, &served);
            scope.spawn(move || {
                let gate = gate.door(thread % workers);
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                let cx = &mut Context::from_waker(&waker);
                let now = Instant::now();
                for turn in 0..2000 {
                    if thread == 0 && turn % 500 == 0 {
                        // What it was, but stocks are emptied under the others' hands.
                        gate.gate().resize(u32::try_from(limit).expect("small"), 64);
                    }
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
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    served.fetch_add(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert!(served.load(Ordering::SeqCst) > 6 * 1500);
    drop(taken);
    assert_eq!((gate.view().in_flight, gate.view().waiting), (0, 0));
}
