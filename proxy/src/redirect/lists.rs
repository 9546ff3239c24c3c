//! Lists that people write with commas: ports and ranges of them, addresses, users.
//!
//! What comes out is numbers in order, disjoint and merged (nftables refuses sets that overlap), so that two ways to say
//! the same give the same rules. An empty text is an empty list: a variable that is set to nothing says nothing.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Items of one list: more than anybody writes, and iptables makes a rule of each that every connection passes.
pub const MAX_ITEMS: usize = 512;

/// TCP ports, as ranges that are in order and touch nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// A single one.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self(vec![(port, port)])
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last port of each range, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }

    /// True if `port` is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// These and the others.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        Self::merged(self.0.iter().chain(&others.0).copied().collect())
    }

    /// These but for the others.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let mut left = self.0.clone();
        for (first, last) in &others.0 {
            let cut = |(a, b): (u16, u16)| {
                let before = (a < *first).then(|| (a, b.min(first - 1)));
                let after = (b > *last).then(|| (a.max(last + 1), b));
                before.into_iter().chain(after)
            };
            left = left.into_iter().flat_map(cut).collect();
        }
        Self::merged(left)
    }

    fn merged(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl FromStr for Ports {
    type Err = WrongList;

    fn from_str(text: &str) -> Result<Self, WrongList> {
        let range = |item: &str| {
            let wrong = || WrongList::Port(item.to_owned());
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse().ok()).flatten().filter(|port| *port != 0).ok_or_else(wrong)
            };
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(WrongList::Backwards { first, last });
            }
            Ok((first, last))
        };
        Ok(Self::merged(items(text)?.into_iter().map(range).collect::<Result<_, _>>()?))
    }
}

/// Ranges of addresses, merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cidrs {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Cidrs {
    /// Those of IPv4.
    #[must_use]
    pub fn v4(&self) -> &[Ipv4Net] {
        &self.v4
    }

    /// Those of IPv6.
    #[must_use]
    pub fn v6(&self) -> &[Ipv6Net] {
        &self.v6
    }
}

impl FromStr for Cidrs {
    type Err = WrongList;

    fn from_str(text: &str) -> Result<Self, WrongList> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for item in items(text)? {
            match cidr(item)? {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        Ok(Self { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) })
    }
}

fn cidr(item: &str) -> Result<IpNet, WrongList> {
    let net = match item.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => item.parse::<IpNet>().map_err(|_| WrongList::Cidr(item.to_owned()))?,
    };
    if net.addr() != net.network() {
        return Err(WrongList::HostBits { item: item.to_owned(), right: net.trunc() });
    }
    match net {
        // No packet has such an address: the kernel sends IPv4 for it.
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(WrongList::Mapped(item.to_owned())),
        net => Ok(net),
    }
}

/// Users by number, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uids(Vec<u32>);

impl Uids {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// These and `uid`.
    #[must_use]
    pub fn with(mut self, uid: u32) -> Self {
        self.0.push(uid);
        self.0.sort_unstable();
        self.0.dedup();
        self
    }
}

impl FromStr for Uids {
    type Err = WrongList;

    fn from_str(text: &str) -> Result<Self, WrongList> {
        let mut uids = items(text)?.into_iter().map(uid).collect::<Result<Vec<_>, _>>()?;
        uids.sort_unstable();
        uids.dedup();
        Ok(Self(uids))
    }
}

/// A user's number.
///
/// # Errors
/// It is none: a name, or the number that stands for nobody at all.
pub fn uid(item: &str) -> Result<u32, WrongList> {
    let wrong = || WrongList::Uid(item.to_owned());
    let plain = !item.is_empty() && item.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| item.parse().ok()).flatten().filter(|uid| *uid != u32::MAX).ok_or_else(wrong)
}

