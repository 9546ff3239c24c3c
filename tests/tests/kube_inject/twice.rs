//! Another webhook that adds a container after ours: the API server calls ours again, and the container gets what the others got.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use outrigger_tests::{
    eventually,
    kube::{Cluster, block_on},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    pods::{create, is_injected, named, names, namespace, pod},
    world::{MINUTE, World},
};

#[test]
fn kube_inject_containers_of_other_webhooks_are_seen_by_the_second_call() {
    let Some(world) = World::start("kube_inject_containers_of_other_webhooks") else { return };
    let cluster = &world.cluster;
    world.install(&[]);
    let _control_plane = world.control_plane("a");
    world.wait_bundles();
    let meshed = namespace(cluster, "meshed", &json!({ "outrigger.dev/inject": "enabled" }));
    let (address, certificate) = other_webhook();
    register(cluster, &meshed, address, &certificate);
    let sent = pod("late", &json!({}), &json!({}));
    let stored = eventually("both webhooks have been called", MINUTE, || {
        cluster.delete("Pod", &meshed, "late");
        let stored = create(cluster, &meshed, &sent).ok()?;
        let both = is_injected(&stored) && names(&stored["spec"]["containers"]).contains(&"late");
        both.then_some(stored)
    });
    let late = named(&stored["spec"]["containers"], "late");
    assert_eq!(late["readinessProbe"]["httpGet"]["path"], "/app/late/readyz");
    let proxy = &stored["spec"]["initContainers"][0];
    assert_eq!(proxy["name"], "outrigger-proxy");
    assert_eq!(proxy["image"], "mirror.local/outrigger", "what the other changed in ours stays");
    let endpoints = named(&proxy["env"], "OUTRIGGER_APP_ENDPOINTS")["value"].as_str().expect("it is told");
    let endpoints: Value = serde_json::from_str(endpoints).expect("JSON");
    assert_eq!(endpoints["/app/late/readyz"]["http"]["port"], 8200);
    assert_eq!(names(&stored["spec"]["initContainers"]), ["outrigger-proxy", "outrigger-redirect"]);
}

/// Its name comes after ours: webhooks are called in the order of their configurations' names.
fn register(cluster: &Cluster, namespace: &str, address: SocketAddr, certificate: &str) {
    cluster.apply(&format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{ name: zz-other }}
webhooks:
  - name: other.example.com
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    clientConfig: {{ url: "https://localhost:{port}/", caBundle: {bundle} }}
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    rules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }}]
"#,
        port = address.port(),
        bundle = STANDARD.encode(certificate),
    ));
}

/// Adds a container with a probe and rewrites our image, as a mirror of registries does.
fn other_webhook() -> (SocketAddr, String) {
    let key = KeyPair::generate().expect("a key");
    let made =
        CertificateParams::new(["localhost".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = block_on(async {
        let listener = TcpListener::bind("localhost:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(answer(stream));
                }
            }
        });
        address
    });
    (address, made.pem())
}

/// One review, one answer, and the end.
async fn answer(mut stream: TlsStream<TcpStream>) {
    let mut request = Vec::new();
    let review = loop {
        let mut part = [0; 16 * 1024];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&part[..count]),
        }
        if let Some(review) = whole(&request) {
            break review;
        }
    };
    let probe = json!({ "httpGet": { "port": 8200, "path": "/health" } });
    let patch = json!([
        { "op": "add", "path": "/spec/containers/-", "value": { "name": "late", "image": "late", "readinessProbe": probe } },
        { "op": "replace", "path": "/spec/initContainers/0/image", "value": "mirror.local/outrigger" },
    ]);
    let response = json!({
        "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
    });
    let body =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
    drop(stream.shutdown().await);
}

fn whole(request: &[u8]) -> Option<Value> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&request[end..]).ok()
}
