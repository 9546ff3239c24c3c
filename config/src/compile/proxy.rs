//! The `Proxy` document: settings of the process, listeners, and the table of hosts.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

mod identity;

use crate::{
    compile::{Context, mesh::Mesh, names::Found, traffic::some_time},
    documents::{
        DirectionWord, Document, Kind, ListenerLimitsSpec, ListenerSpec, LogFormatWord, MtlsWord, ProtocolWord,
        ProxySpec, Spanned, TelemetrySpec,
    },
    load::Loaded,
    model::{
        AccessLog, Direction, EndpointSource, HostTable, Listener, ListenerLimits, ListenerProtocol, ListenerTarget,
        LogFormat, MtlsMode, ProxySettings, Telemetry, TracingExport, Upstream, UpstreamId,
    },
};

/// Admin port where none is said.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9990);
/// Names of all upstreams: each listener holds a table of them.
const MAX_HOSTS: usize = 20_000;
/// Wait of a drain where none is said.
const DRAIN: Duration = Duration::from_secs(30);

impl Context<'_> {
    pub(super) fn settings(&mut self, at: &Loaded, spec: &ProxySpec, mesh: &Mesh<'_>) -> ProxySettings {
        let namespace = at.document.metadata().namespace();
        let defaults = mesh.spec(namespace).and_then(|(_, m)| m.telemetry.as_ref());
        ProxySettings {
            name: at.name().into(),
            workers: spec.workers,
            admin: admin(spec).unwrap_or(ADMIN),
            identity: spec.identity.as_ref().and_then(|i| self.identity(at, i)),
            telemetry: telemetry(spec.telemetry.as_ref(), defaults),
            correlation: mesh.correlation(namespace),
            drain_timeout: spec.drain_timeout.map_or(DRAIN, |d| d.0),
        }
    }

    pub(super) fn listeners(
        &mut self,
        at: &Loaded,
        spec: &Spanned<ProxySpec>,
        upstreams: &[Upstream],
        hosts: &HostTable,
        mesh: &Mesh<'_>,
    ) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::with_capacity(spec.listeners.len());
        let mut bound: Vec<(SocketAddr, String)> = Vec::with_capacity(spec.listeners.len() + 1);
        bound.extend(self.admin_port(at, spec).map(|address| (address, "the admin port".into())));
        let mut names: HashSet<&str> = HashSet::new();
        for listener in &spec.listeners {
            let address = listener.address.inner.0;
            if let Some((_, other)) = bound.iter().find(|(b, _)| conflict(*b, address)) {
                let message = format!("`{address}` is taken by {other}");
                self.fault(at, listener.address.mark, message);
            }
            bound
                .push((address, if listener.name.is_stand_in() { "another listener".into() } else { title(listener) }));
            if !names.insert(listener.name.as_str()) {
                self.fault(at, listener.name.mark, format!("a {} stands here already", title(listener)));
            }
            let Some(compiled) = self.listener(at, spec, listener, hosts, mesh) else { continue };
            if let ListenerTarget::Forward(id) = compiled.target
                && let Some(upstream) = upstreams.get(id.0 as usize)
                && leads_back(address, &upstream.source)
            {
                let message =
                    format!("Upstream `{}` has this address: requests would go round in a circle", upstream.name);
                self.fault(at, listener.address.mark, message);
            }
            listeners.push(compiled);
        }
        listeners
    }

    /// The address of the admin port, unless it is not known.
    fn admin_port(&self, at: &Loaded, spec: &Spanned<ProxySpec>) -> Option<SocketAddr> {
        let unknown = match &spec.admin {
            Some(admin) => admin.is_stand_in() || at.may_have(admin.mark, &["address"]),
            None => at.may_have(spec.mark, &["admin"]),
        };
        admin(spec).or_else(|| (!unknown).then_some(ADMIN))
    }

    fn listener(
        &mut self,
        at: &Loaded,
        proxy: &Spanned<ProxySpec>,
        spec: &Spanned<ListenerSpec>,
        hosts: &HostTable,
        mesh: &Mesh<'_>,
    ) -> Option<Listener> {
        let protocol = match spec.protocol.as_ref().map(|p| p.inner) {
            None | Some(ProtocolWord::Detect) => ListenerProtocol::Detect,
            Some(ProtocolWord::Http) => ListenerProtocol::Http,
            Some(ProtocolWord::Tcp) => ListenerProtocol::Tcp,
        };
        let direction = match spec.direction.inner {
            DirectionWord::Inbound => Direction::Inbound,
            DirectionWord::Outbound => Direction::Outbound,
        };
        let mtls = self.listener_mtls(at, proxy, spec, direction, mesh);
        let target = match &spec.forward_to {
            Some(r) => match self.upstream(at, r) {
                Found::Here(id) => ListenerTarget::Forward(id),
                Found::Elsewhere => return None,
            },
            None => {
                if protocol == ListenerProtocol::Tcp && !at.may_have(spec.mark, &["forwardTo"]) {
                    let mark = spec.protocol.as_ref().map_or(spec.mark, |p| p.mark);
                    self.fault(at, mark, "protocol `tcp` needs `forwardTo`: bytes name no host");
                }
                ListenerTarget::ByHost(hosts.clone())
            }
        };
        Some(Listener {
            name: spec.name.as_str().into(),
            address: spec.address.inner.0,
            direction,
            protocol,
            mtls,
            target,
            original_destination: spec.original_destination.as_ref().is_some_and(|o| o.inner),
            limits: limits(spec.limits.as_ref(), proxy.limits.as_ref()),
            origin: at.origin(spec.mark),
        })
    }

    /// What the listener says, else what the MeshPolicy says, else what the proxy is able to.
    fn listener_mtls(
        &mut self,
        at: &Loaded,
        proxy: &Spanned<ProxySpec>,
        spec: &Spanned<ListenerSpec>,
        direction: Direction,
        mesh: &Mesh<'_>,
    ) -> MtlsMode {
        let identity = proxy.identity.is_some();
        let may_have_identity = identity || proxy.is_stand_in() || at.may_have(proxy.mark, &["identity"]);
        let word = |w: MtlsWord| match w {
            MtlsWord::Strict => MtlsMode::Strict,
            MtlsWord::Permissive => MtlsMode::Permissive,
            MtlsWord::Disabled => MtlsMode::Disabled,
        };
        if let Some(said) = &spec.mtls {
            if said.inner == MtlsWord::Strict && !may_have_identity {
                self.fault(at, said.mark, "`strict` needs an `identity` in this Proxy");
            }
            return word(said.inner);
        }
        // The local service speaks plaintext to its own proxy.
        if direction == Direction::Outbound {
            return MtlsMode::Disabled;
        }
        let policy = mesh.spec(at.document.metadata().namespace());
        match policy.and_then(|(policy, m)| m.mtls.as_ref().map(|said| (policy, said))) {
            Some((policy, said)) => {
                // The listener may be outbound, or have an `mtls` of its own.
                let other = spec.direction.is_stand_in() || at.may_have(spec.mark, &["mtls"]);
                if said.inner == MtlsWord::Strict && !may_have_identity && !other {
                    let message = format!("`strict` needs an `identity` in {}", at.title());
                    self.fault(policy, said.mark, message);
                }
                word(said.inner)
            }
            None if identity => MtlsMode::Permissive,
            None => MtlsMode::Disabled,
        }
    }

    /// Every upstream by its name and host names. A host has one upstream.
    pub(super) fn host_table(&mut self, upstreams: &[Upstream]) -> HostTable {
        let mut owners: HashMap<&str, u32> = HashMap::new();
        let documents: Vec<&Loaded> = self.of_kind(Kind::Upstream).collect();
        for (id, at) in (0..).zip(&documents) {
            if !at.document.metadata().name.is_stand_in() && self.is_visible(at) {
                owners.entry(at.name()).or_insert(id);
            }
        }
        let names: Vec<Option<&str>> =
            documents.iter().map(|d| Some(d.name()).filter(|_| !d.document.metadata().name.is_stand_in())).collect();
        for (id, at) in (0u32..).zip(documents) {
            let Document::Upstream(resource) = &at.document else { continue };
            if !self.is_visible(at) {
                continue;
            }
            let mut own: Vec<&str> = Vec::new();
            for host in resource.spec.hostnames.iter().filter(|h| !h.is_stand_in()) {
                let twice = own.contains(&host.as_str());
                own.push(host);
                match owners.get(host.as_str()) {
                    _ if twice => self.fault(at, host.mark, format!("the host `{}` stands here twice", host.as_str())),
                    Some(other) if *other != id => {
                        let title = names.get(*other as usize).copied().flatten();
                        let title = title.map_or_else(|| "another Upstream".into(), |n| format!("Upstream `{n}`"));
                        let message = format!("the host `{}` is that of {title} already", host.as_str());
                        self.collision(at, host.mark, message);
                    }
                    Some(_) => {}
                    None => drop(owners.insert(host, id)),
                }
            }
        }
        // Names of Services give way to those that someone wrote down.
        for (id, upstream) in (0..).zip(upstreams).skip(names.len()) {
            for host in &upstream.hostnames {
                owners.entry(host).or_insert(id);
            }
        }
        if owners.len() > MAX_HOSTS
            && let Some(at) = self.of_kind(Kind::Proxy).next()
        {
            self.fault(at, at.mark, format!("its Upstreams have more than {MAX_HOSTS} host names"));
            return HostTable::default();
        }
        let mut table = HostTable::default();
        for (host, id) in owners {
            match host.strip_prefix('*') {
                Some(suffix) => table.wildcard.push((suffix.into(), UpstreamId(id))),
                None => table.exact.push((host.into(), UpstreamId(id))),
            }
        }
        table.exact.sort();
        table.wildcard.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        table
    }
}

