//! Who is believed between proxies: a chain to the bundle, and an identity by the rules of SPIFFE.
//!
//! Signatures, times, path and key purposes are webpki's to check, through rustls; what an X.509-SVID
//! must be on top of that is [`spiffe`](super::spiffe)'s. A server must have the one identity that the
//! upstream's policy names; a client may have any of the bundle's trust domain, and access policies
//! decide what it may do. TLS 1.2 is not spoken here, so its signatures are refused.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    proven::Proven,
    spiffe::{Refusal, SpiffeId, identity_of},
};

/// The signatures of handshakes that both verifiers take: one list, so that what a client may sign with a server may
/// too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signatures(pub(super) WebPkiSupportedAlgorithms);

impl Signatures {
    fn of_tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between proxies".into()))
    }

    fn verify(
        self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn schemes(self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Believes the one server that is expected.
#[derive(Debug)]
pub(super) struct MeshServerVerifier {
    roots: Arc<RootCertStore>,
    signatures: Signatures,
    trust_domain: Arc<str>,
    expected: SpiffeId,
    proven: Proven,
}

impl MeshServerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        signatures: Signatures,
        trust_domain: Arc<str>,
        expected: SpiffeId,
    ) -> Self {
        Self { roots, signatures, trust_domain, expected, proven: Proven::default() }
    }
}

impl ServerCertVerifier for MeshServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.proven.or_verify(end_entity, intermediates, now, || {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.signatures.0.all)
                .map_err(|e| in_our_words(e, end_entity))
        })?;
        let found = identity_within(end_entity, &self.trust_domain).map_err(refuse)?;
        if found != self.expected {
            let (found, expected) = (found.to_string(), self.expected.to_string());
            return Err(refuse(Refusal::Identity { found, expected }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Signatures::of_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// Believes every client of the trust domain; `chain` checks the path.
#[derive(Debug)]
pub(super) struct MeshClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    signatures: Signatures,
    trust_domain: Arc<str>,
    proven: Proven,
}

impl MeshClientVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, signatures: Signatures, trust_domain: Arc<str>) -> Self {
        Self { chain, signatures, trust_domain, proven: Proven::default() }
    }
}

impl ClientCertVerifier for MeshClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every client has one certificate; a list of roots would only make the handshake longer.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.proven.or_verify(end_entity, intermediates, now, || {
            let verified = self.chain.verify_client_cert(end_entity, intermediates, now);
            verified.map(drop).map_err(|e| in_our_words(e, end_entity))
        })?;
        identity_within(end_entity, &self.trust_domain).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Signatures::of_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

fn identity_within(der: &[u8], trust_domain: &str) -> Result<SpiffeId, Refusal> {
    let id = identity_of(der)?;
    if id.trust_domain() == trust_domain {
        Ok(id)
    } else {
        Err(Refusal::TrustDomain { id: id.to_string(), expected: trust_domain.to_owned() })
    }
}

/// webpki sees some of what makes a certificate no SVID first, and has no words for people.
fn in_our_words(error: Error, der: &[u8]) -> Error {
    match error {
        Error::InvalidCertificate(
            CertificateError::Other(_)
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. },
        ) => identity_of(der).err().map_or(error, refuse),
        other => other,
    }
}

fn refuse(refusal: Refusal) -> Error {
    Error::InvalidCertificate(match refusal {
        Refusal::Malformed => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
