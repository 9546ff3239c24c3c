//! What a file of certificates and keys is, for people.
//!
//! Of a private key it says that it is one, of which kind, and whose; never anything of the key itself. Everything else
//! that is in a certificate is public.

mod certificate;
pub(super) mod words;

use std::fmt;

use rcgen::PublicKeyData as _;
use rustls_pki_types::{
    CertificateDer,
    pem::{PemObject as _, SectionKind},
};
use serde::Serialize;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::{Csr, PrivateKey, pem::encode_secret};
pub use certificate::CertificateWords;

/// What is in one file.
#[derive(Debug, Serialize)]
pub struct Description {
    /// Its name.
    pub file: String,
    /// What is in it, in order.
    pub sections: Vec<Section>,
}

/// One thing of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Section {
    /// A certificate.
    Certificate(Box<CertificateWords>),
    /// A private key.
    #[serde(rename_all = "camelCase")]
    PrivateKey {
        /// `ECDSA P-256`, or why it cannot be used.
        key: String,
        /// Number of the certificate of this file that it belongs to, from 1.
        belongs_to: Option<usize>,
        /// SHA-256 of the public key, by which it can be found.
        public_key_sha256: Option<String>,
    },
    /// A certificate signing request.
    Request {
        /// What it asks for, or what is wrong with it.
        words: String,
    },
    /// Something else in PEM, or a certificate that cannot be parsed.
    Other {
        /// What it is.
        words: String,
        /// Is it a fault?
        broken: bool,
    },
}

impl Description {
    /// Its certificates, in order.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateWords> {
        self.sections.iter().filter_map(|s| if let Section::Certificate(words) = s { Some(&**words) } else { None })
    }

    /// Is there something that cannot be read?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.sections.iter().any(|s| matches!(s, Section::Other { broken: true, .. }))
    }
}

/// Describes the text of a file: PEM, or one certificate in DER. `now` is in seconds since 1970.
///
/// # Errors
/// What is wrong with it as a whole.
pub fn describe(file: &str, text: &[u8], now: u64) -> Result<Description, String> {
    // A certificate in DER is a sequence with a length of two bytes; PEM has nothing like it.
    if text.starts_with(&[0x30, 0x82]) {
        return Ok(Description { file: file.to_owned(), sections: vec![CertificateWords::section(text, &[], now)] });
    }
    let mut parts = Vec::new();
    for part in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = part.map_err(|e| format!("{file}: is no valid PEM: {e}"))?;
        parts.push((kind, Zeroizing::new(der)));
    }
    if parts.is_empty() {
        return Err(format!("{file}: has neither a certificate nor a key, in PEM or DER"));
    }
    let certificates: Vec<CertificateDer<'_>> = parts
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(&der[..]))
        .collect();
    let sections = parts.iter().map(|(kind, der)| section(*kind, der, &certificates, now)).collect();
    Ok(Description { file: file.to_owned(), sections })
}

fn section(kind: SectionKind, der: &[u8], certificates: &[CertificateDer<'_>], now: u64) -> Section {
    let other = |words: &str| Section::Other { words: words.to_owned(), broken: false };
    match kind {
        SectionKind::Certificate => CertificateWords::section(der, certificates, now),
        SectionKind::PrivateKey => private_key("PRIVATE KEY", der, certificates),
        SectionKind::EcPrivateKey => private_key("EC PRIVATE KEY", der, certificates),
        SectionKind::RsaPrivateKey => private_key("RSA PRIVATE KEY", der, certificates),
        SectionKind::Csr => request(der),
        SectionKind::PublicKey => other("a public key"),
        SectionKind::Crl => other("a certificate revocation list; the mesh uses none: certificates are short-lived"),
        _ => other("something else"),
    }
}

fn private_key(label: &str, der: &[u8], certificates: &[CertificateDer<'_>]) -> Section {
    let Ok(key) = PrivateKey::from_pem(encode_secret(label, der).as_bytes(), "") else {
        return Section::Other { words: "a private key that cannot be used".to_owned(), broken: true };
    };
    let matches = |certificate: &CertificateDer<'_>| {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, c)| *c.public_key().subject_public_key.data == *key.der_bytes())
    };
    Section::PrivateKey {
        key: words::key(&key.subject_public_key_info()),
        belongs_to: certificates.iter().position(matches).map(|i| i + 1),
        public_key_sha256: Some(words::sha256(&key.subject_public_key_info())),
    }
}

fn request(der: &[u8]) -> Section {
    let words = match Csr::parse(der) {
        Ok(csr) => format!("a certificate signing request for {}", csr.id),
        Err(e) => format!("a certificate signing request that would be refused: {e}"),
    };
    Section::Request { words }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut certificates = 0;
        for (i, section) in self.sections.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: ", self.file)?;
            match section {
                Section::Certificate(words) => {
                    certificates += 1;
                    write!(f, "certificate {certificates}, {words}")?;
                }
                Section::PrivateKey { key, belongs_to, public_key_sha256 } => {
                    let whose = belongs_to.map_or_else(String::new, |n| format!(", of certificate {n}"));
                    writeln!(f, "a private key, {key}{whose}")?;
                    if let Some(sha256) = public_key_sha256 {
                        writeln!(f, "  public key SHA-256  {sha256}")?;
                    }
                }
                Section::Request { words } | Section::Other { words, .. } => writeln!(f, "{words}")?,
            }
        }
        Ok(())
    }
}
