//! Resources to a snapshot: documents are compiled as if they were files, and what no document says is added.
//!
//! A document may come with several resources (a MeshPolicy comes with all); it is compiled once. Faults name the
//! document that they are in, so a resource is to blame for the faults of its documents.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use outrigger_config::{
    Cluster, Compiled, Fault, LocalPort, Source, compile_in,
    discovery::{self, Key, Workload, endpoint::State},
    model::{
        Direction, Endpoint, EndpointSource, IdentitySource, Listener, ListenerProtocol, ListenerTarget, Model,
        MtlsMode, Upstream, UpstreamId,
    },
};

use super::{
    Bootstrap, Routing,
    bootstrap::{OUTSIDE, PODS, document_name},
    cache::Body,
};

/// What was sent, put together.
pub struct Assembled {
    /// For the snapshot.
    pub compiled: Compiled,
    /// Beside it.
    pub routing: Routing,
}

/// What the control plane says of the cluster in its `Welcome`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mesh {
    /// `cluster.local`, mostly. Empty: not told yet.
    pub cluster_domain: String,
    /// Of the control plane. Empty: not told yet.
    pub mesh_namespace: String,
}

/// Compiles these resources. `slots` are the numbers of services, by their keys.
///
/// # Errors
/// Every fault, each in the document that it names.
pub fn assemble<'a>(
    boot: &Bootstrap,
    mesh: &Mesh,
    resources: impl Iterator<Item = (&'a str, &'a Body)>,
    slots: &HashMap<String, u32>,
) -> Result<Assembled, Vec<Fault>> {
    let resources: Vec<_> = resources.collect();
    let workload = resources.iter().find_map(|(_, body)| match body {
        Body::Workload(workload) => Some(workload),
        _ => None,
    });
    let mut documents: BTreeMap<&str, &str> = BTreeMap::new();
    for document in resources.iter().flat_map(|(_, body)| body.documents()) {
        documents.insert(&document.origin, &document.json);
    }
    let mut sources = vec![boot.document()];
    sources.extend(documents.into_iter().map(|(origin, json)| Source::object(origin, json)));
    let mut compiled = compile_in(&sources, &cluster(boot, mesh, workload))?;
    let model = &mut compiled.model;
    model.proxy.identity = Some(IdentitySource::ControlPlane);
    let missing = || vec![fault(format!("there is no Upstream {OUTSIDE}: this is a bug"))];
    let outside = unplace(boot, model, OUTSIDE).ok_or_else(missing)?;
    let pods = unplace(boot, model, PODS).ok_or_else(missing)?;
    let routing = Routing {
        slots: numbered(model, slots),
        ports: ports(model, workload),
        rest: workload.and_then(|w| local(model, 0, "", mtls(&w.mtls, MtlsMode::Strict))),
        opaque: outbound(model).map(|l| Listener { protocol: ListenerProtocol::Tcp, ..l.clone() }),
        outside,
        pods,
        ips: boot.ips.clone(),
        explicit: boot.explicit.clone(),
        endpoints: endpoints(boot, model, &resources),
    };
    Ok(Assembled { compiled, routing })
}

fn cluster(boot: &Bootstrap, mesh: &Mesh, workload: Option<&Workload>) -> Cluster {
    let default = Cluster::default();
    let or = |text: &str, default: Arc<str>| if text.is_empty() { default } else { text.into() };
    let ports = workload.map_or(&[][..], |w| &w.ports);
    let local = ports.iter().filter_map(|p| {
        let services = p.services.iter().filter_map(|key| match key.parse() {
            Ok(Key::Service { namespace, name, port }) => Some((namespace, name, port)),
            _ => None,
        });
        Some(LocalPort {
            port: u16::try_from(p.port).ok().filter(|p| *p != 0)?,
            services: services.collect(),
            protocol: (*p.protocol).into(),
        })
    });
    let rest = LocalPort { port: 0, services: Vec::new(), protocol: "".into() };
    Cluster {
        namespace: (*boot.pod.namespace).into(),
        domain: or(&mesh.cluster_domain, default.domain),
        mesh_namespace: or(&mesh.mesh_namespace, default.mesh_namespace),
        local: local.chain(workload.map(|_| rest)).collect(),
    }
}

/// The upstream that stands for `label`, whose endpoint is known of each connection alone.
fn unplace(boot: &Bootstrap, model: &mut Model, label: &str) -> Option<UpstreamId> {
    let name = format!("{}/{}", boot.pod.namespace, document_name(label));
    let index = model.upstreams.iter().position(|u| *u.name == name)?;
    let upstream = Arc::make_mut(&mut model.upstreams[index]);
    upstream.source = EndpointSource::Static(Vec::new());
    upstream.name = label.into();
    id(index)
}

fn numbered(model: &Model, slots: &HashMap<String, u32>) -> Vec<Option<UpstreamId>> {
    let length = slots.values().max().map_or(0, |last| *last as usize + 1);
    let mut numbered = vec![None; length];
    for (index, upstream) in model.upstreams.iter().enumerate() {
        if let Some(slot) = key_of(upstream).and_then(|key| slots.get(&key)) {
            numbered[*slot as usize] = id(index);
        }
    }
    numbered
}

/// The key of the resource that an upstream was compiled from; `None`: of the workload, or of none.
fn key_of(upstream: &Upstream) -> Option<String> {
    match &upstream.source {
        EndpointSource::Local { .. } => None,
        EndpointSource::Discovered => Some(format!("service/{}", upstream.name)),
        _ if is_external_name(upstream) => Some(format!("service/{}", upstream.name)),
        _ => Some(format!("upstream/{}", upstream.name)),
    }
}

