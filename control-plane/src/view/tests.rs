//! What proxies are told, and how versions and deltas behave.

use outrigger_config::{
    Cluster, Source,
    discovery::{Binding, Endpoint, Service, Workload, endpoint::State},
    documents::Kind,
    validate_in,
};
use serde_json::json;

use super::*;
use crate::index::{
    Event, Namespace, Object, ObjectKind, Pod, ServiceKind,
    tests::{at, document, grant, index, pod, route, service, slice, subscriber, world},
};

fn ask(index: &Index, namespace: &str, key: &str) -> Body {
    resolve(index, &subscriber(namespace, "web-1"), &key.parse().unwrap()).body.unwrap()
}

fn binding(index: &Index, namespace: &str, key: &str) -> Binding {
    match ask(index, namespace, key) {
        Body::Binding(binding) => binding,
        other => panic!("{key}: {other:?}"),
    }
}

fn absent(index: &Index, namespace: &str, key: &str) -> String {
    match ask(index, namespace, key) {
        Body::Absent(absent) => absent.reason,
        other => panic!("{key}: {other:?}"),
    }
}

fn the_service(index: &Index, namespace: &str, key: &str) -> Service {
    match ask(index, namespace, key) {
        Body::Service(service) => service,
        other => panic!("{key}: {other:?}"),
    }
}

fn workload(index: &Index, namespace: &str, pod: &str) -> Workload {
    match resolve(index, &subscriber(namespace, pod), &Key::Workload).body {
        Some(Body::Workload(workload)) => workload,
        other => panic!("{other:?}"),
    }
}

fn origins(documents: &[outrigger_config::discovery::Document]) -> Vec<&str> {
    documents.iter().map(|d| &*d.origin).collect()
}

#[test]
fn addresses_of_services() {
    let index = index(world());
    assert_eq!(binding(&index, "web", "address/10.96.0.1:80").service, "service/shop/orders:80");
    assert_eq!(binding(&index, "web", "address/10.96.0.1:81").service, "service/shop/orders:81");
    assert_eq!(binding(&index, "web", "address/[fd00::2]:80").service, "service/shop/payments:80", "dual stack");
    assert!(binding(&index, "web", "address/10.96.0.2:80").pinned.is_none());
    assert_eq!(
        absent(&index, "web", "address/10.96.0.1:99"),
        "10.96.0.1 is Service shop/orders, which has no TCP port 99"
    );
    assert_eq!(absent(&index, "web", "address/192.0.2.9:80"), "192.0.2.9 is no address of the mesh");
}

#[test]
fn a_pod_that_the_caller_chose_is_kept() {
    let index = index(world());
    let chosen = binding(&index, "web", "address/10.0.1.1:8080");
    assert_eq!(chosen.service, "service/shop/db:80");
    let endpoint = chosen.pinned.unwrap();
    assert_eq!(endpoint.address, "10.0.1.1:8080");
    assert_eq!(endpoint.identity, "spiffe://cluster.local/ns/shop/sa/db");
    assert_eq!(endpoint.pod, "db-0");
    // Ready or not is the caller's business now.
    let draining = binding(&index, "web", "address/10.0.0.2:8080").pinned.unwrap();
    assert_eq!(draining.state(), State::Ready);
    // A port that no Service leads to.
    let plain = binding(&index, "web", "address/10.0.1.1:9999");
    assert_eq!(
        (plain.service.as_str(), plain.pinned.unwrap().identity.as_str()),
        ("", "spiffe://cluster.local/ns/shop/sa/db")
    );
}

#[test]
fn the_oldest_of_several_services_over_one_pod() {
    let mut older = service("shop", "zebra", "10.96.0.9", &[80]);
    older.created = "2020-01-01T00:00:00Z".into();
    let mut objects = world();
    objects.push(Object::Service(older));
    objects.push(Object::Slice(slice("shop", "zebra-a", "zebra", &[80], &[("10.0.0.1", "orders-1")])));
    let index = index(objects);
    assert_eq!(binding(&index, "web", "address/10.0.0.1:8080").service, "service/shop/zebra:80");
    let ports = workload(&index, "shop", "orders-1").ports;
    let port = ports.iter().find(|p| p.port == 8080).unwrap();
    assert_eq!(port.services, ["service/shop/zebra:80", "service/shop/orders:80"]);
}

