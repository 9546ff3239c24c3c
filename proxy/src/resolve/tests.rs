//! The resolver against a name server of the test's own, over real UDP.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use outrigger_config::{Source, compile};
use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::{
    observe::Observer,
    shared::{Resolution, UpstreamState},
};

/// What the server says about a name and type; names that are not listed do not exist.
type Zone = HashMap<(&'static str, RecordType), Vec<(u32, RData)>>;

/// A name server whose zone can be changed; `None` lets it fall silent.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Option<Zone>>>,
    questions: watch::Receiver<u64>,
}

impl Server {
    async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Some(zone)));
        let (count, questions) = watch::channel(0);
        let seen = Arc::clone(&zone);
        drop(tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((n, peer)) = socket.recv_from(&mut buffer).await {
                let answer = seen.lock().unwrap().as_ref().map(|zone| answer(zone, &buffer[..n]));
                if let Some(bytes) = answer {
                    socket.send_to(&bytes, peer).await.unwrap();
                }
                count.send_modify(|n| *n += 1);
            }
        }));
        Self { address, zone, questions }
    }

    fn set(&self, zone: Option<Zone>) {
        *self.zone.lock().unwrap() = zone;
    }
}

fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries.first().unwrap().clone();
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    let name = query.name().to_string().to_ascii_lowercase();
    if let Some(records) = zone.iter().find(|((n, t), _)| *n == name && *t == query.query_type()).map(|(_, r)| r) {
        for (ttl, data) in records {
            message.add_answer(Record::from_rdata(query.name().clone(), *ttl, data.clone()));
        }
    } else if !zone.keys().any(|(n, _)| *n == name) {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message.add_query(query);
    message.to_vec().unwrap()
}

fn ip(text: &str) -> RData {
    match text.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(rdata::SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
}

fn shared(source: &str) -> Arc<Shared> {
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: p }}
spec: {{ listeners: [{{ name: l, address: 127.0.0.1:0, direction: outbound }}] }}
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: u }}
spec: {{ dns: {{ {source} }} }}
"
    );
    let compiled = compile(&[Source { name: "test".into(), text }]).unwrap();
    Shared::start(compiled, 1, Observer::new(1)).unwrap()
}

async fn resolver(server: &Server, shared: &Arc<Shared>) -> Resolver {
    let resolver = Resolver::start(shared, Servers::These(vec![server.address]));
    timeout(Duration::from_secs(20), resolver.settled()).await.unwrap();
    resolver
}

fn upstream(shared: &Shared) -> Arc<UpstreamState> {
    Arc::clone(&shared.snapshot().upstreams[0])
}

fn endpoints(shared: &Shared) -> Vec<(String, u32)> {
    let set = upstream(shared).endpoints().load_full();
    set.endpoints.iter().map(|e| (e.config.address.to_string(), e.config.weight)).collect()
}

/// Waits for a condition; each question to the server is a reason to look again.
async fn until(server: &Server, what: &str, condition: impl Fn() -> bool) {
    let mut questions = server.questions.clone();
    let waited = timeout(Duration::from_secs(20), async {
        while !condition() {
            // An answer is published soon after its question; look at both times.
            if timeout(Duration::from_millis(20), questions.changed()).await.is_ok_and(|r| r.is_err()) {
                return;
            }
        }
    });
    assert!(waited.await.is_ok() && condition(), "{what}");
}

const NAME: &str = "name: a.test., port: 80";

fn one(ttl: u32, address: &str) -> Zone {
    HashMap::from([(("a.test.", RecordType::A), vec![(ttl, ip(address))])])
}

