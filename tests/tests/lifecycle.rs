//! The end of a pod: nothing is lost while its app ends, and the proxy goes when there is nothing left for it to do.
//!
//! Apps and proxies share this machine's network; the proxy of a pod takes the pod's port, and the app listens on another, as in a
//! pod whose traffic nobody captures.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use outrigger_config::discovery::{Endpoint, Workload, WorkloadPort, resource::Body};
use outrigger_tests::{
    LONG, Origin, Proxy, Reply, Response, Traffic, Wire,
    discovery::{ControlPlane, POD, endpoint, port, service_key},
    eventually,
    frames::{self, Frames, kind},
    holds, load,
    ports::free_ports,
    wire,
};

/// A pod: an app at one port, and the proxy that has another in its place.
struct Pod {
    at: SocketAddr,
    app: Option<Origin>,
    proxy: Proxy,
}

impl Pod {
    fn start(control: &ControlPlane, name: &'static str, mtls: &str, more: &[&str]) -> Self {
        let [at] = free_ports();
        workload(control, at, mtls);
        let app = Origin::start(move |_| Response::text("ok").header("x-endpoint", name));
        let moved = format!("{}={}", at.port(), app.address().port());
        let proxy = control.proxy(&[&["--inbound-listeners", &moved], more].concat());
        Self { at, app: Some(app), proxy }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { identity: POD.into(), ..endpoint(self.at) }
    }

    /// The app takes no more connections.
    fn close_port(&mut self) {
        drop(self.app.take());
    }

    fn call(&self, host: &str) -> Reply {
        call(self.proxy.outbound(), host)
    }
}

/// All pods of a test run as one account, and are told of each other's ports too.
fn workload(control: &ControlPlane, at: SocketAddr, mtls: &str) {
    // The apps speak HTTP/1.
    let ports = vec![WorkloadPort { protocol: "http".into(), ..port(at.port(), mtls) }];
    control.put("workload", Body::Workload(Workload { mtls: mtls.into(), ports, ..Workload::default() }));
}

