//! A control plane that says what a test tells it to: real gRPC over real TLS, certificates signed by a CA of its own.
//!
//! It keeps the protocol's rules towards the proxy (services before what leads to them, nothing that is known is
//! sent again) and records every message that it gets. It can be killed and come back on the same port.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outrigger_config::discovery::{
    Acknowledge, Binding, ControlMessage, Document, Endpoint, EndpointDelta, GoAway, Refuse, Resource, Service,
    Workload, WorkloadPort, control_message, discovery_server::DiscoveryServer, identity_server::IdentityServer,
    proxy_message::Message, resource::Body,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Server};

use crate::{LONG, Proxy, eventually, netns::Pod, pki::Ca};

mod double;

use double::{Double, Secured};

/// Who the control plane is.
pub const CONTROL_PLANE: &str = "spiffe://cluster.local/ns/outrigger-system/sa/outrigger-control-plane";
/// Who the proxy under test is.
pub const POD: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// A running control plane.
pub struct ControlPlane {
    ca: Arc<Ca>,
    id: String,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
    dir: TempDir,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<String, Resource>,
    versions: u64,
    streams: Vec<Peer>,
    opened: usize,
    /// Every message, with the number of its stream.
    got: Vec<(usize, Message)>,
    /// Tokens that certificates were asked with.
    tokens: Vec<String>,
    issued: usize,
    /// Of certificates.
    lifetime: Duration,
    /// Certificates are refused.
    refuses: bool,
    /// Streams are not answered.
    holds: bool,
}

struct Peer {
    number: usize,
    send: mpsc::Sender<Result<ControlMessage, Status>>,
    /// Keys that it wants or was sent, and the versions that it has.
    has: HashMap<String, String>,
}

