//! A real Kubernetes API server (`kube-apiserver` and etcd, built by `tests/setup.sh`), for scenarios with `kube` in
//! their name.
//!
//! ```no_run
//! # use outrigger_tests::kube::Cluster;
//! let Some(cluster) = Cluster::shared("a_scenario") else { return };
//! let ns = cluster.namespace("shop"); // one of the test's own: shop-1, shop-2, ...
//! cluster.apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: web, namespace: {ns} }}"));
//! cluster.pod(&ns, "web-1", "web", "10.0.0.7"); // no kubelet: its status is written by the test
//! let token = cluster.token(&ns, "web", &["outrigger.dev"], 600, None);
//! // `cluster.kubeconfig()` is the administrator's; `cluster.client()` a kube client of it.
//! ```
//!
//! [`Cluster::shared`] is one per test process: tests keep apart by namespaces. Whoever kills it or needs another
//! mesh-wide policy starts an own one ([`Cluster::start`]). RBAC is on, service account tokens are real, the CRDs of
//! the Gateway API (standard channel) and ours are installed. What service accounts ask for is in [`Cluster::asked`]. There are no
//! controllers: EndpointSlices, pods' status and
//! service accounts are what tests write. Nothing is left running after a panic or a `kill -9` (see [`guard`](crate::guard)).

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kube::{Client, Config};
use tempfile::TempDir;

use crate::{binary::target_dir, etcd::Etcd, eventually, guard::Guarded, peers::skip, ports::free_ports};

mod api;
mod audit;
mod certs;
mod objects;
mod runtime;

pub use self::{api::Refusal, audit::Asked, objects::Backend, runtime::block_on};

/// A running API server and its etcd.
pub struct Cluster {
    program: PathBuf,
    address: SocketAddr,
    dir: PathBuf,
    etcd: Etcd,
    running: Mutex<Option<Guarded>>,
    client: Mutex<Option<Client>>,
    namespaces: AtomicU32,
    /// Flags beside the usual ones.
    flags: Mutex<Vec<String>>,
}

/// Until it is ready: about five seconds on an idle machine of two cores.
const START: Duration = Duration::from_secs(120);

/// Time limit of one question whether it is ready.
const PROBE: Duration = Duration::from_secs(2);

impl Cluster {
    /// The one of this test process, started by whoever asks first. `None`: it is missing, and that was said.
    #[must_use]
    pub fn shared(scenario: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        if !program().is_file() {
            return skip(scenario, "kube-apiserver missing");
        }
        SHARED.get_or_init(|| Self::start(scenario)).as_ref()
    }

    /// One of the test's own, ready and with the CRDs.
    #[must_use]
    pub fn start(scenario: &str) -> Option<Self> {
        let cluster = Self::start_without_ours(scenario)?;
        cluster.install_our_crds();
        Some(cluster)
    }

    /// The same with the CRDs of the Gateway API alone: ours are for the test to install.
    #[must_use]
    pub fn start_without_ours(scenario: &str) -> Option<Self> {
        if !program().is_file() {
            return skip(scenario, "kube-apiserver missing");
        }
        let etcd = Etcd::start(scenario)?;
        let [address] = free_ports();
        // Removed by the guard, also when this process is killed.
        let dir = TempDir::new().expect("a temporary directory").keep();
        certs::write(&dir, address);
        let cluster = Self {
            program: program(),
            address,
            dir,
            etcd,
            running: Mutex::default(),
            client: Mutex::default(),
            namespaces: AtomicU32::new(0),
            flags: Mutex::default(),
        };
        audit::write_policy(&cluster.dir);
        cluster.restart_api();
        cluster.install_gateway_crds();
        Some(cluster)
    }

