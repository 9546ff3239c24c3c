//! Identity and admission against a real API server: real tokens, real Secrets, a real webhook call.

use std::{fs, path::PathBuf, sync::Arc, time::SystemTime};

use kube::Client;
use outrigger_config::{
    Cluster as View,
    discovery::{IssueRequest, identity_server::Identity as _},
    identity::{TRUST_CONFIG_MAP, TRUST_CONFIG_MAP_KEY},
    spiffe::identity_of,
};
use outrigger_control_plane::{
    admission::{self, WebhookBundle},
    ca::{Authority, certificates_of, encode_certificates},
    identity::{
        ApiServer, CaSource, CaWatch, IssueService, TrustPublisher,
        serving::{self, ServingNames},
    },
};
use outrigger_tests::{
    LONG, eventually,
    kube::{Cluster, block_on, client_of},
};
use prometheus::{IntCounterVec, Opts};
use rcgen::{CertificateParams, KeyPair, SanType, SigningKey as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What the chart gives the control plane of `namespace`, of the rights that identity and admission need, and not one more.
fn grant(cluster: &Cluster, namespace: &str) -> Client {
    const NAME: &str = "outrigger-control-plane";
    cluster.service_account(namespace, NAME);
    let subject = format!("[{{ kind: ServiceAccount, name: {NAME}, namespace: {namespace} }}]");
    let group = "rbac.authorization.k8s.io";
    cluster.apply(&format!(
        r#"
apiVersion: {group}/v1
kind: Role
metadata: {{ name: {NAME}, namespace: {namespace} }}
rules:
  - {{ apiGroups: [""], resources: [secrets], verbs: [create] }}
  - {{ apiGroups: [""], resources: [secrets], resourceNames: [outrigger-ca], verbs: [get, list, watch] }}
  - {{ apiGroups: [""], resources: [configmaps], resourceNames: [outrigger-roots], verbs: [get, list, watch] }}
---
apiVersion: {group}/v1
kind: RoleBinding
metadata: {{ name: {NAME}, namespace: {namespace} }}
roleRef: {{ apiGroup: {group}, kind: Role, name: {NAME} }}
subjects: {subject}
---
apiVersion: {group}/v1
kind: ClusterRole
metadata: {{ name: {namespace} }}
rules:
  - {{ apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create] }}
  - {{ apiGroups: [""], resources: [namespaces], verbs: [get, list, watch] }}
  - {{ apiGroups: [""], resources: [configmaps], resourceNames: [outrigger-trust], verbs: [get, create, patch] }}
  - apiGroups: [admissionregistration.k8s.io]
    resources: [validatingwebhookconfigurations]
    resourceNames: [{namespace}]
    verbs: [get, list, watch, patch]
---
apiVersion: {group}/v1
kind: ClusterRoleBinding
metadata: {{ name: {namespace} }}
roleRef: {{ apiGroup: {group}, kind: ClusterRole, name: {namespace} }}
subjects: {subject}
"#
    ));
    let kubeconfig = cluster.kubeconfig_of(namespace, NAME);
    // RBAC takes effect a moment later.
    eventually("the account may list namespaces", LONG, || {
        let client = block_on(client_of(&kubeconfig));
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
        block_on(namespaces.list(&kube::api::ListParams::default().limit(1))).ok().map(|_| client)
    })
}

fn source(client: &Client, namespace: &str) -> CaSource {
    CaSource {
        client: client.clone(),
        namespace: namespace.to_owned(),
        secret: "outrigger-ca".to_owned(),
        extra_roots: "outrigger-roots".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        create: true,
        clock: now,
    }
}

/// Opens the CA and follows it.
fn open(client: &Client, namespace: &str) -> CaWatch {
    block_on(async {
        let (keeper, ca) = source(client, namespace).open().await.expect("a CA");
        tokio::spawn(keeper.run());
        ca
    })
}

fn csr(id: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request").der().to_vec()
}

fn ask(service: &IssueService, token: Option<&str>, id: &str) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(IssueRequest { csr: csr(id).into(), lifetime_seconds: 600 });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    }
    let answer = block_on(service.issue(request))?.into_inner();
    Ok(answer.chain[0].to_vec())
}

fn service(client: &Client, ca: &CaWatch) -> IssueService {
    let outcomes = IntCounterVec::new(Opts::new("outcomes", "Of the test"), &["outcome"]).expect("a counter");
    IssueService::new(Arc::new(ApiServer::new(client.clone())), ca.clone(), now, outcomes)
}

