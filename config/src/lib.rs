//! The policy model of Outrigger: [`documents`] are what people write, [`model`] is what runs.
//!
//! One pure function, [`compile()`], turns the first into the second, with every fault located.
//! On the way: text to trees (`yaml`), trees against schemas (`check`), trees to documents (`decode`), documents
//! to the model (`compile`). What runs is decided on by [`matching`] and [`access`], told by [`explain`].
//! Who is who between proxies is said by [`spiffe`] and [`identity`].
#![warn(missing_docs)]

pub mod access;
pub mod discovery;
pub mod documents;
pub mod explain;
pub mod fault;
pub mod identity;
pub mod matching;
pub mod model;
#[cfg(feature = "pages")]
pub mod pages;
pub mod reference;
pub mod schema;
pub mod spiffe;
pub mod workload;

mod check;
mod cluster;
mod compile;
mod decode;
mod load;
mod suggest;
mod yaml;

pub use cluster::{Cluster, LocalPort};
pub use compile::{Compiled, compile, compile_in, service_protocol, validate, validate_in};
pub use fault::{Fault, Origin, Severity};
pub use load::{Source, SourceName, parse};
pub use suggest::suggest;
