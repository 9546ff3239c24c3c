//! An identity that was issued over the network, and the TLS that asks for it.
//!
//! The control plane is authenticated by its SPIFFE ID, as any peer in the mesh is, and never by a host name: an
//! address may be anybody's.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
    version::TLS13,
};

use super::{
    CertificateInfo, Identity, Material, SecretKey, SpiffeId, crypto_provider,
    identity::{IdentityError, IdentityFault, store},
    verify::{MeshServerVerifier, Signatures},
};

/// Where `/certificates` says that they are from.
const SOURCE: &str = "control plane";

impl Identity {
    /// The identity of a chain (leaf first) and its key, with the roots to believe. `now` decides what has expired.
    ///
    /// # Errors
    /// What makes them useless.
    pub fn issued(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let material = Material {
            certificate: SOURCE.into(),
            private_key: SOURCE.into(),
            trust_bundle: SOURCE.into(),
            chain,
            key: SecretKey::new(key),
            bundle: roots.to_vec(),
        };
        Self::new(&material, &crypto_provider(), now)
    }

    /// The same certificate and key beside other roots.
    ///
    /// # Errors
    /// There is none, or one that is broken.
    pub fn with_roots(&self, roots: &[CertificateDer<'static>]) -> Result<Self, IdentityFault> {
        let own = self.certificates.iter().take(self.certified.cert.len()).cloned();
        let described = roots.iter().filter_map(|root| CertificateInfo::of(root, "root", SOURCE));
        Ok(Self {
            id: self.id.clone(),
            certified: Arc::clone(&self.certified),
            roots: Arc::new(store(roots)?),
            certificates: own.chain(described).collect(),
            bundle: roots.to_vec(),
            warnings: self.warnings.clone(),
        })
    }
}

/// TLS towards the control plane, which has to be `expected`; with our certificate, where we have one.
///
/// # Errors
/// No roots, or what rustls says.
pub fn control_plane_client(
    roots: &[CertificateDer<'static>],
    expected: &SpiffeId,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, IdentityFault> {
    let provider = crypto_provider();
    let config = client(store(roots)?, expected, identity, &provider);
    config.map(Arc::new).map_err(|e| IdentityFault::Key(e.to_string()))
}

/// A name that is none: it is never sent, and rustls wants one.
#[must_use]
pub fn nameless() -> ServerName<'static> {
    ServerName::try_from("mesh.invalid").expect("the constant is a host name")
}

fn client(
    roots: RootCertStore,
    expected: &SpiffeId,
    identity: Option<&Identity>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, Error> {
    let verifier = MeshServerVerifier::new(
        Arc::new(roots),
        Signatures(provider.signature_verification_algorithms),
        expected.trust_domain().into(),
        expected.clone(),
    );
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    Ok(config)
}
