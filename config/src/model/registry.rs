//! Registries outside Kubernetes that list endpoints.

use std::{path::PathBuf, sync::Arc};

/// Where an upstream's endpoints are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Which, and what of it.
    pub kind: RegistryKind,
    /// How connections to it are secured; `None`: plaintext.
    pub tls: Option<RegistryTls>,
}

/// A kind of registry. Servers are `HOST:PORT`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryKind {
    /// The health API of a Consul agent.
    Consul {
        /// Its HTTP API.
        address: Arc<str>,
        /// Name of the service.
        service: Arc<str>,
        /// Instances with this tag only.
        tag: Option<Arc<str>>,
        /// Another datacenter than the agent's.
        datacenter: Option<Arc<str>>,
        /// Without instances whose checks warn.
        passing: bool,
        /// File of the ACL token.
        token: Option<PathBuf>,
    },
    /// Keys of etcd.
    Etcd {
        /// Its members; never empty.
        endpoints: Vec<Arc<str>>,
        /// What comes before `/ID`; does not end in `/`.
        prefix: Arc<str>,
    },
    /// Children of a ZooKeeper node.
    ZooKeeper {
        /// Its servers; never empty.
        hosts: Vec<Arc<str>>,
        /// The node; starts with `/` and does not end in it, unless it is the root.
        path: Arc<str>,
    },
}

/// TLS towards a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryTls {
    /// SNI, and the name that the certificate must have; `None`: the host of the server.
    pub sni: Option<Arc<str>>,
    /// PEM file of the roots; `None`: the system's.
    pub ca: Option<PathBuf>,
}

impl Registry {
    /// In a line, for people: `consul service payments at 127.0.0.1:8500`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            RegistryKind::Consul { address, service, .. } => format!("consul service {service} at {address}"),
            RegistryKind::Etcd { endpoints, prefix } => format!("etcd {prefix} at {}", endpoints.join(", ")),
            RegistryKind::ZooKeeper { hosts, path } => format!("zookeeper {path} at {}", hosts.join(", ")),
        }
    }
}
