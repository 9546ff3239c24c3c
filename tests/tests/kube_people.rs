//! `outrigger top`, `tap`, `edges` and `dashboard` against a mesh: through the real API server to proxies in pods.
//!
//! Pods are network namespaces; what the API server reads by `pods/proxy` it reads from the pod itself. Each has a kubelet
//! that forwards ports (`peers/kubelet.js`), so that what is forwarded comes from the pod's own loopback, as it does in a cluster.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use outrigger_tests::{
    LONG, Origin, Proxy, Response, binary, config, eventually,
    kube::Cluster,
    netns::{Net, Pod},
    peers,
    tap::{Running, outrigger},
    wire,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where kubelets listen.
const KUBELET: u16 = 10250;

/// A pod with an app, its proxy and a kubelet.
struct Meshed {
    pod: Pod,
    proxy: Proxy,
    _app: Origin,
    kubelet: Child,
}

impl Drop for Meshed {
    fn drop(&mut self) {
        self.kubelet.kill().ok();
        self.kubelet.wait().ok();
    }
}

struct World {
    cluster: &'static Cluster,
    net: Net,
    namespace: String,
    dir: TempDir,
    node: PathBuf,
}

impl World {
    fn start(scenario: &str) -> Option<Self> {
        let node = peers::node(scenario)?;
        let (net, cluster) = (Net::start(scenario)?, Cluster::shared(scenario)?);
        let dir = TempDir::new().expect("a temporary directory");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["kubelet".to_owned()]).expect("a name");
        let certificate = certificate.self_signed(&key).expect("a certificate");
        fs::write(dir.path().join("tls.crt"), certificate.pem()).expect("writable");
        fs::write(dir.path().join("tls.key"), key.serialize_pem()).expect("writable");
        Some(Self { namespace: cluster.namespace("shop"), cluster, net, dir, node })
    }

    /// A pod of this name with these labels, known to the API server, on a node of its own.
    fn pod(&self, name: &str, app: &str) -> Meshed {
        let pod = self.net.pod();
        let ip = pod.ip().to_string();
        let node = format!("node-{}-{name}", self.namespace);
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": node },
        });
        self.cluster.apply(&node.to_string());
        let node = node["metadata"]["name"].as_str().expect("a name").to_owned();
        self.cluster.patch(
            "Node",
            "",
            &node,
            "/status",
            &json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": ip }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": KUBELET } },
        } }),
        );
        self.cluster.apply(
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": self.namespace, "labels": { "app": app } },
                "spec": {
                    "nodeName": node, "terminationGracePeriodSeconds": 0,
                    "initContainers": [{ "name": "outrigger-proxy", "image": "outrigger", "restartPolicy": "Always" }],
                    "containers": [{ "name": "app", "image": "app" }],
                },
            })
            .to_string(),
        );
        self.cluster.patch(
            "Pod",
            &self.namespace,
            name,
            "/status",
            &json!({ "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": ip,
            "conditions": [{ "type": "Ready", "status": "True" }],
        } }),
        );
        self.run(pod, name)
    }

    /// What runs in it.
    fn run(&self, pod: Pod, name: &str) -> Meshed {
        let app = pod.inside(|| {
            let listener = TcpListener::bind("127.0.0.1:8080").expect("the port is free in the pod");
            Origin::on(listener, |wire, _, _| {
                while let Ok(Some(request)) = wire.request() {
                    let status = if request.target.starts_with("/bad") { 503 } else { 200 };
                    if wire.try_send(Response::new(status).wire(&request.method)).is_err() {
                        break;
                    }
                }
            })
        });
        let yaml = config::sidecar(app.address())
            .replace("admin: { address: 127.0.0.1:0 }", "admin: { address: 0.0.0.0:9990 }")
            .replace("address: 127.0.0.1:0, direction: inbound", "address: 0.0.0.0:9992, direction: inbound")
            .replace("metadata: { name: test }", &format!("metadata: {{ name: {name} }}"))
            .replace("${DIR}/access.log", "/dev/null");
        let file = self.dir.path().join(format!("{name}.yaml"));
        fs::write(&file, yaml).expect("writable");
        let readable = Command::new("chmod").arg("-R").arg("a+rX").arg(self.dir.path()).status();
        assert!(readable.is_ok_and(|s| s.success()));
        let mut command = pod.command(binary::proxy());
        command.args(["run", "--config"]).arg(file);
        let proxy = Proxy::spawn_command(command);
        let admin = SocketAddr::new(pod.ip(), 9990);
        eventually("the proxy is ready", LONG, || {
            std::net::TcpStream::connect(admin).ok()?;
            (wire::get(admin, "/readyz").status == 200).then_some(())
        });
        let mut command = pod.command(&self.node);
        command.arg(peers::script("kubelet.js"));
        command.args(["tls.crt", "tls.key"].map(|f| self.dir.path().join(f))).arg(KUBELET.to_string());
        command.env("NODE_PATH", binary::target_dir().join("test-node/node_modules"));
        let kubelet = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("node starts");
        let listens = SocketAddr::new(pod.ip(), KUBELET);
        eventually("the kubelet listens", LONG, || std::net::TcpStream::connect(listens).ok());
        Meshed { pod, proxy, _app: app, kubelet }
    }

    fn outrigger(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = outrigger(args, &[("KUBECONFIG", &self.cluster.kubeconfig().display().to_string())]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn running(&self, args: &[&str]) -> Running {
        Running::start(args, &[("KUBECONFIG", &self.cluster.kubeconfig().display().to_string())])
    }
}

impl Meshed {
    fn get(&self, path: &str) -> u16 {
        let to = SocketAddr::new(self.pod.ip(), 9992);
        wire::once(to, &format!("GET {path} HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer S3CRET\r\n\r\n")).status
    }
}

#[test]
fn kube_netns_top_and_edges_ask_all_pods_and_name_the_silent_ones() {
    let Some(world) = World::start("kube_netns_top_and_edges_ask_all_pods") else { return };
    let (web, orders) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"));
    // It is said to run, and nobody answers there.
    world.cluster.pod(&world.namespace, "gone-1", "default", "192.0.2.77");
    world.cluster.plain_pod(&world.namespace, "plain-1", "default", "192.0.2.78");
    for pod in [&web, &orders] {
        for path in ["/a", "/b", "/bad", "/c"] {
            pod.get(path);
        }
    }
    let (code, text, errors) = world.outrigger(&["top", "-n", &world.namespace, "--once", "--interval", "1s"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let named = |name: &str| format!("{}/{name}", world.namespace);
    for name in ["web-1", "orders-1"] {
        assert!(
            text.lines().any(|l| l.starts_with(&named(name)) && l.contains("inbound") && l.ends_with('4')),
            "{text}"
        );
    }
    assert!(text.contains(&format!("{} does not answer", named("gone-1"))) && !text.contains("plain-1"), "{text}");
    // One pod, by name, by label, and by what owns it.
    world.cluster.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "orders", "namespace": world.namespace },
        "spec": { "selector": { "matchLabels": { "app": "orders" } }, "template": {
            "metadata": { "labels": { "app": "orders" } }, "spec": { "containers": [{ "name": "app", "image": "app" }] },
        } },
    }).to_string());
    for target in [&["pod/orders-1"][..], &["orders-1"], &["-l", "app=orders"], &["deploy/orders"]] {
        let args = [&["edges", "-n", &world.namespace, "-o", "json"], target].concat();
        let (code, text, errors) = world.outrigger(&args);
        assert_eq!(code, Some(0), "{target:?}: {errors}");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let edges = json["edges"].as_array().expect("edges");
        assert!(edges.len() == 1 && edges[0]["proxy"] == named("orders-1"), "{target:?}: {json:#}");
        assert_eq!((&edges[0]["requests"], &edges[0]["failures"]), (&json!(4), &json!(1)));
    }
    for (target, code, word) in [
        ("deploy/none", 1, "there is no deploy/none"),
        ("frob/x", 2, "deploy/NAME"),
        ("pod/plain-1", 1, "has a proxy"),
        ("a/b/c", 2, "names no object"),
    ] {
        let (found, _, errors) = world.outrigger(&["edges", "-n", &world.namespace, target]);
        assert!(found == Some(code) && errors.contains(word), "{target}: {found:?} {errors}");
    }
}

