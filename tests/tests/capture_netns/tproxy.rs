//! Inbound connections by TPROXY: nothing of them is rewritten, and what the proxy's listener cannot take is redirected.

use std::{path::Path, process::Command};

use outrigger_tests::{LONG, Wire, binary, eventually, netns::Pod};

use super::mesh::{Mesh, PORT, VIP};

fn capture(pod: &Pod) {
    pod.capture_with(&["--inbound-mode", "tproxy"]);
}

/// The proxy as a container has it that may listen transparently: root, known by its group, with one capability.
fn transparent(pod: &Pod, capability: &str) -> Command {
    let mut command = pod.exec(Path::new("setpriv"));
    let only = format!("-all,+{capability}");
    command.args(["--reuid=0", "--regid=2112", "--clear-groups", "--bounding-set", &only, "--inh-caps", "-all"]);
    command.arg("--no-new-privs").arg(binary::proxy());
    command
}

/// Starts the proxy of `api` again, with this capability.
fn restart(mesh: &mut Mesh, capability: &str) {
    let api = &mut mesh.api;
    api.proxy.signal("KILL");
    api.proxy.wait_exit(LONG);
    api.proxy = mesh.control.proxy_in(&api.pod, "api", transparent(&api.pod, capability));
    api.proxy.wait_ready();
}

/// Connections of the pod whose own end is the inbound listener: those that were redirected.
fn redirected(pod: &Pod) -> usize {
    let output = pod.exec(Path::new("ss")).args(["-Htn", "state", "established", "( sport = :9992 )"]).output();
    String::from_utf8_lossy(&output.expect("ip runs").stdout).lines().count()
}

#[test]
fn netns_tproxy_gives_connections_to_the_proxy_as_they_are() {
    for capability in ["net_raw", "net_admin"] {
        let Some(mut mesh) = Mesh::start_with("netns_tproxy", "permissive", capture) else { return };
        restart(&mut mesh, capability);
        let app = mesh.api.app(PORT);
        for at in [mesh.api.at(PORT), mesh.api.at6(PORT)] {
            let mut plain = Wire::connect(at);
            let reply = plain.exchange("GET / HTTP/1.1\r\nHost: api\r\n\r\n");
            assert_eq!((reply.status, reply.text()), (200, "api".into()), "{capability} {at}");
            assert_eq!(redirected(&mesh.api.pod), 0, "{capability} {at}");
        }
        assert!(mesh.api.connections("inbound", "downstream", "false") > 1.5);
        // With mutual TLS, and through the proxy's own outbound side, whose user is root and whose group is not.
        let _own = mesh.web.app(PORT);
        for url in [format!("http://{VIP}/"), format!("http://{}/", mesh.api.at6(PORT))] {
            assert_eq!(mesh.web.get(&url), "api", "{url}");
        }
        assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
        assert_eq!(mesh.api.get(&format!("http://{}/", mesh.web.at(PORT))), "web");
        assert!(mesh.api.connections("outbound", "downstream", "false") > 0.5);
        assert_eq!(app.requests().len(), 4);
        // Loops are seen without a rewritten address, too.
        let before = mesh.api.proxy.metrics().sum("rejected_total", &[("reason", "proxy_loop_detected")]);
        for port in [9991, 9992] {
            assert!(!mesh.web.pod.curl(2112, &[&format!("http://{}/", mesh.api.at(port))]).0, "{port}");
        }
        mesh.api.proxy.wait_metric("rejected_total", &[("reason", "proxy_loop_detected")], |n| n > before + 1.5);
    }
}

#[test]
fn netns_tproxy_to_a_listener_that_is_not_transparent_is_a_redirection() {
    let Some(mesh) = Mesh::start_with("netns_tproxy_fallback", "strict", capture) else { return };
    let _app = mesh.api.app(PORT);
    for url in [format!("http://{VIP}/"), format!("http://{}/", mesh.api.at6(PORT))] {
        assert_eq!(mesh.web.get(&url), "api", "{url}");
    }
    assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
    // Nobody gets past the proxy for it, nor where there is none.
    let stranger = mesh.net.pod();
    let url = format!("http://{}/", mesh.api.at(PORT));
    assert!(!stranger.curl(1000, &[&url]).0);
    mesh.api.proxy.signal("KILL");
    eventually("the proxy is gone", LONG, || {
        let (ok, text) = stranger.curl(1000, &[&url]);
        assert!(!ok);
        ["refused", "Couldn't connect"].iter().any(|words| text.contains(words)).then_some(())
    });
}

#[test]
fn netns_tproxy_by_iptables() {
    let by_iptables = |pod: &Pod| pod.capture_with(&["--inbound-mode", "tproxy", "--backend", "iptables"]);
    let Some(_) = outrigger_tests::peers::program("netns_tproxy_by_iptables", "iptables-nft-restore") else { return };
    let Some(mut mesh) = Mesh::start_with("netns_tproxy_by_iptables", "strict", by_iptables) else { return };
    restart(&mut mesh, "net_raw");
    let _app = mesh.api.app(PORT);
    for url in [format!("http://{VIP}/"), format!("http://{}/", mesh.api.at6(PORT))] {
        assert_eq!(mesh.web.get(&url), "api", "{url}");
    }
    assert_eq!(redirected(&mesh.api.pod), 0);
    assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
}
