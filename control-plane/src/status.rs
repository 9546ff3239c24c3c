//! What authors of routes and policies are told: `status`, derived from the index.
//!
//! Pure: nothing here writes. [`wanted`] says what our entries are to be, [`patch`] what of it differs from what stands there.
//! Of a route there is one entry for each parent that is a Service or an Upstream, of a policy one for each target, of an Upstream
//! conditions alone. The words are those of the Gateway API and of GEP-713; what a proxy refused is a condition of ours
//! ([`REFUSED`]), which is there only as long as a proxy refuses.

mod condition;
mod patch;
mod policy;
mod route;
#[cfg(test)]
mod tests;

use outrigger_config::documents::Kind;
use serde_json::{Value, json};

use self::condition::Conditions;
use crate::index::{DocumentRef, Index, ObjectName};

pub use patch::patch;

/// Our name in `status.parents[].controllerName` and `status.ancestors[].controllerName`; the field manager as well.
pub const CONTROLLER: &str = "outrigger.dev/controller";

/// Type of the condition that says that proxies refuse a document, and run its last good version.
pub const REFUSED: &str = "outrigger.dev/Refused";

/// A proxy's refusal of a version of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The pod, `NAMESPACE/NAME`.
    pub pod: String,
    /// What it said.
    pub reason: String,
}

/// Our entries of `status` of a document, without times: `{"parents": [...]}` of a route, `{"ancestors": [...]}` of a policy,
/// `{"conditions": [...]}` of an Upstream. `None` if it is not there.
#[must_use]
pub fn wanted(index: &Index, document: &DocumentRef, refusals: &[Refusal]) -> Option<Value> {
    let entry = index.entries().get(document)?;
    match document.kind {
        Kind::HTTPRoute | Kind::GRPCRoute => Some(json!({ "parents": route::parents(index, entry, refusals) })),
        Kind::TrafficPolicy | Kind::AccessPolicy | Kind::MeshPolicy => {
            Some(json!({ "ancestors": policy::ancestors(index, entry, refusals) }))
        }
        Kind::Upstream => {
            let mut conditions = Conditions::new(entry.document.generation);
            match entry.errors.as_slice() {
                [] => conditions.accepted("Accepted", &entry.warnings.join("; ")),
                errors => conditions.refused("Accepted", "Invalid", &errors.join("; ")),
            }
            conditions.proxies(refusals);
            Some(json!({ "conditions": conditions.finish() }))
        }
        Kind::Proxy | Kind::Service | Kind::ReferenceGrant => None,
    }
}

/// The document that a reason of a refusal is about: it begins with `KIND NAMESPACE/NAME`, and a colon or its end.
#[must_use]
pub fn blamed(reason: &str) -> Option<DocumentRef> {
    let (kind, rest) = reason.split_once(' ')?;
    let name = rest.split(':').next()?;
    let (namespace, name) = name.trim_end().split_once('/')?;
    let kind = Kind::from_name(kind).filter(|k| k.is_written())?;
    let is_name = |s: &str| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    (is_name(namespace) && is_name(name))
        .then(|| DocumentRef { kind, at: ObjectName { namespace: namespace.into(), name: name.into() } })
}
