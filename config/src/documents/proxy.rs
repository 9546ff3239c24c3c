//! `Proxy`: one proxy's own settings. Only in files; in a cluster the control plane says all of it.

use crate::documents::{Address, Duration, ObjectRef, Spanned, document, words};

document! {
    /// One proxy: listeners, admin address, workers, identity files, telemetry.
    struct ProxySpec {
        /// Threads that forward. Default: the CPU quota, at most 2.
        #[schemars(range(min = 1, max = 1024))]
        workers: Option<u16>,
        /// The admin port.
        admin: Option<Spanned<AdminSpec>>,
        /// A standalone mTLS identity: three files, or `workloadApi`.
        identity: Option<Spanned<IdentitySpec>>,
        /// Where the proxy listens.
        #[schemars(length(min = 1, max = 256))]
        listeners: Vec<Spanned<ListenerSpec>>,
        /// Access log and traces.
        telemetry: Option<TelemetrySpec>,
        /// Bounds of every listener that does not set its own.
        limits: Option<ListenerLimitsSpec>,
        /// How long a drain waits for work in flight. Default `30s`.
        drain_timeout: Option<Duration>,
    }

    /// The admin port.
    struct AdminSpec {
        /// Where it listens; keep it away from strangers. Default `127.0.0.1:9990`.
        address: Option<Spanned<Address>>,
    }

    /// An X.509 identity: the PEM files `certificate`, `privateKey` and `trustBundle`, which are read again when they
    /// change, or the agent behind `workloadApi`.
    struct IdentitySpec {
        /// Leaf first, then intermediates.
        #[schemars(length(min = 1))]
        certificate: Option<Spanned<String>>,
        /// PKCS#8, SEC1 or PKCS#1.
        #[schemars(length(min = 1))]
        private_key: Option<Spanned<String>>,
        /// One or more roots.
        #[schemars(length(min = 1))]
        trust_bundle: Option<Spanned<String>>,
        /// Socket of a SPIFFE Workload API, such as `unix:///run/spire/sockets/agent.sock`; `SPIFFE_ENDPOINT_SOCKET`: what
        /// this environment variable says.
        #[schemars(length(min = 1))]
        workload_api: Option<Spanned<String>>,
        /// For `workloadApi`: the `hint` of the identity that is meant. Default: the first one.
        #[schemars(length(min = 1))]
        hint: Option<Spanned<String>>,
    }

    /// One address on which the proxy accepts connections.
    struct ListenerSpec {
        /// Unique in the proxy.
        #[schemars(extend("format" = "object-name"))]
        name: Spanned<String>,
        /// IP address and port; port 0 takes any free one.
        address: Spanned<Address>,
        /// Which way requests travel, seen from the local service.
        direction: Spanned<DirectionWord>,
        /// What clients speak. Default `detect`.
        protocol: Option<Spanned<ProtocolWord>>,
        /// Whether peers must, may or cannot use mutual TLS. Default: what the MeshPolicy says; without one `permissive`
        /// if the proxy has an identity, and `disabled` if not. For inbound listeners.
        mtls: Option<Spanned<MtlsWord>>,
        /// Where everything goes. Absent: the Upstream is chosen by `Host` or `:authority`.
        forward_to: Option<Spanned<ObjectRef>>,
        /// Whether connections arrive here because a rule of the system redirects them, as in a pod: where the client
        /// wanted to go then counts. Default false.
        original_destination: Option<Spanned<bool>>,
        /// Bounds on what one peer can make the proxy hold.
        limits: Option<ListenerLimitsSpec>,
    }

    /// Bounds of a listener.
    struct ListenerLimitsSpec {
        /// Bytes of a message head. Default 61440.
        #[schemars(range(min = 1024, max = 16_777_216))]
        max_header_bytes: Option<u32>,
        /// Fields of a head, trailers and cookie crumbs included. Default 100.
        #[schemars(range(min = 1, max = 10_000))]
        max_header_count: Option<u16>,
        /// Concurrent HTTP/2 streams of a connection. Default 100.
        #[schemars(range(min = 1, max = 2_147_483_647u32))]
        max_streams: Option<u32>,
        /// HTTP/2 streams that a peer may reset in 10 s before its connection ends. Default 200.
        #[schemars(range(min = 1, max = 1_000_000))]
        max_resets: Option<u32>,
        /// Time for a whole head. Default `10s`.
        header_read_timeout: Option<Duration>,
        /// Time that a kept-alive connection may stay without a request. Default `5m`.
        idle_timeout: Option<Duration>,
        /// Connections at once. Default 10000.
        #[schemars(range(min = 1, max = 10_000_000))]
        max_connections: Option<u32>,
    }

    /// What the proxy tells about the requests that it carries.
    struct TelemetrySpec {
        /// The access log. Absent: errors alone are logged, to the diagnostics.
        access_log: Option<AccessLogSpec>,
        /// Export of spans by OTLP.
        tracing: Option<TracingSpec>,
    }

    /// The access log.
    struct AccessLogSpec {
        /// Form of the lines. Default `json`.
        format: Option<LogFormatWord>,
        /// A file, opened again by each reload. Default `/dev/stdout`.
        #[schemars(length(min = 1))]
        path: Option<String>,
        /// Share of the requests without an error that is logged; errors always are. Default 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        sample: Option<f64>,
    }

    /// Export of spans.
    struct TracingSpec {
        /// URL of an OTLP collector.
        #[schemars(extend("format" = "http-url"))]
        otlp: Spanned<String>,
        /// Share of the traces started here that is sampled. Default 0.1.
        #[schemars(range(min = 0.0, max = 1.0))]
        sample: Option<f64>,
    }
}

words! {
    /// Which way requests travel, seen from the local service.
    enum DirectionWord {
        /// In front of the local service.
        Inbound = "inbound",
        /// From the local service to others.
        Outbound = "outbound",
    }

    /// What clients of a listener speak.
    enum ProtocolWord {
        /// Found out from the first bytes, without holding up a server that speaks first.
        Detect = "detect",
        /// HTTP/1 or HTTP/2.
        Http = "http",
        /// Bytes.
        Tcp = "tcp",
    }

    /// Mutual TLS of a listener.
    enum MtlsWord {
        /// Only peers with a valid identity.
        Strict = "strict",
        /// Mutual TLS from those who offer it, plaintext from the others.
        Permissive = "permissive",
        /// Plaintext.
        Disabled = "disabled",
    }

    /// Format of log lines.
    enum LogFormatWord {
        /// One JSON object per line.
        Json = "json",
        /// Text for people.
        Text = "text",
    }
}
