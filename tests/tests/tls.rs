//! TLS on listeners: who gets in, who does not, what the application learns of the caller, and what is left alone.

use std::time::Duration;

use outrigger_tests::{
    Origin, Proxy, Response, Wire,
    config::{self, backend, document},
    curl::Curl,
    peers,
    pki::{self, Ca, Files, Leaf},
    relay::{self, Manner},
    wire,
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const OPS: &str = "spiffe://cluster.local/ns/ops/sa/probe";
const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

/// A proxy with an identity before an application, and a client that has one.
struct Rig {
    ca: Ca,
    proxy: Proxy,
    origin: Origin,
    web: Files,
    curl: Curl,
    _own: Files,
}

impl Rig {
    fn new(scenario: &str, listener: &str) -> Option<Self> {
        Self::with(scenario, listener, "")
    }

    fn with(scenario: &str, listener: &str, more: &str) -> Option<Self> {
        let curl = Curl::find(scenario)?;
        let (ca, origin) = (Ca::new("mesh"), Origin::hello());
        let own = ca.identity(ORDERS);
        let yaml = config::proxy_with(&own.yaml(), &[&config::inbound(listener)]);
        let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address()) + more));
        let web = ca.identity(WEB);
        Some(Self { ca, proxy, origin, web, curl, _own: own })
    }

    /// The one value of `x-forwarded-client-cert` that the application got last.
    #[track_caller]
    fn caller(&self) -> Option<String> {
        let request = self.origin.last();
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("x-forwarded-client-cert");
        let mut values: Vec<_> = request.headers.iter().filter(named).map(|(_, v)| v.clone()).collect();
        assert!(values.len() <= 1, "{values:?}");
        values.pop()
    }

    /// curl with these arguments gets no answer, and the application no request.
    #[track_caller]
    fn is_refused(&self, curl: &Curl) {
        let before = self.origin.requests().len();
        let outcome = curl.https(self.proxy.inbound(), "/");
        assert!(outcome.code != 0 && outcome.status == 0, "{outcome:?}");
        assert_eq!(self.origin.requests().len(), before);
    }
}

#[test]
fn a_proven_caller_is_served_over_both_versions_and_named_to_the_application() {
    let Some(rig) = Rig::new("a_proven_caller_is_served_over_both_versions", "mtls: strict") else { return };
    for (args, version) in [(&["--http1.1"][..], "1.1"), (&["--http2"], "2")] {
        let forged = ["-H", "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/admin"];
        let curl = rig.curl.identity(&rig.web).with(args).with(&forged).with(&["--tlsv1.3"]);
        let outcome = curl.with(&["-H", "x-request-id: mine"]).https(rig.proxy.inbound(), "/in");
        assert_eq!((outcome.status, &*outcome.version, &*outcome.body), (200, version, "GET /in"), "{outcome:?}");
        let caller = rig.caller().unwrap_or_default();
        let hash =
            caller.strip_prefix(&format!("By={ORDERS};Hash=")).and_then(|c| c.strip_suffix(&format!(";URI={WEB}")));
        assert!(hash.is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit())), "{caller}");
        // A proven peer is trusted with the identifier of its request.
        assert_eq!(outcome.header("x-request-id"), Some("mine"));
    }
    let entry = rig.proxy.wait_log("the request", |entry| entry["path"] == "/in");
    assert_eq!(entry["peer"], WEB, "{entry}");
    let metrics = rig.proxy.metrics();
    assert_eq!(metrics.values("requests_total", &[("direction", "inbound")], "peer"), [WEB]);
    assert!(metrics.sum("connections_total", &[("side", "downstream"), ("tls", "true")]) >= 2.0);
}

