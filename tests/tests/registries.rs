//! Endpoints from registries outside Kubernetes: a real etcd, a real ZooKeeper, and a double of Consul's HTTP API (Consul
//! is in no package registry). Each lists endpoints, changes them under load, dies and comes back, with no failed request.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use outrigger_tests::{
    LONG, Origin, Proxy, Request, Response, Traffic, Wire,
    config::{INBOUND, policy, proxy, upstream_with},
    consul::Consul,
    etcd::Etcd,
    eventually,
    load::failed,
    peers,
    zookeeper::ZooKeeper,
};

/// Twice the longest pause of a proxy that has lost its registry.
const RECOVERY: Duration = Duration::from_secs(10);

fn origin(name: &'static str) -> Origin {
    Origin::start(move |_: &Request| Response::text("ok").header("x-endpoint", name))
}

fn entry(address: SocketAddr) -> String {
    format!("{{\"address\":\"{address}\",\"weight\":1,\"zone\":\"a\"}}")
}

fn start(discovery: &str) -> Proxy {
    let upstream = upstream_with("app", &format!("discovery: {{ {discovery} }}"));
    // In turn, so that an endpoint that gets no request is none.
    Proxy::start(&(proxy(&[INBOUND]) + &upstream + &policy("app", "loadBalancing: { algorithm: roundRobin }")))
}