#[test]
fn endpoints_are_merged_deduplicated_and_identified() {
    let index = index(world());
    let orders = the_service(&index, "web", "service/shop/orders:80");
    let endpoints: Vec<(&str, State)> = orders.endpoints.iter().map(|e| (&*e.address, e.state())).collect();
    // orders-2 drains in one slice and is ready in another: the better counts.
    assert_eq!(endpoints, [("10.0.0.1:8080", State::Ready), ("10.0.0.2:8080", State::Ready)]);
    assert!(orders.endpoints.iter().all(|e| e.identity == "spiffe://cluster.local/ns/shop/sa/orders" && e.zone == "a"));
    assert_eq!(the_service(&index, "web", "service/shop/orders:81").endpoints, [], "its slices have no such port");
}

#[test]
fn identity_is_that_of_the_pod_behind_the_address() {
    let endpoint = |change: &dyn Fn(&mut Pod)| -> Option<Endpoint> {
        let mut db = pod("shop", "db-0", "10.0.1.1", "db");
        change(&mut db);
        let objects = world().into_iter().filter(|o| !matches!(o, Object::Pod(p) if &*p.at.name == "db-0"));
        let index = index(objects.chain([Object::Pod(db)]));
        the_service(&index, "web", "service/shop/db:80").endpoints.first().cloned()
    };
    let identity = |change: &dyn Fn(&mut Pod)| endpoint(change).unwrap().identity;
    assert_eq!(identity(&|_| ()), "spiffe://cluster.local/ns/shop/sa/db");
    assert_eq!(identity(&|p| p.meshed = false), "");
    assert_eq!(identity(&|p| p.host_network = true), "");
    assert_eq!(identity(&|p| p.account = "other".into()), "spiffe://cluster.local/ns/shop/sa/other");
    // Named by the slice, and its own address is not known yet.
    assert_eq!(identity(&|p| p.ips.clear()), "spiffe://cluster.local/ns/shop/sa/db");
}

/// Plaintext to a pod whose identity is not known yet would be a downgrade.
#[test]
fn an_endpoint_whose_pod_is_not_known_yet_waits() {
    let objects = world().into_iter().filter(|o| !matches!(o, Object::Pod(p) if &*p.at.name == "db-0"));
    let mut index = index(objects);
    let state = |index: &Index| the_service(index, "web", "service/shop/db:80").endpoints[0].state();
    assert_eq!(state(&index), State::Unready);
    let changes = index.apply(Event::Upsert(Object::Pod(pod("shop", "db-0", "10.0.1.1", "db"))));
    assert!(changes.topics.contains(&Topic::Endpoints(at("shop", "db"))));
    assert_eq!(state(&index), State::Ready);
    // An endpoint that is no pod is outside of the mesh.
    index.apply(Event::Upsert(Object::Slice(slice("shop", "db-a", "db", &[80], &[("192.0.2.7", "")]))));
    let outside = the_service(&index, "web", "service/shop/db:80").endpoints.remove(0);
    assert_eq!((outside.state(), outside.identity.as_str()), (State::Ready, ""));
}

#[test]
fn a_reused_address_is_that_of_the_living_pod() {
    let mut objects = world();
    let mut ended = pod("shop", "job", "10.0.1.1", "job");
    ended.ended = true;
    objects.push(Object::Pod(ended));
    let mut index = index(objects);
    let identity = |index: &Index| the_service(index, "web", "service/shop/db:80").endpoints[0].identity.clone();
    assert_eq!(identity(&index), "spiffe://cluster.local/ns/shop/sa/db");
    // Two that claim it: what the slice names is asked for.
    index.apply(Event::Upsert(Object::Pod(pod("shop", "job", "10.0.1.1", "job"))));
    assert_eq!(identity(&index), "spiffe://cluster.local/ns/shop/sa/db");
}

