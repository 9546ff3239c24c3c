//! `Upstream.discovery`: which registry, and how it is reached.

use std::{path::PathBuf, sync::Arc};

use crate::{
    compile::Context,
    documents::{ConsulSpec, DiscoverySpec, EtcdSpec, Spanned, TlsModeWord, UpstreamTlsSpec, ZooKeeperSpec},
    load::Loaded,
    model::{EndpointSource, Registry, RegistryKind, RegistryTls},
};

const KINDS: &[&str] = &["consul", "etcd", "zookeeper"];

impl Context<'_> {
    pub(super) fn discovery(&mut self, at: &Loaded, spec: &Spanned<DiscoverySpec>) -> EndpointSource {
        let nowhere = EndpointSource::Static(Vec::new());
        if spec.is_stand_in() {
            return nowhere;
        }
        let mut marks = [
            spec.consul.as_ref().map(|s| s.mark),
            spec.etcd.as_ref().map(|s| s.mark),
            spec.zookeeper.as_ref().map(|s| s.mark),
        ]
        .into_iter()
        .flatten();
        marks.next();
        if let Some(second) = marks.next() {
            self.fault(at, second, "one of `consul`, `etcd` and `zookeeper` lists the endpoints of an Upstream");
        }
        let kind = match (&spec.consul, &spec.etcd, &spec.zookeeper) {
            (Some(consul), ..) => consul_kind(consul),
            (None, Some(etcd), _) => self.etcd_kind(at, etcd),
            (None, None, Some(zookeeper)) => self.zookeeper_kind(at, zookeeper),
            (None, None, None) => {
                self.missing(at, spec.mark, KINDS, "`discovery` needs `consul`, `etcd` or `zookeeper`");
                return nowhere;
            }
        };
        let tls = spec.tls.as_ref().and_then(|tls| self.registry_tls(at, tls));
        EndpointSource::Registry(Arc::new(Registry { kind, tls }))
    }

    fn etcd_kind(&mut self, at: &Loaded, spec: &EtcdSpec) -> RegistryKind {
        let prefix = spec.prefix.trim_end_matches('/');
        if prefix.is_empty() && !spec.prefix.is_stand_in() {
            self.fault(at, spec.prefix.mark, "a prefix of slashes alone is that of every key; name the service in it");
        }
        RegistryKind::Etcd { endpoints: servers(&spec.endpoints), prefix: prefix.into() }
    }

    fn zookeeper_kind(&mut self, at: &Loaded, spec: &ZooKeeperSpec) -> RegistryKind {
        let path = spec.path.as_str();
        let names = path.strip_prefix('/').unwrap_or(path);
        let wrong = path != "/" && names.split('/').any(|name| matches!(name, "" | "." | ".."));
        if !spec.path.is_stand_in() && (wrong || !path.starts_with('/') || path.chars().any(char::is_control)) {
            self.fault(
                at,
                spec.path.mark,
                "a ZooKeeper path starts with `/`, does not end in it, and has no empty, `.` or `..` part",
            );
        }
        RegistryKind::ZooKeeper { hosts: servers(&spec.hosts), path: path.into() }
    }

    fn registry_tls(&mut self, at: &Loaded, spec: &Spanned<UpstreamTlsSpec>) -> Option<RegistryTls> {
        if spec.is_stand_in() || spec.mode.is_stand_in() {
            return None;
        }
        if let Some(identity) = &spec.identity {
            self.fault(at, identity.mark, "`identity` belongs to mode `mesh`, which no registry speaks");
        }
        match spec.mode.inner {
            TlsModeWord::Simple => Some(RegistryTls {
                sni: spec.sni.as_ref().map(|name| name.as_str().into()),
                ca: spec.ca.as_ref().map(|file| PathBuf::from(file.as_str())),
            }),
            TlsModeWord::Mesh => {
                self.fault(at, spec.mode.mark, "a registry has no proxy in front: `simple` or `none` belongs here");
                None
            }
            TlsModeWord::None => {
                let foreign = [(&spec.sni, "sni"), (&spec.ca, "ca")];
                for (field, name) in foreign {
                    if let Some(field) = field {
                        self.fault(
                            at,
                            field.mark,
                            format!("`{name}` belongs to mode `simple`, and this is mode `none`"),
                        );
                    }
                }
                None
            }
        }
    }
}

fn consul_kind(spec: &ConsulSpec) -> RegistryKind {
    RegistryKind::Consul {
        address: spec.address.as_str().into(),
        service: spec.service.as_str().into(),
        tag: spec.tag.as_deref().map(Arc::from),
        datacenter: spec.datacenter.as_deref().map(Arc::from),
        passing: spec.passing.unwrap_or(true),
        token: spec.token_file.as_ref().map(|file| PathBuf::from(file.as_str())),
    }
}

fn servers(list: &[Spanned<String>]) -> Vec<Arc<str>> {
    list.iter().map(|server| Arc::from(server.as_str())).collect()
}
