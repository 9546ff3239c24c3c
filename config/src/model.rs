//! What the data plane runs: resolved, immutable, and with no state that makes no sense.
//!
//! [`compile`](crate::compile) makes a [`Model`] out of documents; a proxy swaps whole models. Cross
//! references are indices ([`UpstreamId`]) into the model that holds them, never names to look up.
//! Every part knows its [`Origin`], so that `explain` can say which line of which file decided.
//! Equality of two parts means "nothing changed", which is what keeps pools and breakers over a reload.

use std::sync::Arc;

use crate::Origin;

mod access;
mod listener;
mod policy;
mod proxy;
mod registry;
mod route;
mod upstream;

pub use access::*;
pub use listener::*;
pub use policy::*;
pub use proxy::*;
pub use registry::*;
pub use route::*;
pub use upstream::*;

/// One consistent configuration of one proxy.
#[derive(Debug, Clone)]
pub struct Model {
    /// The settings of the process itself.
    pub proxy: ProxySettings,
    /// In the order of the documents; names are unique.
    pub listeners: Vec<Listener>,
    /// Indexed by [`UpstreamId`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// Every merge decision: who won, who lost, and why.
    pub decisions: Vec<Decision>,
}

impl Model {
    /// The upstream behind `id`, which this model has made.
    #[must_use]
    pub fn upstream(&self, id: UpstreamId) -> &Arc<Upstream> {
        &self.upstreams[id.0 as usize]
    }

    /// The listener called `name`.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|l| &*l.name == name)
    }
}

/// Index of an upstream within one [`Model`]; meaningless in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u32);

/// A merge decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What was decided about, `Upstream payments` for one.
    pub subject: String,
    /// Kind and name of the winner.
    pub winner: String,
    /// Where the winner was written.
    pub winner_origin: Option<Origin>,
    /// Kind and name of each loser, where it was written, and why it lost.
    pub losers: Vec<(String, Origin, String)>,
}