#[test]
fn strict_refuses_whoever_proves_nothing() {
    let Some(rig) = Rig::new("strict_refuses_whoever_proves_nothing", "mtls: strict") else { return };
    // Plaintext, in both versions.
    let mut plain = Wire::connect(rig.proxy.inbound());
    plain.try_send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").ok();
    assert!(plain.is_closed());
    let prior = rig.curl.with(&["--http2-prior-knowledge"]).http(rig.proxy.inbound(), "/");
    assert!(prior.code != 0 && prior.status == 0, "{prior:?}");
    // No certificate, one of another root, one of another trust domain, one that has expired, no identity in it.
    rig.is_refused(&rig.curl);
    rig.is_refused(&rig.curl.identity(&Ca::new("mesh").identity(WEB)));
    rig.is_refused(&rig.curl.identity(&rig.ca.identity("spiffe://other.domain/ns/shop/sa/web")));
    rig.is_refused(&rig.curl.identity(&Files::new(&rig.ca.workload(WEB, 2021), rig.ca.pem())));
    rig.is_refused(&rig.curl.identity(&Files::new(&rig.ca.server("web.internal"), rig.ca.pem())));
    // An old version.
    rig.is_refused(&rig.curl.identity(&rig.web).with(&["--tls-max", "1.2"]));
    assert!(rig.origin.requests().is_empty());
    assert_eq!(rig.curl.identity(&rig.web).https(rig.proxy.inbound(), "/").status, 200);
}

#[test]
fn permissive_takes_both_and_believes_only_the_proven() {
    let Some(rig) = Rig::new("permissive_takes_both_and_believes_only_the_proven", "mtls: permissive") else { return };
    let said = rig.curl.with(&["-H", "x-request-id: said", "-H", "x-forwarded-client-cert: URI=spiffe://a/b"]);
    for args in [&["--http1.1"][..], &["--http2-prior-knowledge"]] {
        let plain = said.with(args).http(rig.proxy.inbound(), "/plain");
        assert_eq!((plain.code, plain.status, &*plain.body), (0, 200, "GET /plain"), "{plain:?}");
        assert!(plain.header("x-request-id").is_some_and(|id| id != "said"), "{plain:?}");
        assert_eq!(rig.caller(), None);
    }
    let proven = said.identity(&rig.web).https(rig.proxy.inbound(), "/proven");
    assert_eq!((proven.status, proven.header("x-request-id")), (200, Some("said")), "{proven:?}");
    assert!(rig.caller().is_some_and(|caller| caller.ends_with(&format!(";URI={WEB}"))));
    // Who speaks TLS has to prove an identity here, too.
    rig.is_refused(&rig.curl);
}

#[test]
fn a_client_hello_may_come_byte_by_byte() {
    let Some(rig) = Rig::new("a_client_hello_may_come_byte_by_byte", "mtls: strict") else { return };
    let relay = relay::start(rig.proxy.inbound(), Manner::OneByOne(700));
    let outcome = rig.curl.identity(&rig.web).https(relay, "/slow");
    assert_eq!((outcome.status, &*outcome.body), (200, "GET /slow"), "{outcome:?}");
}

#[test]
fn half_a_client_hello_is_not_waited_for_for_ever() {
    for mode in ["strict", "permissive"] {
        let listener = format!("mtls: {mode}, limits: {{ headerReadTimeout: 300ms }}");
        let Some(rig) = Rig::new("half_a_client_hello_is_not_waited_for_for_ever", &listener) else { return };
        let relay = relay::start(rig.proxy.inbound(), Manner::Half);
        let start = tokio::time::Instant::now();
        rig.is_refused_at(relay);
        // Twice the limit and the load of the machine: what it must not be is curl's own time-out.
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        // Less than shows that it is one, and nothing at all, where nothing else is taken.
        if mode == "strict" {
            let mut client = Wire::connect(rig.proxy.inbound());
            client.send([0x16, 3, 1]);
            assert!(client.is_closed());
            assert!(Wire::connect(rig.proxy.inbound()).is_closed());
        }
    }
}

impl Rig {
    #[track_caller]
    fn is_refused_at(&self, to: std::net::SocketAddr) {
        let outcome = self.curl.identity(&self.web).https(to, "/");
        assert!(outcome.code != 0 && outcome.status == 0, "{outcome:?}");
        assert!(self.origin.requests().is_empty());
    }
}

