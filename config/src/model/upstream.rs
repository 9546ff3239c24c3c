//! Upstreams: named destinations and where their endpoints come from.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::{AccessPolicy, Registry, RouteTable, TrafficPolicy};
use crate::Origin;

/// A named destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Unique in its model; the label value of metrics.
    pub name: Arc<str>,
    /// What its endpoints speak.
    pub protocol: UpstreamProtocol,
    /// Host names under which listeners find it (lower case; may start with `*.`).
    pub hostnames: Vec<Arc<str>>,
    /// Where its endpoints come from.
    pub source: EndpointSource,
    /// How connections to it are secured.
    pub tls: UpstreamTls,
    /// The policy of its own requests and connections.
    pub policy: Arc<TrafficPolicy>,
    /// Who may call it, where it stands behind an inbound listener.
    pub access: Vec<Arc<AccessPolicy>>,
    /// Routes attached to it. Empty: requests go to its endpoints.
    pub routes: RouteTable,
    /// Where it was written.
    pub origin: Origin,
}

/// The protocol of an upstream's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// Not said: HTTP/1.1 for HTTP/1 clients, HTTP/2 prior knowledge for gRPC and HTTP/2 only where TLS negotiates it.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 (prior knowledge, or ALPN under TLS).
    Http2,
    /// HTTP/2 with gRPC on it.
    Grpc,
    /// Bytes.
    Tcp,
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointSource {
    /// Written down.
    Static(Vec<Endpoint>),
    /// A and AAAA records of a name, all at one port.
    Dns {
        /// Absolute or searched as resolv.conf says.
        name: Arc<str>,
        /// Port of every address.
        port: u16,
    },
    /// SRV records: priority, weight, port and target.
    Srv {
        /// `_service._proto.name`.
        name: Arc<str>,
    },
    /// A registry outside Kubernetes.
    Registry(Arc<Registry>),
    /// Those of a Service port, which the control plane sends apart from documents.
    Discovered,
    /// The pod itself: the address that the connection was made for. Name: `inbound/...`.
    Local {
        /// Of the pod; 0: every port that has no upstream of its own.
        port: u16,
    },
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IP and port.
    pub address: SocketAddr,
    /// Share relative to the others; 0 takes no traffic.
    pub weight: u32,
    /// Topology zone.
    pub zone: Option<Arc<str>>,
    /// SPIFFE ID that the server must prove, where that is known of each endpoint; `None`: what the upstream's `tls` says.
    pub identity: Option<Arc<str>>,
}

/// Security of connections to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamTls {
    /// Plaintext.
    None,
    /// TLS as a browser does it.
    Simple {
        /// SNI, and the name that the certificate must have.
        sni: Arc<str>,
        /// PEM file of the roots; `None`: the system's.
        ca: Option<PathBuf>,
    },
    /// Mutual TLS between proxies, with SPIFFE identities.
    Mesh {
        /// The identity that the server must prove.
        identity: Arc<str>,
    },
}