fn call(proxy: SocketAddr, host: &str) -> Reply {
    wire::once(proxy, &format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

fn ready(proxy: &Proxy) -> bool {
    proxy.ask("/readyz").status == 200
}

#[test]
fn a_rollout_fails_nothing_although_the_app_ends_slowly_and_calls_meanwhile() {
    let control = ControlPlane::start();
    let stock = Origin::named("stock");
    control.service("stock", 80, &[endpoint(stock.address())], &[]);
    // Ordinary containers: the app and its proxy get SIGTERM in one moment.
    let mut old = Pod::start(&control, "old", "strict", &["--drain-quiet", "1s"]);
    let new = Pod::start(&control, "new", "strict", &[]);
    let key = service_key("orders", 80);
    control.service("orders", 80, &[old.endpoint()], &[]);
    // Of another address: what a pod asks of itself needs no certificate.
    let client = control.proxy(&["--pod-ips", "127.0.0.9"]);
    assert_eq!(call(client.outbound(), "orders").header("x-endpoint"), Some("old"));
    let load = Traffic::start(client.outbound(), 200, 4, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
    load.run_until(Duration::from_millis(300));
    let version = control.delta(&key, &[new.endpoint()], &[]);
    control.wait_ack(&key, &version);

    // The pods of this test share a network: the other's app is none of its own.
    workload(&control, old.at, "strict");
    old.proxy.signal("TERM");
    let ended = Arc::new(AtomicBool::new(false));
    let calls = {
        let (to, ended) = (old.proxy.outbound(), Arc::clone(&ended));
        // What the app does while it ends: a call, a pause, the next one on a new connection.
        thread::spawn(move || {
            let mut statuses = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                statuses.push(call(to, "stock").status);
                thread::park_timeout(Duration::from_millis(50));
            }
            statuses
        })
    };
    eventually("it is not ready any more", LONG, || (!ready(&old.proxy)).then_some(()));
    // The news of its end reach callers late; until then they come.
    let terminated = load.elapsed();
    load.run_until(terminated + Duration::from_millis(500));
    let late = load.since(terminated);
    assert!(late.iter().any(|s| s.endpoint == "old"), "what still arrives is served");
    let version = control.delta(&key, &[], &[&old.at.to_string()]);
    control.wait_ack(&key, &version);
    // The app takes two seconds, then it is gone.
    load.run_until(terminated + Duration::from_secs(2));
    assert!(old.proxy.runs(), "it outlives the app");
    old.close_port();
    ended.store(true, Ordering::SeqCst);
    let calls = calls.join().expect("no panic");
    let status = old.proxy.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    load.run_until(load.elapsed() + Duration::from_millis(300));
    let samples = load.stop();
    assert!(load::failed(&samples).is_empty(), "{:?}", load::failed(&samples));
    assert!(calls.len() > 10 && calls.iter().all(|s| *s == 200), "{calls:?}");
    assert_eq!(samples.last().map(|s| s.endpoint.as_str()), Some("new"));
}

#[test]
fn while_the_app_ends_inbound_is_asked_to_leave_and_outbound_is_not() {
    let control = ControlPlane::start();
    let stock = Origin::named("stock");
    control.service("stock", 80, &[endpoint(stock.address())], &[]);
    let mut pod = Pod::start(&control, "pod", "permissive", &["--drain-quiet", "1s"]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Wire::connect(pod.at);
    assert_eq!(kept.exchange(request).header("connection"), None);
    let mut outbound = Wire::connect(pod.proxy.outbound());
    let stock_request = "GET / HTTP/1.1\r\nHost: stock\r\n\r\n";
    assert_eq!(outbound.exchange(stock_request).status, 200);

    pod.proxy.signal("TERM");
    eventually("it drains", LONG, || (!ready(&pod.proxy)).then_some(()));
    assert!(pod.proxy.ask("/readyz").text().contains("draining"));
    assert_eq!(pod.proxy.ask("/livez").status, 200);
    // One that was open, and one that comes now.
    for mut wire in [kept, Wire::connect(pod.at)] {
        let reply = wire.exchange(request);
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert!(wire.is_closed());
    }
    // HTTP/2: the stream for which it was made is served before it is told to go.
    let mut h2 = Frames::connect(pod.at);
    h2.get(1, &[]).expect("a fresh connection");
    let mut kinds = Vec::new();
    let answer = h2.find(|frame| {
        kinds.push(frame.kind);
        frame.kind == kind::HEADERS
    });
    assert_eq!(answer.and_then(|frame| frames::status_of(&frame)), Some(200));
    assert!(kinds.contains(&kind::GOAWAY) || h2.find(|frame| frame.kind == kind::GOAWAY).is_some(), "{kinds:?}");
    let mut fresh = Wire::connect(pod.proxy.outbound());
    for _ in 0..3 {
        for wire in [&mut outbound, &mut fresh] {
            let reply = wire.exchange(stock_request);
            assert_eq!((reply.status, reply.header("connection")), (200, None));
        }
    }
    pod.close_port();
    // Its connections are what is left of it.
    holds("the proxy waits for the app's connections", Duration::from_millis(1500), || pod.proxy.runs());
    drop((outbound, fresh));
    assert!(pod.proxy.wait_exit(Duration::from_secs(8)).success());
}

#[test]
fn a_silent_app_without_a_port_has_its_quiet_time() {
    let control = ControlPlane::start();
    let stock = Origin::named("stock");
    control.service("stock", 80, &[endpoint(stock.address())], &[]);
    let mut pod = Pod::start(&control, "pod", "strict", &["--drain-quiet", "2s"]);
    pod.close_port();
    pod.proxy.signal("TERM");
    // Each call begins the time anew.
    for _ in 0..3 {
        holds("it waits", Duration::from_millis(1200), || pod.proxy.runs());
        assert_eq!(pod.call("stock").status, 200);
    }
    assert!(pod.proxy.wait_exit(Duration::from_secs(8)).success());
}

#[test]
fn the_drain_time_out_bounds_an_app_that_does_not_end() {
    let control = ControlPlane::start();
    let mut pod = Pod::start(&control, "pod", "strict", &["--drain-timeout", "3s"]);
    let held = Wire::connect(pod.proxy.outbound());
    pod.proxy.signal("TERM");
    holds("it waits for the app", Duration::from_secs(2), || pod.proxy.runs());
    assert!(pod.proxy.wait_exit(Duration::from_secs(4)).success());
    drop(held);
    // And a second signal ends the wait.
    let mut pod = Pod::start(&control, "pod", "strict", &[]);
    pod.proxy.signal("TERM");
    eventually("it drains", LONG, || (!ready(&pod.proxy)).then_some(()));
    pod.proxy.signal("TERM");
    assert_eq!(pod.proxy.wait_exit(LONG).code(), Some(128 + 15));
}

#[test]
fn a_native_sidecar_leaves_once_nothing_is_in_flight() {
    let control = ControlPlane::start();
    let [slow] = free_ports();
    let release = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&release);
    let origin = Origin::on(TcpListener::bind(slow).expect("a free port"), move |wire, _, recorder| {
        let Ok(Some(request)) = wire.request() else { return };
        recorder.record(&request);
        while !held.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(5));
        }
        wire.try_send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").ok();
    });
    control.service("slow", 80, &[endpoint(slow)], &[]);
    let mut idle = Pod::start(&control, "idle", "strict", &["--native-sidecar"]);
    idle.proxy.signal("TERM");
    // Its app's port would be open still, if this were no test: nobody looks.
    assert!(idle.proxy.wait_exit(Duration::from_secs(4)).success());

    let mut pod = Pod::start(&control, "pod", "strict", &["--native-sidecar"]);
    let to = pod.proxy.outbound();
    let call = thread::spawn(move || call(to, "slow"));
    eventually("the call is under way", LONG, || (!origin.requests().is_empty()).then_some(()));
    pod.proxy.signal("TERM");
    holds("a call is in flight", Duration::from_millis(1500), || pod.proxy.runs());
    release.store(true, Ordering::SeqCst);
    assert_eq!(call.join().expect("no panic").text(), "late");
    assert!(pod.proxy.wait_exit(Duration::from_secs(4)).success());
}

