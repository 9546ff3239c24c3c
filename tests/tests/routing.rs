//! Which request goes where: routes, filters, weights, hosts, and names out of DNS.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use outrigger_tests::{
    LONG, Origin, Proxy, Reply, Response, Wire, config,
    dns::{Answer, Dns},
    eventually,
    h2peer::{self, H2Origin},
    wire,
};

/// `inbound` before the upstream `app` with two more upstreams, and these rules on `app`.
struct Routed {
    main: Origin,
    other: Origin,
    proxy: Proxy,
}

impl Routed {
    fn new(rules: &str) -> Self {
        let (main, other) = (Origin::named("main"), Origin::named("other"));
        let yaml = config::sidecar(main.address())
            + &config::upstream("other", other.address())
            + &config::http_route("app", "app", rules);
        let proxy = Proxy::start(&yaml);
        Self { main, other, proxy }
    }

    fn ask(&self, request: &str) -> Reply {
        wire::once(self.proxy.inbound(), request)
    }

    fn get(&self, path: &str) -> String {
        let reply = Wire::connect(self.proxy.inbound()).get(path);
        if reply.status == 200 { reply.text() } else { reply.status.to_string() }
    }
}

fn to(name: &str) -> String {
    format!("backendRefs: [{}]", config::backend(name))
}

#[test]
fn the_canary_of_the_contract() {
    let rules = format!(
        "- name: canary\n  matches: [{{ path: {{ type: PathPrefix, value: /charge }}, headers: [{{ name: x-beta, value: \"1\" }}] }}]\n  {}\n\
         - name: main\n  filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {{ set: [{{ name: x-tier, value: gold }}] }} }}]\n  {}",
        to("other"),
        to("app")
    );
    let r = Routed::new(&rules);
    let beta =
        |path: &str| r.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Beta: 1\r\nX-Tier: iron\r\n\r\n")).text();
    assert_eq!(beta("/charge"), "other");
    assert_eq!(beta("/charge/1?x"), "other");
    assert_eq!(beta("/charges"), "main");
    assert_eq!(r.get("/charge"), "main");
    assert_eq!(r.other.last().header("x-tier"), Some("iron"));
    assert_eq!(beta("/elsewhere"), "main");
    assert_eq!(r.main.last().header("x-tier"), Some("gold"));
    r.proxy.wait_metric("requests_total", &[("route", "app"), ("upstream", "other")], |n| n == 2.0);
}

#[test]
fn the_more_specific_match_wins_whatever_the_order() {
    let rule = |matches: &str, backend: &str| format!("- matches: [{matches}]\n  {}\n", to(backend));
    let rules = [
        rule("{ path: { type: PathPrefix, value: / } }", "app"),
        rule("{ path: { type: PathPrefix, value: /a } }", "other"),
        rule("{ path: { type: PathPrefix, value: /a/b } }", "app"),
        rule("{ path: { type: Exact, value: /a/b/c } }", "other"),
        rule("{ path: { type: PathPrefix, value: /a/b }, method: POST }", "other"),
        rule("{ path: { type: PathPrefix, value: /q }, queryParams: [{ name: v, value: \"2\" }] }", "other"),
        rule("{ path: { type: RegularExpression, value: \"/item/[0-9]+\" } }", "other"),
    ];
    let r = Routed::new(&rules.concat());
    for (path, want) in [
        ("/", "main"),
        ("/a", "other"),
        ("/a/", "other"),
        ("/ab", "main"),
        ("/a/b", "main"),
        ("/a/b/c", "other"),
        ("/a/b/c/d", "main"),
        ("/q", "main"),
        ("/q?v=1", "main"),
        ("/q?x=1&v=2", "other"),
        ("/item/12", "other"),
        ("/item/12x", "main"),
    ] {
        assert_eq!(r.get(path), want, "{path}");
    }
    assert_eq!(r.ask("POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").text(), "other");
}

#[test]
fn a_bound_route_that_does_not_match_is_404_with_the_reason() {
    let r = Routed::new(&format!("- matches: [{{ path: {{ type: Exact, value: /only }} }}]\n  {}", to("app")));
    assert_eq!(r.get("/only"), "main");
    let reply = Wire::connect(r.proxy.inbound()).get("/no");
    assert_eq!(reply.status, 404);
    assert!(reply.header("proxy-status").is_some_and(|v| v.contains("error=destination_not_found")));
    assert_eq!(reply.json()["error"], "destination_not_found");
}

