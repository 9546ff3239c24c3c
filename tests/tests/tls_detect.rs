//! Mesh TLS beside an application's own: who is meant by a `ClientHello`, and where it goes by its server name.

use std::path::Path;

use outrigger_tests::{
    LONG, Origin, Proxy, Wire, config,
    curl::Curl,
    eventually,
    peers::{self, Nginx},
    pki::{Ca, Files},
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

/// An application that speaks TLS itself, as `site.test`, and its root in a file.
struct Site {
    nginx: Nginx,
    root: Files,
}

impl Site {
    fn start(scenario: &str, port: &str) -> Option<Self> {
        let ca = Ca::new("site");
        let leaf = ca.server("site.test");
        let root = Files::new(&leaf, ca.pem());
        let block = |dir: &Path, listen: std::net::SocketAddr| {
            format!(
                "server {{ listen {listen} ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {0}/tls.crt; ssl_certificate_key {0}/tls.key; \
                 location / {{ return 200 \"site {port} $ssl_server_name $server_protocol $ssl_protocol\"; }} }} # {1}",
                root.dir().display(),
                dir.display()
            )
        };
        let nginx = Nginx::start(scenario, block)?;
        Some(Self { nginx, root })
    }

    /// curl that believes this site alone, and finds its name at `proxy`.
    fn curl(&self, curl: &Curl, proxy: std::net::SocketAddr) -> Curl {
        let to = format!("site.test:443:{}:{}", proxy.ip(), proxy.port());
        curl.with(&["--no-insecure", "--cacert", &self.root.path("ca.crt").display().to_string(), "--connect-to", &to])
    }
}

#[test]
fn an_apps_own_tls_passes_a_permissive_listener_untouched() {
    let scenario = "an_apps_own_tls_passes_a_permissive_listener_untouched";
    let (Some(curl), Some(site)) = (Curl::find(scenario), Site::start(scenario, "a")) else { return };
    let ca = Ca::new("mesh");
    let own = ca.identity(ORDERS);
    for protocol in ["detect", "tcp"] {
        let listener = config::inbound(&format!("mtls: permissive, protocol: {protocol}"));
        let yaml = config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream("app", site.nginx.address());
        let proxy = Proxy::start(&yaml);
        let own = site.curl(&curl, proxy.inbound());
        for (args, words) in [
            (&["--http2"][..], "site a site.test HTTP/2.0 TLSv1.3"),
            (&["--http1.1", "--tls-max", "1.2"], "site a site.test HTTP/1.1 TLSv1.2"),
            (&["--no-alpn", "--http1.1"], "site a site.test HTTP/1.1 TLSv1.3"),
        ] {
            let outcome = own.with(args).url("https://site.test/");
            assert_eq!((outcome.code, outcome.status, &*outcome.body), (0, 200, words), "{protocol} {outcome:?}");
        }
        // Under strict it would be refused, so it counts among what is not.
        let kind = [("listener", "inbound"), ("kind", "app_tls")];
        proxy.wait_metric("permissive_plaintext_total", &kind, |n| n == 3.0);
        // A proxy's TLS is told from it all the same: it ends here, and the app gets what was in it.
        let web = ca.identity(WEB);
        let tls = format!("tls: {{ mode: mesh, identity: \"{ORDERS}\" }}");
        let fields = format!("hostnames: [app], endpoints: [{{ address: \"{}\" }}], {tls}", proxy.inbound());
        let client = Proxy::start(
            &(config::proxy_with(&web.yaml(), &[config::OUTBOUND]) + &config::upstream_with("peer", &fields)),
        );
        let reply = Wire::connect(client.outbound()).get("/");
        assert!(reply.status == 400 && reply.text().contains("plain HTTP request was sent to HTTPS"), "{reply:?}");
    }
}

#[test]
fn a_foreign_client_with_a_certificate_is_served_before_a_plain_app() {
    let scenario = "a_foreign_client_with_a_certificate_is_served_before_a_plain_app";
    let Some(curl) = Curl::find(scenario) else { return };
    let ca = Ca::new("mesh");
    let (own, web) = (ca.identity(ORDERS), ca.identity(WEB));
    let origin = Origin::hello();
    let listener = config::inbound("mtls: permissive");
    let yaml = config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream("app", origin.address());
    let proxy = Proxy::start(&yaml);
    for args in [&["--http2"][..], &["--http1.1"], &["--http1.1", "--no-alpn"]] {
        let outcome = curl.identity(&web).with(args).https(proxy.inbound(), "/in");
        assert_eq!((outcome.status, &*outcome.body), (200, "GET /in"), "{outcome:?}");
        let caller = origin.last().header("x-forwarded-client-cert").unwrap_or_default().to_owned();
        assert!(caller.ends_with(&format!(";URI={WEB}")), "{caller}");
    }
    // The app was asked once: every further connection of it carried a request.
    let asked = origin.accepted();
    for _ in 0..5 {
        assert_eq!(curl.identity(&web).https(proxy.inbound(), "/again").status, 200);
    }
    assert!(origin.accepted() <= asked + 1, "{asked} {}", origin.accepted());
    // Without a certificate there is nothing for it here.
    let refused = curl.https(proxy.inbound(), "/");
    assert!(refused.code != 0 && refused.status == 0, "{refused:?}");
    proxy.wait_metric("tls_handshakes_failed_total", &[], |n| n >= 1.0);
}

#[test]
fn tls_is_routed_by_its_server_name() {
    let scenario = "tls_is_routed_by_its_server_name";
    let (Some(curl), Some(site)) = (Curl::find(scenario), Site::start(scenario, "a")) else { return };
    let tls = "tls: { mode: simple, sni: site.test }";
    let yaml = config::proxy(&[config::OUTBOUND])
        + &config::upstream_with(
            "site",
            &format!("hostnames: [site.test], endpoints: [{{ address: \"{}\" }}]", site.nginx.address()),
        )
        + &config::upstream_with(
            "twice",
            &format!("hostnames: [twice.test], endpoints: [{{ address: \"{}\" }}], {tls}", site.nginx.address()),
        );
    let proxy = Proxy::start(&yaml);
    let own = site.curl(&curl, proxy.outbound());
    let outcome = own.with(&["--http2"]).url("https://site.test/");
    assert_eq!((outcome.status, &*outcome.body), (200, "site a site.test HTTP/2.0 TLSv1.3"), "{outcome:?}");
    // Each of these is closed, and says why.
    let port = proxy.outbound().port();
    for (host, words) in [
        ("other.test", "no Upstream has the host \"other.test\", which its TLS names"),
        ("127.0.0.1", "its TLS names no server (SNI)"),
        ("twice.test", "set tls.mode: none"),
    ] {
        let to = format!("{host}:{port}:127.0.0.1:{port}");
        let outcome = curl.with(&["--connect-to", &to]).url(&format!("https://{host}:{port}/"));
        assert!(outcome.code != 0 && outcome.status == 0, "{host} {outcome:?}");
        told(&proxy, words);
    }
    let mut client = Wire::connect(proxy.outbound());
    client.send("SSH-2.0-client\r\n");
    assert!(client.is_closed());
    told(&proxy, "neither HTTP nor TLS");
}

/// Waits for a line of the access log with these words.
#[track_caller]
fn told(proxy: &Proxy, words: &str) {
    eventually(words, LONG, || {
        let log = std::fs::read_to_string(proxy.dir().join("access.log")).unwrap_or_default();
        log.replace("\\\"", "\"").contains(words).then_some(())
    });
}

#[test]
fn a_client_of_openssl_agrees_on_a_name_of_ours() {
    let scenario = "a_client_of_openssl_agrees_on_a_name_of_ours";
    let Some(openssl) = peers::program(scenario, "openssl") else { return };
    let ca = Ca::new("mesh");
    let (own, web, origin) = (ca.identity(ORDERS), ca.identity(WEB), Origin::hello());
    for mode in ["strict", "permissive"] {
        let listener = config::inbound(&format!("mtls: {mode}"));
        let yaml = config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream("app", origin.address());
        let proxy = Proxy::start(&yaml);
        for (offered, chosen) in [
            (Some("h2,outrigger/http1.1"), "ALPN protocol: outrigger/http1.1"),
            (Some("http/1.1"), "ALPN protocol: http/1.1"),
            (None, "No ALPN negotiated"),
        ] {
            let path = |name| web.path(name).display().to_string();
            let mut command = std::process::Command::new(&openssl);
            command.args([
                "s_client",
                "-connect",
                &proxy.inbound().to_string(),
                "-ign_eof",
                "-CAfile",
                &path("ca.crt"),
            ]);
            command.args(["-cert", &path("tls.crt"), "-key", &path("tls.key"), "-verify_return_error"]);
            command.args(offered.iter().flat_map(|o| ["-alpn", o]));
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("openssl starts");
            let request = b"GET /s HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
            let stdin = child.stdin.as_mut().expect("a pipe");
            std::io::Write::write_all(stdin, request).expect("openssl reads");
            let output = child.wait_with_output().expect("a child");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(chosen) && text.contains("GET /s") && text.contains("TLSv1.3"), "{mode} {text}");
        }
    }
}
