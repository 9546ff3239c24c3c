//! The protocol between a proxy and its control plane: the messages and both ends of the gRPC services.
//!
//! `config/proto` has the text, which says what each message means, what versions are and what two peers of different age
//! may expect of each other. Here is what was generated from it, and the reading and writing of [`Key`]s, so that
//! both ends agree on their spelling.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self, clippy::large_futures, clippy::unwrap_used)]
mod generated {
    tonic::include_proto!("outrigger.discovery.v1alpha1");
}

mod key;

pub use generated::*;
pub use key::{Key, KeyError, MAX_KEY};

/// The protocol that this version speaks.
pub const PROTOCOL: u32 = 1;
