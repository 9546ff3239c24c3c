//! TLS under load: identities and roots that change while requests flow, and callers that are refused again and again.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Traffic, Wire, config, eventually, load,
    pki::{Ca, FAR, Files},
};
use tokio::time::Instant;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// Two proxies, and the files of both.
struct Pair {
    client: Proxy,
    server: Proxy,
    web: Files,
    api: Files,
}

impl Pair {
    fn new(ca: &Ca, origin: &Origin, protocol: &str) -> Self {
        let (web, api) = (ca.identity(WEB), ca.identity(API));
        let listener = config::inbound("mtls: strict");
        let yaml = config::proxy_with(&api.yaml(), &[&listener]) + &config::upstream("app", origin.address());
        let server = Proxy::start(&yaml);
        let tls = format!("tls: {{ mode: mesh, identity: \"{API}\" }}");
        let fields = format!("{protocol} endpoints: [{{ address: \"{}\" }}], {tls}", server.inbound());
        let client = Proxy::start(
            &(config::proxy_with(&web.yaml(), &[config::OUTBOUND]) + &config::upstream_with("app", &fields)),
        );
        Self { client, server, web, api }
    }

    fn each(&self) -> [(&Proxy, &Files, &'static str); 2] {
        [(&self.client, &self.web, WEB), (&self.server, &self.api, API)]
    }

    /// New leaves of `ca` on both sides, and both shown.
    fn renew(&self, ca: &Ca, year: i32) {
        for (proxy, files, id) in self.each() {
            let serial = |p: &Proxy| p.ask("/certificates").json()[0]["serial"].to_string();
            let before = serial(proxy);
            files.replace(&ca.workload(id, year));
            eventually("the new leaf is shown", LONG, || (serial(proxy) != before).then_some(()));
        }
    }

    /// These roots on both sides, and both shown.
    fn trust(&self, roots: &[&Ca]) {
        let bundle: String = roots.iter().map(|ca| ca.pem()).collect();
        for (proxy, files, _) in self.each() {
            files.put("ca.crt", &bundle);
            eventually("the new bundle is shown", LONG, || {
                let shown = proxy.ask("/certificates").json();
                let count = shown.as_array()?.iter().filter(|c| c["role"] == "root").count();
                (count == roots.len()).then_some(())
            });
        }
    }
}

/// `OUTRIGGER_ROTATION_SECONDS` and `OUTRIGGER_ROTATION_RATE` make it long and hard by hand.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn leaves_and_roots_are_rotated_under_load_and_no_request_fails() {
    let (seconds, rate) = (setting("OUTRIGGER_ROTATION_SECONDS", 3), setting("OUTRIGGER_ROTATION_RATE", 300));
    for protocol in ["protocol: http,", "protocol: http2,"] {
        let (mut old, mut new) = (Ca::new("first"), Ca::new("second"));
        let origin = Origin::start(|_| Response::text("ok"));
        let pair = Pair::new(&old, &origin, protocol);
        let traffic = Traffic::start(pair.client.outbound(), rate, 16, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let (mut leaves, mut roots) = (0, 0);
        while Instant::now() < end || roots < 2 {
            pair.renew(&old, 2080);
            pair.trust(&[&old, &new]);
            pair.renew(&new, 2081);
            pair.trust(&[&new]);
            (leaves, roots) = (leaves + 2, roots + 1);
            old = new;
            new = Ca::new("next");
        }
        let samples = traffic.stop();
        let failed = load::failed(&samples);
        assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), samples.len(), failed.first());
        let all: Vec<_> = samples.iter().collect();
        let slowest = load::percentile(&all, 99);
        println!("{protocol} {} requests, {leaves} leaves and {roots} roots, p99 {slowest:?}", samples.len());
    }
}

/// CPU time of a process.
fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").map_while(Result::ok);
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// A `ClientHello` of `openssl`-like shape that asks for TLS 1.2 alone.
fn old_hello() -> Vec<u8> {
    let ciphers = [0xc0, 0x2f, 0xc0, 0x2b];
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4]].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(ciphers.len()).expect("short").to_be_bytes());
    body.extend(ciphers);
    body.extend([1, 0]);
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    message.extend(body);
    let mut record = vec![0x16, 3, 1];
    record.extend(u16::try_from(message.len()).expect("short").to_be_bytes());
    record.extend(message);
    record
}

#[test]
fn what_is_refused_costs_little_and_keeps_nobody_out() {
    let (ca, origin) = (Ca::new("mesh"), Origin::hello());
    let pair = Pair::new(&ca, &origin, "protocol: http,");
    assert_eq!(Wire::connect(pair.client.outbound()).get("/").status, 200);
    let to = pair.server.inbound();
    let hello = old_hello();
    for (kind, bytes) in [
        ("plaintext", &b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"[..]),
        ("TLS 1.2", &hello),
        ("half a ClientHello", &hello[..hello.len() / 2]),
        ("nonsense in a record", &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0xff]),
    ] {
        let (before, count) = (cpu(pair.server.pid()), 200);
        for _ in 0..count {
            let mut client = TcpStream::connect(to).expect("it listens");
            client.write_all(bytes).ok();
            client.shutdown(std::net::Shutdown::Write).ok();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).ok();
            // An alert at most: never an answer of the application.
            assert!(answer.is_empty() || answer[0] == 0x15, "{kind}: {answer:?}");
        }
        let each = (cpu(pair.server.pid()) - before) / count;
        println!("{kind}: {each:?} of CPU for each refusal");
        // Of a debug build on a busy machine; a release build takes a tenth of a millisecond.
        assert!(each < Duration::from_millis(20), "{kind}: {each:?}");
    }
    // Whoever has an identity is served at once, from the same address.
    let start = Instant::now();
    let fresh = Pair { client: Proxy::start(&fs::read_to_string(pair.client.file()).expect("readable")), ..pair };
    assert_eq!(Wire::connect(fresh.client.outbound()).get("/").status, 200);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(origin.requests().len(), 2);
    let refused = [("reason", "tls_protocol_error")];
    fresh.server.wait_metric("tls_handshakes_failed_total", &refused, |n| n >= 400.0);
    assert_eq!(FAR, 2090);
}
