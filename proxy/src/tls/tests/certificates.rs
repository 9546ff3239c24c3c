//! The table of crafted certificates: the valid ones pass on both sides, each other one is refused for
//! its own reason.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{Ca, uri};
use crate::tls::{
    SpiffeId, crypto_provider,
    spiffe::IdError,
    verify::{MeshClientVerifier, MeshServerVerifier, Signatures},
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Both verifiers of the trust domain `cluster.local`, the server's for `WEB`.
fn verifiers(ca: &Ca) -> (MeshServerVerifier, MeshClientVerifier) {
    let provider = crypto_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let signatures = Signatures(provider.signature_verification_algorithms);
    let web = SpiffeId::parse(WEB).unwrap();
    let server = MeshServerVerifier::new(Arc::clone(&roots), signatures, "cluster.local".into(), web);
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
    (server, MeshClientVerifier::new(chain, signatures, "cluster.local".into()))
}

/// What each side says of a certificate: nothing, or the words of its refusal.
fn judge(ca: &Ca, der: &CertificateDer<'_>) -> [Result<(), String>; 2] {
    let (server, client) = verifiers(ca);
    let name = ServerName::try_from("mesh.invalid").unwrap();
    let words = |e: Error| match e {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        other => other.to_string(),
    };
    [
        server.verify_server_cert(der, &[], &name, &[], UnixTime::now()).map(drop).map_err(words),
        client.verify_client_cert(der, &[], UnixTime::now()).map(drop).map_err(words),
    ]
}

fn sans(names: impl IntoIterator<Item = SanType>) -> impl FnOnce(&mut CertificateParams) {
    let names = names.into_iter().collect();
    move |params| params.subject_alt_names = names
}

fn id(text: &str) -> impl FnOnce(&mut CertificateParams) {
    sans([uri(text)])
}

fn usages<const N: usize>(usages: [KeyUsagePurpose; N]) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.key_usages = usages.into()
}

fn purposes<const N: usize>(purposes: [ExtendedKeyUsagePurpose; N]) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.extended_key_usages = purposes.into()
}

/// A key usage of `bits`, critical or not, written by hand.
fn raw_usage(bits: u8, critical: bool) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.key_usages.clear();
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, bits]);
        extension.set_criticality(critical);
        params.custom_extensions.push(extension);
    }
}

/// Subject alternative names of one URI, critical or not, written by hand: any bytes are possible.
fn raw_uri(text: &[u8]) -> impl FnOnce(&mut CertificateParams) {
    let mut der = vec![0x30, u8::try_from(text.len() + 2).unwrap(), 0x86, u8::try_from(text.len()).unwrap()];
    der.extend_from_slice(text);
    move |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], der));
    }
}

#[test]
fn valid_certificates_pass_on_both_sides() {
    let ca = Ca::new("root");
    let dns = SanType::DnsName("web.shop".try_into().unwrap());
    for leaf in [
        ca.issue(|_| {}),
        ca.issue(sans([dns, uri(WEB)])),
        ca.issue(purposes([])),
        ca.issue(|params| params.distinguished_name = DistinguishedName::new()),
        ca.issue(|params| params.is_ca = IsCa::ExplicitNoCa),
        ca.issue(usages([KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement])),
        ca.issue(raw_usage(0x80, true)),
    ] {
        assert_eq!(judge(&ca, &leaf.der), [Ok(()), Ok(())]);
    }
}

