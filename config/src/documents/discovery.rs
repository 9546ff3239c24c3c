//! `Upstream.discovery`: endpoints that a registry outside Kubernetes lists.
//!
//! The layouts that etcd and ZooKeeper have no own rules for are ours: one key or ephemeral node for each endpoint, JSON in it,
//! `{"address": "10.0.0.7:8080", "weight": 2, "zone": "a"}`; `address` may be an IP address beside a `port`.

use crate::documents::{Spanned, UpstreamTlsSpec, document};

document! {
    /// A registry that lists the endpoints. One of `consul`, `etcd` and `zookeeper`.
    struct DiscoverySpec {
        /// A Consul agent.
        consul: Option<Spanned<ConsulSpec>>,
        /// An etcd cluster (v3). The key of each endpoint is PREFIX/ID; its value is JSON: `address`, `weight`, `zone`.
        etcd: Option<Spanned<EtcdSpec>>,
        /// A ZooKeeper ensemble. Each child of `path` is an endpoint; its data is JSON: `address`, `weight`, `zone`.
        zookeeper: Option<Spanned<ZooKeeperSpec>>,
        /// How connections to the registry are secured: mode `simple` or `none`. Absent: plaintext.
        tls: Option<Spanned<UpstreamTlsSpec>>,
    }

    /// Instances of a Consul service.
    struct ConsulSpec {
        /// Host and port of the agent's HTTP API.
        #[schemars(extend("format" = "server"))]
        address: Spanned<String>,
        /// Name of the service.
        #[schemars(length(min = 1, max = 256))]
        service: Spanned<String>,
        /// Instances with this tag only.
        #[schemars(length(min = 1, max = 256))]
        tag: Option<String>,
        /// Another datacenter than the agent's.
        #[schemars(length(min = 1, max = 256))]
        datacenter: Option<String>,
        /// Instances whose checks pass only (the default); `false`: those with warnings too.
        passing: Option<bool>,
        /// File of the ACL token, read for each request.
        #[schemars(length(min = 1))]
        token_file: Option<Spanned<String>>,
    }

    /// Keys of an etcd cluster.
    struct EtcdSpec {
        /// Hosts and ports of its members.
        #[schemars(extend("items" = { "type": "string", "format": "server" }), length(min = 1, max = 16))]
        endpoints: Spanned<Vec<Spanned<String>>>,
        /// What comes before `/ID` in the keys.
        #[schemars(length(min = 1, max = 1024))]
        prefix: Spanned<String>,
    }

    /// Nodes of a ZooKeeper ensemble.
    struct ZooKeeperSpec {
        /// Hosts and client ports of its servers.
        #[schemars(extend("items" = { "type": "string", "format": "server" }), length(min = 1, max = 16))]
        hosts: Spanned<Vec<Spanned<String>>>,
        /// The node whose children are the endpoints.
        #[schemars(length(min = 1, max = 1024))]
        path: Spanned<String>,
    }
}