#[test]
fn kube_netns_tap_and_dashboard_reach_the_pods_loopback() {
    let Some(world) = World::start("kube_netns_tap_and_dashboard_reach_the_pods_loopback") else { return };
    let (web, orders) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"));
    // From elsewhere, requests are not shown.
    assert_eq!(wire::get(SocketAddr::new(web.pod.ip(), 9990), "/tap").status, 403);
    let tap = world.running(&["tap", "-n", &world.namespace, "-o", "json"]);
    let named = |name: &str| format!("{}/{name}", world.namespace);
    for name in ["web-1", "orders-1"] {
        tap.wait("the tap is open", |l| l.contains("\"event\":\"tap\"") && l.contains(&named(name)));
    }
    assert_eq!((web.get("/one?token=S3CRET"), orders.get("/two")), (200, 200));
    for (name, path) in [("web-1", "/one?token=[redacted]"), ("orders-1", "/two")] {
        tap.wait("a request", |l| l.contains("\"event\":\"request\"") && l.contains(path) && l.contains(&named(name)));
        tap.wait("its end", |l| l.contains("\"event\":\"end\"") && l.contains(&named(name)));
    }
    assert!(!tap.lines().join("\n").contains("S3CRET"));
    // Who goes away frees the tap of the proxy.
    drop(tap);
    let dashboard = world.running(&["dashboard", "pod/web-1", "-n", &world.namespace, "--no-open"]);
    let url = dashboard.wait("the address", |l| l.starts_with("http://127.0.0.1:"));
    let to: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let page = wire::get(to, "/");
    assert!(
        page.status == 200 && page.text().contains("<title>Outrigger</title>"),
        "{} {:?}",
        page.status,
        dashboard.errors()
    );
    assert_eq!(wire::get(to, "/stats.json").json()["name"], "web-1");
    assert_eq!(wire::get(to, "/errors").status, 200, "it comes from the pod's loopback");
    assert_eq!(dashboard.errors().len(), 1, "{:?}", dashboard.errors());
    assert!(web.proxy.output().iter().all(|l| !l.contains("panicked")));
}

#[test]
fn kube_tap_without_rights_says_which() {
    let Some(cluster) = Cluster::shared("kube_tap_without_rights_says_which") else { return };
    let namespace = cluster.namespace("shop");
    cluster.service_account(&namespace, "reader");
    cluster.pod(&namespace, "web-1", "default", "192.0.2.77");
    cluster.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "reader", "namespace": namespace },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] }],
    }).to_string());
    cluster.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "reader", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace }],
    }).to_string());
    let kubeconfig = cluster.kubeconfig_of(&namespace, "reader").display().to_string();
    for (args, word) in [
        (&["tap"][..], "pods/portforward"),
        (&["top", "--once"], "pods/proxy"),
        (&["dashboard", "web-1"], "pods/portforward"),
    ] {
        let output = outrigger(&[args, &["-n", &namespace]].concat(), &[("KUBECONFIG", &kubeconfig)]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && errors.contains(word), "{args:?}: {errors}");
    }
}
