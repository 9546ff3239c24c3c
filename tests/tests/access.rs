//! Access policies with real sockets: what reaches a service, what is told about it, and what a change ends.

#[path = "access/callers.rs"]
mod callers;
#[path = "access/claims.rs"]
mod claims;
#[path = "access/live.rs"]
mod live;
#[path = "access/spellings.rs"]
mod spellings;
#[path = "access/told.rs"]
mod told;
#[path = "access/ways.rs"]
mod ways;

use outrigger_tests::config;

/// An `AccessPolicy` for one upstream: further fields of its flow mapping.
fn policy(upstream: &str, spec: &str) -> String {
    let target = format!("targetRefs: [{}]", config::backend(upstream));
    config::document("outrigger.dev/v1alpha1", "AccessPolicy", "guard", &format!("{{ {target}, {spec} }}"))
}

/// A sidecar that denies `/admin` and what is under it.
fn no_admin(app: std::net::SocketAddr) -> String {
    config::sidecar_protocol(app, "http")
        + &policy("app", "rules: [{ action: deny, to: [{ paths: [/admin, /admin/*] }] }]")
}
