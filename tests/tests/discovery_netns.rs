//! A proxy in a pod whose connections the kernel redirects to it, by the rules of `redirect install`: where they were going
//! decides.
//!
//! Needs root and network namespaces. Who speaks what to whom through two proxies is in `capture_netns.rs`.

use std::net::{SocketAddr, TcpListener};

use outrigger_config::discovery::{Binding, Workload, resource::Body};
use outrigger_tests::{
    Origin, Proxy, Response, Wire, binary,
    discovery::{ControlPlane, endpoint, port, service_key},
    netns::{Net, Pod},
    wire,
};

/// A pod, its proxy, and who tells that what.
struct Rig {
    proxy: Proxy,
    pod: Pod,
    control: ControlPlane,
    net: Net,
}

impl Rig {
    fn start(scenario: &str) -> Option<Self> {
        let net = Net::start(scenario)?;
        let control = ControlPlane::start_at(net.host().into());
        let pod = net.pod();
        pod.capture();
        let proxy = control.proxy_in(&pod, "web", pod.command(binary::proxy()));
        proxy.wait_ready();
        Some(Self { proxy, pod, control, net })
    }

    /// A request of the app to this address, whatever host it names.
    #[track_caller]
    fn get(&self, to: SocketAddr) -> String {
        let ask = || wire::once(to, "GET / HTTP/1.1\r\nHost: whatever.example\r\nConnection: close\r\n\r\n");
        let reply = self.pod.inside(ask);
        assert_eq!(reply.status, 200, "{to}: {reply:?}");
        reply.text()
    }

    /// Waits until more than `least` were counted: a request is, a moment after its client has the answer.
    #[track_caller]
    fn wait_count(&self, direction: &str, upstream: &str, least: f64) {
        self.proxy.wait_metric("requests_total", &[("direction", direction), ("upstream", upstream)], |n| n > least);
    }

    fn binding(&self, to: SocketAddr, service: &str, pinned: bool) {
        let pinned = pinned.then(|| endpoint(to));
        self.control.put(&format!("address/{to}"), Body::Binding(Binding { service: service.to_owned(), pinned }));
    }
}

/// A machine of its own, and a server there that answers with its name.
fn server(net: &Net, port: u16, name: &'static str) -> (Pod, Origin) {
    let pod = net.pod();
    let origin = named(&pod, port, name);
    (pod, origin)
}

fn named(pod: &Pod, port: u16, name: &'static str) -> Origin {
    pod.inside(|| {
        let listener = TcpListener::bind(("::", port)).expect("the port is free in the pod");
        Origin::on(listener, move |wire, _, _| {
            while let Ok(Some(request)) = wire.request() {
                if wire.try_send(Response::text(name).wire(&request.method)).is_err() {
                    break;
                }
            }
        })
    })
}

#[test]
fn netns_outbound_goes_by_the_original_destination() {
    let Some(mut rig) = Rig::start("netns_outbound_goes_by_the_original_destination") else { return };
    let at = |(pod, _): &(Pod, Origin)| SocketAddr::new(pod.ip(), 9000);
    let orders = server(&rig.net, 9000, "orders");
    let (one, three) = (server(&rig.net, 9000, "one"), server(&rig.net, 9000, "three"));
    let (outside, unknown) = (server(&rig.net, 9000, "outside"), server(&rig.net, 9000, "unknown"));
    let greeter = outside.0.inside(|| {
        let listener = TcpListener::bind(("0.0.0.0", 25)).expect("the port is free in the pod");
        Origin::on(listener, |wire, _, _| {
            wire.try_send("220 hello\r\n").ok();
            wire.line();
        })
    });
    // A ClusterIP, which no machine has.
    let cluster_ip: SocketAddr = "10.96.0.10:80".parse().expect("an address");
    rig.control.service("orders", 80, &[endpoint(at(&orders))], &[]);
    rig.binding(cluster_ip, &service_key("orders", 80), false);
    rig.control.service("db", 9000, &[endpoint(at(&one)), endpoint(at(&three))], &[]);
    rig.binding(at(&three), &service_key("db", 9000), true);
    rig.binding(at(&one), "", true);
    assert_eq!(rig.get(cluster_ip), "orders");
    rig.wait_count("outbound", "shop/orders:80", 0.5);
    // The pod that the caller has chosen, each time.
    for _ in 0..8 {
        assert_eq!(rig.get(at(&three)), "three");
    }
    rig.wait_count("outbound", "shop/db:9000", 7.5);
    assert_eq!(rig.get(at(&one)), "one");
    rig.wait_count("outbound", "pods", 0.5);
    // Outside the mesh, both families, and a server that speaks first.
    assert_eq!(rig.get(at(&outside)), "outside");
    assert_eq!(rig.get(SocketAddr::new(outside.0.ip6(), 9000)), "outside");
    rig.wait_count("outbound", "outside", 1.5);
    let greeter = SocketAddr::new(outside.0.ip(), greeter.address().port());
    assert_eq!(rig.pod.inside(|| Wire::connect(greeter).line()), "220 hello\r\n");
    // Nobody waits for a control plane that is away.
    rig.control.kill();
    rig.proxy.wait_metric("control_plane_connected", &[], |connected| connected < 0.5);
    assert_eq!(rig.get(at(&unknown)), "unknown");
    assert_eq!(rig.get(cluster_ip), "orders");
    rig.proxy.wait_metric("discovery_events_total", &[("event", "unknown_passed")], |n| n > 0.5);
}

#[test]
fn netns_inbound_goes_to_the_app_under_the_rules_of_its_port() {
    let Some(rig) = Rig::start("netns_inbound_goes_to_the_app_under_the_rules_of_its_port") else { return };
    let apps: Vec<_> = [8080, 8081, 8082].map(|p| named(&rig.pod, p, "app")).into();
    let ports = vec![port(8080, "permissive"), port(8081, "strict")];
    rig.control.put("workload", Body::Workload(Workload { ports, mtls: "permissive".into(), ..Workload::default() }));
    let client = rig.net.pod();
    let curl = |port: u16| client.curl(0, &[&format!("http://{}:{port}/", rig.pod.ip())]);
    rig.proxy.wait_metric("requests_total", &[("upstream", "inbound/8080")], |n| {
        assert_eq!(curl(8080), (true, "app".into()));
        n > 0.5
    });
    // Plaintext, where only proven callers are let in.
    assert!(!curl(8081).0);
    // A port that no workload lists has the pod's own rules.
    assert_eq!(curl(8082), (true, "app".into()));
    assert_eq!(apps[1].accepted(), 0);
    // The inbound port itself leads nowhere.
    assert!(!curl(9992).0);
    rig.proxy.wait_metric("discovery_events_total", &[("event", "loop_refused")], |n| n > 0.5);
    rig.proxy.wait_metric("rejected_total", &[("reason", "proxy_loop_detected")], |n| n > 0.5);
}
