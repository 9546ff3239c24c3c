//! Serving: a worker thread, its listeners, a connection's life, a request's life.
//!
//! The two stories are [`connection::serve`] and [`request::serve`]; each is read from top to bottom.

pub mod access;
pub mod admit;
pub mod attempt;
pub mod connection;
pub mod exchange;
pub mod http1;
pub mod http2;
mod locate;
pub mod mirror;
pub mod opaque;
pub mod reply;
pub mod request;
pub mod scratch;
pub mod view;
pub mod worker;

/// Bytes of a response head that are taken from an upstream: the bound that listeners have for requests.
pub const RESPONSE_HEAD_BYTES: u32 = 60 * 1024;
