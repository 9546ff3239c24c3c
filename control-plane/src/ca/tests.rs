use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use outrigger_config::spiffe::{SpiffeId, identity_of};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, DnsName};
use tempfile::TempDir;

use super::*;

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn init(dir: &Path) -> Store {
    Store::init(dir, "cluster.local", ROOT_LIFETIME, false, NOW).unwrap()
}

fn request<'a>(id: &'a SpiffeId, out: &'a Path) -> IssueRequest<'a> {
    IssueRequest { id, dns_names: &[], lifetime: 3600, out }
}

/// A CA of `params`, as other tools make them.
fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, PrivateKey) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKey::from_pem(key.serialize_pem().as_bytes(), "key").unwrap())
}

fn authority(change: impl FnOnce(&mut CertificateParams)) -> Result<Authority, CaError> {
    let (root, key) = foreign(change);
    Authority::new(std::slice::from_ref(&root), key, std::slice::from_ref(&root), Some("cluster.local"), NOW)
}

#[test]
fn a_ca_issues_identities_of_its_trust_domain() {
    let dir = TempDir::new().unwrap();
    let store = init(&dir.path().join("ca"));
    let out = dir.path().join("a/b");
    let issued = store.issue(&request(&id(WEB), &out), NOW).unwrap();
    assert_eq!(issued.not_after, NOW + 3600);
    assert_eq!(identity_of(&issued.chain[0]).unwrap(), id(WEB));
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("ca/ca.key"), mode("a/b/tls.key"), mode("ca"), mode("a/b")], [0o600, 0o600, 0o700, 0o700]);
    assert_eq!(mode("a/b/tls.crt"), 0o644);
    let files: Vec<_> = fs::read_dir(&out).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "no draft is left: {files:?}");
    let other = id("spiffe://other.local/ns/shop/sa/web");
    let refused = store.issue(&request(&other, &out), NOW).unwrap_err();
    assert!(refused.to_string().contains("spiffe://cluster.local/... would be right"), "{refused}");
    let web = id(WEB);
    let longer = IssueRequest { lifetime: ROOT_LIFETIME + 1, ..request(&web, &out) };
    assert!(matches!(store.issue(&longer, NOW), Err(CaError::Lifetime(_))));
}

#[test]
fn serials_and_keys_are_never_the_same() {
    let dir = TempDir::new().unwrap();
    let store = init(dir.path());
    let key = PrivateKey::generate().unwrap();
    let mut serials: Vec<_> = (0..50)
        .map(|_| {
            let issued = store.authority().issue(&id(WEB), &key, &[], 60, NOW).unwrap();
            let (_, certificate) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
            assert!(certificate.raw_serial()[0] < 0x80 && certificate.raw_serial().len() == 16);
            certificate.raw_serial().to_vec()
        })
        .collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 50);
}

#[test]
fn a_ca_that_is_there_is_kept() {
    let dir = TempDir::new().unwrap();
    init(dir.path());
    let before = fs::read(dir.path().join("ca.crt")).unwrap();
    let again = Store::init(dir.path(), "cluster.local", ROOT_LIFETIME, false, NOW);
    assert!(matches!(again, Err(CaError::Exists(_))));
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let again = Store::init(dir.path(), "cluster.local", ROOT_LIFETIME, false, NOW);
    assert!(matches!(again, Err(CaError::Exists(_))), "a key alone is a CA, too");
    Store::init(dir.path(), "cluster.local", ROOT_LIFETIME, true, NOW).unwrap();
    assert_ne!(fs::read(dir.path().join("ca.crt")).unwrap(), before);
    Store::open(dir.path(), NOW).unwrap();
}

