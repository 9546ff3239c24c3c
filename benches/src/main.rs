//! `outrigger-bench`: the comparison, and the servers that it starts itself as.

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use outrigger_benches::{compare, copy, guard, mtls, naive, origin, scale};

/// Compares Outrigger with other proxies. `benches/compare` builds and runs it; see `benches/README.md`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start the peers, load them in turn, print tables
    Compare(Box<compare::Options>),
    /// Measure what mutual TLS costs, beside others and between two proxies of ours
    Mtls(mtls::Options),
    /// Count instructions per request, and fail if they are more than on record
    Guard(guard::Options),
    /// Simulate a large mesh on the control plane's own index and server
    Scale(scale::Options),
    /// The process of `scale` that is measured
    #[command(hide = true)]
    ScaleServer(scale::server::Options),
    /// Answer requests from memory
    Origin {
        /// Where to listen
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
    /// The naive proxy of `mtls`
    #[command(hide = true)]
    Naive(naive::Options),
    /// Copy bytes to the origins in turn
    Copy {
        /// Where to listen
        listen: SocketAddr,
        /// Where to copy to
        #[arg(required = true)]
        origins: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Compare(options) => compare::run(&options),
        What::Mtls(options) => mtls::run(&options),
        What::Guard(options) => guard::run(&options),
        What::Scale(options) => scale::run(&options),
        What::ScaleServer(options) => scale::server::run(&options),
        What::Origin { addresses } => origin::run(&addresses),
        What::Naive(options) => naive::run(&options),
        What::Copy { listen, origins } => copy::run(listen, &origins),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
