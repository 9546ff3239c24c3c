use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use k8s_openapi::{
    ByteString,
    api::authentication::v1::{TokenReviewStatus, UserInfo},
};
use outrigger_config::{
    discovery::{IssueRequest, identity_server::Identity as _},
    identity::{POD_NAME_EXTRA, TOKEN_AUDIENCE},
    spiffe::identity_of,
};
use prometheus::{IntCounterVec, Opts};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::{Code, Request};

use super::*;
use crate::ca::{Authority, encode_certificates};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
const DAY: u64 = 86_400;
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn clock() -> u64 {
    NOW
}

fn secret(authority: &Authority, roots: &[&Authority]) -> BTreeMap<String, ByteString> {
    let pem = |of: &[&Authority]| ByteString(encode_certificates(of.iter().map(|a| a.certificate())).into_bytes());
    BTreeMap::from([
        ("tls.crt".to_owned(), pem(&[authority])),
        ("tls.key".to_owned(), ByteString(authority.key().to_pem().as_bytes().to_vec())),
        ("ca.crt".to_owned(), pem(roots)),
    ])
}

fn root() -> Authority {
    Authority::generate("cluster.local", 3650 * DAY, NOW).unwrap()
}

fn ca() -> Ca {
    let root = root();
    Ca::read("the Secret a/b", &secret(&root, &[&root]), None, "cluster.local", NOW).unwrap()
}

/// What an API server would say, and how often it was asked.
struct Fake {
    says: Result<TokenReviewStatus, ReviewError>,
    asked: AtomicUsize,
    token: Mutex<String>,
}

impl Reviewer for Fake {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        token.clone_into(&mut self.token.lock().unwrap());
        let says = self.says.clone();
        Box::pin(async move { says })
    }
}

fn review(user: &str, audiences: &[&str], pod: Option<&str>) -> TokenReviewStatus {
    let extra = pod.map(|pod| BTreeMap::from([(POD_NAME_EXTRA.to_owned(), vec![pod.to_owned()])]));
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(audiences.iter().map(|&a| a.to_owned()).collect()),
        error: None,
        user: Some(UserInfo { username: Some(user.to_owned()), extra, ..UserInfo::default() }),
    }
}

fn good_review() -> TokenReviewStatus {
    review("system:serviceaccount:shop:web", &[TOKEN_AUDIENCE], Some("web-1"))
}

struct Bench {
    service: IssueService,
    fake: Arc<Fake>,
    ca: CaWatch,
    outcomes: IntCounterVec,
    _state: watch::Sender<Arc<Ca>>,
}

fn bench(says: Result<TokenReviewStatus, ReviewError>) -> Bench {
    let (state, ca) = watch::channel(Arc::new(ca()));
    let fake = Arc::new(Fake { says, asked: AtomicUsize::new(0), token: Mutex::default() });
    let outcomes = IntCounterVec::new(Opts::new("outcomes", "For the test"), &["outcome"]).unwrap();
    let service = IssueService::new(Arc::clone(&fake) as Arc<dyn Reviewer>, ca.clone(), clock, outcomes.clone());
    Bench { service, fake, ca, outcomes, _state: state }
}

fn csr(id: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn ask(authorization: Option<&str>, csr: Vec<u8>, lifetime_seconds: u32) -> Request<IssueRequest> {
    let mut request = Request::new(IssueRequest { csr: csr.into(), lifetime_seconds });
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_good_token_gets_a_certificate_for_its_account() {
    for (asked, lifetime) in [(0, DAY), (60, 60), (u32::MAX, DAY)] {
        let bench = bench(Ok(good_review()));
        let answer = bench.service.issue(ask(Some("Bearer abc"), csr(WEB), asked)).await.unwrap().into_inner();
        assert_eq!(*bench.fake.token.lock().unwrap(), "abc");
        assert_eq!(identity_of(&answer.chain[0]).unwrap().as_str(), WEB);
        let (_, certificate) = x509_parser::parse_x509_certificate(&answer.chain[0]).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp() as u64, NOW + lifetime);
        let trust = answer.trust.unwrap();
        assert_eq!((&*trust.trust_domain, trust.roots.len()), ("cluster.local", 1));
        assert_eq!(bench.outcomes.with_label_values(&["signed"]).get(), 1);
    }
}

/// What it is, what the API server says, the authorization, the identity that is asked for, and the answer.
type Case<'a> = (&'a str, Result<TokenReviewStatus, ReviewError>, Option<&'a str>, &'a str, Code);

