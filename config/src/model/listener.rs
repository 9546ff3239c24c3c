//! Listeners: where connections come in, and what one peer may make us hold.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::UpstreamId;
use crate::Origin;

/// One address on which the proxy accepts connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique in its model.
    pub name: Arc<str>,
    /// Where it listens. Port 0 takes any free one.
    pub address: SocketAddr,
    /// Which side of the service it serves.
    pub direction: Direction,
    /// What clients speak on it.
    pub protocol: ListenerProtocol,
    /// Whether peers must, may or cannot use mutual TLS.
    pub mtls: MtlsMode,
    /// Where a request goes.
    pub target: ListenerTarget,
    /// Connections are redirected here by the system, and know where they were going.
    pub original_destination: bool,
    /// Bounds on what one peer can make us hold.
    pub limits: ListenerLimits,
    /// Where it was written.
    pub origin: Origin,
}

/// Which way a request travels, seen from the service beside the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From others to the local service.
    Inbound,
    /// From the local service to others.
    Outbound,
}

impl Direction {
    /// The label value of metrics and log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What a listener expects its clients to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// Find out, without holding up a protocol whose server speaks first.
    Detect,
    /// HTTP/1 or HTTP/2; anything else is answered 400.
    Http,
    /// Bytes.
    Tcp,
}

/// What a listener demands of its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MtlsMode {
    /// Only peers with a valid identity.
    Strict,
    /// Mutual TLS from those who offer it, plaintext from the others.
    Permissive,
    /// Plaintext; TLS is the app's own business and passes through.
    Disabled,
}

/// How a listener finds the upstream of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerTarget {
    /// Everything goes to one.
    Forward(UpstreamId),
    /// By `Host` or `:authority`, looked up in the table.
    ByHost(HostTable),
}

/// Host names to upstreams.
///
/// Keys are lower-case and without a trailing dot. A key with a port (`name:8080`) beats the bare one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostTable {
    /// Sorted by name.
    pub exact: Vec<(Box<str>, UpstreamId)>,
    /// Suffixes of `*.suffix`, without the star (`.suffix`), longest first.
    pub wildcard: Vec<(Box<str>, UpstreamId)>,
}

/// Bounds of one listener. All are settable; the defaults are those of [`Default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Bytes of a request or response head (HTTP/2: the decoded header list). 60 KiB.
    pub max_header_bytes: u32,
    /// Header fields of a head, trailers and cookie crumbs included. 100.
    pub max_header_count: u16,
    /// Concurrent HTTP/2 streams of one connection. 100.
    pub max_streams: u32,
    /// Streams that a peer may reset in 10 s before its connection ends (CVE-2023-44487). 200.
    pub max_resets: u32,
    /// Time from the first byte of a head, or from accept, to its end. 10 s.
    pub header_read_timeout: Option<Duration>,
    /// Time that a kept-alive connection may stay without a request. 5 min.
    pub idle_timeout: Option<Duration>,
    /// Connections accepted at once, all workers together. 10,000.
    pub max_connections: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_header_bytes: 60 * 1024,
            max_header_count: 100,
            max_streams: 100,
            max_resets: 200,
            header_read_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(300)),
            max_connections: 10_000,
        }
    }
}
