//! No fault hides another, and none makes another: what is said of several faults is what is said of each alone.

use std::collections::BTreeSet;

use outrigger_config::{Source, validate};

const EXAMPLE: &str = include_str!("contract.yaml");

/// One fault each: a line of the contract's example, what stands there, and what is put in its place.
const FAULTS: &[(usize, &str, &str)] = &[
    (3, "orders", "Orders"),
    (5, "workers", "wrokers"),
    (8, "/etc/outrigger/tls.crt", "\"\""),
    (13, "0.0.0.0:8080", "nowhere"),
    (14, "inbound", "sideways"),
    (15, "detect ", "detct "),
    (17, "orders-local", "orders-locl"),
    (19, "127.0.0.1:4140", "127.0.0.1:9990"),
    (22, "sample: 1.0", "sample: 7"),
    (23, "http://", ""),
    (29, "127.0.0.1:3000", "127.0.0.1:0"),
    (35, "payments.internal", "Payments"),
    (36, "http ", "htp "),
    (37, "8080", "0"),
    (38, "mode: mesh", "mode: mehs"),
    (45, "weight", "weihgt"),
    (46, "10.0.0.8:8080", "10.0.0.7:8080"),
    (50, "payments", "[payments]"),
    (52, "name: payments", "name: paymets"),
    (54, "canary", "Canary"),
    (55, "value: /charge", "value: charge"),
    (56, "payments-v2", "payments-v3"),
    (58, "backendRequest: 1s", "backendRequest: 10s"),
    (59, "502", "302"),
    (60, "x-tier", "te"),
    (62, "kind: Upstream", "kind: Upstrem"),
    (63, "weight: 5", "weight: heavy"),
    (67, "payments", "7"),
    (69, "name: payments", "name: paymnts"),
    (70, "enforce", "enforced"),
    (74, "250ms", "1.5s"),
    (77, "2 ", "many "),
    (79, "idempotent ", "idempotnt "),
    (80, "max: 250ms", "max: 1ms"),
    (81, "interval: 10s", "interval: 2h"),
    (84, "endpoint ", "endpint "),
    (86, "window: 10s", "window: 0s"),
    (87, "max: 60s", "max: 1s"),
    (95, "per: 1s", "per: 0s"),
    (96, "maxLimit: 1000", "maxLimit: 1"),
    (98, "peakEwma ", "peak "),
    (99, "x-user", "x y"),
    (103, "circuit_open", "circuit_opn"),
    (104, "60s", "0s"),
    (106, "percent: 5", "percent: 500"),
    (107, "percent: 1, ", ""),
    (108, "name: x-chaos", "nme: x-chaos"),
    (112, "default", "Default"),
    (117, "x-request-id", "cookie"),
    (119, "5m", "5 min"),
    (125, "name: orders-local", "name: orders"),
    (128, "allow ", "alow "),
    (129, "namespaces", "namspaces"),
    (130, "[/orders,", "[orders,"),
];

fn faults<'a>(chosen: impl IntoIterator<Item = &'a (usize, &'a str, &'a str)>) -> BTreeSet<String> {
    let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    for (line, from, to) in chosen {
        let text = &mut lines[line - 1];
        assert!(text.contains(from), "line {line} has no {from:?}: {text}");
        *text = text.replacen(from, to, 1);
    }
    validate(&[Source { name: "f".into(), text: lines.join("\n") }]).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_said_of_several_faults_is_what_is_said_of_each() {
    let alone: Vec<BTreeSet<String>> = FAULTS.iter().map(|f| faults([f])).collect();
    for (fault, found) in FAULTS.iter().zip(&alone) {
        let line = format!("f:{}:", fault.0);
        assert!(found.len() == 1 && found.iter().all(|f| f.starts_with(&line)), "{fault:?}: {found:#?}");
    }
    for (index, first) in FAULTS.iter().enumerate() {
        for (second, found) in FAULTS.iter().zip(&alone).skip(index + 1) {
            let union: BTreeSet<String> = alone[index].union(found).cloned().collect();
            assert_eq!(faults([first, second]), union, "{first:?} and {second:?}");
        }
    }
    let union: BTreeSet<String> = alone.into_iter().flatten().collect();
    assert_eq!(faults(FAULTS), union);
}
