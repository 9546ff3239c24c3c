//! Who may do what on the admin port.
//!
//! What changes something needs a peer on a loopback address. That alone does not suffice: a browser on the
//! same host is such a peer, and any page that it shows can make it send requests. So requests that a page
//! of another origin caused are refused (`Sec-Fetch-Site`, `Origin`), and so are those that name a host
//! which is neither an address nor local: that is what DNS rebinding looks like, where the page's own
//! name suddenly points here.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The peer is on another host.
    NotLoopback,
    /// A page of another origin sent it.
    CrossSite,
    /// It names a host that this is not.
    ForeignHost,
}

impl Refusal {
    /// For people.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NotLoopback => "only a process on this host may do that: connect to a loopback address",
            Self::CrossSite => "a web page of another origin may not do that",
            Self::ForeignHost => "the Host header must be an address or localhost",
        }
    }
}

/// May this peer look?
pub(super) fn look(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    // A navigation shows a page of ours to a person; the page that led here cannot read it.
    let navigates = text(headers, "sec-fetch-mode").is_some_and(|m| m == "navigate");
    if !navigates && cross_site(headers) {
        return Err(Refusal::CrossSite);
    }
    // From elsewhere, names are how a scraper finds us; rebinding aims at what only the victim can reach,
    // and a name without a dot cannot be registered by anyone.
    if loopback(peer) && host(headers).is_some_and(|h| h.contains('.') && !local(h)) {
        return Err(Refusal::ForeignHost);
    }
    Ok(())
}

/// May this peer change something?
pub(super) fn change(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if !loopback(peer) {
        return Err(Refusal::NotLoopback);
    }
    if cross_site(headers) {
        return Err(Refusal::CrossSite);
    }
    if host(headers).is_none_or(|h| !local(h)) {
        return Err(Refusal::ForeignHost);
    }
    Ok(())
}

fn loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Did a page of another origin send it? Programs send neither header.
fn cross_site(headers: &HeaderMap) -> bool {
    if text(headers, "sec-fetch-site").is_some_and(|s| s != "same-origin" && s != "none") {
        return true;
    }
    let Some(origin) = text(headers, "origin") else { return headers.contains_key(header::ORIGIN) };
    let ours = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    origin.strip_prefix("http://") != ours
}

/// The value of a header. One that is no text counts as empty, which no check accepts.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|v| v.to_str().unwrap_or_default())
}

/// The host that the request names, without its port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let host = text(headers, "host")?;
    Some(match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    })
}

/// An address, or a name that cannot lead elsewhere.
fn local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn changes_need_a_local_peer_and_a_local_name() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:5000".parse().unwrap();
        let there: SocketAddr = "10.0.0.7:5000".parse().unwrap();
        for good in ["localhost:9990", "127.0.0.1:9990", "[::1]:9990", "[::1]", "LOCALHOST", "10.1.2.3:9990"] {
            assert_eq!(change(here, &headers(&[("host", good)])), Ok(()), "{good}");
        }
        assert_eq!(change(mapped, &headers(&[("host", "localhost")])), Ok(()));
        assert_eq!(change(there, &headers(&[("host", "localhost")])), Err(Refusal::NotLoopback));
        for bad in ["evil.example:9990", "evil", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert_eq!(change(here, &headers(&[("host", bad)])), Err(Refusal::ForeignHost), "{bad}");
        }
        assert_eq!(change(here, &HeaderMap::new()), Err(Refusal::ForeignHost));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        for (pairs, allowed) in [
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("origin", "http://localhost:9990")], true),
            (vec![("origin", "http://localhost:3000")], false),
            (vec![("origin", "https://localhost:9990")], false),
            (vec![("origin", "null")], false),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")], false),
        ] {
            let mut pairs = pairs;
            pairs.push(("host", "localhost:9990"));
            assert_eq!(change(here, &headers(&pairs)).is_ok(), allowed, "{pairs:?}");
            assert_eq!(look(here, &headers(&pairs)).is_ok(), allowed, "{pairs:?}");
        }
        let navigation = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("host", "localhost")];
        assert_eq!(look(here, &headers(&navigation)), Ok(()));
        assert_eq!(change(here, &headers(&navigation)), Err(Refusal::CrossSite));
    }

    #[test]
    fn a_rebound_name_sees_nothing() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let there: SocketAddr = "10.0.0.7:5000".parse().unwrap();
        assert_eq!(look(here, &headers(&[("host", "evil.example:9990")])), Err(Refusal::ForeignHost));
        assert_eq!(look(there, &headers(&[("host", "orders.shop.svc.cluster.local:9990")])), Ok(()));
        assert_eq!(look(here, &headers(&[("host", "my-laptop:9990")])), Ok(()));
        assert_eq!(look(here, &HeaderMap::new()), Ok(()));
    }
}
