//! Settings of the process itself.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// Settings of the process that outlive any one request.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxySettings {
    /// `metadata.name` of the `Proxy` document.
    pub name: Arc<str>,
    /// Forwarding threads; `None`: the CPU quota, at most 2.
    pub workers: Option<u16>,
    /// Where the admin port listens.
    pub admin: SocketAddr,
    /// Where the identity comes from.
    pub identity: Option<IdentitySource>,
    /// Access log and traces.
    pub telemetry: Telemetry,
    /// Correlation, from the `MeshPolicy` in force.
    pub correlation: Correlation,
    /// How long a drain waits for work in flight. Default 30 s.
    pub drain_timeout: Duration,
}

/// Where a proxy has its X.509 identity from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// Files, which somebody else renews.
    Files(IdentityFiles),
    /// The SPIFFE Workload API of an agent on this machine, which pushes renewals.
    WorkloadApi(WorkloadApi),
    /// The control plane signs it; no document says so.
    ControlPlane,
}

/// An agent that speaks the SPIFFE Workload API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadApi {
    /// Its Unix socket. `None`: the one that `SPIFFE_ENDPOINT_SOCKET` names.
    pub socket: Option<PathBuf>,
    /// Which of several identities is meant: the `hint` that the agent gives with it. `None`: the first.
    pub hint: Option<Arc<str>>,
}

/// PEM files of an X.509 identity, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Leaf first, then intermediates.
    pub certificate: PathBuf,
    /// PKCS#8, SEC1 or PKCS#1.
    pub private_key: PathBuf,
    /// One or more roots.
    pub trust_bundle: PathBuf,
}

/// What the proxy tells the outside about the requests that it carries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// `None`: errors alone are logged, to the diagnostics.
    pub access_log: Option<AccessLog>,
    /// OTLP export of spans.
    pub tracing: Option<TracingExport>,
}

/// The access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// One JSON object, or one line of text, per request.
    pub format: LogFormat,
    /// A file, `/dev/stdout` or `/dev/stderr`.
    pub path: PathBuf,
    /// Share of the requests without an error that is logged, 0 to 1. Errors always are.
    pub sample: f64,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// `key=value` text for people.
    Text,
}

/// Export of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingExport {
    /// `http://HOST:PORT` of an OTLP collector.
    pub otlp: String,
    /// Share of the traces started here that is sampled, 0 to 1.
    pub sample: f64,
}

/// How calls that belong together are tied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// Lower-case names, the first one present is kept. Default `x-request-id`, `x-correlation-id`.
    pub headers: Vec<Arc<str>>,
    /// How an outbound call finds the inbound request behind it.
    pub attribute: Attribute,
}

impl Default for Correlation {
    fn default() -> Self {
        Self { headers: vec!["x-request-id".into(), "x-correlation-id".into()], attribute: Attribute::Header }
    }
}

/// How an outbound call is attributed to an inbound request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// Only by an identifier that it carries.
    Header,
    /// Also when exactly one inbound request is in flight.
    Infer,
}