#[test]
fn crafted_certificates_are_refused_each_for_its_reason() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign};

    let ca = Ca::new("root");
    let stranger = Ca::new("root");
    let other = uri("spiffe://cluster.local/ns/shop/sa/other");
    let host = SanType::DnsName("cluster.local".try_into().unwrap());
    let mail = SanType::Rfc822Name("web@cluster.local".try_into().unwrap());
    let long = format!("spiffe://cluster.local/{}", "a".repeat(2048));
    let domain = format!("spiffe://{}/web", "a".repeat(256));
    let table = [
        ("no names", ca.issue(sans([])), "no URI"),
        ("a DNS name only", ca.issue(sans([host])), "no URI"),
        ("a mail address only", ca.issue(sans([mail])), "no URI"),
        ("two URIs", ca.issue(sans([uri(WEB), other])), "2 URIs"),
        ("the same URI twice", ca.issue(sans([uri(WEB), uri(WEB)])), "2 URIs"),
        ("a SPIFFE ID and a web address", ca.issue(sans([uri(WEB), uri("https://a")])), "2 URIs"),
        ("another scheme", ca.issue(id("https://cluster.local/ns/shop/sa/web")), "start with spiffe://"),
        ("a capital scheme", ca.issue(id("SPIFFE://cluster.local/ns/shop/sa/web")), "start with spiffe://"),
        ("no path", ca.issue(id("spiffe://cluster.local")), "no path"),
        ("the root path", ca.issue(id("spiffe://cluster.local/")), "no path"),
        ("a slash at the end", ca.issue(id("spiffe://cluster.local/ns/shop/sa/web/")), "empty segment"),
        ("an empty segment", ca.issue(id("spiffe://cluster.local/ns//sa/web")), "empty segment"),
        ("a dot segment", ca.issue(id("spiffe://cluster.local/ns/./sa/web")), "segment '.'"),
        ("two dots", ca.issue(id("spiffe://cluster.local/ns/x/../shop/sa/web")), "segment '.'"),
        ("percent-encoding", ca.issue(id("spiffe://cluster.local/ns/shop/sa/%77eb")), "path has a character"),
        ("a query", ca.issue(id("spiffe://cluster.local/ns/shop/sa/web?a=b")), "path has a character"),
        ("a fragment", ca.issue(id("spiffe://cluster.local/ns/shop/sa/web#a")), "path has a character"),
        ("a wildcard", ca.issue(id("spiffe://cluster.local/ns/shop/sa/*")), "path has a character"),
        ("NUL", ca.issue(raw_uri(b"spiffe://cluster.local/ns/shop/sa/web\0.evil")), "path has a character"),
        ("NUL at the end", ca.issue(raw_uri(b"spiffe://cluster.local/ns/shop/sa/web\0")), "path has a character"),
        ("not ASCII", ca.issue(raw_uri(b"spiffe://cluster.local/ns/shop/sa/w\xc3\xa9b")), ""),
        ("a port", ca.issue(id("spiffe://cluster.local:443/ns/shop/sa/web")), "trust domain has a character"),
        ("a user", ca.issue(id("spiffe://a@cluster.local/ns/shop/sa/web")), "trust domain has a character"),
        ("a capital trust domain", ca.issue(id("spiffe://Cluster.local/ns/shop/sa/web")), "trust domain has a"),
        ("no trust domain", ca.issue(id("spiffe:///ns/shop/sa/web")), "trust domain is empty"),
        ("a long trust domain", ca.issue(id(&domain)), "longer than 255"),
        ("too long", ca.issue(id(&long)), "longer than 2048"),
        ("another trust domain", ca.issue(id("spiffe://other.local/ns/shop/sa/web")), "not of the trust domain"),
        ("a longer trust domain", ca.issue(id("spiffe://cluster.local.evil/ns/shop/sa/web")), "not of the trust"),
        ("a subdomain", ca.issue(id("spiffe://a.cluster.local/ns/shop/sa/web")), "not of the trust domain"),
        ("a CA", ca.issue(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "certificate of a CA"),
        ("no key usage", ca.issue(usages([])), "no key usage"),
        ("a key usage that is not critical", ca.issue(raw_usage(0x80, false)), "not critical"),
        ("no digitalSignature", ca.issue(usages([KeyAgreement])), "lacks digitalSignature"),
        ("keyCertSign", ca.issue(usages([DigitalSignature, KeyCertSign])), "keyCertSign"),
        ("cRLSign", ca.issue(usages([DigitalSignature, CrlSign])), "cRLSign"),
        ("another purpose", ca.issue(purposes([CodeSigning])), "lacks serverAuth or clientAuth"),
        ("serverAuth alone", ca.issue(purposes([ServerAuth])), "lacks serverAuth or clientAuth"),
        ("clientAuth alone", ca.issue(purposes([ClientAuth])), "lacks serverAuth or clientAuth"),
        ("expired", ca.issue(|p| p.not_after = date_time_ymd(2020, 1, 1)), "expired"),
        ("not yet valid", ca.issue(|p| p.not_before = date_time_ymd(4000, 1, 1)), "not valid yet"),
        ("signed by a root of the same name", stranger.issue(|_| {}), ""),
    ];
    for (what, leaf, words) in table {
        for (side, verdict) in ["server", "client"].into_iter().zip(judge(&ca, &leaf.der)) {
            let refusal = verdict.expect_err(&format!("{what} passes as {side}"));
            assert!(refusal.contains(words), "{what} as {side}: {refusal}");
        }
    }
}

#[test]
fn a_server_must_be_the_one_expected_and_a_client_may_be_any() {
    let ca = Ca::new("root");
    for other in [
        "spiffe://cluster.local/ns/shop/sa/webx",
        "spiffe://cluster.local/ns/shop/sa/we",
        "spiffe://cluster.local/ns/shop/sa/Web",
    ] {
        let [as_server, as_client] = judge(&ca, &ca.issue_to(other).der);
        let words = as_server.unwrap_err();
        assert!(words.contains(other) && words.contains(WEB), "{words}");
        assert_eq!(as_client, Ok(()));
    }
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let ca = Ca::new("root");
    let good = ca.issue(|_| {}).der;
    for cut in 0..good.len() {
        let der = CertificateDer::from(&good[..cut]);
        assert!(judge(&ca, &der).iter().all(Result::is_err));
        assert!(crate::tls::spiffe::identity_of(&der).is_err());
    }
    for at in 0..good.len() {
        let mut der = good.to_vec();
        der[at] ^= 0x41;
        // The signature covers every byte but its own wrapping.
        assert!(judge(&ca, &CertificateDer::from(der)).iter().all(Result::is_err), "byte {at}");
    }
}

#[test]
fn ids_have_their_parts() {
    let web = SpiffeId::parse(WEB).unwrap();
    assert_eq!((web.trust_domain(), web.namespace(), web.as_str()), ("cluster.local", Some("shop"), WEB));
    assert_eq!(SpiffeId::parse("spiffe://a/b").unwrap().namespace(), None);
    assert_eq!(SpiffeId::parse("spiffe://a/ns/shop/sa/web/x").unwrap().namespace(), None);
    assert_eq!(SpiffeId::parse("spiffe://a/ns/shop").unwrap().namespace(), None);
    assert_eq!(SpiffeId::parse(""), Err(IdError::Scheme));
}
