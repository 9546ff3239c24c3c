//! A proxy in a pod, and a control plane that does what the test says.

use std::{fs, net::SocketAddr, time::Duration};

use outrigger_config::discovery::{Document, Workload, proxy_message::Message, resource::Body};
use outrigger_tests::{
    LONG, Origin, Proxy, Reply, Response, Traffic,
    discovery::{ControlPlane, POD, endpoint, service_key},
    eventually, holds, load,
    pki::Files,
    wire,
};

/// A request of the app to the proxy itself, which names its host.
fn call(proxy: &Proxy, host: &str) -> Reply {
    wire::once(proxy.outbound(), &request(host))
}

fn request(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn route(name: &str, service: &str, spec: &str) -> Document {
    let json = format!(
        r#"{{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{{"name":"{name}","namespace":"shop"}},
        "spec":{{"parentRefs":[{{"group":"","kind":"Service","name":"{service}"}}],"rules":[{spec}]}}}}"#
    );
    Document { json, origin: format!("HTTPRoute shop/{name}") }
}

/// A rule that answers with a redirect: easily told apart from the service itself.
const REDIRECT: &str = r#"{"name":"away","filters":[{"type":"RequestRedirect","requestRedirect":{"hostname":"elsewhere","statusCode":302}}]}"#;

#[test]
fn a_service_is_asked_for_when_it_is_called_first() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    let version = control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let proxy = control.proxy(&[]);
    let reply = call(&proxy, "orders");
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /x"), "{reply:?}");
    control.wait_ack(&service_key("orders", 80), &version);
    for _ in 0..3 {
        assert_eq!(call(&proxy, "ORDERS:80").status, 200);
    }
    let asked =
        control.all().iter().filter(|m| matches!(m, Message::Subscribe(s) if s.key == "name/orders:80")).count();
    assert_eq!(asked, 1);
    assert_eq!(control.tokens(), ["first"]);
    proxy.wait_metric("requests_total", &[("upstream", "shop/orders:80"), ("status", "200")], |n| n > 3.5);
    let certificates = proxy.ask("/certificates").text();
    assert!(certificates.contains(POD), "{certificates}");
    assert!((proxy.metrics().sum("control_plane_connected", &[]) - 1.0).abs() < 0.1);
}

#[test]
fn what_the_mesh_does_not_know_is_outside() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    let proxy = control.proxy(&[]);
    let port = origin.address().port();
    assert_eq!(call(&proxy, &format!("localhost:{port}")).status, 200);
    assert_eq!(call(&proxy, &format!("127.0.0.1:{port}")).status, 200);
    proxy.wait_metric("requests_total", &[("upstream", "outside"), ("status", "200")], |n| n > 1.5);
    let nowhere = call(&proxy, "nowhere.invalid");
    assert_eq!(nowhere.status, 503, "{nowhere:?}");
    assert!(nowhere.text().contains("dns_error"), "{nowhere:?}");
}

#[test]
fn a_refused_version_leaves_the_last_good_one_and_others_alone() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let control = ControlPlane::start();
    control.service("orders", 80, &[endpoint(a.address())], &[]);
    control.service("stock", 80, &[endpoint(b.address())], &[]);
    let proxy = control.proxy(&[]);
    assert_eq!((call(&proxy, "orders").text(), call(&proxy, "stock").text()), ("a".into(), "b".into()));
    let wrong = route("orders", "orders", r#"{"matches":[{"path":{"type":"RegularExpression","value":"("}}]}"#);
    let bad = control.service("orders", 80, &[endpoint(b.address())], &[wrong]);
    let refusal = control.wait_refusal(&service_key("orders", 80), &bad);
    assert!(refusal.reasons.iter().any(|r| r.contains("HTTPRoute shop/orders")), "{refusal:?}");
    // Its endpoints are facts, and in force.
    eventually("the endpoints of the refused version are used", LONG, || {
        (call(&proxy, "orders").text() == "b").then_some(())
    });
    let good = control.service("stock", 80, &[endpoint(b.address())], &[route("stock", "stock", REDIRECT)]);
    control.wait_ack(&service_key("stock", 80), &good);
    assert_eq!(call(&proxy, "stock").status, 302);
    assert_eq!(call(&proxy, "orders").status, 200);
    let mended = control.service("orders", 80, &[endpoint(a.address())], &[route("orders", "orders", REDIRECT)]);
    control.wait_ack(&service_key("orders", 80), &mended);
    assert_eq!(call(&proxy, "orders").status, 302);
    assert_eq!(proxy.ask("/readyz").status, 200);
}