#[tokio::test]
async fn whoever_proves_too_little_gets_nothing_signed() {
    let refused = TokenReviewStatus {
        authenticated: Some(false),
        error: Some("token has expired".to_owned()),
        ..TokenReviewStatus::default()
    };
    let account = |name: &str| Ok(review(name, &[TOKEN_AUDIENCE], Some("web-1")));
    let web = "system:serviceaccount:shop:web";
    let mut unsure = good_review();
    unsure.authenticated = None;
    let table: [Case<'_>; 18] = [
        ("no token", Ok(good_review()), None, WEB, Code::Unauthenticated),
        ("another scheme", Ok(good_review()), Some("Basic abc"), WEB, Code::Unauthenticated),
        ("an empty token", Ok(good_review()), Some("Bearer "), WEB, Code::Unauthenticated),
        ("expired", Ok(refused), Some("Bearer t"), WEB, Code::Unauthenticated),
        ("no verdict", Ok(unsure), Some("Bearer t"), WEB, Code::Unauthenticated),
        ("nothing at all", Ok(TokenReviewStatus::default()), Some("Bearer t"), WEB, Code::Unauthenticated),
        ("another audience", Ok(review(web, &["vault"], Some("p"))), Some("Bearer t"), WEB, Code::Unauthenticated),
        ("no audience", Ok(review(web, &[], Some("p"))), Some("Bearer t"), WEB, Code::Unauthenticated),
        ("bound to no pod", Ok(review(web, &[TOKEN_AUDIENCE], None)), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("bound to \"\"", Ok(review(web, &[TOKEN_AUDIENCE], Some(""))), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("a person", account("alice"), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("a node", account("system:node:n1"), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("too many parts", account("system:serviceaccount:shop:web:x"), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("another account", account("system:serviceaccount:shop:db"), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("another namespace", account("system:serviceaccount:ops:web"), Some("Bearer t"), WEB, Code::PermissionDenied),
        ("a slash", account("system:serviceaccount:shop/sa/web:x"), Some("Bearer t"), WEB, Code::PermissionDenied),
        (
            "another trust domain",
            Ok(good_review()),
            Some("Bearer t"),
            "spiffe://other.local/ns/shop/sa/web",
            Code::PermissionDenied,
        ),
        ("no API server", Err(ReviewError("away".to_owned())), Some("Bearer t"), WEB, Code::Unavailable),
    ];
    for (what, says, authorization, id, code) in table {
        let bench = bench(says);
        let status = bench.service.issue(ask(authorization, csr(id), 0)).await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
        assert_eq!(bench.ca.borrow().authority.issued(), 0, "{what}: nothing is signed");
        assert_eq!(bench.outcomes.with_label_values(&["signed"]).get(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_bad_request_does_not_reach_the_api_server() {
    for csr in [Vec::new(), vec![0x30; 20_000], csr("https://a/b"), b"junk".to_vec()] {
        let bench = bench(Ok(good_review()));
        let status = bench.service.issue(ask(Some("Bearer t"), csr, 0)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(bench.fake.asked.load(Ordering::Relaxed), 0);
    }
    let bench = bench(Ok(good_review()));
    bench.service.issue(ask(None, csr(WEB), 0)).await.unwrap_err();
    assert_eq!(bench.fake.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_secret_is_read_and_its_faults_are_named() {
    let (a, b) = (root(), root());
    let read = |secret: &BTreeMap<String, ByteString>, extra: Option<&str>| {
        Ca::read("the Secret mesh/outrigger-ca", secret, extra, "cluster.local", NOW)
    };
    for key in ["tls.crt", "tls.key"] {
        let mut part = secret(&a, &[&a]);
        part.remove(key);
        let fault = read(&part, None).err().unwrap().to_string();
        assert_eq!(fault, format!("the Secret mesh/outrigger-ca, key {key}: is not there"));
    }
    let mut alone = secret(&a, &[&a]);
    alone.remove("ca.crt");
    assert_eq!(read(&alone, None).unwrap().bundle.roots(), [a.certificate().clone()], "a root vouches for itself");
    let mut mixed = secret(&a, &[&a]);
    mixed.insert("tls.key".to_owned(), ByteString(b.key().to_pem().as_bytes().to_vec()));
    assert!(read(&mixed, None).is_err());
    assert!(read(&secret(&a, &[&b]), None).is_err(), "its own root is not in ca.crt");
    assert!(read(&secret(&a, &[&a]), Some("junk")).is_err());
    let other = Authority::generate("other.local", DAY, NOW).unwrap();
    assert!(read(&secret(&other, &[&other]), None).is_err());
    let foreign = encode_certificates([other.certificate()]);
    let fault = read(&secret(&a, &[&a]), Some(&foreign)).err().unwrap().to_string();
    assert!(fault.contains("the root of spiffe://other.local is not of the trust domain cluster.local"), "{fault}");
}

#[test]
fn every_replica_makes_the_same_bundle_the_signing_root_first() {
    let (a, b, c) = (root(), root(), root());
    let pem = |of: &[&Authority]| encode_certificates(of.iter().map(|a| a.certificate()));
    let read = |roots: &[&Authority], extra: &[&Authority]| {
        let extra = pem(extra);
        Ca::read("s", &secret(&b, roots), Some(&extra), "cluster.local", NOW).unwrap().bundle
    };
    let bundle = read(&[&a, &b], &[&c, &a]);
    assert_eq!(bundle, read(&[&b], &[&a, &c]));
    assert_eq!(bundle.roots().len(), 3);
    assert_eq!(bundle.roots()[0], *b.certificate());
    assert_eq!(crate::ca::certificates_of(bundle.to_pem().as_bytes(), "").unwrap(), bundle.roots());
}

/// What a client with the roots of `bundle` makes of a handshake with our discovery port.
fn shake(serving: &serving::Serving, roots: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = "outrigger-control-plane.mesh.svc".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut server = rustls::ServerConnection::new(Arc::clone(&serving.discovery))?;
    for _ in 0..5 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(serving::peer(&server, "cluster.local").unwrap(), None);
    let leaf = client.peer_certificates().unwrap().first().unwrap();
    assert_eq!(identity_of(leaf).unwrap().as_str(), "spiffe://cluster.local/ns/mesh/sa/outrigger-control-plane");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn our_own_certificate_follows_the_ca_and_is_renewed() {
    // Valid now: rustls looks at the real clock.
    fn clock() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }
    let made = || {
        let root = Authority::generate("cluster.local", 3650 * DAY, clock()).unwrap();
        Arc::new(Ca::read("s", &secret(&root, &[&root]), None, "cluster.local", clock()).unwrap())
    };
    let (state, ca) = watch::channel(made());
    let names = serving::ServingNames::of_services("mesh", "cluster.local", &["outrigger-control-plane"]);
    let (mut current, renewal) = serving::keep(ca, names, clock).unwrap();
    let renewal = tokio::spawn(renewal);
    let first = Arc::clone(&current.borrow_and_update());
    let old = state.borrow().bundle.roots().to_vec();
    shake(&first, &old).unwrap();
    state.send_replace(made());
    current.changed().await.unwrap();
    let second = Arc::clone(&current.borrow_and_update());
    shake(&second, state.borrow().bundle.roots()).unwrap();
    assert!(shake(&second, &old).is_err(), "the new CA signed it");
    // The clock of the test jumps over two thirds of a day.
    current.changed().await.unwrap();
    let third = Arc::clone(&current.borrow_and_update());
    assert!(!Arc::ptr_eq(&third.discovery, &second.discovery));
    shake(&third, state.borrow().bundle.roots()).unwrap();
    drop(current);
    renewal.await.unwrap();
}