/// True for an ExternalName Service: it has a port in its name, an Upstream document has none.
#[must_use]
pub fn is_external_name(upstream: &Upstream) -> bool {
    matches!(upstream.source, EndpointSource::Dns { .. }) && upstream.name.contains(':')
}

fn ports(model: &Model, workload: Option<&Workload>) -> Vec<(u16, Listener)> {
    let Some(workload) = workload else { return Vec::new() };
    let rest = mtls(&workload.mtls, MtlsMode::Strict);
    let mut ports: Vec<_> = workload
        .ports
        .iter()
        .filter_map(|p| {
            let port = u16::try_from(p.port).ok().filter(|p| *p != 0)?;
            Some((port, local(model, port, &p.protocol, mtls(&p.mtls, rest))?))
        })
        .collect();
    ports.sort_by_key(|(port, _)| *port);
    ports.dedup_by_key(|(port, _)| *port);
    ports
}

/// The inbound listener of one port of the pod.
fn local(model: &Model, port: u16, protocol: &str, mtls: MtlsMode) -> Option<Listener> {
    let own = |u: &Arc<Upstream>| u.source == EndpointSource::Local { port };
    let target = id(model.upstreams.iter().position(own)?)?;
    let shared = model.listeners.iter().find(|l| l.direction == Direction::Inbound)?;
    let protocol = match protocol {
        "http" | "http2" | "grpc" => ListenerProtocol::Http,
        "tcp" => ListenerProtocol::Tcp,
        _ => ListenerProtocol::Detect,
    };
    let address = SocketAddr::new(shared.address.ip(), port);
    Some(Listener { address, protocol, mtls, target: ListenerTarget::Forward(target), ..shared.clone() })
}

fn outbound(model: &Model) -> Option<&Listener> {
    model.listeners.iter().find(|l| l.direction == Direction::Outbound)
}

/// A word that this version does not know is as strict as can be.
fn mtls(word: &str, unsaid: MtlsMode) -> MtlsMode {
    match word {
        "" => unsaid,
        "permissive" => MtlsMode::Permissive,
        "disabled" => MtlsMode::Disabled,
        _ => MtlsMode::Strict,
    }
}

fn endpoints(boot: &Bootstrap, model: &Model, resources: &[(&str, &Body)]) -> HashMap<Arc<str>, Vec<Endpoint>> {
    let found = model.upstreams.iter().filter_map(|upstream| {
        match upstream.source {
            EndpointSource::Discovered => {}
            EndpointSource::Local { port } if port != 0 => {
                let app = |ip: &IpAddr| Endpoint {
                    address: boot.explicit.app(port).unwrap_or(SocketAddr::new(*ip, port)),
                    weight: 1,
                    zone: None,
                    identity: None,
                };
                let mut apps: Vec<_> = boot.ips.iter().map(app).collect();
                apps.dedup_by_key(|e| e.address);
                return Some((Arc::clone(&upstream.name), apps));
            }
            _ => return None,
        }
        let key = key_of(upstream)?;
        let body = resources.iter().find(|(k, _)| *k == key).map(|(_, body)| body)?;
        let Body::Service(service) = body else { return None };
        Some((Arc::clone(&upstream.name), usable(boot, &service.endpoints)))
    });
    found.collect()
}

/// The name of the upstream that a service's key stands for.
#[must_use]
pub fn upstream_name(key: &str) -> Option<&str> {
    key.strip_prefix("service/")
}

/// The endpoints that may get requests. What is terminating gets some only where nothing is ready; hints of
/// the topology count where all have one, and one of them is for our zone, as with kube-proxy.
#[must_use]
pub fn usable(boot: &Bootstrap, all: &[discovery::Endpoint]) -> Vec<Endpoint> {
    let ready = || all.iter().filter(|e| e.state() == State::Ready);
    let any_ready = ready().next().is_some();
    let zone = &boot.pod.zone;
    let hinted = !zone.is_empty()
        && ready().all(|e| !e.for_zones.is_empty())
        && ready().any(|e| e.for_zones.iter().any(|z| z == zone));
    let mut seen = std::collections::HashSet::new();
    let usable = all.iter().filter_map(|e| {
        let weight = match e.state() {
            State::Unready => return None,
            // No share: what runs there ends in its own time.
            State::Draining if any_ready => 0,
            State::Ready if hinted && !e.for_zones.iter().any(|z| z == zone) => return None,
            State::Ready | State::Draining => e.weight.max(1),
        };
        let endpoint = endpoint(boot, e)?;
        seen.insert(endpoint.address).then_some(Endpoint { weight, ..endpoint })
    });
    usable.collect()
}

/// One endpoint, whatever its state; `None`: its address is none. The pod's own app is reached without leaving the pod, so no
/// proxy stands before it.
#[must_use]
pub fn endpoint(boot: &Bootstrap, e: &discovery::Endpoint) -> Option<Endpoint> {
    let address: SocketAddr = e.address.parse().ok().filter(|a: &SocketAddr| a.port() != 0)?;
    let identity = if boot.is_own(address.ip()) || e.identity.is_empty() { None } else { Some((*e.identity).into()) };
    let zone = if e.zone.is_empty() { None } else { Some((*e.zone).into()) };
    let address = boot.explicit.past(address, &boot.ips);
    Some(Endpoint { address, weight: e.weight.max(1), zone, identity })
}

fn id(index: usize) -> Option<UpstreamId> {
    u32::try_from(index).ok().map(UpstreamId)
}

fn fault(message: String) -> Fault {
    let origin = outrigger_config::Origin::new(super::bootstrap::SOURCE, 1, 1);
    Fault { origin, severity: outrigger_config::Severity::Error, message }
}