/// What is wrong with a list. What was written is shown escaped: it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongList {
    /// Two commas in a row, or one at an end.
    #[error("an item is empty; write for example 25,8000-8010")]
    Empty,
    /// Too many.
    #[error("{0} items are too many; at most {MAX_ITEMS} make sense, and ranges say more with less")]
    TooMany(usize),
    /// No port.
    #[error("{0:?} is no port; write a number from 1 to 65535 or a range such as 8000-8010")]
    Port(String),
    /// A range that ends before it begins.
    #[error("the range {first}-{last} ends before it begins; write {last}-{first}")]
    Backwards {
        /// What was written first.
        first: u16,
        /// What was written last.
        last: u16,
    },
    /// No address.
    #[error("{0:?} is no range of addresses; write for example 10.0.0.0/8, 192.0.2.7 or fd00::/8")]
    Cidr(String),
    /// An address with bits behind its prefix.
    #[error("{item:?} has bits behind its prefix; write {right}")]
    HostBits {
        /// What was written.
        item: String,
        /// The range that it is in.
        right: IpNet,
    },
    /// IPv4 written as IPv6.
    #[error("{0:?} is IPv4 in IPv6, which no packet has; write the IPv4 range itself")]
    Mapped(String),
    /// No user.
    #[error("{0:?} is no user; write its number, for example 1000")]
    Uid(String),
}

fn items(text: &str) -> Result<Vec<&str>, WrongList> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<_> = text.split(',').map(str::trim).collect();
    if items.len() > MAX_ITEMS {
        return Err(WrongList::TooMany(items.len()));
    }
    if items.iter().any(|item| item.is_empty()) {
        return Err(WrongList::Empty);
    }
    Ok(items)
}

/// Items as sets of nftables have them.
pub(super) fn joined(items: impl Iterator<Item = impl fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<(u16, u16)> {
        text.parse::<Ports>().unwrap().0
    }

    #[test]
    fn ports_are_merged_and_in_order() {
        assert_eq!(ports(""), []);
        assert_eq!(ports(" 443, 80"), [(80, 80), (443, 443)]);
        assert_eq!(ports("8000-8010,8005,8011,7999-8001"), [(7999, 8011)]);
        assert_eq!(ports("1-65535,65535,1"), [(1, 65535)]);
        assert_eq!(ports("65535,65534"), [(65534, 65535)]);
    }

    #[test]
    fn ports_are_taken_away() {
        let without = |a: &str, b: &str| a.parse::<Ports>().unwrap().without(&b.parse().unwrap()).0;
        assert_eq!(without("1-65535", "9990"), [(1, 9989), (9991, 65535)]);
        assert_eq!(without("1-65535", "1,65535"), [(2, 65534)]);
        assert_eq!(without("80,90-100", "70-95,200"), [(96, 100)]);
        assert_eq!(without("80", "80"), []);
    }

    #[test]
    fn wrong_items_are_named_with_what_would_be_right() {
        let said = |result: Result<Ports, WrongList>| result.unwrap_err().to_string();
        for wrong in ["0", "65536", "http", "-1", "+80", "80-", "1-2-3", "0x50", "80;drop", "8 0"] {
            assert!(said(format!("{wrong},22").parse()).contains("1 to 65535"), "{wrong}");
        }
        assert!(said("90-80".parse()).contains("write 80-90"));
        assert!(said("80,,90".parse()).contains("empty"));
        assert!(said("80,".parse()).contains("empty"));
        assert!(said(vec!["1"; 513].join(",").parse()).contains("513 items"));
    }

    #[test]
    fn ranges_of_addresses_are_merged() {
        let cidrs: Cidrs = "10.1.0.0/16,10.0.0.0/8,192.0.2.7,fd00::/8,fd00:1::/32".parse().unwrap();
        assert_eq!(joined(cidrs.v4().iter()), "10.0.0.0/8, 192.0.2.7/32");
        assert_eq!(joined(cidrs.v6().iter()), "fd00::/8");
        let said = |text: &str| text.parse::<Cidrs>().unwrap_err().to_string();
        assert!(said("10.0.0.1/8").contains("write 10.0.0.0/8"));
        assert!(said("10.0.0.0/33").contains("10.0.0.0/33"));
        assert!(said("::ffff:10.0.0.0/104").contains("IPv4"));
        assert!(said("fe80::1%eth0").contains("is no range"));
        assert!(said("example.com").contains("is no range"));
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!("1000, 0,1000".parse::<Uids>().unwrap().0, [0, 1000]);
        for wrong in ["root", "-1", "4294967295", "4294967296", "1000 1001"] {
            assert!(wrong.parse::<Uids>().unwrap_err().to_string().contains("is no user"), "{wrong}");
        }
    }
}
