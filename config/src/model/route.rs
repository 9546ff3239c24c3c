//! Routes, resolved: matches in order of precedence, and the rules that they point to.

use std::sync::Arc;

use super::{TrafficPolicy, UpstreamId};
use crate::Origin;

/// The rules of all routes of one upstream, in order of precedence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteTable {
    /// Each match of each rule, most specific first (Gateway API `HTTPRouteRule` precedence).
    pub matches: Vec<RouteMatch>,
    /// The rules that matches point to.
    pub rules: Vec<Arc<Rule>>,
}

/// One match of one rule, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// Host names of the route; empty: every host. Lower case, `*.` allowed.
    pub hostnames: Vec<Arc<str>>,
    /// What the path must be.
    pub path: PathMatch,
    /// Upper case as on the wire; `None`: any.
    pub method: Option<http::Method>,
    /// All of them must match.
    pub headers: Vec<ValueMatch>,
    /// All of them must match.
    pub query: Vec<ValueMatch>,
    /// Only requests with a gRPC content type.
    pub grpc: bool,
    /// Index into [`RouteTable::rules`].
    pub rule: u32,
}

/// A condition on a path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    /// Byte for byte.
    Exact(Arc<str>),
    /// Element-wise: `/a` matches `/a` and `/a/b`, not `/ab`. Without a trailing slash, `/` alone excepted.
    Prefix(Arc<str>),
    /// The whole path matches (RE2 syntax).
    Regex(Pattern),
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueMatch {
    /// Header names are lower-case.
    pub name: Arc<str>,
    /// Several fields of one name are joined by a comma first.
    pub value: StringMatch,
}

/// A condition on a string.
#[derive(Debug, Clone, PartialEq)]
pub enum StringMatch {
    /// Byte for byte.
    Exact(Arc<str>),
    /// The whole value matches.
    Regex(Pattern),
}

/// A compiled regular expression that compares by its text.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As it was written.
    pub text: Arc<str>,
    /// Anchored at both ends, bounded in size.
    pub regex: regex::bytes::Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What happens to a request that a rule matched.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `metadata.name` of the route; the label value of metrics.
    pub route: Arc<str>,
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: RouteKind,
    /// `name` of the rule, or its index as text.
    pub name: Arc<str>,
    /// Edits of the request, before the backend is chosen.
    pub request_headers: HeaderEdits,
    /// Edits of the response.
    pub response_headers: HeaderEdits,
    /// Rewrite of host and path.
    pub rewrite: Option<Rewrite>,
    /// Answers instead of forwarding.
    pub redirect: Option<Redirect>,
    /// Copies of the request, whose answers are thrown away.
    pub mirrors: Vec<Mirror>,
    /// Weighted; empty (and no redirect): 500 for every request, as the Gateway API says.
    pub backends: Vec<Backend>,
    /// Sum of the backends' weights.
    pub total_weight: u32,
    /// The policy for requests of this rule, `timeouts` and `retry` of the route included.
    pub policy: Arc<TrafficPolicy>,
    /// Where the rule was written.
    pub origin: Origin,
}

/// The kind of a route document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
}

impl RouteKind {
    /// The kind as documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}

/// Where a share of the requests of a rule goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The destination.
    pub upstream: UpstreamId,
    /// Share of [`Rule::total_weight`].
    pub weight: u32,
    /// Edits of requests that go there.
    pub request_headers: HeaderEdits,
    /// Edits of responses that come from there.
    pub response_headers: HeaderEdits,
}

/// Header edits, applied in the order set, add, remove. Names are lower-case and never hop-by-hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Replace.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Append a field.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Drop every field of the name.
    pub remove: Vec<Arc<str>>,
}

impl HeaderEdits {
    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// `URLRewrite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// New host, for `Host` and `:authority`.
    pub hostname: Option<Arc<str>>,
    /// New path.
    pub path: Option<PathEdit>,
}

/// `RequestRedirect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; `None`: that of the request.
    pub scheme: Option<Arc<str>>,
    /// `None`: that of the request.
    pub hostname: Option<Arc<str>>,
    /// `None`: as the Gateway API derives it from scheme and listener.
    pub port: Option<u16>,
    /// `None`: that of the request.
    pub path: Option<PathEdit>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// How a path changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEdit {
    /// The whole path; the query stays.
    ReplaceFull(Arc<str>),
    /// The prefix that the rule's `PathPrefix` matched.
    ReplacePrefix(Arc<str>),
}

/// `RequestMirror`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Where the copies go.
    pub upstream: UpstreamId,
    /// Numerator of the mirrored share.
    pub numerator: u32,
    /// Denominator of the mirrored share, at least 1.
    pub denominator: u32,
}
