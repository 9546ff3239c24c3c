//! Bulkhead, connection limits, rate limits, and faults put in on purpose.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outrigger_tests::{LONG, Origin, Proxy, Recorder, Response, Wire, config, eventually, h2peer, holds};
use tokio::time::Instant;

/// An origin that answers `/held` only when it is let; the rest at once.
fn holding() -> (Origin, Arc<AtomicUsize>) {
    let let_go = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&let_go);
    let origin = Origin::scripted(move |wire: &mut Wire, connection, origin: &Recorder| {
        while let Ok(Some(mut request)) = wire.request() {
            request.connection = connection;
            origin.record(&request);
            let take = || gate.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok();
            if request.target == "/held" {
                eventually("it is let go", LONG, take);
            }
            if wire.try_send(Response::text("ok").wire(&request.method)).is_err() {
                return;
            }
        }
    });
    (origin, let_go)
}

#[track_caller]
fn arrived(origin: &Origin, count: usize) {
    eventually("the requests arrive", LONG, || (origin.requests().len() >= count).then_some(()));
}

#[test]
fn the_bulkhead_queues_one_and_refuses_the_next() {
    let (origin, let_go) = holding();
    let policy = "limits: { maxRequests: 2, maxPending: 1 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let to = proxy.inbound();
    let held = [super::get_later(to, "/held"), super::get_later(to, "/held")];
    arrived(&origin, 2);
    let third = super::get_later(to, "/third");
    let waiting = || proxy.ask("/upstreams").json()["upstreams"][0]["limits"]["requests"]["waiting"].clone();
    eventually("the third waits", LONG, || (waiting() == 1).then_some(()));

    let start = Instant::now();
    let fourth = super::get(to, "/fourth", "");
    println!("the fourth was refused after {:?}", start.elapsed());
    assert_eq!(super::refusal(&fourth), (503, "limit_reached".to_owned()));
    assert!(fourth.header("retry-after").is_some());
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(origin.requests().len(), 2, "never more in flight than the bulkhead");

    let_go.store(1, Ordering::SeqCst);
    assert_eq!(third.recv_timeout(LONG).expect("an answer").status, 200);
    let_go.store(1, Ordering::SeqCst);
    for reply in held {
        assert_eq!(reply.recv_timeout(LONG).expect("an answer").status, 200);
    }
    proxy.wait_metric("rejected_total", &[("upstream", "app"), ("reason", "limit_reached")], |n| n == 1.0);
}

#[test]
fn who_waits_longer_than_its_time_is_told() {
    let (origin, let_go) = holding();
    let policy = "limits: { maxRequests: 1, maxPending: 10 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let held = super::get_later(proxy.inbound(), "/held");
    arrived(&origin, 1);
    let start = Instant::now();
    let second = super::get(proxy.inbound(), "/second", "x-outrigger-timeout-ms: 300\r\n");
    assert!(matches!(second.status, 503 | 504), "{}", second.text());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(origin.requests().len(), 1, "what is over is not sent");
    let_go.store(1, Ordering::SeqCst);
    drop(held.recv_timeout(LONG));
}

#[test]
fn connections_are_limited_and_reused() {
    let (origin, let_go) = holding();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "limits: { maxConnections: 1 }"));
    let first = super::get_later(proxy.inbound(), "/held");
    arrived(&origin, 1);
    let second = super::get_later(proxy.inbound(), "/second");
    // A connection that was begun while the client had not said yet what it speaks may end unused.
    holds("one connection", Duration::from_millis(200), || origin.requests().len() == 1);
    eventually("one connection", LONG, || (origin.open() == 1).then_some(()));
    let_go.store(1, Ordering::SeqCst);
    assert_eq!(first.recv_timeout(LONG).expect("an answer").status, 200);
    assert_eq!(second.recv_timeout(LONG).expect("an answer").status, 200);
    assert!(origin.open() <= 1);
}

#[test]
fn a_connection_carries_so_many_requests() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "limits: { maxRequestsPerConnection: 3 }"));
    let mut client = Wire::connect(proxy.inbound());
    for _ in 0..9 {
        assert_eq!(client.get("/").status, 200);
    }
    // The first may be one that was begun while the client had not said yet what it speaks.
    let connections: Vec<_> = origin.requests().iter().map(|r| r.connection).collect();
    let each: Vec<_> = connections.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
    assert_eq!(each, [3, 3, 3], "{connections:?}");
}

#[test]
fn the_rate_limit_by_header() {
    let origin = Origin::hello();
    let policy = "rateLimit: { requests: 2, per: 60s, burst: 2, by: \"header:x-tenant\" }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let ask = |tenant: &str| super::get(proxy.inbound(), "/", &format!("x-tenant: {tenant}\r\n"));
    for tenant in ["a", "b"] {
        assert_eq!((ask(tenant).status, ask(tenant).status), (200, 200), "{tenant}");
        let reply = ask(tenant);
        assert_eq!(super::refusal(&reply), (429, "rate_limited".to_owned()));
        let wait = super::number(&reply, "retry-after").expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
    }
    assert_eq!(origin.requests().len(), 4);
    proxy.wait_metric("rejected_total", &[("upstream", "app"), ("reason", "rate_limited")], |n| n == 2.0);
}

