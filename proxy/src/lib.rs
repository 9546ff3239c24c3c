//! The data plane of Outrigger. Modules are listed in the order in which a request meets them.

pub mod redirect;
pub mod serve;

pub mod detect;
pub mod http;

pub mod correlate;
pub mod inflight;
pub mod trace_context;

pub mod edit;
pub mod fault;

pub mod clock;
pub mod deadline;
pub mod policy;
pub mod timer;

pub mod upstream;

pub mod buffer;
pub mod forward;
pub mod io;
pub mod spare;
pub mod tls;

pub mod answer;
pub mod fallback;
pub mod observe;

pub mod admin;

pub mod error;
pub mod shared;

pub mod cli;
pub mod control;
pub mod demo;
pub mod discovery;
pub mod resolve;
