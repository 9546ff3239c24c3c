//! Identity files that cannot be used, each with the words that say which and why.

use std::{fs, os::unix::fs::PermissionsExt};

use rcgen::{KeyPair, date_time_ymd};

use super::{Ca, Files};

#[test]
fn a_good_identity_loads_in_silence_and_describes_itself() {
    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|_| {}), &(Ca::new("old").pem + &ca.pem));
    let (identity, warnings) = files.load().unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(identity.id.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
    let roles: Vec<_> = identity.certificates.iter().map(|c| c.role).collect();
    assert_eq!(roles, ["identity", "root", "root"]);
    let own = identity.certificate().unwrap();
    assert_eq!((&*own.uris[0], &*own.not_after, own.ca), (identity.id.as_str(), "4096-01-01T00:00:00Z", false));
}

#[test]
fn each_broken_file_is_named() {
    let ca = Ca::new("root");
    let good = Files::new(&ca.issue(|_| {}), &ca.pem);
    let other = KeyPair::generate().unwrap().serialize_pem();
    let leaf = ca.issue(|_| {});
    for (file, text, words) in [
        ("tls.crt", "", "tls.crt: has no section -----BEGIN CERTIFICATE-----"),
        ("tls.crt", &other, "tls.crt: has no section"),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "tls.crt: is no valid PEM"),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n", "tls.crt: is no valid PEM"),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "tls.crt: certificate 1 cannot"),
        ("tls.crt", &ca.pem, "tls.crt: the certificate is no SPIFFE identity"),
        ("tls.crt", &leaf.pem, "tls.key: the private key does not belong to the certificate in"),
        ("tls.key", "", "tls.key: has no private key"),
        ("tls.key", &ca.pem, "tls.key: has no private key"),
        (
            "tls.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "tls.key: the private key cannot",
        ),
        ("tls.key", &other, "tls.key: the private key does not belong to the certificate in"),
        ("ca.crt", "", "ca.crt: has no section"),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.crt: certificate 1 cannot"),
    ] {
        let path = good.files.certificate.with_file_name(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, text).unwrap();
        let error = good.load().err().unwrap();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
        fs::write(&path, before).unwrap();
    }
    good.load().unwrap();
}

#[test]
fn missing_huge_and_expired_files_are_named() {
    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|p| p.not_after = date_time_ymd(2020, 1, 1)), &ca.pem);
    fs::remove_file(&files.files.private_key).unwrap();
    fs::write(&files.files.trust_bundle, vec![b'a'; 1024 * 1024 + 1]).unwrap();
    let error = files.load().err().unwrap();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[0].contains("tls.key: cannot be read"));
    assert!(lines[1].contains("ca.crt: is larger than"));
    // What has expired can be loaded, so that the proxy starts, and says so; it is never shown to a peer.
    let files = Files::new(&ca.issue(|p| p.not_after = date_time_ymd(2020, 1, 1)), &ca.pem);
    let (identity, warnings) = files.load().unwrap();
    let words = "tls.crt, expired at 2020-01-01T00:00:00Z";
    assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
    let refusal = identity.check(rustls::pki_types::UnixTime::now()).unwrap_err();
    assert_eq!(refusal.reason, crate::error::Reason::TlsCertificateError);
    assert!(refusal.details.contains(words) && refusal.details.contains("spiffe://cluster.local/ns/shop/sa/web"));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let ca = Ca::new("root");
    let files = Files::new(&ca.issue(|_| {}), &Ca::new("stranger").pem);
    fs::set_permissions(&files.files.private_key, fs::Permissions::from_mode(0o640)).unwrap();
    let (_, warnings) = files.load().unwrap();
    let path = files.files.private_key.display();
    let words = format!("can be read by others (mode 0640); let only its owner read it: chmod 600 {path}");
    assert!(warnings[0].contains(&words), "{warnings:?}");
    assert!(
        warnings[1].contains("will refuse the certificate of spiffe://cluster.local/ns/shop/sa/web"),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn sec1_and_pkcs1_keys_are_taken() {
    // The crypto library's own tests cover the algorithms; here it is the PEM labels that count.
    for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"] {
        let ca = Ca::new("root");
        let mut leaf = ca.issue(|_| {});
        leaf.key = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let error = Files::new(&leaf, &ca.pem).load().err().unwrap();
        assert!(error.contains("the private key cannot be used"), "{label}: {error}");
    }
}
