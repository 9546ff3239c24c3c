//! The rules of one iptables: put in place, put back, removed.
//!
//! `iptables-restore` has a transaction for each table, and there is a program for each version of IP. So a try may fail with
//! a part of its rules in place, and what was there before is written down first ([`Before`]) to be put back. Each step back
//! is harmless where nothing was changed.

use std::path::Path;

use super::{
    super::{
        Family, Plan,
        iptables::{self, JUMPS, Jump},
        system::{Ran, System},
    },
    Failed, RedirectError, Rules, found, run,
};

/// What a program had of ours before a try.
pub(super) struct Before {
    program: &'static str,
    /// Our chains, each with its rules as `iptables-restore` reads them.
    chains: Vec<(Jump, String)>,
    /// Jumps to them.
    jumps: Vec<Jump>,
}

impl Before {
    fn of(program: &'static str, file: &Path, system: &System) -> Self {
        let rules = |jump: Jump| {
            let ran = asked(system, file, jump, "-S", &[jump.to]).filter(|ran| ran.ok)?;
            let lines = ran.out.lines().filter(|line| line.starts_with("-A "));
            Some((jump, lines.map(|line| format!("{line}\n")).collect()))
        };
        let is_there = |jump: &Jump| asked(system, file, *jump, "-C", &jump.rule()).is_some_and(|ran| ran.ok);
        Self {
            program,
            chains: JUMPS.into_iter().filter_map(rules).collect(),
            jumps: JUMPS.into_iter().filter(is_there).collect(),
        }
    }

    fn has(&self, jump: Jump) -> bool {
        self.chains.iter().any(|(known, _)| *known == jump)
    }

    /// The text that fills the chains as they were.
    fn script(&self) -> String {
        let table = |table: &str| {
            let chains: Vec<_> = self.chains.iter().filter(|(jump, _)| jump.table == table).collect();
            let declared: String = chains.iter().map(|(jump, _)| format!(":{} - [0:0]\n", jump.to)).collect();
            let rules: String = chains.iter().map(|(_, rules)| &**rules).collect();
            if chains.is_empty() { String::new() } else { format!("*{table}\n{declared}{rules}COMMIT\n") }
        };
        ["nat", "mangle"].map(table).concat()
    }
}

/// Puts the rules of `plan` for one version of IP in the place of those that are there. What was there before goes to `tried`.
///
/// # Errors
/// It failed, maybe with a part of the rules in place.
pub(super) fn replace(
    plan: &Plan,
    family: Family,
    program: &'static str,
    system: &System,
    tried: &mut Vec<Before>,
) -> Result<(), Failed> {
    let restores = found(system, &restore(program))?;
    let looks = found(system, program)?;
    let before = Before::of(program, &looks, system);
    let script = iptables::script(plan, family, &before.jumps);
    tried.push(before);
    let ran = run(system, &restores, &RESTORE, &script)?;
    if ran.ok { Ok(()) } else { Err(Failed::of(&ran)) }
}

/// Makes the rules what they were before these tries.
///
/// # Errors
/// Something is left.
pub(super) fn put_back(tried: &[Before], system: &System) -> Result<(), RedirectError> {
    for before in tried {
        let program = before.program;
        let Some(file) = system.find(program) else { continue };
        // One that was not there before was added once, if at all.
        for (jump, _) in before.chains.iter().filter(|(jump, _)| !before.jumps.contains(jump)) {
            asked(system, &file, *jump, "-D", &jump.rule());
        }
        let script = before.script();
        if !script.is_empty() {
            let left = |said: String| RedirectError::Left(format!("what was tried with {program}-restore"), said);
            let restores = system.find(&restore(program)).ok_or_else(|| left(format!("{program}-restore is gone")))?;
            let ran = system.run(&restores, &RESTORE, &script).map_err(|e| left(e.to_string()))?;
            if !ran.ok {
                return Err(left(ran.said));
            }
        }
        let stays = |rules: &Rules| matches!(rules, Rules::Chain { jump, .. } if before.has(*jump));
        clean(system, program, &stays, &mut Vec::new())?;
    }
    Ok(())
}