#[test]
fn a_job_ends_its_proxy_with_shutdown() {
    let control = ControlPlane::start();
    let mut pod = Pod::start(&control, "job", "strict", &[]);
    let reply = wire::post(pod.proxy.admin(), "/shutdown");
    assert_eq!(reply.status, 202);
    assert!(pod.proxy.wait_exit(Duration::from_secs(4)).success());
    // In the middle of the wait for the app too.
    let mut pod = Pod::start(&control, "job", "strict", &[]);
    pod.proxy.signal("TERM");
    eventually("it drains", LONG, || (!ready(&pod.proxy)).then_some(()));
    assert_eq!(wire::post(pod.proxy.admin(), "/shutdown").status, 202);
    assert!(pod.proxy.wait_exit(Duration::from_secs(4)).success());
}

#[test]
fn drain_takes_a_pod_out_and_goes_on() {
    let control = ControlPlane::start();
    let stock = Origin::named("stock");
    control.service("stock", 80, &[endpoint(stock.address())], &[]);
    let mut pod = Pod::start(&control, "pod", "permissive", &["--drain-quiet", "1s"]);
    assert_eq!(wire::post(pod.proxy.admin(), "/drain").status, 202);
    eventually("it is not ready", LONG, || (!ready(&pod.proxy)).then_some(()));
    assert_eq!(wire::get(pod.at, "/").header("connection"), Some("close"));
    assert_eq!(pod.call("stock").status, 200);
    holds("it goes on", Duration::from_millis(500), || pod.proxy.runs());
    // What the control plane says is still taken.
    let other = Origin::named("other");
    let key = service_key("stock", 80);
    let version = control.delta(&key, &[endpoint(other.address())], &[&stock.address().to_string()]);
    control.wait_ack(&key, &version);
    assert_eq!(pod.call("stock").text(), "other");
    pod.close_port();
    pod.proxy.signal("TERM");
    assert!(pod.proxy.wait_exit(Duration::from_secs(8)).success());
}

#[test]
fn an_app_is_not_started_before_its_proxy_is_ready() {
    let control = ControlPlane::start();
    control.set_refuses(true);
    let [at] = free_ports();
    workload(&control, at, "strict");
    let moved = format!("{}={}", at.port(), free_ports::<1>()[0].port());
    let proxy = control.proxy_at_once(&["--inbound-listeners", &moved]);
    eventually("it is alive, and not ready without an identity", LONG, || {
        std::net::TcpStream::connect(proxy.admin()).ok()?;
        let reply = proxy.ask("/readyz");
        (reply.status == 503 && reply.text().contains("identity")).then_some(())
    });
    assert_eq!(proxy.ask("/livez").status, 200);
    control.set_refuses(false);
    eventually("it is ready", Duration::from_secs(30), || ready(&proxy).then_some(()));
}
