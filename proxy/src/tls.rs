//! TLS: who we are, whom we believe, and what rustls is told about it.
//!
//! [`TlsContexts`] is made from a model and the files that it names, whole or not at all, and replaced
//! as one: keys for session tickets and stores of client sessions live in it, so that a resumed session
//! is never older than the trust that it was made under. Between proxies it is TLS 1.3 with a
//! certificate on both sides, and the hybrid X25519MLKEM768 is preferred for the key exchange. An
//! upstream with `simple` TLS is spoken to as a browser would, TLS 1.2 included.

pub mod certificate;
mod config;
pub mod failure;
pub mod identity;
pub mod spiffe;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use outrigger_config::{
    Fault, Origin, Severity,
    model::{ListenerProtocol, Model, MtlsMode, Upstream, UpstreamId, UpstreamTls},
};
use rustls::{
    Connection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{ServerName, UnixTime},
};

pub use certificate::CertificateInfo;
pub use config::{ClientContext, crypto_provider};
pub use failure::Side;
pub use identity::Identity;
pub use spiffe::{Refusal, SpiffeId};

/// What rustls needs for one model: one context for all listeners, one for each upstream.
pub struct TlsContexts {
    identity: Option<Identity>,
    server: Option<Arc<ServerConfig>>,
    /// The same, with no say in what is spoken inside: for listeners that pass on bytes.
    opaque_server: Option<Arc<ServerConfig>>,
    clients: Vec<Option<Arc<ClientContext>>>,
    warnings: Vec<Fault>,
}

impl TlsContexts {
    /// Reads the files that the model names.
    ///
    /// # Errors
    /// Everything that keeps a listener or an upstream from working, with the file that it is in.
    pub fn load(model: &Model) -> Result<Self, Vec<Fault>> {
        Self::load_at(model, UnixTime::now())
    }

    /// The same, at a given time.
    ///
    /// # Errors
    /// As [`TlsContexts::load`].
    pub fn load_at(model: &Model, now: UnixTime) -> Result<Self, Vec<Fault>> {
        let provider = crypto_provider();
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let identity = model.proxy.identity.as_ref().and_then(|files| match Identity::load(files, &provider, now) {
            Ok((identity, words)) => {
                let about = |message| warning(&files.certificate, message);
                warnings.extend(words.into_iter().map(about));
                Some(identity)
            }
            Err(errors) => {
                faults.extend(errors.into_iter().map(|e| error(file_origin(&e.file), e.fault.to_string())));
                None
            }
        });
        let unidentified = model.proxy.identity.is_none();
        for listener in model.listeners.iter().filter(|l| unidentified && l.mtls == MtlsMode::Strict) {
            let message = format!("listener {:?} has mtls: strict, and the proxy has no identity", listener.name);
            faults.push(error(listener.origin.clone(), message));
        }
        let server = identity.as_ref().and_then(|identity| {
            let made = config::server_config(identity, &provider);
            made.map_err(|e| faults.push(error(nowhere(), format!("the TLS context of listeners: {e}")))).ok()
        });
        let opaque_server = server.as_deref().cloned().map(|mut config| {
            config.alpn_protocols.clear();
            Arc::new(config)
        });
        let mut roots = Roots::default();
        let mut clients = Vec::with_capacity(model.upstreams.len());
        for upstream in &model.upstreams {
            match client(upstream, identity.as_ref(), unidentified, &provider, &mut roots) {
                Ok(context) => clients.push(context.map(Arc::new)),
                Err(e) => faults.push(e),
            }
        }
        if faults.is_empty() { Ok(Self { identity, server, opaque_server, clients, warnings }) } else { Err(faults) }
    }

    /// What a listener of this mode serves TLS with; `None`: it serves none.
    ///
    /// `strict` and `permissive` are the same here: who speaks TLS must have a certificate. What
    /// `permissive` adds, plaintext, is for the listener to allow.
    #[must_use]
    pub fn server(&self, mode: MtlsMode, protocol: ListenerProtocol) -> Option<&Arc<ServerConfig>> {
        let server = if protocol == ListenerProtocol::Tcp { &self.opaque_server } else { &self.server };
        server.as_ref().filter(|_| mode != MtlsMode::Disabled)
    }

    /// What connections to an upstream are secured with; `None`: they are plain.
    #[must_use]
    pub fn client(&self, upstream: UpstreamId) -> Option<&Arc<ClientContext>> {
        self.clients.get(upstream.0 as usize)?.as_ref()
    }

    /// Our own SPIFFE ID.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref().map(|identity| &identity.id)
    }

    /// All certificates of the identity's files: ours first, then intermediates, then roots.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateInfo] {
        self.identity.as_ref().map_or(&[], |identity| &identity.certificates)
    }

    /// When our certificate expires, in seconds since 1970.
    #[must_use]
    pub fn identity_expiry(&self) -> Option<i64> {
        Some(self.identity.as_ref()?.certificate()?.not_after_timestamp)
    }

    /// What works, and is probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The files that a model's contexts are made from: a change of any calls for another
    /// [`TlsContexts::load`].
    #[must_use]
    pub fn files(model: &Model) -> Vec<PathBuf> {
        let identity = model.proxy.identity.iter();
        let identity = identity.flat_map(|f| [&f.certificate, &f.private_key, &f.trust_bundle]);
        let roots = model.upstreams.iter().filter_map(|u| match &u.tls {
            UpstreamTls::Simple { ca, .. } => ca.as_ref(),
            UpstreamTls::None | UpstreamTls::Mesh { .. } => None,
        });
        let mut files: Vec<_> = identity.chain(roots).cloned().collect();
        files.sort();
        files.dedup();
        files
    }
}

