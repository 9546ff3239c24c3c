//! A cluster with the chart in it, and control planes that run as its Deployment says, with nothing but its account's token.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use outrigger_tests::{
    Metrics, Reply, binary, eventually,
    guard::Guarded,
    helm::{Helm, chart},
    kube::{Backend, Cluster, block_on, client_of},
    peers::skip,
    wire,
};
use serde_json::Value;
use tempfile::TempDir;

/// Where the chart is installed, and the name of everything of it.
pub(crate) const MESH: &str = "outrigger-system";
/// Its account, Deployment and first Service.
pub(crate) const NAME: &str = "outrigger-control-plane";
/// For whatever starts, on a loaded machine.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) helm: Helm,
    ip: IpAddr,
}

impl World {
    /// A cluster of its own, as webhooks and roles are of the cluster; nothing is installed yet.
    pub(crate) fn start(scenario: &str) -> Option<Self> {
        Self::on(scenario, Cluster::start)
    }

    /// The same without our definitions, which the test installs as people do.
    pub(crate) fn without_definitions(scenario: &str) -> Option<Self> {
        Self::on(scenario, Cluster::start_without_ours)
    }

    fn on(scenario: &str, cluster: impl FnOnce(&str) -> Option<Cluster>) -> Option<Self> {
        let helm = Helm::find(scenario)?;
        let ip = own_address(scenario)?;
        Some(Self { cluster: cluster(scenario)?, helm, ip })
    }

    /// Installs the chart with these arguments.
    #[track_caller]
    pub(crate) fn install(&self, args: &[&str]) {
        self.helm.install(&self.cluster, MESH, "outrigger", &chart("outrigger"), args);
    }

    /// One replica as the Deployment says, ready, and behind the Services.
    #[track_caller]
    pub(crate) fn control_plane(&self, name: &str) -> ControlPlane {
        let control_plane = ControlPlane::start(self, name);
        self.route("outrigger-webhook", "webhook", control_plane.webhook);
        self.route(NAME, "discovery", control_plane.discovery);
        control_plane.wait_ready();
        control_plane
    }

    /// What the endpoint-slice controller would write.
    #[track_caller]
    pub(crate) fn route(&self, service: &str, port: &str, to: SocketAddr) {
        let ip = to.ip().to_string();
        self.cluster.slice(MESH, service, 1, port, to.port(), &[Backend::ready(&ip, "")]);
    }

    /// `caBundle` of every webhook of a configuration; empty where there is none.
    pub(crate) fn bundles(&self, kind: &str) -> Vec<String> {
        let found = self.cluster.get(kind, "", "outrigger").unwrap_or_default();
        let webhooks = found["webhooks"].as_array().cloned().unwrap_or_default();
        webhooks.iter().map(|w| w["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until the control plane has written all of them.
    #[track_caller]
    pub(crate) fn wait_bundles(&self) -> Vec<String> {
        let kinds = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];
        eventually("every webhook has its caBundle", MINUTE, || {
            let all: Vec<String> = kinds.iter().flat_map(|kind| self.bundles(kind)).collect();
            (all.len() == 3 && all.iter().all(|bundle| !bundle.is_empty())).then_some(all)
        })
    }
}

/// One replica.
pub(crate) struct ControlPlane {
    pub(crate) process: Guarded,
    pub(crate) discovery: SocketAddr,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl ControlPlane {
    #[track_caller]
    pub(crate) fn start(world: &World, name: &str) -> Self {
        let deployment = world.cluster.get("Deployment", MESH, NAME).expect("the chart is installed");
        let spec = &deployment["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().expect("an account");
        let container = &spec["containers"][0];
        assert_eq!(container["command"][0], "/usr/local/bin/outrigger");
        let mut command = Command::new(binary::outrigger());
        command.args(container["args"].as_array().expect("args").iter().map(|arg| arg.as_str().expect("text")));
        for variable in container["env"].as_array().expect("env") {
            command.env(variable["name"].as_str().expect("a name"), value(variable, name));
        }
        let kubeconfig = world.cluster.kubeconfig_of(MESH, account);
        // Roles take effect a moment after they are stored.
        eventually("the account has its rights", MINUTE, || {
            let may = |path: &str| block_on(async { client_of(&kubeconfig).await.request_text(get(path)).await });
            let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{MESH}/leases/{NAME}");
            let forbidden = matches!(may(&lease), Err(kube::Error::Api(status)) if status.code == 403);
            (!forbidden && may("/api/v1/namespaces?limit=1").is_ok()).then_some(())
        });
        command.env("KUBECONFIG", kubeconfig);
        // The API server takes no endpoint on loopback.
        for port in ["DISCOVERY", "WEBHOOK", "ADMIN"] {
            command.env(format!("OUTRIGGER_{port}_ADDRESS"), SocketAddr::new(world.ip, 0).to_string());
        }
        // Removed by the guard.
        let dir = TempDir::new().expect("a directory").keep();
        let process = Guarded::start("control-plane", &command, &dir);
        let address = |purpose: &str| listening(&process, purpose);
        let (discovery, webhook, admin) = (address("discovery"), address("webhook"), address("admin"));
        Self { process, discovery, webhook, admin }
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        eventually("the control plane is ready", MINUTE, || {
            assert!(self.process.runs(), "{}", self.log());
            (self.ask("/readyz").status == 200).then_some(())
        });
    }

    pub(crate) fn ask(&self, path: &str) -> Reply {
        wire::get(self.admin, path)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&self.ask("/metrics").text())
    }

    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(&format!("outrigger_control_plane_{name}"), labels)
    }

    pub(crate) fn log(&self) -> String {
        self.process.tail(10_000)
    }
}

fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).expect("a request")
}

fn value(variable: &Value, pod: &str) -> String {
    match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => pod.to_owned(),
        Some("metadata.namespace") => MESH.to_owned(),
        Some(other) => panic!("the test does not know {other}"),
        None => variable["value"].as_str().unwrap_or_default().to_owned(),
    }
}

#[track_caller]
fn listening(process: &Guarded, purpose: &str) -> SocketAddr {
    let start = format!("{purpose} listening address=");
    eventually(&format!("the {purpose} port is there"), MINUTE, || {
        let log = process.tail(100);
        assert!(process.runs(), "{log}");
        let (_, rest) = log.split_once(&start)?;
        rest.split(['"', '\n', ' ']).next()?.parse().ok()
    })
}

/// An address of this machine that is not loopback: the one towards the rest of the world. Nothing is sent.
fn own_address(scenario: &str) -> Option<IpAddr> {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    });
    match found {
        Ok(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => skip(scenario, "this machine has no address but loopback, where no endpoint of a Service may be;"),
    }
}
