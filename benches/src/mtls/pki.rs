//! A CA and two identities for the comparison, made anew each time.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

/// The identity of servers.
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/bench/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/bench/sa/client";

/// Where the PEM files are.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) server: [PathBuf; 2],
    /// Certificate and key in one, as HAProxy wants it.
    pub(super) server_both: PathBuf,
    pub(super) client: [PathBuf; 2],
    /// Of a CA that nobody knows.
    pub(super) stranger: [PathBuf; 2],
}

/// Writes them to `work`.
pub(super) fn write(work: &Path) -> Result<Files> {
    let (issuer, pem) = authority()?;
    let ca = put(work, "ca.crt", &pem)?;
    let (server, both) = leaf(work, "server", SERVER, &issuer)?;
    let (client, _) = leaf(work, "client", CLIENT, &issuer)?;
    let (stranger, _) = leaf(work, "stranger", CLIENT, &authority()?.0)?;
    let server_both = put(work, "server.pem", &both)?;
    Ok(Files { ca, server, server_both, client, stranger })
}

/// A CA, and its certificate as PEM.
fn authority() -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

/// Certificate and key, and both in one.
fn leaf(work: &Path, name: &str, id: &str, issuer: &Issuer<'_, KeyPair>) -> Result<([PathBuf; 2], String)> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into()?), SanType::DnsName("localhost".try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
    let key = KeyPair::generate()?;
    let (certificate, key) = (params.signed_by(&key, issuer)?.pem(), key.serialize_pem());
    let files = [put(work, &format!("{name}.crt"), &certificate)?, put(work, &format!("{name}.key"), &key)?];
    Ok((files, certificate + &key))
}

fn put(work: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = work.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}
