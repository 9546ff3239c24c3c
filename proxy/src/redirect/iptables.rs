//! A plan as text for `iptables-restore --noflush`: our own chains, and a jump to each from where packets pass.
//!
//! A chain that is named in the text is emptied and filled in the same transaction, so what is there is replaced. A jump
//! is not: it would be added each time, so [`script`] is told which ones are there already. nftables is the better way
//! (one table, both versions of IP at once); this one is for machines that have no `nft`.

use std::fmt::Write as _;

use super::{Family, Inbound, MARK, Mode, Plan, lists::Ports};

/// A chain of ours, and from where it is jumped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// Table of iptables.
    pub table: &'static str,
    /// The chain that packets pass.
    pub from: &'static str,
    /// Our chain.
    pub to: &'static str,
}

const INBOUND: Jump = Jump { table: "nat", from: "PREROUTING", to: "OUTRIGGER_INBOUND" };
const OUTBOUND: Jump = Jump { table: "nat", from: "OUTPUT", to: "OUTRIGGER_OUTBOUND" };
const TPROXY: Jump = Jump { table: "mangle", from: "PREROUTING", to: "OUTRIGGER_TPROXY" };
/// All that a plan may have.
pub const JUMPS: [Jump; 3] = [INBOUND, OUTBOUND, TPROXY];

impl Jump {
    /// The rule that jumps, behind `-A`, `-C` or `-D`.
    #[must_use]
    pub fn rule(self) -> [&'static str; 5] {
        [self.from, "-p", "tcp", "-j", self.to]
    }
}

/// Whether `plan` has the chain.
#[must_use]
pub fn has(plan: &Plan, jump: Jump) -> bool {
    match jump {
        OUTBOUND => true,
        TPROXY => plan.captures_inbound() && plan.mode == Mode::Tproxy,
        _ => plan.captures_inbound(),
    }
}

/// The text that installs `plan` for one version of IP, where the jumps `there` are there already.
#[must_use]
pub fn script(plan: &Plan, family: Family, there: &[Jump]) -> String {
    let mut text = String::new();
    for table in ["nat", "mangle"] {
        let jumps: Vec<_> = JUMPS.into_iter().filter(|j| j.table == table && has(plan, *j)).collect();
        if jumps.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        writeln!(text, "*{table}").ok();
        for jump in &jumps {
            writeln!(text, ":{} - [0:0]", jump.to).ok();
        }
        for jump in &jumps {
            for rule in rules(plan, family, *jump) {
                writeln!(text, "-A {} {rule}", jump.to).ok();
            }
        }
        for jump in jumps.iter().filter(|j| !there.contains(j)) {
            writeln!(text, "-A {}", jump.rule().join(" ")).ok();
        }
        writeln!(text, "COMMIT").ok();
    }
    text
}

fn rules(plan: &Plan, family: Family, jump: Jump) -> Vec<String> {
    match jump {
        OUTBOUND => outbound(plan, family),
        TPROXY => inbound(
            plan,
            Some("-m conntrack --ctdir REPLY -j RETURN".to_owned()),
            &format!("TPROXY --on-port {} --tproxy-mark {MARK:#x}/0xffffffff", plan.inbound_port),
        ),
        _ => inbound(
            plan,
            (plan.mode == Mode::Tproxy).then(|| format!("-m mark --mark {MARK:#x} -j RETURN")),
            &format!("REDIRECT --to-ports {}", plan.inbound_port),
        ),
    }
}

fn inbound(plan: &Plan, first: Option<String>, target: &str) -> Vec<String> {
    let mut rules: Vec<_> = first.into_iter().collect();
    rules.push("-i lo -j RETURN".to_owned());
    rules.push("-m addrtype ! --dst-type LOCAL -j RETURN".to_owned());
    match &plan.inbound {
        Inbound::AllBut(ports) => {
            rules.extend(ports_rules(ports, "RETURN"));
            rules.push(format!("-p tcp -j {target}"));
        }
        Inbound::Only(ports) => rules.extend(ports_rules(ports, target)),
    }
    rules
}

fn outbound(plan: &Plan, family: Family) -> Vec<String> {
    let mut rules = vec!["-o lo -j RETURN".to_owned()];
    rules.extend(plan.skip_uids.iter().map(|uid| format!("-m owner --uid-owner {uid} -j RETURN")));
    rules.extend(plan.skip_gid().map(|gid| format!("-m owner --gid-owner {gid} -j RETURN")));
    rules.extend(ports_rules(&plan.skip_outbound, "RETURN"));
    match family {
        Family::Ipv4 => rules.extend(plan.skip_cidrs.v4().iter().map(|net| format!("-d {net} -j RETURN"))),
        Family::Ipv6 => {
            rules.push("-d fe80::/10 -j RETURN".to_owned());
            rules.extend(plan.skip_cidrs.v6().iter().map(|net| format!("-d {net} -j RETURN")));
        }
    }
    rules.push(format!("-p tcp -j REDIRECT --to-ports {}", plan.outbound_port));
    rules
}

fn ports_rules(ports: &Ports, target: &str) -> impl Iterator<Item = String> {
    ports.ranges().map(move |(first, last)| {
        let port = if first == last { format!("{first}") } else { format!("{first}:{last}") };
        format!("-p tcp --dport {port} -j {target}")
    })
}
