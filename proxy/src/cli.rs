//! The command line: what people type, and the exit codes.
//!
//! 0 means done, 1 means that faults were found (or that the proxy could not start), 2 means wrong usage.
//! Results go to stdout, everything else to stderr. A subcommand that does not work yet is not offered.

mod explain;
mod pod;
mod quick;
mod redirect;
mod validate;
mod wait;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use outrigger_config::{
    Fault,
    pages::{self, CompletionsArgs, ManArgs, PageError},
};

use crate::{
    control::{self, ConfigSource},
    demo,
};

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(args) => run(*args, cli.log_format, cli.verbose),
        Command::Validate(args) => validate::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Demo(args) => demo::run(&args, cli.log_format, cli.verbose),
        Command::Redirect(args) => redirect::run(*args),
        Command::Wait(args) => wait::run(&args),
        Command::Completions(args) => {
            say(&mut io::stdout(), &pages::completions(args.shell, Cli::command()));
            ExitCode::from(DONE)
        }
        Command::Man(args) => man(&args),
    }
}

/// The data plane of Outrigger: a proxy beside every service.
#[derive(Debug, Parser)]
#[command(name = "outrigger-proxy", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr (-v: debug, -vv: trace)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// How diagnostics are written to stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry traffic
    Run(Box<RunArgs>),
    /// Check documents: one line FILE:LINE:COL: MESSAGE for every fault
    Validate(ValidateArgs),
    /// Tell what a request would get, and which line of which file decides it
    Explain(explain::ExplainArgs),
    /// See it work: sample services, proxies around them, traffic, faults
    Demo(DemoArgs),
    /// Lead the connections of a pod through its proxy: nftables, or iptables where only that is there
    Redirect(Box<redirect::RedirectArgs>),
    /// Wait until the proxy of this pod is ready
    Wait(wait::WaitArgs),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(override_usage = RUN_USAGE, after_help = RUN_EXAMPLES)]
struct RunArgs {
    /// Files of YAML documents, or directories of *.yaml and *.yml files; read again when they change
    #[arg(long, value_name = "PATH", num_args = 1.., required_unless_present_any = ["listen", "control_plane"], conflicts_with_all = ["listen", "to", "admin", "control_plane"])]
    config: Vec<PathBuf>,
    /// Without a file: where to listen, IP:PORT or :PORT (every IPv4 address)
    #[arg(long, value_name = "ADDR", requires = "to", conflicts_with = "control_plane")]
    listen: Option<String>,
    /// Without a file: the service behind, HOST:PORT, IP:PORT or :PORT (this machine)
    #[arg(long, value_name = "ADDR", requires = "listen")]
    to: Option<String>,
    /// Without a file: where the admin port listens [default: 127.0.0.1:9990; in a pod every address]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    #[command(flatten)]
    pod: pod::PodArgs,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
#[command(after_help = VALIDATE_EXAMPLES)]
struct ValidateArgs {
    /// Files of YAML documents, or directories of *.yaml and *.yml files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoArgs {
    /// End after this time (10s, 1m30s); without it the demo runs until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<std::time::Duration>,
    /// Where the admin port listens; any free port if it is taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9990")]
    pub admin: std::net::SocketAddr,
}

fn run(args: RunArgs, format: LogFormat, verbose: u8) -> ExitCode {
    if args.pod.control_plane.is_some() {
        return match args.pod.bootstrap(args.admin.as_deref()) {
            Ok(boot) => control::discovered::run(boot, format, verbose),
            Err(e) => usage(&e),
        };
    }
    let source = match (args.listen, args.to) {
        (Some(listen), Some(to)) => match quick::source(&listen, &to, args.admin.as_deref()) {
            Ok(source) => ConfigSource::Text(source),
            Err(e) => return usage(&e),
        },
        _ => ConfigSource::Files(args.config),
    };
    control::run(&source, format, verbose)
}

fn man(args: &ManArgs) -> ExitCode {
    match pages::man(args, Cli::command()) {
        Ok(page) => {
            say(&mut io::stdout(), &page.unwrap_or_default());
            ExitCode::from(DONE)
        }
        Err(error @ PageError::Unknown { .. }) => usage(&error.to_string()),
        Err(error) => {
            say(&mut io::stderr(), &format!("error: {:#}\n", anyhow::Error::new(error)));
            ExitCode::from(FOUND_FAULTS)
        }
    }
}

/// Says on stderr what is wrong with the arguments.
fn usage(message: &str) -> ExitCode {
    say(&mut io::stderr(), &format!("error: {message}\n\nFor more information, try '--help'.\n"));
    ExitCode::from(WRONG_USAGE)
}

/// Writes every fault, a line each.
pub(crate) fn print_faults(out: &mut impl io::Write, faults: &[Fault]) {
    for fault in faults {
        say(out, &format!("{fault}\n"));
    }
}

/// Writes to stdout or stderr. A reader that went away (`| head`) is no fault of ours.
pub(crate) fn say(out: &mut impl io::Write, text: &str) {
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        // Nobody reads; there is nowhere to say so.
    }
}

