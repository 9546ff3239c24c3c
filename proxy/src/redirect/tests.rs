//! Plans and their text. What the kernel makes of it is seen in `tests/tests/capture_netns.rs`.

use proptest::prelude::*;
use regex::Regex;

use super::{
    nftables::{self, Layout},
    *,
};

pub(super) fn wish() -> Wish {
    Wish {
        inbound_port: 9992,
        outbound_port: 9991,
        proxy_uid: 2112,
        skip_inbound: Ports::default(),
        capture_inbound: Ports::default(),
        skip_outbound: Ports::default(),
        skip_cidrs: Cidrs::default(),
        skip_uids: Uids::default(),
        mode: Mode::Redirect,
        families: Families::Auto,
    }
}

fn inet(wish: Wish) -> String {
    nftables::script(&Plan::new(wish).unwrap(), Layout::Inet)
}

#[test]
fn the_default_captures_all_but_what_must_not_be() {
    let text = inet(wish());
    assert_eq!(
        text,
        "\
add table inet outrigger
delete table inet outrigger
table inet outrigger {
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        meta l4proto != tcp return
        iifname \"lo\" return
        fib daddr type != local return
        tcp dport { 53, 9990 } return
        meta l4proto tcp redirect to :9992
    }
    chain output {
        type nat hook output priority -100; policy accept;
        meta l4proto != tcp return
        oifname \"lo\" return
        meta skuid { 2112 } return
        tcp dport { 53 } return
        ip6 daddr fe80::/10 return
        meta l4proto tcp redirect to :9991
    }
}
"
    );
}

