//! Configuration with a fault that no webhook saw: it is said, counted, and takes nobody's requests away.

use std::process::Command;

use outrigger_tests::{LONG, Reply, Traffic, binary};
use serde_json::Value;

use super::*;

/// A route of `/PATH` to a backend, attached to `orders`.
fn route(world: &World, name: &str, matching: &str, backend: &str) {
    world.cluster.apply(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {name}, namespace: {} }}\nspec:\n  \
         parentRefs: [{{ group: '', kind: Service, name: orders }}]\n  rules:\n    \
         - {{ matches: [{{ path: {{ {matching} }} }}], backendRefs: [{{ {backend} }}] }}\n    \
         - {{ backendRefs: [{{ name: orders, port: 80 }}] }}\n",
        world.namespace
    ));
}

fn policy(world: &World, name: &str, spec: &str) {
    world.cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: {name}, namespace: {} }}\nspec:\n  \
         targetRefs: [{{ kind: Service, name: orders }}]\n  {spec}\n",
        world.namespace
    ));
}

fn upstream(world: &World, to: SocketAddr, more: &str) {
    world.cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: {{ name: partner, namespace: {} }}\nspec:\n  \
         endpoints: [{{ address: \"{to}\" }}]\n  {more}\n",
        world.namespace
    ));
}

fn outrigger(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary::outrigger());
    let output = command.args(args).env("KUBECONFIG", world.cluster.kubeconfig()).output().expect("it runs");
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn endpoint(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("x-endpoint").unwrap_or_default())
}

const PARTNER: &str = "group: outrigger.dev, kind: Upstream, name: partner";

