//! Thousands of proxies as the server sees them: a connection, a handshake, a stream, some names, and an acknowledgement of
//! everything that comes.
//!
//! All are tasks of one thread. What a proxy would do with a resource is left out; that it decodes it is not.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hyper_util::rt::TokioIo;
use outrigger_config::{
    discovery::{
        Acknowledge, ControlMessage, Hello, PROTOCOL, Pod, ProxyMessage, Subscribe, control_message,
        discovery_client::DiscoveryClient, proxy_message::Message, resource::Body,
    },
    identity,
};
use outrigger_control_plane::ca::{PrivateKey, Store};
use prost::Message as _;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, sync::mpsc, task::LocalSet, time::Instant};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::{
    Plan,
    world::{self, mark},
};

/// What came of the changes.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// Nanoseconds from when a change was due until it was decoded, in order.
    pub(super) latencies: Vec<u64>,
    /// Changes that a proxy was not told of because the next came first.
    pub(super) superseded: u64,
    /// Of the messages, without HTTP/2 and TLS.
    pub(super) bytes: u64,
    /// Bytes of the first answers, likewise.
    pub(super) first_bytes: u64,
    /// Time in which changes arrived.
    pub(super) wall: Duration,
}

/// All of them.
pub(super) struct Subscribers {
    local: LocalSet,
    seen: Rc<RefCell<Seen>>,
    first_bytes: u64,
    /// How many ask for a Service.
    asked: HashMap<u32, u64>,
    expected: u64,
}

/// What all have received.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    bindings: u64,
    /// Change, and when it was decoded.
    marks: Vec<(u32, u64)>,
    /// The last change of each Service, and how often one of them was decoded.
    last: HashSet<u32>,
    lasts: u64,
    ended: Option<String>,
}

/// Handshakes side by side: half of what the server takes at once.
const AT_ONCE: usize = 64;
/// For all to be connected, and for the last change to arrive.
const LONG: Duration = Duration::from_secs(120);
/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of a message: as proxies allow.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

impl Subscribers {
    /// Connects all and waits until each has what it asks for.
    pub(super) async fn connect(plan: &Plan, server: SocketAddr, ca: &Store) -> Result<Self> {
        let (local, seen, asked) = (LocalSet::new(), Rc::default(), HashMap::new());
        let mut this = Self { local, seen, first_bytes: 0, asked, expected: 0 };
        let tls = certificates(plan, ca)?;
        // The same draw every time: runs can be compared.
        let mut random = fastrand::Rng::with_seed(1);
        let mut proxies = Vec::new();
        for i in 0..plan.subscribers {
            let (service, pod) = plan.world.subscriber(i);
            let keys = random.choose_multiple(0..plan.world.services, plan.keys as usize);
            for key in &keys {
                *this.asked.entry(*key).or_default() += 1;
            }
            let config = tls.get(&service).context("an account has no certificate")?;
            proxies.push(Proxy { service, pod, keys, server, tls: TlsConnector::from(Arc::clone(config)) });
        }
        let seen = Rc::clone(&this.seen);
        let all = stream::iter(proxies.into_iter().map(|proxy| proxy.open(Rc::clone(&seen))));
        this.local.run_until(all.buffer_unordered(AT_ONCE).try_collect::<()>()).await?;
        let expected = u64::from(plan.subscribers) * u64::from(plan.keys);
        this.wait("first answers", |seen| (seen.bindings, expected)).await?;
        this.first_bytes = this.seen.borrow().bytes;
        Ok(this)
    }

    /// Says which changes to expect; before they are made.
    pub(super) fn expect(&mut self, plan: &Plan, count: u32) {
        let last: HashMap<u32, u32> = (0..count).map(|n| (plan.world.changed(n), n)).collect();
        self.expected = last.keys().filter_map(|service| self.asked.get(service)).sum();
        self.seen.borrow_mut().last = last.into_values().collect();
    }

    /// Waits until the last change of each Service has arrived wherever it was asked for. One before may never: a proxy is
    /// told what is true, not what has been.
    pub(super) async fn receive(&mut self, plan: &Plan, start: u64, count: u32) -> Result<Got> {
        self.wait("changes", |seen| (seen.lasts, self.expected)).await?;
        let seen = self.seen.borrow();
        let all: u64 = (0..count).filter_map(|n| self.asked.get(&plan.world.changed(n))).sum();
        let due = |n: u32| start + u64::from(n) * 1_000_000_000 / u64::from(plan.rate);
        let mut latencies: Vec<u64> = seen.marks.iter().map(|(n, at)| at.saturating_sub(due(*n))).collect();
        latencies.sort_unstable();
        let last = seen.marks.iter().map(|(_, at)| *at).max().unwrap_or(start);
        Ok(Got {
            superseded: all.saturating_sub(seen.marks.len() as u64),
            latencies,
            bytes: seen.bytes - self.first_bytes,
            first_bytes: self.first_bytes,
            wall: Duration::from_nanos(last.saturating_sub(start)),
        })
    }

