//! Living with it: reloads that lose nothing, and drains that finish what was begun.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use outrigger_tests::{
    LONG, Origin, Proxy, Wire, config, eventually,
    h2peer::{self, H2Origin},
    holds, origin, process, wire,
};

/// Threads that send requests without a pause, reconnecting when told to close, until they are stopped.
struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn start(to: SocketAddr, threads: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let spawn = |_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let (mut failures, mut client) = (Vec::new(), None);
                while !stop.load(Ordering::SeqCst) {
                    // A listener that is gone takes no connection; that is no failed request.
                    let Some(mut wire) = client.take().or_else(|| TcpStream::connect(to).ok().map(Wire::new)) else {
                        break;
                    };
                    let request = "GET /traffic HTTP/1.1\r\nHost: app\r\n\r\n";
                    match wire.try_send(request).and_then(|()| wire.try_reply("GET")) {
                        Ok(reply) if reply.status == 200 && reply.whole => {
                            done.fetch_add(1, Ordering::SeqCst);
                            let close = reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
                            client = (!close).then_some(wire);
                        }
                        Ok(reply) => failures.push(format!("{} {}", reply.status, reply.text())),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                failures
            })
        };
        let threads = (0..threads).map(spawn).collect();
        Self { stop, done, threads }
    }

    fn count(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits for so many more requests.
    #[track_caller]
    fn wait(&self, more: usize) {
        let want = self.count() + more;
        eventually("traffic flows", LONG, || (self.count() >= want).then_some(()));
    }

    /// Ends it; returns the failures.
    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    }
}

#[test]
fn a_good_file_is_applied_and_closes_nothing() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let proxy = Proxy::start(&config::sidecar(old.address()));
    let mut client = Wire::connect(proxy.inbound());
    assert_eq!(client.get("/").text(), "old");
    proxy.reload(&config::sidecar(new.address()), true);
    eventually("the new upstream is used", LONG, || (client.get("/").text() == "new").then_some(()));
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let before = proxy.ask("/config").text();
    let bad = [
        "not: [yaml",
        "kind: Proxy\n",
        &config::sidecar(origin.address()).replace("kind: Upstream, name: app }", "kind: Upstream, name: ap }"),
        &config::sidecar(origin.address()).replace("workers", "wrokers"),
        "",
    ];
    for text in bad {
        proxy.reload(text, false);
        assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200, "{text}");
    }
    assert_eq!(proxy.ask("/config").text(), before);
    assert_eq!(proxy.ask("/readyz").status, 200);
    assert!(
        proxy.output().iter().any(|line| line.contains("proxy.yaml:") && line.contains("wrokers")),
        "the fault is not logged"
    );
    proxy.reload(&(config::sidecar(origin.address()) + "# mended\n"), true);
}

#[test]
fn a_connection_outlives_a_reload_while_it_streams() {
    let origin = H2Origin::start();
    let yaml = config::sidecar_protocol(origin.address(), "http2");
    let proxy = Proxy::start(&yaml);
    h2peer::run(async {
        let mut client = h2peer::connect(proxy.inbound()).await;
        let (response, mut stream) = client.send_request(h2peer::request("POST", "/echo", &[]), false).expect("open");
        h2peer::send(&mut stream, "before ", false).await.expect("a window");
        let mut body = response.await.expect("a head").into_body();
        let first = body.data().await.expect("data").expect("data");
        let other = config::policy("app", "timeouts: { connect: 2s }");
        proxy.reload(&(yaml.clone() + &other), true);
        h2peer::send(&mut stream, "after", true).await.expect("the stream is still open");
        let second = body.data().await.expect("data").expect("data");
        assert_eq!((&first[..], &second[..]), (&b"before "[..], &b"after"[..]));
    });
}

#[test]
fn a_hang_up_signal_reloads() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let before = proxy.metrics().sum("config_reloads_total", &[]);
    proxy.signal("HUP");
    proxy.wait_metric("config_reloads_total", &[], |n| n > before);
    assert_eq!(Wire::connect(proxy.inbound()).get("/").status, 200);
}

