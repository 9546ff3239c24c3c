//! What the objects of a cluster mean: Services, GAMMA routes, grants, merging over namespaces, version skew, located faults.

use outrigger_config::{Cluster, Fault, LocalPort, Severity, Source, compile_in, model::*, validate_in};
use serde_json::{Value, json};

const PROXY: &str = "
apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: pod, namespace: NS }
spec: { listeners: [{ name: out, address: 127.0.0.1:2, direction: outbound }] }
";

fn object(kind: &str, namespace: &str, name: &str, spec: &Value) -> Source {
    aged(kind, namespace, name, "2026-01-01T00:00:00Z", spec)
}

fn aged(kind: &str, namespace: &str, name: &str, created: &str, spec: &Value) -> Source {
    let version = match kind {
        "Service" => "v1",
        "ReferenceGrant" => "gateway.networking.k8s.io/v1beta1",
        "HTTPRoute" | "GRPCRoute" => "gateway.networking.k8s.io/v1",
        _ => "outrigger.dev/v1alpha1",
    };
    let text = json!({
        "apiVersion": version, "kind": kind,
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": created, "uid": "u", "generation": 3 },
        "spec": spec,
    });
    Source::object(format!("{kind} {namespace}/{name}"), text.to_string())
}

fn service(namespace: &str, name: &str, ports: &[u16]) -> Source {
    let ports: Vec<Value> = ports
        .iter()
        .map(|p| json!({ "name": format!("p{p}"), "port": p, "targetPort": 8080, "protocol": "TCP" }))
        .collect();
    object("Service", namespace, name, &json!({ "type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": ports }))
}

/// A route of `namespace` at a Service, to backends `(namespace, name, port, weight)`.
fn route(namespace: &str, name: &str, parent: (&str, &str), backends: &[(&str, &str, u16, u32)]) -> Source {
    let backends: Vec<Value> = backends
        .iter()
        .map(|(ns, name, port, weight)| json!({ "namespace": ns, "name": name, "port": port, "weight": weight }))
        .collect();
    object(
        "HTTPRoute",
        namespace,
        name,
        &json!({
            "parentRefs": [{ "group": "", "kind": "Service", "namespace": parent.0, "name": parent.1 }],
            "rules": [{ "name": "r", "matches": [{ "path": { "type": "PathPrefix", "value": "/in" } }], "backendRefs": backends }],
        }),
    )
}

fn cluster(namespace: &str) -> Cluster {
    Cluster { namespace: namespace.into(), ..Cluster::default() }
}

fn build_in(cluster: &Cluster, objects: &[Source]) -> (Model, Vec<String>) {
    let proxy = Source { name: "bootstrap".into(), text: PROXY.replace("NS", &cluster.namespace) };
    let sources: Vec<Source> = std::iter::once(proxy).chain(objects.iter().cloned()).collect();
    let compiled = compile_in(&sources, cluster).unwrap_or_else(|f| panic!("{f:#?}"));
    (compiled.model, compiled.warnings.iter().map(ToString::to_string).collect())
}

fn build(namespace: &str, objects: &[Source]) -> Model {
    build_in(&cluster(namespace), objects).0
}

fn upstream<'m>(model: &'m Model, name: &str) -> &'m Upstream {
    model
        .upstreams
        .iter()
        .find(|u| &*u.name == name)
        .unwrap_or_else(|| panic!("no {name} among {:?}", model.upstreams.iter().map(|u| &u.name).collect::<Vec<_>>()))
}

fn routes(model: &Model, name: &str) -> Vec<String> {
    upstream(model, name).routes.rules.iter().map(|r| r.route.to_string()).collect()
}

fn host(model: &Model, host: &str) -> Option<String> {
    let ListenerTarget::ByHost(table) = &model.listeners[0].target else { panic!() };
    table.find(host).map(|id| model.upstream(id).name.to_string())
}

