//! Who may, by certificates: whole identities and whole namespaces, and nothing that only looks like one.

use outrigger_tests::{Origin, Proxy, config, curl::Curl, pki::Ca};

use crate::policy;

/// Callers that have proven something, and one that has not.
const CALLERS: &[Option<&str>] = &[
    Some("spiffe://cluster.local/ns/shop/sa/web"),
    Some("spiffe://cluster.local/ns/shop/sa/web-2"),
    Some("spiffe://cluster.local/ns/shop/sa/we"),
    Some("spiffe://cluster.local/ns/shop-2/sa/web"),
    Some("spiffe://cluster.local/ns/ops/sa/shop"),
    Some("spiffe://cluster.local/ns/ops/sa/probe"),
    Some("spiffe://cluster.local/x/ns/shop/sa/web"),
    Some("spiffe://cluster.local/ns/shop/sa/web/x"),
    None,
];

#[test]
fn identities_and_namespaces_hold_whole_or_not_at_all() {
    let scenario = "identities_and_namespaces_hold_whole_or_not_at_all";
    let Some(curl) = Curl::find(scenario) else { return };
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let own = ca.identity("spiffe://cluster.local/ns/shop/sa/orders");
    let files: Vec<_> = CALLERS.iter().map(|id| id.map(|id| ca.identity(id))).collect();
    let web = "{ identities: [\"spiffe://cluster.local/ns/shop/sa/web\"] }";
    // Which of the callers pass, in their order.
    for (rules, pass) in [
        (format!("rules: [{{ action: allow, from: [{web}] }}]"), [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("rules: [{ action: allow, from: [{ namespaces: [shop] }] }]".to_owned(), [1, 1, 1, 0, 0, 0, 0, 0, 0]),
        (format!("rules: [{{ action: allow, from: [{web}, {{ namespaces: [ops] }}] }}]"), [1, 0, 0, 0, 1, 1, 0, 0, 0]),
        ("rules: [{ from: [{ namespaces: [shop], cidrs: [10.0.0.0/8] }] }]".to_owned(), [0; 9]),
        (
            "rules: [{ from: [{ namespaces: [shop], cidrs: [127.0.0.0/8, \"::1/128\"] }] }]".to_owned(),
            [1, 1, 1, 0, 0, 0, 0, 0, 0],
        ),
        ("rules: [{ from: [{ cidrs: [127.0.0.1/32] }] }]".to_owned(), [1; 9]),
        // Deny wins, whatever the order; and who does not say who it is may be the one.
        (format!("rules: [{{ action: deny, from: [{web}] }}]"), [0, 1, 1, 1, 1, 1, 1, 1, 0]),
        (
            format!("rules: [{{ from: [{{ namespaces: [shop] }}] }}, {{ action: deny, from: [{web}] }}]"),
            [0, 1, 1, 0, 0, 0, 0, 0, 0],
        ),
        ("rules: [{ action: deny, from: [{ namespaces: [shop] }] }]".to_owned(), [0, 0, 0, 1, 1, 1, 1, 1, 0]),
    ] {
        let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("mtls: permissive")]);
        let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address()) + &policy("app", &rules)));
        for ((caller, files), pass) in CALLERS.iter().zip(&files).zip(pass) {
            let outcome = match files {
                Some(files) => curl.identity(files).https(proxy.inbound(), "/"),
                None => curl.http(proxy.inbound(), "/"),
            };
            assert_eq!(outcome.status, if pass == 1 { 200 } else { 403 }, "{rules}: {caller:?}: {outcome:?}");
        }
    }
}

#[test]
fn no_pattern_is_an_identity() {
    let origin = Origin::hello();
    for from in [
        "identities: [\"spiffe://cluster.local/ns/shop/sa/*\"]",
        "identities: [\"spiffe://cluster.local/*\"]",
        "identities: [\"*\"]",
        "identities: [\"\"]",
        "identities: [\"cluster.local/ns/shop/sa/web\"]",
        "identities: [\"spiffe://cluster.local/ns/shop/sa/web/\"]",
        "identities: [\"spiffe://CLUSTER.local/ns/shop/sa/web\"]",
        "identities: [\"spiffe://cluster.local/ns/%73hop/sa/web\"]",
        "namespaces: [\"*\"]",
        "namespaces: [\"shop*\"]",
        "namespaces: [\"\"]",
        "cidrs: [\"*\"]",
    ] {
        let rules = policy("app", &format!("rules: [{{ from: [{{ {from} }}] }}]"));
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let file = dir.path().join("bad.yaml");
        std::fs::write(&file, config::sidecar(origin.address()) + &rules).expect("writable");
        let path = file.display().to_string();
        let mut validate = Proxy::spawn_args(&["validate", &path]);
        assert_eq!(validate.wait_exit(outrigger_tests::LONG).code(), Some(1), "{from}");
    }
}