#[test]
fn tls_that_is_not_ours_passes_untouched() {
    let scenario = "tls_that_is_not_ours_passes_untouched";
    let Some(curl) = Curl::find(scenario) else { return };
    let Some(nginx) = peers::Nginx::start(scenario, |dir, listen| {
        let leaf = Ca::new("site").server("site.test");
        site(dir, &leaf);
        format!(
            "server {{ listen {listen} ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {0}/s.crt; ssl_certificate_key {0}/s.key; \
             location / {{ return 200 \"$ssl_protocol $ssl_server_name $server_protocol\"; }} }}",
            dir.display()
        )
    }) else {
        return;
    };
    let ca = Ca::new("mesh");
    let own = ca.identity(ORDERS);
    // With an identity and without one: a disabled listener takes no part in TLS.
    for identity in [own.yaml(), String::new()] {
        let listener = config::inbound("mtls: disabled, protocol: detect");
        let yaml = config::proxy_with(&identity, &[&listener]) + &config::upstream("app", nginx.address());
        let proxy = Proxy::start(&yaml);
        for (args, words) in [
            (&["--http2"][..], "TLSv1.3 site.test HTTP/2.0"),
            (&["--http1.1", "--tls-max", "1.2"], "TLSv1.2 site.test HTTP/1.1"),
        ] {
            let to = format!("site.test:{}:{}", proxy.inbound().port(), "127.0.0.1");
            let curl = curl.with(args).with(&["--resolve", &to]);
            let outcome = curl.url(&format!("https://site.test:{}/", proxy.inbound().port()));
            assert_eq!((outcome.status, &*outcome.body), (200, words), "{outcome:?}");
        }
    }
}

fn site(dir: &std::path::Path, leaf: &Leaf) {
    std::fs::write(dir.join("s.crt"), &leaf.pem).expect("writable");
    std::fs::write(dir.join("s.key"), &leaf.key).expect("writable");
}

#[test]
fn an_access_policy_judges_by_the_proven_identity() {
    let spec = format!(
        "{{ targetRefs: [{}], rules: [{{ action: allow, from: [{{ identities: [\"{WEB}\"] }}] }}] }}",
        backend("app")
    );
    let policy = document("outrigger.dev/v1alpha1", "AccessPolicy", "only-web", &spec);
    let scenario = "an_access_policy_judges_by_the_proven_identity";
    let Some(rig) = Rig::with(scenario, "mtls: permissive", &policy) else { return };
    let ops = rig.ca.identity(OPS);
    for args in [&["--http1.1"][..], &["--http2"]] {
        let curl = rig.curl.with(args);
        assert_eq!(curl.identity(&rig.web).https(rig.proxy.inbound(), "/a").status, 200);
        let denied = curl.identity(&ops).https(rig.proxy.inbound(), "/b");
        assert_eq!(denied.status, 403, "{denied:?}");
        let status = denied.header("proxy-status").unwrap_or_default();
        assert!(status.contains("error=access_denied") && status.contains("only-web"), "{status}");
        let body: serde_json::Value = serde_json::from_str(&denied.body).expect("JSON");
        assert_eq!(body["error"], "access_denied");
        assert!(body["message"].as_str().is_some_and(|m| m.contains("only-web") && m.contains(OPS)), "{body}");
    }
    // Plaintext with a forged header proves nothing.
    let forged = format!("GET / HTTP/1.1\r\nHost: app\r\nx-forwarded-client-cert: URI={WEB}\r\n\r\n");
    assert_eq!(wire::once(rig.proxy.inbound(), &forged).status, 403);
    assert!(rig.origin.requests().iter().all(|r| r.target == "/a"));
}

#[test]
fn a_tcp_listener_reads_no_http_whatever_its_mtls() {
    let origin = Origin::scripted(|wire, _, _| {
        let got = wire.exactly(18);
        wire.send([b"raw ", &got[..]].concat());
    });
    let ca = Ca::new("mesh");
    let own = ca.identity(ORDERS);
    let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("protocol: tcp, mtls: permissive")]);
    let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address())));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "raw GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_listener_that_becomes_strict_is_so_on_old_connections_too() {
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let own = ca.identity(ORDERS);
    let yaml = |mode: &str| {
        let listener = config::inbound(&format!("mtls: {mode}"));
        config::proxy_with(&own.yaml(), &[&listener]) + &config::upstream("app", origin.address())
    };
    let proxy = Proxy::start(&yaml("permissive"));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/1").status, 200);
    proxy.reload(&yaml("strict"), true);
    let refused = outrigger_tests::eventually("the worker has taken the reload over", outrigger_tests::LONG, || {
        let reply = client.get("/2");
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("access_denied")));
}