#[test]
fn each_tcp_port_of_a_service_is_an_upstream() {
    let ports = json!([
        { "name": "web", "port": 80, "protocol": "TCP" },
        { "name": "grpc", "port": 9000, "appProtocol": "grpc" },
        { "name": "h2c", "port": 9001, "appProtocol": "kubernetes.io/h2c" },
        { "name": "ws", "port": 9002, "appProtocol": "kubernetes.io/ws" },
        { "name": "wss", "port": 9003, "appProtocol": "kubernetes.io/wss" },
        { "name": "tls", "port": 9004, "appProtocol": "https" },
        { "name": "raw", "port": 9005, "appProtocol": "tcp" },
        { "name": "own", "port": 9006, "appProtocol": "example.com/thrift" },
        { "name": "db", "port": 3306 },
        { "name": "web-db", "port": 5432, "appProtocol": "http" },
        { "name": "dns", "port": 53, "protocol": "UDP" },
    ]);
    let model = build("web", &[object("Service", "shop", "orders", &json!({ "ports": ports }))]);
    let protocol = |port| upstream(&model, &format!("shop/orders:{port}")).protocol;
    assert_eq!(protocol(80), UpstreamProtocol::Auto);
    assert_eq!(protocol(9000), UpstreamProtocol::Grpc);
    assert_eq!(protocol(9001), UpstreamProtocol::Http2);
    assert_eq!(protocol(9002), UpstreamProtocol::Http);
    for tcp in [9003, 9004, 9005, 3306] {
        assert_eq!(protocol(tcp), UpstreamProtocol::Tcp, "{tcp}");
    }
    assert_eq!(protocol(9006), UpstreamProtocol::Auto);
    assert_eq!(protocol(5432), UpstreamProtocol::Http, "what is said beats what the number suggests");
    assert_eq!(model.upstreams.len(), 10, "UDP is not carried");
    assert!(model.upstreams.iter().all(|u| u.source == EndpointSource::Discovered));
}

#[test]
fn external_names_are_dns_upstreams() {
    let spec = json!({ "type": "ExternalName", "externalName": "db.example.com.", "ports": [{ "port": 5432 }] });
    let model = build("shop", &[object("Service", "shop", "db", &spec)]);
    let source = EndpointSource::Dns { name: "db.example.com".into(), port: 5432 };
    assert_eq!(upstream(&model, "shop/db:5432").source, source);
}

#[test]
fn names_are_those_of_the_callers_namespace() {
    let objects = [service("shop", "payments", &[80, 8080]), service("web", "payments", &[80])];
    let model = build("shop", &objects);
    let found = |name: &str| host(&model, name);
    assert_eq!(found("payments").as_deref(), Some("shop/payments:80"));
    assert_eq!(found("payments:8080").as_deref(), Some("shop/payments:8080"));
    assert_eq!(found("PAYMENTS.shop.").as_deref(), Some("shop/payments:80"));
    assert_eq!(found("payments.shop.svc:8080").as_deref(), Some("shop/payments:8080"));
    assert_eq!(found("payments.shop.svc.cluster.local").as_deref(), Some("shop/payments:80"));
    assert_eq!(found("payments.web").as_deref(), Some("web/payments:80"));
    assert_eq!(found("payments.shop:9999").as_deref(), None, "a port that it does not have");
    assert_eq!(found("payments.shop.svc.example"), None);

    let other = build("web", &objects);
    assert_eq!(host(&other, "payments").as_deref(), Some("web/payments:80"));
    let none = build("ops", &objects);
    assert_eq!(host(&none, "payments"), None);

    let cluster = Cluster { domain: "corp.example".into(), ..cluster("ops") };
    let (model, _) = build_in(&cluster, &objects);
    assert_eq!(host(&model, "payments.web.svc.corp.example").as_deref(), Some("web/payments:80"));
}

/// GAMMA, GEP-1224: producer routes are for all, consumer routes for the clients of their namespace, instead.
#[test]
fn producers_and_consumers() {
    let orders = service("shop", "orders", &[80]);
    let producer = route("shop", "producer", ("shop", "orders"), &[("shop", "orders", 80, 1)]);
    let consumer = route("web", "consumer", ("shop", "orders"), &[("shop", "orders", 80, 1)]);
    let grant = grant("shop", "web", None);
    let all = [orders.clone(), producer.clone(), consumer.clone(), grant];
    assert_eq!(routes(&build("shop", &all), "shop/orders:80"), ["shop/producer"]);
    assert_eq!(routes(&build("web", &all), "shop/orders:80"), ["web/consumer"]);
    assert_eq!(routes(&build("ops", &all), "shop/orders:80"), ["shop/producer"]);
    assert_eq!(routes(&build("ops", &[orders.clone(), consumer]), "shop/orders:80"), [""; 0], "not for others");
    assert_eq!(routes(&build("shop", &[orders]), "shop/orders:80"), [""; 0]);

    let decided = build("web", &all).decisions;
    let lost = decided.iter().find(|d| d.winner == "HTTPRoute web/consumer").expect("it is recorded");
    assert_eq!(lost.subject, "Upstream shop/orders:80");
    assert_eq!(lost.losers[0].0, "HTTPRoute shop/producer");
}

fn grant(namespace: &str, from: &str, name: Option<&str>) -> Source {
    let spec = json!({
        "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from }],
        "to": [{ "group": "", "kind": "Service", "name": name }],
    });
    object("ReferenceGrant", namespace, "g", &spec)
}