#[test]
fn weights_share_the_requests() {
    let refs = "backendRefs: [{ group: outrigger.dev, kind: Upstream, name: app, weight: 95 }, \
                { group: outrigger.dev, kind: Upstream, name: other, weight: 5 }]";
    let r = Routed::new(&format!("- {refs}"));
    let mut client = Wire::connect(r.proxy.inbound());
    let other = (0..2000).filter(|_| client.get("/").text() == "other").count();
    // Mean 100, standard deviation 9.7: five of them.
    assert!((50..=150).contains(&other), "{other} of 2000");
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    let refs = "backendRefs: [{ group: outrigger.dev, kind: Upstream, name: app, weight: 0 }, \
                { group: outrigger.dev, kind: Upstream, name: other, weight: 1 }]";
    let r = Routed::new(&format!("- {refs}"));
    assert!((0..50).all(|_| r.get("/") == "other"));
}

#[test]
fn endpoints_share_by_weight() {
    let (heavy, light) = (Origin::named("heavy"), Origin::named("light"));
    let endpoints = format!(
        "endpoints: [{{ address: \"{}\", weight: 3 }}, {{ address: \"{}\", weight: 1 }}]",
        heavy.address(),
        light.address()
    );
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_with("app", &endpoints)
        + &config::policy("app", "loadBalancing: { algorithm: random }");
    let proxy = Proxy::start(&yaml);
    let mut client = Wire::connect(proxy.inbound());
    let heavy = (0..1000).filter(|_| client.get("/").text() == "heavy").count();
    assert!((650..=850).contains(&heavy), "{heavy} of 1000");
}

#[test]
fn headers_of_requests_and_responses_are_edited() {
    let rules = format!(
        "- filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {{ set: [{{ name: x-set, value: new }}], add: [{{ name: x-add, value: more }}], remove: [x-remove] }}\n    \
         - type: ResponseHeaderModifier\n      responseHeaderModifier: {{ set: [{{ name: server, value: hidden }}], add: [{{ name: x-out, value: \"1\" }}], remove: [x-internal] }}\n  {}",
        to("app")
    );
    let main = Origin::start(|_| Response::text("ok").header("Server", "secret").header("X-Internal", "1"));
    let yaml = config::sidecar(main.address()) + &config::http_route("app", "app", &rules);
    let proxy = Proxy::start(&yaml);
    let reply = wire::once(
        proxy.inbound(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Set: old\r\nX-Set: older\r\nX-Add: first\r\nX-Remove: 1\r\n\r\n",
    );
    assert_eq!(
        (reply.header("server"), reply.header("x-out"), reply.header("x-internal")),
        (Some("hidden"), Some("1"), None)
    );
    let got = main.last();
    let all = |name: &str| -> Vec<String> {
        got.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).collect()
    };
    assert_eq!(
        (all("x-set"), all("x-add").join(","), all("x-remove").len()),
        (vec!["new".to_owned()], "first,more".to_owned(), 0)
    );
}

#[test]
fn redirects_are_answered_by_the_proxy() {
    let redirect = |path: &str, fields: &str| {
        format!(
            "- matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]\n  filters: [{{ type: RequestRedirect, requestRedirect: {{ {fields} }} }}]\n"
        )
    };
    let rules = redirect("/old", "hostname: new.example, statusCode: 301")
        + &redirect("/tls", "scheme: https")
        + &redirect("/pre", "path: { type: ReplacePrefixMatch, replacePrefixMatch: /post }, statusCode: 308")
        + &redirect("/full", "path: { type: ReplaceFullPath, replaceFullPath: /there }, port: 8443");
    let r = Routed::new(&rules);
    let location = |path: &str| {
        let reply = r.ask(&format!("GET {path} HTTP/1.1\r\nHost: here.example\r\n\r\n"));
        format!("{} {}", reply.status, reply.header("location").unwrap_or_default())
    };
    // GEP: without scheme and port the port is the listener's.
    let port = r.proxy.inbound().port();
    assert_eq!(location("/old/x?y=1"), format!("301 http://new.example:{port}/old/x?y=1"));
    assert_eq!(location("/tls/a"), "302 https://here.example/tls/a");
    assert_eq!(location("/pre/a/b?c"), format!("308 http://here.example:{port}/post/a/b?c"));
    assert_eq!(location("/full/a"), "302 http://here.example:8443/there");
    assert!(r.main.requests().is_empty());
}

