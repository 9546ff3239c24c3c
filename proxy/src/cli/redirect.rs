//! `redirect install|remove|print`: flags and variables to a plan, and what became of it to words.
//!
//! The capture container of a pod runs `install` once, as root with NET_ADMIN, before anything else of the pod starts.
//! Wrong flags are told before the system is looked at.

use std::{io, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

use super::{DONE, FOUND_FAULTS, say, usage};
use crate::redirect::{
    self, Backend, Done, Families, Mode, Plan, RedirectError, Wish, install,
    lists::{Cidrs, Ports, Uids, WrongList, uid},
    system::System,
};

/// Arguments of `redirect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RedirectArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put the rules in the place of those that are there, in one transaction; twice is once
    #[command(after_help = EXAMPLES)]
    Install(Flags),
    /// Remove all of our rules, whatever program has installed them
    #[command(after_help = EXAMPLES)]
    Remove(Flags),
    /// Show what install would feed to nft or iptables-restore; needs no privilege and changes nothing
    #[command(after_help = EXAMPLES)]
    Print(Flags),
}

/// What is captured. The three take the same, so that one line can be changed into another.
#[derive(Debug, Args)]
struct Flags {
    /// Where the proxy takes connections to the pod
    #[arg(long, value_name = "PORT", default_value = "9992", env = "OUTRIGGER_REDIRECT_INBOUND_PORT", value_parser = port)]
    inbound_port: u16,
    /// Where the proxy takes connections of the app
    #[arg(long, value_name = "PORT", default_value = "9991", env = "OUTRIGGER_REDIRECT_OUTBOUND_PORT", value_parser = port)]
    outbound_port: u16,
    /// The proxy's user, whose connections are never captured
    #[arg(long, value_name = "UID", default_value = "2112", env = "OUTRIGGER_REDIRECT_PROXY_UID", value_parser = uid)]
    proxy_uid: u32,
    /// Ports of the pod that are not captured: 25,8000-8010
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, env = "OUTRIGGER_REDIRECT_SKIP_INBOUND_PORTS", value_parser = ports)]
    skip_inbound_ports: Ports,
    /// The only ports of the pod that are captured [default: all but 53; never 9990]
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, env = "OUTRIGGER_REDIRECT_CAPTURE_INBOUND_PORTS", value_parser = ports)]
    capture_inbound_ports: Ports,
    /// Ports elsewhere to which connections are not captured; 53 (DNS) never is
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, env = "OUTRIGGER_REDIRECT_SKIP_OUTBOUND_PORTS", value_parser = ports)]
    skip_outbound_ports: Ports,
    /// Addresses to which connections are not captured: 10.0.0.0/8,fd00::/8
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, env = "OUTRIGGER_REDIRECT_SKIP_OUTBOUND_CIDRS", value_parser = cidrs)]
    skip_outbound_cidrs: Cidrs,
    /// Users whose connections are not captured: 0,1000
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, env = "OUTRIGGER_REDIRECT_SKIP_UIDS", value_parser = uids)]
    skip_uids: Uids,
    /// How connections to the pod are captured
    #[arg(long, value_name = "MODE", value_enum, default_value_t = InboundMode::Redirect, env = "OUTRIGGER_REDIRECT_INBOUND_MODE")]
    inbound_mode: InboundMode,
    /// What installs the rules
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t = BackendName::Auto, env = "OUTRIGGER_REDIRECT_BACKEND")]
    backend: BackendName,
    /// Versions of IP that are captured; the other passes by the proxy
    #[arg(long, value_name = "FAMILIES", value_enum, default_value_t = FamiliesName::Auto, env = "OUTRIGGER_REDIRECT_IP_FAMILIES")]
    ip_families: FamiliesName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InboundMode {
    /// The destination is rewritten
    Redirect,
    /// Connections are given to the proxy as they are; its listener needs NET_ADMIN or NET_RAW
    Tproxy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BackendName {
    /// nft; iptables-nft-restore where only that is there
    Auto,
    /// nft
    Nftables,
    /// iptables-nft-restore, else iptables-restore
    Iptables,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FamiliesName {
    /// Both, but for IPv6 on a kernel without it
    Auto,
    Ipv4,
    Ipv6,
    Both,
}

impl Flags {
    fn plan(self) -> Result<(Plan, Backend), String> {
        let backend = match self.backend {
            BackendName::Auto => Backend::Auto,
            BackendName::Nftables => Backend::Nftables,
            BackendName::Iptables => Backend::Iptables,
        };
        let plan = Plan::new(Wish {
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            proxy_uid: self.proxy_uid,
            skip_inbound: self.skip_inbound_ports,
            capture_inbound: self.capture_inbound_ports,
            skip_outbound: self.skip_outbound_ports,
            skip_cidrs: self.skip_outbound_cidrs,
            skip_uids: self.skip_uids,
            mode: match self.inbound_mode {
                InboundMode::Redirect => Mode::Redirect,
                InboundMode::Tproxy => Mode::Tproxy,
            },
            families: match self.ip_families {
                FamiliesName::Auto => Families::Auto,
                FamiliesName::Ipv4 => Families::Ipv4,
                FamiliesName::Ipv6 => Families::Ipv6,
                FamiliesName::Both => Families::Both,
            },
        })?;
        Ok((plan, backend))
    }
}

/// Runs the subcommand.
pub(super) fn run(args: RedirectArgs) -> ExitCode {
    match args.action {
        Action::Install(flags) => with(flags, |plan, backend, system| {
            told(redirect::install(plan, backend, system).map(|d| installed(plan, &d)))
        }),
        Action::Remove(flags) => with(flags, |_, _, system| told(redirect::remove(system).map(|done| removed(&done)))),
        Action::Print(flags) => with(flags, |plan, backend, system| told(Ok(install::preview(plan, backend, system)))),
    }
}

fn with(flags: Flags, work: impl FnOnce(&Plan, Backend, &System) -> ExitCode) -> ExitCode {
    match flags.plan() {
        Ok((plan, backend)) => work(&plan, backend, &System::this()),
        Err(e) => usage(&e),
    }
}

fn told(result: Result<String, RedirectError>) -> ExitCode {
    match result {
        Ok(text) => {
            say(&mut io::stdout(), &text);
            ExitCode::from(DONE)
        }
        Err(e) => {
            say(&mut io::stderr(), &format!("error: {e}\n"));
            ExitCode::from(FOUND_FAULTS)
        }
    }
}

fn installed(plan: &Plan, done: &Done) -> String {
    let mut text = String::new();
    for tried in &done.tried {
        text.push_str(&format!("did not do: {tried}\n"));
    }
    let inbound =
        if plan.captures_inbound() { format!("inbound to {}", plan.inbound_port) } else { "none inbound".into() };
    text.push_str(&format!("installed with {}: {inbound}, outbound to {}\n", done.installed, plan.outbound_port));
    text + &list(&done.removed)
}

fn removed(done: &Done) -> String {
    if done.removed.is_empty() { "nothing to remove\n".to_owned() } else { list(&done.removed) }
}

fn list(removed: &[String]) -> String {
    removed.iter().map(|name| format!("removed {name}\n")).collect()
}

fn port(text: &str) -> Result<u16, WrongList> {
    let ports: Ports = text.parse()?;
    let mut ranges = ports.ranges();
    match (ranges.next(), ranges.next()) {
        (Some((first, last)), None) if first == last => Ok(first),
        _ => Err(WrongList::Port(text.to_owned())),
    }
}

fn ports(text: &str) -> Result<Ports, WrongList> {
    text.parse()
}

fn cidrs(text: &str) -> Result<Cidrs, WrongList> {
    text.parse()
}

fn uids(text: &str) -> Result<Uids, WrongList> {
    text.parse()
}

const EXAMPLES: &str = "\
Examples:
  outrigger-proxy redirect print --skip-outbound-ports 3306,6379-6399
  outrigger-proxy redirect install --skip-inbound-ports 22 --skip-outbound-cidrs 10.0.0.0/8
  outrigger-proxy redirect remove

Never captured: UDP, and connections of the proxy's user, to loopback and to the pod itself, to
port 53 (DNS), and to the admin port 9990 of the pod.
install and remove need root with the capability NET_ADMIN in the network of the pod.

Exit codes: 0 done, 1 the rules could not be changed, 2 wrong usage.";

#[cfg(test)]
mod tests;
