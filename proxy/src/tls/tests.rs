//! A small PKI for tests, and what of TLS needs no socket.

mod certificates;
mod contexts;
mod files;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use outrigger_config::model::IdentityFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tempfile::TempDir;

use super::{ClientContext, Identity, SpiffeId, config, crypto_provider, identity::Warning};

/// A root, and what it signs.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate of a workload, as it should be but for what `edit` does.
    pub(crate) fn issue(&self, edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://cluster.local/ns/shop/sa/web")];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { pem: certificate.pem(), der: certificate.into(), key: key.serialize_pem() }
    }

    pub(crate) fn issue_to(&self, id: &str) -> Leaf {
        self.issue(|params| params.subject_alt_names = vec![uri(id)])
    }
}

pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: String,
}

pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// Files of an identity; gone with it.
pub(crate) struct Files {
    _dir: TempDir,
    pub(crate) files: IdentityFiles,
}

impl Files {
    pub(crate) fn new(leaf: &Leaf, bundle: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let put = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let files = IdentityFiles {
            certificate: put("tls.crt", &leaf.pem),
            private_key: put("tls.key", &leaf.key),
            trust_bundle: put("ca.crt", bundle),
        };
        Self { _dir: dir, files }
    }

    pub(crate) fn load(&self) -> Result<(Identity, Vec<String>), String> {
        self.load_at(UnixTime::now())
    }

    pub(crate) fn load_at(&self, now: UnixTime) -> Result<(Identity, Vec<String>), String> {
        let loaded = Identity::load(&self.files, &crypto_provider(), now);
        let loaded = loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        loaded.map(|identity| {
            let said = |w: &Warning| format!("{}: {}", w.file.display(), w.message);
            let warnings = identity.warnings.iter().map(said).collect();
            (identity, warnings)
        })
    }
}

pub(crate) fn identity(leaf: &Leaf, bundle: &str) -> Arc<Identity> {
    Arc::new(Files::new(leaf, bundle).load().unwrap().0)
}

pub(crate) fn server(identity: &Identity) -> Arc<ServerConfig> {
    config::server_config(identity, &crypto_provider()).unwrap()
}

pub(crate) fn mesh_client(identity: &Arc<Identity>, expected: &str) -> ClientContext {
    let expected = SpiffeId::parse(expected).unwrap();
    config::mesh_client(identity, expected, &crypto_provider()).unwrap()
}

pub(crate) fn simple_client(roots: RootCertStore, name: ServerName<'static>) -> ClientContext {
    config::simple_client(Arc::new(roots), name, &crypto_provider()).unwrap()
}
