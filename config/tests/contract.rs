//! The contract's own example is taken as it stands, and means what the contract says beside it.

use std::time::Duration;

use outrigger_config::{Source, compile, model::*, validate};

fn source(text: &str) -> Source {
    Source { name: "contract.yaml".into(), text: text.to_owned() }
}

#[test]
fn the_example_of_the_contract_compiles() {
    let compiled = compile(&[source(include_str!("contract.yaml"))]).expect("no fault");
    assert_eq!(compiled.warnings, []);
    let model = compiled.model;
    assert_eq!(model.proxy.workers, Some(1));
    assert_eq!(model.listeners.len(), 2);
    let inbound = model.listener("inbound").expect("inbound");
    assert_eq!(inbound.mtls, MtlsMode::Permissive);
    let ListenerTarget::Forward(id) = inbound.target else { panic!("forwards") };
    assert_eq!(&*model.upstream(id).name, "orders-local");
    assert_eq!(model.upstream(id).access.len(), 1);
    let ListenerTarget::ByHost(hosts) = &model.listener("outbound").expect("outbound").target else {
        panic!("by host")
    };
    let names: Vec<&str> = hosts.exact.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["orders-local", "payments", "payments-v2", "payments.internal"]);
    let payments = model.upstreams.iter().find(|u| &*u.name == "payments").expect("payments");
    assert_eq!(payments.policy.timeouts.connect, Some(Duration::from_millis(250)));
    assert_eq!(payments.policy.timeouts.idle, Some(Duration::from_secs(60)));
    assert_eq!(payments.routes.matches.len(), 2);
    let main = payments.routes.rules.iter().find(|r| &*r.name == "main").expect("main");
    assert_eq!(main.total_weight, 100);
    assert_eq!(main.policy.retry.as_ref().expect("retry").backoff_base, Duration::from_millis(25));
    assert_eq!(model.upstreams[0].policy.timeouts.idle, Some(Duration::from_secs(300)));
    assert!(main.origin.line > 50, "{}", main.origin);
}

#[test]
fn a_fault_is_located_and_the_others_are_told_too() {
    let text = include_str!("contract.yaml").replace("maxPending", "maxPendin").replace("base: 25ms", "base: 25us");
    let faults: Vec<String> = validate(&[source(&text)]).iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[1].contains("did you mean `maxPending`?"), "{faults:#?}");
}