#[test]
fn endpoints_change_under_load_without_a_failure() {
    let servers: Vec<_> = (0..4).map(|_| Origin::start(|_| Response::text("ok"))).collect();
    let control = ControlPlane::start();
    let all: Vec<_> = servers.iter().map(|s| endpoint(s.address())).collect();
    control.service("orders", 80, &all[..2], &[]);
    let proxy = control.proxy(&[]);
    assert_eq!(call(&proxy, "orders").status, 200);
    let request = "GET / HTTP/1.1\r\nHost: orders\r\n\r\n";
    let traffic = Traffic::start(proxy.outbound(), 300, 8, request);
    let key = service_key("orders", 80);
    for round in 0..20 {
        let (new, old) = (&all[(round + 2) % 4], &all[round % 4]);
        let version = control.delta(&key, std::slice::from_ref(new), &[&old.address]);
        control.wait_ack(&key, &version);
    }
    let samples = traffic.stop();
    assert!(load::failed(&samples).is_empty(), "{:?}", load::failed(&samples));
    assert!(servers.iter().all(|s| !s.requests().is_empty()));
    // A delta that does not fit is no guess: the resource is asked for afresh.
    let snapshots = proxy.ask("/upstreams").text();
    assert!(snapshots.contains("\"discovered\""), "{snapshots}");
}

#[test]
fn a_lost_control_plane_changes_nothing_and_is_found_again() {
    let origin = Origin::hello();
    let mut control = ControlPlane::start();
    let version = control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let proxy = control.proxy(&[]);
    assert_eq!(call(&proxy, "orders").status, 200);
    let traffic = Traffic::start(proxy.outbound(), 200, 4, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
    control.kill();
    proxy.wait_metric("control_plane_connected", &[], |connected| connected < 0.5);
    assert_eq!(proxy.ask("/readyz").status, 200);
    // What is not known goes where the app sent it, without a wait for nobody.
    let port = origin.address().port();
    assert_eq!(call(&proxy, &format!("localhost:{port}")).status, 200);
    let before = control.streams();
    let down = tokio::time::Instant::now();
    control.restart();
    eventually("the control plane is found again", Duration::from_secs(5), || {
        (control.streams() > before).then_some(())
    });
    println!("found again after {:?}", down.elapsed());
    let stream = control.streams() - 1;
    let known = eventually("the stream resumes", LONG, || {
        control.messages(stream).into_iter().find_map(|m| match m {
            Message::Subscribe(s) if s.key == service_key("orders", 80) => Some(s.known_version),
            _ => None,
        })
    });
    assert_eq!(known, version);
    let newer = control.service("orders", 80, &[endpoint(origin.address())], &[route("orders", "orders", REDIRECT)]);
    control.wait_ack(&service_key("orders", 80), &newer);
    let samples = traffic.stop();
    assert!(load::failed(&samples).is_empty(), "{:?}", load::failed(&samples));
}

#[test]
fn what_is_called_first_while_the_stream_is_opened_is_subscribed_to() {
    let origin = Origin::hello();
    let mut control = ControlPlane::start();
    control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let proxy = control.proxy(&[]);
    control.kill();
    proxy.wait_metric("control_plane_connected", &[], |connected| connected < 0.5);
    control.set_holds(true);
    let before = control.streams();
    control.restart();
    eventually("the stream is being opened", LONG, || (control.streams() > before).then_some(()));
    // Not known yet, and nobody there to ask.
    assert_ne!(call(&proxy, "orders").status, 200);
    control.set_holds(false);
    proxy.wait_metric("control_plane_connected", &[], |connected| connected > 0.5);
    eventually("it is known by the same stream", LONG, || (call(&proxy, "orders").status == 200).then_some(()));
    assert_eq!(control.streams(), before + 1);
}

#[test]
fn a_replica_that_sends_us_away_answers_until_we_go() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    for name in ["orders", "stock"] {
        control.service(name, 80, &[endpoint(origin.address())], &[]);
    }
    let proxy = control.proxy(&[]);
    assert_eq!(call(&proxy, "orders").status, 200);
    control.go_away(Duration::from_secs(30));
    // The next message is read behind it.
    let newer = control.service("orders", 80, &[endpoint(origin.address())], &[route("orders", "orders", REDIRECT)]);
    control.wait_ack(&service_key("orders", 80), &newer);
    // Far less than the proxy may take to go; and if chance sends it at once, the next stream answers.
    eventually("what is new is known", Duration::from_secs(3), || (call(&proxy, "stock").status == 200).then_some(()));
    control.go_away(Duration::ZERO);
    eventually("it goes", LONG, || (control.streams() > 1).then_some(()));
    proxy.wait_metric("control_plane_connected", &[], |connected| connected > 0.5);
}

#[test]
fn a_destination_that_nobody_uses_is_forgotten() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let proxy = control.proxy(&["--idle", "1s"]);
    assert_eq!(call(&proxy, "orders").status, 200);
    control.wait("the name is unsubscribed", |m| {
        matches!(m, Message::Unsubscribe(u) if u.key == "name/orders:80").then_some(())
    });
    eventually("the upstream is gone", LONG, || {
        (!proxy.ask("/upstreams").text().contains("shop/orders")).then_some(())
    });
    assert_eq!(call(&proxy, "orders").status, 200);
}

