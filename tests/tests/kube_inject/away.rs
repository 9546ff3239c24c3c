//! The webhook down, slow, and with a certificate that has expired: only pods that opted in wait, and the control plane itself can
//! always start.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::SystemTime,
};

use outrigger_control_plane::{
    admission::{self, Reviewers},
    identity::{
        CaSource,
        serving::{self, ServingNames},
    },
};
use outrigger_tests::{
    eventually,
    kube::{Cluster, Refusal, block_on},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    pods::{create, is_injected, namespace, pod},
    world::{MESH, MINUTE, NAME, World},
};

/// Namespaces of one scenario.
struct Places {
    meshed: String,
    plain: String,
}

impl Places {
    fn of(cluster: &Cluster) -> Self {
        for exempt in [MESH, "kube-system"] {
            cluster.service_account(exempt, "default");
        }
        let enabled = json!({ "outrigger.dev/inject": "enabled" });
        Self { meshed: namespace(cluster, "meshed", &enabled), plain: namespace(cluster, "plain", &json!({})) }
    }

    fn opted_in(&self, cluster: &Cluster) -> Result<Value, Refusal> {
        let created = create(cluster, &self.meshed, &pod("in", &json!({}), &json!({})));
        cluster.delete("Pod", &self.meshed, "in");
        created
    }

    /// Everything that must start whatever becomes of the webhook.
    #[track_caller]
    fn others_start(&self, cluster: &Cluster) {
        let label = |value: &str| json!({ "labels": { "outrigger.dev/inject": value } });
        let replica = json!({ "labels": { "app.kubernetes.io/name": "outrigger", "outrigger.dev/inject": "enabled" } });
        for (namespace, name, metadata) in [
            (&*self.plain, "plain", json!({})),
            (&*self.meshed, "opted-out", label("disabled")),
            (MESH, NAME, replica),
            ("kube-system", "coredns", label("enabled")),
        ] {
            let created = create(cluster, namespace, &pod(name, &metadata, &json!({})));
            let created = created.unwrap_or_else(|refusal| panic!("{namespace}/{name}: {refusal:?}"));
            assert!(!is_injected(&created), "{namespace}/{name}");
            cluster.delete("Pod", namespace, name);
        }
    }

    /// Waits until an opted-in pod is refused with this reason, and sees that the others start.
    #[track_caller]
    fn held_up(&self, cluster: &Cluster, reason: &str) {
        let refusal = eventually(&format!("an opted-in pod is refused: {reason}"), MINUTE, || {
            self.opted_in(cluster).err().filter(|refusal| refusal.message.contains(reason))
        });
        assert!(refusal.message.contains("failed calling webhook \"namespace.inject.outrigger.dev\""), "{refusal:?}");
        self.others_start(cluster);
    }

    #[track_caller]
    fn works(&self, cluster: &Cluster) {
        eventually("an opted-in pod is injected", MINUTE, || self.opted_in(cluster).ok().filter(is_injected));
    }
}

#[test]
fn kube_inject_without_the_webhook_only_opted_in_pods_wait() {
    let Some(world) = World::start("kube_inject_without_the_webhook") else { return };
    let cluster = &world.cluster;
    world.install(&["--set", "injection.timeoutSeconds=1"]);
    let places = Places::of(cluster);
    // A CA that is older than the certificates of it that have ended.
    block_on(source(cluster, || days_ago(4)).open()).expect("a CA is made");
    let first = world.control_plane("a");
    world.wait_bundles();
    places.works(cluster);
    places.others_start(cluster);
    // Down: nobody listens any more.
    let at = first.webhook;
    first.process.kill();
    places.held_up(cluster, "connection refused");
    // Slow: somebody listens and says nothing.
    let silent = TcpListener::bind((at.ip(), 0)).expect("a port");
    let address = silent.local_addr().expect("bound");
    thread::spawn(move || {
        let held: Vec<_> = silent.incoming().take(1000).collect();
        drop(held);
    });
    world.route("outrigger-webhook", "webhook", address);
    places.held_up(cluster, "deadline exceeded");
    // A certificate of the right CA that ended two days ago.
    let (address, stop) = expired(cluster, at);
    world.route("outrigger-webhook", "webhook", address);
    places.held_up(cluster, "certificate has expired");
    stop.send_replace(true);
    // And a new replica is all that it takes.
    let _second = world.control_plane("b");
    places.works(cluster);
}

/// Seconds since 1970.
fn days_ago(days: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    now - days * 24 * 60 * 60
}

/// The CA of the mesh, made if there is none.
fn source(cluster: &Cluster, clock: fn() -> u64) -> CaSource {
    CaSource {
        client: cluster.client(),
        namespace: MESH.to_owned(),
        secret: "outrigger-ca".to_owned(),
        extra_roots: "outrigger-roots".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        create: true,
        clock,
    }
}

/// A webhook of the mesh whose renewal has failed for days.
fn expired(cluster: &Cluster, at: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    let address = block_on(async {
        let (keeper, ca) = source(cluster, || days_ago(0)).open().await.expect("the CA is there");
        tokio::spawn(keeper.run());
        let names = ServingNames::of_services(MESH, "cluster.local", &["outrigger-webhook"]);
        // It lives for a day.
        let (serving, _no_renewal) = serving::keep(ca, names, || days_ago(3)).expect("a certificate");
        let listener = tokio::net::TcpListener::bind((at.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let reviewers = Reviewers { cluster: outrigger_config::Cluster::default(), injector: None };
        tokio::spawn(admission::serve(listener, serving, reviewers, stopped));
        address
    });
    (address, stop)
}
