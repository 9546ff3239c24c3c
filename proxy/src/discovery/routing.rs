//! From where a connection was going to what takes it: the part of a snapshot that no listener says.
//!
//! A listener that takes redirected connections stands for many: the one of the pod's port 8080 may demand mTLS where
//! that of 9090 does not, and what goes to a Service of bytes is not looked at. Those are listeners of their own here,
//! made once for each snapshot, so that everything behind them need not know that they share a socket.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use outrigger_config::model::{Endpoint, Listener, MtlsMode, UpstreamId};

use super::Explicit;

/// See the module.
#[derive(Debug)]
pub struct Routing {
    /// By the number of the service; `None`: it is not in this snapshot.
    pub(super) slots: Vec<Option<UpstreamId>>,
    /// Ports of the pod, sorted.
    pub(super) ports: Vec<(u16, Listener)>,
    /// Every other port; `None`: nothing is known of the workload, and nothing is let in.
    pub(super) rest: Option<Listener>,
    /// The outbound listener for what is passed on as bytes.
    pub(super) opaque: Option<Listener>,
    /// What is outside the mesh.
    pub outside: UpstreamId,
    /// Pods of no Service.
    pub pods: UpstreamId,
    /// Addresses of the pod.
    pub(super) ips: Vec<IpAddr>,
    /// What is proxied explicitly.
    pub explicit: Explicit,
    /// Endpoints of upstreams that have them from the control plane, by name of the upstream.
    pub endpoints: HashMap<Arc<str>, Vec<Endpoint>>,
}

impl Routing {
    /// The upstream that stands for the service of this number.
    #[must_use]
    pub fn service(&self, slot: u32) -> Option<UpstreamId> {
        self.slots.get(slot as usize).copied().flatten()
    }

    /// The listener for connections to this port of the pod. `None`: none is to be let in yet.
    #[must_use]
    pub fn inbound(&self, port: u16) -> Option<&Listener> {
        let known = self.ports.binary_search_by_key(&port, |(p, _)| *p).ok();
        known.map(|i| &self.ports[i].1).or(self.rest.as_ref())
    }

    /// What each port of the pod asks of its callers, and last what every other port does.
    #[must_use]
    pub fn modes(&self) -> Vec<(Option<u16>, MtlsMode)> {
        let ports = self.ports.iter().map(|(port, listener)| (Some(*port), listener.mtls));
        ports.chain(self.rest.iter().map(|listener| (None, listener.mtls))).collect()
    }

    /// Whether it is known what the pod serves.
    #[must_use]
    pub fn has_workload(&self) -> bool {
        self.rest.is_some()
    }

    /// The listener for outbound connections that are passed on as bytes.
    #[must_use]
    pub fn opaque(&self) -> Option<&Listener> {
        self.opaque.as_ref()
    }

    /// The address of the app that a connection for `original` is made to. What is not for the pod itself, which no rule
    /// redirects here, goes to the pod's first address.
    #[must_use]
    pub fn app(&self, original: SocketAddr) -> Option<SocketAddr> {
        if let Some(app) = self.explicit.app(original.port()) {
            return Some(app);
        }
        let ip = original.ip().to_canonical();
        let own = if self.ips.contains(&ip) { ip } else { *self.ips.first()? };
        Some(SocketAddr::new(own, original.port()))
    }

    /// Where to go for `address` of the pod itself or of others.
    #[must_use]
    pub fn past(&self, address: SocketAddr) -> SocketAddr {
        self.explicit.past(address, &self.ips)
    }

    /// Where the app listens, as far as the control plane knows its ports.
    pub fn app_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let ip = self.ips.first().copied();
        self.ports.iter().filter_map(move |(port, _)| self.app(SocketAddr::new(ip?, *port)))
    }

    /// Whether the app may be taken to `address` by a connection that was made to the proxy itself. `named`: the pod's
    /// own specification has it go there.
    #[must_use]
    pub fn may_reach(&self, address: SocketAddr, named: bool) -> bool {
        !(self.explicit.proxy || named) || self.explicit.allows(address, &self.ips)
    }

    /// Addresses of the pod.
    #[must_use]
    pub fn own_ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// True for an address of the pod itself.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip.to_canonical())
    }
}