#[test]
fn rewrites_change_path_and_host() {
    let rules = format!(
        "- matches: [{{ path: {{ type: PathPrefix, value: /api/v1 }} }}]\n  filters: [{{ type: URLRewrite, urlRewrite: {{ hostname: inner.example, path: {{ type: ReplacePrefixMatch, replacePrefixMatch: /v2 }} }} }}]\n  {0}\n\
         - matches: [{{ path: {{ type: PathPrefix, value: /root }} }}]\n  filters: [{{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: / }} }} }}]\n  {0}\n\
         - matches: [{{ path: {{ type: PathPrefix, value: /all }} }}]\n  filters: [{{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplaceFullPath, replaceFullPath: /one }} }} }}]\n  {0}",
        to("app")
    );
    let r = Routed::new(&rules);
    for (path, want) in [
        ("/api/v1/users?x=1", "/v2/users?x=1"),
        ("/api/v1", "/v2"),
        ("/root/a/b", "/a/b"),
        ("/root", "/"),
        ("/root?q", "/?q"),
        ("/all/of/it?keep=1", "/one?keep=1"),
    ] {
        assert_eq!(r.get(path), "main", "{path}");
        assert_eq!(r.main.last().target, want, "{path}");
    }
    r.get("/api/v1/host");
    assert_eq!(r.main.last().header("host"), Some("inner.example"));
}

#[test]
fn mirrors_get_copies_and_change_nothing() {
    let rules = format!(
        "- filters: [{{ type: RequestMirror, requestMirror: {{ backendRef: {} }} }}]\n  {}",
        config::backend("other"),
        to("app")
    );
    let r = Routed::new(&rules);
    let reply = r.ask("POST /m?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(reply.text(), "main");
    let copy = eventually("the copy arrives", LONG, || r.other.requests().pop());
    assert_eq!((copy.method.as_str(), copy.target.as_str(), copy.text().as_str()), ("POST", "/m?x=1", "hello"));
    assert_eq!(r.main.last().text(), "hello");
}

#[test]
fn a_dead_mirror_harms_nobody() {
    let main = Origin::named("main");
    let rules = format!(
        "- filters: [{{ type: RequestMirror, requestMirror: {{ backendRef: {} }} }}]\n  {}",
        config::backend("other"),
        to("app")
    );
    let yaml = config::sidecar(main.address())
        + &config::upstream("other", outrigger_tests::origin::refused())
        + &config::http_route("app", "app", &rules);
    let proxy = Proxy::start(&yaml);
    let mut client = Wire::connect(proxy.inbound());
    assert!((0..20).all(|_| client.get("/").text() == "main"));
}

#[test]
fn outbound_requests_go_by_host() {
    let (a, b, any) = (Origin::named("a"), Origin::named("b"), Origin::named("any"));
    let upstream = |name: &str, hosts: &str, origin: &Origin| {
        config::upstream_with(
            name,
            &format!("hostnames: [{hosts}], endpoints: [{{ address: \"{}\" }}]", origin.address()),
        )
    };
    let yaml = config::proxy(&[config::OUTBOUND])
        + &upstream("a", "a.example, \"a.example:8443\"", &a)
        + &upstream("b", "b, b.internal", &b)
        + &upstream("any", "\"*.wild.example\"", &any);
    let proxy = Proxy::start(&yaml);
    let ask = |host: &str| {
        let reply = wire::once(proxy.outbound(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        if reply.status == 200 { reply.text() } else { reply.status.to_string() }
    };
    for (host, want) in [
        ("a.example", "a"),
        ("A.Example", "a"),
        ("a.example:80", "a"),
        ("a.example.", "a"),
        ("b", "b"),
        ("b.internal:8080", "b"),
        ("x.wild.example", "any"),
        ("wild.example", "404"),
        ("nobody", "404"),
        ("", "404"),
    ] {
        assert_eq!(ask(host), want, "{host:?}");
    }
    let reply = wire::once(proxy.outbound(), "GET http://b.internal/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(reply.text(), "b");
    let lost = wire::once(proxy.outbound(), "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n");
    assert_eq!(lost.json()["error"], "destination_not_found");
    assert!(lost.json()["message"].as_str().is_some_and(|m| m.contains("host")), "{}", lost.text());
}

#[test]
fn grpc_routes_match_service_and_method() {
    let (main, other) = (H2Origin::start(), H2Origin::start());
    let up = |name: &str, origin: &H2Origin| {
        config::upstream_with(name, &format!("protocol: grpc, endpoints: [{{ address: \"{}\" }}]", origin.address()))
    };
    let rules = format!(
        "- matches: [{{ method: {{ service: shop.Cart, method: Add }} }}]\n  {}\n- matches: [{{ method: {{ service: shop.Cart }} }}]\n  {}",
        to("other"),
        to("app")
    );
    let yaml = config::proxy(&[config::INBOUND])
        + &up("app", &main)
        + &up("other", &other)
        + &config::grpc_route("app", "app", &rules);
    let proxy = Proxy::start(&yaml);
    let call = |path: &str| {
        let request = h2peer::request("POST", path, &[("content-type", "application/grpc"), ("te", "trailers")]);
        h2peer::run(async {
            h2peer::call(&h2peer::connect(proxy.inbound()).await, request, b"", &[]).await.expect("an answer")
        })
    };
    assert_eq!(call("/shop.Cart/Add").status, 200);
    assert_eq!((main.requests().len(), other.requests().len()), (0, 1));
    assert_eq!(call("/shop.Cart/Remove").status, 200);
    assert_eq!((main.requests().len(), other.requests().len()), (1, 1));
    // UNIMPLEMENTED, as the gRPC mapping of 404 says.
    let lost = call("/shop.Other/X");
    assert_eq!((lost.status, lost.header("grpc-status")), (200, Some("12")));
}

#[test]
fn names_are_resolved_and_followed() {
    let dns = Dns::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let one = Origin::on(listener, |wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send(Response::text("one").closing().wire("GET"));
        }
    });
    let two = TcpListener::bind(("127.0.0.2", port)).expect("another loopback address");
    let two = Origin::on(two, |wire, _, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send(Response::text("two").closing().wire("GET"));
        }
    });
    dns.set("app.test", Answer::A(vec![Ipv4Addr::new(127, 0, 0, 1)], 1));
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_with("app", &format!("dns: {{ name: app.test., port: {port} }}"));
    let proxy = Proxy::start_with(&yaml, &[("OUTRIGGER_DNS_SERVERS", &dns.address().to_string())]);
    let get = || Wire::connect(proxy.inbound()).get("/");
    eventually("the name is resolved", LONG, || (get().text() == "one").then_some(()));

    dns.set("app.test", Answer::A(vec![Ipv4Addr::new(127, 0, 0, 2)], 1));
    eventually("the TTL is obeyed", LONG, || (get().text() == "two").then_some(()));

    // A dead resolver keeps the last good answer.
    dns.set("app.test", Answer::Failure);
    let before = dns.queries();
    eventually("it is asked again", LONG, || (dns.queries() > before).then_some(()));
    assert_eq!(get().text(), "two");
    dns.set("app.test", Answer::Silence);
    assert_eq!(get().text(), "two");
    drop((one, two));
}

