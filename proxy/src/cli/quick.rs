//! `run --listen ADDR --to ADDR`: a configuration without a file.
//!
//! The addresses become YAML documents, which go the same way as those of a file. So the quick start can
//! do nothing that a document cannot, and `/config` shows a text to start one's own file from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use outrigger_config::Source;

/// Name of the source, as faults and `explain` show it.
pub(super) const NAME: &str = "--listen";

/// The documents for one inbound listener in front of one service.
pub(super) fn source(listen: &str, to: &str, admin: Option<&str>) -> Result<Source, String> {
    let listen = listening("--listen", listen, IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let admin = listening("--admin", admin.unwrap_or(DEFAULT_ADMIN), IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let upstream = match destination(to)? {
        Destination::Address(address) => format!("endpoints: [{{ address: \"{address}\" }}]"),
        Destination::Name(name, port) => format!("dns: {{ name: \"{name}\", port: {port} }}"),
    };
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: standalone }}
spec:
  admin: {{ address: \"{admin}\" }}
  listeners:
    - name: inbound
      address: \"{listen}\"
      direction: inbound
      protocol: detect
      forwardTo: {{ kind: Upstream, name: local }}
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: local }}
spec:
  {upstream}
"
    );
    Ok(Source { name: NAME.into(), text })
}

/// Where the service is.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Address(SocketAddr),
    Name(String, u16),
}

/// An address to listen on. Names are refused, except `localhost`: which of their addresses is meant?
fn listening(flag: &str, text: &str, default: IpAddr) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || format!("{flag} {text:?}: write IP:PORT, [IPV6]:PORT or :PORT, for example :8080");
    let (host, port) = split(text).ok_or_else(wrong)?;
    match host {
        "" => Ok(SocketAddr::new(default, port)),
        "localhost" => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        _ => Err(wrong()),
    }
}

fn destination(text: &str) -> Result<Destination, String> {
    let wrong =
        |why: &str| format!("--to {text:?}: {why}; write HOST:PORT, IP:PORT or :PORT, for example localhost:3000");
    if text.contains("://") {
        return Err(wrong("a URL is not an address"));
    }
    let destination = match (text.parse(), split(text)) {
        (Ok(address), _) => Destination::Address(address),
        (Err(_), Some(("", port))) => Destination::Address(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        (Err(_), Some((host, port))) if is_host_name(host) => Destination::Name(host.to_ascii_lowercase(), port),
        (Err(_), Some(_)) => return Err(wrong("that is no host name")),
        (Err(_), None) => return Err(wrong("the port is missing or is none")),
    };
    match destination {
        Destination::Address(a) if a.port() == 0 => Err(wrong("port 0 cannot be connected to")),
        Destination::Name(_, 0) => Err(wrong("port 0 cannot be connected to")),
        destination => Ok(destination),
    }
}

fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    Some((host, port.parse().ok().filter(|_| digits)?))
}

/// RFC 1123, with the underscore that real networks use. Nothing in it needs quoting in YAML.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

const DEFAULT_ADMIN: &str = "127.0.0.1:9990";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        for (text, want) in [
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(listening("--listen", text, any), Ok(want.parse().unwrap()), "{text}");
        }
        for text in ["", ":", "example.com:80", "1.2.3.4", ":65536", ":+1", "::1"] {
            let said = listening("--listen", text, any);
            assert!(said.as_ref().is_err_and(|e| e.contains("--listen")), "{text}: {said:?}");
        }
    }

    #[test]
    fn destinations() {
        let name = |n: &str, p| Ok(Destination::Name(n.into(), p));
        let address = |a: &str| Ok(Destination::Address(a.parse().unwrap()));
        assert_eq!(destination("localhost:3000"), name("localhost", 3000));
        assert_eq!(destination("Orders.Internal:80"), name("orders.internal", 80));
        assert_eq!(destination(":3000"), address("127.0.0.1:3000"));
        assert_eq!(destination("[::1]:3000"), address("[::1]:3000"));
        for wrong in ["", "orders", "orders:", "http://orders:80", "a b:80", "a\":80", "-a:80", "a:0", ":0", "a..b:80"]
        {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }
}
