//! The mesh that is simulated: which Services, pods and slices there are, and what the n-th change is.
//!
//! All of it follows from numbers, so that both processes know it and none has to tell the other.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use outrigger_control_plane::index::{
    EndpointState, Object, ObjectName, Pod, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint,
    TargetPort,
};

/// Of all identities.
pub(super) const TRUST_DOMAIN: &str = "cluster.local";
/// Of the control plane.
pub(super) const MESH_NAMESPACE: &str = "outrigger-system";
/// In seconds.
pub(super) const DAY: u64 = 86_400;

const NAMESPACES: u32 = 200;
/// A prime, so that many changes in a row are of different Services.
const STRIDE: u64 = 7_919;
/// First byte of the address of a pod, and of an address that a change puts into a slice.
const PODS: u8 = 10;
const MARKED: u8 = 11;

/// Its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    pub(super) services: u32,
    pub(super) pods_each: u32,
}

impl World {
    /// Everything in it.
    pub(super) fn objects(self) -> impl Iterator<Item = Object> {
        (0..self.services).flat_map(move |n| {
            let pods = (0..self.pods_each).map(move |p| Object::Pod(self.pod(n, p)));
            std::iter::once(Object::Service(service(n))).chain(pods).chain([Object::Slice(self.slice(n))])
        })
    }

    /// The pod that is proxy `i`: accounts have all their pods connected, one after the other.
    pub(super) fn subscriber(self, i: u32) -> (u32, u32) {
        (i / self.pods_each % self.services, i % self.pods_each)
    }

    /// The Service whose slice the n-th change is of.
    pub(super) fn changed(self, n: u32) -> u32 {
        u32::try_from((u64::from(n) + 1) * STRIDE % u64::from(self.services)).unwrap_or_default()
    }

    /// The slice after the n-th change: its first endpoint is a new one.
    pub(super) fn change(self, n: u32) -> Slice {
        let mut slice = self.slice(self.changed(n));
        if let Some(first) = slice.endpoints.first_mut() {
            first.ip = ip(MARKED, n);
        }
        slice
    }

    fn slice(self, n: u32) -> Slice {
        let endpoint = |p| SliceEndpoint {
            ip: self.address(n, p),
            state: EndpointState::Ready,
            pod: pod_name(n, p).into(),
            hostname: "".into(),
            zone: "europe-1a".into(),
            for_zones: vec!["europe-1a".into()],
        };
        Slice {
            at: at(n, &format!("{}-abcde", name(n))),
            service: name(n).into(),
            ports: vec![("http".into(), 8080)],
            endpoints: (0..self.pods_each).map(endpoint).collect(),
        }
    }

    fn pod(self, n: u32, p: u32) -> Pod {
        let labels = [
            ("app".into(), name(n).into()),
            ("pod-template-hash".into(), "6d4cf56db6".into()),
            ("version".into(), "v1".into()),
        ];
        Pod {
            at: at(n, &pod_name(n, p)),
            uid: format!("0d3c9a4e-7c9f-4c4b-9d5e-{:012x}", n * self.pods_each + p).into(),
            ips: vec![self.address(n, p)],
            account: name(n).into(),
            meshed: true,
            proven: Default::default(),
            host_network: false,
            ended: false,
            ports: [("http".into(), 8080)].into(),
            labels: Arc::new(labels.into()),
        }
    }

    fn address(self, n: u32, p: u32) -> IpAddr {
        ip(PODS, n * self.pods_each + p)
    }
}

/// The number of the change that an endpoint's address is of.
pub(super) fn mark(address: &str) -> Option<u32> {
    let ip = address.rsplit_once(':')?.0.parse::<IpAddr>().ok()?;
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == MARKED => Some(u32::from(v4) & 0x00ff_ffff),
        _ => None,
    }
}

/// Name of a Service, and of the account of its pods.
pub(super) fn name(n: u32) -> String {
    format!("service-{n}")
}

pub(super) fn namespace(n: u32) -> String {
    format!("ns-{}", n % NAMESPACES)
}

pub(super) fn pod_name(n: u32, p: u32) -> String {
    format!("service-{n}-6d4cf56db6-{p:05}")
}

/// By which proxies ask for a Service.
pub(super) fn host(n: u32) -> String {
    format!("{}.{}.svc.{TRUST_DOMAIN}", name(n), namespace(n))
}

pub(super) fn settings() -> Settings {
    Settings {
        trust_domain: TRUST_DOMAIN.into(),
        cluster_domain: TRUST_DOMAIN.into(),
        mesh_namespace: MESH_NAMESPACE.into(),
    }
}

/// Nanoseconds of the clock that never steps and that all processes share (CLOCK_MONOTONIC).
pub(super) fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or_default()
}

/// Since a time of [`clock`].
pub(super) fn since(then: u64) -> Duration {
    Duration::from_nanos(clock().saturating_sub(then))
}

/// Seconds since 1970.
pub(super) fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

fn service(n: u32) -> Service {
    let port = ServicePort { name: "http".into(), port: 80, target: TargetPort::Number(8080), app_protocol: "".into() };
    Service {
        at: at(n, &name(n)),
        created: "2026-01-01T00:00:00Z".into(),
        kind: ServiceKind::ClusterIp,
        addresses: vec![ip(172, n)],
        ports: vec![port],
        selector: [("app".into(), name(n).into())].into(),
        publish_not_ready: false,
    }
}

fn at(n: u32, name: &str) -> ObjectName {
    ObjectName { namespace: namespace(n).into(), name: name.into() }
}

fn ip(first: u8, n: u32) -> IpAddr {
    let [_, a, b, c] = n.to_be_bytes();
    [first, a, b, c].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_by_its_address() {
        let world = World { services: 200, pods_each: 10 };
        let slice = world.change(70_000);
        assert_eq!(&*slice.service, name(world.changed(70_000)));
        assert_eq!(mark(&format!("{}:8080", slice.endpoints[0].ip)), Some(70_000));
        assert_eq!(mark(&format!("{}:8080", slice.endpoints[1].ip)), None);
        assert_eq!(world.objects().count(), 200 * 12);
        assert_eq!((world.subscriber(0), world.subscriber(29)), ((0, 0), (2, 9)));
    }

    #[test]
    fn changes_in_a_row_are_of_different_services() {
        let world = World { services: 10_000, pods_each: 10 };
        let changed: std::collections::HashSet<u32> = (0..3_000).map(|n| world.changed(n)).collect();
        assert_eq!(changed.len(), 3_000);
    }
}
