//! The control plane's own certificate, from the CA that it keeps: for the discovery port and for the webhook.
//!
//! Made anew at two thirds of its life, and at once when the CA or the roots change. Connections that are there go on; new ones get
//! the new contexts. No session is ever resumed: a peer's certificate is looked at in every handshake.

use std::{sync::Arc, time::Duration};

use outrigger_config::{
    identity::{MAX_LIFETIME_SECONDS, control_plane},
    spiffe::{Refusal, SpiffeId, identity_of},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::DnsName;
use tokio::sync::watch;

use super::{Ca, CaWatch};
use crate::ca::{CaError, Issued, PrivateKey};

/// Before a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What servers of the control plane accept connections with.
#[derive(Clone)]
pub struct Serving {
    /// TLS 1.3, HTTP/2. A client may show a certificate of the mesh, and [`peer`] says whose.
    pub discovery: Arc<ServerConfig>,
    /// TLS 1.2 and 1.3, no client certificate: the API server authenticates nobody here, and is authenticated by nothing
    /// but the network; the webhook answers the same to everyone.
    pub webhook: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    pub not_after: u64,
}

/// Who the certificate is for.
#[derive(Debug, Clone)]
pub struct ServingNames {
    /// The control plane's namespace.
    pub namespace: String,
    /// DNS names by which it is called: `outrigger-control-plane.NAMESPACE.svc` and the like.
    pub dns_names: Vec<DnsName<'static>>,
}

impl ServingNames {
    /// Names of the Services `services` of `namespace`, in the forms in which they are called.
    #[must_use]
    pub fn of_services(namespace: &str, cluster_domain: &str, services: &[&str]) -> Self {
        let forms = services.iter().flat_map(|service| {
            let short = format!("{service}.{namespace}");
            [format!("{short}.svc"), format!("{short}.svc.{cluster_domain}"), short]
        });
        let local = ["localhost".to_owned()];
        let dns_names = forms.chain(local).filter_map(|name| DnsName::try_from(name).ok()).collect();
        Self { namespace: namespace.to_owned(), dns_names }
    }
}

/// A certificate of our own, kept fresh for as long as the receiver is held.
///
/// # Errors
/// The CA cannot sign it.
pub fn keep(
    mut ca: CaWatch,
    names: ServingNames,
    clock: fn() -> u64,
) -> Result<(watch::Receiver<Arc<Serving>>, impl Future<Output = ()> + Send), CaError> {
    let first = make(&ca.borrow_and_update(), &names, clock())?;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let renewal = async move {
        let mut wait = two_thirds(sender.borrow().not_after, clock());
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = ca.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            let made = make(&ca.borrow_and_update(), &names, clock());
            wait = match made {
                Ok(serving) => {
                    let wait = two_thirds(serving.not_after, clock());
                    sender.send_replace(Arc::new(serving));
                    wait
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate cannot be renewed");
                    RETRY
                }
            };
        }
    };
    Ok((receiver, renewal))
}

/// Whose certificate the client of a connection has shown; `None`: it has shown none.
///
/// # Errors
/// It is no identity of this trust domain.
pub fn peer(connection: &ServerConnection, trust_domain: &str) -> Result<Option<SpiffeId>, Refusal> {
    let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let id = identity_of(leaf)?;
    if id.trust_domain() != trust_domain {
        return Err(Refusal::TrustDomain { id: id.to_string(), expected: trust_domain.to_owned() });
    }
    Ok(Some(id))
}

fn two_thirds(not_after: u64, now: u64) -> Duration {
    Duration::from_secs(not_after.saturating_sub(now) * 2 / 3).max(Duration::from_secs(1))
}

fn make(ca: &Ca, names: &ServingNames, now: u64) -> Result<Serving, CaError> {
    let trust_domain = ca.bundle.trust_domain();
    let id = control_plane(trust_domain, &names.namespace)
        .map_err(|why| CaError::TrustDomainName { name: trust_domain.to_string(), why })?;
    let key = PrivateKey::generate()?;
    let issued = ca.authority.issue(&id, &key, &names.dns_names, MAX_LIFETIME_SECONDS.into(), now)?;
    let (discovery, webhook) = contexts(ca, &issued, &key).map_err(|e| CaError::Crypto(e.to_string()))?;
    Ok(Serving {
        discovery: without_resumption(discovery, &[b"h2"]),
        webhook: without_resumption(webhook, &[b"http/1.1"]),
        not_after: issued.not_after,
    })
}

/// For discovery and for the webhook.
fn contexts(ca: &Ca, issued: &Issued, key: &PrivateKey) -> Result<(ServerConfig, ServerConfig), rustls::Error> {
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    });
    let mut roots = RootCertStore::empty();
    for root in ca.bundle.roots() {
        roots.add(root.clone())?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let discovery = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(issued.chain.clone(), key.to_der())?;
    let webhook = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(issued.chain.clone(), key.to_der())?;
    Ok((discovery, webhook))
}

fn without_resumption(mut config: ServerConfig, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}
