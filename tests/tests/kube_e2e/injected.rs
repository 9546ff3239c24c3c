//! What `outrigger inject` writes into a template is run literally: arguments, variables, users and capabilities, as a kubelet would.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use outrigger_tests::{Proxy, Wire, binary};
use serde_json::Value;

use super::{
    kubelet::{ask, command},
    *,
};

/// What the app says of itself.
const METRICS: &str = "orders_total 7\n";

/// With every flag of `redirect install` that annotations lead to.
const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: NAME }
spec:
  selector: { matchLabels: { app: NAME } }
  template:
    metadata:
      labels: { app: NAME }
      annotations: { prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /stats,
        outrigger.dev/skip-inbound-ports: 7000-7009, outrigger.dev/capture-inbound-ports: "7000,8080",
        outrigger.dev/skip-outbound-ports: "7000", outrigger.dev/skip-outbound-cidrs: 192.0.2.0/24,
        outrigger.dev/skip-uids: "7000", outrigger.dev/redirect-backend: nftables, outrigger.dev/ip-families: both,
        outrigger.dev/discovery-idle: 1m, outrigger.dev/workers: "1" }
    spec:
      serviceAccountName: NAME
      containers: [{ name: app, image: app, ports: [{ name: http, containerPort: 8080 }],
        readinessProbe: { httpGet: { path: /ready, port: http } } }]
"#;

/// A pod that was injected.
struct Injected {
    pod: Pod,
    /// As the API server has it.
    object: Value,
    _proxy: Proxy,
}

/// The Pod of a Deployment's template after `outrigger inject`.
fn injected(world: &World, name: &str) -> Value {
    let mut command = Command::new(binary::outrigger());
    command.args(["inject", "--namespace", &world.namespace, "--mesh-namespace", &world.mesh]);
    command.args(["--control-plane-address", &world.control_plane()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(DEPLOYMENT.replace("NAME", name).as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let mut pod = serde_yaml::from_slice::<Value>(&output.stdout).expect("YAML")["spec"]["template"].take();
    (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
    (pod["metadata"]["name"], pod["metadata"]["namespace"]) = (name.into(), world.namespace.as_str().into());
    pod["spec"]["nodeName"] = "node-1".into();
    pod
}

/// Makes the pod, and runs its containers in their order up to the app, which is the caller's.
fn start(world: &World, name: &str) -> Injected {
    let pod = world.net.pod();
    world.cluster.service_account(&world.namespace, name);
    world.cluster.apply(&injected(world, name).to_string());
    let object = world.cluster.set_pod_status(&world.namespace, name, &pod.ip().to_string()).expect("a status");
    let containers = object["spec"]["initContainers"].as_array().expect("a list");
    let [sidecar, redirect] = containers.as_slice() else { panic!("{containers:#?}") };
    let proxy = Proxy::spawn_command(command(world, &pod, &object, sidecar));
    eventually("the sidecar has started", LONG, || {
        (ask(&pod, &sidecar["startupProbe"]["httpGet"])?.status == 200).then_some(())
    });
    let output = command(world, &pod, &object, redirect).output().expect("ip runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Injected { pod, object, _proxy: proxy }
}

/// The app: one request a connection, so that none outlives it.
fn orders(pod: &Pod) -> Origin {
    let listener = pod.inside(|| TcpListener::bind(("0.0.0.0", PORT)).expect("the port is free in the pod"));
    Origin::on(listener, |wire, _, _| {
        let Ok(Some(request)) = wire.request() else { return };
        let peer = request.header("x-forwarded-client-cert").unwrap_or_default();
        let body = if request.target == "/stats" { METRICS } else { "ok" };
        wire.try_send(Response::text(body).header("x-peer", peer).closing().wire(&request.method)).ok();
    })
}

fn strict(world: &World) {
    world.cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {{ name: default, namespace: {} }}\n\
         spec: {{ mtls: strict }}",
        world.mesh
    ));
}

#[test]
fn kube_netns_what_inject_writes_works_in_a_pod() {
    let Some(world) = World::start("kube_netns_what_inject_writes_works_in_a_pod") else { return };
    let to: SocketAddr = format!("{}:80", world.service("orders")).parse().expect("an address");
    let (web, server) = (start(&world, "web"), start(&world, "orders"));
    set(&world, &[("orders", &server.pod)]);
    let probe = &server.object["spec"]["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!(probe["port"], 9990, "{probe}");
    let ready = || ask(&server.pod, probe).expect("the admin port is open").status;
    assert_eq!(ready(), 503, "there is no app yet");
    let app = orders(&server.pod);
    eventually("the app is ready", LONG, || (ready() == 200).then_some(()));

    let request = "GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n";
    let identity = format!("/ns/{}/sa/web", world.namespace);
    let meshed = || {
        let reply = eventually("the Service is known", LONG, || {
            Some(web.pod.inside(|| wire::once(to, request))).filter(|reply| reply.status == 200)
        });
        assert!(reply.header("x-peer").is_some_and(|peer| peer.contains(&identity)), "mutual TLS: {reply:?}");
    };
    meshed();
    // Somebody outside the mesh gets in, until the mesh says `strict`.
    let outside = || {
        let mut wire = Wire::connect((server.pod.ip(), PORT).into());
        wire.try_send(request).and_then(|()| wire.try_reply("GET"))
    };
    assert_eq!(outside().expect("plaintext is allowed").status, 200);
    strict(&world);
    eventually("plaintext is refused", LONG, || outside().is_err().then_some(()));
    meshed();
    assert_eq!(ready(), 200);
    let said = &server.object["metadata"]["annotations"];
    assert_eq!((&said["prometheus.io/port"], &said["prometheus.io/path"]), (&json!("9990"), &json!("/app/metrics")));
    let reply = wire::get((server.pod.ip(), 9990).into(), "/app/metrics");
    assert_eq!((reply.status, reply.text().as_str()), (200, METRICS), "{reply:?}");

    server.pod.inside(|| drop(app));
    eventually("the app is not ready", LONG, || (ready() == 503).then_some(()));
}
