//! Connections that would come back to the proxy: each is refused, each is counted, and none is made.

use outrigger_config::discovery::{Binding, resource::Body};
use outrigger_tests::{
    Wire,
    discovery::{endpoint, service_key},
    wire,
};

use super::mesh::{APP, Member, Mesh, PORT, serve};

/// Loops that a proxy has refused.
fn refused(member: &Member) -> f64 {
    member.proxy.metrics().sum("rejected_total", &[("reason", "proxy_loop_detected")])
}

#[track_caller]
fn is_refused(member: &Member, what: &str, call: impl FnOnce() -> bool) {
    let before = refused(member);
    assert!(!call(), "{what} was answered");
    member.proxy.wait_metric("rejected_total", &[("reason", "proxy_loop_detected")], |n| n > before + 0.5);
}

#[test]
fn netns_capture_refuses_and_counts_what_would_come_back() {
    let Some(mesh) = Mesh::start_with("netns_capture_loops", "permissive", |pod| pod.capture()) else { return };
    let _app = mesh.api.app(PORT);
    let stranger = mesh.net.pod();
    // From outside, to the ports that only the kernel leads to.
    for at in [mesh.api.at(9992), mesh.api.at(9991), mesh.api.at6(9992), mesh.api.at6(9991)] {
        is_refused(&mesh.api, &format!("{at} from outside"), || stranger.curl(APP, &[&format!("http://{at}/")]).0);
    }
    // From the app itself.
    for at in ["127.0.0.1:9992".to_owned(), "[::1]:9992".to_owned(), mesh.api.at(9992).to_string()] {
        is_refused(&mesh.api, &format!("{at} from the app"), || mesh.api.pod.curl(APP, &[&format!("http://{at}/")]).0);
    }
    // Through the outbound listener, by a host that is the listener, or the other one, under whatever address.
    for host in ["127.0.0.1:9991", "[::1]:9991", "0.0.0.0:9991", "localhost:9991", "127.0.0.1:9992"] {
        let ask = || {
            mesh.api.pod.inside(|| {
                let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                wire::once("127.0.0.1:9991".parse().expect("an address"), &request).status == 200
            })
        };
        is_refused(&mesh.api, host, ask);
    }
    let own = mesh.api.at(9992).to_string();
    let reply = mesh.api.pod.inside(|| {
        wire::once("127.0.0.1:9991".parse().expect("an address"), &format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n"))
    });
    assert_eq!(reply.status, 502, "{reply:?}");
    let why = reply.header("proxy-status").unwrap_or_default();
    assert!(why.contains("error=proxy_loop_detected"), "{why}");
    // A Service whose endpoint is the pod's own inbound port, for HTTP and for a client that says nothing.
    mesh.control.service("odd", 80, &[endpoint(mesh.api.at(9992))], &[]);
    let binding = Binding { service: service_key("odd", 80), pinned: None };
    mesh.control.put("address/10.96.0.66:80", Body::Binding(binding));
    is_refused(&mesh.api, "an odd Service", || mesh.api.pod.curl(APP, &["-f", "http://10.96.0.66/"]).0);
    let mut tls = mesh.api.pod.inside(|| Wire::connect("10.96.0.66:80".parse().expect("an address")));
    let before = refused(&mesh.api);
    tls.send(b"\0\x01bytes of no protocol");
    assert!(tls.is_closed());
    assert!(refused(&mesh.api) > before + 0.5);
    // The proxy is none the worse for it, and holds no connection.
    assert_eq!(mesh.web.get(&format!("http://{}/", mesh.api.at(PORT))), "api");
    mesh.api.proxy.wait_metric("connections", &[("direction", "outbound"), ("side", "downstream")], |n| n < 0.5);
}

#[test]
fn netns_capture_takes_the_same_ports_elsewhere_for_what_they_are() {
    let Some(mesh) = Mesh::start("netns_capture_same_ports") else { return };
    let other = mesh.net.pod();
    let _servers = [9991, 9992].map(|port| serve(&other, port, "other"));
    for port in [9991, 9992] {
        assert_eq!(mesh.web.get(&format!("http://{}:{port}/", other.ip())), "other");
    }
    assert!(refused(&mesh.web) < 0.5);
}
