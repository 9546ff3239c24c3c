//! A plan as text for `nft -f -`: one transaction that puts our table in the place of the one that is there.
//!
//! The table is declared, deleted and declared again, since deleting what is not there is an error to older kernels and
//! all of it counts at once or not at all. One table of the family `inet` serves both versions of IP; kernels before 5.2
//! have no NAT in it and get a table for each.
//!
//! Chains of NAT see the first packet of a connection alone. That of the outbound direction stands at `output`, so what
//! the pod forwards for others is not captured there, and `fib daddr type local` keeps it from being captured as inbound.

use std::fmt::Write as _;

use super::{
    Families, Family, Inbound, MARK, Mode, Plan, TABLE,
    lists::{Ports, joined},
};

/// Which tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One of the family `inet`.
    Inet,
    /// One of `ip` and one of `ip6`, if the kernel has IPv6.
    Split {
        /// It has.
        ipv6: bool,
    },
}

/// Families that a table of ours may be in.
pub const FAMILIES: [&str; 3] = ["inet", "ip", "ip6"];

/// The transaction that installs `plan`.
#[must_use]
pub fn script(plan: &Plan, layout: Layout) -> String {
    let mut text = String::new();
    match layout {
        Layout::Inet => table(&mut text, plan, "inet", &[Family::Ipv4, Family::Ipv6]),
        Layout::Split { ipv6 } => {
            for family in plan.families.on(ipv6) {
                table(&mut text, plan, word(*family), &[*family]);
            }
        }
    }
    text
}

/// Names of the tables of a layout, as `nft list tables` has them.
#[must_use]
pub fn tables(plan: &Plan, layout: Layout) -> Vec<String> {
    let named = |family: &str| format!("{family} {TABLE}");
    match layout {
        Layout::Inet => vec![named("inet")],
        Layout::Split { ipv6 } => plan.families.on(ipv6).iter().map(|f| named(word(*f))).collect(),
    }
}

fn word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

fn table(text: &mut String, plan: &Plan, name: &str, families: &[Family]) {
    let mut line = |depth: usize, line: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "{:1$}{line}", "", depth * 4).ok();
    };
    line(0, &format!("add table {name} {TABLE}"));
    line(0, &format!("delete table {name} {TABLE}"));
    line(0, &format!("table {name} {TABLE} {{"));
    for Chain { name, hook, rules } in chains(plan, families) {
        line(1, &format!("chain {name} {{"));
        line(2, hook);
        rules.iter().for_each(|rule| line(2, rule));
        line(1, "}");
    }
    line(0, "}");
}

struct Chain {
    name: &'static str,
    hook: &'static str,
    rules: Vec<String>,
}

fn chains(plan: &Plan, families: &[Family]) -> Vec<Chain> {
    let mut chains = Vec::new();
    if plan.captures_inbound() {
        if plan.mode == Mode::Tproxy {
            // Before NAT, which then leaves alone what was assigned. Where nothing was (the proxy's listener is not
            // transparent), the rule ends, and the connection is redirected.
            chains.push(Chain {
                name: "divert",
                hook: "type filter hook prerouting priority -150; policy accept;",
                rules: inbound(
                    plan,
                    "ct direction reply return",
                    &format!("tproxy to :{} meta mark set {MARK:#x} accept", plan.inbound_port),
                ),
            });
        }
        let first = if plan.mode == Mode::Tproxy { format!("meta mark {MARK:#x} return") } else { String::new() };
        chains.push(Chain {
            name: "prerouting",
            hook: "type nat hook prerouting priority -100; policy accept;",
            rules: inbound(plan, &first, &format!("redirect to :{}", plan.inbound_port)),
        });
    }
    chains.push(Chain {
        name: "output",
        hook: "type nat hook output priority -100; policy accept;",
        rules: outbound(plan, families),
    });
    chains
}

/// What every chain begins with: other protocols and versions of IP are not ours.
fn ours(plan: &Plan) -> impl Iterator<Item = String> {
    let other = match plan.families {
        Families::Auto | Families::Both => None,
        Families::Ipv4 => Some("ipv6"),
        Families::Ipv6 => Some("ipv4"),
    };
    let other = other.map(|other| format!("meta nfproto {other} return"));
    std::iter::once("meta l4proto != tcp return".to_owned()).chain(other)
}

fn inbound(plan: &Plan, first: &str, verdict: &str) -> Vec<String> {
    let mut rules: Vec<_> = ours(plan).collect();
    if !first.is_empty() {
        rules.push(first.to_owned());
    }
    rules.push("iifname \"lo\" return".to_owned());
    rules.push("fib daddr type != local return".to_owned());
    match &plan.inbound {
        Inbound::AllBut(ports) => {
            rules.extend(ports_rule(ports, "return"));
            rules.push(format!("meta l4proto tcp {verdict}"));
        }
        Inbound::Only(ports) => rules.extend(ports_rule(ports, verdict)),
    }
    rules
}

fn outbound(plan: &Plan, families: &[Family]) -> Vec<String> {
    let mut rules: Vec<_> = ours(plan).collect();
    rules.push("oifname \"lo\" return".to_owned());
    rules.push(format!("meta skuid {{ {} }} return", joined(plan.skip_uids.iter())));
    rules.extend(plan.skip_gid().map(|gid| format!("meta skgid {gid} return")));
    rules.extend(ports_rule(&plan.skip_outbound, "return"));
    if families.contains(&Family::Ipv4) && !plan.skip_cidrs.v4().is_empty() {
        rules.push(format!("ip daddr {{ {} }} return", joined(plan.skip_cidrs.v4().iter())));
    }
    if families.contains(&Family::Ipv6) {
        // A neighbour on one link, which the proxy could not tell from another's.
        rules.push("ip6 daddr fe80::/10 return".to_owned());
        if !plan.skip_cidrs.v6().is_empty() {
            rules.push(format!("ip6 daddr {{ {} }} return", joined(plan.skip_cidrs.v6().iter())));
        }
    }
    rules.push(format!("meta l4proto tcp redirect to :{}", plan.outbound_port));
    rules
}

fn ports_rule(ports: &Ports, verdict: &str) -> Option<String> {
    let range = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    (!ports.is_empty()).then(|| format!("tcp dport {{ {} }} {verdict}", joined(ports.ranges().map(range))))
}
