//! Upstreams that are nobody's sidecar: `tls: { mode: simple }` to nginx and openssl, by name and by root.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use outrigger_tests::{
    LONG, Origin, Proxy, Reply, Wire, config, eventually,
    peers::{self, Nginx},
    pki::{Ca, Files},
    ports::free_ports,
};

const NAME: &str = "api.test";

/// An nginx that says what it was asked with; `more` are further words of `listen` and the server.
fn nginx(scenario: &str, ca: &Ca, listen_more: &str, more: &str) -> Option<Nginx> {
    Nginx::start(scenario, |dir, listen| {
        let leaf = ca.server(NAME);
        std::fs::write(dir.join("s.crt"), &leaf.pem).expect("writable");
        std::fs::write(dir.join("s.key"), &leaf.key).expect("writable");
        format!(
            "server {{ listen {listen} ssl {listen_more}; {more} ssl_certificate {0}/s.crt; ssl_certificate_key {0}/s.key;\n\
             location / {{ return 200 \"$server_protocol $ssl_protocol $ssl_server_name $http_x_request_id\"; }} }}",
            dir.display()
        )
    })
}

/// A proxy that calls `app` there.
fn proxy(to: SocketAddr, fields: &str, sni: &str, roots: &Files) -> Proxy {
    let ca = roots.path("ca.crt").display().to_string();
    let fields =
        format!("{fields} endpoints: [{{ address: \"{to}\" }}], tls: {{ mode: simple, sni: {sni}, ca: \"{ca}\" }}");
    Proxy::start(&(config::proxy(&[config::OUTBOUND]) + &config::upstream_with("app", &fields)))
}

fn ask(proxy: &Proxy) -> Reply {
    Wire::connect(proxy.outbound()).exchange("GET / HTTP/1.1\r\nHost: app\r\nx-request-id: s-1\r\n\r\n")
}

/// 502 with this token; returns the message.
#[track_caller]
fn refusal(proxy: &Proxy, token: &str) -> String {
    let reply = ask(proxy);
    assert_eq!(reply.status, 502, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["error"], token, "{body}");
    let status = reply.header("proxy-status").unwrap_or_default();
    assert!(status.contains(&format!("error={token}")), "{status}");
    body["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_right_name_and_root_in_every_version() {
    let scenario = "the_right_name_and_root_in_every_version";
    let ca = Ca::new("public");
    let roots = Files::new(&ca.server("unused.test"), ca.pem());
    for (protocol, version) in [("", "HTTP/1.1"), ("protocol: http,", "HTTP/1.1"), ("protocol: http2,", "HTTP/2.0")] {
        for tls in ["TLSv1.2", "TLSv1.3"] {
            let Some(nginx) = nginx(scenario, &ca, "http2", &format!("ssl_protocols {tls};")) else { return };
            let proxy = proxy(nginx.address(), protocol, NAME, &roots);
            for _ in 0..2 {
                let reply = ask(&proxy);
                let words = format!("{version} {tls} {NAME} s-1");
                assert_eq!((reply.status, reply.text()), (200, words), "{protocol:?}");
            }
            let opened = proxy.metrics().sum("connections_total", &[("side", "upstream"), ("tls", "true")]);
            assert_eq!(opened, 1.0, "the connection is used again");
        }
    }
}

#[test]
fn a_wrong_name_or_root_is_a_certificate_error() {
    let scenario = "a_wrong_name_or_root_is_a_certificate_error";
    let ca = Ca::new("public");
    let roots = Files::new(&ca.server("unused.test"), ca.pem());
    let Some(nginx) = nginx(scenario, &ca, "http2", "") else { return };
    for protocol in ["protocol: http,", "protocol: http2,"] {
        let message = refusal(&proxy(nginx.address(), protocol, "other.test", &roots), "tls_certificate_error");
        assert!(message.contains("server") && message.contains("other.test"), "{message}");
        let stranger = Ca::new("another");
        let unknown = Files::new(&stranger.server("unused.test"), stranger.pem());
        let message = refusal(&proxy(nginx.address(), protocol, NAME, &unknown), "tls_certificate_error");
        assert!(message.contains("server") && message.contains("no root"), "{message}");
    }
}

#[test]
fn a_server_without_tls_or_without_http_2() {
    let scenario = "a_server_without_tls_or_without_http_2";
    let ca = Ca::new("public");
    let roots = Files::new(&ca.server("unused.test"), ca.pem());
    let plain = Origin::hello();
    refusal(&proxy(plain.address(), "", NAME, &roots), "tls_protocol_error");
    // Never a fall-back to plaintext.
    assert!(plain.requests().iter().all(|r| !r.target.starts_with('/')));
    let Some(old) = nginx(scenario, &ca, "", "") else { return };
    let message = refusal(&proxy(old.address(), "protocol: http2,", NAME, &roots), "tls_alert_received");
    assert!(message.contains("no_application_protocol"), "{message}");
    assert_eq!(ask(&proxy(old.address(), "", NAME, &roots)).status, 200);
}

#[test]
fn openssl_that_closes_each_connection() {
    let scenario = "openssl_that_closes_each_connection";
    let Some(openssl) = peers::program(scenario, "openssl") else { return };
    let ca = Ca::new("public");
    let files = Files::new(&ca.server(NAME), ca.pem());
    let [free] = free_ports();
    let path = |name| files.path(name).display().to_string();
    let mut child = Command::new(openssl)
        .args(["s_server", "-quiet", "-www", "-accept", &free.to_string()])
        .args(["-cert", &path("tls.crt"), "-key", &path("tls.key")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    eventually("openssl listens", LONG, || TcpStream::connect(free).ok());
    let proxy = proxy(free, "protocol: http,", NAME, &files);
    for _ in 0..3 {
        let reply = ask(&proxy);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("TLSv1.3"), "{}", reply.text());
    }
    child.kill().ok();
    child.wait().ok();
}

#[test]
fn a_root_that_is_replaced_counts_from_then_on() {
    let scenario = "a_root_that_is_replaced_counts_from_then_on";
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let roots = Files::new(&old.server("unused.test"), old.pem());
    let Some(nginx) = nginx(scenario, &new, "", "") else { return };
    let proxy = proxy(nginx.address(), "", NAME, &roots);
    refusal(&proxy, "tls_certificate_error");
    roots.put("ca.crt", &format!("{}{}", old.pem(), new.pem()));
    eventually("the new root counts", LONG, || (ask(&proxy).status == 200).then_some(()));
    // And the other way round: kept connections and sessions do not outlive the trust that they were made under.
    roots.put("ca.crt", old.pem());
    eventually("the old trust is gone", LONG, || (ask(&proxy).status == 502).then_some(()));
}
