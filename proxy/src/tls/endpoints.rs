//! Contexts for endpoints that must each prove an identity of their own, as in a cluster.
//!
//! They are made when an endpoint is first dialled, because which identities there are is known of endpoints
//! and not of the configuration, and kept for as long as our own identity is the same, over snapshots.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{ClientContext, Identity, SpiffeId, config, crypto_provider};
use crate::error::{Failure, Reason};

/// Identities whose contexts are kept, with their sessions. A proxy calls tens of services; past this all begin anew.
const MAX_CONTEXTS: usize = 4096;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Endpoints(Arc<RwLock<HashMap<Arc<str>, Arc<ClientContext>>>>);

impl Endpoints {
    /// The context for `expected`, made with our identity `own`, which is the same in every call.
    pub(super) fn get(&self, own: &Arc<Identity>, expected: &Arc<str>) -> Result<Arc<ClientContext>, Failure> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(expected) {
            return Ok(Arc::clone(known));
        }
        let refuse = |details: String| Failure::new(Reason::TlsCertificateError, details);
        let id = SpiffeId::parse(expected).map_err(|e| refuse(format!("{expected:?} is no SPIFFE ID: {e}")))?;
        let made = config::mesh_client(own, id, &crypto_provider());
        let made = Arc::new(made.map_err(|e| refuse(format!("no TLS context can be made: {e}")))?);
        let mut contexts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if contexts.len() >= MAX_CONTEXTS {
            contexts.clear();
        }
        Ok(Arc::clone(contexts.entry(Arc::clone(expected)).or_insert(made)))
    }
}
