//! A proxy that real nftables rules redirect to, in a network namespace of its own: where connections were going decides.
//!
//! Needs root. The test runs itself again under `unshare --net`, so nothing that it sets up is seen outside, and all of it goes
//! with the process.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use outrigger_config::discovery::{Binding, Workload, resource::Body};
use outrigger_tests::{
    Origin, Proxy, Wire,
    discovery::{ControlPlane, endpoint, port, service_key},
    peers, wire,
};

/// The proxy's user, whose own connections no rule redirects.
const UID: u32 = 2112;
/// Set in the run inside the namespace.
const INSIDE: &str = "OUTRIGGER_TEST_NETNS";
/// The network of the pod, and of a client beside it.
const POD: &str = "10.1.0.1";
const CLIENT: &str = "10.1.0.9";

/// Runs this test again in a network namespace. True: this is that run.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let has = |program: &str| Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let missing = ["unshare", "ip", "nft", "setpriv"].into_iter().find(|p| !has(p).is_ok_and(|o| o.status.success()));
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    if let Some(why) = missing.map(|p| format!("{p} is missing")).or_else(|| (!root).then(|| "it needs root".into())) {
        peers::skip::<()>(test, &why);
        return false;
    }
    let exe = std::env::current_exe().expect("a running test has a path");
    let mut again = Command::new("unshare");
    again.arg("--net").arg(exe).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let status = again.status().expect("unshare runs");
    assert!(status.success(), "{test} in a network namespace: {status}");
    false
}

#[track_caller]
fn run(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
}

fn listen(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).expect("an address of this namespace")
}

/// A server that answers with its name.
fn named(address: SocketAddr, name: &'static str) -> Origin {
    Origin::on(listen(address), move |wire, _, _| {
        while let Ok(Some(_)) = wire.request() {
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            if wire.try_send(reply).is_err() {
                break;
            }
        }
    })
}

/// Addresses, and routes that lead what is nowhere to where the rules see it.
fn network() {
    run("ip link set lo up; ip route add default dev lo; ip -6 route add default dev lo || true");
    for ip in ["10.2.0.2/32", "10.2.0.3/32", "10.2.0.4/32", "10.2.0.5/32"] {
        run(&format!("ip addr add {ip} dev lo"));
    }
    run("ip -6 addr add fd00:2::2/128 dev lo nodad");
}

/// What the pod's rules are: in to the inbound port, out to the outbound ports but for the proxy's own user.
fn redirect(proxy: &Proxy) {
    let (inbound, v4, v6) = (proxy.inbound().port(), proxy.outbound().port(), proxy.address("outbound-2").port());
    run(&format!(
        "nft -f - <<'EOF'
table inet outrigger {{
  chain output {{
    type nat hook output priority -100;
    meta skuid {UID} return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr 10.1.0.0/24 return
    meta l4proto tcp meta nfproto ipv4 redirect to :{v4}
    meta l4proto tcp meta nfproto ipv6 redirect to :{v6}
  }}
  chain prerouting {{
    type nat hook prerouting priority -100;
    iifname \"pod\" meta l4proto tcp redirect to :{inbound}
  }}
}}
EOF"
    ));
}

fn start(control: &ControlPlane) -> Proxy {
    let proxy = control.proxy_as(
        UID,
        &["--pod-ips", POD, "--inbound", "0.0.0.0:0", "--outbound", "127.0.0.1:0", "--outbound", "[::1]:0"],
    );
    proxy.wait_ready();
    redirect(&proxy);
    proxy
}

fn get(to: SocketAddr) -> String {
    let reply = wire::once(to, "GET / HTTP/1.1\r\nHost: whatever.example\r\nConnection: close\r\n\r\n");
    assert_eq!(reply.status, 200, "{to}: {reply:?}");
    reply.text()
}

fn count(proxy: &Proxy, direction: &str, upstream: &str) -> f64 {
    proxy.metrics().sum("requests_total", &[("direction", direction), ("upstream", upstream)])
}

