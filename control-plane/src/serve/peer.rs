//! Who is at the other end of a connection.

use std::time::{Duration, SystemTime};

use outrigger_config::spiffe::{self, SpiffeId};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a connection proved about its peer.
#[derive(Debug, Clone)]
pub struct Peer {
    identity: Result<SpiffeId, String>,
    expires: Option<SystemTime>,
}

impl Peer {
    /// Of the certificates of a finished handshake; TLS has checked that they lead to a root of ours.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(leaf) = chain.and_then(<[_]>::first) else {
            return Self { identity: Err("it showed no certificate".into()), expires: None };
        };
        let identity =
            spiffe::identity_of(leaf).map_err(|refusal| format!("its certificate proves nothing: {refusal}"));
        Self { identity, expires: expires(leaf) }
    }

    /// Its identity in `trust_domain`, or why it has none.
    pub(crate) fn identity(&self, trust_domain: &str) -> Result<&SpiffeId, String> {
        let identity = self.identity.as_ref().map_err(Clone::clone)?;
        if identity.trust_domain() == trust_domain {
            Ok(identity)
        } else {
            Err(format!("it is {identity}, which is not of the trust domain {trust_domain}"))
        }
    }

    /// How long what it proved holds.
    pub(crate) fn lifetime(&self, now: SystemTime) -> Duration {
        self.expires.and_then(|end| end.duration_since(now).ok()).unwrap_or_default()
    }
}

fn expires(leaf: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))
}
