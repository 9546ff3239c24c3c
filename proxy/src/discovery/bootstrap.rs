//! What a proxy in a pod must be told before it can ask: who it is, whom to believe, where to listen.
//!
//! All of it comes from flags, or from the environment that the chart's sidecar has (the downward API). The
//! `Proxy` document that a file would hold is made from it, so that what the control plane sends is compiled by the
//! one function that compiles files.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use outrigger_config::{Source, discovery::Pod, model::Direction};

use super::explicit::{self, Explicit};
use crate::{admin::app::AppEndpoints, control::Leave, tls::SpiffeId};

/// Name of the source that the synthesized `Proxy` stands in, as faults and `/config` show it.
pub const SOURCE: &str = "--control-plane";
/// Name, and label in metrics, of destinations outside the mesh.
pub const OUTSIDE: &str = "outside";
/// Name, and label in metrics, of pods that are called by their address and belong to no Service.
pub const PODS: &str = "pods";

/// See the module.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// `HOST:PORT`; the name may stand for several replicas.
    pub control_plane: String,
    /// Who the control plane must prove to be.
    pub control_plane_id: SpiffeId,
    /// The pod.
    pub pod: Pod,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Who the pod is: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub id: SpiffeId,
    /// PEM roots that the control plane is authenticated by; read again for each connection.
    pub trust_bundle: PathBuf,
    /// The service-account token; read again for each certificate.
    pub token: PathBuf,
    /// Where redirected connections to the pod arrive.
    pub inbound: Vec<SocketAddr>,
    /// Where redirected connections of the app arrive, and requests that name their host.
    pub outbound: Vec<SocketAddr>,
    /// The admin port.
    pub admin: SocketAddr,
    /// Forwarding threads; `None`: the CPU quota, at most 2.
    pub workers: Option<u16>,
    /// Where the last good resources are saved, for a start without a control plane.
    pub state_dir: Option<PathBuf>,
    /// How long a destination may be without use before it is forgotten.
    pub idle: std::time::Duration,
    /// What is proxied explicitly.
    pub explicit: Explicit,
    /// What is asked of the app on the admin port.
    pub app: AppEndpoints,
    /// How the pod is left.
    pub leave: Leave,
}

impl Bootstrap {
    /// True for an address of the pod itself.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip.to_canonical())
    }

    /// The names of the listeners, in order, with their direction.
    pub fn listeners(&self) -> impl Iterator<Item = (String, SocketAddr, Direction)> + '_ {
        let named = |direction: Direction, all: &'_ [SocketAddr]| {
            let name = direction.as_str();
            let each = |(i, address): (usize, &SocketAddr)| {
                (if i == 0 { name.to_owned() } else { format!("{name}-{}", i + 1) }, *address, direction)
            };
            all.iter().enumerate().map(each).collect::<Vec<_>>()
        };
        let redirected =
            named(Direction::Inbound, &self.inbound).into_iter().chain(named(Direction::Outbound, &self.outbound));
        redirected.chain(self.explicit_listeners())
    }

    /// Those that no rule of the system leads to: on the families of addresses that the others have.
    fn explicit_listeners(&self) -> impl Iterator<Item = (String, SocketAddr, Direction)> + '_ {
        let of = |prefix: &'static str, port: u16, all: &[SocketAddr], direction: Direction| {
            let mut ips: Vec<_> = all.iter().map(SocketAddr::ip).collect();
            ips.sort_unstable();
            ips.dedup();
            let name =
                move |i: usize| if i == 0 { format!("{prefix}{port}") } else { format!("{prefix}{port}-{}", i + 1) };
            let each = ips.into_iter().enumerate();
            each.map(move |(i, ip)| (name(i), SocketAddr::new(ip, port), direction)).collect::<Vec<_>>()
        };
        let inbound = self.explicit.inbound.iter();
        let inbound = inbound.flat_map(move |m| of(explicit::INBOUND, m.port, &self.inbound, Direction::Inbound));
        let outbound = self.explicit.outbound.iter();
        inbound.chain(outbound.flat_map(move |n| of(explicit::OUTBOUND, n.port, &self.outbound, Direction::Outbound)))
    }

    /// The `Proxy` document, and the `Upstream`s that stand for what no document names: pods without a Service, and all
    /// that is outside the mesh.
    ///
    /// Where those have their endpoints is known of each connection alone, and the identity is issued, so what stands
    /// here is replaced once it is compiled ([`assemble`](super::assemble)).
    #[must_use]
    pub fn document(&self) -> Source {
        let metadata = |name: &str| format!("{{ name: {}, namespace: {} }}", quoted(name), quoted(&self.pod.namespace));
        let mut text = format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: Proxy\nmetadata: {}\nspec:\n  admin: {{ address: \"{}\" }}\n  \
             identity: {{ certificate: issued, privateKey: issued, trustBundle: issued }}\n",
            metadata(&self.pod.name),
            self.admin
        );
        text.push_str(&format!(
            "  drainTimeout: {}s{}ms\n",
            self.leave.timeout.as_secs(),
            self.leave.timeout.subsec_millis()
        ));
        if let Some(workers) = self.workers {
            text.push_str(&format!("  workers: {workers}\n"));
        }
        text.push_str("  listeners:\n");
        for (name, address, direction) in self.listeners() {
            let redirected = !name.starts_with(explicit::OUTBOUND);
            let direction = direction.as_str();
            text.push_str(&format!(
                "    - {{ name: {name}, address: \"{address}\", direction: {direction}, originalDestination: {redirected} }}\n"
            ));
        }
        for name in [PODS, OUTSIDE].map(document_name) {
            text.push_str(&format!(
                "---\napiVersion: outrigger.dev/v1alpha1\nkind: Upstream\nmetadata: {}\nspec:\n  \
                 endpoints: [{{ address: \"{PLACEHOLDER}\" }}]\n",
                metadata(&name)
            ));
        }
        Source { name: SOURCE.into(), text }
    }
}

/// Name of the `Upstream` that stands for a label: nobody's document is called so.
#[must_use]
pub fn document_name(label: &str) -> String {
    format!("outrigger-{label}")
}

/// An address of the documentation range (RFC 5737): never connected to.
const PLACEHOLDER: &str = "192.0.2.1:1";

/// As a YAML string: names of pods are DNS names, but they come from outside.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The addresses of the pod, `IP[,IP]` as the downward API writes `status.podIPs`.
///
/// # Errors
/// The part that is no address.
pub fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(|p| p.parse().map_err(|_| format!("{p:?} is no IP address"))).collect()
}
