//! Order, duplicates and relists change nothing in what is known; events touch what they are about and nothing else.

use proptest::prelude::*;
use serde_json::{Value, json};

use std::collections::BTreeMap;

use super::*;
use crate::view::{Subscriber, resolve};
use outrigger_config::{discovery::Key, documents::Kind};

pub(crate) fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        mesh_namespace: "outrigger-system".into(),
    }
}

pub(crate) fn at(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.into(), name: name.into() }
}

/// A Service with an address, whose ports are called `pNUMBER` and lead to 8000 + NUMBER.
pub(crate) fn service(namespace: &str, name: &str, address: &str, ports: &[u16]) -> Service {
    Service {
        at: at(namespace, name),
        created: "2026-01-01T00:00:00Z".into(),
        kind: if address.is_empty() { ServiceKind::Headless } else { ServiceKind::ClusterIp },
        addresses: address.split(',').filter_map(|a| a.parse().ok()).collect(),
        ports: ports.iter().map(|p| port(&format!("p{p}"), *p, 8000 + p)).collect(),
        selector: [("app".into(), name.into())].into(),
        publish_not_ready: false,
    }
}

pub(crate) fn port(name: &str, port: u16, target: u16) -> ServicePort {
    ServicePort { name: name.into(), port, target: TargetPort::Number(target), app_protocol: "".into() }
}

pub(crate) fn pod(namespace: &str, name: &str, ip: &str, app: &str) -> Pod {
    Pod {
        at: at(namespace, name),
        uid: format!("uid-{name}").into(),
        ips: ip.split(',').filter_map(|a| a.parse().ok()).collect(),
        account: app.into(),
        meshed: true,
        proven: Default::default(),
        host_network: false,
        ended: false,
        ports: [("http".into(), 8080)].into(),
        labels: Arc::new([("app".into(), app.into())].into()),
    }
}