#[test]
fn names_as_dns_has_them() {
    let index = index(world());
    for (namespace, name, service) in [
        ("shop", "orders:80", "service/shop/orders:80"),
        ("shop", "orders:81", "service/shop/orders:81"),
        ("web", "orders.shop:80", "service/shop/orders:80"),
        ("web", "orders.shop.svc:80", "service/shop/orders:80"),
        ("web", "orders.shop.svc.cluster.local:80", "service/shop/orders:80"),
        ("shop", "db:80", "service/shop/db:80"),
        ("web", "ledger:80", "upstream/web/ledger"),
        ("web", "ledger.example:8443", "upstream/web/ledger"),
    ] {
        assert_eq!(binding(&index, namespace, &format!("name/{name}")).service, service, "{name}");
    }
    assert_eq!(absent(&index, "web", "name/orders:80"), "`orders` is no name of the mesh");
    assert_eq!(absent(&index, "shop", "name/ledger.example:80"), "`ledger.example` is no name of the mesh");
    assert_eq!(absent(&index, "web", "name/orders.shop:99"), "Service shop/orders has no TCP port 99");
    assert_eq!(
        absent(&index, "web", "name/orders.shop.svc.example:80"),
        "`orders.shop.svc.example` is no name of the mesh"
    );
    assert_eq!(absent(&index, "web", "name/example.com:80"), "`example.com` is no name of the mesh");
}

#[test]
fn pods_of_stateful_sets_have_names() {
    let mut set = slice("shop", "db-a", "db", &[80], &[("10.0.1.1", "db-0"), ("10.0.1.2", "db-1")]);
    set.endpoints[0].hostname = "db-0".into();
    set.endpoints[1].hostname = "db-1".into();
    let mut index = index(world());
    index.apply(Event::Upsert(Object::Slice(set)));
    for (namespace, name) in [
        ("shop", "db-0.db"),
        ("web", "db-0.db.shop"),
        ("web", "db-0.db.shop.svc"),
        ("web", "db-0.db.shop.svc.cluster.local"),
    ] {
        let found = binding(&index, namespace, &format!("name/{name}:8080"));
        assert_eq!(found.service, "service/shop/db:80", "{name}");
        assert_eq!(found.pinned.unwrap().address, "10.0.1.1:8080", "{name}");
    }
    absent(&index, "web", "name/db-0.db:8080");
    absent(&index, "shop", "name/db-7.db:8080");
    // The names of pods are for headless Services alone.
    absent(&index, "shop", "name/db-0.orders:8080");
}

#[test]
fn hosts_of_upstreams_by_rank() {
    let named = |name: &str, hosts: &[&str]| {
        let spec = json!({ "hostnames": hosts, "endpoints": [{ "address": "192.0.2.1:80" }] });
        Object::Document(document(Kind::Upstream, "web", name, &spec))
    };
    let index = index([
        named("wide", &["*.example"]),
        named("long", &["*.a.example"]),
        named("exact", &["x.a.example"]),
        named("port", &["x.a.example:81"]),
    ]);
    let found = |host: &str| binding(&index, "web", &format!("name/{host}")).service;
    assert_eq!(found("y.example:80"), "upstream/web/wide");
    assert_eq!(found("y.a.example:80"), "upstream/web/long");
    assert_eq!(found("x.a.example:80"), "upstream/web/exact");
    assert_eq!(found("x.a.example:81"), "upstream/web/port");
}

