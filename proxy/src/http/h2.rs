//! HTTP/2 (RFC 9113). Clients are served by a codec of our own, [`server`], which reads heads into [`Headers`] and writes
//! them from there, and keeps everything that waits in buffers of the connection. Upstreams are reached through the
//! `h2` crate; [`convert`] turns its heads into ours and back.
//!
//! The server side is ours because the crate takes 24,000 instructions of a request, and what is made for it (header
//! maps, copies) 4,000 more, where an HTTP/1 request costs 18,000 in all.
//!
//! [`Headers`]: super::Headers

mod check;
pub mod convert;
mod frame;
pub mod server;

pub use check::content_length;
