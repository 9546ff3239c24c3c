//! The control plane of the real binary against a real API server: what it says of itself, what it survives, what it writes.

use std::{net::SocketAddr, process::Command, time::Duration};

use outrigger_tests::{LONG, Metrics, binary, eventually, guard::Guarded, kube::Cluster, wire};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One replica.
struct Replica {
    process: Guarded,
    admin: SocketAddr,
}

/// For an API server that comes back, and for an election.
const MINUTE: Duration = Duration::from_secs(60);

impl Replica {
    #[track_caller]
    fn start(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        // Removed by the guard.
        let dir = TempDir::new().expect("a directory").keep();
        let mut command = Command::new(binary::outrigger());
        command.args(["control-plane", "-v", "--namespace", namespace, "--name", name, "--kubeconfig"]);
        command.arg(cluster.kubeconfig());
        for port in ["discovery", "webhook", "admin"] {
            command.args([format!("--{port}-address"), "127.0.0.1:0".to_owned()]);
        }
        let process = Guarded::start("control-plane", &command, &dir);
        let admin = eventually("the admin port is there", LONG, || {
            let log = process.tail(100);
            assert!(process.runs(), "{log}");
            let line = log.lines().find_map(|line| line.split_once("admin listening address="))?;
            line.1.trim().parse().ok()
        });
        Self { process, admin }
    }

    #[track_caller]
    fn ready(self) -> Self {
        eventually("the control plane is ready", MINUTE, || {
            assert!(self.process.runs(), "{}", self.process.tail(50));
            (wire::get(self.admin, "/readyz").status == 200).then_some(())
        });
        self
    }

    fn metrics(&self) -> Metrics {
        Metrics::parse(&wire::get(self.admin, "/metrics").text())
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(&format!("outrigger_control_plane_{name}"), labels)
    }

    #[track_caller]
    fn wait(&self, what: &str, name: &str, labels: &[(&str, &str)], holds: impl Fn(f64) -> bool) {
        eventually(what, MINUTE, || {
            assert!(self.process.runs(), "{}", self.process.tail(50));
            holds(self.sum(name, labels)).then_some(())
        });
    }
}

fn ours(object: &Value, list: &str) -> Option<Value> {
    let entries = object["status"][list].as_array()?;
    entries.iter().find(|e| e["controllerName"] == "outrigger.dev/controller").cloned()
}

fn condition<'a>(entry: &'a Value, kind: &str) -> &'a Value {
    entry["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

fn route(namespace: &str, name: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: web }}]\n  rules:\n    - backendRefs: [{{ name: {backend}, port: 80 }}]\n"
    )
}

