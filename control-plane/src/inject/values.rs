//! What annotations may say. Each parser returns what is passed on, or what is wrong and would be right.

use std::{collections::BTreeSet, net::IpAddr};

use outrigger_config::{documents::Duration, suggest};
use tracing_subscriber::EnvFilter;

use super::OWN_PORTS;

/// Entries of one list: rules are made of each, and the kernel looks through them.
const MAX_ENTRIES: usize = 256;
/// Longest text of any value that is passed on as it is.
const MAX_TEXT: usize = 1024;

/// One of the words.
pub(super) fn one_of(text: &str, words: &[&str]) -> Result<String, String> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let near = suggest(text, words.iter().copied()).map_or_else(String::new, |near| format!(": did you mean {near}?"));
    Err(format!("{text:?} is none of {}{near}", words.join(", ")))
}

/// Ports and ranges, as `redirect install` takes them.
pub(super) fn ports(text: &str) -> Result<String, String> {
    list(text, "8080,9000-9010", |entry| {
        let (from, to) = entry.split_once('-').unwrap_or((entry, entry));
        let (from, to) = (port(from)?, port(to)?);
        if from > to {
            return Err(format!("the range {entry} ends before it begins: write {to}-{from}"));
        }
        Ok(entry.to_owned())
    })
}

pub(super) fn cidrs(text: &str) -> Result<String, String> {
    list(text, "10.0.0.0/8,fd00::/8", |entry| {
        let whole = |ip: IpAddr| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        let alone = entry.parse::<IpAddr>().map(whole);
        let net = entry.parse::<ipnet::IpNet>().map(|net| net.to_string());
        net.or(alone).map_err(|_| format!("{entry:?} is no network: write it like 10.0.0.0/8"))
    })
}

pub(super) fn uids(text: &str) -> Result<String, String> {
    list(text, "1000,1001", |entry| match entry.parse::<u32>() {
        Ok(uid) if uid < u32::MAX && is_digits(entry) => Ok(uid.to_string()),
        _ => Err(format!("{entry:?} is no user id: write a number from 0 to {}", u32::MAX - 1)),
    })
}

/// `15001=payments.shop:8080,...`
pub(super) fn outbound_listeners(text: &str) -> Result<String, String> {
    let mut taken = BTreeSet::new();
    list(text, "15001=payments.shop:8080", |entry| {
        let Some((from, to)) = entry.split_once('=') else {
            return Err(format!("{entry:?} has no `=`: write PORT=HOST:PORT, like 15001=payments.shop:8080"));
        };
        let from = own_port(from, &mut taken)?;
        let to = to.trim();
        host_and_port(to)?;
        if leads_back(to) {
            return Err(format!(
                "{to} leads to this pod itself or to its link, where the proxy takes nobody: name a Service"
            ));
        }
        Ok(format!("{from}={to}"))
    })
}

/// `8080=18080,...`
pub(super) fn inbound_listeners(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let (mut taken, mut all) = (BTreeSet::new(), Vec::new());
    list(text, "8080=18080", |entry| {
        let Some((from, to)) = entry.split_once('=') else {
            return Err(format!("{entry:?} has no `=`: write PORT=PORT, like 8080=18080"));
        };
        let (from, to) = (port(from.trim())?, port(to.trim())?);
        if from == to {
            return Err(format!("{entry}: proxy and app cannot both listen on {from}; let the app listen on another"));
        }
        for one in [from, to] {
            own_port(&one.to_string(), &mut taken)?;
        }
        all.push((from, to));
        Ok(String::new())
    })?;
    Ok(all)
}

/// Addresses that mean something else on each machine, or nobody.
fn leads_back(to: &str) -> bool {
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host).trim_matches(['[', ']']);
    let is_local = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_local)
}

/// A port on which the proxy or an app behind it is to listen.
fn own_port(text: &str, taken: &mut BTreeSet<u16>) -> Result<u16, String> {
    let port = port(text.trim())?;
    if OWN_PORTS.contains(&port) {
        return Err(format!("the proxy listens on {port} already: choose another"));
    }
    if !taken.insert(port) {
        return Err(format!("the port {port} is there twice"));
    }
    Ok(port)
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && is_digits(text) => Ok(port),
        _ => Err(format!("{text:?} is no port: write a number from 1 to 65535")),
    }
}

/// Numbers are parsed with a sign, too, and nobody writes one here.
fn is_digits(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit())
}

/// `HOST:PORT`, `[IPV6]:PORT`
pub(super) fn host_and_port(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is not HOST:PORT, for example payments.shop:8080");
    let (host, number) = text.rsplit_once(':').ok_or_else(wrong)?;
    port(number)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
            !host.is_empty() && host.len() <= 253 && host.bytes().all(inner)
        }
    };
    if good { Ok(()) } else { Err(wrong()) }
}

/// Seconds of a GEP-2257 duration, within bounds.
pub(super) fn seconds(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let Duration(span) = text.parse()?;
    if span.subsec_nanos() != 0 || !(least..=most).contains(&span.as_secs()) {
        return Err(format!("{text} is not a whole number of seconds from {least}s to {most}s"));
    }
    Ok(span.as_secs())
}

pub(super) fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no number from {least} to {most}")),
    }
}

/// A directive of `RUST_LOG`.
pub(super) fn log_level(text: &str) -> Result<(), String> {
    let plain = text.len() <= MAX_TEXT && !text.chars().any(char::is_control) && !text.trim().is_empty();
    match EnvFilter::try_new(text) {
        Ok(_) if plain => Ok(()),
        _ => Err(format!("{text:?} is no level and no filter: write error, warn, info, debug or trace")),
    }
}

pub(super) fn pull_policy(text: &str) -> Result<String, String> {
    one_of(text, &["Always", "IfNotPresent", "Never"])
}

/// What Kubernetes takes for a reference of an image; whether there is one shows when it is pulled.
pub(super) fn image(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} is no image: write it like ghcr.io/outrigger-mesh/outrigger:0.1.0"));
    }
    Ok(())
}

/// An amount of CPU or memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantity {
    /// As it was written.
    pub(super) text: String,
    amount: f64,
}

impl Quantity {
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        self.amount > other.amount
    }
}

/// A quantity of Kubernetes; `none`: `None`.
pub(super) fn quantity(text: &str) -> Result<Option<Quantity>, String> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    if text == "none" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no quantity: write it like 100m, 0.5, 64Mi or 1Gi, or none");
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
        .ok_or_else(wrong)?;
    let digits = number.len() <= 18 && number.starts_with(|c: char| c.is_ascii_digit());
    if !digits || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let amount: f64 = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if amount <= 0.0 {
        return Err(format!("{text} is nothing: write none to set none"));
    }
    Ok(Some(Quantity { text: text.to_owned(), amount }))
}

/// Entries between commas, each checked, joined again.
fn list(text: &str, example: &str, mut one: impl FnMut(&str) -> Result<String, String>) -> Result<String, String> {
    let entries: Vec<&str> = text.split(',').map(str::trim).collect();
    if entries.len() > MAX_ENTRIES {
        return Err(format!("{} entries are more than {MAX_ENTRIES}: use ranges", entries.len()));
    }
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.is_empty() {
            return Err(format!("{text:?} has an empty entry: write it like {example}"));
        }
        all.push(one(entry)?);
    }
    Ok(all.join(","))
}
