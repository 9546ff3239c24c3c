//! TLS: who we are, whom we believe, and what rustls is told about it.
//!
//! [`TlsContexts`] is made from a model, the files that it names and the identity that somebody else delivers, whole
//! or not at all, and replaced as one. Keys for session tickets and stores of client sessions live in the contexts
//! of one identity and one bundle, so that a resumed session is never older than the trust that it was made under.
//! Between proxies it is TLS 1.3 with a certificate on both sides, and the hybrid X25519MLKEM768 is preferred for the
//! key exchange. An upstream with `simple` TLS is spoken to as a browser would, TLS 1.2 included.

pub mod certificate;
mod config;
mod contexts;
mod endpoints;
pub mod failure;
pub mod hello;
pub mod identity;
mod info;
pub mod issued;
mod proven;
mod roots;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

pub use certificate::CertificateInfo;
pub use config::{ClientContext, crypto_provider};
pub use contexts::TlsContexts;
pub use failure::Side;
pub use hello::Hello;
pub use identity::{Identity, Material, SecretKey};
pub use info::{Alpn, TlsInfo};
pub use outrigger_config::spiffe::{self, Refusal, SpiffeId};