impl Context<'_> {
    /// An Upstream has its names for the callers of its own namespace: nobody takes a name away from another's.
    fn is_visible(&self, at: &Loaded) -> bool {
        self.cluster.is_none_or(|c| *c.namespace == *self.namespace(at, None))
    }

    /// Two authors of a cluster do not know of each other: the first has the name, and that is no reason to run nothing.
    fn collision(&mut self, at: &Loaded, mark: crate::yaml::Mark, message: String) {
        match self.cluster {
            Some(_) => self.warn(at, mark, message),
            None => self.fault(at, mark, message),
        }
    }
}

fn admin(spec: &ProxySpec) -> Option<SocketAddr> {
    Some(spec.admin.as_ref()?.address.as_ref()?.inner.0)
}

fn title(listener: &ListenerSpec) -> String {
    format!("listener `{}`", listener.name.as_str())
}

/// Whether an endpoint is the listener itself.
fn leads_back(listener: SocketAddr, source: &EndpointSource) -> bool {
    let EndpointSource::Static(endpoints) = source else { return false };
    let local = |e: &SocketAddr| e.ip() == listener.ip() || (listener.ip().is_unspecified() && e.ip().is_loopback());
    endpoints.iter().any(|e| e.address.port() == listener.port() && local(&e.address))
}

