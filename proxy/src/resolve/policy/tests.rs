use super::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn endpoint(last: u8, port: u16, weight: u32) -> Endpoint {
    Endpoint { address: SocketAddr::new(ip(last), port), weight, zone: None, identity: None }
}

fn found(ttl: u64) -> Answer {
    Answer::Found { endpoints: vec![endpoint(1, 80, 1)], ttl: Duration::from_secs(ttl) }
}

fn nothing(ttl: Option<u64>) -> Answer {
    Answer::Nothing { ttl: ttl.map(Duration::from_secs), details: "NXDOMAIN".into() }
}

fn failed() -> Answer {
    Answer::Failed { reason: Reason::DnsTimeout, details: "time-out".into() }
}

#[test]
fn the_ttl_is_obeyed_within_bounds() {
    let mut schedule = Schedule::default();
    for (ttl, want) in [(0, 1), (1, 1), (30, 30), (3600, 3600), (86400, 3600)] {
        let (step, next) = schedule.take(found(ttl), 0.5);
        assert!(matches!(step, Step::Replace { .. }));
        assert_eq!(next, Duration::from_secs(want), "TTL {ttl}");
    }
}

#[test]
fn a_dead_resolver_keeps_the_last_good_answer_and_is_asked_ever_less() {
    let mut schedule = Schedule::default();
    schedule.take(found(5), 0.5);
    let mut waits = Vec::new();
    for n in 0..100 {
        let (step, next) = schedule.take(failed(), 1.0);
        assert_eq!(step, Step::Keep { reason: Reason::DnsTimeout, details: "time-out".into(), first: n == 0 });
        waits.push(next.as_secs());
    }
    assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(waits[99], 30);
    schedule.take(found(5), 0.5);
    assert_eq!(schedule.take(failed(), 1.0).1, Duration::from_secs(1));
    assert_eq!(schedule.take(failed(), 0.0).1, Duration::from_secs(1), "the jitter takes at most half");
}

#[test]
fn nothing_is_believed_when_it_is_said_twice() {
    let mut schedule = Schedule::default();
    schedule.take(found(60), 0.5);
    let (step, next) = schedule.take(nothing(Some(300)), 0.5);
    assert!(matches!(step, Step::Keep { reason: Reason::DnsError, first: true, .. }));
    assert_eq!(next, Duration::from_secs(1));
    let (step, next) = schedule.take(nothing(Some(300)), 0.5);
    assert!(matches!(step, Step::Empty { .. }));
    assert_eq!(next, MAX_NEGATIVE_TTL);
}

#[test]
fn a_failure_between_two_negative_answers_starts_the_confirmation_again() {
    let mut schedule = Schedule::default();
    schedule.take(found(60), 0.5);
    schedule.take(nothing(None), 0.5);
    schedule.take(failed(), 0.5);
    assert!(matches!(schedule.take(nothing(None), 0.5).0, Step::Keep { .. }));
    assert!(matches!(schedule.take(nothing(None), 0.5).0, Step::Empty { .. }));
}

#[test]
fn a_name_that_never_was_is_empty_at_once() {
    let mut schedule = Schedule::default();
    assert_eq!(
        schedule.take(nothing(Some(5)), 0.5),
        (Step::Empty { details: "NXDOMAIN".into() }, Duration::from_secs(5))
    );
    let without_soa = schedule.take(nothing(None), 1.0).1;
    assert_eq!(without_soa, Duration::from_secs(2));
}

#[test]
fn a_failure_hides_a_negative_answer() {
    let nothing = || Miss::Nothing { ttl: Some(Duration::from_secs(9)), details: "a".into() };
    let failed = || Miss::Failed { reason: Reason::DnsError, details: "b".into() };
    assert_eq!(nothing().or(failed()), failed());
    assert_eq!(failed().or(nothing()), failed());
    let sooner = Miss::Nothing { ttl: Some(Duration::from_secs(3)), details: "c".into() };
    assert_eq!(nothing().or(sooner), Miss::Nothing { ttl: Some(Duration::from_secs(3)), details: "a".into() });
}

