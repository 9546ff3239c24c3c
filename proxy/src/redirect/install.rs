//! Installing and removing a plan: which program, decided by trying, and nothing left of another.
//!
//! A try that fails leaves the rules as they were, so the next may follow: nft takes all in one transaction, and what
//! iptables has changed before it failed is put back (`chains`). A try that the kernel forbids ends it: no other program
//! would be allowed more. Rules that an earlier version, or another program, has left
//! are removed after ours are in place, never before: there is no moment without capture.

mod chains;

use std::path::PathBuf;

use super::{
    Backend, Families, Family, Plan, TABLE,
    iptables::{self, Jump},
    nftables::{self, FAMILIES, Layout},
    system::{Ran, System},
};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What the rules are in now; empty: nothing was installed.
    pub installed: String,
    /// What was removed, by name.
    pub removed: Vec<String>,
    /// Ways that were tried before, and why they did not do.
    pub tried: Vec<String>,
}

/// Why rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The kernel does not let this process.
    #[error(
        "this process may not change the rules of its network: the capability NET_ADMIN is missing{0}\n\
         help: run it as root with NET_ADMIN (in a pod: runAsUser: 0, capabilities: add [NET_ADMIN], as the container \
         outrigger-redirect has it). Where a namespace forbids that, annotate the pod with outrigger.dev/capture: none, \
         and its proxy works without capture"
    )]
    Forbidden(String),
    /// No way is left.
    #[error("the rules could not be installed:\n  {}\n{HELP}", .0.join("\n  "))]
    NoWay(Vec<String>),
    /// Rules are left that must not be.
    #[error(
        "{0} could not be removed: {1}\nhelp: look at `nft list ruleset` and `iptables-save` and remove it by hand"
    )]
    Left(String, String),
}

const HELP: &str = "\
help: install the program nft (package nftables) or iptables-nft-restore (package iptables), on a kernel with nf_tables \
and NAT (modules nf_tables, nft_chain_nat, nft_redir, nft_fib_inet; for --inbound-mode tproxy nft_tproxy as well)";

/// Puts the rules of `plan` in the place of those that are there.
///
/// # Errors
/// No program is there, or the kernel refuses; the rules are what they were. Or rules of another program, or of a try that
/// failed, could not be removed: the error names them.
pub fn install(plan: &Plan, backend: Backend, system: &System) -> Result<Done, RedirectError> {
    allowed(system)?;
    let mut tried = Vec::new();
    for way in ways(plan, backend, system) {
        match way.apply(plan, system) {
            Ok(()) => {
                let removed = clean(system, |rules| way.owns(plan, system, rules))?;
                return Ok(Done { installed: way.to_string(), removed, tried });
            }
            Err(Failed::Forbidden(why)) => return Err(RedirectError::Forbidden(format!(" ({why})"))),
            Err(Failed::Because(why)) => tried.push(format!("{way}: {why}")),
            Err(Failed::Left(left)) => return Err(left),
        }
    }
    Err(RedirectError::NoWay(tried))
}

/// Removes all that was ever installed, by whatever program.
///
/// # Errors
/// Something is left.
pub fn remove(system: &System) -> Result<Done, RedirectError> {
    allowed(system)?;
    let removed = clean(system, |_| false)?;
    Ok(Done { installed: String::new(), removed, tried: Vec::new() })
}

/// The text that [`install`] would feed to a program first, and how it would run it.
#[must_use]
pub fn preview(plan: &Plan, backend: Backend, system: &System) -> String {
    let all = ways(plan, backend, system);
    let way = all.iter().find(|way| way.is_there(system)).or(all.first());
    way.map(|way| way.preview(plan, system)).unwrap_or_default()
}

fn allowed(system: &System) -> Result<(), RedirectError> {
    match system.net_admin() {
        Some(false) => Err(RedirectError::Forbidden(String::new())),
        Some(true) | None => Ok(()),
    }
}

/// A way to install rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Nft(Layout),
    /// The program that restores, whose sibling without `-restore` looks and removes.
    Iptables {
        v4: &'static str,
        v6: &'static str,
    },
}

const IPTABLES: [Way; 2] =
    [Way::Iptables { v4: "iptables-nft", v6: "ip6tables-nft" }, Way::Iptables { v4: "iptables", v6: "ip6tables" }];

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nft(Layout::Inet) => write!(f, "nft (table inet {TABLE})"),
            Self::Nft(Layout::Split { .. }) => write!(f, "nft (tables ip {TABLE} and ip6 {TABLE})"),
            Self::Iptables { v4, .. } => write!(f, "{v4}-restore"),
        }
    }
}

enum Failed {
    Forbidden(String),
    Because(String),
    /// And what it had changed could not be undone.
    Left(RedirectError),
}

impl Failed {
    fn of(ran: &Ran) -> Self {
        if ran.is_forbidden() { Self::Forbidden(ran.said.clone()) } else { Self::Because(ran.said.clone()) }
    }
}

fn ways(plan: &Plan, backend: Backend, system: &System) -> Vec<Way> {
    let nft = [Way::Nft(Layout::Inet), Way::Nft(split(plan, system))];
    match backend {
        Backend::Auto => nft.into_iter().chain(IPTABLES).collect(),
        Backend::Nftables => nft.to_vec(),
        Backend::Iptables => IPTABLES.to_vec(),
    }
}

