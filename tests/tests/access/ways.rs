//! Ways around a policy: another upstream, another host, other fields, another protocol.

use outrigger_tests::{
    Origin, Proxy, Wire, config,
    frames::{self, Frames, kind},
    pki::Ca,
};

use crate::policy;

#[test]
fn the_policy_of_a_backend_holds_on_every_way_to_it() {
    let (app, vault) = (Origin::named("app"), Origin::named("vault"));
    let way = |rule: &str| {
        config::sidecar(app.address())
            + &config::upstream("vault", vault.address())
            + &config::http_route("r", "app", rule)
            + &policy("vault", "rules: [{ action: deny, to: [{ paths: [/vault/*] }] }]")
    };
    let (to_vault, to_app) = (config::backend("vault"), config::backend("app"));
    for (rule, path, status) in [
        (format!("- backendRefs: [{to_vault}]"), "/vault/1", 403),
        (format!("- backendRefs: [{to_vault}]"), "//vault/1", 403),
        (format!("- backendRefs: [{to_vault}]"), "/open", 200),
        // What the backend would get is what its policy judges.
        (
            format!(
                "- filters: [{{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplaceFullPath, replaceFullPath: /vault/x }} }} }}]\n  \
                 backendRefs: [{to_vault}]"
            ),
            "/open",
            403,
        ),
        // A mirror is done without.
        (
            format!(
                "- filters: [{{ type: RequestMirror, requestMirror: {{ backendRef: {to_vault} }} }}]\n  backendRefs: [{to_app}]"
            ),
            "/vault/2",
            200,
        ),
    ] {
        let proxy = Proxy::start(&way(&rule));
        assert_eq!(Wire::connect(proxy.inbound()).get(path).status, status, "{rule} {path}");
    }
    assert!(vault.requests().iter().all(|r| r.target == "/open"), "{:?}", vault.requests());
}

#[test]
fn a_fallback_leads_nowhere_that_is_denied() {
    let vault = Origin::named("vault");
    let fallback = format!(
        "fallback: {{ \"on\": [connection_refused, access_denied], backendRef: {} }}",
        config::backend("vault")
    );
    let yaml = config::sidecar_policy(outrigger_tests::origin::refused(), &fallback)
        + &config::upstream("vault", vault.address())
        + &policy("vault", "rules: [{ action: deny, to: [{ methods: [GET] }] }]");
    let proxy = Proxy::start(&yaml);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 502);
    let own = policy("app", "rules: [{ action: deny }]").replace("name: guard", "name: own");
    let open = config::sidecar_policy(outrigger_tests::origin::refused(), &fallback)
        + &config::upstream("vault", vault.address())
        + &own;
    let proxy = Proxy::start(&open);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 403, "what is denied is denied everywhere");
    assert!(vault.requests().is_empty());
}

#[test]
fn hosts_that_differ_choose_nothing() {
    let (open, closed) = (Origin::named("open"), Origin::named("closed"));
    let listener = "{ name: inbound, address: 127.0.0.1:0, direction: inbound }";
    let upstream = |name: &str, origin: &Origin| {
        config::upstream_with(
            name,
            &format!("hostnames: [{name}.test], endpoints: [{{ address: \"{}\" }}]", origin.address()),
        )
    };
    let yaml = config::proxy(&[listener])
        + &upstream("open", &open)
        + &upstream("closed", &closed)
        + &policy("closed", "rules: [{ action: deny }]");
    let proxy = Proxy::start(&yaml);
    let at = proxy.inbound();
    let once = |request: &str| {
        let mut wire = Wire::connect(at);
        wire.try_send(request).ok();
        wire.try_reply("GET").map_or(0, |reply| reply.status)
    };
    for request in [
        "GET / HTTP/1.1\r\nHost: closed.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: CLOSED.test.\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: closed.test:80\r\n\r\n",
        "GET http://closed.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n",
        "GET http://closed.test:80/ HTTP/1.1\r\nHost: open.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.test\r\nHost: closed.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.test, closed.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.test@closed.test\r\n\r\n",
        "GET http://open.test@closed.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n",
        "GET http://open.test\\@closed.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n",
        "GET //closed.test/ HTTP/1.1\r\nHost: closed.test\r\n\r\n",
        "CONNECT closed.test:80 HTTP/1.1\r\nHost: open.test\r\n\r\n",
        "GET closed.test:80 HTTP/1.1\r\nHost: open.test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: closed.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : closed.test\r\nHost: open.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.test\r\nX: y\r\n Host: closed.test\r\n\r\n",
    ] {
        assert_ne!(once(request), 200, "{request:?}");
    }
    // The other way round, the target's host is the one that counts, and the only one that is forwarded.
    assert_eq!(once("GET http://open.test/ HTTP/1.1\r\nHost: closed.test\r\n\r\n"), 200);
    assert_eq!(open.last().header("host"), Some("open.test"));
    for fields in [
        &[(":authority", "open.test"), ("host", "closed.test")][..],
        &[(":authority", "closed.test"), ("host", "open.test")],
        &[(":authority", "open.test@closed.test")],
        &[(":authority", "open.test"), ("host", "open.test"), ("host", "closed.test")],
        &[(":authority", "open.test"), (":authority", "closed.test")],
        &[("host", "closed.test")],
        &[(":authority", "open.test"), (":path", "http://closed.test/")],
    ] {
        let mut client = Frames::connect(at);
        let mut all = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
        all.extend(fields);
        let flags = frames::END_HEADERS | frames::END_STREAM;
        client.send(kind::HEADERS, flags, 1, &frames::block(&all)).expect("a fresh connection");
        assert_ne!(client.status(1), Some(200), "{fields:?}");
    }
    assert!(closed.requests().is_empty(), "{:?}", closed.requests());
}

