//! A cluster, replicas of the control plane, and pods on a bridge with what runs in them.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Deref,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use outrigger_tests::{
    LONG, Metrics, Origin, Proxy, Response, Traffic, binary, eventually,
    guard::Guarded,
    kube::{Backend, Cluster},
    load::failed,
    netns::{Net, Pod},
    ports::free_ports,
    wire,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Everything that starts, on a loaded machine.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// What the issue grants after something came back.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);
/// Where apps listen in their pods.
pub(crate) const PORT: u16 = 8080;

/// Whoever kills it has one of his own.
pub(crate) enum Held {
    Own(Box<Cluster>),
    Shared(&'static Cluster),
}

impl Deref for Held {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        match self {
            Self::Own(cluster) => cluster,
            Self::Shared(cluster) => cluster,
        }
    }
}

/// One replica of the control plane, which may be killed and started again.
pub(crate) struct Replica {
    name: &'static str,
    discovery: SocketAddr,
    pub(crate) admin: SocketAddr,
    running: Mutex<Option<Guarded>>,
}

impl Replica {
    fn new(name: &'static str, ip: Ipv4Addr, port: u16) -> Self {
        let [admin] = free_ports();
        Self { name, discovery: (ip, port).into(), admin, running: Mutex::default() }
    }

    /// Starts it without waiting.
    pub(crate) fn start(&self, world: &World) {
        self.kill();
        let dir = TempDir::new().expect("a temporary directory").keep();
        let mut command = Command::new(binary::outrigger());
        command.args(["control-plane", "--namespace", &world.mesh, "--name", self.name, "--kubeconfig"]);
        command.arg(world.cluster.kubeconfig());
        command.args(["--discovery-address", &self.discovery.to_string(), "--admin-address", &self.admin.to_string()]);
        command.args(["--webhook-address", "127.0.0.1:0"]);
        *self.running.lock().expect("no panic") = Some(Guarded::start("control-plane", &command, &dir));
    }

    /// `kill -9`
    pub(crate) fn kill(&self) {
        drop(self.running.lock().expect("no panic").take());
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        eventually("the control plane is ready", MINUTE, || {
            let lock = self.running.lock().expect("no panic");
            let running = lock.as_ref().expect("started");
            assert!(running.runs(), "{}", running.tail(40));
            std::net::TcpStream::connect(self.admin).ok()?;
            (wire::get(self.admin, "/readyz").status == 200).then_some(())
        });
    }

    pub(crate) fn log(&self) -> String {
        self.running.lock().expect("no panic").as_ref().map_or_else(String::new, |r| r.tail(40))
    }

    /// Sum of one of its own metrics.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = wire::get(self.admin, "/metrics").text();
        Metrics::parse(&text).sum(&format!("outrigger_control_plane_{name}"), labels)
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, name: &str, labels: &[(&str, &str)], holds: impl Fn(f64) -> bool) {
        eventually(what, MINUTE, || holds(self.sum(name, labels)).then_some(()));
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) cluster: Held,
    pub(crate) net: Net,
    pub(crate) namespace: String,
    pub(crate) mesh: String,
    pub(crate) replica: Replica,
    /// Names of machines for all pods, as `/etc/hosts` has them. Empty: proxies are told the replica's address.
    hosts: Mutex<String>,
    pub(crate) dir: TempDir,
}

impl World {
    /// With a cluster that no other test uses.
    pub(crate) fn start(scenario: &str) -> Option<Self> {
        let net = Net::start(scenario)?;
        Some(Self::of(Held::Own(Box::new(Cluster::start(scenario)?)), net))
    }

    /// With that of this process.
    pub(crate) fn shared(scenario: &str) -> Option<Self> {
        let net = Net::start(scenario)?;
        Some(Self::of(Held::Shared(Cluster::shared(scenario)?), net))
    }