#[test]
fn listeners_come_and_go() {
    let origin = Origin::hello();
    let one = config::sidecar(origin.address());
    let proxy = Proxy::start(&one);
    let second = config::INBOUND.replace("name: inbound", "name: second");
    let two = config::proxy(&[config::INBOUND, &second]) + &config::upstream("app", origin.address());
    proxy.reload(&two, true);
    let added = proxy.address("second");
    eventually("the new listener serves", LONG, || {
        let mut client = Wire::new(TcpStream::connect(added).ok()?);
        (client.get("/").status == 200).then_some(())
    });
    let mut old = Wire::connect(proxy.inbound());
    assert_eq!(old.get("/").status, 200);
    let mut held = Wire::connect(added);
    assert_eq!(held.get("/").status, 200);
    proxy.reload(&one, true);
    eventually("the listener is gone", LONG, || TcpStream::connect(added).is_err().then_some(()));
    assert_eq!(old.get("/").status, 200);
}

#[test]
fn an_identical_file_is_no_reload() {
    let origin = Origin::hello();
    let yaml = config::sidecar(origin.address());
    let proxy = Proxy::start(&yaml);
    let before = proxy.metrics().sum("config_reloads_total", &[]);
    proxy.rewrite(&yaml);
    holds("no reload is counted", Duration::from_millis(300), || {
        proxy.metrics().sum("config_reloads_total", &[]) == before
    });
}

#[test]
fn directories_and_swapped_links_are_followed() {
    // As a ConfigMap is mounted: files are links into `..data`, which is swapped.
    let dir = tempfile::TempDir::new().expect("a directory");
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    for (version, origin) in [("..1", &old), ("..2", &new)] {
        fs::create_dir(dir.path().join(version)).expect("writable");
        fs::write(dir.path().join(version).join("a.yaml"), config::proxy(&[config::INBOUND])).expect("writable");
        fs::write(dir.path().join(version).join("b.yaml"), config::upstream("app", origin.address()))
            .expect("writable");
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).expect("writable");
    link("..1", "..data");
    link("..data/a.yaml", "a.yaml");
    link("..data/b.yaml", "b.yaml");
    let proxy = Proxy::spawn_args(&["run", "--config", &dir.path().display().to_string()]);
    proxy.wait_ready();
    assert_eq!(Wire::connect(proxy.inbound()).get("/").text(), "old");
    link("..2", "..draft");
    fs::rename(dir.path().join("..draft"), dir.path().join("..data")).expect("writable");
    eventually("the swap is noticed", LONG, || (Wire::connect(proxy.inbound()).get("/").text() == "new").then_some(()));
}

