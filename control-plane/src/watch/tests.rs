//! One kind's watch against an API server that says what the test wants, in paused time.

use std::{
    convert::Infallible,
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::index::Object;

/// What the server says: a status, lines, and whether it then leaves the stream open.
struct Says(u16, Vec<Value>, bool);

type Asked = Arc<Mutex<Vec<String>>>;

/// A client of a server that answers by path and query.
fn server(answer: impl Fn(&str) -> Says + Send + Sync + 'static) -> (Client, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let Says(status, lines, open) = answer(&path);
        log.lock().unwrap().push(path);
        let lines = lines.into_iter().map(|l| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{l}\n")))));
        let rest = if open { stream::pending().boxed() } else { stream::empty().boxed() };
        let body = StreamBody::new(stream::iter(lines.collect::<Vec<_>>()).chain(rest));
        async move { Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()) }
    });
    (Client::new(service, "default"), asked)
}

fn follow(client: Client, kind: ObjectKind) -> (mpsc::Receiver<Update>, JoinSet<()>, Arc<AtomicBool>) {
    let (out, updates) = mpsc::channel(16);
    let streaming = Arc::new(AtomicBool::new(true));
    let mut tasks = JoinSet::new();
    let api = Api { client, resource: Resource::of(kind).unwrap() };
    let context = (out, Metrics::new().unwrap(), Arc::clone(&streaming));
    match kind {
        ObjectKind::Namespace => spawn::<AnyNamespace>(&mut tasks, api, context),
        _ => spawn::<AnyDocument>(&mut tasks, api, context),
    }
    (updates, tasks, streaming)
}

fn namespace(name: &str, version: u64) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version.to_string(), "managedFields": [{ "manager": "x" }] } })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

fn bookmark(version: u64, end: bool) -> Value {
    let annotations = if end { json!({ "k8s.io/initial-events-end": "true" }) } else { json!({}) };
    let metadata = json!({ "resourceVersion": version.to_string(), "annotations": annotations });
    event("BOOKMARK", &json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": metadata }))
}

fn failure(code: u16, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "x" })
}

fn list(version: u64, next: &str, items: &[Value]) -> Value {
    let metadata = json!({ "resourceVersion": version.to_string(), "continue": next });
    json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items })
}