#[test]
fn routes_attach_to_ports_by_number_and_by_name() {
    let parents = |parent: Value| {
        let spec = json!({ "parentRefs": [parent], "rules": [{ "backendRefs": [{ "name": "orders", "port": 80 }] }] });
        let model = build("shop", &[service("shop", "orders", &[80, 8080]), object("HTTPRoute", "shop", "r", &spec)]);
        let has = |port: u16| !upstream(&model, &format!("shop/orders:{port}")).routes.rules.is_empty();
        (has(80), has(8080))
    };
    assert_eq!(parents(json!({ "group": "", "kind": "Service", "name": "orders" })), (true, true));
    assert_eq!(parents(json!({ "group": "", "kind": "Service", "name": "orders", "port": 8080 })), (false, true));
    assert_eq!(
        parents(json!({ "group": "", "kind": "Service", "name": "orders", "sectionName": "p80" })),
        (true, false)
    );
    assert_eq!(
        parents(json!({ "group": "", "kind": "Service", "name": "orders", "sectionName": "p80", "port": 8080 })),
        (false, false)
    );
    assert_eq!(parents(json!({ "group": "", "kind": "Service", "name": "orders", "port": 1 })), (false, false));
    assert_eq!(parents(json!({ "kind": "Gateway", "name": "edge" })), (false, false), "another controller's");
    assert_eq!(parents(json!({ "name": "orders" })), (false, false), "the Gateway API means a Gateway");
    assert_eq!(parents(json!({ "kind": "Service", "name": "orders", "namespace": "ops" })), (false, false));
}

/// 500 for the share that leads nowhere, as the Gateway API says of invalid references.
#[test]
fn what_leads_nowhere_keeps_its_share() {
    let share = |backends: &[(&str, &str, u16, u32)], more: &[Source]| {
        let mut objects = vec![
            service("shop", "orders", &[80]),
            service("ops", "orders", &[80]),
            route("shop", "r", ("shop", "orders"), backends),
        ];
        objects.extend(more.iter().cloned());
        let model = build("web", &objects);
        let rule = upstream(&model, "shop/orders:80").routes.rules[0].clone();
        (rule.backends.iter().map(|b| b.weight).sum::<u32>(), rule.total_weight)
    };
    assert_eq!(share(&[("shop", "orders", 80, 3)], &[]), (3, 3));
    assert_eq!(share(&[("shop", "orders", 80, 3), ("shop", "nowhere", 80, 1)], &[]), (3, 4));
    assert_eq!(share(&[("shop", "orders", 81, 3)], &[]), (0, 3), "no such port");
    assert_eq!(share(&[("shop", "orders", 80, 1), ("ops", "orders", 80, 1)], &[]), (1, 2), "no grant");
    let to_shop = |name| grant("ops", "shop", name);
    assert_eq!(share(&[("ops", "orders", 80, 1)], &[to_shop(None)]), (1, 1));
    assert_eq!(share(&[("ops", "orders", 80, 1)], &[to_shop(Some("orders"))]), (1, 1));
    assert_eq!(share(&[("ops", "orders", 80, 1)], &[to_shop(Some("payments"))]), (0, 1));
    assert_eq!(share(&[("ops", "orders", 80, 1)], &[grant("ops", "web", None)]), (0, 1), "to others");
    assert_eq!(share(&[("ops", "orders", 80, 1)], &[grant("shop", "shop", None)]), (0, 1), "in another namespace");
}