    fn of(cluster: Held, net: Net) -> Self {
        let [discovery] = free_ports();
        let dir = TempDir::new().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let world = Self {
            namespace: cluster.namespace("shop"),
            mesh: cluster.namespace("mesh"),
            cluster,
            replica: Replica::new("a", net.host(), discovery.port()),
            net,
            hosts: Mutex::default(),
            dir,
        };
        world.start_control_plane();
        world.wait_control_plane();
        world
    }

    pub(crate) fn start_control_plane(&self) {
        self.replica.start(self);
    }

    pub(crate) fn kill_control_plane(&self) {
        self.replica.kill();
    }

    #[track_caller]
    pub(crate) fn wait_control_plane(&self) {
        self.replica.wait_ready();
    }

    /// A second replica at another address and the same port, not started. Pods that come from now on find both under one name.
    pub(crate) fn second_replica(&self) -> Replica {
        let port = self.replica.discovery.port();
        let lines = [self.net.host(), self.net.second()].map(|ip| format!("{ip} {CONTROL_PLANE}\n")).concat();
        *self.hosts.lock().expect("no panic") = format!("127.0.0.1 localhost\n{lines}");
        Replica::new("b", self.net.second(), port)
    }

    /// Where pods find it.
    pub(crate) fn control_plane(&self) -> String {
        match self.hosts.lock().expect("no panic").is_empty() {
            true => self.replica.discovery.to_string(),
            false => format!("{CONTROL_PLANE}:{}", self.replica.discovery.port()),
        }
    }

    /// A file that every user may read.
    pub(crate) fn put(&self, name: &str, text: &[u8]) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, text).expect("the directory is writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
        file
    }

    /// A pod of this name and account in the cluster and on the bridge, its traffic captured, its proxy not started.
    pub(crate) fn pod(&self, name: &str, account: &str) -> Pod {
        let pod = self.net.pod();
        self.cluster.service_account(&self.namespace, account);
        self.cluster.pod(&self.namespace, name, account, &pod.ip().to_string());
        pod.capture();
        let hosts = self.hosts.lock().expect("no panic");
        if !hosts.is_empty() {
            pod.etc("hosts", &hosts);
        }
        pod
    }

    /// The proxy of a pod, as the chart starts it.
    #[track_caller]
    pub(crate) fn proxy(&self, pod: &Pod, name: &str, account: &str) -> Proxy {
        let proxy = self.proxy_of(pod, name, account, account);
        proxy.wait_ready();
        proxy
    }

    /// A proxy that has the token of one account and calls itself another.
    pub(crate) fn proxy_of(&self, pod: &Pod, name: &str, token: &str, account: &str) -> Proxy {
        self.proxy_as(pod, name, token, account, name)
    }

    /// The same; and it speaks for the pod `speaks_for`.
    pub(crate) fn proxy_as(&self, pod: &Pod, name: &str, token: &str, account: &str, speaks_for: &str) -> Proxy {
        let secret = eventually("there is a CA", LONG, || self.cluster.get("Secret", &self.mesh, "outrigger-ca"));
        let root = ["ca.crt", "tls.crt"].iter().find_map(|key| secret["data"][*key].as_str()).expect("a certificate");
        let root = self.put("ca.crt", &STANDARD.decode(root).expect("base64"));
        let token = self.cluster.token(&self.namespace, token, &["outrigger.dev"], 3600, Some(name));
        let token = self.put(&format!("{name}.token"), token.as_bytes());
        let mut command = pod.command(binary::proxy());
        command.args(["run", "--control-plane", &self.control_plane(), "--control-plane-namespace", &self.mesh]);
        command.arg("--trust-bundle").arg(root).arg("--token").arg(token);
        command.args(["--pod-namespace", &self.namespace, "--pod-name", speaks_for, "--service-account", account]);
        command.args(["--pod-ips", &pod.ip().to_string(), "--workers", "1", "--admin", &format!("{}:9990", pod.ip())]);
        command.args(["--inbound", "0.0.0.0:9992", "--outbound", "127.0.0.1:9991", "--native-sidecar"]);
        Proxy::spawn_command(command)
    }

    /// A Service of one port 80 that leads to the apps' port. Returns its address.
    pub(crate) fn service(&self, name: &str) -> String {
        self.cluster.service(&self.namespace, name, 80, &json!({ "ports": [{ "port": 80, "targetPort": PORT }] }))
    }

    /// What our controller says of an object under `status`: a condition of any entry.
    pub(crate) fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<Value> {
        let object = self.cluster.get(kind, &self.namespace, name)?;
        let status = &object["status"];
        let entries = ["parents", "ancestors"].into_iter().find_map(|list| status[list].as_array().cloned());
        let entries = entries.unwrap_or_else(|| vec![status.clone()]);
        let conditions = entries.iter().filter_map(|entry| entry["conditions"].as_array()).flatten();
        conditions
            .filter(|c| c["observedGeneration"] == object["metadata"]["generation"])
            .find(|c| c["type"] == condition)
            .cloned()
    }

    /// Waits until a condition of the object's present generation has this status.
    #[track_caller]
    pub(crate) fn wait_condition(&self, kind: &str, name: &str, condition: &str, status: &str) -> Value {
        let what = format!("{kind} {name}: {condition} is {status}");
        eventually(&what, MINUTE, || self.condition(kind, name, condition).filter(|c| c["status"] == status))
    }
}

