//! One time budget over three hops, with an app between them that copies nothing but `x-request-id`.

use std::{net::TcpStream, sync::mpsc, time::Duration};

use outrigger_tests::{LONG, Origin, Proxy, Wire, config};
use tokio::time::Instant;

/// No work goes on anywhere after this: the budget is 300 ms.
const ENDS: Duration = Duration::from_millis(350);

#[test]
fn the_budget_ends_work_behind_an_app_that_copies_only_the_request_id() {
    // The backend never answers, and says when its caller gave up.
    let (gave_up, ended) = mpsc::sync_channel(16);
    let gave_up = std::sync::Mutex::new(gave_up);
    let backend = Origin::scripted(move |wire, _, origin| {
        if let Ok(Some(request)) = wire.request() {
            origin.record(&request);
            drop(wire.rest());
            gave_up.lock().expect("no panic").send(Instant::now()).ok();
        }
    });
    let inner = Proxy::start(&config::sidecar(backend.address()));

    // The app calls the backend through the proxy that stands before it; it is told where that listens.
    let (tell, told) = mpsc::sync_channel::<std::net::SocketAddr>(1);
    let told = std::sync::Mutex::new((None, told));
    let app = Origin::scripted(move |wire, _, _| {
        let outbound = {
            let mut told = told.lock().expect("no panic");
            let address = told.0.unwrap_or_else(|| told.1.recv().expect("the test tells"));
            told.0 = Some(address);
            address
        };
        while let Ok(Some(request)) = wire.request() {
            let id = request.header("x-request-id").unwrap_or_default();
            let Ok(stream) = TcpStream::connect(outbound) else { return };
            let mut call = Wire::new(stream);
            let sent = call.try_send(format!("GET / HTTP/1.1\r\nHost: backend\r\nX-Request-Id: {id}\r\n\r\n"));
            let status = sent.and_then(|()| call.try_reply("GET")).map_or(502, |reply| reply.status);
            let answer = outrigger_tests::Response::new(status).wire("GET");
            if wire.try_send(answer).is_err() {
                return;
            }
        }
    });
    let yaml = config::proxy(&[config::INBOUND, config::OUTBOUND])
        + &config::upstream("app", app.address())
        + &config::policy("app", "timeouts: { request: 300ms }")
        + &config::upstream_with(
            "backend",
            &format!("hostnames: [backend], endpoints: [{{ address: \"{}\" }}]", inner.inbound()),
        );
    let proxy = Proxy::start(&yaml);
    tell.send(proxy.outbound()).expect("the app waits");

    // What is measured is the proxy's time; a machine that is busy with other things gets a second chance.
    let mut best = LONG;
    for round in 0..5 {
        let mut client = Wire::connect(proxy.inbound());
        let start = Instant::now();
        let reply = client.get("/");
        let answered = start.elapsed();
        assert_eq!(super::refusal(&reply).0, 504, "{}", reply.text());
        let over = ended.recv_timeout(LONG).expect("the backend sees the cancellation") - start;
        println!("round {round}: answered after {answered:?}, the backend's caller gave up after {over:?}");
        best = best.min(over.max(answered));
        if best < ENDS {
            break;
        }
    }
    assert!(best < ENDS, "work went on until {best:?}");
    let given: u64 = backend.last().header("x-outrigger-timeout-ms").and_then(|v| v.parse().ok()).expect("a budget");
    assert!((1..300).contains(&given), "{given} ms were passed on");
    proxy.wait_metric("attributed_total", &[("source", "header")], |n| n >= 1.0);
}

#[test]
fn a_client_that_leaves_ends_the_work_behind_the_app() {
    let backend = Origin::scripted(|wire, _, origin| {
        if let Ok(Some(request)) = wire.request() {
            origin.record(&request);
            drop(wire.rest());
        }
    });
    let inner = Proxy::start(&config::sidecar(backend.address()));
    let mut client = Wire::connect(inner.inbound());
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    outrigger_tests::eventually("the request arrives", LONG, || (!backend.requests().is_empty()).then_some(()));
    let left = Instant::now();
    drop(client);
    outrigger_tests::eventually("the backend sees it", LONG, || (backend.open() == 0).then_some(()));
    println!("a client left; the backend saw it after {:?}", left.elapsed());
    assert!(left.elapsed() < Duration::from_secs(1));
}
