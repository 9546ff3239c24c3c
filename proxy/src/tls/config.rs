//! The contexts that rustls works with.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer, kx_group},
    },
    pki_types::ServerName,
    server::WebPkiClientVerifier,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use super::{
    Alpn, Identity, SpiffeId,
    verify::{MeshClientVerifier, MeshServerVerifier},
};

/// Sessions kept for one upstream: its endpoints share a name, and a session is used once.
const CLIENT_SESSIONS: usize = 32;

/// The cryptography: aws-lc-rs, its hybrid post-quantum key exchange first.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// What [`Io::connect_tls`](crate::io::Io::connect_tls) needs for one upstream.
///
/// A server that is offered a choice by ALPN makes it, and which protocol a connection is for is known
/// before it is dialled; so exactly that one is offered, and none for bytes that are nobody's to look at.
/// The three share one store of sessions.
pub struct ClientContext {
    pub(crate) http2: Arc<ClientConfig>,
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) bytes: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
    pub(crate) identity: Option<SpiffeId>,
}

impl ClientContext {
    fn new(config: ClientConfig, name: ServerName<'static>, identity: Option<SpiffeId>) -> Self {
        let offering = |alpn: Alpn| {
            let mut config = config.clone();
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            Arc::new(config)
        };
        let (http2, http1) = (offering(Alpn::H2), offering(Alpn::Http1));
        Self { http2, http1, bytes: Arc::new(config), name, identity }
    }

    /// What a connection for this protocol is made with.
    pub(crate) fn offering(&self, protocol: Option<Alpn>) -> &Arc<ClientConfig> {
        match protocol {
            Some(Alpn::H2) => &self.http2,
            Some(Alpn::Http1) => &self.http1,
            None => &self.bytes,
        }
    }

    /// The identity that the server proves, under mesh TLS.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref()
    }
}

/// For listeners: TLS 1.3, and a client certificate of the trust domain or nothing.
pub(super) fn server_config(identity: &Identity, provider: &Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(&identity.roots), Arc::clone(provider))
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let verifier = MeshClientVerifier::new(chain, identity.id.trust_domain().into());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    config.alpn_protocols = [Alpn::H2, Alpn::Http1].map(|a| a.as_bytes().to_vec()).into();
    config.ticketer = Ticketer::new()?;
    // A peer keeps its connections; the second ticket that is usual is for browsers, which open six.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// For an upstream behind another proxy: the server must be `expected`, and sees our certificate.
pub(super) fn mesh_client(
    identity: &Identity,
    expected: SpiffeId,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientContext, Error> {
    let verifier = MeshServerVerifier::new(
        Arc::clone(&identity.roots),
        provider.signature_verification_algorithms,
        identity.id.trust_domain().into(),
        expected.clone(),
    );
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS);
    // The identity is what is checked; a name would only tell a listener on the path whom we call.
    config.enable_sni = false;
    // Names the sessions in the store of this context, which are all of the one identity.
    let name = ServerName::try_from("mesh.invalid").map_err(|e| Error::General(e.to_string()))?;
    Ok(ClientContext::new(config, name, Some(expected)))
}

/// For an upstream that is nobody's sidecar: its name, and the roots that may have signed it.
pub(super) fn simple_client(
    roots: Arc<RootCertStore>,
    name: ServerName<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientContext, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS);
    Ok(ClientContext::new(config, name, None))
}
