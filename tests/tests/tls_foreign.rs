//! Peers that are no proxy of ours, with mutual TLS both ways: nginx, and the tools of OpenSSL.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use outrigger_tests::{
    LONG, Origin, Proxy, Wire, config, eventually,
    peers::{self, Nginx},
    pki::{Ca, FAR, Files},
    ports::free_ports,
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// A proxy that calls `to`, which has to be `API`.
fn caller(own: &Files, to: SocketAddr, protocol: &str) -> Proxy {
    let tls = format!("tls: {{ mode: mesh, identity: \"{API}\" }}");
    let fields = format!("{protocol} endpoints: [{{ address: \"{to}\" }}], {tls}");
    Proxy::start(&(config::proxy_with(&own.yaml(), &[config::OUTBOUND]) + &config::upstream_with("app", &fields)))
}

/// A server of nginx that wants to see a certificate of `files`' bundle.
fn verifying(scenario: &str, files: &Files) -> Option<Nginx> {
    let dir = files.dir().display().to_string();
    Nginx::start(scenario, |_: &Path, listen| {
        format!(
            "server {{ listen {listen} ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {dir}/tls.crt; \
             ssl_certificate_key {dir}/tls.key; ssl_client_certificate {dir}/ca.crt; ssl_verify_client on; \
             location / {{ return 200 \"$ssl_client_verify $server_protocol $ssl_protocol\"; }} }}"
        )
    })
}

#[test]
fn nginx_as_the_server_sees_our_certificate_and_we_see_its() {
    let scenario = "nginx_as_the_server_sees_our_certificate";
    let ca = Ca::new("mesh");
    let (api, web) = (ca.identity(API), ca.identity(WEB));
    let Some(nginx) = verifying(scenario, &api) else { return };
    for (protocol, version) in [("protocol: http,", "HTTP/1.1"), ("protocol: http2,", "HTTP/2.0"), ("", "HTTP/1.1")] {
        let reply = Wire::connect(caller(&web, nginx.address(), protocol).outbound()).get("/");
        assert_eq!((reply.status, reply.text()), (200, format!("SUCCESS {version} TLSv1.3")), "{protocol}");
    }
    // Of another root, nginx refuses us; as somebody else, we refuse nginx.
    let stranger = Files::new(&Ca::new("mesh").workload(WEB, FAR), ca.pem());
    let reply = Wire::connect(caller(&stranger, nginx.address(), "").outbound()).get("/");
    assert!(reply.status == 400 || reply.status == 502, "{reply:?}");
    let Some(other) = verifying(scenario, &ca.identity(WEB)) else { return };
    let reply = Wire::connect(caller(&web, other.address(), "").outbound()).get("/");
    assert_eq!((reply.status, reply.json()["error"].as_str()), (502, Some("tls_certificate_error")));
}

#[test]
fn nginx_as_the_client_is_known_by_its_certificate() {
    let scenario = "nginx_as_the_client_is_known_by_its_certificate";
    let ca = Ca::new("mesh");
    let (api, web, origin) = (ca.identity(API), ca.identity(WEB), Origin::hello());
    for mode in ["strict", "permissive"] {
        let listener = config::inbound(&format!("mtls: {mode}"));
        let yaml = config::proxy_with(&api.yaml(), &[&listener]) + &config::upstream("app", origin.address());
        let proxy = Proxy::start(&yaml);
        let (dir, to) = (web.dir().display().to_string(), proxy.inbound());
        let Some(nginx) = Nginx::start(scenario, |_: &Path, listen| {
            format!(
                "server {{ listen {listen}; location / {{ proxy_pass https://{to}; proxy_ssl_certificate {dir}/tls.crt; \
                 proxy_ssl_certificate_key {dir}/tls.key; proxy_ssl_trusted_certificate {dir}/ca.crt; \
                 proxy_ssl_protocols TLSv1.3; proxy_set_header x-forwarded-client-cert URI=spiffe://a/b; }} }}"
            )
        }) else {
            return;
        };
        let reply = Wire::connect(nginx.address()).get("/through");
        assert_eq!((reply.status, reply.text()), (200, "GET /through".to_owned()), "{mode}");
        let got = origin.last();
        let named: Vec<_> =
            got.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("x-forwarded-client-cert")).collect();
        assert!(named.len() == 1 && named[0].1.ends_with(&format!(";URI={WEB}")), "{named:?}");
    }
}

/// A child that is killed with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn openssl_as_the_server_demands_a_certificate() {
    let scenario = "openssl_as_the_server_demands_a_certificate";
    let Some(openssl) = peers::program(scenario, "openssl") else { return };
    let ca = Ca::new("mesh");
    let (api, web) = (ca.identity(API), ca.identity(WEB));
    let [free] = free_ports();
    let path = |name| api.path(name).display().to_string();
    let mut command = Command::new(openssl);
    command.args(["s_server", "-quiet", "-www", "-accept", &free.to_string(), "-Verify", "2", "-verify_return_error"]);
    command.args(["-cert", &path("tls.crt"), "-key", &path("tls.key"), "-CAfile", &path("ca.crt"), "-tls1_3"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Killed(command.spawn().expect("openssl starts"));
    eventually("openssl listens", LONG, || TcpStream::connect(free).ok());
    let proxy = caller(&web, free, "protocol: http,");
    for _ in 0..3 {
        let reply = Wire::connect(proxy.outbound()).get("/");
        assert!(reply.status == 200 && reply.text().contains("TLSv1.3"), "{}", reply.text());
    }
    let stranger = Files::new(&Ca::new("other").workload(WEB, FAR), ca.pem());
    let reply = Wire::connect(caller(&stranger, free, "protocol: http,").outbound()).get("/");
    assert_eq!((reply.status, reply.json()["error"].as_str()), (502, Some("tls_alert_received")), "{}", reply.text());
}