#[test]
fn a_rotated_answer_is_the_same_answer() {
    let answer = |list: &[u8]| {
        addresses(Ok(Records { list: list.iter().map(|n| ip(*n)).collect(), ttl: Duration::from_secs(1) }), 80)
    };
    assert_eq!(answer(&[1, 2, 3]), answer(&[3, 1, 2, 2]));
    let Answer::Found { endpoints, .. } = answer(&[2, 1]) else { panic!() };
    assert_eq!(endpoints, [endpoint(1, 80, 1), endpoint(2, 80, 1)]);
}

#[test]
fn addresses_are_bounded() {
    let list = (0..10_000u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
    let Answer::Found { endpoints, .. } = addresses(Ok(Records { list, ttl: Duration::ZERO }), 80) else { panic!() };
    assert_eq!(endpoints.len(), MAX_ENDPOINTS);
}

fn srv(list: &[(u16, u16, u16, &[u8])]) -> Answer {
    let list = list
        .iter()
        .map(|(priority, weight, port, addresses)| Service {
            priority: *priority,
            weight: *weight,
            port: *port,
            addresses: addresses.iter().map(|n| ip(*n)).collect(),
        })
        .collect();
    services(Ok(Records { list, ttl: Duration::from_secs(7) }))
}

#[test]
fn the_lowest_priority_with_an_address_is_used() {
    let Answer::Found { endpoints, ttl } = srv(&[(20, 1, 80, &[1]), (10, 1, 81, &[2]), (5, 1, 82, &[])]) else {
        panic!()
    };
    assert_eq!(endpoints, [endpoint(2, 81, 100)]);
    assert_eq!(ttl, Duration::from_secs(7));
    assert!(matches!(srv(&[(5, 1, 82, &[])]), Answer::Nothing { ttl: Some(_), .. }));
}

#[test]
fn srv_weights() {
    let weights = |answer| match answer {
        Answer::Found { endpoints, .. } => endpoints.iter().map(|e| e.weight).collect::<Vec<_>>(),
        _ => panic!(),
    };
    assert_eq!(weights(srv(&[(1, 3, 80, &[1]), (1, 1, 80, &[2])])), [300, 100]);
    assert_eq!(weights(srv(&[(1, 0, 80, &[1]), (1, 0, 80, &[2])])), [100, 100]);
    assert_eq!(weights(srv(&[(1, 1, 80, &[1]), (1, 0, 80, &[2])])), [100, 1]);
    assert_eq!(weights(srv(&[(1, 1, 80, &[1, 2]), (1, 1, 80, &[3])])), [50, 50, 100]);
}

#[test]
fn a_list_holds_until_the_next_and_its_emptiness_is_confirmed() {
    let mut schedule = Schedule::of_registry();
    let list = |n: u8| Answer::Listed {
        endpoints: (0..n)
            .map(|i| Endpoint { address: ([10, 0, 0, i], 80).into(), weight: 1, zone: None, identity: None })
            .collect(),
    };
    let (step, wait) = schedule.take(list(0), 0.5);
    assert!(matches!(step, Step::Empty { .. }) && wait == LISTED_PAUSE, "nothing to lose: {step:?}");
    let (step, wait) = schedule.take(list(2), 0.5);
    assert!(matches!(&step, Step::Replace { endpoints, .. } if endpoints.len() == 2) && wait == LISTED_PAUSE);
    let (step, wait) = schedule.take(list(0), 0.5);
    assert!(matches!(step, Step::Keep { .. }) && wait == MIN_TTL, "asked for twice: {step:?}");
    let (step, wait) = schedule.take(list(0), 0.5);
    assert!(matches!(step, Step::Empty { .. }) && wait == LISTED_PAUSE, "then waited for: {step:?}");
    for _ in 0..10 {
        let failed = Answer::Failed { reason: Reason::DestinationUnavailable, details: String::new() };
        let (step, wait) = schedule.take(failed, 1.0);
        assert!(matches!(step, Step::Keep { .. }) && wait <= REGISTRY_BACKOFF_MAX);
    }
}
