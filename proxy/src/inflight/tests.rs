//! Attribution without clocks or sockets.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::*;

fn id(text: &str) -> RequestId {
    RequestId::parse(text.as_bytes()).unwrap()
}

fn trace(seed: u64) -> TraceContext {
    TraceContext::start(&mut fastrand::Rng::with_seed(seed), false)
}

fn index() -> Arc<InFlight> {
    Arc::new(InFlight::new(3, CAPACITY))
}

impl InFlight {
    /// [`Seat::enter`], of the workers in turn.
    fn enter(self: &Arc<Self>, id: &RequestId, trace: Option<&TraceContext>, deadline: Option<Instant>) -> Guard {
        self.seat(usize::try_from(self.entered()).unwrap()).enter(id, trace, deadline)
    }

    fn is_clear(&self) -> bool {
        self.is_empty() && self.shards.iter().all(Shard::is_clear)
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_call_inherits_the_deadline_by_correlation_or_trace() {
    let (index, now) = (index(), Instant::now());
    let deadline = Some(now + Duration::from_millis(300));
    let context = trace(1);
    let guard = index.enter(&id("a"), Some(&context), deadline);
    for (by_id, by_trace) in
        [(Some(id("a")), None), (None, Some(context.trace_id)), (Some(id("x")), Some(context.trace_id))]
    {
        let found = index.attribute(by_id.as_ref(), by_trace.as_ref(), false);
        assert_eq!(found.by, AttributedBy::Header);
        assert_eq!(found.deadline, deadline);
        assert_eq!(found.request_id, Some(id("a")));
        assert_eq!(found.trace, Some(context));
    }
    guard.finish();
    assert_eq!(index.attribute(Some(&id("a")), Some(&context.trace_id), false).by, AttributedBy::None);
    assert!(index.is_empty());
}

#[test]
fn of_two_with_one_id_only_what_holds_for_both_is_inherited() {
    let (index, now) = (index(), Instant::now());
    let (early, late) = (Some(now + Duration::from_secs(1)), Some(now + Duration::from_secs(2)));
    let first = index.enter(&id("a"), None, early);
    let second = index.enter(&id("a"), None, late);
    let found = index.attribute(Some(&id("a")), None, false);
    assert_eq!((found.by, found.deadline), (AttributedBy::Header, late));
    assert!(found.cancelled.is_none(), "whose end would it be?");
    let third = index.enter(&id("a"), None, None);
    assert_eq!(index.attribute(Some(&id("a")), None, false).deadline, None);
    third.finish();
    second.finish();
    assert_eq!(index.attribute(Some(&id("a")), None, false).deadline, early);
    first.finish();
}

#[test]
fn a_trace_with_two_requests_names_neither() {
    let (index, context) = (index(), trace(2));
    let a = index.enter(&id("a"), Some(&context), None);
    let b = index.enter(&id("b"), Some(&context), None);
    let found = index.attribute(None, Some(&context.trace_id), true);
    assert_eq!((found.by, found.request_id), (AttributedBy::Header, None));
    let exact = index.attribute(Some(&id("b")), Some(&context.trace_id), false);
    assert_eq!(exact.request_id, Some(id("b")), "the correlation identifier is more exact");
    a.finish();
    b.finish();
}

#[test]
fn inference_needs_exactly_one_and_leave_to_do_so() {
    let index = index();
    assert_eq!(index.attribute(None, None, true).by, AttributedBy::None);
    let a = index.enter(&id("a"), None, None);
    assert_eq!(index.attribute(None, None, false).by, AttributedBy::None);
    let found = index.attribute(Some(&id("other")), None, true);
    assert_eq!((found.by, found.request_id), (AttributedBy::Inferred, Some(id("a"))));
    let b = index.enter(&id("b"), None, None);
    assert_eq!(index.attribute(None, None, true).by, AttributedBy::None, "never a guess between two");
    a.finish();
    assert_eq!(index.attribute(None, None, true).request_id, Some(id("b")));
    b.finish();
}

#[test]
fn beyond_the_bound_nothing_is_attributed_and_that_is_counted() {
    let index = Arc::new(InFlight::new(1, 1));
    let a = index.enter(&id("a"), None, None);
    let b = index.enter(&id("b"), None, None);
    assert_eq!(index.attribute(Some(&id("b")), None, false).by, AttributedBy::None);
    assert_eq!((index.unindexed(), index.len()), (1, 2));
    a.finish();
    assert_eq!(index.attribute(None, None, true).by, AttributedBy::None, "the one left is not known");
    drop(b);
    let again = index.enter(&id("b"), None, None);
    assert_eq!(index.attribute(Some(&id("b")), None, false).by, AttributedBy::Header);
    again.finish();
}

#[test]
fn a_crowd_of_one_id_inherits_nothing_and_leaves_nothing_behind() {
    let (index, at) = (index(), Some(Instant::now()));
    let seat = index.seat(1);
    let guards: Vec<_> = (0..SAME + 10).map(|_| seat.enter(&id("a"), None, at)).collect();
    let found = index.attribute(Some(&id("a")), None, false);
    assert_eq!((found.by, found.deadline), (AttributedBy::Header, None));
    drop(guards);
    assert!(index.is_clear());
}

#[test]
fn a_request_that_is_given_up_wakes_its_calls_and_an_answered_one_does_not() {
    let index = index();
    for given_up in [true, false] {
        let guard = index.enter(&id("a"), None, None);
        let mut call = index.attribute(Some(&id("a")), None, false).cancelled.unwrap();
        let ended = index.attribute(Some(&id("a")), None, false).cancelled.unwrap();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert_eq!(call.poll(&mut cx), Poll::Pending);
        assert_eq!(call.poll(&mut cx), Poll::Pending, "registers once");
        drop(ended);
        if given_up {
            drop(guard);
        } else {
            guard.finish();
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), usize::from(given_up));
        assert_eq!(call.poll(&mut cx).is_ready(), given_up);
    }
}

#[test]
fn wakers_are_bounded_and_given_back() {
    let index = index();
    let guard = index.enter(&id("a"), None, None);
    let mut cx = Context::from_waker(Waker::noop());
    let mut calls: Vec<_> =
        (0..cancel::WAKERS + 5).map(|_| index.attribute(Some(&id("a")), None, false).cancelled.unwrap()).collect();
    for call in &mut calls {
        assert!(call.poll(&mut cx).is_pending());
    }
    drop(calls);
    let mut call = index.attribute(Some(&id("a")), None, false).cancelled.unwrap();
    assert!(call.poll(&mut cx).is_pending());
    assert!(call.poll(&mut cx).is_pending());
    drop(guard);
    assert!(call.poll(&mut cx).is_ready());
}

#[test]
fn hashes_differ_with_every_part_of_what_they_are_of_and_from_index_to_index() {
    let index = index();
    let long = "x".repeat(40);
    let ids = ["a", "b", "ab", "ba", "a.", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaab", &long];
    let mut keys: Vec<_> = ids.iter().map(|text| index.key_of_id(&id(text))).collect();
    keys.extend((0..100).map(|n| index.key_of_trace(&trace(n).trace_id)));
    let other = self::index();
    keys.extend(ids.iter().map(|text| other.key_of_id(&id(text))));
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn threads_find_what_their_own_requests_are_tied_to_and_nothing_else() {
    let index = index();
    std::thread::scope(|scope| {
        for worker in 0..3_u64 {
            let index = &index;
            scope.spawn(move || {
                let seat = index.seat(worker as usize);
                for turn in 0..2000 {
                    let (own, context) = (id(&format!("{worker}.{turn}")), trace(worker << 32 | turn));
                    let guard = seat.enter(&own, Some(&context), None);
                    let found = index.attribute(Some(&own), Some(&context.trace_id), true);
                    assert_eq!((found.by, found.request_id), (AttributedBy::Header, Some(own)));
                    let inferred = index.attribute(Some(&id("none")), None, true);
                    assert!(inferred.request_id.is_none_or(|only| only == own), "never a guess between two");
                    guard.finish();
                }
            });
        }
    });
    assert!(index.is_clear());
}

/// 10,000 seeded histories against a plain list of what is in flight.
#[test]
fn the_index_agrees_with_a_list() {
    let now = Instant::now();
    let traces: Vec<_> = (0..3).map(trace).collect();
    for seed in 0..10_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let index = index();
        let mut flights: Vec<(String, usize, Option<Instant>, Guard)> = Vec::new();
        for _ in 0..12 {
            if rng.bool() || flights.is_empty() {
                let (name, t) = (format!("r{}", rng.u8(..4)), rng.usize(..3));
                let deadline = rng.bool().then(|| now + Duration::from_millis(rng.u64(..1000)));
                let guard = index.enter(&id(&name), Some(&traces[t]), deadline);
                flights.push((name, t, deadline, guard));
            } else {
                let (.., guard) = flights.swap_remove(rng.usize(..flights.len()));
                if rng.bool() {
                    guard.finish();
                }
            }
            let name = format!("r{}", rng.u8(..5));
            let t = rng.usize(..3);
            let found = index.attribute(Some(&id(&name)), Some(&traces[t].trace_id), true);
            let by_id: Vec<_> = flights.iter().filter(|f| f.0 == name).collect();
            let by_trace: Vec<_> = flights.iter().filter(|f| f.1 == t).collect();
            let candidates = if by_id.is_empty() { by_trace } else { by_id };
            let latest = |list: &[&(String, usize, Option<Instant>, Guard)]| {
                list.iter().map(|f| f.2).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
            };
            match (candidates.len(), flights.len()) {
                (0, 1) => assert_eq!((found.by, found.deadline), (AttributedBy::Inferred, flights[0].2)),
                (0, _) => assert_eq!(found.by, AttributedBy::None),
                _ => assert_eq!((found.by, found.deadline), (AttributedBy::Header, latest(&candidates))),
            }
            assert_eq!(index.len(), flights.len());
        }
        drop(flights);
        assert!(index.is_clear(), "nothing is left behind");
    }
}
