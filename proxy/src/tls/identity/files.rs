//! PEM files: certificates, a key, roots. What was read is wiped when it is done with, as it may hold a key.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use outrigger_config::model::IdentityFiles;
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use zeroize::Zeroizing;

use super::{IdentityError, IdentityFault, Material, SecretKey, Warning, error, identity_in, store};

/// Largest PEM file that is read. A bundle of 200 roots is well below; a device or a log file is not.
pub(super) const MAX_FILE: u64 = 1024 * 1024;

/// Reads the three files of an identity.
///
/// # Errors
/// Everything that makes them useless, file by file.
pub(super) fn read(files: &IdentityFiles) -> Result<(Material, Vec<Warning>), Vec<IdentityError>> {
    let chain = certificates(&files.certificate).and_then(|chain| {
        identity_in(&chain).map_err(|fault| error(&files.certificate, fault))?;
        Ok(chain)
    });
    let mut warnings = Vec::new();
    let key = key(&files.private_key, &mut warnings);
    let bundle = roots(&files.trust_bundle);
    match (chain, key, bundle) {
        (Ok(chain), Ok(key), Ok((bundle, _))) => {
            let material = Material {
                certificate: files.certificate.clone(),
                private_key: files.private_key.clone(),
                trust_bundle: files.trust_bundle.clone(),
                chain,
                key,
                bundle,
            };
            Ok((material, warnings))
        }
        (chain, key, bundle) => Err([chain.err(), key.err(), bundle.err()].into_iter().flatten().collect()),
    }
}

/// Reads the certificates of a PEM file, and makes a store of roots of them.
///
/// # Errors
/// The file is not there or has no certificate, or one that is broken.
pub(in crate::tls) fn roots(file: &Path) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), IdentityError> {
    let bundle = certificates(file)?;
    let roots = store(&bundle).map_err(|fault| error(file, fault))?;
    Ok((bundle, roots))
}

/// At least one certificate.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = text(file).map_err(|fault| error(file, fault))?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let parsed = parsed.map_err(|e| error(file, IdentityFault::Pem(e.to_string())))?;
    if parsed.is_empty() { Err(error(file, IdentityFault::NoCertificate)) } else { Ok(parsed) }
}

fn key(file: &Path, warnings: &mut Vec<Warning>) -> Result<SecretKey, IdentityError> {
    let text = text(file).map_err(|fault| error(file, fault))?;
    // A file that is gone by now has been read all the same.
    if let Ok(meta) = fs::metadata(file)
        && meta.permissions().mode() & 0o077 != 0
    {
        let (path, mode) = (file.display(), meta.permissions().mode() & 0o777);
        let message = format!(
            "the private key can be read by others (mode {mode:04o}); let only its owner read it: chmod 600 {path}"
        );
        warnings.push(Warning { file: file.to_owned(), message });
    }
    PrivateKeyDer::from_pem_slice(&text).map(SecretKey::new).map_err(|e| {
        let fault = match e {
            pem::Error::NoItemsFound => IdentityFault::NoKey,
            e => IdentityFault::Pem(e.to_string()),
        };
        error(file, fault)
    })
}

fn text(file: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityFault> {
    let file = File::open(file)?;
    // Room for all of it: a vector that grows leaves copies behind.
    let room = file.metadata()?.len().min(MAX_FILE) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(IdentityFault::TooLarge) } else { Ok(text) }
}
