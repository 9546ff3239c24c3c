//! The proxy's own identity: a certificate with its key, and the roots that it believes.
//!
//! [`Material`] is what a source delivers: three PEM files (`files`), an agent, the control plane. It becomes
//! an [`Identity`] whole or not at all; what cannot work is an error that names where it is from. What works and is
//! probably not meant (a key that others can read, a certificate that its own bundle does not vouch for) is a
//! warning. So is a certificate that has expired: a proxy that did not start for it would take plaintext down with
//! it; handshakes fail instead ([`Identity::check`]).
//!
//! The private key is wiped from memory where it was read; what stays of it is within the crypto library, and
//! nothing here prints it.

mod files;

use std::{path::PathBuf, sync::Arc};

use outrigger_config::model::IdentityFiles;
use rustls::{
    Error as TlsError, InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, aws_lc_rs::sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use thiserror::Error;
use zeroize::Zeroize;

use super::{
    certificate::CertificateInfo,
    spiffe::{Refusal, SpiffeId, identity_of},
};
use crate::error::{Failure, Reason};
pub(super) use files::roots;

/// A certificate with its key, and the bundle of roots.
///
/// Has no `Debug`: it holds a key.
pub struct Identity {
    /// Who we are.
    pub id: SpiffeId,
    /// Chain and key, as rustls wants them.
    pub(super) certified: Arc<CertifiedKey>,
    /// The bundle.
    pub(super) roots: Arc<RootCertStore>,
    /// Every certificate: ours, its intermediates, the roots.
    pub certificates: Vec<CertificateInfo>,
    pub(super) bundle: Vec<CertificateDer<'static>>,
    /// What works and is probably not meant.
    pub warnings: Vec<Warning>,
}

/// Something about an identity that works and is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, or the source, that it is about.
    pub file: PathBuf,
    /// In words.
    pub message: String,
}