/// Where IPv6 is asked for by name, a kernel without it is an error and not a silence.
fn split(plan: &Plan, system: &System) -> Layout {
    Layout::Split { ipv6: system.ipv6() || plan.families == Families::Both }
}

impl Way {
    fn is_there(self, system: &System) -> bool {
        match self {
            Self::Nft(_) => system.find("nft").is_some(),
            Self::Iptables { v4, .. } => system.find(&chains::restore(v4)).is_some(),
        }
    }

    /// Whether rules of this name are what it has installed.
    fn owns(self, plan: &Plan, system: &System, rules: &Rules) -> bool {
        match (self, rules) {
            (Self::Nft(layout), Rules::Table(name)) => nftables::tables(plan, layout).contains(name),
            (Self::Iptables { v4, v6 }, Rules::Chain { program, jump }) => {
                // `iptables` is mostly another name of `iptables-nft`: what counts is whose rules a program shows.
                let families = plan.families.on(system.ipv6());
                let used = |f: &Family| if *f == Family::Ipv4 { v4 } else { v6 };
                let same = |f| {
                    chains::is_ipv6(used(f)) == chains::is_ipv6(program)
                        && chains::is_nft(system, used(f)) == chains::is_nft(system, program)
                };
                families.iter().any(same) && iptables::has(plan, *jump)
            }
            _ => false,
        }
    }

    fn preview(self, plan: &Plan, system: &System) -> String {
        match self {
            Self::Nft(layout) => format!("# nft -f -\n{}", nftables::script(plan, layout)),
            Self::Iptables { v4, v6 } => {
                let families = plan.families.on(system.ipv6()).iter();
                let each = families.map(|family| {
                    let program = if *family == Family::Ipv4 { v4 } else { v6 };
                    format!(
                        "# {program}-restore {}\n{}",
                        chains::RESTORE.join(" "),
                        iptables::script(plan, *family, &[])
                    )
                });
                each.collect()
            }
        }
    }

    fn apply(self, plan: &Plan, system: &System) -> Result<(), Failed> {
        match self {
            Self::Nft(layout) => {
                let nft = found(system, "nft")?;
                let ran = run(system, &nft, &["-f", "-"], &nftables::script(plan, layout))?;
                if ran.ok { Ok(()) } else { Err(Failed::of(&ran)) }
            }
            Self::Iptables { v4, v6 } => {
                let mut tried = Vec::new();
                let mut each = plan.families.on(system.ipv6()).iter().map(|family| {
                    let program = if *family == Family::Ipv4 { v4 } else { v6 };
                    chains::replace(plan, *family, program, system, &mut tried)
                });
                match each.try_for_each(|done| done) {
                    Ok(()) => Ok(()),
                    Err(failed) => Err(chains::put_back(&tried, system).map_or_else(Failed::Left, |()| failed)),
                }
            }
        }
    }
}

fn found(system: &System, program: &str) -> Result<PathBuf, Failed> {
    system.find(program).ok_or_else(|| Failed::Because(format!("there is no program {program} in PATH")))
}

fn run(system: &System, program: &std::path::Path, args: &[&str], input: &str) -> Result<Ran, Failed> {
    let failed = |e: std::io::Error| Failed::Because(format!("{} cannot be run: {e}", program.display()));
    system.run(program, args, input).map_err(failed)
}

/// Rules of ours, by what holds them.
enum Rules {
    /// `FAMILY NAME`
    Table(String),
    Chain {
        program: &'static str,
        jump: Jump,
    },
}

/// Removes all of ours but what is to `stay`. The names of what was removed.
fn clean(system: &System, stay: impl Fn(&Rules) -> bool) -> Result<Vec<String>, RedirectError> {
    let mut removed = Vec::new();
    for program in chains::PROGRAMS {
        chains::clean(system, program, &stay, &mut removed)?;
    }
    clean_tables(system, &stay, &mut removed)?;
    Ok(removed)
}

fn clean_tables(
    system: &System,
    stay: &impl Fn(&Rules) -> bool,
    removed: &mut Vec<String>,
) -> Result<(), RedirectError> {
    let Some(nft) = system.find("nft") else { return Ok(()) };
    let list = match system.run(&nft, &["list", "tables"], "") {
        Ok(ran) if ran.ok => ran.out,
        // A kernel without nf_tables has none of our tables.
        Ok(ran) if !ran.is_forbidden() => return Ok(()),
        Ok(ran) => return Err(RedirectError::Forbidden(format!(" ({})", ran.said))),
        Err(e) => return Err(RedirectError::Left(format!("tables {TABLE}"), e.to_string())),
    };
    let there = |name: &String| list.lines().any(|line| line.strip_prefix("table ") == Some(name));
    let ours: Vec<_> = FAMILIES
        .iter()
        .map(|family| format!("{family} {TABLE}"))
        .filter(|name| there(name) && !stay(&Rules::Table(name.clone())))
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let script: String = ours.iter().map(|name| format!("delete table {name}\n")).collect();
    match system.run(&nft, &["-f", "-"], &script) {
        Ok(ran) if ran.ok => removed.extend(ours.into_iter().map(|name| format!("table {name}"))),
        Ok(ran) => return Err(RedirectError::Left(format!("table {}", ours.join(", ")), ran.said)),
        Err(e) => return Err(RedirectError::Left(format!("table {}", ours.join(", ")), e.to_string())),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
