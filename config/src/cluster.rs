//! What the compiler must know of a cluster beside its objects: from where it is seen, and by which names.

use std::sync::Arc;

/// A cluster, as the proxy of one pod sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Namespace of the pod: its routes to Services of others are its own, and short names are of it.
    pub namespace: Arc<str>,
    /// Ending of the names of Services: `cluster.local`.
    pub domain: Arc<str>,
    /// Where a MeshPolicy without targets holds for the whole mesh: the control plane's namespace, whose authors are trusted to
    /// speak for everyone. Elsewhere one without targets holds for its own namespace.
    pub mesh_namespace: Arc<str>,
    /// What the pod itself serves. Empty where only what it calls is looked at.
    pub local: Vec<LocalPort>,
}

/// A port of the pod itself, as a `WorkloadPort` of the discovery protocol says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPort {
    /// Of the pod. 0 stands for every port that is not listed, and has no services.
    pub port: u16,
    /// Namespace, name and port of each Service port that targets it, oldest first.
    pub services: Vec<(Arc<str>, Arc<str>, u16)>,
    /// `http`, `http2`, `grpc`, `tcp`, or empty: detect.
    pub protocol: Arc<str>,
}

impl Default for Cluster {
    /// A pod of the namespace `default`, and the names that most clusters have.
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            domain: "cluster.local".into(),
            mesh_namespace: "outrigger-system".into(),
            local: Vec::new(),
        }
    }
}