#[test]
fn of_several_that_make_a_ca_at_once_one_does() {
    let dir = TempDir::new().unwrap();
    let made = std::thread::scope(|scope| {
        let make = || Store::init(dir.path(), "cluster.local", ROOT_LIFETIME, false, NOW).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
    Store::open(dir.path(), NOW).unwrap();
}

#[test]
fn an_expired_ca_signs_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::init(dir.path(), "cluster.local", 60, false, NOW).unwrap();
    assert!(Store::open(dir.path(), NOW + 60).is_ok());
    let refused = Store::open(dir.path(), NOW + 61).err().unwrap();
    assert!(refused.to_string().contains("expired at 2026-01-01T00:01:00Z"), "{refused}");
    assert!(store.authority().issue(&id(WEB), store.authority().key(), &[], 5, NOW + 61).is_err());
    let early = Store::open(dir.path(), NOW - 3600).err().unwrap();
    assert!(early.to_string().contains("is the clock right?"), "{early}");
    // What it signed before does not outlive it.
    let issued = store.authority().issue(&id(WEB), store.authority().key(), &[], 3600, NOW + 30).unwrap();
    assert_eq!(issued.not_after, NOW + 60);
}

#[test]
fn a_rotation_has_one_order() {
    let dir = TempDir::new().unwrap();
    let mut store = init(dir.path());
    let old = store.authority().certificate().clone();
    assert!(matches!(store.switch(NOW), Err(CaError::Stage(_))));
    assert!(matches!(store.finish(), Err(CaError::Stage(_))));
    store.prepare(ROOT_LIFETIME, NOW).unwrap();
    let mut store = Store::open(dir.path(), NOW).unwrap();
    assert_eq!(*store.authority().certificate(), old, "the old one signs");
    assert!(matches!(store.finish(), Err(CaError::Stage(_))));
    assert!(matches!(store.prepare(ROOT_LIFETIME, NOW), Err(CaError::Stage(_))));
    store.switch(NOW).unwrap();
    let mut store = Store::open(dir.path(), NOW).unwrap();
    let new = store.authority().certificate().clone();
    assert_ne!(new, old);
    let bundle = || certificates_of(&fs::read(dir.path().join("ca.crt")).unwrap(), "").unwrap();
    assert!(bundle().contains(&old) && bundle().contains(&new), "both are trusted");
    store.finish().unwrap();
    assert_eq!(bundle(), [new]);
    assert!(!dir.path().join("next.key").exists());
    Store::open(dir.path(), NOW).unwrap();
}

#[test]
fn cas_of_other_tools_serve_if_what_they_sign_is_believed() {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "DE");
    name.push(DnType::OrganizationName, "Shop");
    name.push(DnType::CommonName, "a CA");
    for ca in [
        authority(|_| {}),
        authority(|p| p.distinguished_name = name.clone()),
        authority(|p| p.subject_alt_names = vec![SanType::URI("spiffe://cluster.local".try_into().unwrap())]),
        authority(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
    ] {
        let ca = ca.unwrap();
        let issued = ca.issue(&id(WEB), ca.key(), &[], 60, NOW).unwrap();
        assert_eq!(issued.chain.len(), 1, "the root is not part of the chain");
    }
}

#[test]
fn cas_that_could_sign_nothing_of_use_are_refused() {
    let uri = |text: &str| vec![SanType::URI(text.try_into().unwrap())];
    let table: [(&str, Result<Authority, CaError>, &str); 7] = [
        ("no CA", authority(|p| p.is_ca = IsCa::ExplicitNoCa), "basic constraints"),
        ("may not sign", authority(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), "keyCertSign"),
        ("no key usage", authority(|p| p.key_usages = vec![]), "keyCertSign"),
        (
            "another trust domain",
            authority(|p| p.subject_alt_names = uri("spiffe://other")),
            "is not of the trust domain",
        ),
        ("an identity", authority(|p| p.subject_alt_names = uri("spiffe://cluster.local/a")), "has a path"),
        ("expired", authority(|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)), "expired"),
        (
            "names constrained",
            authority(|p| {
                p.name_constraints = Some(NameConstraints {
                    permitted_subtrees: vec![GeneralSubtree::DnsName("x".into())],
                    excluded_subtrees: vec![GeneralSubtree::DnsName("cluster.local".into())],
                });
            }),
            "",
        ),
    ];
    for (what, made, words) in table {
        match made {
            Err(e) => assert!(e.to_string().contains(words), "{what}: {e}"),
            // A constraint on DNS names alone says nothing of URIs.
            Ok(_) => assert_eq!(what, "names constrained"),
        }
    }
    let (root, _) = foreign(|_| {});
    let (_, other) = foreign(|_| {});
    let mismatch =
        Authority::new(std::slice::from_ref(&root), other, std::slice::from_ref(&root), Some("cluster.local"), NOW);
    assert!(matches!(mismatch, Err(CaError::KeyMismatch)));
    let (root, key) = foreign(|_| {});
    let (stranger, _) = foreign(|_| {});
    let unproven = Authority::new(&[root], key, &[stranger], Some("cluster.local"), NOW);
    assert!(matches!(unproven, Err(CaError::Unproven(_))), "its bundle does not hold its root");
}

