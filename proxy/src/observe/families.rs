//! The names of the metrics: one table, as section 5 of the contract has them.
//!
//! Only families whose cells workers write are here; what the control thread knows anyway (endpoints,
//! versions, the process) is added when somebody scrapes.

/// A family of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Family {
    Requests,
    Duration,
    Attempts,
    Retries,
    Rejected,
    /// Answers that a fallback gave.
    Degraded,
    ReusedClosed,
    Opened,
    Closed,
    Bytes,
    Correlation,
    Attributed,
    Detected,
    HandshakesFailed,
    PermissivePlaintext,
    Observed,
    LogDropped,
    ConfigReloads,
    CircuitTransitions,
    /// What happened between this proxy and its control plane.
    Discovery,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Histogram,
    /// Counted, but shown only as a part of another family.
    Hidden,
}

/// What is said about a family.
pub(crate) struct Row {
    /// With the prefix; counters end in `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    /// How many of the first labels keep their value when a series is folded.
    pub(crate) keep: usize,
}

impl Family {
    pub(crate) const ALL: [Self; 20] = [
        Self::Requests,
        Self::Duration,
        Self::Attempts,
        Self::Retries,
        Self::Rejected,
        Self::Degraded,
        Self::ReusedClosed,
        Self::Opened,
        Self::Closed,
        Self::Bytes,
        Self::Correlation,
        Self::Attributed,
        Self::Detected,
        Self::HandshakesFailed,
        Self::PermissivePlaintext,
        Self::Observed,
        Self::LogDropped,
        Self::ConfigReloads,
        Self::CircuitTransitions,
        Self::Discovery,
    ];

    pub(crate) const fn row(self) -> Row {
        use Kind::{Counter, Hidden, Histogram};
        let (name, kind, keep, labels, help): (_, _, _, &'static [&'static str], _) = match self {
            Self::Requests => (
                "outrigger_requests_total",
                Counter,
                1,
                &["direction", "upstream", "route", "method", "status", "grpc_status", "reason", "peer"],
                "Requests finished. status is 0 where none was sent, reason is set where the proxy answered or cut short.",
            ),
            Self::Duration => (
                "outrigger_request_duration_seconds",
                Histogram,
                1,
                &["direction", "upstream", "route", "status_class"],
                "Time from the first byte of the request to the last byte of the response.",
            ),
            Self::Attempts => (
                "outrigger_attempts_total",
                Counter,
                0,
                &["upstream", "outcome"],
                "Attempts to send a request to an endpoint.",
            ),
            Self::Retries => (
                "outrigger_retries_total",
                Counter,
                0,
                &["upstream", "result"],
                "Retries sent, and those that were not, by what forbade them.",
            ),
            Self::Degraded => (
                "outrigger_degraded_total",
                Counter,
                0,
                &["upstream", "reason"],
                "Answers that a fallback gave in place of a failure.",
            ),
            Self::Rejected => (
                "outrigger_rejected_total",
                Counter,
                0,
                &["upstream", "reason"],
                "Requests that the proxy refused without an attempt.",
            ),
            Self::ReusedClosed => (
                "outrigger_reused_connection_closed_total",
                Counter,
                0,
                &["upstream"],
                "Reused connections that closed before the first byte of an answer.",
            ),
            Self::Opened => (
                "outrigger_connections_total",
                Counter,
                0,
                &["direction", "side", "tls"],
                "Connections accepted (downstream) or made (upstream).",
            ),
            Self::Closed => ("outrigger_connections_closed", Hidden, 0, &["direction", "side", "tls"], ""),
            Self::Bytes => (
                "outrigger_bytes_total",
                Counter,
                0,
                &["direction", "side", "flow"],
                "Bytes read from and written to connections.",
            ),
            Self::Correlation => (
                "outrigger_correlation_total",
                Counter,
                0,
                &["source"],
                "Requests whose correlation identifier was kept or generated.",
            ),
            Self::Attributed => (
                "outrigger_attributed_total",
                Counter,
                0,
                &["source"],
                "Outbound calls tied to the inbound request that caused them.",
            ),
            Self::Detected => (
                "outrigger_detected_total",
                Counter,
                0,
                &["protocol"],
                "Connections by the protocol that detection found.",
            ),
            Self::HandshakesFailed => (
                "outrigger_tls_handshakes_failed_total",
                Counter,
                0,
                &["reason"],
                "TLS handshakes of clients that were refused or given up.",
            ),
            Self::PermissivePlaintext => (
                "outrigger_permissive_plaintext_total",
                Counter,
                0,
                &["listener", "source", "kind"],
                "Connections that a permissive listener took without mutual TLS, by kind of source address: loopback, private, public.",
            ),
            Self::Observed => (
                "outrigger_observed_total",
                Counter,
                0,
                &["policy", "action"],
                "What policies in observe mode would have done.",
            ),
            Self::LogDropped => (
                "outrigger_accesslog_dropped_total",
                Counter,
                0,
                &[],
                "Access log lines dropped because their destination was too slow or failed.",
            ),
            Self::ConfigReloads => (
                "outrigger_config_reloads_total",
                Counter,
                0,
                &["result"],
                "Reloads of the configuration; a failed one changes nothing.",
            ),
            Self::CircuitTransitions => (
                "outrigger_circuit_transitions_total",
                Counter,
                0,
                &["upstream", "to"],
                "Changes of a circuit breaker's state.",
            ),
            Self::Discovery => (
                "outrigger_discovery_events_total",
                Counter,
                0,
                &["event"],
                "What happened to destinations that the control plane is asked for, by event.",
            ),
        };
        Row { name, help, kind, labels, keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_family_in_order() {
        for (i, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, i);
            let row = family.row();
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
        }
        assert_eq!(Family::Discovery as usize + 1, Family::ALL.len());
    }
}
