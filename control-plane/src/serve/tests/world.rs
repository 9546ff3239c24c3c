//! A control plane without a cluster: the index, the service, and a CA.

use std::net::SocketAddr;

use tokio::sync::watch;

use super::*;
use crate::{
    ca::Authority,
    identity::{Ca, serving},
    index::{
        EndpointState, Index, Object, ObjectName, Pod, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint,
        TargetPort,
    },
    observe::Metrics,
    watch::{RESOURCES, Update},
};

pub(super) struct World {
    pub(super) live: Arc<Live>,
    pub(super) discovery: Discovery,
    pub(super) address: SocketAddr,
    pub(super) authority: Authority,
    pub(super) tls: Tls,
    _ca: watch::Sender<Arc<Ca>>,
}

impl World {
    pub(super) async fn start(limits: Limits) -> Self {
        let world = Self::unready(limits).await;
        let all = RESOURCES.iter().map(|r| Update::Replace(r.kind, Vec::new(), Instant::now()));
        world.live.take(all);
        world
    }

    /// Before the first lists.
    pub(super) async fn unready(limits: Limits) -> Self {
        let settings = Settings {
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            mesh_namespace: "mesh".into(),
        };
        let live = Live::new(Index::new(settings), Metrics::new().unwrap());
        let discovery = Discovery::new(Arc::clone(&live), "replica-1".into(), limits);
        let (authority, ca) = authority();
        let (ca, watched) = watch::channel(Arc::new(ca));
        let names = serving::ServingNames::of_services("mesh", "cluster.local", &["outrigger-control-plane"]);
        let (serving, renewal) = serving::keep(watched, names, crate::cli::now).unwrap();
        tokio::spawn(renewal);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new(discovery.clone());
        let tls: Tls = Arc::new(move || Arc::clone(&serving.borrow().discovery));
        let serving = Arc::clone(&live);
        let served = Arc::clone(&tls);
        tokio::spawn(async move { run(listener, served, routes, &serving, std::future::pending()).await });
        Self { live, discovery, address, authority, tls, _ca: ca }
    }

    /// A connected proxy, welcomed, of a pod whose account has its name.
    pub(super) async fn proxy(&self, namespace: &str, pod: &str) -> Client {
        self.pod(namespace, pod, pod);
        let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{pod}");
        let mut client = Client::connect(self, Some(&identity)).await;
        client.hello(namespace, pod, "").await;
        match client.message().await {
            Message::Welcome(welcome) => assert_eq!(welcome.replica, "replica-1"),
            other => panic!("{other:?}"),
        }
        client
    }

    pub(super) fn pod(&self, namespace: &str, name: &str, account: &str) {
        self.put(Object::Pod(Pod {
            at: at(namespace, name),
            uid: format!("uid-of-{name}").into(),
            ips: vec!["10.9.9.9".parse().unwrap()],
            account: account.into(),
            meshed: true,
            proven: Default::default(),
            host_network: false,
            ended: false,
            ports: Arc::new([]),
            labels: Arc::default(),
        }));
    }

    /// A Service of port 80 with these endpoints.
    pub(super) fn service(&self, namespace: &str, name: &str, ips: &[&str]) {
        self.put(Object::Service(crate::index::Service {
            at: at(namespace, name),
            created: "2026-01-01T00:00:00Z".into(),
            kind: ServiceKind::Headless,
            addresses: Vec::new(),
            ports: vec![ServicePort {
                name: "".into(),
                port: 80,
                target: TargetPort::Number(8080),
                app_protocol: "".into(),
            }],
            selector: [("app".into(), name.into())].into(),
            publish_not_ready: false,
        }));
        self.endpoints(namespace, name, ips);
    }

    pub(super) fn endpoints(&self, namespace: &str, service: &str, ips: &[&str]) {
        let endpoint = |ip: &&str| SliceEndpoint {
            ip: ip.parse().unwrap(),
            state: EndpointState::Ready,
            pod: "".into(),
            hostname: "".into(),
            zone: "".into(),
            for_zones: Vec::new(),
        };
        self.put(Object::Slice(Slice {
            at: at(namespace, &format!("{service}-1")),
            service: service.into(),
            ports: vec![("".into(), 8080)],
            endpoints: ips.iter().map(endpoint).collect(),
        }));
    }

    pub(super) fn deltas(&self) -> u64 {
        self.live.metrics.deltas.get()
    }

    pub(super) async fn wait(&self, what: &str, holds: impl Fn(&Metrics) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.live.metrics) {
            assert!(Instant::now() < deadline, "{what}: not within ten seconds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn put(&self, object: Object) {
        self.live.take(std::iter::once(Update::Upsert(object.into(), Instant::now())));
    }
}

fn at(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.into(), name: name.into() }
}

/// A CA, as the control plane keeps it and as tests sign with it.
fn authority() -> (Authority, Ca) {
    use k8s_openapi::ByteString;
    let now = crate::cli::now();
    let authority = Authority::generate("cluster.local", 86_400, now).unwrap();
    let pem = crate::ca::encode_certificates([authority.certificate()]);
    let secret = [
        ("tls.crt".to_owned(), ByteString(pem.clone().into_bytes())),
        ("tls.key".to_owned(), ByteString(authority.key().to_pem().as_bytes().to_vec())),
        ("ca.crt".to_owned(), ByteString(pem.into_bytes())),
    ];
    let ca = Ca::read("the Secret", &secret.into(), None, "cluster.local", now).unwrap();
    (authority, ca)
}