#[test]
fn a_control_plane_of_another_name_is_not_believed() {
    let control = ControlPlane::start_as("spiffe://cluster.local/ns/shop/sa/orders");
    let proxy = control.proxy_at_once(&[]);
    eventually("it is said why", LONG, || {
        proxy.output().iter().any(|l| l.contains("outrigger-control-plane") && l.contains("sa/orders")).then_some(())
    });
    assert!(control.tokens().is_empty(), "the token is shown to nobody else");
    assert_eq!(proxy.ask("/readyz").status, 503);
    assert!(proxy.ask("/readyz").text().contains("identity"));
}

#[test]
fn the_token_is_read_again_and_the_identity_renewed_in_time() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    control.set_lifetime(Duration::from_secs(3));
    control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let proxy = control.proxy(&[]);
    let traffic = Traffic::start(proxy.outbound(), 100, 2, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
    fs::write(control.file("token"), "second\n").unwrap();
    eventually("it is renewed", LONG, || (control.issued() >= 3).then_some(()));
    assert!(control.tokens().contains(&"second".to_owned()), "{:?}", control.tokens());
    let samples = traffic.stop();
    assert!(load::failed(&samples).is_empty(), "{:?}", load::failed(&samples));
    // One stream all the time: a renewal closes nothing.
    assert_eq!(control.streams(), 1);
    control.set_refuses(true);
    eventually("an identity that has expired is none", LONG, || (proxy.ask("/readyz").status == 503).then_some(()));
    control.set_refuses(false);
    eventually("it comes back", Duration::from_secs(40), || (proxy.ask("/readyz").status == 200).then_some(()));
}

#[test]
fn an_endpoint_with_an_identity_is_called_by_mtls() {
    let origin = Origin::hello();
    let control = ControlPlane::start();
    let orders = "spiffe://cluster.local/ns/shop/sa/orders";
    let files = control.ca().identity(orders);
    let server = strict_server(&files, origin.address());
    let mut secured = endpoint(server.inbound());
    secured.identity = orders.into();
    control.service("orders", 80, &[secured.clone()], &[]);
    secured.identity = "spiffe://cluster.local/ns/shop/sa/stock".into();
    control.service("stock", 80, &[secured], &[]);
    let proxy = control.proxy(&["--pod-ips", "127.0.0.9"]);
    let reply = call(&proxy, "orders");
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = origin.last();
    assert!(seen.header("x-forwarded-client-cert").is_some_and(|v| v.contains(POD)), "{seen:?}");
    let other = call(&proxy, "stock");
    assert_eq!(other.status, 502, "{other:?}");
    assert!(other.text().contains("tls_certificate_error"), "{other:?}");
}

fn strict_server(files: &Files, app: SocketAddr) -> Proxy {
    use outrigger_tests::config;
    let listener = "{ name: inbound, address: 127.0.0.1:0, direction: inbound, mtls: strict, \
                    forwardTo: { kind: Upstream, name: app } }";
    Proxy::start(&[config::proxy_with(&files.yaml(), &[listener]), config::upstream("app", app)].concat())
}

#[test]
fn a_container_that_is_started_again_needs_no_control_plane() {
    let origin = Origin::hello();
    let mut control = ControlPlane::start();
    control.service("orders", 80, &[endpoint(origin.address())], &[]);
    let dir = tempfile::TempDir::new().unwrap();
    let state = dir.path().display().to_string();
    let proxy = control.proxy(&["--state-dir", &state]);
    assert_eq!(call(&proxy, "orders").status, 200);
    let saved = dir.path().join("resources.pb");
    eventually("the state is saved", LONG, || {
        fs::read(&saved).is_ok_and(|b| String::from_utf8_lossy(&b).contains("name/orders:80")).then_some(())
    });
    drop(proxy);
    control.kill();
    let again = control.proxy_at_once(&["--state-dir", &state]);
    assert_eq!(call(&again, "orders").status, 200);
    let readiness = again.ask("/readyz").text();
    assert!(readiness.contains("[+]workload ok") && readiness.contains("[-]identity"), "{readiness}");
    let bytes = fs::read(&saved).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
}

#[test]
fn nothing_is_let_in_that_was_not_redirected() {
    let control = ControlPlane::start();
    let proxy = control.proxy(&[]);
    let mut wire = wire::Wire::connect(proxy.inbound());
    wire.try_send(request("web")).ok();
    assert!(wire.is_closed());
    proxy.wait_metric("discovery_events_total", &[("event", "loop_refused")], |n| n > 0.5);
}

#[test]
fn a_workload_that_has_not_come_is_waited_for() {
    let control = ControlPlane::start();
    control.put("workload", Body::Absent(outrigger_config::discovery::Absent::default()));
    let proxy = control.proxy_at_once(&[]);
    eventually("it is told", LONG, || proxy.ask("/readyz").text().contains("[-]workload").then_some(()));
    holds("it is not ready", Duration::from_millis(200), || proxy.ask("/readyz").status == 503);
    control.put("workload", Body::Workload(Workload { mtls: "strict".into(), ..Workload::default() }));
    proxy.wait_ready();
}
