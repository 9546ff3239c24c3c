//! What is not captured: each row of the table in `docs/capture.md`, seen from the other end of the connection.
//!
//! The server is outside the mesh. A connection that was captured comes from the proxy, which counts it.

use std::net::SocketAddr;

use outrigger_tests::netns::Pod;

use super::mesh::{APP, Mesh, PORT, serve};

/// Connections of the app that `web`'s proxy has taken.
fn taken(mesh: &Mesh) -> f64 {
    mesh.web.connections("outbound", "downstream", "false")
}

#[test]
fn netns_capture_leaves_out_what_is_listed() {
    let Some(mesh) = Mesh::start_with("netns_capture_leaves_out_what_is_listed", "permissive", |pod| pod.capture())
    else {
        return;
    };
    let (near, far) = (mesh.net.pod(), mesh.net.pod());
    let ports = [80, 81, 8000, 8010, 53];
    let _servers: Vec<_> = [(&near, "near"), (&far, "far")]
        .into_iter()
        .flat_map(|(pod, name)| ports.map(|port| serve(pod, port, name)))
        .collect();
    let call = |uid: u32, ip: std::net::IpAddr, port: u16| {
        let before = taken(&mesh);
        let (ok, text) = mesh.web.pod.curl(uid, &[&format!("http://{}/", SocketAddr::new(ip, port))]);
        assert!(ok, "{uid} to {ip}:{port}: {text}");
        taken(&mesh) > before
    };
    for ip in [near.ip(), near.ip6()] {
        assert!(call(APP, ip, 80), "{ip}");
        assert!(call(0, ip, 81), "{ip}: root is an app, too");
        assert!(!call(APP, ip, 53), "{ip}: name resolution over TCP");
        assert!(!call(2112, ip, 80), "{ip}: the proxy's own user");
    }
    let flags = |pod: &Pod| format!("{},{}", pod.ip(), pod.ip6());
    let cidrs = flags(&far);
    mesh.web.pod.capture_with(&[
        "--skip-outbound-ports",
        "81,8000-8010",
        "--skip-outbound-cidrs",
        &cidrs,
        "--skip-uids",
        "1001, 1002",
    ]);
    for ip in [near.ip(), near.ip6()] {
        assert!(call(APP, ip, 80), "{ip}");
        for port in [81, 8000, 8010] {
            assert!(!call(APP, ip, port), "{ip}:{port} is listed");
        }
        assert!(!call(1001, ip, 80) && !call(1002, ip, 80), "{ip}: users that are listed");
    }
    for ip in [far.ip(), far.ip6()] {
        assert!(!call(APP, ip, 80), "{ip} is listed");
    }
    // One version of IP alone.
    mesh.web.pod.capture_with(&["--ip-families", "ipv4"]);
    assert!(call(APP, near.ip(), 80) && !call(APP, near.ip6(), 80));
    mesh.web.pod.capture_with(&["--ip-families", "ipv6"]);
    assert!(!call(APP, near.ip(), 80) && call(APP, near.ip6(), 80));
}

#[test]
fn netns_capture_leaves_out_ports_of_the_pod() {
    let Some(mesh) = Mesh::start_with("netns_capture_leaves_out_ports_of_the_pod", "strict", |pod| pod.capture())
    else {
        return;
    };
    let ports = [PORT, 8081, 9000, 53];
    let _apps: Vec<_> = ports.map(|port| mesh.api.app(port)).into();
    // A machine of no mesh, so that nothing gets in where it is captured.
    let stranger = mesh.net.pod();
    let open = |port: u16| {
        let reached =
            [mesh.api.at(port), mesh.api.at6(port)].map(|at| stranger.curl(APP, &[&format!("http://{at}/")]).0);
        assert_eq!(reached[0], reached[1], "both versions of IP at {port}");
        reached[0]
    };
    assert_eq!(ports.map(open), [false, false, false, true]);
    mesh.api.pod.capture_with(&["--skip-inbound-ports", "8081,9000-9100"]);
    assert_eq!(ports.map(open), [false, true, true, true]);
    mesh.api.pod.capture_with(&["--capture-inbound-ports", "8081,53", "--skip-inbound-ports", "9000"]);
    assert_eq!(ports.map(open), [true, false, true, false]);
    // The admin port is never captured, whatever is asked for.
    mesh.api.pod.capture_with(&["--capture-inbound-ports", "1-65535"]);
    let (ok, text) = stranger.curl(APP, &[&format!("http://{}/livez", mesh.api.at(9990))]);
    assert!(ok, "{text}");
}

#[test]
fn netns_capture_lets_an_app_call_itself() {
    let Some(mesh) = Mesh::start("netns_capture_lets_an_app_call_itself") else { return };
    let app = mesh.api.app(PORT);
    let before = mesh.api.connections("outbound", "downstream", "false");
    // By loopback and by its own address, nothing leaves the pod and no proxy is in the way.
    for url in [format!("http://127.0.0.1:{PORT}/"), format!("http://[::1]:{PORT}/")] {
        assert_eq!(mesh.api.get(&url), "api");
    }
    for at in [mesh.api.at(PORT), mesh.api.at6(PORT)] {
        assert_eq!(mesh.api.get(&format!("http://{at}/")), "api");
    }
    assert!(mesh.api.connections("outbound", "downstream", "false") - before < 0.5);
    // By its own Service it is a client like any other: its proxy chooses the pod itself, and goes there without a detour.
    assert_eq!(mesh.api.get(&format!("http://{}/", super::mesh::VIP)), "api");
    assert!(mesh.api.connections("outbound", "downstream", "false") - before > 0.5);
    assert!(mesh.api.connections("inbound", "downstream", "true") < 0.5);
    assert_eq!(app.requests().len(), 5);
}
