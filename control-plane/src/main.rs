//! `outrigger`: the control plane and the people's command line.
//!
//! Only what works is offered; a subcommand appears together with its implementation. Exit codes are 0 done,
//! 1 found faults, 2 wrong usage. Results go to stdout, everything else to stderr, so that output can be piped.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

/// The control plane of Outrigger, and its command line.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, after_help = EXAMPLES)]
struct Arguments {
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How diagnostics are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the custom resource definitions of Outrigger's policies
    Crds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(arguments.log_format, "error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match arguments.what {
        What::Crds => {
            let text = outrigger_config::schema::crds();
            if arguments.verbose > 0 {
                let definitions = text.matches("kind: CustomResourceDefinition").count();
                say(arguments.log_format, "info", &format!("{definitions} custom resource definitions"));
            }
            print(&text)
        }
    }
}

/// To stdout. Whoever reads it may stop when they have seen enough (`| head`): that is no error.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

fn say(format: LogFormat, level: &str, message: &str) {
    match format {
        LogFormat::Text => eprintln!("outrigger: {level}: {message}"),
        LogFormat::Json => eprintln!("{}", serde_json::json!({ "level": level, "message": message })),
    }
}

const EXAMPLES: &str = "Examples:
  outrigger crds | kubectl apply -f -    install the definitions into a cluster
  outrigger crds > crds.yaml             keep them in a file";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
