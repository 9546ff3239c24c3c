//! Explicit proxying: a pod whose traffic nobody captures, because its namespace allows no privilege that capture needs.
//!
//! The app is told where its proxy is instead (`HTTP_PROXY`, or a port of localhost for each destination), and the proxy
//! listens on the pod's ports in the app's place. That makes the proxy one that goes where its client says, so
//! it is bound to loopback, and refuses what only somebody inside the pod may reach: loopback, link-local addresses (the
//! metadata service of a cloud is one), and its own ports. Of a name, it is the addresses that count: those of a host outside
//! the mesh are judged when it is looked up, those of an ExternalName Service when they are dialled. An `Upstream` is what the
//! pod's own namespace has configured, and may be on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use crate::http::h1::valid_authority;

/// Listeners of one list. Each is two sockets for each worker.
const MAX_LISTENERS: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Explicit {
    /// The outbound listener takes requests with an absolute target, and CONNECT, for any destination.
    pub proxy: bool,
    /// Ports of localhost that stand for a destination.
    pub outbound: Vec<Named>,
    /// Ports of the pod behind which the app is at another port of localhost.
    pub inbound: Vec<Moved>,
    /// Ports that the proxy listens on, where nothing is to be sent.
    pub own: Vec<u16>,
}

/// A port of localhost, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Of localhost.
    pub port: u16,
    /// `HOST:PORT`
    pub authority: Arc<str>,
}

/// A port of the pod, and where the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Of the pod, on every address.
    pub port: u16,
    /// Of localhost.
    pub app: u16,
}

impl Explicit {
    /// What connections to the listener of this name are for.
    #[must_use]
    pub fn named(&self, listener: &str) -> Option<&Arc<str>> {
        let port = listener.strip_prefix(OUTBOUND)?.split('-').next()?.parse::<u16>().ok()?;
        self.outbound.iter().find(|n| n.port == port).map(|n| &n.authority)
    }

    /// The port of the pod that the listener of this name stands for.
    #[must_use]
    pub fn moved(&self, listener: &str) -> Option<u16> {
        let port = listener.strip_prefix(INBOUND)?.split('-').next()?.parse::<u16>().ok()?;
        self.inbound.iter().find(|m| m.port == port).map(|m| m.port)
    }

    /// Where the app is that has the pod's `port`, if not there.
    #[must_use]
    pub fn app(&self, port: u16) -> Option<SocketAddr> {
        let moved = self.inbound.iter().find(|m| m.port == port)?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, moved.app)))
    }

    /// Where to go for `address`: the pod's own app is reached past the listener that has its port. `ips` are those of the pod.
    #[must_use]
    pub fn past(&self, address: SocketAddr, ips: &[IpAddr]) -> SocketAddr {
        let own = || ips.contains(&address.ip().to_canonical());
        self.app(address.port()).filter(|_| own()).unwrap_or(address)
    }

    /// True for where an app is whose port the proxy has.
    #[must_use]
    pub fn is_app(&self, address: SocketAddr) -> bool {
        address.ip() == Ipv4Addr::LOCALHOST && self.inbound.iter().any(|m| m.app == address.port())
    }

    /// Whether the app may be taken there. `ips` are those of the pod.
    #[must_use]
    pub fn allows(&self, to: SocketAddr, ips: &[IpAddr]) -> bool {
        let ip = to.ip().to_canonical();
        let ours = ips.contains(&ip) && self.own.contains(&to.port());
        !(is_local(ip) || ours)
    }
}

/// First part of the names of listeners that stand for a destination, and of those before the app.
pub const OUTBOUND: &str = "outbound-port-";
/// See [`OUTBOUND`].
pub const INBOUND: &str = "inbound-port-";

/// What a client is told that wants to go where [`Explicit::allows`] does not let it.
pub const FORBIDDEN: &str =
    "the host is this pod's own loopback, its link, or a port of its proxy: call it without the proxy (NO_PROXY)";

/// Where clouds have their metadata service outside of what is link-local: AWS over IPv6, Alibaba.
const METADATA: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200))];

/// True for addresses that mean something else on each machine, or nobody. What NAT64 would make of an address counts as that
/// (RFC 6052 2.1).
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    if METADATA.contains(&ip) {
        return true;
    }
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => match ip.octets() {
            [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => {
                return is_local(Ipv4Addr::new(a, b, c, d).into());
            }
            _ => ip.is_unicast_link_local(),
        },
    };
    ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local
}

