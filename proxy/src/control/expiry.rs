//! Says long before it happens that the identity expires, and goes on saying it.
//!
//! Certificates that expire unseen take a whole mesh down at once. Renewal is due at two thirds of a certificate's
//! life; one that is still not renewed half of the rest later is late, whoever renews it. The stage is told when it
//! changes and again every [`AGAIN`], stands in `/readyz?verbose`, and is the gap between now and
//! `outrigger_identity_expiry_timestamp_seconds`.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::UnixTime;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    shared::{Shared, Snapshot},
    tls::Identity,
};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the same is said again.
const AGAIN: Duration = Duration::from_secs(600);

/// Where a certificate is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Within its first two thirds, or there is none.
    Good,
    /// Renewal is due, and may take some time.
    Due,
    /// Half of the time for renewal is over.
    Late,
    /// It is over.
    Expired,
}

impl Stage {
    /// Of this identity.
    fn of(identity: Option<&Identity>, now: i64) -> Self {
        let Some((own, due)) = identity.and_then(|i| i.certificate().zip(i.renewal())) else { return Self::Good };
        let end = own.not_after_timestamp;
        match now {
            _ if now > end => Self::Expired,
            _ if now > due + (end - due) / 2 => Self::Late,
            _ if now > due => Self::Due,
            _ => Self::Good,
        }
    }
}

/// The identity in a few words, for readiness.
pub(super) fn words(snapshot: &Snapshot) -> String {
    let Some(own) = snapshot.tls.own() else { return "none".to_owned() };
    let now = now();
    let end = own.certificate().map_or(0, |c| c.not_after_timestamp);
    let left = Duration::from_secs(u64::try_from(end - now).unwrap_or(0));
    let left = match left.as_secs() {
        0 => "has expired".to_owned(),
        s @ ..120 => format!("expires in {s} s"),
        s @ ..7200 => format!("expires in {} min", s / 60),
        s @ ..172_800 => format!("expires in {} h", s / 3600),
        s => format!("expires in {} d", s / 86_400),
    };
    let late = match Stage::of(Some(own), now) {
        Stage::Good | Stage::Expired => "",
        Stage::Due => "; renewal is due",
        Stage::Late => "; WARNING: it should have been renewed",
    };
    format!("{} {left}{late}", own.id)
}

/// Looks at the clock for as long as the process runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<(Stage, Instant)> = None;
    loop {
        look.tick().await;
        let snapshot = shared.snapshot();
        let stage = Stage::of(snapshot.tls.own().map(|own| &**own), now());
        if told.is_some_and(|(before, at)| before == stage && at.elapsed() < AGAIN) {
            continue;
        }
        told = Some((stage, Instant::now()));
        let from = snapshot.tls.certificates().first().map_or("", |c| &*c.file).to_owned();
        let words = words(&snapshot);
        match stage {
            Stage::Good => {}
            Stage::Due => tracing::info!(from, "the certificate of {words}"),
            Stage::Late => tracing::warn!(from, "the certificate of {words}"),
            Stage::Expired => tracing::error!(from, "the certificate of {words}: mutual TLS fails until it is renewed"),
        }
    }
}

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::date_time_ymd;

    use super::*;
    use crate::tls::tests::{Ca, identity};

    #[test]
    fn a_certificate_has_four_stages() {
        let ca = Ca::new("root");
        let leaf = ca.issue(|params| {
            params.not_before = date_time_ymd(2090, 1, 1);
            params.not_after = date_time_ymd(2090, 1, 13);
        });
        let identity = identity(&leaf, &ca.pem);
        let start = identity.certificate().unwrap().not_before_timestamp;
        for (day, stage) in
            [(0, Stage::Good), (7, Stage::Good), (9, Stage::Due), (11, Stage::Late), (13, Stage::Expired)]
        {
            assert_eq!(Stage::of(Some(&identity), start + day * 86_400), stage, "{day}");
        }
        assert_eq!(Stage::of(None, start), Stage::Good);
        assert_eq!(identity.renewal(), Some(start + 8 * 86_400));
    }
}
