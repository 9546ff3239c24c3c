//! What is not in the cluster, by name; and who speaks for a pod that is another's.

use std::net::UdpSocket;

use outrigger_tests::{
    Proxy, Reply,
    dns::{Answer, Dns},
};

use super::*;

/// A request that the app sends to the outbound listener itself, as to an HTTP proxy: where it goes is a matter of its name.
fn by_name(pod: &Pod, host: &str) -> Reply {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    pod.inside(|| wire::once(([127, 0, 0, 1], 9991).into(), &request))
}

fn count(proxy: &Proxy, upstream: &str) -> f64 {
    proxy.metrics().sum("requests_total", &[("upstream", upstream), ("status", "200")])
}

#[test]
fn kube_netns_names_outside_the_mesh_are_reached() {
    let Some(world) = World::shared("kube_netns_names_outside_the_mesh_are_reached") else { return };
    let (net, ns) = (&world.net, &world.namespace);
    let dns = Dns::on(UdpSocket::bind((net.host(), 53)).expect("port 53 of an address of our own"));
    dns.set("api.example", Answer::A(vec![net.host()], 60));
    let listener = TcpListener::bind((net.host(), 0)).expect("a free port");
    let outside = Origin::on(listener, |wire, _, origin| {
        while let Ok(Some(request)) = wire.request() {
            origin.record(&request);
            if wire.try_send(Response::text("outside").wire(&request.method)).is_err() {
                break;
            }
        }
    });
    let port = outside.address().port();
    let web = world.pod("web-1", "web");
    // As the kubelet writes it, and what the cluster's DNS says of an ExternalName.
    let search = format!("{ns}.svc.cluster.local svc.cluster.local cluster.local");
    web.etc("resolv.conf", &format!("nameserver {}\nsearch {search}\noptions ndots:5\n", net.host()));
    dns.set(&format!("portless.{ns}.svc.cluster.local"), Answer::A(vec![net.host()], 60));
    let external = |name: &str, ports: serde_json::Value| {
        let spec = json!({ "type": "ExternalName", "externalName": "api.example", "selector": {}, "ports": ports });
        world.cluster.service(ns, name, 80, &spec);
    };
    external("partner", json!([{ "port": port }]));
    external("portless", json!([]));
    let client = world.proxy(&web, "web-1", "web");

    // No name of the mesh: the proxy asks the pod's name server.
    let reply = by_name(&web, &format!("api.example:{port}"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "outside"), "{reply:?}");
    client.wait_metric("requests_total", &[("upstream", "outside"), ("status", "200")], |n| n == 1.0);
    // As most apps do it: they look it up themselves, and connect.
    let request = format!("GET / HTTP/1.1\r\nHost: api.example:{port}\r\nConnection: close\r\n\r\n");
    let reply = web.inside(|| wire::once(outside.address(), &request));
    assert_eq!((reply.status, reply.text().as_str()), (200, "outside"), "{reply:?}");
    client.wait_metric("requests_total", &[("upstream", "outside"), ("status", "200")], |n| n == 2.0);
    // A name of the mesh for it, in all its forms; it is an upstream of its own, so policies can be for it.
    let label = format!("{ns}/partner:{port}");
    for host in ["partner".to_owned(), format!("partner.{ns}"), format!("partner.{ns}.svc.cluster.local")] {
        let reply = by_name(&web, &format!("{host}:{port}"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "outside"), "{host}: {reply:?}");
    }
    client.wait_metric("requests_total", &[("upstream", &label), ("status", "200")], |n| n == 3.0);
    // Nothing is known there, and that is said.
    let reply = by_name(&web, "nowhere.example");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.text().contains("dns_error"), "{reply:?}");
    let reply = by_name(&web, &format!("portless:{port}"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "outside"), "no port of the mesh's, so outside: {reply:?}");
    assert_eq!(count(&client, &label), 3.0);
    println!("{} questions to the name server", dns.queries());
}

#[test]
fn kube_netns_nobody_is_told_what_another_pod_is_told() {
    let Some(world) = World::shared("kube_netns_nobody_is_told_what_another_pod_is_told") else { return };
    let (web, vault) = (world.pod("web-1", "web"), world.pod("vault-1", "vault"));
    let refused = |what: &str, proxy: &Proxy, words: &str| {
        let said = eventually(what, MINUTE, || proxy.output().into_iter().find(|line| line.contains(words)));
        println!("{said}");
        assert_ne!(wire::get(proxy.admin(), "/readyz").status, 200, "it is told nothing");
    };
    // With its own identity, for another's pod: its `workload` has the other's ports and policies.
    let spy = world.proxy_as(&web, "web-1", "web", "web", "vault-1");
    refused("another's pod is refused", &spy, "is not the identity of the pod");
    assert_eq!(world.replica.sum("streams", &[]), 0.0);
    assert!(world.replica.sum("streams_ended_total", &[]) >= 1.0);
    assert_eq!(world.replica.sum("pushes_total", &[]), 0.0, "nothing was sent");
    drop(spy);
    let rightful = world.proxy(&vault, "vault-1", "vault");
    assert_eq!(world.replica.sum("streams", &[]), 1.0);
    drop(rightful);
}