/// By what name pods find both replicas.
const CONTROL_PLANE: &str = "control-plane.test";

/// An app in a pod, which says who it is.
pub(crate) fn app(pod: &Pod, name: &str) -> Origin {
    let name = name.to_owned();
    pod.inside(move || {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("the port is free in the pod");
        Origin::on(listener, move |wire, _, _| {
            while let Ok(Some(request)) = wire.request() {
                let peer = request.header("x-forwarded-client-cert").unwrap_or_default().to_owned();
                let response = Response::text("ok").header("x-endpoint", &name).header("x-peer", &peer);
                if wire.try_send(response.wire(&request.method)).is_err() {
                    break;
                }
            }
        })
    })
}

pub(crate) fn traffic(client: &Pod, to: &str) -> Traffic {
    let to: SocketAddr = format!("{to}:80").parse().expect("an address");
    client.inside(|| Traffic::start(to, 200, 4, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n"))
}

#[track_caller]
pub(crate) fn reaches(traffic: &Traffic, names: &[&str], within: Duration) {
    let wanted: BTreeSet<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut last = BTreeSet::new();
    let deadline = tokio::time::Instant::now() + within;
    eventually(&format!("{names:?} get requests, and nobody else"), within + LONG, || {
        let recent = traffic.since(traffic.elapsed().saturating_sub(Duration::from_millis(300)));
        last = recent.iter().map(|s| s.endpoint.clone()).collect();
        assert!(tokio::time::Instant::now() < deadline, "{last:?} get requests, not {wanted:?}: {:?}", recent.last());
        (last == wanted).then_some(())
    });
}

/// Endpoints of `orders`: names of pods and their addresses.
pub(crate) fn set(world: &World, pods: &[(&str, &Pod)]) {
    let ips: Vec<_> = pods.iter().map(|(_, pod)| pod.ip().to_string()).collect();
    let list: Vec<_> = pods.iter().zip(&ips).map(|((name, _), ip)| Backend::ready(ip, name)).collect();
    world.cluster.slice(&world.namespace, "orders", 1, "", PORT, &list);
}

pub(crate) fn round_robin(world: &World) {
    world.cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: orders, namespace: {} }}\nspec:\n  \
         targetRefs: [{{ kind: Service, name: orders }}]\n  loadBalancing: {{ algorithm: roundRobin }}",
        world.namespace
    ));
}

/// Every request was answered, and well.
#[track_caller]
pub(crate) fn none_failed(load: Traffic, log: &str) {
    let samples = load.stop();
    let failed = failed(&samples);
    assert!(failed.is_empty(), "{} of {} failed, first {:?}; {log}", failed.len(), samples.len(), failed[0]);
    println!("{} requests, 0 failed", samples.len());
}