    /// Where the API server listens (TLS).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The administrator's client.
    #[must_use]
    pub fn client(&self) -> Client {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| block_on(client_of(&self.kubeconfig()))).clone()
    }

    /// Its store.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// `kill -9` of the API server.
    pub fn kill_api(&self) {
        if let Some(running) = self.lock().take() {
            running.kill();
        }
    }

    /// Starts the API server without waiting.
    pub fn start_api(&self) {
        self.kill_api();
        *self.lock() = Some(Guarded::start("kube-apiserver", &self.command(), &self.dir));
    }

    /// (Re)starts the API server at the same address and waits until it is ready.
    #[track_caller]
    pub fn restart_api(&self) {
        self.start_api();
        self.wait_ready();
    }

    /// The same with flags beside the usual ones, from now on (`--feature-gates=WatchList=false`).
    #[track_caller]
    pub fn restart_api_with(&self, flags: &[&str]) {
        *self.flags.lock().unwrap_or_else(PoisonError::into_inner) = flags.iter().map(ToString::to_string).collect();
        self.restart_api();
    }

    /// Replaces API server and etcd by new ones at the same addresses: no objects, revisions begin anew.
    #[track_caller]
    pub fn replace(&self) {
        self.kill_api();
        self.etcd.replace();
        self.restart_api();
        self.install_crds();
    }

    /// Waits until `/readyz` says ok.
    #[track_caller]
    pub fn wait_ready(&self) {
        let client = self.client();
        eventually("the API server is ready", START, || {
            let lock = self.lock();
            let running = lock.as_ref().expect("started");
            assert!(running.runs(), "the API server ended:\n{}", running.tail(30));
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            let ask = async { tokio::time::timeout(PROBE, client.request_text(request)).await };
            block_on(ask).ok()?.ok()
        });
    }

    /// The last lines that the API server wrote.
    #[must_use]
    pub fn log(&self, lines: usize) -> String {
        self.lock().as_ref().map_or_else(String::new, |running| running.tail(lines))
    }

    /// A new namespace `PREFIX-N` with the service account `default`.
    #[must_use]
    #[track_caller]
    pub fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.namespaces.fetch_add(1, Ordering::SeqCst) + 1);
        self.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}"));
        self.service_account(&name, "default");
        name
    }

    /// Installs the CRDs of the Gateway API and ours, and waits until they are served.
    #[track_caller]
    pub fn install_crds(&self) {
        self.install_gateway_crds();
        self.install_our_crds();
    }

    #[track_caller]
    fn install_our_crds(&self) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/outrigger-crds/templates/crds.yaml");
        self.install_definitions(&chart);
    }

    /// Installs those of the Gateway API that a mesh uses.
    #[track_caller]
    pub fn install_gateway_crds(&self) {
        for kind in ["httproutes", "grpcroutes", "referencegrants"] {
            let file = format!("test-tools/gateway-api/gateway.networking.k8s.io_{kind}.yaml");
            self.install_definitions(&target_dir().join(file));
        }
    }

    /// Installs the definitions of a file, and waits until they are served.
    #[track_caller]
    pub fn install_definitions(&self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for object in self.apply(&text) {
            let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
            eventually(&format!("{name} is served"), START, || {
                let crd = self.get("CustomResourceDefinition", "", &name)?;
                let conditions = crd["status"]["conditions"].as_array()?.iter();
                conditions.into_iter().find(|c| c["type"] == "Established" && c["status"] == "True").map(|_| ())
            });
        }
    }

    fn command(&self) -> Command {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(&self.program);
        let flags = [
            ("etcd-servers", format!("http://{}", self.etcd.address())),
            ("bind-address", self.address.ip().to_string()),
            ("advertise-address", self.address.ip().to_string()),
            ("secure-port", self.address.port().to_string()),
            ("tls-cert-file", file("apiserver.crt")),
            ("tls-private-key-file", file("apiserver.key")),
            ("client-ca-file", file("ca.crt")),
            ("service-account-issuer", ISSUER.to_owned()),
            ("service-account-key-file", file("sa.pub")),
            ("service-account-signing-key-file", file("sa.key")),
            ("api-audiences", format!("{ISSUER},api")),
            ("authorization-mode", "RBAC".to_owned()),
            // Two families, so that Services can have both.
            ("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112".to_owned()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("cert-dir", file("generated")),
            ("profiling", "false".to_owned()),
            // Webhooks that name a Service are called at the addresses of its EndpointSlices: there is no kube-proxy.
            ("enable-aggregator-routing", "true".to_owned()),
            // What service accounts ask for: see `audit`.
            ("audit-policy-file", file(audit::POLICY)),
            ("audit-log-path", file(audit::LOG)),
        ];
        command.args(flags.map(|(name, value)| format!("--{name}={value}")));
        command.args(self.flags.lock().unwrap_or_else(PoisonError::into_inner).iter());
        command
    }

    fn lock(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Issuer of service account tokens, and their default audience.
const ISSUER: &str = "https://kubernetes.default.svc";

/// A client of a kubeconfig file, for the runtime that it is called on.
///
/// # Panics
/// The file is not a kubeconfig.
pub async fn client_of(kubeconfig: &Path) -> Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a context");
    Client::try_from(config).expect("a client")
}

fn program() -> PathBuf {
    target_dir().join("test-tools/kube-apiserver")
}
