//! `outrigger ca`: what it makes is taken by OpenSSL and by the proxy, and replaced while requests flow.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use outrigger_tests::{
    LONG, Origin, Proxy, Traffic, binary, config, eventually, load::failed, peers, ports::free_ports,
};
use serde_json::Value;
use tempfile::TempDir;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// A CA in a directory, driven by the real command.
struct Ca {
    dir: TempDir,
}

impl Ca {
    fn new() -> Self {
        let ca = Self { dir: TempDir::new().expect("a temporary directory") };
        ca.done(&["init", "--dir", "ca"]);
        ca
    }

    /// Runs `outrigger ca ARGS` in the directory.
    fn run(&self, args: &[&str]) -> Output {
        Command::new(binary::outrigger())
            .arg("ca")
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("it is there")
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The exit code, and everything that was said.
    fn fails(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.run(args);
        (output.status.code(), said(&output))
    }

    #[track_caller]
    fn issue(&self, id: &str, out: &str) {
        self.done(&["issue", "--dir", "ca", "--id", id, "--out", out, "--lifetime", "1h"]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The line `identity` of a `Proxy` that uses the files of `out`.
    fn yaml(&self, out: &str) -> String {
        let path = |name| self.path(out).join(name).display().to_string();
        let (certificate, key, bundle) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        format!("  identity: {{ certificate: \"{certificate}\", privateKey: \"{key}\", trustBundle: \"{bundle}\" }}\n")
    }

    /// What `show` says of a file, in JSON.
    fn show(&self, file: &str) -> Vec<Value> {
        let mut shown: Value = serde_json::from_str(&self.done(&["show", "-o", "json", file])).expect("JSON");
        shown[0]["sections"].as_array_mut().expect("it is there").drain(..).collect()
    }
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].concat().iter().map(|&b| char::from(b)).collect()
}

#[test]
fn openssl_takes_what_is_issued() {
    let Some(openssl) = peers::program("openssl_takes_what_is_issued", "openssl") else { return };
    let ca = Ca::new();
    ca.done(&["issue", "--dir", "ca", "--id", WEB, "--out", "web", "--dns", "web.shop", "--lifetime", "2h"]);
    let run = |args: &[&str]| {
        let output = Command::new(&openssl).args(args).current_dir(ca.dir.path()).output().unwrap();
        (output.status.success(), said(&output))
    };
    for purpose in ["sslserver", "sslclient"] {
        let (ok, words) = run(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "web/ca.crt", "web/tls.crt"]);
        assert!(ok, "{purpose}: {words}");
    }
    let (_, text) = run(&["x509", "-in", "web/tls.crt", "-noout", "-text", "-fingerprint", "-sha256"]);
    for part in [
        "URI:spiffe://cluster.local/ns/shop/sa/web, DNS:web.shop",
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "NIST CURVE: P-256",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    let shown = &ca.show("web/tls.crt")[0];
    assert!(text.contains(shown["sha256"].as_str().unwrap()), "the fingerprint is OpenSSL's");
    assert_eq!(shown["spiffeId"], WEB);
    let (ok, words) = run(&["pkey", "-in", "web/tls.key", "-check", "-noout"]);
    assert!(ok, "{words}");
    // What it makes of a certificate of somebody else.
    let (ok, words) =
        run(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/CN=x"]);
    assert!(ok, "{words}");
    let words = ca.done(&["show", "c", "k"]);
    for part in ["usable as SVID      no: ", "RSA 2048 bits", "signed by           itself", "k: a private key"] {
        assert!(words.contains(part), "{part}\n{words}");
    }
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    let ca = Ca::new();
    let issue = |id| ca.fails(&["issue", "--dir", "ca", "--id", id, "--out", "x"]);
    let (code, words) = ca.fails(&["init", "--dir", "ca"]);
    assert!(code == Some(1) && words.contains("--force"), "{code:?} {words}");
    let (code, words) = issue("cluster.local/ns/shop/sa/web");
    assert!(code == Some(2) && words.contains(WEB), "{code:?} {words}");
    let (code, words) = issue("spiffe://other.local/ns/shop/sa/web");
    assert!(code == Some(2) && words.contains("spiffe://cluster.local/"), "{code:?} {words}");
    let (code, words) = issue("spiffe://cluster.local");
    assert!(code == Some(2) && words.contains("spiffe://TRUST_DOMAIN/ns/"), "{code:?} {words}");
    let (code, words) = ca.fails(&["issue", "--dir", "nowhere", "--id", WEB, "--out", "x"]);
    assert!(code == Some(1) && words.contains("outrigger ca init --dir nowhere"), "{code:?} {words}");
    let (code, words) = ca.fails(&["init", "--dir", "y", "--trust-domain", "Shop"]);
    assert!(code == Some(2) && words.contains("a-z"), "{code:?} {words}");
    let (code, words) = ca.fails(&["issue", "--dir", "ca", "--id", WEB, "--out", "x", "--lifetime", "1d"]);
    assert!(code == Some(2) && words.contains("an hour is the largest unit"), "{code:?} {words}");
    let (code, words) = ca.fails(&["rotate", "--dir", "ca"]);
    assert!(code == Some(2) && words.contains("--prepare"), "{code:?} {words}");
    let (code, words) = ca.fails(&["rotate", "--dir", "ca", "--switch"]);
    assert!(code == Some(1) && words.contains("--prepare"), "{code:?} {words}");
    let (code, words) = ca.fails(&["show", "nowhere"]);
    assert!(code == Some(1) && words.contains("no such file"), "{code:?} {words}");
    assert!(!ca.path("x").exists() && !ca.path("y").exists(), "what fails leaves nothing");
    fs::write(ca.path("ca/ca.key"), "junk").unwrap();
    let (code, words) = issue(WEB);
    assert!(code == Some(1) && words.contains("ca.key"), "{code:?} {words}");
}

/// Two proxies with identities of `ca`.
fn mesh(ca: &Ca, app: std::net::SocketAddr) -> (Proxy, Proxy) {
    ca.issue(WEB, "web");
    ca.issue(API, "api");
    let server = Proxy::start(
        &(config::proxy_with(&ca.yaml("api"), &[&config::inbound("mtls: strict")])
            + &config::upstream_with("app", &format!("protocol: http, endpoints: [{{ address: \"{app}\" }}]"))),
    );
    let fields = format!(
        "hostnames: [app], protocol: http, endpoints: [{{ address: \"{}\" }}], tls: {{ mode: mesh, identity: \"{API}\" }}",
        server.inbound()
    );
    let client = Proxy::start(
        &(config::proxy_with(&ca.yaml("web"), &[config::OUTBOUND]) + &config::upstream_with("app", &fields)),
    );
    (client, server)
}

/// Waits until both proxies have the files that are there.
#[track_caller]
fn taken(ca: &Ca, proxies: &[(&Proxy, &str)]) {
    for (proxy, out) in proxies {
        let serial = ca.show(&format!("{out}/tls.crt"))[0]["serial"].as_str().expect("it is there").to_owned();
        let roots = ca.show(&format!("{out}/ca.crt")).len();
        eventually(&format!("{out} has its new files"), LONG, || {
            let shown = proxy.ask("/certificates").text();
            (shown.contains(&serial) && shown.matches("\"root\"").count() == roots).then_some(())
        });
    }
}

#[test]
fn certificates_and_roots_are_replaced_without_a_failed_request() {
    let ca = Ca::new();
    let origin = Origin::hello();
    let (client, server) = mesh(&ca, origin.address());
    let both = [(&client, "web"), (&server, "api")];
    let traffic = Traffic::start(client.outbound(), 200, 8, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    let renew = || {
        ca.issue(WEB, "web");
        ca.issue(API, "api");
        taken(&ca, &both);
    };
    let spread = || {
        for out in ["web", "api"] {
            fs::copy(ca.path("ca/ca.crt"), ca.path(&format!("{out}/new"))).unwrap();
            fs::rename(ca.path(&format!("{out}/new")), ca.path(&format!("{out}/ca.crt"))).unwrap();
        }
        taken(&ca, &both);
    };
    let first = ca.show("ca/ca.crt")[0]["sha256"].clone();
    renew();
    ca.done(&["rotate", "--dir", "ca", "--prepare"]);
    spread();
    ca.done(&["rotate", "--dir", "ca", "--switch"]);
    renew();
    ca.done(&["rotate", "--dir", "ca", "--finish"]);
    spread();
    renew();
    assert_ne!(ca.show("ca/ca.crt")[0]["sha256"], first);
    // New connections under the new root, besides those that live on.
    traffic.run_until(traffic.elapsed() + Duration::from_secs(1));
    let samples = traffic.stop();
    let failures = failed(&samples);
    assert!(failures.is_empty(), "{failures:?}");
    assert!(samples.len() > 200, "{} requests", samples.len());
    let seen = origin.last();
    let caller = seen.header("x-forwarded-client-cert").expect("the app is told who calls");
    assert!(caller.ends_with(&format!(";URI={WEB}")), "{caller}");
}

/// The shell lines of `examples/mtls/README.md` under the paragraph that begins with `heading`.
fn lines_of<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let rest = page.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let block = rest.split_once("```bash\n").expect("a block").1.split_once("```").expect("its end").0;
    block.lines().filter(|line| !line.is_empty()).collect()
}

/// The example in a directory of its own, with ports that are free, and the programs under test first in the path.
struct Example {
    dir: TempDir,
    page: String,
    ports: Vec<(String, String)>,
    running: Vec<std::process::Child>,
}

impl Example {
    fn new() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mtls");
        let dir = TempDir::new().expect("a temporary directory");
        let status = Command::new("cp").arg("-r").arg(source.join(".")).arg(dir.path()).status().expect("it runs");
        assert!(status.success());
        let fixed = ["9990", "9995", "8441", "8442", "4140", "3000", "3001"].map(str::to_owned);
        let free = free_ports::<7>().map(|a| a.port().to_string());
        let mut example =
            Self { dir, page: String::new(), ports: fixed.into_iter().zip(free).collect(), running: Vec::new() };
        for name in ["web.yaml", "orders.yaml", "README.md"] {
            let file = example.dir.path().join(name);
            let text = example.on_free_ports(&fs::read_to_string(&file).expect("the file is there"));
            fs::write(&file, &text).expect("the file is there");
            example.page = text;
        }
        example
    }

    fn on_free_ports(&self, text: &str) -> String {
        // In two steps, so that a free port is not taken for one of those that are to be replaced.
        let marked = self
            .ports
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (i, (fixed, _))| text.replace(fixed, &format!("@{i}@")));
        self.ports.iter().enumerate().fold(marked, |text, (i, (_, free))| text.replace(&format!("@{i}@"), free))
    }

    fn command(&self, line: &str) -> Command {
        let programs = [binary::outrigger(), binary::proxy()].map(|p| p.parent().expect("it is there").to_owned());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path))).expect("it is there");
        let mut command = Command::new("bash");
        command.args(["-c", line]).env("PATH", path).env("NO_PROXY", "*").current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a line to its end, or starts what it leaves running.
    #[track_caller]
    fn run(&mut self, line: &str) -> Output {
        if let Some(program) = line.strip_suffix('&') {
            let mut command = self.command(&format!("exec {program}"));
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
            self.running.push(child);
            return self.command("true").output().expect("it runs");
        }
        self.command(line).output().expect("it runs")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        for child in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[test]
fn the_example_does_what_its_page_says() {
    let scenario = "the_example_does_what_its_page_says";
    for program in ["bash", "curl", "python3"] {
        if peers::program(scenario, program).is_none() {
            return;
        }
    }
    let mut example = Example::new();
    let page = example.page.clone();
    for line in lines_of(&page, "Start it") {
        let output = example.run(line);
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    let calls = lines_of(&page, "Call:");
    assert_eq!(calls.len(), 5);
    eventually("the example is up", LONG, || said(&example.run(calls[0])).contains(" 200 OK").then_some(()));
    for line in calls {
        let (call, promise) = line.split_once("  # ").map_or((line, line), |(call, promise)| (call, promise));
        let output = example.run(call);
        let words = said(&output);
        match promise.get(..3) {
            Some("ref") => assert!(!output.status.success() && !words.contains("HTTP/1"), "{line}: {words}"),
            Some(status) => assert!(words.contains(&format!("HTTP/1.1 {status} ")), "{line}: {words}"),
            None => panic!("{line} promises nothing"),
        }
    }
    assert!(said(&example.run(lines_of(&page, "Call:")[1])).contains("access_denied"));
    for heading in ["Look:", "Renew", "Replace the root"] {
        for line in lines_of(&page, heading) {
            let output = example.run(line);
            assert!(output.status.success(), "{line}: {}", said(&output));
        }
    }
    eventually("it goes on with the new root", LONG, || {
        said(&example.run(lines_of(&page, "Call:")[0])).contains(" 200 OK").then_some(())
    });
}
