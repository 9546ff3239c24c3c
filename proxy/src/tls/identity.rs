//! The proxy's own identity, and the roots that it believes: three PEM files.
//!
//! What cannot work is an error that names its file: the proxy does not start, or keeps what it has.
//! What works and is probably not meant (a key that others can read, a certificate that its own bundle
//! does not vouch for) is a warning. The private key is wiped from memory where it was read; what stays
//! of it is within the crypto library, and nothing here prints it.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use outrigger_config::model::IdentityFiles;
use rustls::{
    Error as TlsError, InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    certificate::CertificateInfo,
    spiffe::{Refusal, SpiffeId, identity_of},
};

/// Largest PEM file that is read. A bundle of 200 roots is well below; a device or a log file is not.
const MAX_FILE: u64 = 1024 * 1024;

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
    /// Every certificate of the files: ours, its intermediates, the roots.
    pub certificates: Vec<CertificateInfo>,
}

/// Why an identity cannot be loaded.
#[derive(Debug, Error)]
#[error("{}: {fault}", .file.display())]
pub struct IdentityError {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: IdentityFault,
}

/// What is wrong with a file of an identity.
#[derive(Debug, Error)]
pub enum IdentityFault {
    /// Not there, not readable, a directory.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Over 1 MiB.
    #[error("is larger than {MAX_FILE} bytes, so it is no file of certificates")]
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
    /// It is over.
    #[error("the certificate of {id} expired at {at}")]
    Expired {
        /// Whose.
        id: String,
        /// When.
        at: String,
    },
}

impl Identity {
    /// Reads the three files. `now` decides what has expired.
    ///
    /// # Errors
    /// Everything that makes them useless, file by file.
    pub fn load(
        files: &IdentityFiles,
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<(Self, Vec<String>), Vec<IdentityError>> {
        let mut warnings = Vec::new();
        let leaf = chain_and_id(&files.certificate, now);
        let key = key(&files.private_key, &mut warnings);
        let roots = roots(&files.trust_bundle);
        let ((chain, id), key, (bundle, roots)) = match (leaf, key, roots) {
            (Ok(leaf), Ok(key), Ok(roots)) => (leaf, key, roots),
            (leaf, key, roots) => return Err([leaf.err(), key.err(), roots.err()].into_iter().flatten().collect()),
        };
        let certificates = describe(files, &chain, &bundle);
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
            let fault = match e {
                TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    IdentityFault::KeyMismatch { certificate: files.certificate.clone() }
                }
                e => IdentityFault::Key(e.to_string()),
            };
            vec![IdentityError { file: files.private_key.clone(), fault }]
        })?;
        let identity = Self { id, certified: Arc::new(certified), roots: Arc::new(roots), certificates };
        identity.doubts(files, provider, now, &mut warnings);
        Ok((identity, warnings))
    }

    /// The leaf.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.certificates.first()
    }

    /// What is usable, and will probably fail all the same.
    fn doubts(&self, files: &IdentityFiles, provider: &CryptoProvider, now: UnixTime, warnings: &mut Vec<String>) {
        let Some((leaf, intermediates)) = self.certified.cert.split_first() else { return };
        let algorithms = provider.signature_verification_algorithms.all;
        let chain = ParsedCertificate::try_from(leaf).and_then(|leaf| {
            verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)
        });
        if let Err(e) = chain {
            warnings.push(format!(
                "{}: peers with the trust bundle {} will refuse the certificate of {}: {e}",
                files.certificate.display(),
                files.trust_bundle.display(),
                self.id,
            ));
        }
        let Some(info) = self.certificate() else { return };
        let (start, end) = (info.not_before_timestamp, info.not_after_timestamp);
        let left = end - i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        // Renewal is due at two thirds of the lifetime: less than a sixth left means that it failed twice.
        if left < (end - start) / 6 {
            let file = files.certificate.display();
            warnings.push(format!("{file}: the certificate of {} expires soon, at {}", self.id, info.not_after));
        }
    }
}

/// Reads the certificates of a PEM file into a store of roots.
///
/// # Errors
/// The file is not there or has no certificate, or one that is broken.
pub(super) fn roots(file: &Path) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), IdentityError> {
    let at = |fault| IdentityError { file: file.to_owned(), fault };
    let bundle = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for (i, root) in bundle.iter().enumerate() {
        let added = roots.add(root.clone());
        added.map_err(|e| at(IdentityFault::Certificate { index: i + 1, why: e.to_string() }))?;
    }
    Ok((bundle, roots))
}

fn chain_and_id(file: &Path, now: UnixTime) -> Result<(Vec<CertificateDer<'static>>, SpiffeId), IdentityError> {
    let at = |fault| IdentityError { file: file.to_owned(), fault };
    let chain = certificates(file)?;
    for (i, certificate) in chain.iter().enumerate() {
        let parsed = ParsedCertificate::try_from(certificate);
        parsed.map_err(|e| at(IdentityFault::Certificate { index: i + 1, why: e.to_string() }))?;
    }
    let id = identity_of(&chain[0]).map_err(|e| at(e.into()))?;
    if let Some((end, words)) = super::certificate::end_of(&chain[0])
        && u64::try_from(end).is_ok_and(|end| end < now.as_secs())
    {
        return Err(at(IdentityFault::Expired { id: id.to_string(), at: words }));
    }
    Ok((chain, id))
}

/// At least one certificate.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let at = |fault| IdentityError { file: file.to_owned(), fault };
    let text = read(file).map_err(at)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let parsed = parsed.map_err(|e| at(IdentityFault::Pem(e.to_string())))?;
    if parsed.is_empty() { Err(at(IdentityFault::NoCertificate)) } else { Ok(parsed) }
}

fn key(file: &Path, warnings: &mut Vec<String>) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let at = |fault| IdentityError { file: file.to_owned(), fault };
    let text = read(file).map_err(at)?;
    // A file that is gone by now has been read all the same.
    if let Ok(meta) = fs::metadata(file)
        && meta.permissions().mode() & 0o077 != 0
    {
        let mode = meta.permissions().mode() & 0o777;
        warnings.push(format!("{}: the private key can be read by others (mode {mode:o})", file.display()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| {
        at(match e {
            pem::Error::NoItemsFound => IdentityFault::NoKey,
            e => IdentityFault::Pem(e.to_string()),
        })
    })
}

/// The file, wiped when dropped: it may hold a key, also where none belongs.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityFault> {
    let file = File::open(file)?;
    // Room for all of it: a vector that grows leaves copies behind.
    let room = file.metadata()?.len().min(MAX_FILE) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(IdentityFault::TooLarge) } else { Ok(text) }
}

fn describe(
    files: &IdentityFiles,
    chain: &[CertificateDer<'_>],
    bundle: &[CertificateDer<'_>],
) -> Vec<CertificateInfo> {
    let (own, trust) = (files.certificate.display().to_string(), files.trust_bundle.display().to_string());
    let chain = chain.iter().enumerate().filter_map(|(i, certificate)| {
        CertificateInfo::of(certificate, if i == 0 { "identity" } else { "intermediate" }, &*own)
    });
    let roots = bundle.iter().filter_map(|certificate| CertificateInfo::of(certificate, "root", &*trust));
    chain.chain(roots).collect()
}
