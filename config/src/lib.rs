//! The policy model of Outrigger: [`documents`] are what people write, [`model`] is what runs.
//!
//! One pure function, [`compile()`], turns the first into the second, with every fault located.
//! On the way: text to trees (`yaml`), trees against schemas (`check`), trees to documents (`decode`), documents
//! to the model (`compile`). What runs is decided on by [`matching`] and [`access`], told by [`explain`].
#![warn(missing_docs)]

pub mod access;
pub mod documents;
pub mod explain;
pub mod fault;
pub mod matching;
pub mod model;
pub mod schema;

mod check;
mod compile;
mod decode;
mod load;
mod suggest;
mod yaml;

pub use compile::{Compiled, compile, validate};
pub use fault::{Fault, Origin, Severity};
pub use load::{Source, parse};
