//! Where an identity comes from, what becomes of it, and what nobody ever sees of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use outrigger_tests::{
    LONG, Origin, Proxy, Wire, config, eventually, holds,
    peers::{self, Server},
    pki::{Ca, FAR, Files, Leaf},
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const WEB2: &str = "spiffe://cluster.local/ns/shop/sa/web-2";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// A proxy before `origin` that lets in the proven alone.
fn server(ca: &Ca, origin: &Origin) -> (Proxy, Files) {
    let api = ca.identity(API);
    let yaml = config::proxy_with(&api.yaml(), &[&config::inbound("mtls: strict")]);
    (Proxy::start(&(yaml + &config::upstream("app", origin.address()))), api)
}

/// The configuration of a proxy that calls `to` with the identity of these lines.
fn client(identity: &str, to: &Proxy) -> String {
    let tls = format!("tls: {{ mode: mesh, identity: \"{API}\" }}");
    let fields = format!("endpoints: [{{ address: \"{}\" }}], {tls}", to.inbound());
    config::proxy_with(identity, &[config::OUTBOUND]) + &config::upstream_with("app", &fields)
}

/// What an agent delivers: see `peers/workload_api.py`.
struct Agent {
    dir: tempfile::TempDir,
    python: std::path::PathBuf,
    server: Option<Server>,
}

impl Agent {
    fn new(scenario: &str) -> Option<Self> {
        let python = peers::python(scenario)?;
        let agent = Self { dir: tempfile::TempDir::new().expect("a temporary directory"), python, server: None };
        agent.put("turn", "deny");
        Some(agent)
    }

    fn start(&mut self) {
        let (socket, dir) = (self.socket(), self.dir.path().display().to_string());
        fs::remove_file(&socket).ok();
        self.server = Some(Server::start(&self.python, "workload_api.py", &[&socket, &dir]));
    }

    fn socket(&self) -> String {
        self.dir.path().join("agent.sock").display().to_string()
    }

    fn put(&self, name: &str, text: &str) {
        let draft = self.dir.path().join("draft");
        fs::write(&draft, text).expect("writable");
        fs::rename(&draft, self.dir.path().join(name)).expect("writable");
    }

    fn svid(&self, name: &str, leaf: &Leaf, bundle: &str) {
        fs::create_dir_all(self.dir.path().join(name)).expect("writable");
        for (file, text) in [("tls.crt", &*leaf.pem), ("tls.key", &leaf.key), ("ca.crt", bundle)] {
            self.put(&format!("{name}/{file}"), text);
        }
    }
}

fn caller(origin: &Origin) -> String {
    origin.last().header("x-forwarded-client-cert").unwrap_or_default().to_owned()
}

#[test]
fn an_agent_delivers_renews_and_withdraws() {
    let Some(mut agent) = Agent::new("an_agent_delivers_renews_and_withdraws") else { return };
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let (server, _files) = server(&ca, &origin);
    let spec = format!("  identity: {{ workloadApi: \"unix://{}\", hint: main }}\n", agent.socket());
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let file = dir.path().join("proxy.yaml");
    fs::write(&file, client(&spec, &server).replace("${DIR}", &dir.path().display().to_string())).expect("writable");
    let proxy = Proxy::spawn_args(&["run", "--config", &file.display().to_string()]);
    let ask = || Wire::connect(proxy.outbound()).get("/");
    let refused = |reply: &outrigger_tests::Reply, agent: &Agent| {
        let body = reply.json();
        assert_eq!((reply.status, body["error"].as_str()), (502, Some("tls_certificate_error")), "{body}");
        assert!(body["message"].as_str().is_some_and(|m| m.contains(&agent.socket())), "{body}");
    };
    // Not there, then there without an identity for us: nothing goes out, least of all in plaintext.
    refused(&ask(), &agent);
    assert_eq!(proxy.ask("/readyz").status, 503);
    agent.start();
    assert_eq!(agent.server.as_ref().map(Server::line).as_deref(), Some("call true"));
    refused(&ask(), &agent);
    // The one with the hint, of two.
    agent.svid("one", &ca.workload(WEB2, FAR), ca.pem());
    agent.svid("two", &ca.workload(WEB, 2080), ca.pem());
    agent.put("turn", &format!("other one {WEB2}\nmain two {WEB}"));
    eventually("the identity is there", LONG, || (ask().status == 200).then_some(()));
    assert!(caller(&origin).contains(&format!("URI={WEB}")), "{}", caller(&origin));
    proxy.wait_ready();
    let text = proxy.ask("/readyz?verbose").text();
    assert!(text.contains(&format!("identity ok: {WEB} expires in ")), "{text}");
    let shown = proxy.ask("/certificates").json();
    assert_eq!(shown[0]["file"], format!("unix://{}", agent.socket()), "{shown}");
    // Renewed: the same identity with another end, and not a request lost.
    agent.svid("two", &ca.workload(WEB, 2081), ca.pem());
    agent.put("turn", &format!("main two {WEB}\n# again"));
    let of_2081 = 3_502_915_200.0;
    eventually("the renewal is there", LONG, || {
        assert_eq!(ask().status, 200);
        (proxy.metrics().sum("identity_expiry_timestamp_seconds", &[]) == of_2081).then_some(())
    });
    // Nonsense changes nothing.
    agent.put("turn", &format!("main two {WEB2}"));
    eventually("it is told", LONG, || {
        proxy.output().iter().any(|line| line.contains("delivered what is no identity")).then_some(())
    });
    assert_eq!(ask().status, 200);
    // What is no longer there is withdrawn, and given back.
    agent.put("turn", &format!("other one {WEB2}"));
    eventually("it is withdrawn", LONG, || (ask().status == 502).then_some(()));
    refused(&ask(), &agent);
    assert_eq!(proxy.ask("/readyz").status, 503);
    agent.put("turn", &format!("main two {WEB}"));
    eventually("it is there again", LONG, || (ask().status == 200).then_some(()));
    agent.put("turn", "deny");
}

