//! Traffic capture: the rules that lead a pod's TCP connections through its proxy.
//!
//! A [`Plan`] says what is captured; it is made of values that were parsed, so that nothing a person writes can get into
//! the text of a rule. [`nftables`] and [`iptables`] turn it into text and know no system; [`mod@install`] feeds that to the
//! programs `nft` or `iptables-restore` and finds out by trying which of them the machine has a use for. Netlink is not
//! spoken here: both programs take a whole table in one transaction, and people can read what they are fed.
//!
//! Invariants: rules are replaced in one transaction, so a connection meets the old ones or the new ones and never none;
//! a second install changes nothing; what cannot be captured is an error and not a silence; and nothing of ours is left
//! after a removal, whoever installed it.

pub mod install;
pub mod iptables;
pub mod lists;
pub mod nftables;
pub mod system;

pub use install::{Done, RedirectError, install, remove};

use lists::{Cidrs, Ports, Uids};

/// Where the proxy's admin port is: kubelet and Prometheus ask it, and it speaks plaintext.
pub const ADMIN_PORT: u16 = 9990;
/// Name resolution, also where it needs TCP.
pub const DNS_PORT: u16 = 53;
/// Name of our table in nftables.
pub const TABLE: &str = "outrigger";
/// Mark of packets that TPROXY has assigned to the proxy's listener, so that the redirection behind it leaves them alone.
/// Marks are a pod's own: they do not survive the way out of its network namespace.
pub const MARK: u32 = 0x840;

/// How a connection to the pod gets to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its destination is rewritten, and recovered from connection tracking.
    Redirect,
    /// It is given to the proxy's listener as it is.
    Tproxy,
}

/// What installs the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// nftables; iptables where only that is there.
    Auto,
    /// `nft`
    Nftables,
    /// `iptables-nft-restore`, or `iptables-restore`
    Iptables,
}

/// Which connections are captured, by the version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Both, but for IPv6 on a kernel that has none.
    Auto,
    /// IPv4 alone. IPv6 passes by the proxy.
    Ipv4,
    /// IPv6 alone. IPv4 passes by the proxy.
    Ipv6,
    /// Both.
    Both,
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Families {
    /// The families, on a kernel that has IPv6 or has not.
    #[must_use]
    pub fn on(self, ipv6: bool) -> &'static [Family] {
        match self {
            Self::Auto if !ipv6 => &[Family::Ipv4],
            Self::Auto | Self::Both => &[Family::Ipv4, Family::Ipv6],
            Self::Ipv4 => &[Family::Ipv4],
            Self::Ipv6 => &[Family::Ipv6],
        }
    }
}

/// What people ask for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where the proxy takes connections to the pod.
    pub inbound_port: u16,
    /// Where it takes those of the app.
    pub outbound_port: u16,
    /// The proxy's user. Its connections are the ones that the proxy makes for the others.
    pub proxy_uid: u32,
    /// Ports of the pod that are not captured.
    pub skip_inbound: Ports,
    /// The only ports of the pod that are captured; empty: all.
    pub capture_inbound: Ports,
    /// Ports elsewhere to which connections are not captured.
    pub skip_outbound: Ports,
    /// Addresses to which connections are not captured.
    pub skip_cidrs: Cidrs,
    /// Users whose connections are not captured.
    pub skip_uids: Uids,
    /// How inbound connections are captured.
    pub mode: Mode,
    /// Versions of IP.
    pub families: Families,
}

/// Which ports of the pod are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// All but these.
    AllBut(Ports),
    /// These, which may be none.
    Only(Ports),
}

/// What is captured: every field is checked, and text of rules is made of nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// See [`Wish::inbound_port`].
    pub inbound_port: u16,
    /// See [`Wish::outbound_port`].
    pub outbound_port: u16,
    /// The proxy's user.
    pub proxy_uid: u32,
    /// Ports of the pod.
    pub inbound: Inbound,
    /// Ports elsewhere that are not captured.
    pub skip_outbound: Ports,
    /// Addresses that are not captured.
    pub skip_cidrs: Cidrs,
    /// Users that are not captured, the proxy's included.
    pub skip_uids: Uids,
    /// How inbound connections are captured.
    pub mode: Mode,
    /// Versions of IP.
    pub families: Families,
}

impl Plan {
    /// What `wish` comes to.
    ///
    /// # Errors
    /// Ports that exclude each other.
    pub fn new(wish: Wish) -> Result<Self, String> {
        let Wish { inbound_port, outbound_port, proxy_uid, .. } = wish;
        if inbound_port == outbound_port {
            return Err(format!(
                "--inbound-port and --outbound-port are both {inbound_port}: the proxy listens on two ports, by default 9992 and 9991"
            ));
        }
        for (flag, port) in [("--inbound-port", inbound_port), ("--outbound-port", outbound_port)] {
            if port == ADMIN_PORT {
                return Err(format!(
                    "{flag} {port} is the proxy's admin port: write another, by default 9992 and 9991"
                ));
            }
        }
        let admin = Ports::one(ADMIN_PORT);
        let dns = Ports::one(DNS_PORT);
        let inbound = if wish.capture_inbound.is_empty() {
            Inbound::AllBut(wish.skip_inbound.with(&admin).with(&dns))
        } else {
            Inbound::Only(wish.capture_inbound.without(&wish.skip_inbound).without(&admin))
        };
        Ok(Self {
            inbound_port,
            outbound_port,
            proxy_uid,
            inbound,
            skip_outbound: wish.skip_outbound.with(&dns),
            skip_cidrs: wish.skip_cidrs,
            skip_uids: wish.skip_uids.with(proxy_uid),
            mode: wish.mode,
            families: wish.families,
        })
    }

    /// The groups whose connections are not captured. A proxy whose listener is transparent runs as root, as containers get
    /// capabilities in no other way, and is known by its group.
    #[must_use]
    pub fn skip_gid(&self) -> Option<u32> {
        (self.mode == Mode::Tproxy).then_some(self.proxy_uid)
    }

    /// Whether any port of the pod is captured.
    #[must_use]
    pub fn captures_inbound(&self) -> bool {
        !matches!(&self.inbound, Inbound::Only(ports) if ports.is_empty())
    }
}

#[cfg(test)]
mod tests;