/// Reads `PORT=HOST:PORT,...`.
///
/// # Errors
/// The first entry that is none, and what would be right.
pub fn outbound(text: &str) -> Result<Vec<Named>, String> {
    let mut all: Vec<Named> = Vec::new();
    for entry in entries(text)? {
        let wrong = |why: &str| format!("{entry:?} {why}; write PORT=HOST:PORT, for example 15001=payments.shop:8080");
        let (port, authority) = entry.split_once('=').ok_or_else(|| wrong("has no ="))?;
        let port = number(port).ok_or_else(|| wrong("does not begin with a port"))?;
        let authority =
            valid_authority(authority.as_bytes()).ok_or_else(|| wrong("does not end with a host and port"))?;
        let (host, digits) = authority.rsplit_once(':').ok_or_else(|| wrong("names no port of its destination"))?;
        number(digits).ok_or_else(|| wrong("names no port of its destination"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| is_local(ip.to_canonical()))
        {
            return Err(wrong("leads to this pod itself or to its link"));
        }
        if all.iter().any(|n| n.port == port) {
            return Err(wrong("has a port that stands here already"));
        }
        all.push(Named { port, authority: authority.to_ascii_lowercase().into() });
    }
    Ok(all)
}

/// Reads `PORT=PORT,...`.
///
/// # Errors
/// The first entry that is none, and what would be right.
pub fn inbound(text: &str) -> Result<Vec<Moved>, String> {
    let mut all: Vec<Moved> = Vec::new();
    for entry in entries(text)? {
        let wrong = |why: &str| format!("{entry:?} {why}; write PORT=APP_PORT, for example 8080=18080");
        let (port, app) = entry.split_once('=').ok_or_else(|| wrong("has no ="))?;
        let (Some(port), Some(app)) = (number(port), number(app)) else { return Err(wrong("is not two ports")) };
        if port == app {
            return Err(wrong("has one port twice: the proxy and the app cannot both listen there"));
        }
        if all.iter().any(|m| m.port == port || m.app == port || m.port == app) {
            return Err(wrong("has a port that stands here already"));
        }
        all.push(Moved { port, app });
    }
    Ok(all)
}

fn entries(text: &str) -> Result<Vec<&str>, String> {
    let all: Vec<_> = text.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if all.len() > MAX_LISTENERS {
        return Err(format!("it has {} entries; at most {MAX_LISTENERS} are taken", all.len()));
    }
    Ok(all)
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_faults_say_what_would_be_right() {
        let all = outbound("15001=payments.shop:8080, 15002=Db.shop:5432,15003=[2001:db8::1]:80,").unwrap();
        assert_eq!(all[1], Named { port: 15002, authority: "db.shop:5432".into() });
        assert_eq!((all.len(), &*all[2].authority), (3, "[2001:db8::1]:80"));
        for wrong in [
            "15001",
            "x=a:1",
            "0=a:1",
            "+1=a:1",
            "70000=a:1",
            "15001=a",
            "15001=a:",
            "15001=a:0",
            "15001=:80",
            "15001=user@a:80",
            "15001=localhost:80",
            "15001=127.0.0.1:80",
            "15001=[::1]:80",
            "15001=[::ffff:127.0.0.1]:80",
            "15001=169.254.169.254:80",
            "15001=[fe80::1]:80",
            "15001=[fd00:ec2::254]:80",
            "15001=100.100.100.200:80",
            "15001=[64:ff9b::a9fe:a9fe]:80",
            "1=a:1,1=b:1",
            "15001=a:1 b:2",
        ] {
            let said = outbound(wrong).unwrap_err();
            assert!(said.contains("15001=payments.shop:8080"), "{wrong}: {said}");
        }
        assert_eq!(inbound("8080=18080,9090=19090").unwrap()[1], Moved { port: 9090, app: 19090 });
        for wrong in ["8080", "8080=x", "8080=8080", "1=2,1=3", "1=2,2=3", "3=1,1=2", "=1", "1="] {
            assert!(inbound(wrong).unwrap_err().contains("8080=18080"), "{wrong}");
        }
        let many: Vec<_> = (1..=257).map(|n| format!("{n}={}", n + 1000)).collect();
        assert!(inbound(&many.join(",")).is_err());
        assert!(outbound("").unwrap().is_empty());
    }

    #[test]
    fn listeners_are_known_by_their_names() {
        let explicit = Explicit {
            outbound: outbound("15001=a:1").unwrap(),
            inbound: inbound("8080=18080").unwrap(),
            ..Explicit::default()
        };
        assert_eq!(explicit.named("outbound-port-15001").map(|a| &**a), Some("a:1"));
        assert_eq!(explicit.named("outbound-port-15001-2").map(|a| &**a), Some("a:1"));
        assert_eq!((explicit.named("outbound"), explicit.named("outbound-port-1")), (None, None));
        assert_eq!((explicit.moved("inbound-port-8080"), explicit.moved("inbound")), (Some(8080), None));
        assert_eq!(explicit.app(8080), Some("127.0.0.1:18080".parse().unwrap()));
        assert_eq!(explicit.app(18080), None);
        let (ips, app) = (["10.0.0.1".parse().unwrap()], "127.0.0.1:18080".parse().unwrap());
        let past = |to: &str| explicit.past(to.parse().unwrap(), &ips);
        assert_eq!((past("10.0.0.1:8080"), past("[::ffff:10.0.0.1]:8080")), (app, app));
        for other in ["10.0.0.2:8080", "10.0.0.1:9090"] {
            assert_eq!(past(other), other.parse().unwrap());
        }
        assert!(explicit.is_app(app) && !explicit.is_app("127.0.0.1:8080".parse().unwrap()));
    }

    #[test]
    fn what_only_the_pod_may_reach_is_refused() {
        let explicit = Explicit { own: vec![9990], ..Explicit::default() };
        let ips = ["10.0.0.1".parse().unwrap()];
        for (to, allowed) in [
            ("10.0.0.1:8080", true),
            ("10.0.0.1:9990", false),
            ("10.0.0.2:9990", true),
            ("127.0.0.1:80", false),
            ("127.9.9.9:80", false),
            ("0.0.0.0:80", false),
            ("169.254.169.254:80", false),
            ("224.0.0.1:80", false),
            ("255.255.255.255:80", false),
            ("[::1]:80", false),
            ("[::]:80", false),
            ("[fe80::1]:80", false),
            ("[ff02::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("[::ffff:169.254.169.254]:80", false),
            ("[2001:db8::1]:80", true),
        ] {
            assert_eq!(explicit.allows(to.parse().unwrap(), &ips), allowed, "{to}");
        }
    }
}
