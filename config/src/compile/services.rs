//! Services of a cluster: each TCP port is an upstream, and each port of the pod itself another one.
//!
//! An upstream of a Service port is called `NAMESPACE/NAME:PORT`, which is its label in metrics; one of an Upstream document
//! `NAMESPACE/NAME`; one of the pod itself `inbound/NAMESPACE/NAME:PORT` after the oldest Service that targets it, or
//! `inbound/PORT`. The pod's own are apart from those that it calls, because a caller's retries, breaker and balancing
//! must not act a second time in front of the service; what protects the service (limits, rate limit, idle times)
//! acts there, and access is judged there alone.

use std::sync::Arc;

use crate::{
    Cluster, LocalPort, Origin,
    compile::{Context, names::RefKind},
    documents::{Document, Kind, ServicePortSpec, ServiceSpec, Spanned, TargetRef},
    load::Loaded,
    model::{EndpointSource, RouteTable, TrafficPolicy, Upstream, UpstreamId, UpstreamProtocol, UpstreamTls},
};

/// Ports whose servers speak first, or whose protocols a detector only delays: SMTP, MySQL, PostgreSQL, Redis, memcached,
/// NATS, Galera, Elasticsearch's transport. `appProtocol` says otherwise.
const SERVER_FIRST: &[u16] = &[25, 587, 3306, 4222, 4444, 5432, 6379, 9300, 11211];

