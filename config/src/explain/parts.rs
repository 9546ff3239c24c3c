//! What an explanation consists of, and its JSON form.
//!
//! Origins are `FILE:LINE:COLUMN`. What is not known or does not apply is `null`, never left out.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::Origin;

/// All about one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What was asked about.
    pub request: RequestPart,
    /// Where it comes in.
    pub listener: ListenerPart,
    /// The upstream that it addresses.
    pub upstream: Option<UpstreamPart>,
    /// Whether its caller may.
    pub access: Option<AccessPart>,
    /// The rule that it gets; `None` also where the upstream has no routes.
    pub route: Option<RoutePart>,
    /// What the rule does to request and response, in order.
    pub filters: Vec<String>,
    /// The policy for the request as a whole.
    pub policy: Option<PolicyPart>,
    /// The merges that had a say in it.
    pub decisions: Vec<DecisionPart>,
    /// Where it goes.
    pub backends: Vec<BackendPart>,
    /// What the proxy answers itself, instead of forwarding.
    pub answer: Option<AnswerPart>,
}

/// The request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestPart {
    /// Method.
    pub method: String,
    /// Host and port.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Host, path and query in the normal form that is decided on and forwarded; `None`: they are in it, or nothing decides
    /// on them.
    pub normal: Option<String>,
    /// By its content type.
    pub grpc: bool,
    /// Identity of the caller.
    pub from: Option<String>,
}

/// The listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerPart {
    /// Name.
    pub name: String,
    /// As configured.
    pub address: SocketAddr,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `detect`, `http` or `tcp`.
    pub protocol: &'static str,
    /// `strict`, `permissive` or `disabled`.
    pub mtls: &'static str,
    /// Where it was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
}

/// The upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamPart {
    /// Name.
    pub name: String,
    /// How the listener found it.
    pub why: String,
    /// Where it was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
}

/// The verdict on the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessPart {
    /// `allow`, `deny`, `open` (no rule has a say) or `unchecked` (outbound).
    pub verdict: &'static str,
    /// In words.
    pub why: String,
    /// The rule that decided.
    pub cause: Option<CausePart>,
    /// The rule that would have refused, had its policy been enforced.
    pub observed: Option<CausePart>,
}

/// A rule of an access policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CausePart {
    /// Name of the policy.
    pub policy: String,
    /// Index of the rule; none: the policy allows, but not this.
    pub rule: Option<usize>,
    /// Where the policy was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
}

/// The rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoutePart {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: &'static str,
    /// Name of the route.
    pub name: String,
    /// Name of the rule.
    pub rule: String,
    /// The condition that held, in words.
    pub matched: String,
    /// Where the rule was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
}

/// A traffic policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyPart {
    /// Name; `default` where no document says anything.
    pub name: String,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// Where it was written.
    #[serde(serialize_with = "optional_origin")]
    pub origin: Option<Origin>,
    /// Its fields as documents write them, and their values.
    #[serde(serialize_with = "map")]
    pub settings: Vec<(&'static str, String)>,
}

/// A merge decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionPart {
    /// What it was about.
    pub subject: String,
    /// Kind and name of the winner.
    pub winner: String,
    /// Where the winner was written.
    #[serde(serialize_with = "optional_origin")]
    pub origin: Option<Origin>,
    /// Who lost.
    pub losers: Vec<LoserPart>,
}

/// One who lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoserPart {
    /// Kind and name.
    pub name: String,
    /// Where it was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
    /// Why it lost.
    pub why: String,
}

/// A share of the requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendPart {
    /// Name of the upstream.
    pub upstream: String,
    /// As written.
    pub weight: u32,
    /// Of all requests of the rule.
    pub percent: f64,
    /// `http`, `grpc`, ...
    pub protocol: &'static str,
    /// Security of the connection, in words.
    pub tls: String,
    /// Where endpoints come from, in words.
    pub source: String,
    /// What this backend alone does to request and response.
    pub filters: Vec<String>,
    /// The upstream's own policy (its connections, its balancing).
    pub policy: PolicyPart,
    /// State of its breaker, of a running proxy.
    pub breaker: Option<String>,
    /// What is in flight of its limits, of a running proxy.
    pub limits: Option<String>,
    /// Endpoints, as far as they are known.
    pub endpoints: Option<Vec<EndpointPart>>,
    /// Where the upstream was written.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointPart {
    /// IP and port.
    pub address: SocketAddr,
    /// Share.
    pub weight: u32,
    /// Zone.
    pub zone: Option<String>,
    /// `ready`, `ejected`, ... of a running proxy.
    pub state: Option<String>,
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnswerPart {
    /// HTTP status.
    pub status: u16,
    /// Token of `proxy-status`; none for a redirect.
    pub token: Option<&'static str>,
    /// Why.
    pub details: String,
}

fn origin<S: Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

fn optional_origin<S: Serializer>(origin: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    match origin {
        Some(origin) => serializer.collect_str(origin),
        None => serializer.serialize_none(),
    }
}

fn map<S: Serializer>(pairs: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}
