//! The CA and the roots that proxies trust, as a Secret and a ConfigMap state them.
//!
//! The Secret has cert-manager's layout: `tls.crt` (the CA's certificate, then intermediates), `tls.key`, `ca.crt` (its root). Both
//! `ca.crt` and the ConfigMap may hold several roots: that is what a rotation needs.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::ByteString;
use outrigger_config::discovery::TrustBundle;
use rustls_pki_types::CertificateDer;

use crate::ca::{Authority, CaError, PrivateKey, certificates_of, check_root, encode_certificates};

/// The CA's certificate.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(super) const KEY: &str = "tls.key";
/// Its root, and others.
pub(super) const ROOTS: &str = "ca.crt";

/// Roots of one bundle. A rotation needs two; every proxy keeps all of them, and every ConfigMap holds them.
const MAX_ROOTS: usize = 32;

/// A CA that can sign, and whom to trust.
pub struct Ca {
    /// Who signs.
    pub authority: Authority,
    /// Whom proxies trust, the one who signs included.
    pub bundle: Bundle,
}

/// Roots of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: Arc<str>,
    /// The signing root first, the others in order of their bytes: every replica publishes the same text.
    roots: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// Reads a Secret, and roots of elsewhere in PEM. `what` names the Secret in errors.
    ///
    /// # Errors
    /// What is missing or wrong; a CA whose certificates its own roots would refuse is of that.
    pub fn read(
        what: &str,
        secret: &BTreeMap<String, ByteString>,
        extra: Option<&str>,
        trust_domain: &str,
        now: u64,
    ) -> Result<Self, CaError> {
        let at = |key: &str| format!("{what}, key {key}");
        let part = |key: &str| {
            let missing = || CaError::Pem { what: at(key), why: "is not there".to_owned() };
            secret.get(key).map(|bytes| &bytes.0[..]).ok_or_else(missing)
        };
        let chain = certificates_of(part(CERTIFICATE)?, &at(CERTIFICATE))?;
        let key = PrivateKey::from_pem(part(KEY)?, &at(KEY))?;
        let mut roots = match secret.get(ROOTS).filter(|text| !text.0.is_empty()) {
            Some(text) => certificates_of(&text.0, &at(ROOTS))?,
            // A CA that signed itself is its own root; the last of a chain is what is nearest to one.
            None => chain.last().cloned().into_iter().collect(),
        };
        if let Some(text) = extra.filter(|text| !text.trim().is_empty()) {
            roots.extend(certificates_of(text.as_bytes(), "the ConfigMap of additional roots, key ca.crt")?);
        }
        roots.iter().try_for_each(|root| check_root(root, trust_domain))?;
        let authority = Authority::new(&chain, key, &roots, Some(trust_domain), now)?;
        let first = authority.certificate().clone();
        let bundle = Bundle::new(trust_domain, roots, &first)?;
        Ok(Self { authority, bundle })
    }
}

impl Bundle {
    fn new(
        trust_domain: &str,
        mut roots: Vec<CertificateDer<'static>>,
        first: &CertificateDer<'_>,
    ) -> Result<Self, CaError> {
        roots.sort_by(|a, b| (a != first, &a[..]).cmp(&(b != first, &b[..])));
        roots.dedup();
        if roots.len() > MAX_ROOTS {
            let why = format!("{} roots are too many: at most {MAX_ROOTS}", roots.len());
            return Err(CaError::Pem { what: "the trust bundle".to_owned(), why });
        }
        Ok(Self { trust_domain: trust_domain.into(), roots })
    }

    /// Whom they stand for.
    #[must_use]
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.trust_domain
    }

    /// The signing root first.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// For files and ConfigMaps.
    #[must_use]
    pub fn to_pem(&self) -> String {
        encode_certificates(&self.roots)
    }

    /// For proxies.
    #[must_use]
    pub fn to_message(&self) -> TrustBundle {
        let roots = self.roots.iter().map(|root| root.to_vec().into()).collect();
        TrustBundle { trust_domain: self.trust_domain.to_string(), roots }
    }
}
