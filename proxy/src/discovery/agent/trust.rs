//! Our identity and whom to believe: put in force together, and tried again until they are.
//!
//! What cannot be put in force is not held to be: the stream is dialled with the identity and the roots in force, a bundle is
//! acknowledged when it is used, and whoever keeps the identity is told that it must try again.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::Agent;
use crate::{
    control::wiring,
    discovery::{
        cache::{Body, TRUST},
        identity::{self, Issued},
    },
    tls::Identity,
};

impl Agent {
    /// A certificate was issued; who asked for it is told whether it is in force.
    pub(super) fn issued(&mut self, new: Issued) {
        let Issued { identity, roots, used } = new;
        // The stream's bundle is the newer one, unless it has said nothing yet.
        let roots = match self.cache.get(TRUST) {
            Some(Body::Trust(bundle)) if !bundle.roots.is_empty() => identity::roots(bundle),
            _ => roots,
        };
        let identity = identity.with_roots(&roots).unwrap_or(identity);
        let delivered = self.deliver(Arc::new(identity), roots);
        // It may be at its end.
        used.send(delivered).ok();
    }

    /// Whom to believe has changed.
    pub(super) fn trust(&mut self, key: String, version: String) {
        let Some(Body::Trust(bundle)) = self.cache.get(TRUST) else { return };
        let roots = identity::roots(bundle);
        match self.identity.as_ref().map(|identity| identity.with_roots(&roots)) {
            Some(Err(e)) => {
                self.cache.forget(TRUST);
                self.refuse(key, version, vec![e.to_string()]);
            }
            Some(Ok(identity)) if roots != self.roots || self.undelivered.is_some() => {
                tracing::info!(roots = roots.len(), "the trust bundle has changed");
                self.unacknowledged = Some((key, version));
                self.deliver(Arc::new(identity), roots);
            }
            Some(Ok(_)) | None => self.acknowledge(key, version, Vec::new()),
        }
    }

    /// Tries again what could not be put in force.
    pub(super) fn deliver_again(&mut self) {
        if let Some((identity, roots)) = self.undelivered.clone() {
            self.deliver(identity, roots);
        }
    }

    /// Puts an identity in force, for new connections; those that are there stay. False: it could not be, what was in
    /// force stays, and [`Agent::deliver_again`] has it.
    fn deliver(&mut self, identity: Arc<Identity>, roots: Vec<CertificateDer<'static>>) -> bool {
        if let Err(faults) = self.shared.deliver_identity(Some(Arc::clone(&identity))) {
            // Once, and not with every try.
            if self.undelivered.is_none() {
                let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
                tracing::error!("the identity is not in force yet, and is tried again: {}", said.join("; "));
            }
            self.undelivered = Some((identity, roots));
            return false;
        }
        self.undelivered = None;
        (self.identity, self.roots) = (Some(identity), roots);
        wiring::applied(&self.shared);
        if let Some((key, version)) = self.unacknowledged.take() {
            self.acknowledge(key, version, Vec::new());
        }
        true
    }
}
