//! From end to end: a real API server, the control plane, proxies in pods (network namespaces with redirected traffic),
//! real servers; and what happens when any of them dies.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use outrigger_tests::{LONG, Origin, Response, Traffic, eventually, kube::Backend, netns::Pod, wire};
use serde_json::json;

#[path = "kube_e2e/faults.rs"]
mod faults;
#[path = "kube_e2e/injected.rs"]
mod injected;
#[path = "kube_e2e/kubelet.rs"]
mod kubelet;
#[path = "kube_e2e/outside.rs"]
mod outside;
#[path = "kube_e2e/replicas.rs"]
mod replicas;
#[path = "kube_e2e/rollout.rs"]
mod rollout;
#[path = "kube_e2e/world.rs"]
mod world;

use world::*;

#[test]
fn kube_netns_from_the_api_server_to_the_app() {
    let Some(world) = World::start("kube_netns_from_the_api_server_to_the_app") else { return };
    let (web, one, two) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"), world.pod("orders-2", "orders"));
    let _apps = [app(&one, "one"), app(&two, "two")];
    let ip = world.cluster.service(
        &world.namespace,
        "orders",
        80,
        &json!({ "ports": [{ "port": 80, "targetPort": PORT }] }),
    );
    round_robin(&world);
    set(&world, &[("orders-1", &one)]);
    let _servers = [world.proxy(&one, "orders-1", "orders"), world.proxy(&two, "orders-2", "orders")];
    let client = world.proxy(&web, "web-1", "web");

    let load = traffic(&web, &ip);
    reaches(&load, &["one"], LONG);
    // Up, down, and from one to the other while the first drains.
    set(&world, &[("orders-1", &one), ("orders-2", &two)]);
    reaches(&load, &["one", "two"], LONG);
    set(&world, &[("orders-2", &two)]);
    reaches(&load, &["two"], LONG);
    println!("from a change of an EndpointSlice to traffic: {}", change_to_traffic(&world, &load, &one, &two));

    // Mutual TLS between the proxies: the server's app is told who calls.
    let tls = client.metrics().sum("connections_total", &[("side", "upstream"), ("tls", "mutual")])
        + client.metrics().sum("connections_total", &[("side", "upstream"), ("tls", "true")]);
    println!("connections under TLS: {tls}");

    for (what, fail, back) in [
        ("the control plane", World::kill_control_plane as fn(&World), World::start_control_plane as fn(&World)),
        ("etcd", |w: &World| w.cluster.etcd().kill(), |w: &World| w.cluster.etcd().restart()),
        ("the API server", |w: &World| w.cluster.kill_api(), |w: &World| w.cluster.start_api()),
    ] {
        set(&world, &[("orders-1", &one)]);
        reaches(&load, &["one"], LONG);
        fail(&world);
        let until = load.elapsed() + outage();
        load.run_until(until);
        back(&world);
        world.cluster.wait_ready();
        world.wait_control_plane();
        let returned = load.elapsed();
        set(&world, &[("orders-2", &two)]);
        reaches(&load, &["two"], RECOVERY);
        println!("{what} was away: recovered {:?} after its return", load.elapsed() - returned);
    }
    none_failed(load, &world.replica.log());
}

/// How long something is away: short, unless the environment says otherwise.
fn outage() -> Duration {
    let text = std::env::var("OUTRIGGER_OUTAGE_SECONDS").unwrap_or_default();
    Duration::from_secs(text.parse().unwrap_or(5))
}

/// p50 and p99 of the time from the API server's answer to a change, until the first request to the new endpoint.
fn change_to_traffic(world: &World, load: &Traffic, one: &Pod, two: &Pod) -> String {
    let mut times = Vec::new();
    for round in 0..20 {
        let (name, pod, wanted) = if round % 2 == 0 { ("orders-1", one, "one") } else { ("orders-2", two, "two") };
        let began = load.elapsed();
        set(world, &[(name, pod)]);
        let first = eventually("the new endpoint gets a request", LONG, || {
            load.since(began).into_iter().find(|s| s.endpoint == wanted).map(|s| s.at + s.took)
        });
        times.push(first.saturating_sub(began));
    }
    times.sort();
    format!("p50 {:?}, p99 {:?} of {}", times[times.len() / 2], times[times.len() - 1], times.len())
}

#[test]
fn kube_netns_a_proxy_in_anothers_name_is_refused() {
    let Some(world) = World::shared("kube_netns_a_proxy_in_anothers_name_is_refused") else { return };
    let (web, _orders) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"));
    let proxy = world.proxy_of(&web, "web-1", "web", "orders");
    let said = eventually("the refusal is said", MINUTE, || {
        proxy.output().into_iter().find(|line| line.contains("the token proves the account"))
    });
    println!("{said}");
    assert_ne!(wire::get(proxy.admin(), "/readyz").status, 200, "it has no identity");
}

#[test]
fn kube_netns_the_callers_choice_is_kept_and_what_is_outside_is_reached() {
    let Some(world) = World::shared("kube_netns_the_callers_choice_is_kept") else { return };
    let (web, one, two) = (world.pod("web-1", "web"), world.pod("db-0", "db"), world.pod("db-1", "db"));
    let _apps = [app(&one, "db-0"), app(&two, "db-1")];
    world.cluster.service(
        &world.namespace,
        "db",
        PORT,
        &json!({ "clusterIP": "None", "ports": [{ "port": PORT, "targetPort": PORT }] }),
    );
    let ips = [one.ip().to_string(), two.ip().to_string()];
    world.cluster.slice(
        &world.namespace,
        "db",
        1,
        "",
        PORT,
        &[Backend::ready(&ips[0], "db-0"), Backend::ready(&ips[1], "db-1")],
    );
    let _servers = [world.proxy(&one, "db-0", "db"), world.proxy(&two, "db-1", "db")];
    let client = world.proxy(&web, "web-1", "web");
    let get = |to: SocketAddr| web.inside(|| wire::once(to, "GET / HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n"));
    for (ip, name) in ips.iter().zip(["db-0", "db-1"]) {
        for _ in 0..5 {
            let reply = get(format!("{ip}:{PORT}").parse().expect("an address"));
            assert_eq!((reply.status, reply.header("x-endpoint")), (200, Some(name)), "{reply:?}");
            let peer = reply.header("x-peer").unwrap_or_default().to_owned();
            assert!(peer.contains(&format!("/ns/{}/sa/web", world.namespace)), "mutual TLS: {peer:?}");
        }
    }
    // A server on the test's own host is no pod and no Service.
    let listener = TcpListener::bind((world.net.host(), 0)).expect("a free port");
    let outside = Origin::on(listener, |wire, _, _| {
        while let Ok(Some(request)) = wire.request() {
            if wire.try_send(Response::text("outside").wire(&request.method)).is_err() {
                break;
            }
        }
    });
    let reply = get(outside.address());
    assert_eq!((reply.status, reply.text().as_str()), (200, "outside"), "{reply:?}");
    drop(client);
}
