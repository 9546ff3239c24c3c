//! Where a request goes: upstream, access, rule, backend. Pure; forwarding and `explain` call the same.
//!
//! A decision is three steps that a caller may take one by one, because access is judged between them:
//! [`destination`] finds the upstream behind a listener, [`Destination::authorize`] says whether the
//! caller may, [`Destination::route`] finds the rule. [`decide`] is the first and the last in one.
//!
//! Nothing here allocates for a request with at most one field of each name that a rule looks at, and
//! every answer borrows from the [`Model`], so that a decision costs a scan over the rules and no more.
//! The scan is linear on purpose: an upstream has tens of matches, ordered by precedence, and the first
//! that holds wins; an index would have to keep that order for paths, headers and queries at once.
//!
//! Paths are compared as they are forwarded, without decoding: a route that matched one spelling and
//! forwarded another would send requests where no rule says. So whoever forwards brings a path into its normal form
//! first ([`normal`]), between [`destination`] and the steps behind it.

use std::sync::Arc;

use crate::{
    access::{self, Access, Caller},
    model::{
        Backend, Direction, Listener, ListenerTarget, Model, RouteMatch, RouteTable, Rule, TrafficPolicy, Upstream,
        UpstreamId,
    },
};

mod host;
pub mod normal;
mod path;
mod value;

#[cfg(test)]
mod tests;

pub use host::{host_of, hostname_holds, split_authority};
pub(crate) use value::unescape;

/// What matching sees of a request; codecs implement it over their own heads.
pub trait RequestView {
    /// Upper case as on the wire.
    fn method(&self) -> &http::Method;
    /// `HOST[:PORT]` as it came; empty if the request names none.
    fn authority(&self) -> &str;
    /// Without port and trailing dot, compared without case; empty if the request names none.
    fn host(&self) -> &str {
        host_of(self.authority())
    }
    /// Of the request target, without the query, as it is forwarded.
    fn path(&self) -> &str;
    /// Behind the `?`, if there is one.
    fn query(&self) -> Option<&str>;
    /// The value of the field `name` (lower case); several fields come joined by `, `.
    fn header(&self, name: &str) -> Option<std::borrow::Cow<'_, [u8]>>;
    /// True if `holds` for the value of any field that an app may take for `name` (lower case): one by one, and those
    /// too whose names have `_` or another mark for `-`, which CGI and its descendants do not tell apart.
    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    /// True if the content type is `application/grpc` or a subtype of it.
    fn is_grpc(&self) -> bool;
}

/// The upstream and the rule for `request`, or why there is none.
///
/// # Errors
/// [`NotFound`], which is answered 404.
pub fn decide<'m>(
    model: &'m Model,
    listener: &'m Listener,
    request: &impl RequestView,
) -> Result<Decision<'m>, NotFound<'m>> {
    destination(model, listener, request)?.route(request)
}

/// The upstream that `listener` has for `request`.
///
/// # Errors
/// [`NotFound::NoHost`] and [`NotFound::UnknownHost`], on listeners that choose by host.
pub fn destination<'m>(
    model: &'m Model,
    listener: &'m Listener,
    request: &impl RequestView,
) -> Result<Destination<'m>, NotFound<'m>> {
    let id = match &listener.target {
        ListenerTarget::Forward(id) => *id,
        ListenerTarget::ByHost(_) if request.authority().is_empty() => return Err(NotFound::NoHost),
        ListenerTarget::ByHost(table) => table.find(request.authority()).ok_or(NotFound::UnknownHost)?,
    };
    Ok(Destination { listener, id, upstream: model.upstream(id), port: listener.address.port() })
}

/// A request's upstream, before its access and its rule are known.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'m> {
    /// Where the request came in.
    pub listener: &'m Listener,
    /// Index of the upstream.
    pub id: UpstreamId,
    /// The upstream.
    pub upstream: &'m Arc<Upstream>,
    /// The port that the client connected to: that of the listener, unless the connection was redirected to it.
    pub port: u16,
}

impl<'m> Destination<'m> {
    /// The same with the upstream that a rule leads to: its own access policies hold, too.
    #[must_use]
    pub fn towards(&self, model: &'m Model, id: UpstreamId) -> Self {
        Self { upstream: model.upstream(id), id, ..*self }
    }

