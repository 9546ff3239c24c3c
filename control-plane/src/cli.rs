//! What people type: `outrigger COMMAND`.
//!
//! Only what works is offered; a subcommand appears together with its implementation. Exit codes are 0 done,
//! 1 found faults, 2 wrong usage. Results go to stdout, everything else to stderr, so that output can be piped.

mod ca;
mod check;
mod cluster;
mod control_plane;
mod dashboard;
mod duration;
mod edges;
mod explain;
mod inject;
mod reach;
mod table;
mod tap;
mod top;

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use outrigger_config::pages::{self, CompletionsArgs, ManArgs, PageError};
use thiserror::Error;

/// The control plane of Outrigger, and its command line.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    what: What,
}

/// What every command takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Global {
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How diagnostics are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the custom resource definitions of Outrigger's policies
    #[command(after_help = CRDS_EXAMPLES)]
    Crds,
    /// A development or offline certificate authority
    Ca(ca::Args),
    ControlPlane(control_plane::Args),
    /// Is everything there that the mesh needs, and healthy? Each line says what to do about it
    Check(check::Args),
    /// Tell what a request would get, and which object decides it
    Explain(explain::Args),
    /// The busiest routes now: rate, success, latency, circuit, retries
    Top(top::Args),
    /// Requests as they pass
    Tap(tap::Args),
    /// Who talks to whom, with identity
    Edges(edges::Args),
    /// Open the page of a proxy, or of the control plane
    Dashboard(dashboard::Args),
    /// Add proxies to the pods of manifests; comments, order and style of the text stay
    Inject(Box<inject::InjectArgs>),
    /// Take out of manifests what was injected
    Uninject(inject::UninjectArgs),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// An error that ends the program with 2: what was typed cannot be meant.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

const DONE: u8 = 0;
const FOUND_FAULTS: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(arguments.global.log_format, "error", &format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { WRONG_USAGE } else { FOUND_FAULTS })
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    let global = arguments.global;
    match &arguments.what {
        What::Crds => crds(global),
        What::Ca(args) => ca::run(args, global),
        What::ControlPlane(args) => control_plane::run(args, global),
        What::Check(args) => check::run(args),
        What::Explain(args) => explain::run(args),
        What::Top(args) => top::run(args, global.log_format),
        What::Tap(args) => tap::run(args, global.log_format),
        What::Edges(args) => edges::run(args, global.log_format),
        What::Dashboard(args) => dashboard::run(args, global.log_format),
        What::Inject(args) => inject::run(args, global),
        What::Uninject(args) => inject::run_uninject(args, global),
        What::Completions(args) => completions(args),
        What::Man(args) => man(args),
    }
}

fn crds(global: Global) -> Result<u8> {
    let text = outrigger_config::schema::crds();
    if global.verbose > 0 {
        let definitions = text.matches("kind: CustomResourceDefinition").count();
        say(global.log_format, "info", &format!("{definitions} custom resource definitions"));
    }
    print(&text)?;
    Ok(DONE)
}

fn completions(args: &CompletionsArgs) -> Result<u8> {
    print(&pages::completions(args.shell, Arguments::command()))?;
    Ok(DONE)
}

fn man(args: &ManArgs) -> Result<u8> {
    let page = pages::man(args, Arguments::command()).map_err(|error| match error {
        PageError::Unknown { .. } => Usage(error.to_string()).into(),
        error => anyhow::Error::new(error),
    })?;
    if let Some(page) = page {
        print(&page)?;
    }
    Ok(DONE)
}

/// To stdout. Whoever reads it may stop when they have seen enough (`| head`): that is no error.
pub(crate) fn print(text: &dyn Display) -> Result<()> {
    let text = text.to_string();
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

/// To stderr. Nobody is left to be told if that fails.
pub(crate) fn say(format: LogFormat, level: &str, message: &str) {
    let line = match format {
        LogFormat::Text => format!("outrigger: {level}: {message}\n"),
        LogFormat::Json => format!("{}\n", serde_json::json!({ "level": level, "message": message })),
    };
    drop(io::stderr().write_all(line.as_bytes()));
}

/// Seconds since 1970. A clock before that is as good as one that has stopped.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

const EXAMPLES: &str = "Examples:
  outrigger crds | kubectl apply -f -    install the definitions into a cluster
  outrigger ca init --dir ca             make a certificate authority
  outrigger ca issue --dir ca --id spiffe://cluster.local/ns/shop/sa/web --out web
  outrigger ca show web/tls.crt          say what a certificate is
  outrigger check --pre                  before an installation; `outrigger check` afterwards
  outrigger explain -n shop http://payments/charge
  outrigger top -n shop                  the busiest routes of a namespace
  outrigger tap deploy/orders -n shop    requests as they pass
  outrigger edges -A                     who talks to whom
  outrigger dashboard                    the page, in a browser
  outrigger inject -f shop.yaml | kubectl apply -f -

Exit codes: 0 done, 1 found faults, 2 wrong usage.";

const CRDS_EXAMPLES: &str = "Examples:
  outrigger crds | kubectl apply -f -    install the definitions into a cluster
  outrigger crds > crds.yaml             keep them in a file";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  source <(outrigger completions bash)                                    in this shell
  outrigger completions bash > ~/.local/share/bash-completion/completions/outrigger
  outrigger completions zsh > ~/.zfunc/_outrigger                         with fpath+=~/.zfunc in ~/.zshrc
  outrigger completions fish > ~/.config/fish/completions/outrigger.fish";

const MAN_EXAMPLES: &str = "Examples:
  outrigger man | man -l -                       the page of the program
  outrigger man inject | man -l -                that of a command
  outrigger man --dir /usr/local/share/man/man1  all pages, a file each";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