#[test]
fn a_thousand_reloads_under_traffic_lose_nothing() {
    let origin = Origin::hello();
    let yaml = config::sidecar(origin.address());
    let proxy = Proxy::start(&yaml);
    let traffic = Traffic::start(proxy.inbound(), 2);
    traffic.wait(10);
    let descriptors = process::descriptors(proxy.pid());
    let start = proxy.metrics().sum("config_reloads_total", &[]);
    for i in 0..1000 {
        proxy.rewrite(&format!(
            "{yaml}{}# {i}\n",
            config::policy("app", &format!("timeouts: {{ connect: {}ms }}", 500 + i))
        ));
        proxy.signal("HUP");
        // One by one: a signal that comes while another is handled would be the same reload.
        eventually("the reload is counted", LONG, || {
            (proxy.metrics().sum("config_reloads_total", &[]) > start + f64::from(i)).then_some(())
        });
    }
    traffic.wait(10);
    let count = traffic.count();
    let failures = traffic.finish();
    assert!(failures.is_empty(), "{} of {count} failed: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert_eq!(proxy.metrics().sum("config_reloads_total", &[("result", "failure")]), 0.0);
    assert!(process::descriptors(proxy.pid()) <= descriptors + 10, "descriptors leak");
    assert!(process::rss(proxy.pid()) < 64 << 20, "{} bytes resident", process::rss(proxy.pid()));
    eventually("the last policy is in force", LONG, || proxy.ask("/config").text().contains("1499ms").then_some(()));
}

#[test]
fn a_drain_under_load_loses_nothing() {
    let origin = Origin::hello();
    let mut proxy = Proxy::start(&config::sidecar(origin.address()));
    let traffic = Traffic::start(proxy.inbound(), 2);
    traffic.wait(100);
    proxy.signal("TERM");
    let status = proxy.wait_exit(LONG);
    let failures = traffic.finish();
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let (release, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::scripted(move |wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            wait.lock().expect("no panic").recv_timeout(LONG).expect("released");
            wire.send(outrigger_tests::Response::text("late").wire("GET"));
        }
    });
    let mut proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut idle = Wire::connect(proxy.inbound());
    idle.send("GET / HTTP/1.1\r\n");
    let address = proxy.inbound();
    let mut client = Wire::connect(address);
    client.send("GET /slow HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("it is in flight", LONG, || (!origin.requests().is_empty()).then_some(()));
    proxy.signal("TERM");
    eventually("nothing new is accepted, or /readyz says so", LONG, || {
        let gone = TcpStream::connect(address).is_err();
        (gone || proxy.output().iter().any(|line| line.contains("draining"))).then_some(())
    });
    assert!(proxy.runs(), "it did not wait");
    release.send(()).expect("the origin waits");
    let reply = client.reply();
    assert_eq!(reply.text(), "late");
    assert!(reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")), "{:?}", reply.headers);
    assert!(client.is_closed());
    drop(idle);
    assert_eq!(proxy.wait_exit(LONG).code(), Some(0));
}

#[test]
fn a_drain_of_http_2_says_goaway_and_finishes() {
    let origin = H2Origin::start();
    let mut proxy = Proxy::start(&config::sidecar_protocol(origin.address(), "http2"));
    h2peer::run(async {
        let mut client = h2peer::connect(proxy.inbound()).await;
        let (response, mut stream) = client.send_request(h2peer::request("POST", "/echo", &[]), false).expect("open");
        h2peer::send(&mut stream, "one", false).await.expect("a window");
        let response = response.await.expect("a head");
        proxy.signal("TERM");
        // After GOAWAY no new stream can be opened; the old one goes on.
        let deadline = tokio::time::Instant::now() + LONG;
        while let Ok(mut fresh) = client.clone().ready().await {
            match fresh.send_request(h2peer::request("GET", "/x", &[]), true) {
                Err(_) => break,
                Ok((answer, _)) => drop(answer.await),
            }
            assert!(tokio::time::Instant::now() < deadline, "no GOAWAY");
        }
        h2peer::send(&mut stream, "two", true).await.expect("the stream is open");
        assert_eq!(h2peer::read(response).await.expect("a body").text(), "onetwo");
    });
    assert_eq!(proxy.wait_exit(LONG).code(), Some(0));
}

#[test]
fn the_wait_of_a_drain_is_bounded() {
    let origin = Origin::scripted(|wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            drop(wire.rest());
        }
    });
    let yaml =
        config::proxy_with("  drainTimeout: 300ms\n", &[config::INBOUND]) + &config::upstream("app", origin.address());
    let mut proxy = Proxy::start(&yaml);
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /never HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("it is in flight", LONG, || (!origin.requests().is_empty()).then_some(()));
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit(LONG).code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::scripted(|wire, _, recorder| {
        if let Ok(Some(request)) = wire.request() {
            recorder.record(&request);
            drop(wire.rest());
        }
    });
    let mut proxy = Proxy::start(&config::sidecar(origin.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send("GET /never HTTP/1.1\r\nHost: app\r\n\r\n");
    eventually("it is in flight", LONG, || (!origin.requests().is_empty()).then_some(()));
    proxy.signal("TERM");
    eventually("it drains", LONG, || proxy.output().iter().any(|line| line.contains("draining")).then_some(()));
    proxy.signal("TERM");
    proxy.wait_exit(Duration::from_secs(3));
}

#[test]
fn an_idle_proxy_drains_at_once() {
    let mut proxy = Proxy::start(&config::sidecar(origin::refused()));
    let idle = Wire::connect(proxy.inbound());
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit(Duration::from_secs(5)).code(), Some(0));
    drop(idle);
}

#[test]
fn the_admin_port_drains_and_shuts_down() {
    let origin = Origin::hello();
    let mut proxy = Proxy::start(&config::sidecar(origin.address()));
    let address = proxy.inbound();
    assert_eq!(wire::post(proxy.admin(), "/drain").status, 202);
    // As a preStop hook wants it: no new work, but the process stays until it is told to end.
    eventually("it is not ready", LONG, || (proxy.ask("/readyz").status == 503).then_some(()));
    assert_eq!(proxy.ask("/livez").status, 200);
    eventually("nothing new is accepted", LONG, || TcpStream::connect(address).is_err().then_some(()));
    assert!(proxy.runs());
    assert_eq!(wire::post(proxy.admin(), "/shutdown").status, 202);
    assert_eq!(proxy.wait_exit(LONG).code(), Some(0));
}