    /// May `caller` do this? Judged in front of the service, so on inbound listeners only: the proxy of
    /// the caller cannot be trusted to judge its own service.
    #[must_use]
    pub fn authorize(&self, caller: &Caller<'_>, request: &impl RequestView) -> Access<'m> {
        match self.listener.direction {
            Direction::Inbound => access::evaluate(&self.upstream.access, caller, self.port, request),
            Direction::Outbound => Access::OPEN,
        }
    }

    /// The rule for `request`. An upstream without routes takes everything.
    ///
    /// # Errors
    /// [`NotFound::NoRoute`] if there are routes and none of them matches.
    pub fn route(self, request: &impl RequestView) -> Result<Decision<'m>, NotFound<'m>> {
        let Self { id, upstream, listener, .. } = self;
        let table = &upstream.routes;
        if table.matches.is_empty() && table.rules.is_empty() {
            return Ok(Decision { listener, id, upstream, route: None });
        }
        let Some(found) = table.find(request) else {
            return Err(NotFound::NoRoute { id, upstream });
        };
        match table.rules.get(found.rule as usize) {
            Some(rule) => Ok(Decision { listener, id, upstream, route: Some((found, rule)) }),
            None => Err(NotFound::NoRoute { id, upstream }),
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'m> {
    /// Where the request came in.
    pub listener: &'m Listener,
    /// Index of the upstream that was addressed; a rule's backends may be others.
    pub id: UpstreamId,
    /// The upstream that was addressed.
    pub upstream: &'m Arc<Upstream>,
    /// What matched, and its rule. `None`: the upstream has no routes.
    pub route: Option<(&'m RouteMatch, &'m Arc<Rule>)>,
}

impl<'m> Decision<'m> {
    /// The policy for the request as a whole: the rule's, else the upstream's.
    #[must_use]
    pub fn policy(&self) -> &'m Arc<TrafficPolicy> {
        self.route.map_or(&self.upstream.policy, |(_, rule)| &rule.policy)
    }
}

/// Why no upstream or rule takes a request. The answer is always that of `destination_not_found`.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum NotFound<'m> {
    /// The listener chooses by host and the request names none.
    #[error("the request names no host, and this listener chooses the upstream by host")]
    NoHost,
    /// The listener chooses by host and knows no such one.
    #[error("no upstream has the host name of the request")]
    UnknownHost,
    /// The upstream has routes, and none of them matches.
    #[error("no rule of the routes of upstream {} matches the request", .upstream.name)]
    NoRoute {
        /// Index of the upstream.
        id: UpstreamId,
        /// The upstream.
        upstream: &'m Arc<Upstream>,
    },
}

/// True if `field`, the name of a field in any case, may be taken for `name` (lower case): all that is neither a letter
/// nor a digit counts as the same.
#[must_use]
pub fn names_alike(field: &[u8], name: &[u8]) -> bool {
    let fold = |b: &u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' };
    field.len() == name.len() && field.iter().zip(name).all(|(a, b)| fold(a) == fold(b))
}

/// True if `value` is a gRPC content type: `application/grpc`, `application/grpc+proto`, ..., not `-web`.
#[must_use]
pub fn is_grpc_type(value: &[u8]) -> bool {
    const PREFIX: &[u8] = b"application/grpc";
    value.split_at_checked(PREFIX.len()).is_some_and(|(front, rest)| {
        front.eq_ignore_ascii_case(PREFIX) && rest.first().is_none_or(|b| matches!(b, b'+' | b';' | b' '))
    })
}

impl RouteTable {
    /// The first match in precedence that holds for `request`.
    #[must_use]
    pub fn find(&self, request: &impl RequestView) -> Option<&RouteMatch> {
        let path = request.path();
        self.matches.iter().find(|m| m.path.holds(path) && m.rest_holds(request))
    }
}

impl RouteMatch {
    /// Every condition but the path, cheap ones first.
    fn rest_holds(&self, request: &impl RequestView) -> bool {
        self.method.as_ref().is_none_or(|m| m == request.method())
            && (!self.grpc || request.is_grpc())
            && (self.hostnames.is_empty() || self.hostnames.iter().any(|h| hostname_holds(h, request.host())))
            && self.headers.iter().all(|h| h.header_holds(request))
            && self.query.iter().all(|q| q.query_holds(request.query().unwrap_or_default()))
    }
}

impl Rule {
    /// One of the backends, by weight. `random` is uniform over all of `u32`.
    ///
    /// `None`: this share of the requests goes nowhere and is answered 500, as the Gateway API says.
    #[must_use]
    pub fn pick_backend(&self, random: u32) -> Option<&Backend> {
        if let [only] = &*self.backends
            && only.weight == self.total_weight
        {
            return (only.weight > 0).then_some(only);
        }
        // Multiply and shift maps `random` to 0..total without a division.
        let mut ticket = (u64::from(random) * u64::from(self.total_weight)) >> 32;
        self.backends.iter().find(|backend| match ticket.checked_sub(u64::from(backend.weight)) {
            Some(rest) => {
                ticket = rest;
                false
            }
            None => true,
        })
    }
}
