//! The rules of the election, by the clock of one replica.

use super::*;

fn record(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
        ..LeaseSpec::default()
    }
}

#[tokio::test]
async fn another_s_lease_is_taken_when_it_stood_still_for_its_duration() {
    let mut rival = Rival::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(rival.decide("a", &record("b", 100), at(0)), Move::Wait);
    assert_eq!(rival.decide("a", &record("b", 100), at(14)), Move::Wait);
    // Renewed, with a clock that went backwards: a change is a sign of life whatever it says.
    assert_eq!(rival.decide("a", &record("b", 40), at(15)), Move::Wait);
    assert_eq!(rival.decide("a", &record("b", 40), at(29)), Move::Wait);
    assert_eq!(rival.decide("a", &record("b", 40), at(30)), Move::Take);
}

#[tokio::test]
async fn one_s_own_is_renewed_and_nobody_s_is_taken_at_once() {
    let mut rival = Rival::default();
    let now = Instant::now();
    assert_eq!(rival.decide("a", &record("a", 100), now), Move::Renew);
    assert_eq!(rival.decide("a", &record("", 100), now), Move::Take);
    assert_eq!(rival.decide("a", &LeaseSpec::default(), now), Move::Take);
}
