//! An upstream that closes idle connections at random moments: no GET fails, no POST arrives twice.

use std::{
    collections::HashMap,
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use outrigger_tests::{LONG, Origin, Proxy, Response, Wire, config};

/// Closes each connection that is idle after a request, at a random time within 10 ms, often just as the next one comes.
fn impatient(seen: &Arc<Mutex<HashMap<String, u32>>>, closed: &Arc<AtomicU64>) -> Origin {
    let (seen, closed) = (Arc::clone(seen), Arc::clone(closed));
    let random = AtomicU64::new(0x9E37_79B9_7F4A_7C15);
    Origin::scripted(move |wire, _, _| {
        for request in 0.. {
            let mut first = [0];
            let next = random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            let micros = (next ^ (next >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
            wire.patience(if request == 0 { LONG } else { Duration::from_micros(1 + micros % 10_000) });
            match wire.socket().peek(&mut first) {
                Ok(1..) => wire.patience(LONG),
                Ok(_) => return,
                Err(_) => {
                    closed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            let Ok(Some(request)) = wire.request() else { return };
            if let Some(id) = request.header("x-id") {
                *seen.lock().expect("no panic").entry(id.to_owned()).or_default() += 1;
            }
            if wire.try_send(Response::text("ok").wire(&request.method)).is_err() {
                return;
            }
        }
    })
}

/// Sends so many requests with a pause of up to 10 ms between those of one client. Returns those without an answer of 200.
fn drive(proxy: &Proxy, total: usize, request: impl Fn(usize) -> String + Sync) -> Vec<String> {
    const CLIENTS: usize = 16;
    let to = proxy.inbound();
    let bad = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (bad, request) = (&bad, &request);
            scope.spawn(move || {
                let mut wire = Wire::connect(to);
                for n in (client..total).step_by(CLIENTS) {
                    thread::park_timeout(Duration::from_micros((n as u64).wrapping_mul(2_654_435_761) % 6000));
                    let request = request(n);
                    let method = request.split(' ').next().unwrap_or_default();
                    let reply = wire.try_send(&request).and_then(|()| wire.try_reply(method));
                    match reply {
                        Ok(reply) if reply.status == 200 && reply.whole => continue,
                        Ok(reply) => {
                            bad.lock().expect("no panic").push(format!("{n}: {} {}", reply.status, reply.text()))
                        }
                        Err(error) => bad.lock().expect("no panic").push(format!("{n}: {error}")),
                    }
                    wire = Wire::new(TcpStream::connect(to).expect("the proxy listens"));
                }
            });
        }
    });
    bad.into_inner().expect("no panic")
}

#[test]
fn no_get_fails_when_idle_connections_close() {
    let total = if std::env::var_os("OUTRIGGER_TEST_LONG").is_some() { 100_000 } else { 20_000 };
    let (seen, closed) = (Arc::default(), Arc::default());
    let origin = impatient(&seen, &closed);
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let bad = drive(&proxy, total, |n| format!("GET /{n} HTTP/1.1\r\nHost: app\r\n\r\n"));
    let raced = proxy.metrics().sum("retries_total", &[("result", "sent")]);
    println!(
        "keep-alive race: {total} GET, {} failed; {} idle connections closed, {raced} requests met a closed one",
        bad.len(),
        closed.load(Ordering::Relaxed)
    );
    assert!(bad.is_empty(), "{} failed: {:?}", bad.len(), &bad[..bad.len().min(5)]);
    assert!(closed.load(Ordering::Relaxed) > 100, "the race did not take place");
}

#[test]
fn no_post_without_a_key_arrives_twice() {
    const TOTAL: usize = 4_000;
    let (seen, closed) = (Arc::<Mutex<HashMap<String, u32>>>::default(), Arc::default());
    let origin = impatient(&seen, &closed);
    let proxy = Proxy::start(&config::sidecar_policy(origin.address(), "retry: { attempts: 2 }"));
    let bad = drive(&proxy, TOTAL, |n| {
        format!("POST /{n} HTTP/1.1\r\nHost: app\r\nx-id: {n}\r\nContent-Length: 4\r\n\r\nbody")
    });
    let seen = seen.lock().expect("no panic");
    let twice = seen.values().filter(|count| **count > 1).count();
    println!(
        "keep-alive race: {TOTAL} POST, {} arrived, {twice} twice, {} not answered; {} idle connections closed",
        seen.len(),
        bad.len(),
        closed.load(Ordering::Relaxed)
    );
    assert_eq!(twice, 0);
    assert!(seen.len() + bad.len() >= TOTAL);
    assert!(bad.len() * 20 < TOTAL, "{:?}", bad.first());
}