/// A token like `good`, signed by the API server's own key, that expired an hour ago.
fn expired(cluster: &Cluster, good: &str) -> String {
    let parts: Vec<_> = good.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&decode(parts[1])).expect("claims");
    let (issued, ended) = (json!(now() - 7200), json!(now() - 3600));
    (claims["iat"], claims["nbf"], claims["exp"]) = (issued.clone(), issued, ended);
    let text = format!("{}.{}", parts[0], encode(claims.to_string().as_bytes()));
    let dir: PathBuf = cluster.kubeconfig().parent().expect("a directory").to_owned();
    let key = KeyPair::from_pem(&fs::read_to_string(dir.join("sa.key")).expect("a key")).expect("a key");
    let der = key.sign(text.as_bytes()).expect("a signature");
    // ES256 (RFC 7518 3.4) has both numbers one after the other, in 32 bytes each, and DER each with a length.
    let number = |at: usize| {
        let length = usize::from(der[at + 1]);
        let bytes = &der[at + 2..at + 2 + length];
        let bytes = &bytes[bytes.len().saturating_sub(32)..];
        ([vec![0; 32 - bytes.len()], bytes.to_vec()].concat(), at + 2 + length)
    };
    let (r, next) = number(2);
    let (s, _) = number(next);
    format!("{text}.{}", encode(&[r, s].concat()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let six = |bits: &[u8]| (0..6).fold(0, |n, i| n << 1 | bits.get(i).copied().unwrap_or(0));
    bits.chunks(6).map(|bits| char::from(ALPHABET[usize::from(six(bits))])).collect()
}

fn decode(text: &str) -> Vec<u8> {
    let value = |c: u8| ALPHABET.iter().position(|&a| a == c).expect("base64url");
    let bits: Vec<u8> = text.bytes().flat_map(|c| (0..6).rev().map(move |i| (value(c) >> i & 1) as u8)).collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |n, bit| n << 1 | bit)).collect()
}

#[test]
fn kube_tokens_that_prove_too_little_get_nothing_signed() {
    let Some(cluster) = Cluster::shared("kube_tokens_that_prove_too_little_get_nothing_signed") else { return };
    let mesh = cluster.namespace("mesh");
    let client = grant(cluster, &mesh);
    let ca = open(&client, &mesh);
    let service = service(&client, &ca);
    let ns = cluster.namespace("shop");
    for account in ["web", "db"] {
        cluster.service_account(&ns, account);
        cluster.pod(&ns, &format!("{account}-1"), account, "10.0.0.7");
    }
    let id = |account: &str| format!("spiffe://cluster.local/ns/{ns}/sa/{account}");
    let token = |account: &str, audience: &str, pod: Option<&str>| cluster.token(&ns, account, &[audience], 600, pod);
    let good = token("web", "outrigger.dev", Some("web-1"));
    let of_db = token("db", "outrigger.dev", Some("db-1"));
    let cut = &good[..good.len() - 8];
    let table = [
        ("none", None, Code::Unauthenticated),
        ("junk", Some("junk".to_owned()), Code::Unauthenticated),
        ("cut", Some(cut.to_owned()), Code::Unauthenticated),
        ("expired", Some(expired(cluster, &good)), Code::Unauthenticated),
        ("another audience", Some(token("web", "vault", Some("web-1"))), Code::Unauthenticated),
        ("the API server's audience", Some(token("web", "api", Some("web-1"))), Code::Unauthenticated),
        ("bound to no pod", Some(token("web", "outrigger.dev", None)), Code::PermissionDenied),
        ("another account", Some(of_db.clone()), Code::PermissionDenied),
    ];
    for (what, token, code) in table {
        let refused = ask(&service, token.as_deref(), &id("web")).expect_err(what);
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }
    assert_eq!(ca.borrow().authority.issued(), 0, "nothing is signed");
    let leaf = ask(&service, Some(&good), &id("web")).expect("a certificate");
    assert_eq!(identity_of(&leaf).expect("an SVID").as_str(), id("web"));
    assert_eq!(ca.borrow().authority.issued(), 1);
    // The pod's end is the token's; the API server remembers for ten seconds whom it has let in.
    cluster.delete("Pod", &ns, "db-1");
    eventually("the token of a pod that is gone is refused", 3 * LONG, || {
        ask(&service, Some(&of_db), &id("db")).is_err_and(|e| e.code() == Code::Unauthenticated).then_some(())
    });
}