#[test]
fn an_agent_that_is_away_takes_nothing_along_and_is_found_again() {
    let Some(mut agent) = Agent::new("an_agent_that_is_away_takes_nothing_along") else { return };
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let (server, _files) = server(&ca, &origin);
    agent.svid("one", &ca.workload(WEB, FAR), ca.pem());
    agent.put("turn", &format!("main one {WEB}"));
    agent.start();
    let variable = format!("unix://{}", agent.socket());
    let spec = "  identity: { workloadApi: SPIFFE_ENDPOINT_SOCKET }\n";
    let proxy = Proxy::start_with(&client(spec, &server), &[("SPIFFE_ENDPOINT_SOCKET", &variable)]);
    let ask = || Wire::connect(proxy.outbound()).get("/").status;
    assert_eq!(ask(), 200);
    agent.server = None;
    holds("the identity serves on", std::time::Duration::from_millis(500), || ask() == 200);
    agent.svid("one", &ca.workload(WEB2, FAR), ca.pem());
    agent.put("turn", &format!("main one {WEB2}"));
    agent.start();
    eventually("the agent is found again", LONG, || {
        assert_eq!(ask(), 200);
        caller(&origin).contains(&format!("URI={WEB2}")).then_some(())
    });
}

#[test]
fn an_expired_identity_says_which_and_lets_nothing_through() {
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let (server, _files) = server(&ca, &origin);
    let own = Files::new(&ca.workload(WEB, 2021), ca.pem());
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let file = dir.path().join("proxy.yaml");
    let inbound = config::inbound("mtls: strict");
    let yaml = client(&own.yaml(), &server).replace("  listeners:\n", &format!("  listeners:\n    - {inbound}\n"));
    fs::write(&file, yaml.replace("${DIR}", &dir.path().display().to_string())).expect("writable");
    let proxy = Proxy::spawn_args(&["run", "--config", &file.display().to_string()]);
    let reply = Wire::connect(proxy.outbound()).get("/");
    let body = reply.json();
    assert_eq!((reply.status, body["error"].as_str()), (502, Some("tls_certificate_error")), "{body}");
    let message = body["message"].as_str().unwrap_or_default();
    let file = own.path("tls.crt").display().to_string();
    assert!(message.contains(WEB) && message.contains(&file) && message.contains("2021-01-01"), "{message}");
    assert_eq!(proxy.ask("/readyz").status, 503);
    assert!(proxy.ask("/readyz").text().contains("expired at 2021-01-01"), "{}", proxy.ask("/readyz").text());
    // It is not shown to a caller either.
    assert!(Wire::connect(proxy.inbound()).is_closed());
    eventually("it is said", LONG, || {
        proxy.output().iter().any(|line| line.contains("ERROR") && line.contains("has expired")).then_some(())
    });
    // Renewed, it serves, without a restart.
    own.replace(&ca.workload(WEB, FAR));
    eventually("the renewed one serves", LONG, || {
        (Wire::connect(proxy.outbound()).get("/").status == 200).then_some(())
    });
    assert!(origin.requests().iter().all(|r| r.header("x-forwarded-client-cert").is_some()));
}

#[test]
fn a_key_that_others_can_read_is_told_and_no_key_is_ever_shown() {
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let own = ca.identity(WEB);
    let key = own.path("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("mtls: permissive")]);
    let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address())));
    let words = format!("(mode 0644); let only its owner read it: chmod 600 {}", key.display());
    eventually("the mode is told", LONG, || proxy.output().iter().any(|l| l.contains(&words)).then_some(()));
    Wire::connect(proxy.inbound()).get("/");
    // A line of the key stands nowhere: not in its base64, of which every line is secret.
    let text = fs::read_to_string(&key).expect("it is there");
    let secret = text.lines().nth(1).expect("a line of base64");
    for path in ["/config", "/certificates", "/metrics", "/upstreams", "/stats.json", "/readyz?verbose", "/"] {
        let shown = proxy.ask(path).text();
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE KEY"), "{path}");
    }
    assert!(proxy.output().iter().all(|line| !line.contains(secret)));
    assert!(!log(proxy.dir()).contains(secret));
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("access.log")).unwrap_or_default()
}

#[test]
fn who_comes_without_mtls_is_counted_by_source() {
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let own = ca.identity(WEB);
    let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("mtls: permissive")]);
    let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address())));
    assert_eq!(proxy.ask("/plaintext").json()["sources"].as_array().map(Vec::len), Some(0));
    let mut open = Wire::connect(proxy.inbound());
    assert_eq!(open.get("/").status, 200);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200);
    let labels = [("listener", "inbound"), ("source", "loopback"), ("kind", "plaintext")];
    proxy.wait_metric("permissive_plaintext_total", &labels, |n| n == 2.0);
    eventually("one is closed", LONG, || {
        let table = proxy.ask("/plaintext").json();
        let row = &table["sources"][0];
        assert_eq!((row["source"].as_str(), row["connections"].as_u64()), (Some("127.0.0.1"), Some(2)), "{table}");
        (row["open"] == 1).then_some(())
    });
    // Who has proven himself is not among them.
    let client = Proxy::start(&client(&ca.identity(WEB2).yaml(), &proxy).replace(API, WEB));
    assert_eq!(Wire::connect(client.outbound()).get("/").status, 200);
    assert_eq!(proxy.metrics().sum("permissive_plaintext_total", &[]), 2.0);
}
