//! Keeps the pod's identity: a key that never leaves memory, and a certificate for it from the control plane.
//!
//! Renewal is due at two thirds of the lifetime, earlier by a random part, so that the pods of a deployment do not ask
//! all at once. When it fails it is tried again and again; what is there is used until it expires, and not longer.
//! The token is read for each request, because the kubelet replaces it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use outrigger_config::discovery::{IssueRequest, TrustBundle};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Bootstrap,
    backoff::Backoff,
    link::{self, LinkError},
};
use crate::tls::{Identity, identity::IdentityError};

/// What is asked for. The control plane gives no more than its own limit.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest pause between two tries while there is no identity: nothing works without one.
const URGENT: Duration = Duration::from_secs(3);
/// And while there is one that is still good: a control plane that refuses is not asked all the time.
const PATIENT: Duration = Duration::from_secs(30);
/// Shortest time between two renewals, whatever the lifetime.
const LEAST: Duration = Duration::from_millis(200);

/// A certificate was issued.
pub struct Issued {
    /// Ours.
    pub identity: Identity,
    /// Whom to believe.
    pub roots: Vec<CertificateDer<'static>>,
    /// To be told whether it is in force.
    pub used: oneshot::Sender<bool>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It was not signed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What was signed is of no use.
    #[error("what the control plane issued cannot be used: {0}")]
    Fault(#[from] IdentityError),
    /// Another identity than ours.
    #[error("the control plane issued a certificate for {found}, and this pod is {wanted}")]
    Other {
        /// In the certificate.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The request could not be made.
    #[error("no certificate request can be made: {0}")]
    Request(#[from] rcgen::Error),
}

/// Keeps an identity for as long as `issued` is read.
pub async fn keep(boot: Arc<Bootstrap>, issued: mpsc::Sender<Issued>) {
    let mut backoff = Backoff::default();
    let mut expiry: Option<SystemTime> = None;
    loop {
        let used = match obtain(&boot).await {
            Ok((identity, roots)) => {
                let end = identity.certificate().map_or(0, |c| c.not_after_timestamp);
                let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0));
                let left = end.duration_since(SystemTime::now()).unwrap_or_default();
                tracing::info!(id = %identity.id, lifetime = ?left, "an identity was issued");
                hand_over(&issued, identity, roots).await.then_some((end, left))
            }
            Err(e) => {
                tracing::warn!("no identity was issued: {e}");
                None
            }
        };
        if let Some((end, left)) = used {
            expiry = Some(end);
            backoff = Backoff::default();
            sleep(renewal(left, fastrand::f64())).await;
        } else {
            let good = expiry.is_some_and(|end| end > SystemTime::now());
            sleep(backoff.next_within(fastrand::f64(), if good { PATIENT } else { URGENT })).await;
        }
        if issued.is_closed() {
            return;
        }
    }
}

/// Gives an identity to who puts it in force. False: it is not in force.
async fn hand_over(issued: &mpsc::Sender<Issued>, identity: Identity, roots: Vec<CertificateDer<'static>>) -> bool {
    let (used, told) = oneshot::channel();
    issued.send(Issued { identity, roots, used }).await.is_ok() && told.await.unwrap_or(false)
}

/// When to renew what is good for `left`; `random` is uniform in 0..1.
fn renewal(left: Duration, random: f64) -> Duration {
    left.mul_f64(2.0 / 3.0).mul_f64(1.0 - 0.1 * random).max(LEAST)
}

/// An identity, and whom to believe.
async fn obtain(boot: &Bootstrap) -> Result<(Identity, Vec<CertificateDer<'static>>), IssueError> {
    let known = link::bundle(boot)?;
    let key = KeyPair::generate()?;
    let csr = request(&key, boot.id.as_str())?;
    let lifetime_seconds = u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX);
    let response = link::issue(boot, &known, IssueRequest { csr, lifetime_seconds }).await?;
    let roots = response.trust.map_or_else(Vec::new, |t| roots(&t));
    let roots = if roots.is_empty() { known } else { roots };
    let chain = response.chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let identity = Identity::issued(chain, key, &roots, UnixTime::now())?;
    if identity.id != boot.id {
        return Err(IssueError::Other { found: identity.id.to_string(), wanted: boot.id.to_string() });
    }
    Ok((identity, roots))
}

/// A request (RFC 2986) that says nothing but who we are.
fn request(key: &KeyPair, id: &str) -> Result<bytes::Bytes, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
    Ok(params.serialize_request(key)?.der().to_vec().into())
}

/// The certificates of a bundle.
#[must_use]
pub fn roots(bundle: &TrustBundle) -> Vec<CertificateDer<'static>> {
    bundle.roots.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_two_thirds_or_a_little_earlier() {
        let left = Duration::from_secs(90);
        assert_eq!(renewal(left, 0.0), Duration::from_secs(60));
        assert_eq!(renewal(left, 1.0), Duration::from_secs(54));
        assert_eq!(renewal(Duration::ZERO, 0.5), LEAST);
    }

    #[test]
    fn a_request_names_the_one_identity() {
        let key = KeyPair::generate().unwrap();
        let csr = request(&key, "spiffe://cluster.local/ns/shop/sa/web").unwrap();
        let text = String::from_utf8_lossy(&csr).into_owned();
        assert_eq!(text.matches("spiffe://cluster.local/ns/shop/sa/web").count(), 1);
        assert!(!text.contains("rcgen"), "the subject is empty");
    }
}