#[test]
fn kube_replicas_that_start_at_once_agree_on_one_ca() {
    let Some(cluster) = Cluster::shared("kube_replicas_that_start_at_once_agree_on_one_ca") else { return };
    let mesh = cluster.namespace("mesh");
    let client = grant(cluster, &mesh);
    let opened = block_on(async {
        let tasks: Vec<_> = (0..6).map(|_| tokio::spawn(source(&client, &mesh).open())).collect();
        let mut roots = Vec::new();
        for task in tasks {
            let (_, ca) = task.await.expect("no panic").expect("a CA");
            roots.push(ca.borrow().bundle.roots().to_vec());
        }
        roots
    });
    assert!(opened.iter().all(|roots| *roots == opened[0]), "all have the same root");
    let secret = cluster.get("Secret", &mesh, "outrigger-ca").expect("it is there");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let keys: Vec<_> = secret["data"].as_object().expect("data").keys().collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);
    // Nothing is made where somebody else brings the CA.
    let elsewhere = cluster.namespace("mesh");
    let client = grant(cluster, &elsewhere);
    let refused = block_on(CaSource { create: false, ..source(&client, &elsewhere) }.open()).err().expect("none");
    assert!(refused.to_string().contains("create it"), "{refused}");
    assert!(cluster.get("Secret", &elsewhere, "outrigger-ca").is_none());
}

/// A Secret in cert-manager's layout.
fn put_ca(cluster: &Cluster, namespace: &str, authority: &Authority) {
    let pem = encode_certificates([authority.certificate()]);
    let key = authority.key().to_pem();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "outrigger-ca", "namespace": namespace },
        "stringData": { "tls.crt": pem, "tls.key": *key, "ca.crt": pem },
    });
    cluster.apply_as("tests", &secret, "").expect("it is taken");
}

fn put_roots(cluster: &Cluster, namespace: &str, roots: &[&Authority]) {
    let pem = encode_certificates(roots.iter().map(|a| a.certificate()));
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "outrigger-roots", "namespace": namespace },
        "data": { "ca.crt": pem },
    });
    cluster.apply_as("tests", &map, "").expect("it is taken");
}

/// The procedure of docs/identity.md, with the bundle and the signer looked at after every step.
#[test]
fn kube_a_root_is_replaced_step_by_step() {
    let Some(cluster) = Cluster::shared("kube_a_root_is_replaced_step_by_step") else { return };
    let mesh = cluster.namespace("mesh");
    let client = grant(cluster, &mesh);
    let make = || Authority::generate("cluster.local", 86_400, now()).expect("a root");
    let (old, new) = (make(), make());
    put_ca(cluster, &mesh, &old);
    let ca = open(&client, &mesh);
    let wait = |signer: &Authority, roots: &[&Authority]| {
        eventually("the CA is as it should be", LONG, || {
            let ca = ca.borrow();
            let all = roots.iter().all(|root| ca.bundle.roots().contains(root.certificate()));
            (ca.bundle.roots().len() == roots.len()
                && all
                && ca.authority.certificate() == signer.certificate()
                && ca.bundle.roots()[0] == *signer.certificate())
            .then_some(())
        });
    };
    wait(&old, &[&old]);
    put_roots(cluster, &mesh, &[&old, &new]);
    wait(&old, &[&old, &new]);
    put_ca(cluster, &mesh, &new);
    wait(&new, &[&new, &old]);
    put_roots(cluster, &mesh, &[&new]);
    wait(&new, &[&new]);
    // What breaks it afterwards changes nothing.
    cluster.patch("Secret", &mesh, "outrigger-ca", "", &json!({ "stringData": { "tls.key": "junk" } }));
    put_roots(cluster, &mesh, &[&new, &old]);
    cluster.delete("Secret", &mesh, "outrigger-ca");
    wait(&new, &[&new]);
    put_ca(cluster, &mesh, &new);
    wait(&new, &[&new, &old]);
}