/// What a source of identities delivers. The three places are files, or all of them the one source, for people.
pub struct Material {
    /// Where the chain is from.
    pub certificate: PathBuf,
    /// Where the key is from.
    pub private_key: PathBuf,
    /// Where the bundle is from.
    pub trust_bundle: PathBuf,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub key: SecretKey,
    /// One or more roots.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// A private key that is wiped when dropped. Has no `Debug`.
pub struct SecretKey(PrivateKeyDer<'static>);

impl SecretKey {
    /// Takes a key over; no copy may stay with the caller.
    #[must_use]
    pub fn new(key: PrivateKeyDer<'static>) -> Self {
        Self(key)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why an identity cannot be used.
#[derive(Debug, Error)]
#[error("{}: {fault}", .file.display())]
pub struct IdentityError {
    /// Which file, or which source.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: IdentityFault,
}

/// What is wrong with a part of an identity.
#[derive(Debug, Error)]
pub enum IdentityFault {
    /// Not there, not readable, a directory.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Over 1 MiB.
    #[error("is larger than {} bytes, so it is no file of certificates", files::MAX_FILE)]
    TooLarge,
    /// Broken armour or base64.
    #[error("is no valid PEM: {0}")]
    Pem(String),
    /// Other sections, or none.
    #[error("has no section -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// Other sections, or none. Encrypted keys are of these too.
    #[error("has no private key in PEM (PKCS#8, SEC1 or PKCS#1, not encrypted)")]
    NoKey,
    /// A certificate that is none.
    #[error("certificate {index} cannot be parsed: {why}")]
    Certificate {
        /// From 1.
        index: usize,
        /// What the parser said.
        why: String,
    },
    /// An algorithm or a form that the crypto library does not take.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// They are of two pairs.
    #[error("the private key does not belong to the certificate in {}", .certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// No X.509-SVID.
    #[error("the certificate is no SPIFFE identity: {0}")]
    NotSvid(#[from] Refusal),
}

impl Identity {
    /// Reads three files. `now` decides what has expired.
    ///
    /// # Errors
    /// Everything that makes them useless, file by file.
    pub fn load(files: &IdentityFiles, provider: &CryptoProvider, now: UnixTime) -> Result<Self, Vec<IdentityError>> {
        let (material, warnings) = files::read(files)?;
        let mut identity = Self::new(&material, provider, now).map_err(|e| vec![e])?;
        identity.warnings.splice(..0, warnings);
        Ok(identity)
    }

    /// Makes one of what a source has delivered.
    ///
    /// # Errors
    /// What makes it useless: no SVID, a key of another pair, a broken root.
    pub fn new(material: &Material, provider: &CryptoProvider, now: UnixTime) -> Result<Self, IdentityError> {
        let id = identity_in(&material.chain).map_err(|fault| error(&material.certificate, fault))?;
        let roots = store(&material.bundle).map_err(|fault| error(&material.trust_bundle, fault))?;
        let certified = certify(material).map_err(|fault| error(&material.private_key, fault))?;
        let mut identity = Self {
            id,
            certified: Arc::new(certified),
            roots: Arc::new(roots),
            certificates: describe(material),
            bundle: material.bundle.clone(),
            warnings: Vec::new(),
        };
        identity.warnings = identity.doubts(material, provider, now);
        Ok(identity)
    }

    /// The leaf.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.certificates.first()
    }

    /// May it be shown to peers at this time?
    ///
    /// # Errors
    /// It has expired: whose certificate, and where it is from.
    pub fn check(&self, now: UnixTime) -> Result<(), Failure> {
        let Some(own) = self.certificate().filter(|own| has_ended(own, now)) else { return Ok(()) };
        let details = format!(
            "our own certificate of {}, from {}, expired at {}: it has to be renewed",
            self.id, own.file, own.not_after
        );
        Err(Failure::new(Reason::TlsCertificateError, details))
    }

    /// When whoever renews it should do so, in seconds since 1970: at two thirds of its life.
    #[must_use]
    pub fn renewal(&self) -> Option<i64> {
        let own = self.certificate()?;
        Some(own.not_after_timestamp - (own.not_after_timestamp - own.not_before_timestamp) / 3)
    }

    /// True if it is the same certificate under the same roots: what was made from one serves the other.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
            && self.bundle == other.bundle
            && self.certificates == other.certificates
    }

    /// What is usable, and will probably fail all the same.
    fn doubts(&self, material: &Material, provider: &CryptoProvider, now: UnixTime) -> Vec<Warning> {
        let about = |message| Warning { file: material.certificate.clone(), message };
        let Some((leaf, intermediates)) = self.certified.cert.split_first() else { return Vec::new() };
        if let Err(expired) = self.check(now) {
            return vec![about(expired.details.to_string())];
        }
        let mut warnings = Vec::new();
        let algorithms = provider.signature_verification_algorithms.all;
        let chain = ParsedCertificate::try_from(leaf).and_then(|leaf| {
            verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)
        });
        if let Err(e) = chain {
            let bundle = material.trust_bundle.display();
            let id = &self.id;
            warnings
                .push(about(format!("peers with the trust bundle {bundle} will refuse the certificate of {id}: {e}")));
        }
        let (Some(info), Some(due)) = (self.certificate(), self.renewal()) else { return warnings };
        // Renewal is due at two thirds of the lifetime: less than a sixth left means that it failed twice.
        let late = due + (info.not_after_timestamp - due) / 2;
        if seconds(now) > late {
            warnings.push(about(format!("the certificate of {} expires soon, at {}", self.id, info.not_after)));
        }
        warnings
    }
}

/// True once the certificate's time is over.
pub(super) fn has_ended(certificate: &CertificateInfo, now: UnixTime) -> bool {
    certificate.not_after_timestamp < seconds(now)
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn error(file: &std::path::Path, fault: IdentityFault) -> IdentityError {
    IdentityError { file: file.to_owned(), fault }
}

/// The identity of a chain whose certificates can all be parsed.
fn identity_in(chain: &[CertificateDer<'static>]) -> Result<SpiffeId, IdentityFault> {
    for (i, certificate) in chain.iter().enumerate() {
        let parsed = ParsedCertificate::try_from(certificate);
        parsed.map_err(|e| IdentityFault::Certificate { index: i + 1, why: e.to_string() })?;
    }
    Ok(identity_of(chain.first().ok_or(IdentityFault::NoCertificate)?)?)
}

/// A store of roots.
pub(super) fn store(bundle: &[CertificateDer<'static>]) -> Result<RootCertStore, IdentityFault> {
    if bundle.is_empty() {
        return Err(IdentityFault::NoCertificate);
    }
    let mut roots = RootCertStore::empty();
    for (i, root) in bundle.iter().enumerate() {
        let added = roots.add(root.clone());
        added.map_err(|e| IdentityFault::Certificate { index: i + 1, why: e.to_string() })?;
    }
    Ok(roots)
}

/// Chain and key together. The key is lent to the crypto library, not given away, so that it can be wiped.
fn certify(material: &Material) -> Result<CertifiedKey, IdentityFault> {
    let key = any_supported_type(&material.key.0).map_err(|e| IdentityFault::Key(e.to_string()))?;
    let certified = CertifiedKey::new(material.chain.clone(), key);
    match certified.keys_match() {
        // A key that does not tell its public half is found out by the first handshake.
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(IdentityFault::KeyMismatch { certificate: material.certificate.clone() })
        }
        Err(e) => Err(IdentityFault::Key(e.to_string())),
    }
}

fn describe(material: &Material) -> Vec<CertificateInfo> {
    let (own, trust) = (material.certificate.display().to_string(), material.trust_bundle.display().to_string());
    let chain = material.chain.iter().enumerate().filter_map(|(i, certificate)| {
        CertificateInfo::of(certificate, if i == 0 { "identity" } else { "intermediate" }, &*own)
    });
    let roots = material.bundle.iter().filter_map(|certificate| CertificateInfo::of(certificate, "root", &*trust));
    chain.chain(roots).collect()
}