#[test]
fn netns_outbound_goes_by_the_original_destination() {
    if !inside("netns_outbound_goes_by_the_original_destination") {
        return;
    }
    network();
    let orders = Origin::named("orders");
    let (outside, v6) = (named(at("10.2.0.2", 9000), "outside"), named(at("fd00:2::2", 9000), "outside six"));
    let (one, three) = (named(at("10.2.0.4", 9000), "one"), named(at("10.2.0.3", 9000), "three"));
    let greeter = Origin::on(listen(at("10.2.0.2", 25)), |wire, _, _| {
        wire.try_send("220 hello\r\n").ok();
        wire.line();
    });
    let mut control = ControlPlane::start();
    control.service("orders", 80, &[endpoint(orders.address())], &[]);
    let binding = |service: &str, pinned| Body::Binding(Binding { service: service.to_owned(), pinned });
    control.put("address/10.96.0.10:80", binding(&service_key("orders", 80), None));
    control.service("db", 9000, &[endpoint(one.address()), endpoint(three.address())], &[]);
    control.put("address/10.2.0.3:9000", binding(&service_key("db", 9000), Some(endpoint(three.address()))));
    control.put("address/10.2.0.4:9000", binding("", Some(endpoint(one.address()))));
    let proxy = start(&control);
    // A ClusterIP, which no machine has.
    assert_eq!(get(at("10.96.0.10", 80)), "orders");
    assert!(count(&proxy, "outbound", "shop/orders:80") > 0.5);
    // The pod that the caller has chosen, each time.
    for _ in 0..8 {
        assert_eq!(get(at("10.2.0.3", 9000)), "three");
    }
    assert!(count(&proxy, "outbound", "shop/db:9000") > 7.5);
    assert_eq!(get(at("10.2.0.4", 9000)), "one");
    assert!(count(&proxy, "outbound", "pods") > 0.5);
    // Outside the mesh, both families, and a server that speaks first.
    assert_eq!(get(outside.address()), "outside");
    assert_eq!(get(v6.address()), "outside six");
    assert!(count(&proxy, "outbound", "outside") > 1.5);
    assert_eq!(Wire::connect(greeter.address()).line(), "220 hello\r\n");
    // Nobody waits for a control plane that is away.
    control.kill();
    proxy.wait_metric("control_plane_connected", &[], |connected| connected < 0.5);
    let unknown = named(at("10.2.0.5", 9000), "unknown");
    assert_eq!(get(unknown.address()), "unknown");
    assert_eq!(get(at("10.96.0.10", 80)), "orders");
    proxy.wait_metric("discovery_events_total", &[("event", "unknown_passed")], |n| n > 0.5);
}

#[test]
fn netns_inbound_goes_to_the_app_under_the_rules_of_its_port() {
    if !inside("netns_inbound_goes_to_the_app_under_the_rules_of_its_port") {
        return;
    }
    network();
    // A client beside the pod, on the other end of a wire.
    let client = format!("outrigger-{}", std::process::id());
    run(&format!(
        "ip netns add {client}; ip link add pod type veth peer name far; ip link set far netns {client};
         ip addr add {POD}/24 dev pod; ip link set pod up;
         ip -n {client} addr add {CLIENT}/24 dev far; ip -n {client} link set far up; ip -n {client} link set lo up"
    ));
    let _gone = Namespace(client.clone());
    let apps: Vec<_> = [8080, 8081, 8082].map(|p| named(at(POD, p), "app")).into();
    let control = ControlPlane::start();
    let ports = vec![port(8080, "permissive"), port(8081, "strict")];
    control.put("workload", Body::Workload(Workload { ports, mtls: "permissive".into(), ..Workload::default() }));
    let proxy = start(&control);
    let curl = |port: u16| {
        let url = format!("http://{POD}:{port}/");
        let output = Command::new("ip").args(["netns", "exec", &client, "curl", "-sS", "-m", "5", &url]).output();
        let output = output.expect("curl runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(curl(8080), (true, "app".into()));
    assert!(count(&proxy, "inbound", "inbound/8080") > 0.5);
    // Plaintext, where only proven callers are let in.
    assert!(!curl(8081).0);
    // A port that no workload lists has the pod's own rules.
    assert_eq!(curl(8082), (true, "app".into()));
    assert_eq!(apps[1].accepted(), 0);
    // The inbound port itself leads nowhere.
    let own = proxy.inbound().port();
    assert!(!curl(own).0);
    proxy.wait_metric("discovery_events_total", &[("event", "loop_refused")], |n| n > 0.5);
    assert!(TcpStream::connect(at(POD, 8080)).is_ok());
}

/// A named namespace, removed at the end.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.0]).status().ok();
    }
}