#[test]
fn what_is_listed_stands_in_sets() {
    let text = inet(Wish {
        skip_inbound: "22,8000-8010".parse().unwrap(),
        skip_outbound: "3306".parse().unwrap(),
        skip_cidrs: "10.0.0.0/8,fd00::/8".parse().unwrap(),
        skip_uids: "1000,0".parse().unwrap(),
        ..wish()
    });
    for line in [
        "tcp dport { 22, 53, 8000-8010, 9990 } return",
        "tcp dport { 53, 3306 } return",
        "ip daddr { 10.0.0.0/8 } return",
        "ip6 daddr { fd00::/8 } return",
        "meta skuid { 0, 1000, 2112 } return",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn listed_ports_alone_are_captured_but_never_the_admin_port() {
    let only = |capture: &str, skip: &str| {
        inet(Wish { capture_inbound: capture.parse().unwrap(), skip_inbound: skip.parse().unwrap(), ..wish() })
    };
    let text = only("53,80,9900-9999", "80");
    assert!(text.contains("tcp dport { 53, 9900-9989, 9991-9999 } redirect to :9992"), "{text}");
    assert!(!text.contains("meta l4proto tcp redirect to :9992"), "{text}");
    // None is left: then nothing is captured, and an empty set is no rule.
    let text = only("9990,80", "80");
    assert!(!text.contains("prerouting") && !text.contains("{  }") && text.contains("redirect to :9991"), "{text}");
}

#[test]
fn tproxy_comes_before_the_redirection_that_stands_in_for_it() {
    let text = inet(Wish { mode: Mode::Tproxy, ..wish() });
    let at = |line: &str| text.find(line).unwrap_or_else(|| panic!("{line}: {text}"));
    assert!(at("tproxy to :9992 meta mark set 0x840 accept") < at("meta mark 0x840 return"));
    assert!(at("meta mark 0x840 return") < at("redirect to :9992"));
    // The proxy runs as root there, and is known by its group.
    assert!(text.contains("meta skgid 2112 return"));
    assert!(!inet(wish()).contains("skgid"));
}

#[test]
fn one_version_of_ip_lets_the_other_pass() {
    let only = |families| inet(Wish { families, ..wish() });
    assert_eq!(only(Families::Ipv4).matches("meta nfproto ipv6 return").count(), 2);
    assert_eq!(only(Families::Ipv6).matches("meta nfproto ipv4 return").count(), 2);
    let plan = Plan::new(Wish { skip_cidrs: "10.0.0.0/8,fd00::/8".parse().unwrap(), ..wish() }).unwrap();
    let split = |ipv6| nftables::script(&plan, Layout::Split { ipv6 });
    assert!(split(true).contains("table ip outrigger {") && split(true).contains("table ip6 outrigger {"));
    assert!(!split(false).contains("ip6"));
    assert_eq!(split(true).matches("ip daddr").count(), 1);
}

#[test]
fn iptables_text_is_of_our_chains_and_the_jumps_that_are_missing() {
    let plan = Plan::new(Wish { skip_outbound: "90-100".parse().unwrap(), ..wish() }).unwrap();
    let text = iptables::script(&plan, Family::Ipv4, &[]);
    assert_eq!(
        text,
        "\
*nat
:OUTRIGGER_INBOUND - [0:0]
:OUTRIGGER_OUTBOUND - [0:0]
-A OUTRIGGER_INBOUND -i lo -j RETURN
-A OUTRIGGER_INBOUND -m addrtype ! --dst-type LOCAL -j RETURN
-A OUTRIGGER_INBOUND -p tcp --dport 53 -j RETURN
-A OUTRIGGER_INBOUND -p tcp --dport 9990 -j RETURN
-A OUTRIGGER_INBOUND -p tcp -j REDIRECT --to-ports 9992
-A OUTRIGGER_OUTBOUND -o lo -j RETURN
-A OUTRIGGER_OUTBOUND -m owner --uid-owner 2112 -j RETURN
-A OUTRIGGER_OUTBOUND -p tcp --dport 53 -j RETURN
-A OUTRIGGER_OUTBOUND -p tcp --dport 90:100 -j RETURN
-A OUTRIGGER_OUTBOUND -p tcp -j REDIRECT --to-ports 9991
-A PREROUTING -p tcp -j OUTRIGGER_INBOUND
-A OUTPUT -p tcp -j OUTRIGGER_OUTBOUND
COMMIT
"
    );
    let there = iptables::script(&plan, Family::Ipv4, &iptables::JUMPS);
    assert!(!there.contains("-A PREROUTING") && !there.contains("-A OUTPUT"));
}

/// Every line that a script may have. What a person wrote is in none but as digits, dots, colons and slashes.
fn grammar() -> Regex {
    let ports = r"\{ \d{1,5}(-\d{1,5})?(, \d{1,5}(-\d{1,5})?)* \}";
    let v4 = r"\{ [0-9.]{7,15}/\d{1,2}(, [0-9.]{7,15}/\d{1,2})* \}";
    let v6 = r"\{ [0-9a-f:]{2,39}/\d{1,3}(, [0-9a-f:]{2,39}/\d{1,3})* \}";
    let verdict = r"(return|redirect to :\d{1,5}|tproxy to :\d{1,5} meta mark set 0x840 accept)";
    let lines = [
        r"(add|delete) table (inet|ip|ip6) outrigger".to_owned(),
        r"table (inet|ip|ip6) outrigger \{".to_owned(),
        r"    chain (divert|prerouting|output) \{".to_owned(),
        r"        type (nat|filter) hook (prerouting|output) priority -1[05]0; policy accept;".to_owned(),
        r"        meta l4proto != tcp return".to_owned(),
        r"        meta nfproto ipv[46] return".to_owned(),
        r"        (meta mark 0x840|ct direction reply) return".to_owned(),
        "        [io]ifname \"lo\" return".to_owned(),
        r"        fib daddr type != local return".to_owned(),
        r"        meta skuid \{ \d{1,10}(, \d{1,10})* \} return".to_owned(),
        r"        meta skgid \d{1,10} return".to_owned(),
        format!(r"        tcp dport {ports} {verdict}"),
        format!(r"        meta l4proto tcp {verdict}"),
        format!(r"        ip daddr {v4} return"),
        r"        ip6 daddr fe80::/10 return".to_owned(),
        format!(r"        ip6 daddr {v6} return"),
        r"(    )?\}".to_owned(),
    ];
    Regex::new(&format!("^({})$", lines.join("|"))).unwrap()
}

/// Texts that a flag may be given: lists of what is right and nearly right, and anything.
fn list(item: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
    let lists = prop::collection::vec(item, 0..6).prop_map(|items| items.join(","));
    let hostile = prop::sample::select(vec![
        "80 } return; flush ruleset",
        "80\nflush ruleset",
        "10.0.0.0/8 } accept #",
        "$x",
        "1000; drop",
        "{ 1 }",
        "include \"/etc/passwd\"",
        "80 -j ACCEPT",
        "*nat",
    ]);
    prop_oneof![6 => lists, 1 => ".{0,40}".prop_map(String::from), 1 => hostile.prop_map(str::to_owned)]
}

fn ports() -> impl Strategy<Value = String> {
    list(prop_oneof![
        (1..=u16::MAX).prop_map(|p| p.to_string()),
        (1..=u16::MAX, 0..2000u16).prop_map(|(p, n)| format!("{p}-{}", p.saturating_add(n))),
        Just("9990".to_owned()),
        Just(" 53 ".to_owned()),
        (0..70_000u32).prop_map(|p| p.to_string()),
    ])
}

fn cidrs() -> impl Strategy<Value = String> {
    let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, n)| ipnet::Ipv4Net::new(ip.into(), n).unwrap().trunc());
    let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, n)| ipnet::Ipv6Net::new(ip.into(), n).unwrap().trunc());
    list(prop_oneof![v4.prop_map(|n| n.to_string()), v6.prop_map(|n| n.to_string()), Just("fd00::1".to_owned())])
}