/// Whose an upstream is.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// An `Upstream` document's.
    Upstream(&'a Loaded),
    /// Port and its name of a Service.
    Port(&'a Loaded, u16, &'a str),
    /// The pod's own.
    Local(&'a LocalPort),
}

impl<'a> Context<'a> {
    /// One for each port of each Service, and each port of the pod; `upstreams` holds those of the documents.
    pub(super) fn compile_services(&mut self, upstreams: &mut Vec<Upstream>) {
        let Some(cluster) = self.cluster else { return };
        for at in self.of_kind(Kind::Service) {
            let Document::Service(resource) = &at.document else { continue };
            let namespace = self.namespace(at, None);
            self.services.entry((namespace, at.name())).or_insert(at);
            for port in resource.spec.ports.iter().filter(|p| is_tcp(p)) {
                let id = UpstreamId(u32::try_from(upstreams.len()).unwrap_or(u32::MAX));
                let name = port.name.as_ref().map_or("", |n| n.as_str());
                if self.ports.insert((namespace, at.name(), port.port.inner), id).is_none() {
                    self.owners.push(Owner::Port(at, port.port.inner, name));
                    upstreams.push(service_port(at, namespace, &resource.spec, port, cluster));
                }
            }
        }
        for local in &cluster.local {
            self.owners.push(Owner::Local(local));
            upstreams.push(local_port(local));
        }
    }

    /// Namespace, name and port of the Service behind an upstream.
    pub(super) fn service_of(&self, owner: Owner<'a>) -> Option<(&'a str, &'a str, u16)> {
        match owner {
            Owner::Upstream(_) => None,
            Owner::Port(at, port, _) => Some((self.namespace(at, None), at.name(), port)),
            Owner::Local(local) => local.services.first().map(|(namespace, name, port)| (&**namespace, &**name, *port)),
        }
    }

    /// The namespace whose policies hold for it.
    pub(super) fn namespace_of(&self, owner: Owner<'a>) -> &'a str {
        match owner {
            Owner::Upstream(at) | Owner::Port(at, ..) => at.document.metadata().namespace(),
            Owner::Local(_) => self.cluster.map_or("", |c| &*c.namespace),
        }
    }

    /// The upstreams of a Service: what is called, and where it `local`ly stands behind a port of the pod.
    pub(super) fn upstreams_of(
        &self,
        namespace: &str,
        name: &str,
        section: Option<&str>,
        local: bool,
    ) -> Vec<UpstreamId> {
        let known = self.services.get(&(namespace, name));
        let port_of = |port: u16| {
            let Some(Document::Service(service)) = known.map(|at| &at.document) else { return false };
            let named = |p: &&Spanned<ServicePortSpec>| p.name.as_ref().map(|n| n.as_str()) == section;
            service.spec.ports.iter().find(named).is_some_and(|p| p.port.inner == port)
        };
        let holds = |owner: &Owner<'_>| match owner {
            Owner::Upstream(_) => false,
            Owner::Port(at, _, its) => {
                known.is_some_and(|k| std::ptr::eq(*k, *at)) && section.is_none_or(|section| section == *its)
            }
            Owner::Local(port) => {
                local
                    && port.services.iter().any(|(ns, n, port)| {
                        // What port is meant is not known without the Service: the policy holds rather than not.
                        **ns == *namespace && **n == *name && (section.is_none() || known.is_none() || port_of(*port))
                    })
            }
        };
        (0..).zip(&self.owners).filter(|(_, owner)| holds(owner)).map(|(id, _)| UpstreamId(id)).collect()
    }

    /// The upstreams that an AccessPolicy for a Service guards.
    pub(super) fn guarded_service(
        &mut self,
        at: &Loaded,
        target: &Spanned<TargetRef>,
        section: Option<&str>,
    ) -> Vec<usize> {
        let namespace = self.namespace(at, target.namespace.as_ref());
        if !self.granted(at, RefKind::Service, namespace, &target.name) {
            self.without_effect(at, target.mark);
            return Vec::new();
        }
        self.upstreams_of(namespace, &target.name, section, true).iter().map(|id| id.0 as usize).collect()
    }

    /// The upstreams that an AccessPolicy for a namespace guards.
    pub(super) fn guarded_namespace(&mut self, at: &Loaded, namespace: &Spanned<String>) -> Vec<usize> {
        if !self.speaks_for(at, namespace) {
            return Vec::new();
        }
        let inside = |owner: &Owner<'a>| self.namespace_of(*owner) == namespace.as_str();
        self.owners.iter().enumerate().filter(|(_, owner)| inside(owner)).map(|(index, _)| index).collect()
    }
}

/// What protects the server; the rest is the caller's.
pub(super) fn server_side(policy: TrafficPolicy) -> TrafficPolicy {
    let mut kept = TrafficPolicy {
        name: policy.name,
        origin: policy.origin,
        mode: policy.mode,
        limits: policy.limits,
        rate_limit: policy.rate_limit,
        adaptive_concurrency: policy.adaptive_concurrency,
        ..TrafficPolicy::default()
    };
    kept.timeouts.connect = policy.timeouts.connect;
    kept.timeouts.idle = policy.timeouts.idle;
    kept
}

fn is_tcp(port: &ServicePortSpec) -> bool {
    port.protocol.as_deref().is_none_or(|p| p == "TCP")
}

fn service_port(
    at: &Loaded,
    namespace: &str,
    spec: &ServiceSpec,
    port: &ServicePortSpec,
    cluster: &Cluster,
) -> Upstream {
    let number = port.port.inner;
    let source = match (&spec.r#type, &spec.external_name) {
        (Some(kind), Some(name)) if kind == "ExternalName" => {
            EndpointSource::Dns { name: name.as_str().trim_end_matches('.').into(), port: number }
        }
        _ => EndpointSource::Discovered,
    };
    upstream(
        format!("{namespace}/{}:{number}", at.name()).into(),
        service_protocol(port.app_protocol.as_deref().unwrap_or_default(), number),
        service_hosts(at.name(), namespace, number, cluster),
        source,
        at.origin(at.mark),
    )
}

fn local_port(local: &LocalPort) -> Upstream {
    let name = match local.services.first() {
        Some((namespace, name, port)) => format!("inbound/{namespace}/{name}:{port}"),
        None => format!("inbound/{}", local.port),
    };
    let protocol = match &*local.protocol {
        "http" => UpstreamProtocol::Http,
        "http2" => UpstreamProtocol::Http2,
        "grpc" => UpstreamProtocol::Grpc,
        "tcp" => UpstreamProtocol::Tcp,
        _ => UpstreamProtocol::Auto,
    };
    let source = EndpointSource::Local { port: local.port };
    upstream(name.into(), protocol, Vec::new(), source, Origin::field("workload", ""))
}

fn upstream(
    name: Arc<str>,
    protocol: UpstreamProtocol,
    hostnames: Vec<Arc<str>>,
    source: EndpointSource,
    origin: Origin,
) -> Upstream {
    Upstream {
        name,
        protocol,
        hostnames,
        source,
        tls: UpstreamTls::None,
        policy: Arc::new(TrafficPolicy::default()),
        access: Vec::new(),
        routes: RouteTable::default(),
        origin,
    }
}

/// What an `appProtocol` (KEP-3726, and IANA's names) and, where there is none, a well-known port says.
#[must_use]
pub fn service_protocol(app_protocol: &str, port: u16) -> UpstreamProtocol {
    match app_protocol {
        "http" | "kubernetes.io/ws" => UpstreamProtocol::Http,
        "kubernetes.io/h2c" | "http2" | "h2c" => UpstreamProtocol::Http2,
        "grpc" => UpstreamProtocol::Grpc,
        // TLS of the app itself passes through.
        "tcp" | "https" | "tls" | "kubernetes.io/wss" => UpstreamProtocol::Tcp,
        "" if SERVER_FIRST.contains(&port) => UpstreamProtocol::Tcp,
        _ => UpstreamProtocol::Auto,
    }
}

/// The names under which a Service port is found, as DNS of the cluster has them, each with its port: another port of that
/// name is not this Service. The short one is that of the caller's namespace.
fn service_hosts(name: &str, namespace: &str, port: u16, cluster: &Cluster) -> Vec<Arc<str>> {
    let mut hosts = Vec::with_capacity(4);
    if *namespace == *cluster.namespace {
        hosts.push(format!("{name}:{port}").into());
    }
    hosts.push(format!("{name}.{namespace}:{port}").into());
    hosts.push(format!("{name}.{namespace}.svc:{port}").into());
    hosts.push(format!("{name}.{namespace}.svc.{}:{port}", cluster.domain).into());
    hosts
}
