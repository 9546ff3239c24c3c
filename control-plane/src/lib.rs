//! The control plane of Outrigger.
//!
//! In the order in which a change of the cluster passes through: it arrives (`watch`), becomes part of what is known (`index`,
//! pure, with no client; `live` is the one that runs), proxies are told of it (`view` says what, `serve` how), and so are authors of
//! routes and policies (`status` says what, `publish` writes it). `run` wires that up, `admin` and `observe` show it.
//! `places` shares out the connections of the ports.
//! Beside that way: who is who (`identity`, with the certificates that `ca` signs), how a pod gets its proxy (`inject`), whether a
//! document is taken in at all (`admission`), and what people type (`cli`).

pub mod index;
pub mod live;
pub mod publish;
pub mod serve;
pub mod status;
pub mod view;
pub mod watch;

pub mod admin;
pub mod observe;
pub mod run;

mod places;

pub mod ca;
pub mod identity;

pub mod inject;
pub mod yaml;

pub mod admission;

pub mod cli;
