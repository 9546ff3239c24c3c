//! Zones: which endpoints are near, and how much of the traffic they keep.
//!
//! `prefer` keeps all of it while at least 5 in 7 of the own zone (by weight) take requests: Envoy's
//! over-provisioning factor of 1.4. Below that the share shrinks in proportion, so that the rest of the zone
//! never gets more than 1.4 times its usual load. `only` never leaves the zone. A proxy that knows no zone,
//! and for `prefer` one that has no endpoint in its own, has no preference.

use std::sync::{Arc, OnceLock};

/// How much more than usual an endpoint can take.
const OVER_PROVISIONED: f64 = 1.4;

/// The share of the traffic that stays in the zone.
#[must_use]
pub fn share(available: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let healthy = available as f64 / total as f64;
    (healthy * OVER_PROVISIONED).min(1.0)
}

/// The zone of this proxy: `OUTRIGGER_ZONE`, read once.
#[must_use]
pub fn own() -> Option<&'static Arc<str>> {
    static ZONE: OnceLock<Option<Arc<str>>> = OnceLock::new();
    ZONE.get_or_init(|| {
        let zone = std::env::var("OUTRIGGER_ZONE").ok()?;
        let zone = zone.trim();
        (!zone.is_empty()).then(|| zone.into())
    })
    .as_ref()
}