    /// Lets all run until `count` says that as many have come as should.
    async fn wait(&self, what: &str, count: impl Fn(&Seen) -> (u64, u64)) -> Result<()> {
        let mut deadline = Instant::now() + LONG;
        let mut before = 0;
        let all = async {
            loop {
                let (there, expected) = count(&self.seen.borrow());
                if let Some(why) = &self.seen.borrow().ended {
                    bail!("a stream ended while waiting for {what}: {why}");
                }
                if there >= expected {
                    return Ok(());
                }
                if there > before {
                    (before, deadline) = (there, Instant::now() + LONG);
                }
                if Instant::now() > deadline {
                    bail!("{there} of {expected} {what}, and no more for {} s", LONG.as_secs());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        self.local.run_until(all).await
    }
}

/// One that is to be connected.
struct Proxy {
    service: u32,
    pod: u32,
    keys: Vec<u32>,
    server: SocketAddr,
    tls: TlsConnector,
}

impl Proxy {
    /// Until it has asked for its names; then it goes on by itself.
    async fn open(self, seen: Rc<RefCell<Seen>>) -> Result<()> {
        let (server, tls) = (self.server, self.tls.clone());
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await?;
        let (out, said) = mpsc::channel(self.keys.len() + 1);
        let pod = Pod {
            namespace: world::namespace(self.service),
            name: world::pod_name(self.service, self.pod),
            ..Pod::default()
        };
        let hello = Hello { protocol: PROTOCOL, proxy_version: "scale".into(), pod: Some(pod) };
        say(&out, Message::Hello(hello)).await?;
        for key in &self.keys {
            let key = format!("name/{}:80", world::host(*key));
            say(&out, Message::Subscribe(Subscribe { key, known_version: String::new() })).await?;
        }
        let mut client = DiscoveryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let messages = client.stream(ReceiverStream::new(said)).await?.into_inner();
        tokio::task::spawn_local(async move {
            if let Err(error) = attend(messages, &out, &seen).await {
                seen.borrow_mut().ended.get_or_insert(format!("{error:#}"));
            }
        });
        Ok(())
    }
}

/// Acknowledges what comes.
async fn attend(
    mut messages: Streaming<ControlMessage>,
    out: &mpsc::Sender<ProxyMessage>,
    seen: &RefCell<Seen>,
) -> Result<()> {
    while let Some(message) = messages.message().await? {
        let ack = seen.borrow_mut().take(&message, world::clock())?;
        if let Some(ack) = ack {
            say(out, Message::Acknowledge(ack)).await?;
        }
    }
    bail!("the server has ended it")
}

impl Seen {
    fn take(&mut self, message: &ControlMessage, at: u64) -> Result<Option<Acknowledge>> {
        self.bytes += message.encoded_len() as u64;
        let (key, version, endpoints) = match &message.message {
            Some(control_message::Message::Resource(resource)) => match &resource.body {
                Some(Body::Service(service)) => (&resource.key, &resource.version, &service.endpoints[..]),
                Some(Body::Binding(_)) => {
                    self.bindings += 1;
                    (&resource.key, &resource.version, &[][..])
                }
                other => bail!("{} is {other:?}", resource.key),
            },
            Some(control_message::Message::Endpoints(delta)) => (&delta.key, &delta.version, &delta.upsert[..]),
            Some(control_message::Message::Welcome(_)) => return Ok(None),
            other => bail!("an unexpected message: {other:?}"),
        };
        for n in endpoints.iter().filter_map(|e| mark(&e.address)) {
            self.marks.push((n, at));
            self.lasts += u64::from(self.last.contains(&n));
        }
        Ok(Some(Acknowledge { key: key.clone(), version: version.clone(), warnings: Vec::new() }))
    }
}

async fn say(out: &mpsc::Sender<ProxyMessage>, message: Message) -> Result<()> {
    out.send(ProxyMessage { message: Some(message) }).await.context("the stream is gone")
}

/// A certificate for each service account that has a proxy.
fn certificates(plan: &Plan, ca: &Store) -> Result<HashMap<u32, Arc<ClientConfig>>> {
    let accounts: BTreeSet<u32> = (0..plan.subscribers).map(|i| plan.world.subscriber(i).0).collect();
    accounts.into_iter().map(|n| Ok((n, Arc::new(config(n, ca)?)))).collect()
}

fn config(service: u32, ca: &Store) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.authority().certificate().clone())?;
    let key = PrivateKey::generate()?;
    let id = identity::workload(world::TRUST_DOMAIN, &world::namespace(service), &world::name(service))?;
    let issued = ca.authority().issue(&id, &key, &[], world::DAY, world::now()?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(issued.chain, key.to_der())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
