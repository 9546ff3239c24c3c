//! Questions to the index.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use outrigger_config::discovery;

use super::{
    EndpointState, Index, ObjectName, Pod, Service, ServiceEntry, ServicePort, Slice, SliceEndpoint, TargetPort,
    addresses::Behind,
};

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`
pub(crate) fn spiffe_id(trust_domain: &str, namespace: &str, account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
}

/// A port of a Service that leads to a port of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Served<'i> {
    pub(crate) service: &'i Service,
    pub(crate) port: &'i ServicePort,
    /// Of the pod.
    pub(crate) number: u16,
}

impl Index {
    /// Labels of a namespace. `None`: it is not known, or not yet.
    pub(crate) fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let labels = &self.namespaces.get(name)?.labels;
        Some(labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    /// The pods that the selector of a Service selects. Without a selector: none.
    pub(crate) fn selected(&self, service: &Service) -> BTreeSet<ObjectName> {
        if service.selector.is_empty() {
            return BTreeSet::new();
        }
        let namespace = &service.at.namespace;
        let names = self.inhabitants.get(namespace).into_iter().flat_map(|i| &i.pods);
        names
            .map(|name| ObjectName { namespace: Arc::clone(namespace), name: Arc::clone(name) })
            .filter(|at| self.pods.get(at).is_some_and(|pod| selects(service, pod)))
            .collect()
    }

    /// The pods that stand in the slices of a Service.
    pub(crate) fn pods_of(&self, at: &ObjectName) -> BTreeSet<ObjectName> {
        let slices = self.services.get(at).into_iter().flat_map(|e| e.slices.values());
        let names = slices.flat_map(|s| &s.endpoints).filter(|e| !e.pod.is_empty());
        names.map(|e| ObjectName { namespace: Arc::clone(&at.namespace), name: Arc::clone(&e.pod) }).collect()
    }

    /// What a pod serves, oldest Service first. By selectors, which hold from the moment that the pod is there, so that no policy
    /// comes too late; and by slices, for those that are written by hand.
    pub(crate) fn served(&self, pod: &Pod) -> Vec<Served<'_>> {
        let namespace = &pod.at.namespace;
        let names = self.inhabitants.get(namespace).into_iter().flat_map(|i| &i.services);
        let at = |name: &Arc<str>| ObjectName { namespace: Arc::clone(namespace), name: Arc::clone(name) };
        let mut served: Vec<Served<'_>> = Vec::new();
        for entry in names.filter_map(|name| self.services.get(&at(name))) {
            let Some(service) = &entry.service else { continue };
            if selects(service, pod) {
                let ports = service.ports.iter().filter_map(|port| Some((port, target(port, pod)?)));
                served.extend(ports.map(|(port, number)| Served { service, port, number }));
            }
            for slice in entry.slices.values().filter(|s| s.endpoints.iter().any(|e| stands_for(e, pod))) {
                for (name, number) in &slice.ports {
                    let port = service.ports.iter().find(|p| p.name == *name);
                    served.extend(port.map(|port| Served { service, port, number: *number }));
                }
            }
        }
        let key = |s: &Served<'_>| (Arc::clone(&s.service.created), s.service.at.clone(), s.port.port, s.number);
        served.sort_by_cached_key(key);
        served.dedup_by_key(|s| key(s));
        served
    }

    /// The endpoints of a port of a Service, sorted by address, each once and in its best state.
    pub(crate) fn endpoints(&self, service: &Service, port: &ServicePort) -> Vec<discovery::Endpoint> {
        let mut all: BTreeMap<SocketAddr, (EndpointState, &SliceEndpoint)> = BTreeMap::new();
        let slices = self.services.get(&service.at).into_iter().flat_map(|e| e.slices.values());
        for slice in slices {
            for number in numbers(slice, port) {
                for endpoint in &slice.endpoints {
                    let address = SocketAddr::new(endpoint.ip.to_canonical(), number);
                    let kept = all.entry(address).or_insert((endpoint.state, endpoint));
                    if endpoint.state < kept.0 {
                        *kept = (endpoint.state, endpoint);
                    }
                }
            }
        }
        all.into_iter()
            .map(|(address, (state, endpoint))| {
                let ready = service.publish_not_ready && state == EndpointState::Unready;
                let state = if ready { EndpointState::Ready } else { state };
                self.endpoint(&service.at.namespace, address, state, endpoint)
            })
            .collect()
    }

    /// One of them.
    pub(crate) fn endpoint(
        &self,
        namespace: &Arc<str>,
        address: SocketAddr,
        state: EndpointState,
        endpoint: &SliceEndpoint,
    ) -> discovery::Endpoint {
        let pod = self.pod_at(address.ip()).or_else(|| {
            let name = Arc::clone(&endpoint.pod);
            self.pods.get(&ObjectName { namespace: Arc::clone(namespace), name })
        });
        // Its identity is not known yet: plaintext to it would be a guess.
        let unknown = pod.is_none() && !endpoint.pod.is_empty();
        let state = match state {
            _ if unknown => discovery::endpoint::State::Unready,
            EndpointState::Ready => discovery::endpoint::State::Ready,
            EndpointState::Draining => discovery::endpoint::State::Draining,
            EndpointState::Unready => discovery::endpoint::State::Unready,
        };
        let mut for_zones: Vec<String> = endpoint.for_zones.iter().map(|z| z.to_string()).collect();
        for_zones.sort_unstable();
        for_zones.dedup();
        discovery::Endpoint {
            address: address.to_string(),
            state: state.into(),
            identity: pod.map(|p| self.identity(p, address.port())).unwrap_or_default(),
            zone: endpoint.zone.to_string(),
            for_zones,
            weight: 0,
            pod: pod.map_or_else(|| endpoint.pod.to_string(), |p| p.at.name.to_string()),
        }
    }

    /// The pod that has an address to itself. Of two that claim it, one is about to go: neither is certain.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&Pod> {
        match self.behind(ip)?.pods.as_slice() {
            [only] => self.pods.get(only),
            _ => None,
        }
    }

    /// What a meshed pod proves to be at a port that its proxy answers at; empty for others. A pod on its node's network has no
    /// proxy in front of it.
    pub(crate) fn identity(&self, pod: &Pod, port: u16) -> String {
        if !pod.meshed || pod.host_network || !pod.proven.has(port) {
            return String::new();
        }
        spiffe_id(&self.settings.trust_domain, &pod.at.namespace, &pod.account)
    }

    pub(super) fn behind(&self, ip: IpAddr) -> Option<&Behind> {
        self.addresses.get(ip)
    }

    /// Names of Services that have it, or have it among their endpoints, whether they are known or not.
    pub(crate) fn names_at(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectName> {
        self.behind(ip).into_iter().flat_map(|b| b.services.iter().chain(b.endpoints.iter().map(|(at, _)| at)))
    }

    /// Services whose own address it is.
    pub(crate) fn services_at(&self, ip: IpAddr) -> Vec<&Service> {
        self.oldest(self.behind(ip).into_iter().flat_map(|b| &b.services))
    }

    /// Services that have it among their endpoints.
    pub(crate) fn services_with(&self, ip: IpAddr) -> Vec<&Service> {
        self.oldest(self.behind(ip).into_iter().flat_map(|b| &b.endpoints).map(|(at, _)| at))
    }

    fn oldest<'i>(&'i self, names: impl Iterator<Item = &'i ObjectName>) -> Vec<&'i Service> {
        let mut services: Vec<&Service> = names.filter_map(|at| self.service(at)).collect();
        services.sort_by(|a, b| (&a.created, &a.at).cmp(&(&b.created, &b.at)));
        services
    }

    /// The endpoint of a Service that has an address and a port, and the Service's port that leads there.
    pub(crate) fn endpoint_of<'i>(
        &'i self,
        service: &'i Service,
        address: SocketAddr,
    ) -> Option<(&'i ServicePort, &'i SliceEndpoint)> {
        self.entry(service)?.slices.values().find_map(|slice| {
            let endpoint = slice.endpoints.iter().find(|e| e.ip.to_canonical() == address.ip().to_canonical())?;
            let port = service.ports.iter().find(|port| numbers(slice, port).any(|n| n == address.port()))?;
            Some((port, endpoint))
        })
    }

    /// The endpoint of a headless Service that has a host name, and all Service ports by the number that its slice says.
    pub(crate) fn host_of<'i>(
        &'i self,
        service: &'i Service,
        hostname: &str,
    ) -> Option<(&'i SliceEndpoint, Vec<(&'i ServicePort, u16)>)> {
        self.entry(service)?.slices.values().find_map(|slice| {
            let endpoint = slice.endpoints.iter().find(|e| *e.hostname == *hostname)?;
            let ports = service.ports.iter().flat_map(|port| numbers(slice, port).map(move |n| (port, n)));
            Some((endpoint, ports.collect()))
        })
    }

    fn entry(&self, service: &Service) -> Option<&ServiceEntry> {
        self.services.get(&service.at)
    }
}

/// Numbers of a Service port in a slice: ports are matched by name.
fn numbers<'s>(slice: &'s Slice, port: &'s ServicePort) -> impl Iterator<Item = u16> + use<'s> {
    slice.ports.iter().filter(move |(name, _)| *name == port.name).map(|(_, number)| *number)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    service.at.namespace == pod.at.namespace
        && !service.selector.is_empty()
        && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod.ports.iter().find(|(n, _)| n == name).map(|(_, number)| *number),
    }
}

fn stands_for(endpoint: &SliceEndpoint, pod: &Pod) -> bool {
    if endpoint.pod.is_empty() { pod.ips.contains(&endpoint.ip) } else { endpoint.pod == pod.at.name }
}