#[test]
fn external_names_are_resolved_by_the_proxy() {
    let mut external = service("shop", "mail", "", &[25]);
    external.kind = ServiceKind::ExternalName("smtp.example.com".into());
    let index = index([Object::Service(external)]);
    assert_eq!(binding(&index, "shop", "name/mail:25").service, "service/shop/mail:25");
    let mail = the_service(&index, "shop", "service/shop/mail:25");
    assert!(mail.documents[0].json.contains(r#""externalName":"smtp.example.com""#), "{:?}", mail.documents);
}

#[test]
fn a_service_comes_with_what_is_about_it() {
    let index = index(world());
    let as_web = the_service(&index, "web", "service/shop/orders:80");
    assert_eq!(
        origins(&as_web.documents),
        [
            "Service shop/orders",
            "HTTPRoute shop/orders",
            "HTTPRoute web/mine",
            "MeshPolicy shop/default",
            "ReferenceGrant shop/g",
            "TrafficPolicy shop/orders",
        ]
    );
    assert_eq!(as_web.references, ["service/shop/payments:80"]);
    let as_shop = the_service(&index, "shop", "service/shop/orders:80");
    assert!(!origins(&as_shop.documents).contains(&"HTTPRoute web/mine"), "a consumer's route is the consumer's");
    let keys = |r: Resource| references(&r).iter().map(Key::to_string).collect::<Vec<_>>();
    let resource = resolve(&index, &subscriber("web", "web-1"), &Key::service("shop", "orders", 80));
    assert_eq!(keys(resource), ["service/shop/payments:80"]);
    let resource = resolve(&index, &subscriber("web", "web-1"), &"name/orders.shop:80".parse().unwrap());
    assert_eq!(keys(resource), ["service/shop/orders:80"]);
}

#[test]
fn what_may_not_be_referred_to_is_not_sent() {
    let mut objects = world();
    objects.push(Object::Document(route(
        "ops",
        "r",
        ("ops", "tool"),
        &[("shop", "payments", 80), ("ops", "nowhere", 80)],
    )));
    objects.push(Object::Service(service("ops", "tool", "10.96.0.7", &[80])));
    let mut index = index(objects);
    assert_eq!(the_service(&index, "ops", "service/ops/tool:80").references, [""; 0]);
    let mut grants = grant("shop", "ops");
    grants.at = at("shop", "ops");
    index.apply(Event::Upsert(Object::Grant(grants)));
    let tool = the_service(&index, "ops", "service/ops/tool:80");
    assert_eq!(tool.references, ["service/shop/payments:80"]);
    assert!(origins(&tool.documents).contains(&"ReferenceGrant shop/ops"));
}

/// What is sent is what the proxy's compiler takes, with the meaning that was resolved here.
#[test]
fn what_is_sent_compiles() {
    let index = index(world());
    for namespace in ["shop", "web"] {
        let mut sources = Vec::new();
        for key in ["service/shop/orders:80", "service/shop/payments:80", "service/shop/db:80", "upstream/web/ledger"] {
            let service = the_service(&index, namespace, key);
            sources.extend(service.documents.iter().map(|d| Source::object(&*d.origin, d.json.clone())));
        }
        let workload = workload(&index, "shop", "orders-1");
        sources.extend(workload.documents.iter().map(|d| Source::object(&*d.origin, d.json.clone())));
        let cluster = Cluster { namespace: namespace.into(), ..Cluster::default() };
        assert_eq!(validate_in(&sources, &cluster), []);
    }
}

#[test]
fn a_workload_knows_its_ports_and_who_guards_them() {
    let index = index(world());
    let orders = workload(&index, "shop", "orders-1");
    assert_eq!(orders.mtls, "strict");
    let ports: Vec<(u32, Vec<String>)> = orders.ports.iter().map(|p| (p.port, p.services.clone())).collect();
    assert_eq!(
        ports,
        [(8080, vec!["service/shop/orders:80".to_owned()]), (8081, vec!["service/shop/orders:81".to_owned()])]
    );
    assert_eq!(
        origins(&orders.documents),
        ["AccessPolicy shop/orders", "MeshPolicy shop/default", "Service shop/orders", "TrafficPolicy shop/orders"]
    );
    let web = workload(&index, "web", "web-1");
    assert_eq!((web.mtls.as_str(), web.documents.len()), ("permissive", 0));
    assert_eq!(web.ports.iter().map(|p| p.port).collect::<Vec<_>>(), [8080]);
    assert_eq!(absent_workload(&index), "pod web/none is not known");
}

fn absent_workload(index: &Index) -> String {
    match resolve(index, &subscriber("web", "none"), &Key::Workload).body {
        Some(Body::Absent(absent)) => absent.reason,
        other => panic!("{other:?}"),
    }
}

/// A policy must not come later than the pod: before any slice is written, the selector says whose pod it is.
#[test]
fn a_new_pod_is_guarded_from_the_start() {
    let mut index = index(world());
    index.apply(Event::Upsert(Object::Pod(pod("shop", "orders-9", "10.0.0.9", "orders"))));
    let new = workload(&index, "shop", "orders-9");
    assert!(origins(&new.documents).contains(&"AccessPolicy shop/orders"));
    // And a new Service tells the pods that it selects.
    let mut late = service("shop", "late", "10.96.1.1", &[443]);
    late.selector = [("app".into(), "orders".into())].into();
    let changes = index.apply(Event::Upsert(Object::Service(late)));
    assert!(changes.topics.contains(&Topic::Pod(at("shop", "orders-9"))));
    assert!(!changes.topics.contains(&Topic::Pod(at("shop", "db-0"))));
}

#[test]
fn named_target_ports_are_those_of_the_pod() {
    let mut named = service("shop", "orders", "10.96.0.1", &[80]);
    named.ports[0].target = crate::index::TargetPort::Name("http".into());
    let index = index([Object::Service(named), Object::Pod(pod("shop", "orders-1", "10.0.0.1", "orders"))]);
    let ports = workload(&index, "shop", "orders-1").ports;
    assert_eq!(ports.iter().map(|p| (p.port, p.services.len())).collect::<Vec<_>>(), [(8080, 1)]);
}

#[test]
fn mesh_policies_by_namespace_then_mesh() {
    let policy = |namespace: &str, spec: serde_json::Value| {
        Object::Document(document(Kind::MeshPolicy, namespace, "default", &spec))
    };
    let mtls = |policies: Vec<Object>| {
        let index = index(policies.into_iter().chain([
            Object::Namespace(Namespace { name: "shop".into(), labels: Default::default() }),
            Object::Pod(pod("shop", "orders-1", "10.0.0.1", "orders")),
        ]));
        workload(&index, "shop", "orders-1").mtls
    };
    let shop = json!([{ "group": "", "kind": "Namespace", "name": "shop" }]);
    assert_eq!(mtls(vec![]), "permissive");
    assert_eq!(mtls(vec![policy("outrigger-system", json!({ "mtls": "strict" }))]), "strict");
    assert_eq!(mtls(vec![policy("web", json!({ "mtls": "disabled" }))]), "permissive", "of another namespace");
    assert_eq!(mtls(vec![policy("web", json!({ "targetRefs": shop, "mtls": "disabled" }))]), "permissive");
    assert_eq!(
        mtls(vec![
            policy("outrigger-system", json!({ "mtls": "strict" })),
            policy("shop", json!({ "mtls": "disabled" }))
        ]),
        "disabled"
    );
    assert_eq!(mtls(vec![policy("outrigger-system", json!({ "targetRefs": shop, "mtls": "disabled" }))]), "disabled");
}

#[test]
fn versions_are_those_of_the_content() {
    let mut index = index(world());
    let key = Key::service("shop", "orders", 80);
    let version = |index: &Index, key: &Key| resolve(index, &subscriber("web", "web-1"), key).version;
    let first = version(&index, &key);
    assert_eq!(first.len(), 32);
    assert_ne!(first, version(&index, &Key::service("shop", "orders", 81)));
    let slice_b = slice("shop", "orders-b", "orders", &[80], &[("10.0.0.2", "orders-2"), ("10.0.0.3", "")]);
    index.apply(Event::Upsert(Object::Slice(slice_b)));
    assert_ne!(version(&index, &key), first);
    let slice_b = slice("shop", "orders-b", "orders", &[80], &[("10.0.0.2", "orders-2")]);
    index.apply(Event::Upsert(Object::Slice(slice_b)));
    assert_eq!(version(&index, &key), first);
}

/// Applies a delta as a proxy does.
fn applied(old: &Resource, delta: &outrigger_config::discovery::EndpointDelta) -> Vec<Endpoint> {
    let Some(Body::Service(service)) = &old.body else { panic!() };
    let mut all: std::collections::BTreeMap<String, Endpoint> =
        service.endpoints.iter().map(|e| (e.address.clone(), e.clone())).collect();
    for endpoint in &delta.upsert {
        all.insert(endpoint.address.clone(), endpoint.clone());
    }
    for address in &delta.remove {
        all.remove(address);
    }
    all.into_values().collect()
}

#[test]
fn deltas_lead_from_one_version_to_the_other() {
    let endpoints = |n: std::ops::Range<u8>| n.map(|n| (format!("10.0.3.{n}"), String::new())).collect::<Vec<_>>();
    let at_version = |range: std::ops::Range<u8>| {
        let list = endpoints(range);
        let list: Vec<(&str, &str)> = list.iter().map(|(ip, pod)| (&**ip, &**pod)).collect();
        let mut index = index(world());
        index.apply(Event::Upsert(Object::Slice(slice("shop", "db-a", "db", &[80], &list))));
        resolve(&index, &subscriber("web", "web-1"), &Key::service("shop", "db", 80))
    };
    let sorted = |r: &Resource| {
        let Some(Body::Service(service)) = &r.body else { panic!() };
        let mut all = service.endpoints.clone();
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    };
    let (old, new) = (at_version(0..20), at_version(2..23));
    let change = delta(&old, &new).unwrap();
    assert_eq!((change.upsert.len(), change.remove.len()), (3, 2));
    assert_eq!((&change.base, &change.version), (&old.version, &new.version));
    assert_eq!(applied(&old, &change), sorted(&new));
    assert_eq!(delta(&at_version(0..20), &at_version(20..40)), None, "all of them: the whole is smaller");
    let empty = delta(&at_version(0..1), &at_version(0..0)).unwrap();
    assert_eq!(applied(&at_version(0..1), &empty), []);
}

#[test]
fn a_delta_is_of_endpoints_alone() {
    let mut index = index(world());
    let key = Key::service("shop", "orders", 80);
    let who = subscriber("web", "web-1");
    let old = resolve(&index, &who, &key);
    index.apply(Event::Delete(ObjectKind::Document(Kind::TrafficPolicy), at("shop", "orders")));
    assert_eq!(delta(&old, &resolve(&index, &who, &key)), None);
    assert_eq!(delta(&old, &resolve(&index, &who, &Key::service("shop", "payments", 80))), None);
}

#[test]
fn nobody_fills_the_proxies_of_another_namespace() {
    let foreign = |kind, target: serde_json::Value| {
        let spec = match kind {
            Kind::AccessPolicy => json!({ "targetRefs": [target] }),
            _ => json!({ "targetRefs": [target], "timeouts": { "request": "1s" } }),
        };
        Object::Document(document(kind, "evil", &kind.as_str().to_lowercase(), &spec))
    };
    let shop = json!({ "group": "", "kind": "Namespace", "name": "shop" });
    let orders = json!({ "group": "", "kind": "Service", "namespace": "shop", "name": "orders" });
    let before = index(world());
    let after = index(world().into_iter().chain([
        foreign(Kind::MeshPolicy, shop.clone()),
        foreign(Kind::TrafficPolicy, shop),
        foreign(Kind::AccessPolicy, orders),
        Object::Document(route("evil", "r", ("shop", "orders"), &[("evil", "x", 80)])),
    ]));
    let told = |index: &Index| {
        let key = Key::service("shop", "orders", 80);
        [
            resolve(index, &subscriber("web", "web-1"), &key),
            resolve(index, &subscriber("shop", "orders-1"), &Key::Workload),
        ]
    };
    assert_eq!(told(&before), told(&after));
}
