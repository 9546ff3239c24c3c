//! The command line as people type it: words, exit codes, and where faults are.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use outrigger_tests::{Origin, Proxy, Wire, binary, config, wire};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(binary::proxy()).args(args).output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn all(output: &Output) -> String {
    out(output) + &String::from_utf8_lossy(&output.stderr)
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("mesh.yaml");
    fs::write(&path, text).expect("writable");
    (dir, path)
}

/// The example of the contract, with the parts that later issues execute.
const CONTRACT: &str = include_str!("contract.yaml");

#[test]
fn help_and_version() {
    for args in
        [&["--help"][..], &["run", "--help"], &["validate", "--help"], &["explain", "--help"], &["demo", "--help"]]
    {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(out(&output).to_lowercase().contains("example"), "{args:?} shows no example:\n{}", out(&output));
        assert!(!out(&output).contains('\x1b'), "colour without a terminal");
    }
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(out(&version).starts_with("outrigger-proxy "), "{}", out(&version));
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &[][..],
        &["rnu"],
        &["run"],
        &["run", "--listen", "127.0.0.1:0"],
        &["run", "--listen", "nonsense", "--to", "127.0.0.1:1"],
        &["run", "--config", "x.yaml", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"],
        &["validate"],
        &["explain", "http://x/"],
        &["demo", "--for", "soon"],
        &["--log-format", "xml", "demo"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", all(&output));
        assert!(!output.stderr.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn the_example_of_the_contract_is_valid() {
    let (_dir, path) = file(CONTRACT);
    let output = run(&["validate", &path.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
}

#[test]
fn every_fault_is_reported_at_its_place() {
    let text = "apiVersion: outrigger.dev/v1alpha1\nkind: Proxy\nmetadata: { name: p }\nspec:\n  wrokers: 1\n  listeners:\n    \
                - name: in\n      address: nowhere\n      direction: inbound\n      forwardTo: { kind: Upstream, name: ap }\n---\n\
                apiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: { name: app }\nspec:\n  endpoints: [{ address: 127.0.0.1:99999 }]\n";
    let (_dir, path) = file(text);
    let output = run(&["validate", &path.display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    let text = out(&output);
    let at = |line: usize, column: usize, words: &[&str]| {
        let place = format!("mesh.yaml:{line}:{column}: ");
        let found =
            text.lines().find(|l| l.contains(&place)).unwrap_or_else(|| panic!("nothing at {line}:{column}:\n{text}"));
        for word in words {
            assert!(found.contains(word), "{word:?} is not in {found:?}");
        }
    };
    at(5, 3, &["wrokers", "workers"]);
    at(8, 16, &["nowhere"]);
    at(10, 42, &["ap", "app"]);
    at(16, 26, &["127.0.0.1:99999"]);
    assert_eq!(text.lines().filter(|l| l.contains("mesh.yaml:")).count(), 4, "{text}");
    assert!(text.lines().all(|l| !l.contains("mesh.yaml") || l.starts_with(&path.display().to_string())), "{text}");
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let (_dir, yaml) = file("a: [\n");
    let yaml = yaml.display().to_string();
    let output = run(&["validate", &yaml]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(out(&output).contains("mesh.yaml:"), "{}", all(&output));
    let missing = run(&["validate", "/nonexistent/file.yaml"]);
    assert!(matches!(missing.status.code(), Some(1 | 2)), "{}", all(&missing));
    assert!(all(&missing).contains("/nonexistent/file.yaml"));
    let started = run(&["run", "--config", &yaml]);
    assert_eq!(started.status.code(), Some(1), "{}", all(&started));
    assert!(all(&started).contains("mesh.yaml:"), "{}", all(&started));
}

#[test]
fn explain_says_which_document_decides() {
    let (_dir, path) = file(&CONTRACT.replace("/etc/outrigger/", "/nonexistent/"));
    let path = path.display().to_string();
    let output = run(&[
        "explain",
        "--config",
        &path,
        "--listener",
        "outbound",
        "-X",
        "POST",
        "-H",
        "x-beta: 1",
        "http://payments/charge/7",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let text = out(&output);
    for word in ["payments", "canary", "payments-v2", "10.0.0.7:8080", "mesh.yaml:"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let output =
        run(&["explain", "--config", &path, "--listener", "outbound", "-o", "json", "http://payments.internal/other"]);
    let json: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(
        (json["route"]["name"].as_str(), json["route"]["rule"].as_str()),
        (Some("payments"), Some("main")),
        "{json}"
    );
    assert!(json["route"]["origin"].as_str().is_some_and(|o| o.contains("mesh.yaml:")), "{json}");
    let output = run(&[
        "explain",
        "--config",
        &path,
        "--listener",
        "inbound",
        "--from",
        "spiffe://cluster.local/ns/shop/sa/web",
        "-o",
        "json",
        "http://orders/orders/1",
    ]);
    let json: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(json["access"]["verdict"], "allow", "{json}");
    let output = run(&["explain", "--config", &path, "--listener", "nobody", "http://x/"]);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", all(&output));
    assert!(all(&output).contains("inbound"), "it does not say what there is: {}", all(&output));
}

#[test]
fn the_demo_shows_faults_and_ends() {
    let output = run(&["demo", "--for", "3s"]);
    let text = all(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("http://") && text.contains("/metrics"), "it does not say where to look:\n{text}");
    for word in ["steady", "slow", "flaky"] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn no_file_is_needed() {
    let origin = Origin::hello();
    let to = origin.address().to_string();
    let mut proxy = Proxy::spawn_args(&["run", "--listen", "127.0.0.1:0", "--to", &to, "--admin", "127.0.0.1:0"]);
    proxy.wait_ready();
    let line =
        proxy.output().into_iter().find(|l| l.contains("name=") && l.contains("address=")).expect("a listener line");
    let address = line.split("address=").nth(1).and_then(|a| a.split_whitespace().next()).expect("an address");
    let address = address.trim_matches('"').parse().expect("an address");
    let reply = Wire::connect(address).get("/plain");
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /plain"));
    assert!(reply.header("x-request-id").is_some());
    assert_eq!(wire::get(proxy.admin(), "/livez").status, 200);
    proxy.signal("INT");
    assert_eq!(proxy.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn diagnostics_in_json_are_json() {
    let origin = Origin::hello();
    let (_dir, path) = file(&config::sidecar(origin.address()).replace("${DIR}/access.log", "/dev/null"));
    let mut proxy = Proxy::spawn_args(&["run", "--log-format", "json", "--config", &path.display().to_string()]);
    outrigger_tests::eventually("it logs", outrigger_tests::LONG, || (proxy.output().len() > 1).then_some(()));
    for line in proxy.output() {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit(outrigger_tests::LONG).code(), Some(0));
}

#[test]
fn an_address_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["run", "--listen", &address, "--to", "127.0.0.1:1", "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(all(&output).contains(&address), "{}", all(&output));
}
