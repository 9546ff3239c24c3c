//! What apps speak through two proxies that they do not know of, whose callers must prove who they are.

use std::{fs, io::Write as _};

use outrigger_tests::{Wire, peers, pki::Ca};
use tempfile::TempDir;

use super::mesh::{Mesh, PORT, VIP, WEB};

#[test]
fn netns_capture_carries_http_over_both_versions_of_ip() {
    let Some(mesh) = Mesh::start("netns_capture_http") else { return };
    let app = mesh.api.app(PORT);
    // To a Service, to the pod itself, and over IPv6.
    let urls =
        [format!("http://{VIP}/"), format!("http://{}/", mesh.api.at(PORT)), format!("http://{}/", mesh.api.at6(PORT))];
    for url in &urls {
        assert_eq!(mesh.web.get(url), "api", "{url}");
        let caller = app.last().header("x-forwarded-client-cert").unwrap_or_default().to_owned();
        assert!(caller.ends_with(&format!("URI={WEB}")), "{url}: {caller:?}");
    }
    assert!(mesh.web.connections("outbound", "downstream", "false") > 2.5);
    assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
    assert!(mesh.api.connections("inbound", "downstream", "false") < 0.5);
    // What comes past the mesh, from a machine that no rule captures, does not get in.
    for at in [mesh.api.at(PORT), mesh.api.at6(PORT)] {
        let mut outside = Wire::connect(at);
        outside.send("GET / HTTP/1.1\r\nHost: api\r\n\r\n");
        assert!(outside.is_closed(), "{at}");
    }
    assert_eq!(app.requests().len(), urls.len());
}

#[test]
fn netns_capture_carries_http_2_and_grpc() {
    let scenario = "netns_capture_carries_http_2_and_grpc";
    let Some(python) = peers::python(scenario) else { return };
    let Some(nghttpd) = peers::program(scenario, "nghttpd") else { return };
    let Some(mesh) = Mesh::start(scenario) else { return };
    let root = TempDir::new().expect("a temporary directory");
    fs::write(root.path().join("index.html"), "over two").expect("the directory is writable");
    let root = root.path().display().to_string();
    let _h2 = mesh.api.server("nghttpd", &nghttpd, &["--no-tls", "-d", &root, "8081"], 8081);
    let script = peers::script("grpc_server.py").display().to_string();
    let _grpc = mesh.api.server("grpc", &python, &[&script, "[::]:8082"], 8082);
    mesh.known(&mesh.api, &[8081, 8082]);
    let url = format!("http://{}/", mesh.api.at(8081));
    let (ok, text) = mesh.web.pod.curl(1000, &["--http2-prior-knowledge", "-w", " %{http_version}", &url]);
    assert_eq!((ok, &*text), (true, "over two 2"));
    let client = peers::script("grpc_client.py").display().to_string();
    let grpc = mesh.api.at(8082).to_string();
    for (call, answer) in [("unary", "hello"), ("bidi", "['b0', 'b1', 'b2', 'b3', 'b4']"), ("status", "NOT_FOUND")] {
        let said = mesh.web.run(&python, &[&client, &grpc, call]);
        assert!(said.starts_with(answer), "{call}: {said}");
    }
    assert!(mesh.api.proxy.metrics().sum("requests_total", &[("direction", "inbound"), ("grpc_status", "0")]) > 1.5);
    assert!(mesh.api.connections("inbound", "downstream", "false") < 0.5);
}

#[test]
fn netns_capture_carries_a_mail_server_that_speaks_first() {
    let scenario = "netns_capture_carries_a_mail_server_that_speaks_first";
    let Some(python) = peers::python(scenario) else { return };
    let Some(mesh) = Mesh::start(scenario) else { return };
    let there = std::process::Command::new(&python).args(["-c", "import aiosmtpd"]).status();
    if !there.is_ok_and(|status| status.success()) {
        peers::skip::<()>(scenario, "aiosmtpd missing");
        return;
    }
    let server = ["-m", "aiosmtpd", "-n", "-l", "0.0.0.0:2525", "-c", "aiosmtpd.handlers.Debugging", "stdout"];
    let smtp = mesh.api.server("aiosmtpd", &python, &server, 2525);
    mesh.known(&mesh.api, &[2525]);
    let send = format!(
        "import smtplib\nwith smtplib.SMTP('{}', 2525, timeout=20) as s:\n  print(s.ehlo()[0])\n  \
         s.sendmail('a@shop', ['b@shop'], 'Subject: x\\n\\nthrough two proxies')",
        mesh.api.pod.ip()
    );
    for _ in 0..2 {
        assert_eq!(mesh.web.run(&python, &["-c", &send]).trim(), "250");
    }
    outrigger_tests::eventually("the mail arrives", outrigger_tests::LONG, || {
        (smtp.tail(200).matches("through two proxies").count() >= 2).then_some(())
    });
    assert!(mesh.api.connections("inbound", "downstream", "true") > 1.5);
    assert!(mesh.api.proxy.metrics().sum("detected_total", &[("protocol", "server_first")]) > 0.5);
}

#[test]
fn netns_capture_passes_the_apps_own_tls_through() {
    let scenario = "netns_capture_passes_the_apps_own_tls_through";
    let Some(openssl) = peers::program(scenario, "openssl") else { return };
    let Some(mesh) = Mesh::start(scenario) else { return };
    let ca = Ca::new("the app's own");
    let leaf = ca.server("api.example");
    let dir = TempDir::new().expect("a temporary directory");
    let put = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::File::create(&file).and_then(|mut f| f.write_all(text.as_bytes())).expect("the directory is writable");
        file.display().to_string()
    };
    let (cert, key) = (put("tls.crt", &leaf.pem), put("tls.key", &leaf.key));
    let args = ["s_server", "-accept", "8443", "-cert", &cert, "-key", &key, "-www", "-quiet"];
    let _server = mesh.api.server("s_server", &openssl, &args, 8443);
    mesh.known(&mesh.api, &[8443]);
    // The certificate that the caller sees is the app's, by an authority that no proxy knows.
    let root = put("ca.crt", ca.pem());
    std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status().expect("chmod runs");
    let resolve = format!("api.example:8443:{}", mesh.api.pod.ip());
    let args = [
        "--cacert",
        &root,
        "--resolve",
        &resolve,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "https://api.example:8443/",
    ];
    assert_eq!(mesh.web.pod.curl(1000, &args), (true, "200".to_owned()));
    assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
    assert!(mesh.web.connections("outbound", "upstream", "true") > 0.5);
    assert!(mesh.web.proxy.metrics().sum("detected_total", &[("protocol", "tls")]) > 0.5);
}
