//! Where a request with an authority goes: the names of cluster DNS, as seen from a namespace, and the hosts of Upstreams.
//!
//! Names are tried as a pod's resolver does, with its search list `NS.svc.DOMAIN svc.DOMAIN DOMAIN`. Hosts of Upstreams of the
//! caller's namespace come before all of them, for someone wrote them down.

use std::{net::SocketAddr, sync::Arc};

use outrigger_config::{
    discovery::{Binding, Key},
    matching::hostname_holds,
};

use super::address::{bound, pinned};
use crate::index::{EndpointState, Index, ObjectName, ServiceKind, Topic};

/// What a name may mean.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Service(ObjectName),
    /// A pod of a headless Service, by its host name.
    Host(String, ObjectName),
}

pub(super) fn topics(index: &Index, namespace: &Arc<str>, host: &str) -> Vec<Topic> {
    let mut topics = vec![Topic::Hosts(Arc::clone(namespace))];
    for meaning in meanings(host, namespace, &index.settings().cluster_domain) {
        match meaning {
            Meaning::Service(at) => topics.push(Topic::Service(at)),
            Meaning::Host(_, at) => {
                // What its address is, and whose, is said there.
                if let Some((endpoint, _)) = index.service(&at).and_then(|s| index.host_of(s, host_label(host))) {
                    topics.push(Topic::Address(endpoint.ip.to_canonical()));
                }
                topics.extend([Topic::Service(at.clone()), Topic::Endpoints(at)]);
            }
        }
    }
    topics
}

fn host_label(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

pub(super) fn resolve(index: &Index, namespace: &Arc<str>, host: &str, port: u16) -> Result<Binding, String> {
    if let Some(at) = upstream(index, namespace, host, port) {
        return Ok(Binding { service: Key::upstream(&at.namespace, &at.name).to_string(), pinned: None });
    }
    let mut reason = format!("`{host}` is no name of the mesh");
    for meaning in meanings(host, namespace, &index.settings().cluster_domain) {
        let (Meaning::Service(at) | Meaning::Host(_, at)) = &meaning;
        let Some(service) = index.service(at) else { continue };
        if let Meaning::Host(hostname, _) = &meaning {
            if let Some(binding) = headless(index, service, hostname, port) {
                return Ok(binding);
            }
            continue;
        }
        if service.ports.iter().any(|p| p.port == port) {
            return Ok(bound(service, port));
        }
        reason = format!("Service {}/{} has no TCP port {port}", at.namespace, at.name);
    }
    Err(reason)
}

/// A pod by its name. Its port is its own, as DNS gives nothing but its address.
fn headless(index: &Index, service: &crate::index::Service, hostname: &str, port: u16) -> Option<Binding> {
    if service.kind != ServiceKind::Headless {
        return None;
    }
    let (endpoint, ports) = index.host_of(service, hostname)?;
    let (its, _) = ports.into_iter().find(|(_, number)| *number == port)?;
    let address = SocketAddr::new(endpoint.ip, port);
    let endpoint = index.endpoint(&service.at.namespace, address, EndpointState::Ready, endpoint);
    Some(pinned(service, its, endpoint))
}

/// The Upstream of the caller's namespace that has the host: with its port before the bare one, exact before wildcard, the
/// longest wildcard first, the oldest among equals.
fn upstream<'i>(index: &'i Index, namespace: &str, host: &str, port: u16) -> Option<&'i ObjectName> {
    let upstreams = index.entries().upstreams(namespace);
    let there = upstreams.iter().filter(|e| e.sent.is_some());
    let suffix = format!(":{port}");
    let ranked = there.enumerate().flat_map(|(age, entry)| {
        entry.links.hosts.iter().filter_map({
            let suffix = &suffix;
            move |pattern| {
                let (name, with_port) = match pattern.strip_suffix(suffix.as_str()) {
                    Some(name) => (name, true),
                    None => (&**pattern, false),
                };
                if !with_port && name.contains(':') || !hostname_holds(name, host) {
                    return None;
                }
                let wildcard = name.starts_with('*');
                let length = if wildcard { name.len() } else { 0 };
                Some(((wildcard, usize::MAX - length, !with_port, age), entry))
            }
        })
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| &entry.document.at)
}

/// What a host may mean, in the order of the search list.
fn meanings(host: &str, namespace: &str, domain: &str) -> Vec<Meaning> {
    let at = |namespace: &str, name: &str| ObjectName { namespace: namespace.into(), name: name.into() };
    let short = host.strip_suffix(domain).and_then(|h| h.strip_suffix('.')).and_then(|h| h.strip_suffix(".svc"));
    let (rest, whole) = match short.or_else(|| host.strip_suffix(".svc")) {
        Some(rest) => (rest, true),
        None => (host, false),
    };
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        [name] if !whole => vec![Meaning::Service(at(namespace, name))],
        [first, second] if !whole => {
            vec![Meaning::Host((*first).into(), at(namespace, second)), Meaning::Service(at(second, first))]
        }
        [name, of] => vec![Meaning::Service(at(of, name))],
        [host, name, of] => vec![Meaning::Host((*host).into(), at(of, name))],
        _ => Vec::new(),
    }
}
