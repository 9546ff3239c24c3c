//! The harness: real binaries, peers that do exactly what a test says, and waiting with a deadline.
//!
//! A scenario (`tests/tests/*.rs`) starts a [`Proxy`] from YAML, puts an [`Origin`] or a foreign program
//! behind it, and speaks to it with exact bytes ([`Wire`]), frames ([`frames`]) or a foreign client
//! ([`peers`]). Every address is port 0 and learnt from the proxy. Nothing sleeps: what takes time is waited
//! for by [`eventually`], and every socket has a time limit, so a broken proxy fails a test and hangs none.
//! The doubles know nothing of the proxy's own code: a fault shared by both sides would be invisible.

pub mod binary;
pub mod child;
pub mod config;
pub mod consul;
pub mod curl;
pub mod discovery;
pub mod dns;
pub mod etcd;
pub mod frames;
pub mod guard;
pub mod h2peer;
pub mod helm;
pub mod kube;
pub mod load;
pub mod message;
pub mod metrics;
pub mod netns;
pub mod origin;
pub mod peers;
pub mod pki;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod tap;
pub mod wait;
pub mod wire;
pub mod zookeeper;

pub use child::ChildOrigin;
pub use load::Traffic;
pub use message::{Reply, Request, Response};
pub use metrics::Metrics;
pub use origin::{Origin, Recorder};
pub use proxy::Proxy;
pub use wait::{LONG, eventually, holds};
pub use wire::Wire;