#[test]
fn waiting_gets_no_http_past_a_detecting_listener() {
    let listener = "mtls: permissive, limits: { headerReadTimeout: 200ms }";
    let Some(rig) = Rig::new("waiting_gets_no_http_past_a_detecting_listener", listener) else { return };
    let request = format!("GET / HTTP/1.1\r\nHost: app\r\nx-forwarded-client-cert: URI={WEB}\r\n\r\n");
    // After a silence longer than any limit of a head.
    let mut client = Wire::connect(rig.proxy.inbound());
    std::thread::park_timeout(Duration::from_millis(600));
    let reply = client.exchange(&request);
    assert!(reply.status == 200 && reply.header("x-request-id").is_some(), "{reply:?}");
    assert_eq!(rig.caller(), None);
    // After a beginning that could be anything.
    let before = rig.origin.requests().len();
    let mut client = Wire::connect(rig.proxy.inbound());
    client.send(&request[..2]);
    std::thread::park_timeout(Duration::from_millis(600));
    client.try_send(&request[2..]).ok();
    assert!(!String::from_utf8_lossy(&client.rest()).contains(" 200 "));
    assert_eq!(rig.origin.requests().len(), before);
}

#[test]
fn empty_lines_get_no_http_past_a_detecting_listener() {
    // Servers skip them: the application would read a request, with a caller that nobody has proven.
    let origin = Origin::scripted(|wire, _, recorder| {
        let text = String::from_utf8_lossy(&wire.rest()).into_owned();
        recorder.record(&outrigger_tests::Request { target: text, ..Default::default() });
    });
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for empty in ["\r\n\r\n", "\n", "\n\n\n", "\r\r\n", &"\r\n".repeat(40)] {
        let mut client = Wire::connect(proxy.inbound());
        client.try_send(format!("{empty}GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: URI={WEB}\r\n\r\n")).ok();
        client.finish();
        assert_eq!(client.reply().status, 400, "{empty:?}");
    }
    assert!(origin.requests().iter().all(|r| r.target.is_empty()), "{:?}", origin.requests());
}

#[test]
fn a_missing_identity_is_told_and_not_worked_around() {
    let ca = Ca::new("mesh");
    let own = ca.identity(ORDERS);
    std::fs::remove_file(own.path("tls.key")).expect("it was there");
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let text = |identity: &str| {
        config::proxy_with(identity, &[&config::inbound("mtls: strict")]).replace("${DIR}", "/tmp")
            + &config::upstream("app", outrigger_tests::origin::refused())
    };
    for (identity, word) in [(own.yaml(), "tls.key"), (String::new(), "identity")] {
        let file = dir.path().join("proxy.yaml");
        std::fs::write(&file, text(&identity)).expect("writable");
        let mut proxy = Proxy::spawn_args(&["run", "--config", &file.display().to_string()]);
        let status = proxy.wait_exit(outrigger_tests::LONG);
        assert_eq!(status.code(), Some(1));
        outrigger_tests::eventually(&format!("{word} is named"), outrigger_tests::LONG, || {
            proxy.output().iter().any(|line| line.contains(word)).then_some(())
        });
    }
}

#[test]
fn readiness_shows_the_identity() {
    let ca = Ca::new("mesh");
    let own = ca.identity(ORDERS);
    let origin = Origin::start(|_| Response::text("ok"));
    let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("mtls: strict")]);
    let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address())));
    let text = proxy.ask("/readyz?verbose").text();
    assert!(text.contains("identity"), "{text}");
    let certificates = proxy.ask("/certificates").json();
    assert_eq!(certificates[0]["uris"][0], ORDERS, "{certificates}");
    assert!(!proxy.ask("/certificates").text().contains("PRIVATE"));
    let year_2090 = 3_786_912_000.0;
    assert_eq!(proxy.metrics().sum("identity_expiry_timestamp_seconds", &[]), year_2090);
    assert_eq!(pki::FAR, 2090);
}