#[test]
fn fields_sent_twice_or_alike_do_not_blind_a_rule() {
    let origin = Origin::hello();
    let denies = policy("app", "rules: [{ action: deny, to: [{ headers: [{ name: x-role, value: admin }] }] }]");
    let allows = policy("app", "rules: [{ action: allow, to: [{ headers: [{ name: x-role, value: user }] }] }]");
    for rules in [&denies, &allows] {
        let proxy = Proxy::start(&(config::sidecar(origin.address()) + rules));
        let ask = |lines: &str| {
            Wire::connect(proxy.inbound()).exchange(&format!("GET / HTTP/1.1\r\nHost: app\r\n{lines}\r\n")).status
        };
        assert_eq!(ask("x-role: user\r\n"), 200);
        for lines in [
            "x-role: admin\r\n",
            "X-Role: admin\r\n",
            "x-role: admin\r\nx-role: user\r\n",
            "x-role: user\r\nx-role: admin\r\n",
            "x-role: user\r\nx_role: admin\r\n",
        ] {
            assert_eq!(ask(lines), 403, "{lines:?}");
        }
    }
    // What Connection names is gone before anything decides: a rule that lets it pass sees the same as the app.
    let proxy = Proxy::start(&(config::sidecar(origin.address()) + &allows));
    let request = "GET / HTTP/1.1\r\nHost: app\r\nx-role: user\r\nConnection: x-role\r\n\r\n";
    assert_eq!(Wire::connect(proxy.inbound()).exchange(request).status, 403);
}

#[test]
fn a_second_request_behind_an_allowed_one_is_judged_for_itself() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&crate::no_admin(origin.address()));
    for smuggled in [
        // Pipelined, behind a body, behind an upgrade that nobody takes, in HTTP/1.0.
        "GET /a HTTP/1.1\r\nHost: app\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhiGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\nTransfer_Encoding: chunked\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "CONNECT app:80 HTTP/1.1\r\nHost: app\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\nGET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
    ] {
        let mut wire = Wire::connect(proxy.inbound());
        let end = smuggled.strip_suffix("\r\n").expect("a head ends so");
        wire.try_send(format!("{end}Connection: close\r\n\r\n")).ok();
        let answers = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(!answers.contains("GET /admin"), "{smuggled:?}: {answers}");
        let judged = answers.matches("HTTP/1.1 ").count();
        let refused = ["400", "501"].iter().any(|status| answers.contains(&format!("HTTP/1.1 {status}")));
        assert!(refused || (judged == 2 && answers.contains("HTTP/1.1 403")), "{smuggled:?}: {answers}");
    }
    assert!(origin.requests().iter().all(|r| r.target != "/admin"));
}

#[test]
fn a_caller_that_hides_its_identity_is_not_less_denied_and_addresses_come_from_the_socket() {
    let (origin, ca) = (Origin::hello(), Ca::new("mesh"));
    let own = ca.identity("spiffe://cluster.local/ns/shop/sa/app");
    let start = |rules: &str| {
        let listener = config::inbound("mtls: permissive");
        Proxy::start(
            &(config::proxy_with(&own.yaml(), &[&listener])
                + &config::upstream("app", origin.address())
                + &policy("app", rules)),
        )
    };
    let ask = |proxy: &Proxy, lines: &str| {
        Wire::connect(proxy.inbound()).exchange(&format!("GET / HTTP/1.1\r\nHost: app\r\n{lines}\r\n")).status
    };
    let denies =
        start("rules: [{ action: deny, from: [{ identities: [\"spiffe://cluster.local/ns/shop/sa/web\"] }] }]");
    assert_eq!(ask(&denies, ""), 403, "whoever could have proven who it is and has not");
    let by_address = start("rules: [{ action: allow, from: [{ cidrs: [10.0.0.0/8] }] }]");
    assert_eq!(
        ask(&by_address, "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n"),
        403
    );
    let by_name = start("rules: [{ action: allow, from: [{ namespaces: [shop] }] }]");
    assert_eq!(ask(&by_name, "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/web\r\n"), 403);
    assert!(origin.requests().is_empty());
}