/// What a next update is, in short.
async fn told(updates: &mut mpsc::Receiver<Update>) -> String {
    let name = |object: &Object| match object {
        Object::Namespace(n) => n.name.to_string(),
        Object::Document(d) => d.at.name.to_string(),
        other => format!("{other:?}"),
    };
    match tokio::time::timeout(Duration::from_secs(3600), updates.recv()).await.expect("an update within an hour") {
        Some(Update::Upsert(trimmed, _)) => format!("+{}", name(&trimmed.object)),
        Some(Update::Delete(_, at, _)) => format!("-{}", at.name),
        Some(Update::Replace(_, all, _)) => {
            format!("={}", all.iter().map(|t| name(&t.object)).collect::<Vec<_>>().join(","))
        }
        None => "end".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_over_into_changes() {
    let (client, _) = server(|_| {
        let all = [
            event("ADDED", &namespace("a", 1)),
            bookmark(5, true),
            event("MODIFIED", &namespace("b", 6)),
            event("ADDED", &json!({ "metadata": { "name": 7 } })),
            event("DELETED", &namespace("a", 7)),
        ];
        Says(200, all.to_vec(), true)
    });
    let (mut updates, _tasks, _) = follow(client, ObjectKind::Namespace);
    // What cannot be read is left out and stops nothing.
    assert_eq!([told(&mut updates).await, told(&mut updates).await, told(&mut updates).await], ["=a", "+b", "-a"]);
}

#[tokio::test(start_paused = true)]
async fn without_streaming_lists_there_are_pages() {
    let (client, asked) = server(|path| match path {
        p if p.contains("sendInitialEvents") => Says(422, vec![failure(422, "forbidden: sendInitialEvents")], false),
        p if p.contains("watch=true") => Says(200, vec![event("ADDED", &namespace("c", 11))], true),
        p if p.contains("continue=a%2Fb%3D") => Says(200, vec![list(10, "", &[namespace("b", 2)])], false),
        _ => Says(200, vec![list(10, "a/b=", &[namespace("a", 1)])], false),
    });
    let (mut updates, _tasks, streaming) = follow(client, ObjectKind::Namespace);
    assert_eq!([told(&mut updates).await, told(&mut updates).await], ["=a,b", "+c"]);
    assert!(!streaming.load(Ordering::Relaxed), "it is not tried again");
    assert!(asked.lock().unwrap().iter().any(|p| p.contains("resourceVersion=10")));
}

#[tokio::test(start_paused = true)]
async fn a_lost_history_is_listed_anew() {
    for gone in [failure(410, "too old"), failure(504, "Too large resource version: 9, current: 3")] {
        let lists = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = Arc::clone(&lists);
        let (client, _) = server(move |path| match path {
            p if p.contains("sendInitialEvents") => match counted.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    Says(200, vec![event("ADDED", &namespace("a", 1)), bookmark(5, true), event("ERROR", &gone)], false)
                }
                _ => Says(200, vec![event("ADDED", &namespace("b", 9)), bookmark(9, true)], true),
            },
            _ => Says(200, vec![list(5, "", &[])], false),
        });
        let (mut updates, _tasks, _) = follow(client, ObjectKind::Namespace);
        assert_eq!([told(&mut updates).await, told(&mut updates).await], ["=a", "=b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_history_is_behind_ours_has_another() {
    let lists = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (client, asked) = server(move |path| match path {
        p if p.contains("sendInitialEvents") => match lists.fetch_add(1, Ordering::Relaxed) {
            0 => Says(200, vec![event("ADDED", &namespace("a", 1)), bookmark(500, true)], false),
            _ => Says(200, vec![bookmark(3, true)], true),
        },
        p if p.contains("watch=true") => Says(200, Vec::new(), true),
        _ => Says(200, vec![list(3, "", &[])], false),
    });
    let (mut updates, _tasks, _) = follow(client, ObjectKind::Namespace);
    assert_eq!([told(&mut updates).await, told(&mut updates).await], ["=a", "="]);
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|p| p.contains("resourceVersion=500")), "it would be silent: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_changes_nothing_and_is_not_a_storm() {
    let (client, asked) = server(|path| match path {
        p if p.contains("sendInitialEvents") => {
            Says(200, vec![event("ADDED", &namespace("a", 1)), bookmark(5, true)], false)
        }
        _ => Says(503, vec![failure(503, "away")], false),
    });
    let (mut updates, _tasks, _) = follow(client, ObjectKind::Namespace);
    assert_eq!(told(&mut updates).await, "=a");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(updates.try_recv().is_err(), "what is known stays");
    let asked = asked.lock().unwrap();
    assert!(asked.len() < 120, "{} requests in a minute", asked.len());
    assert_eq!(asked.iter().filter(|p| p.contains("sendInitialEvents")).count(), 1, "no list: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let installed = Arc::new(AtomicBool::new(false));
    let there = Arc::clone(&installed);
    let route = json!({ "metadata": { "name": "r", "namespace": "n", "resourceVersion": "1" }, "spec": {} });
    let (client, _) = server(move |path| match (there.load(Ordering::Relaxed), path) {
        (true, _) => Says(200, vec![event("ADDED", &route), bookmark(5, true)], true),
        (false, p) if p.ends_with("/v1") => Says(404, vec![failure(404, "no group")], false),
        (false, _) => Says(404, vec![failure(404, "not found")], false),
    });
    let kind = ObjectKind::Document(outrigger_config::documents::Kind::HTTPRoute);
    let (mut updates, _tasks, _) = follow(client, kind);
    assert_eq!(told(&mut updates).await, "=");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(updates.try_recv().is_err(), "once is enough");
    installed.store(true, Ordering::Relaxed);
    assert_eq!(told(&mut updates).await, "=r");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_starts_makes_nobody_forget() {
    let lists = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let route = json!({ "metadata": { "name": "r", "namespace": "n", "resourceVersion": "1" }, "spec": {} });
    let (client, _) = server(move |path| match path {
        p if p.ends_with("/v1") => Says(200, vec![json!({ "resources": [{ "name": "httproutes" }] })], false),
        p if p.contains("sendInitialEvents") => match lists.fetch_add(1, Ordering::Relaxed) {
            0 => Says(200, vec![event("ADDED", &route), bookmark(5, true)], false),
            _ => Says(404, vec![failure(404, "not found")], false),
        },
        _ => Says(404, vec![failure(404, "not found")], false),
    });
    let kind = ObjectKind::Document(outrigger_config::documents::Kind::HTTPRoute);
    let (mut updates, _tasks, _) = follow(client, kind);
    assert_eq!(told(&mut updates).await, "=r");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(updates.try_recv().is_err(), "the group still lists the kind");
}
