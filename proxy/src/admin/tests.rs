use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use outrigger_config::{
    Compiled, Origin,
    model::{
        AccessLog, Backend, Direction, Endpoint, EndpointSource, HeaderEdits, IdentityFiles, IdentitySource, Listener,
        ListenerLimits, ListenerProtocol, ListenerTarget, LogFormat, Model, MtlsMode, PathMatch, ProxySettings,
        RouteKind, RouteMatch, RouteTable, Rule, Telemetry, TrafficPolicy, Upstream, UpstreamId, UpstreamProtocol,
        UpstreamTls,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::observe::Observer;

/// One listener, one upstream with a hostile name, one route.
fn model() -> Model {
    let origin = |line| Origin::new("orders.yaml", line, 3);
    let policy = Arc::new(TrafficPolicy::default());
    let rule = Rule {
        route: "orders".into(),
        kind: RouteKind::Http,
        name: "main".into(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        redirect: None,
        mirrors: Vec::new(),
        backends: vec![Backend {
            upstream: UpstreamId(0),
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        }],
        total_weight: 1,
        policy: Arc::clone(&policy),
        origin: origin(20),
    };
    let first = RouteMatch {
        hostnames: Vec::new(),
        path: PathMatch::Prefix("/".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
        grpc: false,
        rule: 0,
    };
    let upstream = Upstream {
        name: "</script><b>orders".into(),
        protocol: UpstreamProtocol::Auto,
        hostnames: Vec::new(),
        source: EndpointSource::Static(vec![Endpoint {
            address: "127.0.0.1:3000".parse().unwrap(),
            weight: 2,
            zone: Some("a".into()),
            identity: None,
        }]),
        tls: UpstreamTls::None,
        policy,
        access: Vec::new(),
        routes: RouteTable { matches: vec![first], rules: vec![Arc::new(rule)] },
        origin: origin(10),
    };
    let listener = Listener {
        name: "inbound".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        direction: Direction::Inbound,
        protocol: ListenerProtocol::Detect,
        mtls: MtlsMode::Permissive,
        target: ListenerTarget::Forward(UpstreamId(0)),
        original_destination: false,
        limits: ListenerLimits::default(),
        origin: origin(5),
    };
    Model {
        proxy: ProxySettings {
            name: "orders".into(),
            workers: Some(1),
            admin: "127.0.0.1:0".parse().unwrap(),
            identity: None,
            telemetry: Telemetry {
                access_log: Some(AccessLog { format: LogFormat::Json, path: "/dev/stdout".into(), sample: 1.0 }),
                tracing: None,
            },
            correlation: outrigger_config::model::Correlation::default(),
            drain_timeout: Duration::from_secs(90),
        },
        listeners: vec![listener],
        upstreams: vec![Arc::new(upstream)],
        decisions: Vec::new(),
    }
}

struct Fixture {
    address: SocketAddr,
    shared: Arc<Shared>,
}

async fn start(context: AdminContext) -> Fixture {
    let observer = Observer::new(1);
    let compiled = Compiled { model: model(), warnings: Vec::new() };
    let shared = Shared::start(compiled, 1, observer).unwrap_or_else(|faults| panic!("{faults:?}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&shared), context));
    Fixture { address, shared }
}

impl Fixture {
    async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(n, _)| *n == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        (Response::from_parts(head, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, target: &str) -> (u16, String) {
        let (head, body) = self.send(Method::GET, target, &[]).await;
        (head.status().as_u16(), body)
    }

    async fn get_json(&self, target: &str) -> Value {
        let (status, body) = self.get(target).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn health_follows_the_phase() {
    let there = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&there);
    let identity: Check =
        Box::new(move || asked.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "no certificate yet".into()));
    let admin = start(AdminContext { checks: vec![("identity", identity)], ..AdminContext::default() }).await;
    assert_eq!(admin.get("/livez").await, (200, "ok\n".into()));
    assert_eq!(admin.get("/healthz").await.0, 200);
    let (status, text) = admin.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("[-]identity failed: no certificate yet\n"), "{text}");
    assert_eq!(admin.get("/readyz?exclude=identity").await, (200, "ok\n".into()));
    there.store(true, Ordering::Relaxed);
    let (status, text) = admin.get("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(text.contains("[+]listeners ok\n") && text.ends_with("readyz check passed\n"), "{text}");
    assert_eq!(admin.send(Method::POST, "/drain", &[]).await.0.status(), 202);
    assert_eq!(*admin.shared.phase().borrow(), Phase::Draining);
    assert_eq!(admin.get("/readyz").await.0, 503);
    assert_eq!(admin.get("/livez").await.0, 200);
}

#[tokio::test]
async fn methods_and_paths_are_checked() {
    let admin = start(AdminContext::default()).await;
    let (head, _) = admin.send(Method::POST, "/metrics", &[]).await;
    assert_eq!((head.status().as_u16(), &head.headers()[header::ALLOW]), (405, &"GET, HEAD".parse().unwrap()));
    let (head, _) = admin.send(Method::GET, "/drain", &[]).await;
    assert_eq!((head.status().as_u16(), &head.headers()[header::ALLOW]), (405, &"POST".parse().unwrap()));
    assert_eq!(*admin.shared.phase().borrow(), Phase::Serving);
    let (status, list) = admin.get("/nothing").await;
    assert_eq!(status, 404);
    assert!(list.contains("GET  /readyz") && list.contains("POST /drain"), "{list}");
    let (head, body) = admin.send(Method::HEAD, "/upstreams", &[]).await;
    assert_eq!((head.status().as_u16(), body.len()), (200, 0));
    assert!(head.headers()[header::CONTENT_LENGTH] != "0");
}

#[tokio::test]
async fn pages_of_others_change_nothing() {
    let admin = start(AdminContext::default()).await;
    for headers in [
        [("origin", "http://evil.example"), ("x-a", "b")],
        [("sec-fetch-site", "cross-site"), ("x-a", "b")],
        [("host", "evil.example"), ("sec-fetch-site", "same-origin")],
    ] {
        for target in ["/drain", "/shutdown", "/log-level?filter=off"] {
            let (head, _) = admin.send(Method::POST, target, &headers).await;
            assert_eq!(head.status(), 403, "{target} {headers:?}");
        }
        assert_eq!(admin.send(Method::GET, "/config", &headers).await.0.status(), 403, "{headers:?}");
    }
    assert_eq!(*admin.shared.phase().borrow(), Phase::Serving);
}

#[tokio::test]
async fn shutdown_calls_what_it_is_given() {
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let shutdown = Box::new(move || flag.store(true, Ordering::Relaxed));
    let admin = start(AdminContext { shutdown: Some(shutdown), ..AdminContext::default() }).await;
    assert_eq!(admin.send(Method::POST, "/shutdown", &[]).await.0.status(), 202);
    assert!(called.load(Ordering::Relaxed));
}

#[tokio::test]
async fn metrics_come_in_both_formats() {
    let admin = start(AdminContext::default()).await;
    let (head, text) = admin.send(Method::GET, "/metrics", &[]).await;
    assert_eq!(head.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("outrigger_config_version_info{version=\"1\"} 1\n"));
    assert!(text.contains("outrigger_endpoints{state=\"ready\",upstream=\"</script><b>orders\"} 1\n"));
    let (head, text) = admin.send(Method::GET, "/metrics", &[("accept", "application/openmetrics-text")]).await;
    assert_eq!(head.headers()[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn what_is_in_force_is_shown_with_its_place() {
    let admin = start(AdminContext::default()).await;
    let config = admin.get_json("/config").await;
    assert_eq!(config["version"], 1);
    assert_eq!(config["listeners"][0]["origin"], "orders.yaml:5:3");
    assert_eq!(config["listeners"][0]["target"]["forwardTo"], "</script><b>orders");
    assert_eq!(config["upstreams"][0]["rules"][0]["origin"], "orders.yaml:20:3");
    assert_eq!(config["upstreams"][0]["policy"]["timeouts"]["idle"], "5m");
    assert_eq!(config["upstreams"][0]["policy"]["limits"]["maxRequests"], Value::Null);
    assert_eq!(config["upstreams"][0]["policy"]["loadBalancing"]["algorithm"], "peakEwma");
    assert_eq!(config["proxy"]["drainTimeout"], "1m30s");
    assert_eq!(config["proxy"]["identity"], Value::Null);
    let upstreams = admin.get_json("/upstreams").await;
    let endpoint = &upstreams["upstreams"][0]["endpoints"][0];
    assert_eq!(endpoint["address"], "127.0.0.1:3000");
    assert_eq!((&endpoint["weight"], &endpoint["state"]), (&2.into(), &"ready".into()));
    assert_eq!(endpoint["ewma_ms"], Value::Null);
    assert_eq!(admin.get_json("/certificates").await, serde_json::json!([]));
}

/// The files are not there, so whoever showed more than their names would fail.
#[test]
fn an_identity_is_named_and_not_read() {
    let mut settings = model().proxy;
    settings.identity = Some(IdentitySource::Files(IdentityFiles {
        certificate: "/nowhere/tls.crt".into(),
        private_key: "/nowhere/tls.key".into(),
        trust_bundle: "/nowhere/ca.crt".into(),
    }));
    assert_eq!(config::proxy(&settings)["identity"]["privateKey"], "/nowhere/tls.key");
}

#[tokio::test]
async fn explain_is_asked_and_answered() {
    assert_eq!(start(AdminContext::default()).await.get("/explain?url=/").await.0, 501);
    let explain: Explain = Box::new(|snapshot, query| {
        if query.listener.as_deref() == Some("nowhere") {
            return Err("there is no listener \"nowhere\"".into());
        }
        let headers: Vec<_> = query.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let json = serde_json::json!({ "version": snapshot.version, "method": query.method, "url": query.url,
            "headers": headers, "from": query.from });
        Ok(Explained { text: "words\n".into(), json })
    });
    let admin = start(AdminContext { explain: Some(explain), ..AdminContext::default() }).await;
    let query = "/explain?listener=inbound&method=POST&url=http%3A%2F%2Fshop%2Fa%3Fb%3Dc&header=x-a%3A+1:2&header=x-b:&from=spiffe://d/ns/n/sa/s";
    let answer = admin.get_json(query).await;
    assert_eq!(answer["url"], "http://shop/a?b=c");
    assert_eq!(answer["headers"], serde_json::json!(["x-a=1:2", "x-b="]));
    assert_eq!(answer["from"], "spiffe://d/ns/n/sa/s");
    assert_eq!(admin.get("/explain?url=/&o=text").await, (200, "words\n".into()));
    for bad in ["/explain", "/explain?url=/&header=nocolon", "/explain?url=/&listener=nowhere"] {
        let (status, body) = admin.get(bad).await;
        assert_eq!(status, 400, "{bad}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string());
    }
}

#[tokio::test]
async fn the_page_stands_alone_and_trusts_no_name() {
    let admin = start(AdminContext::default()).await;
    let (head, page) = admin.send(Method::GET, "/", &[]).await;
    let policy = head.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    let nonce = policy.split_once("script-src 'nonce-").unwrap().1.split_once('\'').unwrap().0;
    assert_eq!(nonce.len(), 32);
    assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    // A namespace is a name, and nothing is fetched from there.
    let fetched = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!page.contains("NONCE") && !fetched.contains("http://") && !fetched.contains("https://"));
    for word in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!page.contains(word), "{word}");
    }
    let (again, _) = admin.send(Method::GET, "/", &[]).await;
    assert_ne!(again.headers()[header::CONTENT_SECURITY_POLICY], policy);
    let stats = admin.get_json("/stats.json").await;
    assert_eq!(stats["phase"], "serving");
    assert_eq!(stats["upstreams"][0]["name"], "</script><b>orders");
    assert_eq!(stats["listeners"][0]["direction"], "inbound");
}

#[tokio::test]
async fn totals_of_routes_reach_the_page() {
    let admin = start(AdminContext::default()).await;
    let worker = admin.shared.observer.worker(0);
    let failure = crate::error::Failure::new(crate::error::Reason::ConnectionRefused, "refused");
    let mut record = crate::observe::tests::record(&Method::GET);
    let route = worker.route(Direction::Inbound, &"orders".into(), &"main".into());
    route.finish(&record);
    (record.status, record.failure) = (502, Some(&failure));
    route.finish(&record);
    drop((route, worker));
    let stats = admin.get_json("/stats.json").await;
    let route = &stats["routes"][0];
    assert_eq!((&route["upstream"], &route["requests"]), (&"orders".into(), &2.into()));
    assert_eq!(route["classes"], serde_json::json!([0, 1, 0, 0, 1, 0]));
    assert_eq!(route["reasons"], serde_json::json!({ "connection_refused": 1 }));
    assert_eq!(route["buckets"][2], 2);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let admin = start(AdminContext::default()).await;
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD_BYTES));
    // The answer may come, and the connection end, before all of it is written.
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(write.write_all(head.as_bytes()), read.read_to_end(&mut answer));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(admin.get("/livez").await.0, 200);
}