#[test]
fn kube_status_is_written_and_that_of_others_is_kept() {
    let Some(cluster) = Cluster::shared("kube_status_is_written") else { return };
    let mesh = cluster.namespace("mesh");
    let ns = cluster.namespace("shop");
    cluster.service(&ns, "web", 80, &json!({}));
    cluster.apply(&route(&ns, "good", "web"));
    cluster.apply(&route(&ns, "bad", "nowhere"));
    // Another controller's entry for the same route.
    let parent = json!({ "group": "", "kind": "Service", "name": "web" });
    let accepted = json!({ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let other = json!({ "controllerName": "example.com/other", "parentRef": parent, "conditions": [accepted] });
    cluster.patch("HTTPRoute", &ns, "good", "/status", &json!({ "status": { "parents": [other] } }));

    let replica = Replica::start(cluster, &mesh, "a").ready();
    replica.wait("it leads", "leader", &[], |n| n == 1.0);
    let good = eventually("the good one is accepted", MINUTE, || {
        let route = cluster.get("HTTPRoute", &ns, "good")?;
        ours(&route, "parents").map(|entry| (route, entry))
    });
    assert_eq!(condition(&good.1, "Accepted")["status"], "True", "{}", good.1);
    assert_eq!(condition(&good.1, "ResolvedRefs")["status"], "True", "{}", good.1);
    assert_eq!(condition(&good.1, "Accepted")["observedGeneration"], 1, "{}", good.1);
    let entries = good.0["status"]["parents"].as_array().expect("entries");
    assert!(entries.iter().any(|e| e["controllerName"] == "example.com/other"), "{entries:?}");
    let bad =
        eventually("the bad one has an entry", MINUTE, || ours(&cluster.get("HTTPRoute", &ns, "bad")?, "parents"));
    assert_eq!(condition(&bad, "ResolvedRefs")["status"], "False", "{bad}");

    // What it leads to comes: the status follows.
    cluster.service(&ns, "nowhere", 80, &json!({}));
    eventually("the bad one becomes good", MINUTE, || {
        let entry = ours(&cluster.get("HTTPRoute", &ns, "bad")?, "parents")?;
        (condition(&entry, "ResolvedRefs")["status"] == "True").then_some(())
    });
    // Somebody takes our entry away: it comes back. And nothing is written when all is as it should be.
    cluster.patch("HTTPRoute", &ns, "good", "/status", &json!({ "status": { "parents": [other] } }));
    eventually("our entry comes back", MINUTE, || ours(&cluster.get("HTTPRoute", &ns, "good")?, "parents"));
    let version = cluster.get("HTTPRoute", &ns, "good").expect("a route")["metadata"]["resourceVersion"].clone();
    outrigger_tests::holds("nothing more is written", Duration::from_secs(2), || {
        cluster.get("HTTPRoute", &ns, "good").expect("a route")["metadata"]["resourceVersion"] == version
    });
}

#[test]
fn kube_one_replica_leads_and_another_takes_over() {
    let Some(cluster) = Cluster::shared("kube_one_replica_leads") else { return };
    let mesh = cluster.namespace("mesh");
    let first = Replica::start(cluster, &mesh, "first").ready();
    first.wait("the first leads", "leader", &[], |n| n == 1.0);
    let second = Replica::start(cluster, &mesh, "second").ready();
    outrigger_tests::holds("the second does not", Duration::from_secs(3), || second.sum("leader", &[]) == 0.0);
    // It goes as it should, and gives the Lease back: nobody waits for its end.
    let asked = wire::post(first.admin, "/shutdown");
    assert_eq!(asked.status, 200);
    eventually("the first ends", LONG, || (!first.process.runs()).then_some(()));
    second.wait("the second leads", "leader", &[], |n| n == 1.0);
    let lease = cluster.get("Lease", &mesh, "outrigger-control-plane").expect("the Lease");
    assert_eq!(lease["spec"]["holderIdentity"], "second");
    // It does not go as it should.
    let third = Replica::start(cluster, &mesh, "third").ready();
    second.process.kill();
    third.wait("the third leads when the Lease has run out", "leader", &[], |n| n == 1.0);
}

#[test]
fn kube_watches_survive_the_api_server() {
    let Some(cluster) = Cluster::start("kube_watches_survive") else { return };
    let mesh = cluster.namespace("mesh");
    let ns = cluster.namespace("shop");
    cluster.service(&ns, "web", 80, &json!({}));
    let replica = Replica::start(&cluster, &mesh, "a").ready();
    let services = |replica: &Replica| replica.sum("objects", &[("kind", "services")]);
    let before = services(&replica);
    assert!(before >= 1.0);

    cluster.kill_api();
    replica.wait("it notices", "watch_errors_total", &[("kind", "services")], |n| n >= 1.0);
    assert_eq!(services(&replica), before, "what is known stays");
    assert_eq!(wire::get(replica.admin, "/readyz").status, 200, "an outage unreadies nothing");
    cluster.restart_api();
    cluster.service(&ns, "api", 80, &json!({}));
    replica.wait("changes come again", "objects", &[("kind", "services")], |n| n == before + 1.0);

    cluster.etcd().kill();
    cluster.etcd().restart();
    cluster.wait_ready();
    cluster.service(&ns, "db", 80, &json!({}));
    replica.wait("changes come again", "objects", &[("kind", "services")], |n| n == before + 2.0);

    // A fresh store: its versions begin anew, far behind those that were seen.
    cluster.replace();
    replica.wait("what is not there any more is forgotten", "objects", &[("kind", "services")], |n| n < before);
    let ns = cluster.namespace("again");
    let now = services(&replica);
    cluster.service(&ns, "web", 80, &json!({}));
    replica.wait("changes come again", "objects", &[("kind", "services")], |n| n == now + 1.0);
}

#[test]
fn kube_definitions_may_come_later() {
    let Some(cluster) = Cluster::start("kube_definitions_may_come_later") else { return };
    for kind in ["httproutes.gateway.networking.k8s.io", "trafficpolicies.outrigger.dev"] {
        cluster.delete("CustomResourceDefinition", "", kind);
    }
    let mesh = cluster.namespace("mesh");
    let ns = cluster.namespace("shop");
    cluster.service(&ns, "web", 80, &json!({}));
    let replica = Replica::start(&cluster, &mesh, "a").ready();
    assert_eq!(replica.sum("watch_synced", &[("kind", "httproutes")]), 1.0);
    cluster.install_crds();
    eventually("a route is taken", MINUTE, || cluster.try_apply(&route(&ns, "late", "web")).ok());
    replica.wait("the route is known", "objects", &[("kind", "httproutes")], |n| n == 1.0);
    // And they may go again.
    cluster.delete("CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io");
    replica.wait("the route is forgotten", "objects", &[("kind", "httproutes")], |n| n == 0.0);
    assert_eq!(wire::get(replica.admin, "/readyz").status, 200);
}

#[test]
fn kube_what_is_forbidden_is_said_with_the_rule_that_is_missing() {
    let Some(cluster) = Cluster::shared("kube_what_is_forbidden") else { return };
    let mesh = cluster.namespace("mesh");
    cluster.service_account(&mesh, "nobody");
    let kubeconfig = cluster.kubeconfig_of(&mesh, "nobody");
    let dir = TempDir::new().expect("a directory").keep();
    let mut command = Command::new(binary::outrigger());
    command.args(["control-plane", "--namespace", &mesh, "--name", "x", "--kubeconfig"]).arg(kubeconfig);
    for port in ["discovery", "webhook", "admin"] {
        command.args([format!("--{port}-address"), "127.0.0.1:0".to_owned()]);
    }
    let process = Guarded::start("control-plane", &command, &dir);
    let wanted = "rule: apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: [get, list, watch]";
    eventually("the log has the rule", LONG, || process.tail(200).contains(wanted).then_some(()));
    assert!(process.runs(), "it waits for the rule instead of ending");
}