fn traffic(proxy: &Proxy) -> Traffic {
    Traffic::start(proxy.inbound(), 200, 4, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
}

/// Waits until exactly these endpoints get requests.
#[track_caller]
fn reaches(traffic: &Traffic, names: &[&str], within: Duration) {
    let wanted: BTreeSet<String> = names.iter().map(|n| (*n).to_owned()).collect();
    eventually(&format!("{names:?} get requests, and nobody else"), within, || {
        let recent = traffic.since(traffic.elapsed().saturating_sub(Duration::from_millis(300)));
        let seen: BTreeSet<String> = recent.iter().map(|s| s.endpoint.clone()).collect();
        (seen == wanted).then_some(())
    });
}

#[track_caller]
fn none_failed(traffic: Traffic) {
    let samples = traffic.stop();
    let failed = failed(&samples);
    assert!(failed.is_empty(), "{} of {} failed, first {:?}", failed.len(), samples.len(), failed[0]);
}

fn put(etcd: &Etcd, call: &str, key: &str, value: &str) {
    let body = format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", STANDARD.encode(key), STANDARD.encode(value));
    let mut wire = Wire::new(std::net::TcpStream::connect(etcd.address()).expect("etcd listens"));
    let length = body.len();
    wire.send(format!("POST /v3/kv/{call} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"));
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn etcd_is_followed_and_its_loss_is_nobodys() {
    let Some(etcd) = Etcd::start("etcd_is_followed") else { return };
    let [a, b, c] = ["a", "b", "c"].map(origin);
    put(&etcd, "put", "/services/app/1", &entry(a.address()));
    put(&etcd, "put", "/services/app/odd", "no JSON");
    put(&etcd, "put", "/services/application/9", &entry(c.address()));
    let proxy = start(&format!("etcd: {{ endpoints: [\"{}\"], prefix: /services/app }}", etcd.address()));
    let traffic = traffic(&proxy);
    reaches(&traffic, &["a"], LONG);
    put(&etcd, "put", "/services/app/2", &entry(b.address()));
    reaches(&traffic, &["a", "b"], LONG);
    put(&etcd, "deleterange", "/services/app/1", "");
    reaches(&traffic, &["b"], LONG);

    etcd.kill();
    proxy.wait_metric("endpoints", &[("upstream", "app"), ("state", "ready")], |n| n == 1.0);
    reaches(&traffic, &["b"], LONG);
    etcd.restart();
    put(&etcd, "put", "/services/app/3", &entry(c.address()));
    reaches(&traffic, &["b", "c"], RECOVERY);

    // A new cluster at the address, whose revisions are lower than those that were seen.
    etcd.replace();
    put(&etcd, "put", "/services/app/1", &entry(a.address()));
    reaches(&traffic, &["a"], RECOVERY);
    none_failed(traffic);
}

#[test]
fn etcd_that_is_compacted_is_listed_again() {
    let Some(etcd) = Etcd::start("etcd_that_is_compacted") else { return };
    let [a, b] = ["a", "b"].map(origin);
    put(&etcd, "put", "/services/app/1", &entry(a.address()));
    let proxy = start(&format!("etcd: {{ endpoints: [\"{}\"], prefix: /services/app/ }}", etcd.address()));
    let traffic = traffic(&proxy);
    reaches(&traffic, &["a"], LONG);
    let revision = 2 + 50;
    for _ in 0..50 {
        put(&etcd, "put", "/services/other", "x");
    }
    let mut wire = Wire::new(std::net::TcpStream::connect(etcd.address()).expect("etcd listens"));
    let body = format!("{{\"revision\":\"{revision}\"}}");
    wire.send(format!("POST /v3/kv/compaction HTTP/1.1\r\nHost: e\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(wire.reply().status, 200);
    etcd.kill();
    etcd.restart();
    put(&etcd, "put", "/services/app/1", &entry(b.address()));
    reaches(&traffic, &["b"], RECOVERY);
    none_failed(traffic);
}

#[test]
fn zookeeper_is_followed_and_its_loss_is_nobodys() {
    let scenario = "zookeeper_is_followed";
    let Some(python) = peers::python(scenario) else { return };
    let Some(zookeeper) = ZooKeeper::start(scenario) else { return };
    let [a, b, c] = ["a", "b", "c"].map(origin);
    let hosts = zookeeper.address().to_string();
    let register = |name: &str, address| {
        peers::Server::start(&python, "zookeeper.py", &[&hosts, "/services/app", name, &entry(address)])
    };
    // The node itself is not there yet.
    let proxy = start(&format!("zookeeper: {{ hosts: [\"{hosts}\"], path: /services/app }}"));
    let one = register("1", a.address());
    proxy.wait_metric("endpoints", &[("upstream", "app"), ("state", "ready")], |n| n == 1.0);
    let traffic = traffic(&proxy);
    reaches(&traffic, &["a"], LONG);
    let _two = register("2", b.address());
    reaches(&traffic, &["a", "b"], LONG);
    // Its process is killed: the ephemeral node goes with its session.
    drop(one);
    reaches(&traffic, &["b"], LONG);

    zookeeper.kill();
    proxy.wait_metric("endpoints", &[("upstream", "app"), ("state", "ready")], |n| n == 1.0);
    reaches(&traffic, &["b"], LONG);
    zookeeper.restart();
    let _three = register("3", c.address());
    reaches(&traffic, &["b", "c"], RECOVERY);
    none_failed(traffic);
}

#[test]
fn consul_is_followed_by_blocking_queries() {
    let mut consul = Consul::start("app", "secret");
    let [a, b, c] = ["a", "b", "c"].map(origin);
    consul.set(&[(a.address(), "passing"), (b.address(), "critical")]);
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "secret\n").expect("writable");
    let proxy = start(&format!(
        "consul: {{ address: \"{}\", service: app, tokenFile: {} }}",
        consul.address(),
        token.display()
    ));
    let traffic = traffic(&proxy);
    reaches(&traffic, &["a"], LONG);
    consul.set(&[(a.address(), "passing"), (b.address(), "passing")]);
    reaches(&traffic, &["a", "b"], LONG);
    // No change, and no query that does not wait.
    let before = consul.immediate();
    consul.touch();
    consul.set(&[(b.address(), "passing"), (c.address(), "warning")]);
    reaches(&traffic, &["b"], LONG);
    assert_eq!(consul.immediate(), before, "an index that has moved is waited on");

    consul.stop();
    reaches(&traffic, &["b"], LONG);
    consul.reset();
    consul.restart();
    consul.set(&[(c.address(), "passing")]);
    reaches(&traffic, &["c"], RECOVERY);
    none_failed(traffic);
}
