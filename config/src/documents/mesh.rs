//! `MeshPolicy`: defaults for a namespace or the whole mesh.

use crate::documents::{MtlsWord, Spanned, TargetRef, TelemetrySpec, TimeoutsSpec, document, words};

document! {
    /// Defaults for a namespace or the whole mesh.
    struct MeshPolicySpec {
        /// Namespaces. None: the whole mesh, or this proxy.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        target_refs: Vec<Spanned<TargetRef>>,
        /// Mutual TLS of inbound listeners that do not say.
        mtls: Option<Spanned<MtlsWord>>,
        /// How calls that belong together are tied together.
        correlation: Option<CorrelationSpec>,
        /// Times under every TrafficPolicy, field by field.
        timeouts: Option<Spanned<TimeoutsSpec>>,
        /// Access log and traces of proxies that do not say.
        telemetry: Option<TelemetrySpec>,
    }

    /// Correlation.
    struct CorrelationSpec {
        /// Headers that carry the identifier; the first one present is kept. Default `x-request-id`, `x-correlation-id`.
        #[schemars(length(min = 1, max = 8), extend("items" = { "type": "string", "format": "header-name" }))]
        headers: Option<Vec<Spanned<String>>>,
        /// How an outbound call finds the inbound request behind it. Default `header`.
        attribute: Option<AttributeWord>,
    }
}

words! {
    /// How an outbound call is tied to an inbound request.
    enum AttributeWord {
        /// By the identifier that it carries.
        Header = "header",
        /// Also when exactly one inbound request is in flight.
        Infer = "infer",
    }
}
