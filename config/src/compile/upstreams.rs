//! `Upstream` documents: where endpoints come from, and how connections to them are secured.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use crate::{
    compile::Context,
    documents::{
        DnsSpec, Document, EndpointSpec, Kind, ProxySpec, Spanned, TlsModeWord, UpstreamProtocolWord, UpstreamSpec,
    },
    load::Loaded,
    model::{Endpoint, EndpointSource, RouteTable, TrafficPolicy, Upstream, UpstreamProtocol, UpstreamTls},
};

impl Context<'_> {
    /// One for each `Upstream` document, in order, then those of Services: their indices are the `UpstreamId`s.
    pub(super) fn compile_upstreams(&mut self) -> Vec<Upstream> {
        let documents: Vec<&Loaded> = self.of_kind(Kind::Upstream).collect();
        let mut upstreams = documents.into_iter().filter_map(|d| self.upstream_document(d)).collect();
        self.compile_services(&mut upstreams);
        upstreams
    }

    fn upstream_document(&mut self, at: &Loaded) -> Option<Upstream> {
        let Document::Upstream(resource) = &at.document else { return None };
        let spec = &resource.spec;
        let source = self.source(at, spec);
        let tls = self.tls(at, spec, &source);
        Some(Upstream {
            name: self.label(at),
            protocol: match spec.protocol {
                None => UpstreamProtocol::Auto,
                Some(UpstreamProtocolWord::Http) => UpstreamProtocol::Http,
                Some(UpstreamProtocolWord::Http2) => UpstreamProtocol::Http2,
                Some(UpstreamProtocolWord::Grpc) => UpstreamProtocol::Grpc,
                Some(UpstreamProtocolWord::Tcp) => UpstreamProtocol::Tcp,
            },
            hostnames: spec.hostnames.iter().map(|h| Arc::from(h.as_str())).collect(),
            source,
            tls,
            policy: Arc::new(TrafficPolicy::default()),
            access: Vec::new(),
            routes: RouteTable::default(),
            origin: at.origin(at.mark),
        })
    }

    fn source(&mut self, at: &Loaded, spec: &Spanned<UpstreamSpec>) -> EndpointSource {
        match (&spec.endpoints, &spec.dns, &spec.discovery) {
            (_, Some(_), Some(discovery)) | (Some(_), None, Some(discovery)) => {
                let other = if spec.endpoints.is_some() { "endpoints" } else { "dns" };
                let message = format!("both `{other}` and `discovery`: one of them says where an Upstream is");
                self.fault(at, discovery.mark, message);
                self.discovery(at, discovery)
            }
            (None, None, Some(discovery)) => self.discovery(at, discovery),
            (Some(endpoints), dns, None) => {
                if let Some(dns) = dns {
                    self.fault(at, dns.mark, "both `endpoints` and `dns`: one of them says where an Upstream is");
                }
                self.endpoints(at, endpoints)
            }
            (None, Some(dns), None) => self.dns(at, dns),
            (None, None, None) => {
                self.missing(
                    at,
                    spec.mark,
                    &["endpoints", "dns", "discovery"],
                    format!("Upstream `{}` needs `endpoints`, `dns` or `discovery`", at.name()),
                );
                EndpointSource::Static(Vec::new())
            }
        }
    }

    fn endpoints(&mut self, at: &Loaded, list: &Spanned<Vec<Spanned<EndpointSpec>>>) -> EndpointSource {
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for spec in list.iter() {
            let address = spec.address.inner.0;
            if address.port() == 0 {
                self.fault(at, spec.address.mark, format!("`{address}` has no port that one could connect to"));
            }
            if address.ip().is_unspecified() {
                self.fault(
                    at,
                    spec.address.mark,
                    format!("`{address}` is where one listens, not where one connects to"),
                );
            }
            if !spec.address.is_stand_in() && !seen.insert(address) {
                self.fault(at, spec.address.mark, format!("`{address}` stands twice; use `weight` for a larger share"));
                continue;
            }
            let zone = spec.zone.as_deref().map(Arc::from);
            endpoints.push(Endpoint { address, weight: spec.weight.unwrap_or(1), zone, identity: None });
        }
        if endpoints.is_empty() {
            self.fault(at, list.mark, "an Upstream needs at least one endpoint");
        } else if endpoints.iter().all(|e| e.weight == 0) {
            self.warn(at, list.mark, "every endpoint has weight 0: none gets a request");
        }
        EndpointSource::Static(endpoints)
    }

    fn dns(&mut self, at: &Loaded, dns: &Spanned<DnsSpec>) -> EndpointSource {
        match (&dns.name, &dns.port, &dns.srv) {
            (Some(name), Some(port), None) => EndpointSource::Dns { name: name.as_str().into(), port: port.inner },
            (None, port, Some(srv)) => {
                if let Some(port) = port {
                    self.fault(at, port.mark, "an SRV record has its own port");
                }
                EndpointSource::Srv { name: srv.as_str().into() }
            }
            (Some(_), _, Some(srv)) => {
                self.fault(at, srv.mark, "both `name` and `srv`: one of them says what to ask for");
                EndpointSource::Srv { name: srv.as_str().into() }
            }
            (Some(name), None, None) => {
                self.missing(at, dns.mark, &["port", "srv"], "missing field `port`: A and AAAA records have none");
                EndpointSource::Dns { name: name.as_str().into(), port: 0 }
            }
            (None, _, None) => {
                self.missing(at, dns.mark, &["name", "srv"], "`dns` needs `name` and `port`, or `srv`");
                EndpointSource::Static(Vec::new())
            }
        }
    }

    fn tls(&mut self, at: &Loaded, spec: &Spanned<UpstreamSpec>, source: &EndpointSource) -> UpstreamTls {
        let Some(tls) = &spec.tls else { return UpstreamTls::None };
        if tls.mode.is_stand_in() {
            // Which fields belong here is not known.
            return UpstreamTls::None;
        }
        let mode = tls.mode.inner;
        let foreign = [
            (tls.identity.as_ref(), "identity", "mesh"),
            (tls.sni.as_ref(), "sni", "simple"),
            (tls.ca.as_ref(), "ca", "simple"),
        ];
        for (field, name, its) in foreign {
            let word = match mode {
                TlsModeWord::Mesh => "mesh",
                TlsModeWord::Simple => "simple",
                TlsModeWord::None => "none",
            };
            if let Some(field) = field.filter(|_| its != word) {
                self.fault(at, field.mark, format!("`{name}` belongs to mode `{its}`, and this is mode `{word}`"));
            }
        }
        match mode {
            TlsModeWord::None => UpstreamTls::None,
            TlsModeWord::Mesh => match &tls.identity {
                Some(identity) => UpstreamTls::Mesh { identity: identity.as_str().into() },
                None => {
                    self.missing(
                        at,
                        tls.mark,
                        &["identity"],
                        "mode `mesh` needs `identity`, the SPIFFE ID that the server must prove",
                    );
                    UpstreamTls::None
                }
            },
            TlsModeWord::Simple => {
                let name = match (&tls.sni, source) {
                    (Some(sni), _) => Some(sni.as_str()),
                    (None, EndpointSource::Dns { name, .. }) => Some(name.trim_end_matches('.')),
                    (None, _) => None,
                };
                let Some(name) = name else {
                    // The name may be that of a `dns` which is faulty itself.
                    let dns = match &spec.dns {
                        Some(dns) => dns.srv.is_none() || dns.is_stand_in(),
                        None => at.may_have(spec.mark, &["dns"]),
                    };
                    if dns {
                        return UpstreamTls::None;
                    }
                    self.missing(
                        at,
                        tls.mark,
                        &["sni"],
                        "mode `simple` needs `sni`, the name that the certificate must have",
                    );
                    return UpstreamTls::None;
                };
                UpstreamTls::Simple { sni: name.into(), ca: tls.ca.as_ref().map(|f| PathBuf::from(f.as_str())) }
            }
        }
    }

    /// Mutual TLS towards upstreams needs an identity of our own.
    pub(super) fn check_identity(&mut self, proxy: &Loaded, spec: &Spanned<ProxySpec>) {
        if spec.identity.is_some() || spec.is_stand_in() || proxy.may_have(spec.mark, &["identity"]) {
            return;
        }
        let documents: Vec<&Loaded> = self.of_kind(Kind::Upstream).collect();
        for at in documents {
            let Document::Upstream(resource) = &at.document else { continue };
            let mode = resource.spec.tls.as_ref().map(|t| &t.mode);
            if let Some(mode) = mode.filter(|m| m.inner == TlsModeWord::Mesh) {
                self.fault(at, mode.mark, "mode `mesh` needs an `identity` in the Proxy document");
            }
        }
    }
}