#[test]
fn the_rate_limit_of_all() {
    let origin = Origin::hello();
    let policy = "rateLimit: { requests: 5, per: 1s, burst: 5, by: all }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let statuses: Vec<_> = (0..20).map(|_| super::get(proxy.inbound(), "/", "").status).collect();
    let good = statuses.iter().filter(|s| **s == 200).count();
    println!("20 requests at a limit of 5 per second: {good} passed");
    assert!((5..15).contains(&good), "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 200 | 429)));
    // It fills up again.
    eventually("another one passes", LONG, || (super::get(proxy.inbound(), "/", "").status == 200).then_some(()));
}

#[test]
fn faults_are_put_in_where_a_header_asks() {
    let origin = Origin::hello();
    let policy =
        "fault: { abort: { percent: 100, status: 418 }, when: { headers: [{ name: x-chaos, value: \"1\" }] } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let ask = |headers: &str| super::get(proxy.inbound(), "/", headers);
    assert_eq!(ask("x-chaos: 1\r\n").status, 418);
    assert_eq!((ask("").status, ask("x-chaos: 2\r\n").status), (200, 200));
    assert_eq!(origin.requests().len(), 2);

    let delay =
        "fault: { delay: { percent: 100, duration: 400ms }, when: { headers: [{ name: x-chaos, value: \"1\" }] } }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), delay));
    let start = Instant::now();
    assert_eq!(super::get(proxy.inbound(), "/", "x-chaos: 1\r\n").status, 200);
    let took = start.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[test]
fn clients_that_say_nothing_take_no_place_of_those_that_do() {
    let origin = Origin::hello();
    let policy = "limits: { maxConnections: 1, maxPending: 2 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let silent: Vec<_> = (0..5).map(|_| Wire::connect(proxy.inbound())).collect();
    let dialled = || proxy.ask("/upstreams").json()["upstreams"][0]["limits"]["connections"]["in_flight"] == 1;
    eventually("the upstream is dialled for one of them", LONG, || dialled().then_some(()));
    let start = Instant::now();
    let reply = super::get(proxy.inbound(), "/", "");
    println!("beside 5 silent clients and with one connection, a request took {:?}", start.elapsed());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_client_that_leaves_the_queue_leaves_its_place() {
    let (origin, let_go) = holding();
    let policy = "limits: { maxRequests: 1, maxPending: 1 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let held = super::get_later(proxy.inbound(), "/held");
    arrived(&origin, 1);
    let requests = || proxy.ask("/upstreams").json()["upstreams"][0]["limits"]["requests"].clone();
    for _ in 0..3 {
        let mut waits = Wire::connect(proxy.inbound());
        waits.send("GET /waits HTTP/1.1\r\nHost: app\r\n\r\n");
        eventually("it waits", LONG, || (requests()["waiting"] == 1).then_some(()));
        drop(waits);
        eventually("it no longer waits", LONG, || (requests()["waiting"] == 0).then_some(()));
    }
    let_go.store(1, Ordering::SeqCst);
    assert_eq!(held.recv_timeout(LONG).expect("an answer").status, 200);
    assert_eq!(super::get(proxy.inbound(), "/after", "").status, 200);
    assert_eq!(origin.requests().len(), 2, "who left is not served");
    eventually("nothing is in flight", LONG, || (requests()["in_flight"] == 0).then_some(()));
}

#[test]
fn streams_of_one_connection_are_limited_like_connections() {
    let (origin, let_go) = holding();
    let policy = "limits: { maxRequests: 1, maxPending: 1 }";
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), policy));
    let statuses = h2peer::run(async {
        let client = h2peer::connect(proxy.inbound()).await;
        let held = tokio::spawn(h2_get(client.clone(), "/held"));
        while origin.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let waits = tokio::spawn(h2_get(client.clone(), "/waits"));
        let waiting = || proxy.ask("/upstreams").json()["upstreams"][0]["limits"]["requests"]["waiting"] == 1;
        while !waiting() {
            tokio::task::yield_now().await;
        }
        let refused = h2_get(client, "/refused").await;
        let_go.store(1, Ordering::SeqCst);
        [held.await.expect("no panic"), waits.await.expect("no panic"), refused]
    });
    assert_eq!(statuses, [200, 200, 503]);
}

async fn h2_get(client: h2::client::SendRequest<bytes::Bytes>, path: &'static str) -> u16 {
    h2peer::call(&client, h2peer::request("GET", path, &[]), b"", &[]).await.expect("an answer").status
}

#[test]
fn an_idle_connection_to_one_endpoint_does_not_keep_another_waiting() {
    let all = [Origin::named("a"), Origin::named("b")];
    let yaml = config::proxy(&[config::INBOUND])
        + &config::upstream_of("app", &[all[0].address(), all[1].address()])
        + &config::policy("app", "loadBalancing: { algorithm: roundRobin }, limits: { maxConnections: 1 }");
    let proxy = Proxy::start(&yaml);
    let mut client = Wire::connect(proxy.inbound());
    let start = Instant::now();
    let mut answers: Vec<_> = (0..6).map(|_| client.get("/").text()).collect();
    println!("six requests in turn to two endpoints over one connection took {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    answers.sort();
    assert_eq!(answers, ["a", "a", "a", "b", "b", "b"]);
}
