//! Which policy holds where several could: of the target, of its namespace, of the mesh, and of whose namespace.

use super::*;

fn timeout(kind: &str, namespace: &str, name: &str, created: &str, target: &Value, request: &str) -> Source {
    let spec = json!({ "targetRefs": [target], "timeouts": { "request": request } });
    aged(kind, namespace, name, created, &spec)
}

/// GEP-713: rule, route, port, Service, namespace, mesh.
#[test]
fn the_more_specific_policy_wins() {
    let target = |kind: &str, name: &str, section: Option<&str>| {
        let group = if kind == "HTTPRoute" { "gateway.networking.k8s.io" } else { "" };
        json!({ "group": group, "kind": kind, "name": name, "sectionName": section })
    };
    let mesh = object("MeshPolicy", "outrigger-system", "default", &json!({ "timeouts": { "request": "1s" } }));
    let ladder = [
        mesh,
        object("MeshPolicy", "shop", "default", &json!({ "timeouts": { "request": "2s" } })),
        timeout("TrafficPolicy", "shop", "ns", "2026", &target("Namespace", "shop", None), "3s"),
        timeout("TrafficPolicy", "shop", "svc", "2026", &target("Service", "orders", None), "4s"),
        timeout("TrafficPolicy", "shop", "port", "2026", &target("Service", "orders", Some("p80")), "5s"),
        timeout("TrafficPolicy", "shop", "route", "2026", &target("HTTPRoute", "r", None), "6s"),
        timeout("TrafficPolicy", "shop", "rule", "2026", &target("HTTPRoute", "r", Some("r")), "7s"),
    ];
    let base =
        [service("shop", "orders", &[80, 81]), route("shop", "r", ("shop", "orders"), &[("shop", "orders", 80, 1)])];
    for steps in 0..=ladder.len() {
        let objects: Vec<Source> = base.iter().chain(&ladder[..steps]).cloned().collect();
        let model = build("web", &objects);
        let request = |policy: &TrafficPolicy| policy.timeouts.request.map_or(0, |t| t.as_secs());
        let orders = upstream(&model, "shop/orders:80");
        assert_eq!(request(&orders.routes.rules[0].policy), steps as u64);
        assert_eq!(request(&orders.policy), steps.min(5) as u64, "a route's is not the Service's");
        let other = upstream(&model, "shop/orders:81");
        assert_eq!(request(&other.policy), steps.min(4) as u64, "a port's is not the other port's");
    }
}