impl ControlPlane {
    /// Starts one that knows the pod `web` in namespace `shop`, with no ports.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as(CONTROL_PLANE)
    }

    /// The same with another identity.
    #[must_use]
    pub fn start_as(id: &str) -> Self {
        Self::start_on(id, Ipv4Addr::LOCALHOST.into())
    }

    /// One that pods in network namespaces reach at an address of the test process.
    #[must_use]
    pub fn start_at(ip: IpAddr) -> Self {
        let this = Self::start_on(CONTROL_PLANE, ip);
        this.open_files();
        this
    }

    fn start_on(id: &str, ip: IpAddr) -> Self {
        let ca = Ca::new("mesh");
        let dir = TempDir::new().expect("a temporary directory");
        fs::write(dir.path().join("ca.crt"), ca.pem()).expect("the directory is writable");
        fs::write(dir.path().join("token"), "first").expect("the directory is writable");
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let state = State { lifetime: Duration::from_secs(3600), ..State::default() };
        let mut this = Self {
            ca: Arc::new(ca),
            id: id.to_owned(),
            address,
            state: Arc::new(Mutex::new(state)),
            runtime: None,
            dir,
        };
        this.put("workload", Body::Workload(Workload { mtls: "permissive".into(), ..Workload::default() }));
        this.put("trust", Body::Trust(this.ca.bundle()));
        this.serve(listener);
        this
    }

    fn serve(&mut self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let acceptor = self.acceptor();
        let service = Double { ca: Arc::clone(&self.ca), state: Arc::clone(&self.state) };
        listener.set_nonblocking(true).expect("a socket");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let (sender, incoming) = mpsc::channel(16);
            tokio::spawn(async move {
                let mut handshakes = JoinSet::new();
                while let Ok((tcp, _)) = listener.accept().await {
                    let (acceptor, sender) = (acceptor.clone(), sender.clone());
                    handshakes.spawn(async move {
                        if let Ok(tls) = acceptor.accept(tcp).await {
                            sender.send(Ok::<_, io::Error>(Secured(tls))).await.ok();
                        }
                    });
                }
            });
            Server::builder()
                .add_service(DiscoveryServer::new(service.clone()))
                .add_service(IdentityServer::new(service))
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await
                .expect("the server runs");
        });
        self.runtime = Some(runtime);
    }

    fn acceptor(&self) -> TlsAcceptor {
        let leaf = self.ca.workload(&self.id, crate::pki::FAR);
        let mut roots = RootCertStore::empty();
        roots.add(der(self.ca.pem())).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(clients.allow_unauthenticated().build().expect("a verifier"))
            .with_single_cert(vec![der(&leaf.pem)], PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key"))
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        self.state().streams.clear();
    }

    /// Starts it again on the port of before.
    pub fn restart(&mut self) {
        let address = self.address;
        let listener = eventually("the port is free again", LONG, || TcpListener::bind(address).ok());
        self.serve(listener);
    }

    /// The CA that signs everybody.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// A file of the pod's volumes: `token` or `ca.crt`.
    #[must_use]
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Certificates live for so long from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state().lifetime = lifetime;
    }

    /// Whether certificates are refused.
    pub fn set_refuses(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// Whether streams that are opened wait for their answer: the proxy's first messages are read, and it is still dialling.
    pub fn set_holds(&self, holds: bool) {
        self.state().holds = holds;
    }

    /// Sends all proxies elsewhere, within `spread`.
    pub fn go_away(&self, spread: Duration) {
        let spread_millis = u32::try_from(spread.as_millis()).unwrap_or(u32::MAX);
        for peer in &self.state().streams {
            peer.send(control_message::Message::GoAway(GoAway { reason: "the test says so".into(), spread_millis }));
        }
    }

    /// Certificates issued so far.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.state().issued
    }

    /// Tokens that certificates were asked with.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.state().tokens.clone()
    }

    /// Streams that were opened so far, those that ended included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.state().got.iter().filter(|(_, m)| matches!(m, Message::Hello(_))).count()
    }

    /// All messages of one stream, counted from 0.
    #[must_use]
    pub fn messages(&self, stream: usize) -> Vec<Message> {
        self.state().got.iter().filter(|(s, _)| *s == stream).map(|(_, m)| m.clone()).collect()
    }

    /// All messages.
    #[must_use]
    pub fn all(&self) -> Vec<Message> {
        self.state().got.iter().map(|(_, m)| m.clone()).collect()
    }

    /// Waits for a message that `want` accepts.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, want: impl Fn(&Message) -> Option<T>) -> T {
        eventually(what, LONG, || self.all().iter().find_map(&want))
    }

    /// Waits until this version was acknowledged.
    #[track_caller]
    pub fn wait_ack(&self, key: &str, version: &str) -> Acknowledge {
        self.wait(&format!("{key} {version} is acknowledged"), |m| match m {
            Message::Acknowledge(a) if a.key == key && a.version == version => Some(a.clone()),
            _ => None,
        })
    }

    /// Waits until this version was refused.
    #[track_caller]
    pub fn wait_refusal(&self, key: &str, version: &str) -> Refuse {
        self.wait(&format!("{key} {version} is refused"), |m| match m {
            Message::Refuse(r) if r.key == key && r.version == version => Some(r.clone()),
            _ => None,
        })
    }

    /// Says something else of `key` from now on; its new version.
    pub fn put(&self, key: &str, body: Body) -> String {
        let mut state = self.state();
        state.versions += 1;
        let version = format!("v{}", state.versions);
        let resource = Resource { key: key.to_owned(), version: version.clone(), body: Some(body) };
        state.resources.insert(key.to_owned(), resource.clone());
        let State { streams, .. } = &mut *state;
        for peer in streams.iter_mut().filter(|p| p.has.contains_key(key)) {
            peer.put(resource.clone());
        }
        version
    }

    /// A Service `shop/NAME` of one port with these endpoints, by name from everywhere; further documents are its routes and
    /// policies. The version of the Service.
    pub fn service(&self, name: &str, port: u16, endpoints: &[Endpoint], documents: &[Document]) -> String {
        let json = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ports": [{ "port": port }] },
        });
        let own = Document { json: json.to_string(), origin: format!("Service shop/{name}") };
        let service = Service {
            namespace: "shop".into(),
            name: name.to_owned(),
            port: port.into(),
            documents: std::iter::once(own).chain(documents.iter().cloned()).collect(),
            references: Vec::new(),
            endpoints: endpoints.to_vec(),
        };
        let key = service_key(name, port);
        let version = self.put(&key, Body::Service(service));
        self.put(&format!("name/{name}:{port}"), Body::Binding(Binding { service: key, pinned: None }));
        version
    }

    /// Changes endpoints by a delta; the new version.
    pub fn delta(&self, key: &str, upsert: &[Endpoint], remove: &[&str]) -> String {
        let mut state = self.state();
        state.versions += 1;
        let version = format!("v{}", state.versions);
        let resource = state.resources.get_mut(key).expect("a resource");
        let Some(Body::Service(service)) = &mut resource.body else { panic!("{key} is no service") };
        service.endpoints.retain(|e| !remove.contains(&&*e.address) && !upsert.iter().any(|u| u.address == e.address));
        service.endpoints.extend(upsert.iter().cloned());
        let base = std::mem::replace(&mut resource.version, version.clone());
        let delta = EndpointDelta {
            key: key.to_owned(),
            base,
            version: version.clone(),
            upsert: upsert.to_vec(),
            remove: remove.iter().map(|r| (*r).to_owned()).collect(),
        };
        for peer in state.streams.iter_mut().filter(|p| p.has.contains_key(key)) {
            peer.has.insert(key.to_owned(), version.clone());
            peer.send(control_message::Message::Endpoints(delta.clone()));
        }
        version
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets every user read the pod's files.
    fn open_files(&self) {
        for path in [self.dir.path().to_owned(), self.file("token"), self.file("ca.crt")] {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        }
    }

    /// Starts the proxy of `account` in a pod with `command`, at the ports and addresses that an injected one has, without
    /// waiting.
    #[must_use]
    #[track_caller]
    pub fn proxy_in(&self, pod: &Pod, account: &str, mut command: Command) -> Proxy {
        command.args(["run", "--control-plane", &self.address.to_string()]);
        command.arg("--trust-bundle").arg(self.file("ca.crt")).arg("--token").arg(self.file("token"));
        command.args(["--pod-namespace", "shop", "--pod-name", &format!("{account}-1"), "--service-account", account]);
        command.args(["--pod-ips", &format!("{},{}", pod.ip(), pod.ip6()), "--workers", "1"]);
        command.args(["--admin", &format!("{}:9990", pod.ip())]);
        Proxy::spawn_command(command)
    }

    /// Starts the proxy of the pod and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn proxy(&self, more: &[&str]) -> Proxy {
        let proxy = self.proxy_at_once(more);
        proxy.wait_ready();
        proxy
    }

    /// Starts the proxy of the pod.
    #[must_use]
    #[track_caller]
    pub fn proxy_at_once(&self, more: &[&str]) -> Proxy {
        self.with_arguments(more, Proxy::spawn_args)
    }

    /// Starts the proxy of the pod as another user, who may read the pod's files.
    #[must_use]
    #[track_caller]
    pub fn proxy_as(&self, uid: u32, more: &[&str]) -> Proxy {
        self.open_files();
        self.with_arguments(more, |args| Proxy::spawn_as(uid, args))
    }

    #[track_caller]
    fn with_arguments(&self, more: &[&str], spawn: impl FnOnce(&[&str]) -> Proxy) -> Proxy {
        let (bundle, token) = (self.file("ca.crt").display().to_string(), self.file("token").display().to_string());
        let address = self.address.to_string();
        let mut args = vec!["run", "--control-plane", &address, "--trust-bundle", &bundle, "--token", &token];
        args.extend(["--pod-namespace", "shop", "--pod-name", "web-1", "--pod-uid", "u1", "--service-account", "web"]);
        args.extend(["--admin", "127.0.0.1:0", "--workers", "1"]);
        for (flag, value) in [("--pod-ips", "127.0.0.1"), ("--inbound", "127.0.0.1:0"), ("--outbound", "127.0.0.1:0")] {
            if !more.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        args.extend(more);
        spawn(&args)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Peer {
    fn send(&self, message: control_message::Message) {
        // One that is gone is forgotten with its stream.
        self.send.try_send(Ok(ControlMessage { message: Some(message) })).ok();
    }

    fn put(&mut self, resource: Resource) {
        let has = self.has.entry(resource.key.clone()).or_default();
        if *has != resource.version || resource.version.is_empty() {
            has.clone_from(&resource.version);
            self.send(control_message::Message::Resource(resource));
        }
    }
}

/// Key of a Service of the namespace `shop`.
#[must_use]
pub fn service_key(name: &str, port: u16) -> String {
    format!("service/shop/{name}:{port}")
}

/// An endpoint in plaintext.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: address.to_string(), ..Endpoint::default() }
}

/// A port of the pod, whose protocol is found out.
#[must_use]
pub fn port(port: u16, mtls: &str) -> WorkloadPort {
    WorkloadPort { port: port.into(), mtls: mtls.to_owned(), ..WorkloadPort::default() }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}
