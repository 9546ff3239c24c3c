//! What the objects of a cluster mean: Services, GAMMA routes and grants; policies in their order, and how objects are read.

use outrigger_config::{Cluster, Fault, LocalPort, Severity, Source, compile_in, model::*, validate_in};
use serde_json::{Value, json};

#[path = "cluster/policies.rs"]
mod policies;
#[path = "cluster/reading.rs"]
mod reading;

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
