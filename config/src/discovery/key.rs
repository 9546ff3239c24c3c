//! Keys of the discovery protocol: what a proxy asks for, in one spelling that both ends write and read.
//!
//! Reading is strict: a key is read only as [`Display`](fmt::Display) writes it, so that one thing has one key and a table
//! of subscriptions has one row for it. What a newer peer may ask for besides is [`KeyError::Unknown`], which a control
//! plane answers with `Absent` instead of ending the stream.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// Bytes of a key. The longest parts are a namespace (63) and a name (253); a host has at most 253.
pub const MAX_KEY: usize = 512;

/// What a proxy asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// What the proxy's own pod serves.
    Workload,
    /// The trust bundle.
    Trust,
    /// Where a connection to this address goes. IPv4 in IPv6 is IPv4; no scope, no flow.
    Address(SocketAddr),
    /// Where a request with this authority goes, as seen from the pod's namespace.
    Name {
        /// Lower case, without a trailing dot.
        host: Arc<str>,
        /// 80 where the authority said none.
        port: u16,
    },
    /// A port of a Service.
    Service {
        /// Of the Service.
        namespace: Arc<str>,
        /// Of the Service.
        name: Arc<str>,
        /// Of the Service, not of its endpoints.
        port: u16,
    },
    /// An `Upstream` document.
    Upstream {
        /// Of the document.
        namespace: Arc<str>,
        /// Of the document.
        name: Arc<str>,
    },
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Perhaps a newer peer's.
    #[error("`{0}` is not a kind of key that this version knows")]
    Unknown(String),
    /// A known kind, and not as it is written.
    #[error("`{0}` is not a key: it is written as {1}")]
    Malformed(String, &'static str),
    /// Longer than [`MAX_KEY`].
    #[error("a key has at most {MAX_KEY} bytes, and this has {0}")]
    TooLong(usize),
}

impl Key {
    /// The key of an address: IPv4 in IPv6 is IPv4.
    #[must_use]
    pub fn address(address: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The key of an authority: `HOST` or `HOST:PORT`, in any case, with or without a trailing dot. An IP address gives the key of
    /// the address. `None`: no host name.
    #[must_use]
    pub fn authority(authority: &str) -> Option<Self> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Some(Self::address(address));
        }
        let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self::address(SocketAddr::new(ip, DEFAULT_PORT)));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|p| *p != 0)?),
            None => (authority, DEFAULT_PORT),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_host(&host).then(|| Self::Name { host: host.into(), port })
    }

    /// The key of a port of a Service.
    #[must_use]
    pub fn service(namespace: &str, name: &str, port: u16) -> Self {
        Self::Service { namespace: namespace.into(), name: name.into(), port }
    }

    /// The key of an `Upstream` document.
    #[must_use]
    pub fn upstream(namespace: &str, name: &str) -> Self {
        Self::Upstream { namespace: namespace.into(), name: name.into() }
    }
}

/// Of `http`, where an authority says none.
const DEFAULT_PORT: u16 = 80;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload => f.write_str("workload"),
            Self::Trust => f.write_str("trust"),
            Self::Address(address) => write!(f, "address/{address}"),
            Self::Name { host, port } => write!(f, "name/{host}:{port}"),
            Self::Service { namespace, name, port } => write!(f, "service/{namespace}/{name}:{port}"),
            Self::Upstream { namespace, name } => write!(f, "upstream/{namespace}/{name}"),
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY {
            return Err(KeyError::TooLong(text.len()));
        }
        let malformed = |form| KeyError::Malformed(crate::yaml::excerpt(text), form);
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        let (key, form) = match kind {
            "workload" => (Some(Self::Workload), "workload"),
            "trust" => (Some(Self::Trust), "trust"),
            "address" => (rest.parse().ok().map(Self::address), "address/IP:PORT"),
            "name" => (name(rest), "name/HOST:PORT"),
            "service" => (service(rest), "service/NAMESPACE/NAME:PORT"),
            "upstream" => (upstream(rest), "upstream/NAMESPACE/NAME"),
            _ => return Err(KeyError::Unknown(crate::yaml::excerpt(text))),
        };
        // One spelling: no leading zeros, no other case, nothing behind.
        key.filter(|k| k.to_string() == text).ok_or_else(|| malformed(form))
    }
}

fn name(text: &str) -> Option<Key> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    (is_host(host) && host.parse::<IpAddr>().is_err()).then(|| Key::Name { host: host.into(), port })
}

fn service(text: &str) -> Option<Key> {
    let (namespace, rest) = text.split_once('/')?;
    let (name, port) = rest.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    (is_name(namespace) && is_name(name)).then(|| Key::service(namespace, name, port))
}

fn upstream(text: &str) -> Option<Key> {
    let (namespace, name) = text.split_once('/')?;
    (is_name(namespace) && is_name(name)).then(|| Key::upstream(namespace, name))
}

/// What Kubernetes takes as a name: an RFC 1123 subdomain.
fn is_name(text: &str) -> bool {
    is_host(text) && !text.contains('_')
}

/// Labels of a host name, lower case. Underscores occur in the wild (`_dmarc`, Windows).
fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}
