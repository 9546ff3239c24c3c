//! `Upstream`: a named destination that is no Kubernetes Service.

use crate::documents::{Address, DiscoverySpec, Spanned, document, words};

document! {
    /// A named destination that is no Kubernetes Service. One of `endpoints`, `dns` and `discovery` says where it is.
    struct UpstreamSpec {
        /// Hosts, besides its name, under which listeners find it; `*.` at the start for all names below, a port at the end
        /// to answer for that port only.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "host-and-port" }), length(max = 1024))]
        hostnames: Vec<Spanned<String>>,
        /// What its endpoints speak. Default: HTTP/1.1, and HTTP/2 where TLS negotiates it or for gRPC.
        protocol: Option<UpstreamProtocolWord>,
        /// Its addresses.
        #[schemars(length(max = 10_000))]
        endpoints: Option<Spanned<Vec<Spanned<EndpointSpec>>>>,
        /// A DNS name that resolves to its addresses; the TTL is respected.
        dns: Option<Spanned<DnsSpec>>,
        /// A registry that lists its addresses: Consul, etcd or ZooKeeper.
        discovery: Option<Spanned<DiscoverySpec>>,
        /// How connections to it are secured. Absent: plaintext.
        tls: Option<Spanned<UpstreamTlsSpec>>,
    }

    /// One address.
    struct EndpointSpec {
        /// IP address and port.
        address: Spanned<Address>,
        /// Share relative to the others. Default 1; 0 takes no traffic.
        #[schemars(range(min = 0, max = 65_535))]
        weight: Option<u32>,
        /// Topology zone.
        zone: Option<String>,
    }

    /// A DNS name: `name` with `port`, or `srv`.
    struct DnsSpec {
        /// Name of A and AAAA records.
        #[schemars(extend("format" = "dns-name"))]
        name: Option<Spanned<String>>,
        /// Port of every address of `name`.
        #[schemars(range(min = 1, max = 65535))]
        port: Option<Spanned<u16>>,
        /// Name of SRV records, such as `_http._tcp.payments.internal`.
        #[schemars(extend("format" = "dns-name"))]
        srv: Option<Spanned<String>>,
    }

    /// Security of connections.
    struct UpstreamTlsSpec {
        /// Which kind.
        mode: Spanned<TlsModeWord>,
        /// For `mesh`: the identity that the server must prove.
        #[schemars(extend("format" = "spiffe-id"))]
        identity: Option<Spanned<String>>,
        /// For `simple`: server name, which the certificate must have. Default: the DNS name.
        #[schemars(extend("format" = "precise-hostname"))]
        sni: Option<Spanned<String>>,
        /// For `simple`: PEM file of the roots. Default: the system's.
        #[schemars(length(min = 1))]
        ca: Option<Spanned<String>>,
    }
}

words! {
    /// What endpoints speak.
    enum UpstreamProtocolWord {
        /// HTTP/1.1.
        Http = "http",
        /// HTTP/2.
        Http2 = "http2",
        /// gRPC, which is HTTP/2.
        Grpc = "grpc",
        /// Bytes.
        Tcp = "tcp",
    }

    /// Security of connections to an upstream.
    enum TlsModeWord {
        /// Mutual TLS with SPIFFE identities.
        Mesh = "mesh",
        /// TLS as a browser does it.
        Simple = "simple",
        /// Plaintext.
        None = "none",
    }
}
