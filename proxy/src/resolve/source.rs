//! What endpoints come from: name servers, and registries outside Kubernetes.

use std::{future::Future, sync::Arc};

use outrigger_config::model::{EndpointSource, Registry, RegistryKind};

use super::{Inner, consul::Consul, etcd::Etcd, policy::Answer, zookeeper::ZooKeeper};

/// Says again and again where an upstream is.
///
/// A name server is asked when its last answer has expired. A registry is asked to wait, and its next answer comes when
/// something changes. Either may fail; who asks decides when to ask again.
pub(super) trait Source {
    /// The next answer. With `fresh`, what is there now, even if it is what was said last: after a failure and to confirm that
    /// there is nothing.
    fn next(&mut self, fresh: bool) -> impl Future<Output = Answer> + Send;
}

/// Name servers.
pub(super) struct Names {
    inner: Arc<Inner>,
    source: EndpointSource,
}

impl Names {
    pub(super) fn new(inner: Arc<Inner>, source: EndpointSource) -> Self {
        Self { inner, source }
    }
}

impl Source for Names {
    async fn next(&mut self, _fresh: bool) -> Answer {
        self.inner.ask(&self.source).await
    }
}

/// Any registry.
pub(super) enum AnyRegistry {
    Consul(Consul),
    Etcd(Etcd),
    ZooKeeper(ZooKeeper),
}

impl AnyRegistry {
    pub(super) fn new(registry: &Registry) -> Self {
        let tls = registry.tls.clone();
        match &registry.kind {
            consul @ RegistryKind::Consul { .. } => Self::Consul(Consul::new(consul.clone(), tls)),
            RegistryKind::Etcd { endpoints, prefix } => Self::Etcd(Etcd::new(endpoints.clone(), prefix, tls)),
            RegistryKind::ZooKeeper { hosts, path } => {
                Self::ZooKeeper(ZooKeeper::new(hosts.clone(), Arc::clone(path), tls))
            }
        }
    }
}

impl Source for AnyRegistry {
    async fn next(&mut self, fresh: bool) -> Answer {
        match self {
            Self::Consul(consul) => consul.next(fresh).await,
            Self::Etcd(etcd) => etcd.next(fresh).await,
            Self::ZooKeeper(zookeeper) => zookeeper.next(fresh).await,
        }
    }
}
