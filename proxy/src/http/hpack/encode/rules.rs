//! Which known names may have entries in the peer's table.

use super::Known;

/// How a field of a known name is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// As an index when it comes again.
    Index,
    /// As a literal that is not put in the table (RFC 7541 6.2.2): it is another for each message, so that looking for it
    /// would find nothing.
    Plain,
    /// As a literal that nobody may put in a table (RFC 7541 6.2.3): who can add fields to the same connection could find
    /// out a secret by the length of what is sent (RFC 7541 7.1).
    Never,
}

#[inline]
pub(super) fn rule(known: Known) -> Rule {
    RULES[known as usize]
}

/// True of fields that are another for each message.
pub(in crate::http) fn differs(known: Known) -> bool {
    rule(known) == Rule::Plain
}

static RULES: [Rule; Known::ALL.len() + 1] = {
    let mut rules = [Rule::Index; Known::ALL.len() + 1];
    let mut i = 0;
    while i < Known::ALL.len() {
        rules[Known::ALL[i] as usize] = rule_of(Known::ALL[i]);
        i += 1;
    }
    rules
};

const fn rule_of(known: Known) -> Rule {
    match known {
        Known::Authorization | Known::ProxyAuthorization | Known::Cookie | Known::SetCookie => Rule::Never,
        Known::XRequestId
        | Known::XCorrelationId
        | Known::IdempotencyKey
        | Known::Traceparent
        | Known::XB3TraceId
        | Known::XB3SpanId
        | Known::XB3ParentSpanId
        | Known::B3
        | Known::GrpcTimeout
        | Known::XOutriggerTimeoutMs
        | Known::ContentLength => Rule::Plain,
        _ => Rule::Index,
    }
}