#[test]
fn kube_netns_a_fault_that_no_webhook_saw_takes_nothing_away() {
    let Some(world) = World::shared("kube_netns_a_fault_that_no_webhook_saw") else { return };
    let (web, one, two) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"), world.pod("stock-1", "stock"));
    let _apps = [app(&one, "orders"), app(&two, "stock")];
    let (ip, _) = (world.service("orders"), world.service("stock"));
    for (service, pod, at) in [("orders", "orders-1", &one), ("stock", "stock-1", &two)] {
        let ip = at.ip().to_string();
        world.cluster.slice(&world.namespace, service, 1, "", PORT, &[Backend::ready(&ip, pod)]);
    }
    let listener = TcpListener::bind((world.net.host(), 0)).expect("a free port");
    let partner = Origin::on(listener, |wire, _, _| {
        while let Ok(Some(request)) = wire.request() {
            let reply = Response::text("ok").header("x-endpoint", "partner");
            if wire.try_send(reply.wire(&request.method)).is_err() {
                break;
            }
        }
    });
    upstream(&world, partner.address(), "");
    route(&world, "stock", "type: PathPrefix, value: /stock", "name: stock, port: 80");
    route(&world, "partner", "type: PathPrefix, value: /partner", PARTNER);
    let _servers = [world.proxy(&one, "orders-1", "orders"), world.proxy(&two, "stock-1", "stock")];
    let client = world.proxy(&web, "web-1", "web");
    let to: SocketAddr = format!("{ip}:80").parse().expect("an address");
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n");
        web.inside(|| wire::once(to, &request))
    };
    for (path, name) in [("/", "orders"), ("/stock", "stock"), ("/partner", "partner")] {
        assert_eq!(endpoint(&get(path)), (200, name), "{path}");
    }
    for name in ["stock", "partner"] {
        world.wait_condition("HTTPRoute", name, "Accepted", "True");
    }
    let load = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: orders\r\n\r\n");
        web.inside(|| Traffic::start(to, 50, 1, &request))
    };
    let loads = [("/", "orders"), ("/stock", "stock"), ("/partner", "partner")].map(|(path, name)| (load(path), name));

    // New documents that the compiler faults: the others stay in force.
    route(&world, "typo", "type: RegularExpression, value: '('", "name: stock, port: 80");
    policy(&world, "typo", "timeouts: { request: 1s, backendRequest: 3s }");
    let said = world.wait_condition("HTTPRoute", "typo", "Accepted", "False");
    assert!(said["message"].as_str().is_some_and(|m| m.contains("spec.rules[0].matches[0].path.value")), "{said}");
    let said = world.wait_condition("TrafficPolicy", "typo", "Accepted", "False");
    assert_eq!(said["reason"], "Invalid", "{said}");
    assert!(said["message"].as_str().is_some_and(|m| m.contains("spec.timeouts.backendRequest")), "{said}");
    for kind in ["httproutes", "trafficpolicies"] {
        world.replica.wait("it is counted", "documents_refused", &[("kind", kind)], |n| n == 1.0);
    }

    // What only a proxy can see: a file that its machine has not. It keeps the last good version.
    let refusals = world.replica.sum("refusals_total", &[]);
    upstream(&world, partner.address(), "tls: { mode: simple, sni: partner.example, ca: /nowhere/ca.crt }");
    let said = world.wait_condition("Upstream", "partner", "outrigger.dev/Refused", "True");
    let message = said["message"].as_str().unwrap_or_default();
    assert!(message.contains("web-1") && message.contains("/nowhere/ca.crt"), "{said}");
    println!("{message}");
    assert!(world.replica.sum("refusals_total", &[]) > refusals);
    client.wait_metric("discovery_events_total", &[("event", "version_refused")], |n| n >= 1.0);
    assert_eq!(endpoint(&get("/partner")), (200, "partner"), "the last good version stays");
    explained(&world, &format!("{}:{PORT}", two.ip()));

    // Mended: all is as it should be, and nothing is said any more.
    upstream(&world, partner.address(), "");
    route(&world, "typo", "type: RegularExpression, value: '/x+'", "name: stock, port: 80");
    policy(&world, "typo", "timeouts: { request: 3s, backendRequest: 1s }");
    world.wait_condition("HTTPRoute", "typo", "Accepted", "True");
    world.wait_condition("TrafficPolicy", "typo", "Accepted", "True");
    eventually("the refusal is forgotten", MINUTE, || {
        world.condition("Upstream", "partner", "Accepted")?;
        world.condition("Upstream", "partner", "outrigger.dev/Refused").is_none().then_some(())
    });
    eventually("the route has its effect", LONG, || (endpoint(&get("/xx")) == (200, "stock")).then_some(()));
    for (load, name) in loads {
        let samples = load.since(Duration::ZERO);
        assert!(
            samples.iter().all(|s| s.endpoint == name),
            "{name}: {:?}",
            samples.iter().find(|s| s.endpoint != name)
        );
        none_failed(load, &world.replica.log());
    }
    drop(client);
}

/// `outrigger explain` and `outrigger check` say what is so.
fn explained(world: &World, stock: &str) {
    let ns = &*world.namespace;
    let explain = |url: &str| outrigger(world, &["explain", "-n", ns, "--mesh-namespace", &world.mesh, url]);
    let (code, text) = explain("http://orders/stock/7");
    assert!(code == Some(0) && text.contains(&format!("{ns}/stock")) && text.contains(stock), "{code:?} {text}");
    assert!(!text.contains("typo"), "{text}");
    let (code, text) = explain("http://elsewhere.example/");
    assert!(code == Some(0) && text.contains("outside the mesh"), "{code:?} {text}");
    let (_, text) = outrigger(world, &["check", "-o", "json", "--mesh-namespace", &world.mesh]);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let line = |name: &str| report["checks"].as_array().into_iter().flatten().find(|c| c["name"] == name).cloned();
    for name in ["api-server", "gateway-api", "crds", "ca", "proxies"] {
        assert_eq!(line(name).expect(name)["result"], "ok", "{name}: {report:#}");
    }
    // There is no chart: neither its Service nor its webhook is there, and both are said with what to do.
    for (name, result) in [("control-plane", "fault"), ("webhook", "warning")] {
        let line = line(name).expect(name);
        assert!(line["result"] == result && line["remedy"].is_string(), "{line}");
    }
}
