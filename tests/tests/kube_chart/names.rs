//! Metrics that alerts and dashboards name are metrics that the programs export: nobody finds out otherwise before it matters.

use std::collections::BTreeSet;

use outrigger_tests::{Metrics, Origin, Proxy, eventually, helm::chart, wire};
use serde_json::json;

use crate::{
    rights::proxy,
    world::{ControlPlane, MINUTE, World},
};

/// A proxy in which every policy has something to say.
const BUSY: &str = "
apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: busy }
spec:
  workers: 1
  admin: { address: 127.0.0.1:0 }
  listeners:
    - { name: outbound, address: 127.0.0.1:0, direction: outbound }
    - { name: inbound, address: 127.0.0.1:0, direction: inbound, mtls: permissive, forwardTo: { kind: Upstream, name: app } }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: app }
spec: { hostnames: [app], endpoints: [{ address: 'ORIGIN' }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: gone }
spec: { hostnames: [gone], endpoints: [{ address: '127.0.0.1:1' }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: { name: gone }
spec:
  targetRefs: [{ group: outrigger.dev, kind: Upstream, name: gone }]
  retry: { attempts: 1 }
  circuitBreaker: { scope: upstream, consecutiveFailures: 1 }
  rateLimit: { requests: 3, per: 1h, burst: 3, by: all }
  fallback: { on: [connection_refused, circuit_open], response: { status: 200, body: sorry } }
";

/// Every name in the rules and dashboards that could be a metric of ours or of a process.
fn named() -> BTreeSet<String> {
    let files = chart("outrigger").join("files");
    let mut texts = vec![std::fs::read_to_string(files.join("alerts.yaml")).expect("the rules")];
    for entry in std::fs::read_dir(files.join("dashboards")).expect("dashboards") {
        texts.push(std::fs::read_to_string(entry.expect("it can be read").path()).expect("text"));
    }
    let words = texts.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let ours = words.filter(|word| word.starts_with("outrigger_") || word.starts_with("process_"));
    ours.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

fn families(metrics: &Metrics) -> impl Iterator<Item = String> + '_ {
    metrics.types.keys().cloned()
}

#[test]
fn kube_chart_names_metrics_that_there_are() {
    let Some(world) = World::start("kube_chart_names_metrics_that_there_are") else { return };
    world.install(&[]);
    let control_plane = world.control_plane("cp-1");
    let shop = world.cluster.namespace("shop");
    world.cluster.service(&shop, "web", 80, &json!({}));
    let meshed = proxy(&world.cluster, &shop, &control_plane);
    trouble(&control_plane);
    let busy = busy();
    eventually("the proxy's certificate is counted", MINUTE, || {
        control_plane.metrics().has("outrigger_control_plane_csr_total").then_some(())
    });
    let told = [control_plane.metrics(), meshed.metrics(), busy.metrics()];
    let known: BTreeSet<String> = told.iter().flat_map(families).collect();
    let (named, declared) = (named(), declared());
    assert!(named.len() > 35);
    let missing: Vec<&String> = named.difference(&known).collect();
    println!("not scraped, as nothing of the kind happened: {missing:?}");
    assert!(missing.len() < 12, "most are scraped: {missing:?}");
    for name in missing {
        let own = name.trim_start_matches("outrigger_control_plane_");
        let quoted = [format!("\"{name}\""), format!("\"{own}\"")];
        assert!(quoted.iter().any(|name| declared.contains(name)), "no program exports {name}");
    }
}

/// Where families are declared: those with labels appear with their first event, and some events are hard to bring about.
fn declared() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = [
        "control-plane/src/admission/mutate.rs",
        "proxy/src/observe/families.rs",
        "proxy/src/observe/render.rs",
        "control-plane/src/observe.rs",
    ];
    files.map(|file| std::fs::read_to_string(root.join(file)).expect("the source is there")).concat()
}

/// Counters with labels appear with their first event.
fn trouble(control_plane: &ControlPlane) {
    drop(std::net::TcpStream::connect(control_plane.discovery).expect("it listens"));
}

fn busy() -> Proxy {
    let origin = Origin::start(|_| outrigger_tests::Response::text("ok"));
    let busy = Proxy::start(&BUSY.replace("ORIGIN", &origin.address().to_string()));
    for host in ["app", "gone", "gone", "gone", "gone", "gone"] {
        drop(wire::once(busy.outbound(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")));
    }
    drop(wire::once(busy.inbound(), "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"));
    busy
}