#[test]
fn an_intermediate_sends_its_own_certificate_along() {
    let root_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "root");
    let root = params.self_signed(&root_key).unwrap().der().clone();
    let issuer = Issuer::new(params.clone(), root_key);
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKey::from_pem(key.serialize_pem().as_bytes(), "key").unwrap();
    let ca = Authority::new(&[own.clone(), root.clone()], key, &[root], Some("cluster.local"), NOW).unwrap();
    let issued = ca.issue(&id(WEB), ca.key(), &[], 60, NOW).unwrap();
    assert_eq!(issued.chain[1..], [own]);
}

fn csr(key: &KeyPair, names: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn requests_are_believed_no_more_than_they_prove() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let key = KeyPair::generate().unwrap();
    let good = csr(&key, vec![uri(WEB)]);
    let parsed = Csr::parse(&good).unwrap();
    assert_eq!(parsed.id, id(WEB));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(Csr::parse(&csr(&p384, vec![uri(WEB)])).is_ok());
    let dns = SanType::DnsName("web.shop".try_into().unwrap());
    assert!(Csr::parse(&csr(&key, vec![dns.clone(), uri(WEB)])).is_ok(), "other names decide nothing");
    let kinds = [&PKCS_ED25519, &PKCS_RSA_SHA256].map(|kind| KeyPair::generate_for(kind).unwrap());
    for odd in kinds {
        assert_eq!(Csr::parse(&csr(&odd, vec![uri(WEB)])).unwrap_err(), CsrError::KeyKind);
    }
    assert_eq!(Csr::parse(&csr(&key, vec![])).unwrap_err(), CsrError::Uris(0));
    assert_eq!(Csr::parse(&csr(&key, vec![dns])).unwrap_err(), CsrError::Uris(0));
    let two = csr(&key, vec![uri(WEB), uri("spiffe://cluster.local/ns/shop/sa/db")]);
    assert_eq!(Csr::parse(&two).unwrap_err(), CsrError::Uris(2));
    assert!(matches!(Csr::parse(&csr(&key, vec![uri("https://a")])), Err(CsrError::Id(_))));
    assert_eq!(Csr::parse(&[&good[..], b"x"].concat()).unwrap_err(), CsrError::Malformed);
    assert_eq!(Csr::parse(&vec![0x30; 100_000]).unwrap_err(), CsrError::TooLarge);
}

#[test]
fn no_altered_request_passes() {
    let key = KeyPair::generate().unwrap();
    let good = csr(&key, vec![SanType::URI(WEB.try_into().unwrap())]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x21;
        assert!(Csr::parse(&bad).is_err(), "byte {at}");
        assert!(Csr::parse(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn keys_are_described_and_never_shown() {
    let dir = TempDir::new().unwrap();
    let store = init(&dir.path().join("ca"));
    let names = [DnsName::try_from("web.shop").unwrap()];
    let out = dir.path().join("web");
    let web = id(WEB);
    let request = IssueRequest { dns_names: &names, ..request(&web, &out) };
    store.issue(&request, NOW).unwrap();
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    let key = read("tls.key");
    let text = [read("tls.crt"), read("ca.crt"), key.clone()].concat();
    let described = describe("file", &text, NOW).unwrap();
    let words = described.to_string();
    for part in [
        "certificate 1, the certificate of the workload spiffe://cluster.local/ns/shop/sa/web",
        "usable as SVID      yes",
        "valid for another 60 minutes",
        "signed by           certificate 2 of this file",
        "certificate 2, a root of the trust domain cluster.local",
        "identifies nobody",
        "a private key, ECDSA P-256, of certificate 1",
        "DNS name            web.shop",
    ] {
        assert!(words.contains(part), "{part}\n{words}");
    }
    let json = serde_json::to_string(&described).unwrap();
    let key = String::from_utf8(key).unwrap();
    for secret in key.lines().filter(|line| !line.starts_with("---")) {
        assert!(!words.contains(secret) && !json.contains(secret));
    }
    assert!(!described.is_broken());
    let later = describe("file", &text, NOW + 7200).unwrap().to_string();
    assert!(later.contains("EXPIRED 60 minutes ago") && later.contains("not now"), "{later}");
}

#[test]
fn what_cannot_be_described_is_said() {
    assert!(describe("f", b"", NOW).is_err());
    assert!(describe("f", b"hello", NOW).unwrap_err().contains("neither a certificate nor a key"));
    let broken = describe("f", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", NOW).unwrap();
    assert!(broken.is_broken());
    let broken = describe("f", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", NOW).unwrap();
    assert!(broken.is_broken() && broken.to_string().contains("cannot be used"));
}