pub(super) fn is_ipv6(program: &str) -> bool {
    program.starts_with("ip6")
}

/// Whether this iptables is the one on nf_tables. It says so with its version; the other, and what is older than both, does
/// not.
pub(super) fn is_nft(system: &System, program: &str) -> bool {
    let file = system.find(program);
    let version = file.and_then(|file| system.run(&file, &["-V"], "").ok());
    version.is_some_and(|ran| ran.out.contains("nf_tables"))
}

/// What `iptables-restore` is told: it leaves other chains alone, and waits for its lock for 10 s at most.
pub(super) const RESTORE: [&str; 3] = ["--noflush", "-w", "10"];

pub(super) fn restore(program: &str) -> String {
    format!("{program}-restore")
}

/// Runs `iptables -t TABLE ACTION ARGS`. `None`: it cannot be run.
fn asked(system: &System, program: &Path, jump: Jump, action: &str, args: &[&str]) -> Option<Ran> {
    let args: Vec<_> = ["-w", "10", "-t", jump.table, action].into_iter().chain(args.iter().copied()).collect();
    system.run(program, &args, "").ok()
}

/// Every iptables that may have rules of ours, or be another name of one that has.
pub(super) const PROGRAMS: [&str; 6] =
    ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy", "iptables", "ip6tables"];

/// Removes the chains of one program, and the jumps to them, but what is to `stay`; `removed` gets their names.
///
/// # Errors
/// One is left.
pub(super) fn clean(
    system: &System,
    program: &'static str,
    stay: &impl Fn(&Rules) -> bool,
    removed: &mut Vec<String>,
) -> Result<(), RedirectError> {
    let Some(file) = system.find(program) else { return Ok(()) };
    let nft = is_nft(system, program);
    for jump in JUMPS {
        if !nft && !system.has_legacy_table(is_ipv6(program), jump.table) {
            continue;
        }
        let there = || asked(system, &file, jump, "-S", &[jump.to]).is_some_and(|ran| ran.ok);
        if stay(&Rules::Chain { program, jump }) || !there() {
            continue;
        }
        // Each call removes one of those that are equal; whoever made more than a few did not use us.
        let mut left = 16;
        while left > 0 && asked(system, &file, jump, "-D", &jump.rule()).is_some_and(|ran| ran.ok) {
            left -= 1;
        }
        asked(system, &file, jump, "-F", &[jump.to]);
        let last = asked(system, &file, jump, "-X", &[jump.to]);
        let name = format!("chain {} of {program} -t {}", jump.to, jump.table);
        if there() {
            return Err(RedirectError::Left(name, last.map(|ran| ran.said).unwrap_or_default()));
        }
        removed.push(name);
        tidy(system, &file, program, jump);
    }
    Ok(())
}

/// iptables-nft makes a base chain, and a table around it, when they are first used. Those that are empty are removed again;
/// chains of others make that fail, and then they stay.
fn tidy(system: &System, file: &Path, program: &str, jump: Jump) {
    if !asked(system, file, jump, "-X", &[jump.from]).is_some_and(|ran| ran.ok) {
        return;
    }
    let Some(nft) = system.find("nft") else { return };
    let table = format!("{} {}", if is_ipv6(program) { "ip6" } else { "ip" }, jump.table);
    let words: Vec<_> = ["list", "table"].into_iter().chain(table.split(' ')).collect();
    let empty =
        system.run(&nft, &words, "").is_ok_and(|ran| ran.ok && !ran.out.contains("chain") && !ran.out.contains("set"));
    if empty {
        // What is left, if this fails, is an empty table.
        system.run(&nft, &["-f", "-"], &format!("delete table {table}\n")).ok();
    }
}
