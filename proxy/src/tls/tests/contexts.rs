//! Contexts made from whole models.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use outrigger_config::{
    Origin,
    model::{
        Correlation, Direction, EndpointSource, HostTable, IdentityFiles, Limits, Listener, ListenerLimits,
        ListenerProtocol, ListenerTarget, LoadBalancing, Mode, Model, MtlsMode, ProxySettings, RouteTable, Telemetry,
        Timeouts, TrafficPolicy, Upstream, UpstreamId, UpstreamProtocol, UpstreamTls,
    },
};

use super::{Ca, Files};
use crate::tls::TlsContexts;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn listener(mtls: MtlsMode) -> Listener {
    Listener {
        name: "inbound".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        direction: Direction::Inbound,
        protocol: ListenerProtocol::Detect,
        mtls,
        target: ListenerTarget::ByHost(HostTable::default()),
        limits: ListenerLimits::default(),
        origin: Origin::new("mesh.yaml", 3, 7),
    }
}

fn upstream(tls: UpstreamTls) -> Arc<Upstream> {
    let policy = TrafficPolicy {
        name: "default".into(),
        origin: None,
        mode: Mode::Enforce,
        timeouts: Timeouts::default(),
        retry: None,
        circuit_breaker: None,
        limits: Limits::default(),
        rate_limit: None,
        adaptive_concurrency: None,
        load_balancing: LoadBalancing::default(),
        fallback: None,
        fault: None,
    };
    Arc::new(Upstream {
        name: "payments".into(),
        protocol: UpstreamProtocol::Auto,
        hostnames: Vec::new(),
        source: EndpointSource::Static(Vec::new()),
        tls,
        policy: Arc::new(policy),
        access: Vec::new(),
        routes: RouteTable::default(),
        origin: Origin::new("mesh.yaml", 20, 1),
    })
}

fn model(identity: Option<IdentityFiles>, mtls: MtlsMode, tls: Vec<UpstreamTls>) -> Model {
    Model {
        proxy: ProxySettings {
            name: "orders".into(),
            workers: None,
            admin: "127.0.0.1:0".parse().unwrap(),
            identity,
            telemetry: Telemetry::default(),
            correlation: Correlation::default(),
            drain_timeout: Duration::from_secs(30),
        },
        listeners: vec![listener(mtls)],
        upstreams: tls.into_iter().map(upstream).collect(),
        decisions: Vec::new(),
    }
}

fn mesh(identity: &str) -> UpstreamTls {
    UpstreamTls::Mesh { identity: identity.into() }
}

fn simple(sni: &str, ca: Option<PathBuf>) -> UpstreamTls {
    UpstreamTls::Simple { sni: sni.into(), ca }
}

fn faults(model: &Model) -> Vec<String> {
    TlsContexts::load(model).err().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_model_without_tls_needs_nothing() {
    let contexts = TlsContexts::load(&model(None, MtlsMode::Permissive, vec![UpstreamTls::None])).unwrap();
    assert!(
        contexts.server(MtlsMode::Permissive, ListenerProtocol::Detect).is_none()
            && contexts.client(UpstreamId(0)).is_none()
    );
    assert!(contexts.client(UpstreamId(7)).is_none());
    assert!(contexts.certificates().is_empty() && contexts.identity_expiry().is_none());
}

#[test]
fn a_whole_model_gets_a_context_for_each() {
    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|_| {}), &ca.pem);
    let roots = files.files.trust_bundle.clone();
    let tls = vec![mesh(WEB), UpstreamTls::None, simple("api.example.com", Some(roots.clone()))];
    let model = model(Some(files.files.clone()), MtlsMode::Strict, tls);
    let contexts = TlsContexts::load(&model).unwrap();
    assert!(
        contexts.server(MtlsMode::Strict, ListenerProtocol::Detect).is_some()
            && contexts.server(MtlsMode::Permissive, ListenerProtocol::Detect).is_some()
    );
    assert!(contexts.server(MtlsMode::Disabled, ListenerProtocol::Detect).is_none());
    assert_eq!(contexts.client(UpstreamId(0)).unwrap().identity().unwrap().as_str(), WEB);
    assert!(contexts.client(UpstreamId(1)).is_none());
    assert!(contexts.client(UpstreamId(2)).unwrap().identity().is_none());
    assert_eq!((contexts.identity().unwrap().as_str(), contexts.identity_expiry()), (WEB, Some(67_090_118_400)));
    assert_eq!(contexts.warnings(), []);
    let mut expected = vec![files.files.certificate.clone(), files.files.private_key.clone(), roots];
    expected.sort();
    assert_eq!(TlsContexts::files(&model), expected);
}

#[test]
fn what_cannot_work_is_named_all_at_once() {
    let none = model(None, MtlsMode::Strict, vec![mesh(WEB), mesh("web"), simple("a b", None)]);
    let found = faults(&none);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("mesh.yaml:3:7: listener \"inbound\" has mtls: strict"), "{found:?}");
    assert!(found[1].starts_with("mesh.yaml:20:1: upstream \"payments\": tls.mode is mesh, and"), "{found:?}");
    assert!(found[2].contains("tls.identity \"web\" is no SPIFFE ID: it does not start with"), "{found:?}");
    assert!(found[3].contains("tls.sni \"a b\" is no host name"), "{found:?}");

    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|_| {}), &ca.pem);
    fs::remove_file(&files.files.private_key).unwrap();
    let gone = files.files.certificate.with_file_name("gone.crt");
    let tls = vec![mesh(WEB), simple("api.example.com", Some(gone))];
    let found = faults(&model(Some(files.files.clone()), MtlsMode::Strict, tls));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("tls.key:1:1: cannot be read"), "{found:?}");
    assert!(found[1].contains("gone.crt:1:1: cannot be read"), "{found:?}");
}

#[test]
fn certificates_are_described_and_keys_are_not() {
    let ca = Ca::new("root");
    let leaf = ca.issue(|_| {});
    let files = Files::new(&leaf, &ca.pem);
    let contexts = TlsContexts::load(&model(Some(files.files.clone()), MtlsMode::Strict, Vec::new())).unwrap();
    let json = serde_json::to_value(contexts.certificates()).unwrap();
    assert_eq!(json[0]["role"], "identity");
    assert_eq!(json[0]["uris"][0], WEB);
    assert_eq!(json[0]["notAfterTimestamp"], 67_090_118_400_i64);
    assert_eq!(json[1]["role"], "root");
    let text = json.to_string();
    assert!(!text.contains("PRIVATE") && leaf.key.lines().nth(1).is_some_and(|line| !text.contains(line)));
}