fn uids() -> impl Strategy<Value = String> {
    list(any::<u32>().prop_map(|uid| uid.to_string()))
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Redirect), Just(Mode::Tproxy)]
}

fn families() -> impl Strategy<Value = Families> {
    prop::sample::select(vec![Families::Auto, Families::Ipv4, Families::Ipv6, Families::Both])
}

proptest! {
    /// Whatever flags say, a rule is one that we would write, or there is none.
    #[test]
    fn no_flag_gets_into_a_rule(
        (skip_inbound, capture_inbound, skip_outbound) in (ports(), ports(), ports()),
        (cidrs, uids, mode, families) in (cidrs(), uids(), modes(), families()),
    ) {
        let parsed = (|| -> Result<Wish, lists::WrongList> {
            Ok(Wish {
                skip_inbound: skip_inbound.parse()?,
                capture_inbound: capture_inbound.parse()?,
                skip_outbound: skip_outbound.parse()?,
                skip_cidrs: cidrs.parse()?,
                skip_uids: uids.parse()?,
                mode,
                families,
                ..wish()
            })
        })();
        let Ok(wish) = parsed else { return Ok(()) };
        let plan = Plan::new(wish).unwrap();
        let grammar = grammar();
        for layout in [Layout::Inet, Layout::Split { ipv6: true }, Layout::Split { ipv6: false }] {
            for line in nftables::script(&plan, layout).lines() {
                prop_assert!(grammar.is_match(line), "{line:?}");
            }
        }
        for family in [Family::Ipv4, Family::Ipv6] {
            let text = iptables::script(&plan, family, &[]);
            let plain = |c: char| c.is_ascii_alphanumeric() || " -_:./*[]!\n".contains(c);
            prop_assert!(text.chars().all(plain), "{text}");
            prop_assert!(text.lines().all(|l| l.starts_with("-A ") || l.starts_with([':', '*']) || l == "COMMIT"));
        }
    }

    /// What is captured is what was asked for, port by port.
    #[test]
    fn sets_of_ports_are_what_was_listed(a in ports(), b in ports(), port in 1..=u16::MAX) {
        let (Ok(a), Ok(b)) = (a.parse::<Ports>(), b.parse::<Ports>()) else { return Ok(()) };
        prop_assert_eq!(a.with(&b).contains(port), a.contains(port) || b.contains(port));
        prop_assert_eq!(a.without(&b).contains(port), a.contains(port) && !b.contains(port));
        let ranges: Vec<_> = a.with(&b).ranges().collect();
        prop_assert!(ranges.windows(2).all(|w| u32::from(w[0].1) + 1 < u32::from(w[1].0)), "{ranges:?}");
    }
}
