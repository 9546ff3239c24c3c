//! Who is who in the cluster: the mesh's CA, and what it signs for whom.
//!
//! The CA is in a Secret, where every replica finds the same one ([`CaSource`]); its state is a [`Ca`] behind a `watch` channel, replaced
//! whole when Secret or roots change. From it come certificates for proxies ([`IssueService`], against the token of a
//! service account), the control plane's own ([`serving`]), and the trust bundle that proxies start from ([`TrustPublisher`]).
//!
//! Fail closed: whatever is doubtful is not signed. Static: whatever breaks later leaves what works in force.

mod bundle;
mod issue;
mod publish;
mod review;
pub mod serving;
mod source;

#[cfg(test)]
mod tests;

pub use bundle::{Bundle, Ca};
pub use issue::{IssueService, OUTCOMES, Outcome};
pub use publish::TrustPublisher;
pub use review::{Account, ApiServer, Refusal, ReviewError, Reviewer, judge};
pub use source::{CaSource, Keeper, SourceError};

/// The CA as it is now; every holder sees a change.
pub type CaWatch = tokio::sync::watch::Receiver<std::sync::Arc<Ca>>;
