//! Contexts made from whole models.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use outrigger_config::{
    Origin,
    model::{
        Correlation, Direction, EndpointSource, HostTable, IdentityFiles, IdentitySource, Listener, ListenerLimits,
        ListenerProtocol, ListenerTarget, Model, MtlsMode, ProxySettings, RouteTable, Telemetry, TrafficPolicy,
        Upstream, UpstreamId, UpstreamProtocol, UpstreamTls,
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
        original_destination: false,
        limits: ListenerLimits::default(),
        origin: Origin::new("mesh.yaml", 3, 7),
    }
}

fn upstream(tls: UpstreamTls) -> Arc<Upstream> {
    let policy = TrafficPolicy::default();
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
            identity: identity.map(IdentitySource::Files),
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
    TlsContexts::load(model, None, None).err().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_model_without_tls_needs_nothing() {
    let contexts = TlsContexts::load(&model(None, MtlsMode::Permissive, vec![UpstreamTls::None]), None, None).unwrap();
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
    let contexts = TlsContexts::load(&model, None, None).unwrap();
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
    let contexts =
        TlsContexts::load(&model(Some(files.files.clone()), MtlsMode::Strict, Vec::new()), None, None).unwrap();
    let json = serde_json::to_value(contexts.certificates()).unwrap();
    assert_eq!(json[0]["role"], "identity");
    assert_eq!(json[0]["uris"][0], WEB);
    assert_eq!(json[0]["notAfterTimestamp"], 67_090_118_400_i64);
    assert_eq!(json[1]["role"], "root");
    let text = json.to_string();
    assert!(!text.contains("PRIVATE") && leaf.key.lines().nth(1).is_some_and(|line| !text.contains(line)));
}

#[test]
fn a_reload_keeps_what_has_not_changed_and_replaces_what_has() {
    let ca = Ca::new("root");
    let leaf = ca.issue(|_| {});
    let files = Files::new(&leaf, &ca.pem);
    let site = || simple("api.example.com", Some(files.files.trust_bundle.clone()));
    let model = |tls| model(Some(files.files.clone()), MtlsMode::Strict, tls);
    let first = TlsContexts::load(&model(vec![mesh(WEB), mesh(WEB), site()]), None, None).unwrap();
    let server = |c: &TlsContexts| Arc::clone(c.server(MtlsMode::Strict, ListenerProtocol::Detect).unwrap());
    let client = |c: &TlsContexts, id| Arc::clone(c.client(UpstreamId(id)).unwrap());
    assert!(Arc::ptr_eq(&client(&first, 0), &client(&first, 1)), "the same settings share a context");
    let second = TlsContexts::load(&model(vec![site(), UpstreamTls::None, mesh(WEB)]), None, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&server(&first), &server(&second)));
    assert!(
        Arc::ptr_eq(&client(&first, 0), &client(&second, 2)) && Arc::ptr_eq(&client(&first, 2), &client(&second, 0))
    );
    // Another root in the bundle is another trust, on both sides.
    fs::write(&files.files.trust_bundle, ca.pem.clone() + &Ca::new("new").pem).unwrap();
    let third = TlsContexts::load(&model(vec![site(), UpstreamTls::None, mesh(WEB)]), None, Some(&second)).unwrap();
    assert!(!Arc::ptr_eq(&server(&second), &server(&third)));
    for id in [0, 2] {
        assert!(!Arc::ptr_eq(&client(&second, id), &client(&third, id)));
    }
    // What is in force is not given up for what has expired.
    let old = ca.issue(|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    fs::write(&files.files.certificate, &old.pem).unwrap();
    fs::write(&files.files.private_key, &old.key).unwrap();
    let fault = TlsContexts::load(&model(vec![]), None, Some(&third)).err().unwrap();
    assert!(fault[0].to_string().contains("expired at 2020"), "{fault:?}");
    let alone = TlsContexts::load(&model(vec![mesh(WEB)]), None, None).unwrap();
    assert!(alone.check(rustls::pki_types::UnixTime::now()).is_err() && alone.warnings().len() == 1);
}

#[test]
fn a_file_that_vanishes_does_not_keep_a_renewed_identity_out() {
    let api = outrigger_config::model::WorkloadApi { socket: Some("/run/agent.sock".into()), hint: None };
    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|_| {}), &ca.pem);
    let file = files.files.trust_bundle.clone();
    let mut model = model(None, MtlsMode::Strict, vec![mesh(WEB), simple("api.example.com", Some(file.clone()))]);
    model.proxy.identity = Some(IdentitySource::WorkloadApi(api));
    let (one, two) = (super::identity(&ca.issue(|_| {}), &ca.pem), super::identity(&ca.issue(|_| {}), &ca.pem));
    let first = TlsContexts::load(&model, Some(&one), None).unwrap();
    let site = |c: &TlsContexts| Arc::clone(c.client(UpstreamId(1)).unwrap());
    fs::remove_file(&file).unwrap();
    let second = TlsContexts::load_keeping(&model, Some(&two), Some(&first)).unwrap();
    assert!(Arc::ptr_eq(second.own().unwrap(), &two) && Arc::ptr_eq(&site(&first), &site(&second)));
    let third = TlsContexts::load_keeping(&model, Some(&one), Some(&second)).unwrap();
    assert!(Arc::ptr_eq(&site(&first), &site(&third)), "what was kept is kept again");
    // Who asks for a reload is told; and what was never read cannot be kept.
    for refused in
        [TlsContexts::load(&model, Some(&two), Some(&third)), TlsContexts::load_keeping(&model, Some(&two), None)]
    {
        let fault = refused.err().unwrap();
        assert!(fault[0].to_string().contains("cannot be read"), "{fault:?}");
    }
    fs::write(&file, Ca::new("new").pem).unwrap();
    let fourth = TlsContexts::load_keeping(&model, Some(&two), Some(&third)).unwrap();
    assert!(!Arc::ptr_eq(&site(&first), &site(&fourth)));
}

#[test]
fn an_identity_that_is_not_delivered_yet_lets_nothing_through_in_plaintext() {
    let api = outrigger_config::model::WorkloadApi { socket: Some("/run/agent.sock".into()), hint: None };
    let mut model = model(None, MtlsMode::Strict, vec![mesh(WEB)]);
    model.proxy.identity = Some(IdentitySource::WorkloadApi(api));
    let now = rustls::pki_types::UnixTime::now();
    let waiting = TlsContexts::load(&model, None, None).unwrap();
    let refusal = waiting.check(now).unwrap_err();
    assert_eq!(refusal.reason, crate::error::Reason::TlsCertificateError);
    assert!(refusal.details.contains("the Workload API at /run/agent.sock has delivered none"), "{refusal}");
    assert!(waiting.server(MtlsMode::Strict, ListenerProtocol::Detect).is_none());
    let client = waiting.client(UpstreamId(0)).expect("not plaintext");
    let refusal = client.connection(None, now).err().unwrap();
    assert_eq!(refusal.reason, crate::error::Reason::TlsCertificateError);
    // Delivered, and withdrawn.
    let ca = Ca::new("root");
    let delivered = super::identity(&ca.issue(|_| {}), &ca.pem);
    let there = TlsContexts::load(&model, Some(&delivered), Some(&waiting)).unwrap();
    assert!(there.check(now).is_ok() && there.client(UpstreamId(0)).unwrap().connection(None, now).is_ok());
    let gone = TlsContexts::load(&model, None, Some(&there)).unwrap();
    assert!(gone.check(now).is_err() && gone.client(UpstreamId(0)).unwrap().connection(None, now).is_err());
}
