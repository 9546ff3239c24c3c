//! Messages and their codecs: heads, header fields, HTTP/1 framing, HTTP/2 adaptation.

pub mod h1;
pub mod h2;
pub mod head;
pub mod headers;
pub mod hpack;

pub use head::{RequestHead, ResponseHead, Scheme, Version};
pub use headers::{Headers, Known};