/// Two sockets that cannot both be bound, or of which one would shadow the other.
fn conflict(a: SocketAddr, b: SocketAddr) -> bool {
    let shadow = a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || shadow)
}

fn limits(own: Option<&ListenerLimitsSpec>, shared: Option<&ListenerLimitsSpec>) -> ListenerLimits {
    let default = ListenerLimits::default();
    macro_rules! pick {
        ($field:ident) => {
            own.and_then(|l| l.$field).or_else(|| shared.and_then(|l| l.$field))
        };
    }
    let time = |said: Option<crate::documents::Duration>, default| said.map_or(default, |d| some_time(d.0));
    ListenerLimits {
        max_header_bytes: pick!(max_header_bytes).unwrap_or(default.max_header_bytes),
        max_header_count: pick!(max_header_count).unwrap_or(default.max_header_count),
        max_streams: pick!(max_streams).unwrap_or(default.max_streams),
        max_resets: pick!(max_resets).unwrap_or(default.max_resets),
        header_read_timeout: time(pick!(header_read_timeout), default.header_read_timeout),
        idle_timeout: time(pick!(idle_timeout), default.idle_timeout),
        max_connections: pick!(max_connections).unwrap_or(default.max_connections),
    }
}

fn telemetry(own: Option<&TelemetrySpec>, shared: Option<&TelemetrySpec>) -> Telemetry {
    let access_log = own.and_then(|t| t.access_log.as_ref()).or_else(|| shared.and_then(|t| t.access_log.as_ref()));
    let tracing = own.and_then(|t| t.tracing.as_ref()).or_else(|| shared.and_then(|t| t.tracing.as_ref()));
    Telemetry {
        access_log: access_log.map(|log| AccessLog {
            format: match log.format {
                None | Some(LogFormatWord::Json) => LogFormat::Json,
                Some(LogFormatWord::Text) => LogFormat::Text,
            },
            path: PathBuf::from(log.path.as_deref().unwrap_or("/dev/stdout")),
            sample: log.sample.unwrap_or(1.0),
        }),
        tracing: tracing.map(|t| TracingExport { otlp: t.otlp.inner.clone(), sample: t.sample.unwrap_or(0.1) }),
    }
}