/// GEP-2257 durations, as in documents.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write for example 10s, 1m30s or 500ms");
    let mut rest = text;
    let mut total = std::time::Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        // Five digits, as GEP-2257 says; it keeps the sum far from any overflow.
        let number: u64 = rest.get(..digits).filter(|d| d.len() <= 5).and_then(|d| d.parse().ok()).ok_or_else(wrong)?;
        rest = &rest[digits..];
        let (millis, unit) = match rest {
            r if r.starts_with("ms") => (1, 2),
            r if r.starts_with('s') => (1_000, 1),
            r if r.starts_with('m') => (60_000, 1),
            r if r.starts_with('h') => (3_600_000, 1),
            _ => return Err(wrong()),
        };
        total += std::time::Duration::from_millis(number * millis);
        rest = &rest[unit..];
    }
    Ok(total)
}

/// Exit code: done.
pub(crate) const DONE: u8 = 0;
/// Exit code: faults were found.
pub(crate) const FOUND_FAULTS: u8 = 1;
/// Exit code: wrong usage.
pub(crate) const WRONG_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  outrigger-proxy demo                                    see it work
  outrigger-proxy run --listen :8080 --to localhost:3000  in front of one local service
  outrigger-proxy run --config /etc/outrigger             from YAML documents
  outrigger-proxy validate /etc/outrigger
  outrigger-proxy explain --config /etc/outrigger --listener outbound http://payments/charge
  outrigger-proxy redirect print                          the rules of traffic capture in a pod

Exit codes: 0 done, 1 found faults, 2 wrong usage.";

const RUN_USAGE: &str = "\
outrigger-proxy run [OPTIONS] --config PATH...
       outrigger-proxy run [OPTIONS] --listen ADDR --to ADDR [--admin ADDR]
       outrigger-proxy run [OPTIONS] --control-plane ADDR";

const RUN_EXAMPLES: &str = "\
Examples:
  outrigger-proxy run --listen :8080 --to localhost:3000
  outrigger-proxy run --listen 127.0.0.1:8080 --to 10.0.0.7:80 --admin 127.0.0.1:9990
  outrigger-proxy run --config proxy.yaml routes.yaml
  outrigger-proxy run --config /etc/outrigger
  outrigger-proxy run --control-plane outrigger-control-plane.outrigger-system.svc:9980   in a pod

A changed file is taken over without closing a connection; so does SIGHUP. A faulty one changes nothing.
SIGTERM and SIGINT drain: new connections are refused, work in flight finishes (at most spec.drainTimeout).
In a pod the inbound side drains first, and outbound calls go on until the app is gone (--drain-timeout).
A second signal ends at once, with exit code 128 plus its number.

Environment:
  OUTRIGGER_DNS_SERVERS  name servers to ask instead of those of /etc/resolv.conf, IP[:PORT],IP[:PORT]";

const VALIDATE_EXAMPLES: &str = "\
Examples:
  outrigger-proxy validate proxy.yaml
  outrigger-proxy validate /etc/outrigger routes/

Exit codes: 0 no fault (warnings may be printed), 1 faults were found, 2 wrong usage.";

const DEMO_EXAMPLES: &str = "\
Examples:
  outrigger-proxy demo
  outrigger-proxy demo --for 10s";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(outrigger-proxy completions bash)                                    in this shell
  outrigger-proxy completions bash > ~/.local/share/bash-completion/completions/outrigger-proxy
  outrigger-proxy completions zsh > ~/.zfunc/_outrigger-proxy                         with fpath+=~/.zfunc in ~/.zshrc
  outrigger-proxy completions fish > ~/.config/fish/completions/outrigger-proxy.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  outrigger-proxy man | man -l -                       the page of the program
  outrigger-proxy man run | man -l -                   that of a command
  outrigger-proxy man --dir /usr/local/share/man/man1  all pages, a file each";

#[cfg(test)]
mod tests;
