//! Where a connection to an address goes.

use std::net::{IpAddr, SocketAddr};

use outrigger_config::discovery::{Binding, Endpoint, Key, endpoint::State};

use crate::index::{EndpointState, Index, Pod, Service, ServicePort, Topic};

pub(super) fn topics(index: &Index, ip: IpAddr) -> Vec<Topic> {
    let services = index.names_at(ip).map(|at| Topic::Service(at.clone()));
    services.chain([Topic::Address(ip.to_canonical())]).collect()
}

/// The Service that has the address; or the pod that has it, with the policies of its oldest Service that leads to the port;
/// `Err`: neither.
pub(super) fn resolve(index: &Index, address: SocketAddr) -> Result<Binding, String> {
    let own = index.services_at(address.ip());
    for service in &own {
        if service.ports.iter().any(|p| p.port == address.port()) {
            return Ok(bound(service, address.port()));
        }
    }
    if let Some(service) = own.first() {
        let at = &service.at;
        return Err(format!(
            "{} is Service {}/{}, which has no TCP port {}",
            address.ip(),
            at.namespace,
            at.name,
            address.port()
        ));
    }
    for service in index.services_with(address.ip()) {
        if let Some((port, endpoint)) = index.endpoint_of(service, address) {
            // The caller has chosen it, ready or not.
            let endpoint = index.endpoint(&service.at.namespace, address, EndpointState::Ready, endpoint);
            return Ok(pinned(service, port, endpoint));
        }
    }
    let pod = index.pod_at(address.ip()).ok_or_else(|| format!("{} is no address of the mesh", address.ip()))?;
    Ok(Binding { service: String::new(), pinned: Some(pod_endpoint(index, pod, address)) })
}

pub(super) fn bound(service: &Service, port: u16) -> Binding {
    Binding { service: Key::service(&service.at.namespace, &service.at.name, port).to_string(), pinned: None }
}

pub(super) fn pinned(service: &Service, port: &ServicePort, endpoint: Endpoint) -> Binding {
    Binding { pinned: Some(endpoint), ..bound(service, port.port) }
}

fn pod_endpoint(index: &Index, pod: &Pod, address: SocketAddr) -> Endpoint {
    Endpoint {
        address: address.to_string(),
        state: State::Ready.into(),
        identity: index.identity(pod, address.port()),
        pod: pod.at.name.to_string(),
        ..Endpoint::default()
    }
}