/// Roots for `simple` upstreams, read once for each file.
#[derive(Default)]
struct Roots {
    files: HashMap<PathBuf, Arc<RootCertStore>>,
    system: Option<Arc<RootCertStore>>,
}

impl Roots {
    fn of(&mut self, file: &Path) -> Result<Arc<RootCertStore>, Fault> {
        if let Some(roots) = self.files.get(file) {
            return Ok(Arc::clone(roots));
        }
        let (_, roots) = identity::roots(file).map_err(|e| error(file_origin(&e.file), e.fault.to_string()))?;
        let roots = Arc::new(roots);
        self.files.insert(file.to_owned(), Arc::clone(&roots));
        Ok(roots)
    }

    fn system(&mut self, origin: &Origin) -> Result<Arc<RootCertStore>, Fault> {
        if let Some(roots) = &self.system {
            return Ok(Arc::clone(roots));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A system has odd certificates among its roots; the others serve.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
            let message = format!("tls.ca is not set, and the system has no root certificates{why}");
            return Err(error(origin.clone(), message));
        }
        let roots = Arc::new(roots);
        self.system = Some(Arc::clone(&roots));
        Ok(roots)
    }
}

fn client(
    upstream: &Upstream,
    identity: Option<&Identity>,
    unidentified: bool,
    provider: &Arc<CryptoProvider>,
    roots: &mut Roots,
) -> Result<Option<ClientContext>, Fault> {
    let fault = |message: String| error(upstream.origin.clone(), format!("upstream {:?}: {message}", upstream.name));
    match &upstream.tls {
        UpstreamTls::None => Ok(None),
        UpstreamTls::Simple { sni, ca } => {
            let name =
                ServerName::try_from(sni.to_string()).map_err(|_| fault(format!("tls.sni {sni:?} is no host name")))?;
            let roots = match ca {
                Some(file) => roots.of(file)?,
                None => roots.system(&upstream.origin)?,
            };
            let made = config::simple_client(roots, name, provider);
            made.map(Some).map_err(|e| fault(format!("no TLS context can be made: {e}")))
        }
        UpstreamTls::Mesh { identity: expected } => {
            let expected = SpiffeId::parse(expected)
                .map_err(|e| fault(format!("tls.identity {expected:?} is no SPIFFE ID: {e}")))?;
            let Some(identity) = identity else {
                // An identity that is there and cannot be read is a fault already.
                return if unidentified {
                    Err(fault("tls.mode is mesh, and the proxy has no identity".to_owned()))
                } else {
                    Ok(None)
                };
            };
            let made = config::mesh_client(identity, expected, provider);
            made.map(Some).map_err(|e| fault(format!("no TLS context can be made: {e}")))
        }
    }
}

/// What the handshake of a connection found out.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The peer's SPIFFE ID, where it is verified: mesh TLS, either side.
    pub peer_identity: Option<Arc<str>>,
    /// The protocol that both sides agreed on.
    pub alpn: Option<Alpn>,
    /// The name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// Was a session resumed?
    pub resumed: bool,
}

/// A protocol agreed on by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`.
    H2,
    /// `http/1.1`.
    Http1,
}

impl Alpn {
    /// As it is on the wire.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

impl TlsInfo {
    /// Reads it off a connection whose handshake is over. `expected` is the identity that our side as a
    /// client has verified; on the server's side it is the certificate that says who the peer is.
    pub(crate) fn of(conn: &Connection, expected: Option<&SpiffeId>) -> Result<Self, Refusal> {
        let leaf = conn.peer_certificates().and_then(<[_]>::first);
        let resumed = conn.handshake_kind() == Some(HandshakeKind::Resumed);
        // A resumed session carries the certificate that it was made with, and nobody looked at it since.
        // Not so with a server that is no proxy: it may change its certificate and keep its ticket keys,
        // and would be refused for as long as it renews tickets.
        let looked_at = resumed && (expected.is_some() || matches!(conn, Connection::Server(_)));
        if let Some((end, words)) = leaf.filter(|_| looked_at).and_then(|leaf| certificate::end_of(leaf))
            && u64::try_from(end).is_ok_and(|end| end < UnixTime::now().as_secs())
        {
            return Err(Refusal::Expired(words));
        }
        let (peer_identity, sni) = match conn {
            Connection::Client(_) => (expected.map(SpiffeId::shared), None),
            // Whoever gets here has a certificate that the verifier took, so it states an identity.
            Connection::Server(server) => {
                let id = leaf.map(|leaf| spiffe::identity_of(leaf)).transpose()?;
                (id.map(|id| id.shared()), server.server_name().map(Arc::from))
            }
        };
        let alpn = [Alpn::H2, Alpn::Http1].into_iter().find(|a| conn.alpn_protocol() == Some(a.as_bytes()));
        let version = if conn.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "TLSv1.2" } else { "TLSv1.3" };
        Ok(Self { peer_identity, alpn, sni, version, resumed })
    }
}

fn error(origin: Origin, message: String) -> Fault {
    Fault { origin, severity: Severity::Error, message }
}

fn warning(file: &Path, message: String) -> Fault {
    Fault { origin: file_origin(file), severity: Severity::Warning, message }
}

fn file_origin(file: &Path) -> Origin {
    Origin::new(file.to_string_lossy(), 1, 1)
}

fn nowhere() -> Origin {
    Origin::new("tls", 1, 1)
}
