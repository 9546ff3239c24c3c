//! SPIFFE IDs, and the rules that a certificate must obey to be an X.509-SVID.
//!
//! Everything is compared whole and exactly: there is no prefix, suffix or wildcard match, and no
//! normalisation that could make two spellings one. The rules here come on top of path validation,
//! which rustls does; they are those of the SPIFFE standards "SPIFFE-ID" and "X509-SVID".
//! They are here and not in the proxy, because who issues certificates and who believes them must have one opinion.

use std::{fmt, sync::Arc};

use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// Longest SPIFFE ID, in bytes (SPIFFE-ID 2.3 asks for support of so many, and to make no longer ones).
const MAX_ID: usize = 2048;

/// Longest trust domain name, in bytes (SPIFFE-ID 2.3: that of a host in a URI).
const MAX_TRUST_DOMAIN: usize = 255;

/// A workload's identity: `spiffe://TRUST_DOMAIN/PATH`, with a path that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    id: Arc<str>,
    /// Where the path begins, with its slash.
    path: usize,
}

/// Why a text is no SPIFFE ID of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// Over 2,048 bytes.
    #[error("it is longer than {MAX_ID} bytes")]
    TooLong,
    /// Another scheme, or capital letters in it.
    #[error("it does not start with spiffe://")]
    Scheme,
    /// None, or over 255 bytes.
    #[error("its trust domain is empty or longer than {MAX_TRUST_DOMAIN} bytes")]
    TrustDomainLength,
    /// User info, port and capital letters are of these too.
    #[error("its trust domain has a character other than a-z, 0-9, '.', '-' and '_'")]
    TrustDomainCharacter,
    /// The ID of a trust domain, not of a workload.
    #[error("it has no path, so it names a trust domain and not a workload")]
    NoPath,
    /// `//`, or a slash at the end.
    #[error("its path has an empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("its path has a segment '.' or '..'")]
    DotSegment,
    /// Query, fragment and percent-encoding are of these too.
    #[error("its path has a character other than a-z, A-Z, 0-9, '.', '-' and '_'")]
    PathCharacter,
}

impl SpiffeId {
    /// Parses the ID of a workload.
    ///
    /// # Errors
    /// It isn't one.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        const SCHEME: &str = "spiffe://";
        if text.len() > MAX_ID {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(d, p)| (d, Some(p)));
        check_trust_domain(domain)?;
        let path = path.filter(|path| !path.is_empty()).ok_or(IdError::NoPath)?;
        for segment in path.split('/') {
            match segment {
                "" => return Err(IdError::EmptySegment),
                "." | ".." => return Err(IdError::DotSegment),
                _ if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) => {
                    return Err(IdError::PathCharacter);
                }
                _ => {}
            }
        }
        Ok(Self { id: text.into(), path: SCHEME.len() + domain.len() })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The whole ID, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// The trust domain, without the scheme.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.id["spiffe://".len()..self.path]
    }

    /// The namespace, of an ID of the form `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let mut segments = self.id[self.path + 1..].split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(_), None) => Some(namespace),
            _ => None,
        }
    }
}

/// Is this the name of a trust domain (SPIFFE-ID 2.1)?
///
/// # Errors
/// Why not.
pub fn check_trust_domain(name: &str) -> Result<(), IdError> {
    if name.is_empty() || name.len() > MAX_TRUST_DOMAIN {
        return Err(IdError::TrustDomainLength);
    }
    if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) {
        return Err(IdError::TrustDomainCharacter);
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Why a certificate proves no identity, or not the right one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not DER, or an extension of it isn't, or is there twice.
    #[error("it cannot be parsed")]
    Malformed,
    /// It has no URI SAN.
    #[error("it has no URI in its subject alternative names, so it names no SPIFFE ID")]
    NoUri,
    /// X509-SVID 2: exactly one.
    #[error("it has {0} URIs in its subject alternative names; a SPIFFE certificate has exactly one")]
    ManyUris(usize),
    /// The URI is no SPIFFE ID.
    #[error("its URI {uri:?} is no SPIFFE ID of a workload: {why}")]
    BadId {
        /// As the certificate has it, cut at 100 characters.
        uri: String,
        /// What is wrong with it.
        why: IdError,
    },
    /// RFC 5280 4.2.1.6.
    #[error("its subject is empty, and its subject alternative names are not critical")]
    SanNotCritical,
    /// X509-SVID 4.1.
    #[error("it is the certificate of a CA, which signs and identifies nobody")]
    Ca,
    /// X509-SVID 4.3.
    #[error("it has no key usage, or a key usage that is not critical")]
    NoKeyUsage,
    /// X509-SVID 4.3.
    #[error("its key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// X509-SVID 4.3 and 5.2.
    #[error("its key usage has keyCertSign or cRLSign, which belong to a CA")]
    SigningKeyUsage,
    /// X509-SVID 4.4: both, if there is any.
    #[error("its extended key usage lacks serverAuth or clientAuth")]
    ExtendedKeyUsage,
    /// Its issuer speaks for one trust domain.
    #[error("it is for {id}, which is not of the trust domain {expected:?} that the bundle stands for")]
    TrustDomain {
        /// What it says.
        id: String,
        /// Ours.
        expected: String,
    },
    /// It is valid, and somebody else's.
    #[error("it is for {found}, and {expected} is expected")]
    Identity {
        /// What it says.
        found: String,
        /// What the upstream's policy says.
        expected: String,
    },
    /// It has expired since the session was made that it is resumed from.
    #[error("it expired at {0}")]
    Expired(String),
}

/// The identity that a leaf certificate states, if it obeys the rules of an X.509-SVID.
///
/// # Errors
/// The rule that it breaks. That its signatures and times are good is for path validation to say.
pub fn identity_of(der: &[u8]) -> Result<SpiffeId, Refusal> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::Malformed)?;
    if !rest.is_empty() || certificate.extensions_map().is_err() {
        return Err(Refusal::Malformed);
    }
    // An extension that its parser does not take must not look like one that isn't there.
    if certificate.extensions().iter().any(|e| matches!(e.parsed_extension(), ParsedExtension::ParseError { .. })) {
        return Err(Refusal::Malformed);
    }
    let id = uri_san(&certificate)?;
    check_usage(&certificate)?;
    Ok(id)
}

fn uri_san(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Refusal> {
    let san = certificate.subject_alternative_name().map_err(|_| Refusal::Malformed)?.ok_or(Refusal::NoUri)?;
    let mut uris = san.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or(Refusal::NoUri)?;
    match uris.count() {
        0 => {}
        more => return Err(Refusal::ManyUris(more + 1)),
    }
    if certificate.subject().iter().next().is_none() && !san.critical {
        return Err(Refusal::SanNotCritical);
    }
    SpiffeId::parse(uri).map_err(|why| Refusal::BadId { uri: uri.chars().take(100).collect(), why })
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let constraints = certificate.basic_constraints().map_err(|_| Refusal::Malformed)?;
    if constraints.is_some_and(|c| c.value.ca) {
        return Err(Refusal::Ca);
    }
    let usage = certificate.key_usage().map_err(|_| Refusal::Malformed)?;
    let usage = usage.filter(|u| u.critical).ok_or(Refusal::NoKeyUsage)?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(Refusal::SigningKeyUsage);
    }
    if !usage.digital_signature() {
        return Err(Refusal::NoDigitalSignature);
    }
    let extended = certificate.extended_key_usage().map_err(|_| Refusal::Malformed)?;
    if extended.is_some_and(|e| !(e.value.server_auth && e.value.client_auth)) {
        return Err(Refusal::ExtendedKeyUsage);
    }
    Ok(())
}
