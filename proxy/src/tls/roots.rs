//! Roots for `simple` upstreams: of files, and the operating system's. Read once for all upstreams, and kept over reloads
//! that do not change them.
//!
//! Who writes a configuration is told that a file cannot be read. Where there is nobody to tell, because a certificate was
//! renewed or the control plane sends something else, the roots that were read before stay: a file that vanishes must
//! not take the identity with it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use outrigger_config::{Fault, Origin};
use rustls::{RootCertStore, pki_types::CertificateDer};

use super::{
    contexts::{error, file_origin},
    identity,
};

/// Roots for `simple` upstreams, read once for each file.
#[derive(Default)]
pub(super) struct Roots {
    files: HashMap<PathBuf, Read>,
    system: Option<Arc<RootCertStore>>,
    /// What cannot be read now is as it was before.
    keeps: bool,
}

/// What was read of a file.
#[derive(Clone)]
struct Read {
    bundle: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    /// It was read before, and could not be read the last time.
    stale: bool,
}

impl Roots {
    /// Roots that stay as they were where their file cannot be read.
    pub(super) fn keeping() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    /// The roots in `file`, or the system's, if they have been asked for.
    pub(super) fn known(&self, file: Option<&Path>) -> Option<&Arc<RootCertStore>> {
        match file {
            Some(file) => self.files.get(file).map(|read| &read.roots),
            None => self.system.as_ref(),
        }
    }

    /// The roots in `file`, or the system's: those of `old` if they have not changed.
    ///
    /// # Errors
    /// There are none, or they cannot be read, and none of before may be kept.
    pub(super) fn of(
        &mut self,
        file: Option<&Path>,
        origin: &Origin,
        old: Option<&Self>,
    ) -> Result<Arc<RootCertStore>, Fault> {
        if let Some(roots) = self.known(file) {
            return Ok(Arc::clone(roots));
        }
        let Some(file) = file else {
            let roots = match old.and_then(|old| old.system.as_ref()) {
                Some(roots) => Arc::clone(roots),
                None => Arc::new(system(origin)?),
            };
            self.system = Some(Arc::clone(&roots));
            return Ok(roots);
        };
        let before = old.and_then(|old| old.files.get(file));
        let read = match identity::roots(file) {
            Ok((bundle, store)) => {
                let same = before.filter(|before| before.bundle == bundle);
                let roots = same.map_or_else(|| Arc::new(store), |before| Arc::clone(&before.roots));
                Read { bundle, roots, stale: false }
            }
            Err(e) => {
                let kept = before.filter(|_| self.keeps);
                let kept = kept.ok_or_else(|| match &origin.path {
                    // A document without a file is what its author knows, and what the control plane tells him the fault of.
                    Some(_) => error(origin.clone(), format!("tls.ca {}: {}", e.file.display(), e.fault)),
                    None => error(file_origin(&e.file), e.fault.to_string()),
                })?;
                if !kept.stale {
                    tracing::warn!("{}: {}; the roots that were read before stay", e.file.display(), e.fault);
                }
                Read { stale: true, ..kept.clone() }
            }
        };
        let roots = Arc::clone(&read.roots);
        self.files.insert(file.to_owned(), read);
        Ok(roots)
    }
}

/// The roots of the operating system, read once in the life of the proxy.
fn system(origin: &Origin) -> Result<RootCertStore, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system has odd certificates among its roots; the others serve.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
        let message = format!("tls.ca is not set, and the system has no root certificates{why}");
        return Err(error(origin.clone(), message));
    }
    Ok(roots)
}
