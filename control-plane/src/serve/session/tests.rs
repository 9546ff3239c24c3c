//! What is sent in which order, and what is let go: without a stream.

use outrigger_config::discovery::ControlMessage;
use outrigger_config::documents::Kind;
use prost::Message as _;

use super::*;
use crate::{
    index::{Document, Event, Index, Object, ObjectName, ServiceKind, ServicePort, Settings, TargetPort},
    observe::Metrics,
};

fn at(name: &str) -> ObjectName {
    ObjectName { namespace: "shop".into(), name: name.into() }
}

fn live() -> Arc<Live> {
    let settings = Settings {
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        mesh_namespace: "mesh".into(),
    };
    Live::new(Index::new(settings), Metrics::new().unwrap())
}

fn put(live: &Live, object: Object) {
    live.change(None, |index| index.apply(Event::Upsert(object)));
}

fn service(live: &Live, name: &str) {
    let port = ServicePort { name: "".into(), port: 80, target: TargetPort::Number(8080), app_protocol: "".into() };
    put(
        live,
        Object::Service(crate::index::Service {
            at: at(name),
            created: "2026-01-01T00:00:00Z".into(),
            kind: ServiceKind::ClusterIp,
            addresses: Vec::new(),
            ports: vec![port],
            selector: Default::default(),
            publish_not_ready: false,
        }),
    );
}

/// A route of one Service to others.
fn route(live: &Live, of: &str, to: &[&str]) {
    let backends: Vec<_> = to.iter().map(|name| serde_json::json!({ "name": name, "port": 80 })).collect();
    let json = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": of, "namespace": "shop" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": of }], "rules": [{ "backendRefs": backends }] },
    });
    let document =
        Document { kind: Kind::HTTPRoute, at: at(of), uid: of.into(), generation: 1, json: json.to_string().into() };
    put(live, Object::Document(document));
}

fn session(live: &Arc<Live>) -> Session {
    Session::new(Arc::clone(live), 1, Subscriber { pod: at("client") })
}

fn ask(session: &mut Session, key: &str) {
    session.subscribe(Subscribe { key: key.into(), known_version: String::new() }).unwrap();
}

/// Keys of all that is to be sent.
fn sent(session: &mut Session) -> Vec<String> {
    std::iter::from_fn(|| session.next())
        .map(|bytes| match ControlMessage::decode(bytes).unwrap().message {
            Some(Message::Resource(resource)) => resource.key,
            Some(Message::Endpoints(delta)) => delta.key,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_routes_lead_to_goes_out_before_and_stays_as_long_as_it_is_led_to() {
    let live = live();
    for name in ["web", "api", "db"] {
        service(&live, name);
    }
    route(&live, "web", &["api"]);
    route(&live, "api", &["db"]);
    let mut session = session(&live);
    ask(&mut session, "name/web:80");
    let keys = ["service/shop/db:80", "service/shop/api:80", "service/shop/web:80", "name/web:80"];
    assert_eq!(sent(&mut session), keys);
    // It leads elsewhere: nobody leads to `api` and `db` any more.
    route(&live, "web", &["web"]);
    assert_eq!(sent(&mut session), ["service/shop/web:80"]);
    assert_eq!(session.len(), 2);
    assert_eq!(live.metrics.subscriptions.get(), 2);
}

#[test]
fn services_that_lead_to_each_other_are_let_go_together() {
    let live = live();
    service(&live, "blue");
    service(&live, "green");
    route(&live, "blue", &["blue", "green"]);
    route(&live, "green", &["blue"]);
    let mut session = session(&live);
    ask(&mut session, "name/blue:80");
    let keys = sent(&mut session);
    assert_eq!(keys.len(), 3, "{keys:?}");
    session.unsubscribe("name/blue:80");
    session.tidy();
    assert_eq!((session.len(), live.metrics.subscriptions.get()), (0, 0));
}

#[test]
fn asking_again_without_a_version_is_asking_for_all_of_it() {
    let live = live();
    service(&live, "web");
    let mut session = session(&live);
    ask(&mut session, "service/shop/web:80");
    assert_eq!(sent(&mut session).len(), 1);
    session.unsubscribe("service/shop/web:80");
    ask(&mut session, "service/shop/web:80");
    assert_eq!(sent(&mut session), ["service/shop/web:80"]);
}

#[test]
fn a_stream_that_ends_leaves_nothing_behind() {
    let live = live();
    service(&live, "web");
    let mut session = session(&live);
    ask(&mut session, "name/web:80");
    ask(&mut session, "workload");
    assert!(!sent(&mut session).is_empty());
    drop(session);
    assert_eq!(live.metrics.subscriptions.get(), 0);
    // And is told nothing.
    route(&live, "web", &["web"]);
}

#[test]
fn one_stream_has_a_limit_and_says_so() {
    let live = live();
    let mut session = session(&live);
    for n in 0..MAX_ASKED {
        ask(&mut session, &format!("name/h{n}.example:80"));
    }
    assert_eq!(session.backlog(), 0);
    ask(&mut session, "name/one-more.example:80");
    assert_eq!((session.len(), session.backlog()), (MAX_ASKED, 1));
    let first = ControlMessage::decode(session.next().unwrap()).unwrap();
    let Some(Message::Resource(Resource { key, body: Some(Body::Absent(absent)), .. })) = first.message else {
        panic!("{first:?}")
    };
    assert_eq!(key, "name/one-more.example:80");
    assert!(absent.reason.contains("10000"), "{}", absent.reason);
}
