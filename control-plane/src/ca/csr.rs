//! Certificate signing requests (PKCS #10, RFC 2986): what of one is believed.
//!
//! Its signature, which shows that the asker has the key; the key, if of a kind that is signed for; and the one URI. Subject and
//! other extensions decide nothing: what a certificate has is for the CA to say.

use outrigger_config::spiffe::{IdError, SpiffeId};
use rcgen::SubjectPublicKeyInfo;
use thiserror::Error;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
    x509::SubjectPublicKeyInfo as ParsedKey,
};

/// Largest request, in bytes. One with a SPIFFE ID of 2,048 bytes has fewer than 3,000.
const MAX_CSR: usize = 8 * 1024;

/// A request that is what it says.
#[derive(Debug)]
pub struct Csr {
    /// Whom it is for, by its own word.
    pub id: SpiffeId,
    /// The key to sign for.
    pub key: SubjectPublicKeyInfo,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CsrError {
    /// Over 8 KiB.
    #[error("the certificate signing request is larger than {MAX_CSR} bytes")]
    TooLarge,
    /// Not DER, or more than one thing.
    #[error("the certificate signing request cannot be parsed (PKCS #10 in DER is right)")]
    Malformed,
    /// Whoever asks does not have the key.
    #[error("the signature of the certificate signing request is wrong")]
    Signature,
    /// RSA, among others.
    #[error("keys of this kind are not signed for: ECDSA on P-256 or P-384 is right")]
    KeyKind,
    /// No URI, or several.
    #[error("the certificate signing request has {0} URIs in its subject alternative names; exactly one is right")]
    Uris(usize),
    /// The URI is no SPIFFE ID.
    #[error("the URI of the certificate signing request is no SPIFFE ID: {0}")]
    Id(#[from] IdError),
}

impl Csr {
    /// Reads and verifies a request in DER.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::TooLarge);
        }
        let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let key = public_key(&csr.certification_request_info.subject_pki)?;
        csr.verify_signature().map_err(|_| CsrError::Signature)?;
        let id = SpiffeId::parse(uri(&csr)?)?;
        Ok(Self { id, key })
    }
}

/// Before the signature, so that an odd kind of key is named and costs nothing.
fn public_key(parsed: &ParsedKey<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    // id-ecPublicKey with secp256r1 or secp384r1 (RFC 5480 2.1.1).
    const EC: &str = "1.2.840.10045.2.1";
    const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];
    let curve = parsed.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    let known = curve.is_some_and(|curve| CURVES.contains(&curve.as_str()));
    if parsed.algorithm.algorithm.to_id_string() != EC || !known {
        return Err(CsrError::KeyKind);
    }
    SubjectPublicKeyInfo::from_der(parsed.raw).map_err(|_| CsrError::KeyKind)
}

/// The one URI of all its extension requests: a second list of names does not hide behind the first.
fn uri<'a>(csr: &'a X509CertificationRequest<'a>) -> Result<&'a str, CsrError> {
    use x509_parser::cri_attributes::ParsedCriAttribute;
    let mut uris = Vec::new();
    for attribute in csr.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else { continue };
        for extension in &request.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    uris.extend(san.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => Some(*uri),
                        _ => None,
                    }));
                }
                ParsedExtension::ParseError { .. } => return Err(CsrError::Malformed),
                _ => {}
            }
        }
    }
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(CsrError::Uris(uris.len())),
    }
}