#[tokio::test]
async fn both_families_are_used_and_the_shortest_ttl_holds() {
    let mut zone = one(300, "127.0.0.2");
    zone.insert(("a.test.", RecordType::AAAA), vec![(60, ip("::1"))]);
    let server = Server::start(zone).await;
    let shared = shared(NAME);
    let _resolver = resolver(&server, &shared).await;
    assert_eq!(endpoints(&shared), [("127.0.0.2:80".into(), 1), ("[::1]:80".into(), 1)]);
    let resolution = upstream(&shared).endpoints().load().resolution.clone();
    assert!(matches!(resolution, Resolution::Resolved { ttl, .. } if ttl == Duration::from_secs(60)), "{resolution:?}");
}

#[tokio::test]
async fn when_the_ttl_is_over_the_name_is_asked_for_again() {
    let server = Server::start(one(1, "127.0.0.2")).await;
    let shared = shared(NAME);
    let _resolver = resolver(&server, &shared).await;
    server.set(Some(one(1, "127.0.0.3")));
    until(&server, "the new address", || endpoints(&shared) == [("127.0.0.3:80".into(), 1)]).await;
}

#[tokio::test]
async fn a_kick_asks_again_before_the_ttl_is_over() {
    let server = Server::start(one(3600, "127.0.0.2")).await;
    let shared = shared(NAME);
    let resolver = resolver(&server, &shared).await;
    server.set(Some(one(3600, "127.0.0.3")));
    resolver.kicker().kick("nobody");
    resolver.kicker().kick("u");
    until(&server, "the new address", || endpoints(&shared) == [("127.0.0.3:80".into(), 1)]).await;
}

#[tokio::test]
async fn silence_keeps_the_last_answer_and_a_negative_answer_ends_it() {
    let server = Server::start(one(1, "127.0.0.2")).await;
    let shared = shared(NAME);
    let _resolver = resolver(&server, &shared).await;
    server.set(None);
    let failed = |want| matches!(&upstream(&shared).endpoints().load().resolution, Resolution::Failed { reason, .. } if *reason == want);
    until(&server, "a time-out", || failed(Reason::DnsTimeout)).await;
    assert_eq!(endpoints(&shared).len(), 1);
    server.set(Some(Zone::new()));
    until(&server, "no endpoint", || endpoints(&shared).is_empty() && failed(Reason::DnsError)).await;
    server.set(Some(one(1, "127.0.0.4")));
    until(&server, "it is back", || endpoints(&shared) == [("127.0.0.4:80".into(), 1)]).await;
}

#[tokio::test]
async fn srv_records_give_ports_and_weights_of_the_lowest_priority() {
    let services =
        vec![(60, srv(10, 2, 8081, "a.test.")), (60, srv(10, 1, 8082, "b.test.")), (60, srv(20, 1, 9000, "a.test."))];
    let mut zone = one(60, "127.0.0.2");
    zone.insert(("b.test.", RecordType::A), vec![(60, ip("127.0.0.3"))]);
    zone.insert(("_http._tcp.test.", RecordType::SRV), services);
    let server = Server::start(zone).await;
    let shared = shared("srv: _http._tcp.test.");
    let _resolver = resolver(&server, &shared).await;
    assert_eq!(endpoints(&shared), [("127.0.0.2:8081".into(), 200), ("127.0.0.3:8082".into(), 100)]);
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
    let server = Server::start(Zone::new()).await;
    let shared = shared("name: localhost, port: 80");
    let _resolver = resolver(&server, &shared).await;
    assert!(endpoints(&shared).iter().any(|(address, _)| address == "127.0.0.1:80"));
    assert_eq!(*server.questions.borrow(), 0);
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change() {
    let server = Server::start(one(3600, "127.0.0.2")).await;
    let shared = shared(NAME);
    let resolver = resolver(&server, &shared).await;
    let asked = *server.questions.borrow();
    let before = resolver.inner.tasks.load_full();
    resolver.sync();
    let after = resolver.inner.tasks.load_full();
    assert!(Arc::ptr_eq(&before["u"].kick, &after["u"].kick));
    timeout(Duration::from_secs(5), resolver.settled()).await.unwrap();
    assert_eq!(*server.questions.borrow(), asked);
}