#[test]
fn a_backend_of_an_unknown_kind_is_no_fault() {
    let spec = json!({
        "parentRefs": [{ "group": "", "kind": "Service", "name": "orders" }],
        "rules": [{ "backendRefs": [{ "group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "o", "port": 80 }] }],
    });
    let objects = [service("shop", "orders", &[80]), object("HTTPRoute", "shop", "r", &spec)];
    let (model, warnings) = build_in(&cluster("shop"), &objects);
    let rule = &upstream(&model, "shop/orders:80").routes.rules[0];
    assert_eq!((rule.backends.len(), rule.total_weight), (0, 1));
    assert!(warnings[0].starts_with("HTTPRoute shop/r: spec.rules[0].backendRefs[0].kind: warning: `ServiceImport`"));
}

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

fn told(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn fields_of_newer_versions_are_left_out() {
    let policy = json!({ "targetRefs": [{ "kind": "Service", "name": "o" }], "warp": 9, "retry": { "attempts": 1, "hedge": true } });
    let kept = object("TrafficPolicy", "shop", "t", &policy);
    let faults = validate_in(std::slice::from_ref(&kept), &cluster("shop"));
    assert!(faults.iter().all(|f| f.severity == Severity::Warning));
    assert_eq!(
        told(&faults),
        [
            "TrafficPolicy shop/t: spec.warp: warning: field `warp` is left out: it is not known to this version",
            "TrafficPolicy shop/t: spec.retry.hedge: warning: field `hedge` is left out: it is not known to this version",
        ]
    );
    let wanted = Source::admission("TrafficPolicy shop/t", kept.text);
    let faults = validate_in(&[wanted], &cluster("shop"));
    assert_eq!(faults.iter().filter(|f| f.severity == Severity::Error).count(), 2, "{faults:?}");
}

#[test]
fn a_rule_of_access_never_loses_a_field() {
    let rules = json!([{ "from": [{ "namespaces": ["ops"], "hours": "9-17" }] }]);
    let spec = json!({ "targetRefs": [{ "kind": "Service", "name": "o" }], "rules": rules });
    let faults = validate_in(&[object("AccessPolicy", "shop", "a", &spec)], &cluster("shop"));
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].severity, Severity::Error);
    assert_eq!(&*faults[0].origin.path.clone().unwrap(), "spec.rules[0].from[0].hours");
}

#[test]
fn kubernetes_keeps_more_than_is_read() {
    let text = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "o", "namespace": "shop", "managedFields": [{ "a": 1 }], "newInKubernetes": {} },
        "spec": { "clusterIP": "None", "ports": [{ "port": 80, "nodePort": 30000 }], "trafficDistribution": "PreferClose" },
        "status": { "loadBalancer": {} }, "extra": 1,
    });
    assert_eq!(validate_in(&[Source::object("Service shop/o", text.to_string())], &cluster("shop")), []);
}

#[test]
fn faults_are_located_by_field() {
    let spec = json!({
        "parentRefs": [{ "kind": "Service", "name": "o" }],
        "rules": [
            { "backendRefs": [{ "name": "o", "port": 80 }] },
            { "matches": [{ "path": { "type": "RegularExpression", "value": "(" } }], "backendRefs": [{ "name": "o" }] },
            { "timeouts": { "request": "1.5s" } },
        ],
    });
    let faults = validate_in(&[object("HTTPRoute", "shop", "r", &spec)], &cluster("shop"));
    let places: Vec<String> = faults.iter().map(|f| f.origin.to_string()).collect();
    assert_eq!(
        places,
        [
            "HTTPRoute shop/r: spec.rules[1].matches[0].path.value",
            "HTTPRoute shop/r: spec.rules[1].backendRefs[0].name",
            "HTTPRoute shop/r: spec.rules[2].timeouts.request",
        ]
    );
}

#[test]
fn an_object_that_comes_twice_is_one() {
    let old = service("shop", "orders", &[80]);
    let new = service("shop", "orders", &[81]);
    let model = build("shop", &[old.clone(), old, new]);
    assert_eq!(model.upstreams.iter().map(|u| &*u.name).collect::<Vec<_>>(), ["shop/orders:81"]);
}

#[test]
fn services_and_grants_stand_in_no_file() {
    for (kind, version) in [("Service", "v1"), ("ReferenceGrant", "gateway.networking.k8s.io/v1beta1")] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: a }}\nspec: {{}}\n");
        let faults = outrigger_config::validate(&[Source { name: "f.yaml".into(), text }]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().starts_with("f.yaml:2:7: a "), "{}", faults[0]);
        assert!(faults[0].message.contains("in a file"), "{}", faults[0]);
    }
}

#[test]
fn a_list_of_a_cluster_is_read_as_its_items() {
    let inner: Vec<Value> = [service("shop", "a", &[80]), service("shop", "b", &[80])]
        .iter()
        .map(|s| serde_json::from_str(&s.text).unwrap())
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": inner });
    let model = build("shop", &[Source::object("List", list.to_string())]);
    assert_eq!(model.upstreams.len(), 2);
}

/// Alone, a document has no grants beside it, and they may well be there.
#[test]
fn a_document_alone_is_not_told_of_grants() {
    let foreign = route("shop", "r", ("shop", "orders"), &[("ops", "orders", 80, 1)]);
    assert_eq!(validate_in(std::slice::from_ref(&foreign), &cluster("shop")), []);
    let faults = validate_in(&[foreign, service("ops", "orders", &[80])], &cluster("shop"));
    assert!(
        faults[0].message.starts_with("no ReferenceGrant in namespace `ops` lets HTTPRoute shop/r refer"),
        "{faults:?}"
    );
}
