//! The SPIFFE Workload API, as far as it delivers X.509-SVIDs: messages and client. `config/proto/spiffe` has the text.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self, clippy::large_futures, clippy::unwrap_used)]
mod generated {
    tonic::include_proto!("_");
}

pub use generated::*;

/// The metadata that every call carries, so that nobody can be made to call by a forged URL (SPIFFE Workload Endpoint,
/// section 3).
pub const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");