pub(crate) fn slice(namespace: &str, name: &str, service: &str, ports: &[u16], endpoints: &[(&str, &str)]) -> Slice {
    let endpoint = |(ip, pod): &(&str, &str)| SliceEndpoint {
        ip: ip.parse().unwrap(),
        state: EndpointState::Ready,
        pod: (*pod).into(),
        hostname: "".into(),
        zone: "a".into(),
        for_zones: Vec::new(),
    };
    Slice {
        at: at(namespace, name),
        service: service.into(),
        ports: ports.iter().map(|p| (format!("p{p}").into(), 8000 + p)).collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

pub(crate) fn document(kind: Kind, namespace: &str, name: &str, spec: &Value) -> Document {
    aged(kind, namespace, name, "2026-01-01T00:00:00Z", spec)
}

pub(crate) fn aged(kind: Kind, namespace: &str, name: &str, created: &str, spec: &Value) -> Document {
    let json = json!({
        "apiVersion": kind.api_version(), "kind": kind.as_str(),
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": created }, "spec": spec,
    });
    Document { kind, at: at(namespace, name), uid: "u".into(), generation: 7, json: json.to_string().into() }
}

/// A route of `namespace` at a Service, to backends `(namespace, name, port)`.
pub(crate) fn route(namespace: &str, name: &str, parent: (&str, &str), backends: &[(&str, &str, u16)]) -> Document {
    let backends: Vec<Value> =
        backends.iter().map(|(ns, name, port)| json!({ "namespace": ns, "name": name, "port": port })).collect();
    let spec = json!({
        "parentRefs": [{ "group": "", "kind": "Service", "namespace": parent.0, "name": parent.1 }],
        "rules": [{ "name": "r", "backendRefs": backends }],
    });
    document(Kind::HTTPRoute, namespace, name, &spec)
}

pub(crate) fn grant(namespace: &str, from: &str) -> Grant {
    Grant {
        at: at(namespace, "g"),
        from: vec![("gateway.networking.k8s.io".into(), "HTTPRoute".into(), from.into())],
        to: vec![("".into(), "Service".into(), None)],
    }
}

pub(crate) fn index(objects: impl IntoIterator<Item = Object>) -> Index {
    let mut index = Index::new(settings());
    for object in objects {
        index.apply(Event::Upsert(object));
    }
    index
}

pub(crate) fn subscriber(namespace: &str, pod: &str) -> Subscriber {
    Subscriber { pod: at(namespace, pod) }
}

/// A small mesh with a bit of everything.
pub(crate) fn world() -> Vec<Object> {
    let mut draining =
        slice("shop", "orders-a", "orders", &[80], &[("10.0.0.1", "orders-1"), ("10.0.0.2", "orders-2")]);
    draining.endpoints[1].state = EndpointState::Draining;
    let policy = json!({ "targetRefs": [{ "group": "", "kind": "Service", "name": "orders" }], "timeouts": { "request": "3s" } });
    let access = json!({ "targetRefs": [{ "group": "", "kind": "Service", "name": "orders" }], "rules": [{ "action": "deny" }] });
    let ledger = json!({ "hostnames": ["ledger.example"], "endpoints": [{ "address": "192.0.2.1:80" }] });
    vec![
        Object::Namespace(Namespace { name: "shop".into(), labels: BTreeMap::new() }),
        Object::Namespace(Namespace { name: "web".into(), labels: BTreeMap::new() }),
        Object::Service(service("shop", "orders", "10.96.0.1", &[80, 81])),
        Object::Service(service("shop", "payments", "10.96.0.2,fd00::2", &[80])),
        Object::Service(service("shop", "db", "", &[80])),
        Object::Pod(pod("shop", "orders-1", "10.0.0.1", "orders")),
        Object::Pod(pod("shop", "orders-2", "10.0.0.2", "orders")),
        Object::Pod(pod("shop", "db-0", "10.0.1.1", "db")),
        Object::Pod(pod("web", "web-1", "10.0.2.1", "web")),
        Object::Slice(draining),
        Object::Slice(slice("shop", "orders-b", "orders", &[80], &[("10.0.0.2", "orders-2")])),
        Object::Slice(slice("shop", "db-a", "db", &[80], &[("10.0.1.1", "db-0")])),
        Object::Document(route(
            "shop",
            "orders",
            ("shop", "orders"),
            &[("shop", "orders", 80), ("shop", "payments", 80)],
        )),
        Object::Document(route("web", "mine", ("shop", "orders"), &[("shop", "orders", 80)])),
        Object::Grant(grant("shop", "web")),
        Object::Document(document(Kind::TrafficPolicy, "shop", "orders", &policy)),
        Object::Document(document(Kind::AccessPolicy, "shop", "orders", &access)),
        Object::Document(document(Kind::MeshPolicy, "shop", "default", &json!({ "mtls": "strict" }))),
        Object::Document(document(Kind::Upstream, "web", "ledger", &ledger)),
    ]
}

fn keys() -> Vec<Key> {
    let keys = [
        "workload",
        "trust",
        "address/10.96.0.1:80",
        "address/10.96.0.1:99",
        "address/10.0.0.1:8080",
        "address/[fd00::2]:80",
        "name/orders:80",
        "name/orders.shop:80",
        "name/ledger.example:80",
        "service/shop/orders:80",
        "service/shop/orders:81",
        "service/shop/payments:80",
        "upstream/web/ledger",
    ];
    keys.iter().map(|k| k.parse().unwrap()).collect()
}

/// Every key as every pod sees it: equal if and only if all that proxies are told is.
fn picture(index: &Index) -> Vec<(String, String)> {
    let mut picture = Vec::new();
    for (namespace, pod) in [("shop", "orders-1"), ("shop", "db-0"), ("web", "web-1")] {
        for key in keys() {
            picture.push((format!("{pod} {key}"), resolve(index, &subscriber(namespace, pod), &key).version));
        }
    }
    picture
}

fn deletion(object: &Object) -> Event {
    match object {
        Object::Service(o) => Event::Delete(ObjectKind::Service, o.at.clone()),
        Object::Slice(o) => Event::Delete(ObjectKind::Slice, o.at.clone()),
        Object::Pod(o) => Event::Delete(ObjectKind::Pod, o.at.clone()),
        Object::Namespace(o) => Event::Delete(ObjectKind::Namespace, at("", &o.name)),
        Object::Grant(o) => Event::Delete(ObjectKind::Grant, o.at.clone()),
        Object::Document(o) => Event::Delete(ObjectKind::Document(o.kind), o.at.clone()),
    }
}

fn kind(object: &Object) -> ObjectKind {
    match deletion(object) {
        Event::Delete(kind, _) => kind,
        _ => unreachable!(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever order things are heard in, however often, and whatever went away in between.
    #[test]
    fn order_and_duplicates_do_not_matter(order in Just((0..world().len()).collect::<Vec<_>>()).prop_shuffle(),
                                          again in proptest::collection::vec(0..world().len(), 0..20),
                                          gone in proptest::collection::vec(0..world().len(), 0..10)) {
        let world = world();
        let mut shuffled = Index::new(settings());
        for n in &order {
            shuffled.apply(Event::Upsert(world[*n].clone()));
        }
        for n in &gone {
            shuffled.apply(deletion(&world[*n]));
        }
        for n in gone.iter().chain(&again) {
            shuffled.apply(Event::Upsert(world[*n].clone()));
        }
        prop_assert_eq!(picture(&shuffled), picture(&index(world)));
    }

    /// What is taken away leaves no trace.
    #[test]
    fn all_gone_is_as_never_there(order in Just((0..world().len()).collect::<Vec<_>>()).prop_shuffle()) {
        let world = world();
        let mut emptied = index(world.clone());
        for n in &order {
            emptied.apply(deletion(&world[*n]));
        }
        prop_assert_eq!(picture(&emptied), picture(&Index::new(settings())));
        prop_assert!(emptied.services.is_empty() && emptied.slices.is_empty() && emptied.pods.is_empty());
        prop_assert!(emptied.inhabitants.is_empty() && emptied.addresses.is_empty());
        prop_assert!(emptied.documents.is_empty());
    }

    /// Whenever what a key is answered with changes, one of its topics was told.
    #[test]
    fn no_change_goes_untold(steps in proptest::collection::vec((any::<bool>(), 0..world().len()), 1..60)) {
        let world = world();
        let mut index = index(world.clone());
        let who = subscriber("web", "web-1");
        let pods = [who.clone(), subscriber("shop", "orders-1"), subscriber("shop", "db-0")];
        for (add, n) in steps {
            let state = |index: &Index| -> Vec<_> {
                let each = pods.iter().flat_map(|pod| keys().into_iter().map(move |key| (pod, key)));
                each.map(|(pod, key)| (crate::view::topics(index, pod, &key), resolve(index, pod, &key))).collect()
            };
            let before = state(&index);
            let event = if add { Event::Upsert(world[n].clone()) } else { deletion(&world[n]) };
            let changes = index.apply(event);
            for ((topics, old), (_, new)) in before.iter().zip(state(&index)) {
                let told = topics.iter().any(|t| changes.topics.contains(t));
                prop_assert!(told || old.version == new.version, "{} {add} {:?}", old.key, world[n]);
            }
        }
    }
}

#[test]
fn what_is_as_before_changes_nothing() {
    let world = world();
    let mut index = index(world.clone());
    for object in &world {
        assert!(index.apply(Event::Upsert(object.clone())).is_empty(), "{object:?}");
    }
    let kinds: std::collections::BTreeSet<ObjectKind> = world.iter().map(kind).collect();
    for of in kinds {
        let all: Vec<Object> = world.iter().filter(|o| kind(o) == of).cloned().collect();
        assert_eq!(index.count(of), all.len());
        assert!(index.apply(Event::Replace(of, all)).is_empty(), "{of:?}");
        assert!(index.apply(Event::Delete(of, at("shop", "never-there"))).is_empty());
    }
}

#[test]
fn a_list_replaces_what_was_there() {
    let mut index = index(world());
    let kept = pod("shop", "orders-1", "10.0.0.1", "orders");
    let changes = index.apply(Event::Replace(ObjectKind::Pod, vec![Object::Pod(kept)]));
    assert_eq!(index.count(ObjectKind::Pod), 1);
    assert!(changes.topics.contains(&Topic::Pod(at("web", "web-1"))));
    assert!(!changes.topics.contains(&Topic::Pod(at("shop", "orders-1"))));
    let changes = index.apply(Event::Replace(ObjectKind::Service, Vec::new()));
    assert!(changes.topics.contains(&Topic::Service(at("shop", "orders"))));
    assert_eq!(index.count(ObjectKind::Service), 0);
}

#[test]
fn an_endpoint_touches_its_service_and_its_pod() {
    let mut index = index(world());
    let mut changed = slice("shop", "db-a", "db", &[80], &[("10.0.1.1", "db-0"), ("10.0.1.2", "db-1")]);
    let topics = |changes: Changes| changes.topics.into_iter().collect::<Vec<_>>();
    let new: std::net::IpAddr = "10.0.1.2".parse().unwrap();
    assert_eq!(
        topics(index.apply(Event::Upsert(Object::Slice(changed.clone())))),
        [Topic::Endpoints(at("shop", "db")), Topic::Address(new), Topic::Pod(at("shop", "db-1"))]
    );
    changed.endpoints[0].state = EndpointState::Unready;
    assert_eq!(topics(index.apply(Event::Upsert(Object::Slice(changed)))), [Topic::Endpoints(at("shop", "db"))]);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut index = index(world());
    let moved = slice("shop", "orders-a", "payments", &[80], &[("10.0.0.1", "orders-1")]);
    let changes = index.apply(Event::Upsert(Object::Slice(moved)));
    assert!(changes.topics.contains(&Topic::Endpoints(at("shop", "orders"))));
    assert!(changes.topics.contains(&Topic::Endpoints(at("shop", "payments"))));
    assert_eq!(index.pods_of(&at("shop", "orders")), [at("shop", "orders-2")].into());
    assert_eq!(index.pods_of(&at("shop", "payments")), [at("shop", "orders-1")].into());
}

#[test]
fn a_document_with_a_fault_is_withheld_and_access_is_closed() {
    let wrong = |kind, name, spec: Value| Object::Document(document(kind, "shop", name, &spec));
    let index = index([
        wrong(Kind::HTTPRoute, "r", json!({ "rules": [{ "timeouts": { "request": "soon" } }] })),
        wrong(
            Kind::AccessPolicy,
            "a",
            json!({ "targetRefs": [{ "kind": "Service", "name": "o", "x": 1 }], "rules": [{ "form": [] }] }),
        ),
        wrong(Kind::AccessPolicy, "all", json!({ "targetRefs": "everything" })),
        wrong(Kind::MeshPolicy, "m", json!({ "mtls": "strict", "timeouts": 3 })),
        wrong(Kind::MeshPolicy, "n", json!({ "mtls": "Strict" })),
    ]);
    let sent = |kind, name: &str| {
        let entry = index.entries().get(&DocumentRef { kind, at: at("shop", name) }).unwrap();
        assert!(!entry.errors.is_empty(), "{name}");
        entry.sent.as_ref().map(|json| serde_json::from_str::<Value>(json).unwrap()["spec"].clone())
    };
    assert_eq!(sent(Kind::HTTPRoute, "r"), None);
    let deny = json!([{ "action": "deny" }]);
    let target = |kind: &str, name: &str| json!([{ "kind": kind, "name": name }]);
    assert_eq!(sent(Kind::AccessPolicy, "a"), Some(json!({ "targetRefs": target("Service", "o"), "rules": deny })));
    assert_eq!(
        sent(Kind::AccessPolicy, "all"),
        Some(json!({ "targetRefs": target("Namespace", "shop"), "rules": deny }))
    );
    assert_eq!(sent(Kind::MeshPolicy, "m"), Some(json!({ "targetRefs": [], "mtls": "strict" })));
    assert_eq!(sent(Kind::MeshPolicy, "n"), Some(json!({ "targetRefs": [], "mtls": "strict" })));
    for entry in index.entries().iter().filter_map(|e| Some((e.document.kind, e.sent.as_ref()?))) {
        let source = outrigger_config::Source::object("it", &**entry.1);
        let faults = outrigger_config::validate_in(&[source], &outrigger_config::Cluster::default());
        assert!(faults.is_empty(), "what stands for it has no fault: {faults:?}");
    }
}

#[test]
fn what_refers_to_a_service_hears_of_it() {
    let mut index = index(world());
    let changes = index.apply(Event::Delete(ObjectKind::Service, at("shop", "payments")));
    assert!(changes.topics.contains(&Topic::Documents(at("shop", "orders"))), "its route leads there");
    let route = DocumentRef { kind: Kind::HTTPRoute, at: at("shop", "orders") };
    assert!(changes.documents.contains(&route));
    let changes = index.apply(Event::Delete(ObjectKind::Grant, at("shop", "g")));
    assert!(changes.documents.contains(&DocumentRef { kind: Kind::HTTPRoute, at: at("web", "mine") }));
    assert!(changes.topics.contains(&Topic::Documents(at("shop", "orders"))));
}