#[test]
fn among_equals_the_oldest_then_the_first_by_name() {
    let target = json!({ "kind": "Service", "name": "orders" });
    let policy =
        |name: &str, created: &str, request: &str| timeout("TrafficPolicy", "shop", name, created, &target, request);
    let winner = |policies: &[Source]| {
        let objects: Vec<Source> =
            std::iter::once(service("shop", "orders", &[80])).chain(policies.iter().cloned()).collect();
        let (model, warnings) = build_in(&cluster("shop"), &objects);
        (upstream(&model, "shop/orders:80").policy.name.to_string(), warnings)
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let (name, warnings) = winner(&[policy("a", new, "1s"), policy("b", old, "2s")]);
    assert_eq!(name, "shop/b");
    assert_eq!(
        warnings,
        [
            "TrafficPolicy shop/a: spec.targetRefs[0]: warning: TrafficPolicy shop/a has no effect on Service shop/orders: \
          TrafficPolicy shop/b at TrafficPolicy shop/b wins, which is older"
        ]
    );
    assert_eq!(winner(&[policy("b", old, "1s"), policy("a", old, "2s")]).0, "shop/a");
}

#[test]
fn nobody_speaks_for_the_namespace_of_another() {
    let strict = |namespace: &str, targets: Value| {
        object("MeshPolicy", namespace, "default", &json!({ "targetRefs": targets, "timeouts": { "request": "9s" } }))
    };
    let holds = |policy: Source| {
        let model = build("web", &[service("shop", "orders", &[80]), policy]);
        upstream(&model, "shop/orders:80").policy.timeouts.request.is_some()
    };
    let shop = json!([{ "kind": "Namespace", "name": "shop" }]);
    assert!(holds(strict("shop", json!([]))));
    assert!(holds(strict("shop", shop.clone())));
    assert!(holds(strict("outrigger-system", json!([]))));
    assert!(holds(strict("outrigger-system", shop.clone())));
    assert!(!holds(strict("web", json!([]))), "without targets it is for its own namespace");
    assert!(!holds(strict("web", shop.clone())));

    let traffic = |namespace: &str, target: Value| timeout("TrafficPolicy", namespace, "t", "2026", &target, "9s");
    assert!(!holds(traffic("web", json!({ "kind": "Service", "name": "orders", "namespace": "shop" }))));
    assert!(!holds(traffic("web", json!({ "kind": "Namespace", "name": "shop" }))));
    assert!(holds(traffic("outrigger-system", json!({ "kind": "Namespace", "name": "shop" }))));
}

#[test]
fn the_pod_itself_is_guarded_by_every_service_before_it() {
    let services = vec![("shop".into(), "orders".into(), 80), ("shop".into(), "orders-v2".into(), 81)];
    let local = vec![
        LocalPort { port: 3000, services, protocol: "http".into() },
        LocalPort { port: 0, services: Vec::new(), protocol: "".into() },
    ];
    let cluster = Cluster { local, ..cluster("shop") };
    let access = |name: &str, target: Value| {
        object("AccessPolicy", "shop", name, &json!({ "targetRefs": [target], "rules": [{ "action": "deny" }] }))
    };
    let target = json!({ "kind": "Service", "name": "orders" });
    let policy = json!({
        "targetRefs": [target], "timeouts": { "request": "3s", "idle": "9s" }, "retry": { "attempts": 3 },
        "limits": { "maxRequests": 7 }, "circuitBreaker": { "consecutiveFailures": 3 },
        "rateLimit": { "requests": 1, "per": "1s", "by": "all" },
    });
    let objects = [
        service("shop", "orders", &[80]),
        service("shop", "orders-v2", &[81]),
        access("one", target),
        access("two", json!({ "kind": "Service", "name": "orders-v2" })),
        access("three", json!({ "kind": "Namespace", "name": "shop" })),
        access("other", json!({ "kind": "Service", "name": "payments" })),
        access("section", json!({ "kind": "Service", "name": "orders", "sectionName": "p80" })),
        access("no-section", json!({ "kind": "Service", "name": "orders", "sectionName": "p1" })),
        object("TrafficPolicy", "shop", "t", &policy),
    ];
    let (model, _) = build_in(&cluster, &objects);
    let guards = |name: &str| {
        upstream(&model, name).access.iter().map(|a| a.name.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(guards("inbound/shop/orders:80"), ["one", "two", "three", "section"]);
    assert_eq!(guards("inbound/0"), ["three"]);
    let inbound = upstream(&model, "inbound/shop/orders:80");
    assert_eq!(inbound.source, EndpointSource::Local { port: 3000 });
    assert_eq!(inbound.protocol, UpstreamProtocol::Http);
    assert_eq!(inbound.policy.limits.max_requests, 7);
    assert!(inbound.policy.rate_limit.is_some());
    assert!(inbound.policy.retry.is_none() && inbound.policy.circuit_breaker.is_none());
    assert_eq!(inbound.policy.timeouts.request, None);
    assert!(upstream(&model, "shop/orders:80").policy.retry.is_some());
}

#[test]
fn upstream_documents_have_namespaces() {
    let ledger = |namespace: &str, address: &str| {
        let spec = json!({ "hostnames": ["ledger.example"], "endpoints": [{ "address": address }] });
        object("Upstream", namespace, "ledger", &spec)
    };
    let spec = json!({
        "parentRefs": [{ "group": "outrigger.dev", "kind": "Upstream", "name": "ledger" }],
        "rules": [{ "backendRefs": [{ "group": "outrigger.dev", "kind": "Upstream", "name": "ledger" }] }],
    });
    let objects = [ledger("shop", "10.0.0.1:1"), ledger("web", "10.0.0.2:1"), object("HTTPRoute", "shop", "r", &spec)];
    let model = build("web", &objects);
    assert_eq!(host(&model, "ledger.example").as_deref(), Some("web/ledger"));
    assert_eq!(host(&model, "ledger").as_deref(), Some("web/ledger"));
    assert_eq!(routes(&model, "shop/ledger"), ["shop/r"]);
    assert_eq!(routes(&model, "web/ledger"), [""; 0]);
}

#[test]
fn two_upstreams_of_one_name_are_no_fault_of_the_proxy() {
    let named = |name: &str| {
        let spec = json!({ "hostnames": ["x.example"], "endpoints": [{ "address": "10.0.0.1:1" }] });
        object("Upstream", "web", name, &spec)
    };
    let (model, warnings) = build_in(&cluster("web"), &[named("a"), named("b")]);
    assert_eq!(host(&model, "x.example").as_deref(), Some("web/a"));
    assert!(warnings[0].contains("that of Upstream `a` already"), "{warnings:?}");
}
