//! The contexts that rustls works with.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer, kx_group},
    },
    pki_types::{ServerName, UnixTime},
    server::WebPkiClientVerifier,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use super::{
    Alpn, Identity, SpiffeId,
    verify::{MeshClientVerifier, MeshServerVerifier, Signatures},
};
use crate::error::{Failure, Reason};

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
/// before it is dialled; so exactly that one is offered. In the mesh its own name comes first, which says that this is
/// mesh TLS, and the registered name after it is for servers that are no proxy of ours. For bytes that are nobody's to
/// look at there is no registered name, and without a mesh nothing is offered.
pub struct ClientContext {
    configs: Result<Configs, String>,
    name: ServerName<'static>,
    /// The identity that the server has to prove, under mesh TLS.
    expected: Option<SpiffeId>,
    /// Our own, which must not have expired.
    own: Option<Arc<Identity>>,
}

/// One for each protocol; they share one store of sessions.
struct Configs {
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl ClientContext {
    fn new(config: &ClientConfig, name: ServerName<'static>, mesh: Option<(SpiffeId, Arc<Identity>)>) -> Self {
        let offering = |alpn: Alpn| {
            let mut config = config.clone();
            let ours = mesh.is_some().then(|| alpn.mesh());
            config.alpn_protocols = ours.into_iter().chain(alpn.registered()).map(<[u8]>::to_vec).collect();
            Arc::new(config)
        };
        let [http2, http1, bytes] = Alpn::ALL.map(offering);
        let (expected, own) = mesh.unzip();
        Self { configs: Ok(Configs { http2, http1, bytes }), name, expected, own }
    }

    /// One of any configuration, for tests of what it must not be.
    #[cfg(test)]
    pub(crate) fn of(config: &ClientConfig, name: ServerName<'static>) -> Self {
        Self::new(config, name, None)
    }

    /// The same with an identity that counts as good, for tests of what the other side says.
    #[cfg(test)]
    pub(crate) fn unchecked(self) -> Self {
        Self { own: None, ..self }
    }

    /// One for mesh TLS while there is no identity of our own: nothing can be dialled, least of all in plaintext.
    pub(super) fn without(why: String, expected: SpiffeId) -> Self {
        Self { configs: Err(why), name: mesh_name(), expected: Some(expected), own: None }
    }

    /// A connection that is about to be made, for this protocol.
    ///
    /// # Errors
    /// Our own certificate is not there or has expired: no peer would take it.
    pub(crate) fn connection(&self, speaks: Option<Alpn>, now: UnixTime) -> Result<ClientConnection, Failure> {
        let configs = self.configs.as_ref();
        let configs = configs.map_err(|why| Failure::new(Reason::TlsCertificateError, why.clone()))?;
        if let Some(own) = &self.own {
            own.check(now)?;
        }
        let config = match speaks {
            Some(Alpn::H2) => &configs.http2,
            Some(Alpn::Http1) => &configs.http1,
            Some(Alpn::Tcp) | None => &configs.bytes,
        };
        let made = ClientConnection::new(Arc::clone(config), self.name.clone());
        made.map_err(|e| Failure::new(Reason::ProxyInternalError, format!("no TLS session could be made: {e}")))
    }

    /// The identity that the server has to prove, under mesh TLS.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.expected.as_ref()
    }
}

/// Names the sessions in the store of one context, which are all of the one identity.
fn mesh_name() -> ServerName<'static> {
    ServerName::try_from("mesh.invalid").expect("the constant is a host name")
}

/// For listeners: TLS 1.3, and a client certificate of the trust domain or nothing.
pub(super) fn server_config(identity: &Identity, provider: &Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(&identity.roots), Arc::clone(provider))
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let signatures = Signatures(provider.signature_verification_algorithms);
    let verifier = MeshClientVerifier::new(chain, signatures, identity.id.trust_domain().into());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    let (ours, registered) = (Alpn::ALL.map(Alpn::mesh), Alpn::ALL.into_iter().filter_map(Alpn::registered));
    config.alpn_protocols = ours.into_iter().chain(registered).map(<[u8]>::to_vec).collect();
    config.ticketer = Ticketer::new()?;
    // A peer keeps its connections; the second ticket that is usual is for browsers, which open six.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// For an upstream behind another proxy: the server must be `expected`, and sees our certificate.
pub(super) fn mesh_client(
    identity: &Arc<Identity>,
    expected: SpiffeId,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientContext, Error> {
    let verifier = MeshServerVerifier::new(
        Arc::clone(&identity.roots),
        Signatures(provider.signature_verification_algorithms),
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
    Ok(ClientContext::new(&config, mesh_name(), Some((expected, Arc::clone(identity)))))
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
    Ok(ClientContext::new(&config, name, None))
}
