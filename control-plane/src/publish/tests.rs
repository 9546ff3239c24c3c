//! What is written, to an API server that the test plays.

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;

use super::*;
use crate::{
    index::{Document, Event, Index, Object, ObjectName, Service, ServiceKind, ServicePort, Settings, TargetPort},
    observe::Metrics,
};

type Writes = Arc<Mutex<Vec<(String, Value)>>>;

/// A server with one route; it refuses the first `conflicts` writes.
fn server(status: Value, conflicts: u32) -> (Client, Writes) {
    let writes = Writes::default();
    let log = Arc::clone(&writes);
    let left = Arc::new(AtomicU32::new(conflicts));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, left, status) = (Arc::clone(&log), Arc::clone(&left), status.clone());
        async move {
            let (parts, body) = request.into_parts();
            let object = json!({ "metadata": { "name": "web", "resourceVersion": "42" }, "status": status });
            let (code, answer) = if parts.method == http::Method::PATCH {
                let body = body.collect().await.unwrap().to_bytes();
                log.lock().unwrap().push((parts.uri.to_string(), serde_json::from_slice(&body).unwrap()));
                match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
                    Ok(_) => (409, json!({ "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict" })),
                    Err(_) => (200, object),
                }
            } else {
                (200, object)
            };
            let body = Full::new(Bytes::from(answer.to_string()));
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), writes)
}

fn live() -> Arc<Live> {
    let settings = Settings {
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        mesh_namespace: "mesh".into(),
    };
    let live = Live::new(Index::new(settings), Metrics::new().unwrap());
    let service = Service {
        at: at(),
        created: "2026-01-01T00:00:00Z".into(),
        kind: ServiceKind::ClusterIp,
        addresses: Vec::new(),
        ports: vec![ServicePort { name: "".into(), port: 80, target: TargetPort::Number(80), app_protocol: "".into() }],
        selector: Default::default(),
        publish_not_ready: false,
    };
    let json = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }] },
    });
    let route =
        Document { kind: Kind::HTTPRoute, at: at(), uid: "u".into(), generation: 3, json: json.to_string().into() };
    for object in [Object::Service(service), Object::Document(route)] {
        live.change(None, |index| index.apply(Event::Upsert(object)));
    }
    live
}

fn at() -> ObjectName {
    ObjectName { namespace: "shop".into(), name: "web".into() }
}

fn document() -> DocumentRef {
    DocumentRef { kind: Kind::HTTPRoute, at: at() }
}

fn other() -> Value {
    json!({ "controllerName": "example.com/other", "parentRef": { "name": "web" }, "conditions": [] })
}

#[tokio::test(start_paused = true)]
async fn entries_of_others_are_kept_and_the_version_is_held_to() {
    let (client, writes) = server(json!({ "parents": [other()] }), 0);
    let mut publisher = Publisher::new(client, live());
    assert_eq!(publisher.publish(&document()).await, Outcome::Written);
    let writes = writes.lock().unwrap();
    let [(uri, body)] = &writes[..] else { panic!("{writes:?}") };
    assert!(uri.ends_with("/httproutes/web/status?fieldManager=outrigger.dev%2Fcontroller&force=true"), "{uri}");
    assert_eq!(body["metadata"]["resourceVersion"], "42");
    let parents = body["status"]["parents"].as_array().unwrap();
    assert!(parents.contains(&other()), "{body:#}");
    let ours = parents.iter().find(|p| p["controllerName"] == CONTROLLER).unwrap();
    assert_eq!(ours["conditions"][0]["observedGeneration"], 3, "{body:#}");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_again_and_what_is_right_is_left_alone() {
    let (client, writes) = server(json!({}), 2);
    let live = live();
    let mut publisher = Publisher::new(client, Arc::clone(&live));
    live.documents.touch([document()]);
    for _ in 0..3 {
        publisher.work().await;
    }
    assert_eq!(writes.lock().unwrap().len(), 3);
    // As the watch would bring it back.
    let status = writes.lock().unwrap()[2].1["status"].clone();
    live.documents.saw(Kind::HTTPRoute, &at(), Some(status));
    assert_eq!(publisher.publish(&document()).await, Outcome::Same);
    assert_eq!(writes.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_is_still_to_be_done() {
    let (client, _) = server(json!({}), 0);
    let live = live();
    let mut publisher = Publisher::new(client, Arc::clone(&live));
    live.documents.take(usize::MAX);
    live.documents.touch([document()]);
    publisher.next = Instant::now() + Duration::from_secs(3600);
    let worked = tokio::time::timeout(Duration::from_secs(1), publisher.work()).await;
    assert!(worked.is_err());
    assert_eq!(live.documents.take(10), [document()]);
}