#[test]
fn kube_every_namespace_has_the_trust_bundle() {
    let Some(cluster) = Cluster::shared("kube_every_namespace_has_the_trust_bundle") else { return };
    let mesh = cluster.namespace("mesh");
    let client = grant(cluster, &mesh);
    let ca = open(&client, &mesh);
    let app = cluster.namespace("app");
    let bundle = |namespace: &str| {
        let map = cluster.get("ConfigMap", namespace, TRUST_CONFIG_MAP)?;
        certificates_of(map["data"][TRUST_CONFIG_MAP_KEY].as_str()?.as_bytes(), "").ok()
    };
    let (leads, is_leader) = watch::channel(false);
    let (came, namespaces) = watch::channel(0);
    let publisher = TrustPublisher::new(client.clone(), ca.clone());
    block_on(async { drop(tokio::spawn(publisher.run(is_leader, namespaces))) });
    assert_eq!(bundle(&app), None, "only the elected replica writes");
    leads.send_replace(true);
    let expected = ca.borrow().bundle.roots().to_vec();
    let wait = |namespace: &str| {
        eventually("the bundle is published", LONG, || (bundle(namespace)? == expected).then_some(()));
    };
    wait(&app);
    wait(&mesh);
    let later = cluster.namespace("app");
    came.send_replace(1);
    wait(&later);
    // What others did to it is put right by whoever leads next.
    cluster.patch("ConfigMap", &app, TRUST_CONFIG_MAP, "", &json!({ "data": { "ca.crt": "" } }));
    leads.send_replace(false);
    leads.send_replace(true);
    wait(&app);
    // It may touch this one ConfigMap alone.
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(client, &app);
    let refused = block_on(maps.get("another")).expect_err("a right too many");
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
    leads.send_replace(false);
}

#[test]
fn kube_a_document_with_a_fault_is_refused_by_the_api_server() {
    let Some(cluster) = Cluster::shared("kube_a_document_with_a_fault_is_refused_by_the_api_server") else { return };
    let mesh = cluster.namespace("mesh");
    let client = grant(cluster, &mesh);
    let ca = open(&client, &mesh);
    let (stop, stopped) = watch::channel(false);
    let ns = cluster.namespace("shop");
    let port = block_on(async {
        let names = ServingNames::of_services(&mesh, "cluster.local", &["outrigger-webhook"]);
        let (serving, renewal) = serving::keep(ca.clone(), names, now).expect("a certificate");
        tokio::spawn(renewal);
        let listener = tokio::net::TcpListener::bind("localhost:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let reviewers = admission::Reviewers { cluster: View::default(), injector: None };
        tokio::spawn(admission::serve(listener, serving, reviewers, stopped));
        port
    });
    cluster.apply(&format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{ name: {mesh} }}
webhooks:
  - name: validate.outrigger.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    timeoutSeconds: 5
    failurePolicy: Fail
    clientConfig: {{ url: "https://localhost:{port}{path}" }}
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {ns} }} }}
    rules:
      - {{ apiGroups: [outrigger.dev], apiVersions: [v1alpha1], operations: [CREATE, UPDATE], resources: ["*"] }}
      - apiGroups: [gateway.networking.k8s.io]
        apiVersions: [v1]
        operations: [CREATE, UPDATE]
        resources: [httproutes, grpcroutes]
"#,
        path = admission::PATH,
    ));
    let policy = |request: &str, backend: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: p, namespace: {ns} }}\nspec:\n  \
             targetRefs: [{{ group: '', kind: Service, name: payments }}]\n  \
             timeouts: {{ request: {request}, backendRequest: {backend} }}\n"
        )
    };
    let unknown = cluster.try_apply(&policy("3s", "1s")).expect_err("nobody trusts the webhook yet");
    assert!(unknown.message.contains("x509") || unknown.message.contains("certificate"), "{unknown:?}");
    let mut bundle = WebhookBundle::new(client.clone(), mesh.clone(), ca.clone());
    assert!(block_on(bundle.write()).expect("it may"));
    assert!(!block_on(bundle.write()).expect("it may"), "what is right is not written again");
    eventually("the API server trusts the webhook", LONG, || cluster.try_apply(&policy("3s", "1s")).ok());
    let refused = cluster.try_apply(&policy("1s", "3s")).expect_err("an attempt that outlasts the request");
    assert!(refused.message.contains("spec.timeouts.backendRequest"), "{refused:?}");
    let route = |service: &str, value: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: r, namespace: {ns} }}\nspec:\n  \
             parentRefs: [{{ {service} name: payments }}]\n  \
             rules: [{{ matches: [{{ path: {{ type: RegularExpression, value: '{value}' }} }}] }}]\n"
        )
    };
    let refused = cluster.try_apply(&route("group: '', kind: Service,", "(")).expect_err("no regular expression");
    assert!(refused.message.contains("spec.rules[0].matches[0].path.value"), "{refused:?}");
    cluster.apply(&route("", "("));
    cluster.delete("HTTPRoute", &ns, "r");
    cluster.delete("TrafficPolicy", &ns, "p");
    stop.send_replace(true);
    let away = cluster.try_apply(&policy("3s", "1s")).expect_err("failurePolicy: Fail");
    assert!(away.message.contains("failed calling webhook"), "{away:?}");
    cluster.delete("ValidatingWebhookConfiguration", "", &mesh);
}