#[test]
fn a_name_that_does_not_exist_is_said_to() {
    let dns = Dns::start();
    let yaml =
        config::proxy(&[config::INBOUND]) + &config::upstream_with("app", "dns: { name: nowhere.test., port: 80 }");
    let proxy = Proxy::start_with(&yaml, &[("OUTRIGGER_DNS_SERVERS", &dns.address().to_string())]);
    let reply = eventually("the negative answer is known", LONG, || {
        let reply = Wire::connect(proxy.inbound()).get("/");
        (reply.json()["error"] == "dns_error").then_some(reply)
    });
    assert_eq!(reply.status, 503);
}

#[test]
fn service_records_name_ports() {
    let dns = Dns::start();
    let origin = Origin::named("by SRV");
    let target = (0, 1, origin.address().port(), "host.test".to_owned());
    dns.set("_http._tcp.app.test", Answer::Srv(vec![target], 5));
    dns.set("host.test", Answer::A(vec![Ipv4Addr::LOCALHOST], 5));
    let yaml = config::proxy(&[config::INBOUND]) + &config::upstream_with("app", "dns: { srv: _http._tcp.app.test. }");
    let proxy = Proxy::start_with(&yaml, &[("OUTRIGGER_DNS_SERVERS", &dns.address().to_string())]);
    let reply = eventually("the records are resolved", LONG, || {
        let reply = Wire::connect(proxy.inbound()).get("/");
        (reply.status == 200).then_some(reply)
    });
    assert_eq!(reply.text(), "by SRV");
    outrigger_tests::holds("it stays so", Duration::from_millis(100), || {
        Wire::connect(proxy.inbound()).get("/").status == 200
    });
}
