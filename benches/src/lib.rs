//! The side-by-side comparison of Outrigger with the proxies that people run today.
//!
//! One binary holds every part: the origin server, the bare copy loop that marks the floor, the clients, and
//! [`compare`], which starts the peers, loads them in turn and prints the table. `benches/compare` builds and
//! runs it. Everything runs in the foreground and is ended by its owner; nothing needs a network but loopback.
//!
//! The modules, in the order in which a run meets them:

pub mod compare;
pub mod origin;

pub mod copy;
pub mod naive;
pub mod peers;
pub mod process;

pub mod client;
pub mod load;
pub mod paced;

pub mod callgrind;
pub mod guard;
pub mod idle;
pub mod mtls;
pub mod proc;
pub mod report;
pub mod scale;
pub mod stats;
pub mod syscalls;
