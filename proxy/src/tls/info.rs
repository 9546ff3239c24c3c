//! What a handshake found out, and the protocols that are agreed on in it.

use std::sync::Arc;

use rustls::{
    Connection, HandshakeKind, ProtocolVersion,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    pki_types::{CertificateDer, UnixTime},
};

use super::{
    certificate,
    spiffe::{self, Refusal, SpiffeId},
};

/// What the handshake of a connection found out.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The peer's SPIFFE ID, where it is verified: mesh TLS, either side.
    pub peer_identity: Option<Arc<str>>,
    /// SHA-256 of the certificate of a client, in hexadecimal.
    pub peer_hash: Option<Box<str>>,
    /// The protocol that both sides agreed on.
    pub alpn: Option<Alpn>,
    /// Under a name that only our own proxies offer: the other side is one, and had no choice to make.
    pub mesh: bool,
    /// The name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// Was a session resumed?
    pub resumed: bool,
}

/// A protocol agreed on by ALPN (RFC 7301).
///
/// Between proxies the names are our own, so that mesh TLS can be told from an application's own by its
/// `ClientHello`. The registered ones are for everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `outrigger/h2`, `h2`.
    H2,
    /// `outrigger/http1.1`, `http/1.1`.
    Http1,
    /// `outrigger/tcp`: bytes that the client's side has not looked at. Everybody else names nothing for it.
    Tcp,
}

impl Alpn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::H2, Self::Http1, Self::Tcp];

    /// The name between proxies.
    #[must_use]
    pub const fn mesh(self) -> &'static [u8] {
        match self {
            Self::H2 => b"outrigger/h2",
            Self::Http1 => b"outrigger/http1.1",
            Self::Tcp => b"outrigger/tcp",
        }
    }

    /// The registered name.
    #[must_use]
    pub const fn registered(self) -> Option<&'static [u8]> {
        match self {
            Self::H2 => Some(b"h2"),
            Self::Http1 => Some(b"http/1.1"),
            Self::Tcp => None,
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.mesh() == name || a.registered() == Some(name))
    }

    /// True for a name that only our own proxies offer.
    #[must_use]
    pub fn is_mesh(name: &[u8]) -> bool {
        Self::ALL.into_iter().any(|a| a.mesh() == name)
    }
}

impl TlsInfo {
    /// Reads it off a connection whose handshake is over. `expected` is the identity that our side as a
    /// client has verified; on the server's side it is the certificate that says who the peer is.
    pub(crate) fn of(conn: &Connection, expected: Option<&SpiffeId>) -> Result<Self, Refusal> {
        let chain = conn.peer_certificates().unwrap_or_default();
        let resumed = conn.handshake_kind() == Some(HandshakeKind::Resumed);
        // A resumed session carries the certificates that it was made with, and nobody looked at them since.
        // Not so with a server that is no proxy: it may change its certificate and keep its ticket keys,
        // and would be refused for as long as it renews tickets.
        if resumed && (expected.is_some() || matches!(conn, Connection::Server(_))) {
            none_has_ended(chain, UnixTime::now())?;
        }
        let (peer_identity, peer_hash, sni) = match conn {
            Connection::Client(_) => (expected.map(SpiffeId::shared), None, None),
            // Whoever gets here has a certificate that the verifier took, so it states an identity.
            Connection::Server(server) => {
                let id = chain.first().map(|leaf| spiffe::identity_of(leaf)).transpose()?;
                let hash = chain.first().map(|leaf| sha256(leaf));
                (id.map(|id| id.shared()), hash, server.server_name().map(Arc::from))
            }
        };
        let alpn = conn.alpn_protocol().and_then(Alpn::named);
        let mesh = conn.alpn_protocol().is_some_and(Alpn::is_mesh);
        let version = if conn.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "TLSv1.2" } else { "TLSv1.3" };
        Ok(Self { peer_identity, peer_hash, alpn, mesh, sni, version, resumed })
    }
}

impl TlsInfo {
    /// What a client's certificate says of it, in the syntax of Envoy's `x-forwarded-client-cert`: who has verified it
    /// (`by`, our identity), the hash of the certificate, and the identity in it. Nothing in them needs quotes: SPIFFE IDs
    /// have neither commas, semicolons, equals signs nor quotes (SPIFFE-ID, section 2).
    #[must_use]
    pub fn forwarded(&self, by: Option<&SpiffeId>) -> Option<Arc<str>> {
        let uri = self.peer_identity.as_deref()?;
        let by = by.map_or_else(String::new, |by| format!("By={by};"));
        let hash = self.peer_hash.as_deref().map_or_else(String::new, |hash| format!("Hash={hash};"));
        Some(format!("{by}{hash}URI={uri}").into())
    }
}

fn sha256(der: &[u8]) -> Box<str> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().map(|suite| suite.common.hash_provider);
    let hash = suite.map(|provider| provider.hash(der));
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 15)]);
    let bytes = hash.iter().flat_map(|hash| hash.as_ref());
    bytes.flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect::<String>().into()
}

/// Of a chain, intermediates too: a ticket would outlive the shortest-lived of them.
fn none_has_ended(chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Refusal> {
    for (end, words) in chain.iter().filter_map(|c| certificate::end_of(c)) {
        if u64::try_from(end).is_ok_and(|end| end < now.as_secs()) {
            return Err(Refusal::Expired(words));
        }
    }
    Ok(())
}
