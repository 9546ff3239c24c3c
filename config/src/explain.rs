//! `explain`: what a request would get, and which line of which document says so.
//!
//! It decides nothing itself. Listener, upstream, access and rule come from the functions that forward
//! requests ([`matching`]), so it cannot tell anything else than what happens; the rest
//! is the model put into words. Offline it knows static endpoints only; a running proxy adds what it
//! knows of the others through [`LiveState`].
//!
//! The JSON form is part of the contract with scripts: fields are added, never renamed.

use crate::{
    access::{Access, Caller, Cause, Verdict},
    matching::{self, Decision, Destination, NotFound, RequestView, normal::PathUse},
    model::{Direction, EndpointSource, Listener, Model, MtlsMode, Rule, TrafficPolicy, Upstream, UpstreamId},
};

mod parts;
mod request;
mod text;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use parts::{
    AccessPart, AnswerPart, BackendPart, CausePart, DecisionPart, EndpointPart, Explanation, ListenerPart, LoserPart,
    PolicyPart, RequestPart, RoutePart, UpstreamPart,
};
pub use request::ExplainRequest;

/// Status and token of the answers that `explain` foretells. The proxy's table of reasons says the same,
/// and its tests compare the two.
pub mod answers {
    /// No upstream or no rule.
    pub const NOT_FOUND: (u16, &str) = (404, "destination_not_found");
    /// A path that servers read in different ways, where an access rule decides on it.
    pub const UNCLEAR: (u16, &str) = (400, "http_request_error");
    /// Refused by an access policy.
    pub const DENIED: (u16, &str) = (403, "access_denied");
    /// A rule without a backend.
    pub const NO_BACKEND: (u16, &str) = (500, "proxy_configuration_error");
    /// A backend without an endpoint.
    pub const NO_ENDPOINT: (u16, &str) = (503, "destination_unavailable");
}

/// Why there is nothing to explain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No such listener.
    #[error("there is no listener called `{name}`; there are: {known}")]
    Listener {
        /// What was asked for.
        name: String,
        /// All that there are.
        known: String,
    },
    /// Not a method.
    #[error("`{0}` is not an HTTP method")]
    Method(String),
    /// Not a URL.
    #[error("`{0}` is not a URL: {1}")]
    Url(String, String),
    /// Not a header.
    #[error("`{0}` is not a header: write `NAME: VALUE`")]
    Header(String),
    /// Not an identity.
    #[error("`{0}` is not a SPIFFE ID: write `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`")]
    Identity(String),
}

/// What only a running proxy knows.
pub trait LiveState {
    /// The endpoints of an upstream in use, each with its state; `None`: not known.
    fn endpoints(&self, id: UpstreamId, upstream: &Upstream) -> Option<Vec<EndpointPart>>;

    /// State of the breaker of an upstream; `None`: it has none, or it is not known.
    fn breaker(&self, id: UpstreamId, upstream: &Upstream) -> Option<String> {
        let _ = (id, upstream);
        None
    }

    /// What is in flight of the limits of an upstream, and what is left of its retry budget; `None`: nothing
    /// is limited, or it is not known.
    fn limits(&self, id: UpstreamId, upstream: &Upstream) -> Option<String> {
        let _ = (id, upstream);
        None
    }
}

/// Nothing is running: static endpoints are all there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offline;

impl LiveState for Offline {
    fn endpoints(&self, _: UpstreamId, _: &Upstream) -> Option<Vec<EndpointPart>> {
        None
    }
}

/// Explains what `request` gets on the listener called `listener`.
///
/// # Errors
/// [`ExplainError::Listener`].
pub fn explain(
    model: &Model,
    listener: &str,
    request: &ExplainRequest,
    live: &dyn LiveState,
) -> Result<Explanation, ExplainError> {
    let Some(listener) = model.listener(listener) else {
        let known: Vec<_> = model.listeners.iter().map(|l| &*l.name).collect();
        return Err(ExplainError::Listener { name: listener.to_owned(), known: known.join(", ") });
    };
    let mut explanation = Explanation::new(listener, request);
    match matching::destination(model, listener, request) {
        Err(not_found) => explanation.not_found(&not_found),
        Ok(destination) => {
            let used = PathUse::of(model, listener.direction, destination.id);
            match request.normalised(used) {
                Err(unclear) => {
                    explanation.upstream(&destination, request);
                    explanation.answer(answers::UNCLEAR, unclear.to_string());
                }
                Ok(normal) => explanation.judge(model, destination, request, &normal, live),
            }
            explanation.decisions = decisions(model, &explanation);
        }
    }
    Ok(explanation)
}

impl Explanation {
    fn new(listener: &Listener, request: &ExplainRequest) -> Self {
        Self {
            request: RequestPart {
                method: request.method().to_string(),
                authority: request.authority().to_owned(),
                target: request.target().to_owned(),
                normal: None,
                grpc: request.is_grpc(),
                from: request.from().map(str::to_owned),
            },
            listener: ListenerPart {
                name: listener.name.to_string(),
                address: listener.address,
                direction: listener.direction.as_str(),
                protocol: words::listener_protocol(listener.protocol),
                mtls: words::mtls(listener.mtls),
                origin: listener.origin.clone(),
            },
            upstream: None,
            access: None,
            route: None,
            filters: Vec::new(),
            policy: None,
            decisions: Vec::new(),
            backends: Vec::new(),
            answer: None,
        }
    }

    /// The first answer stands: access is judged before routes.
    fn answer(&mut self, (status, token): (u16, &'static str), details: String) {
        self.answer.get_or_insert(AnswerPart { status, token: Some(token), details });
    }

    fn not_found(&mut self, not_found: &NotFound<'_>) {
        self.answer(answers::NOT_FOUND, not_found.to_string());
    }

    fn upstream(&mut self, destination: &Destination<'_>, request: &ExplainRequest) {
        let Destination { listener, upstream, .. } = destination;
        self.upstream = Some(UpstreamPart {
            name: upstream.name.to_string(),
            why: words::why_upstream(listener, request),
            origin: upstream.origin.clone(),
        });
    }

    /// What follows once the path is known to have one meaning.
    fn judge(
        &mut self,
        model: &Model,
        destination: Destination<'_>,
        request: &ExplainRequest,
        normal: &ExplainRequest,
        live: &dyn LiveState,
    ) {
        self.upstream(&destination, request);
        let (authority, target) = (normal.authority(), normal.target());
        if (authority, target) != (request.authority(), request.target()) {
            self.request.normal = Some(format!("{authority}{target}"));
        }
        self.access(&destination, normal);
        match destination.route(normal) {
            Err(not_found) => self.not_found(&not_found),
            Ok(decision) => {
                self.backend_access(model, &decision, normal);
                self.decision(model, &decision, live);
            }
        }
    }

    /// Backends have access policies of their own. With the first that refuses, none of the request's shares is sure.
    fn backend_access(&mut self, model: &Model, decision: &Decision<'_>, request: &ExplainRequest) {
        let Decision { listener, upstream, route: Some((_, rule)), .. } = *decision else { return };
        let caller = Caller::new(request.from(), request.address(), listener.mtls);
        let addressed = Destination { listener, id: decision.id, upstream, port: listener.address.port() };
        let others = rule.backends.iter().filter(|b| b.weight > 0 && b.upstream != decision.id);
        for backend in others {
            let access = addressed.towards(model, backend.upstream).authorize(&caller, request);
            if !access.passes() {
                let part = access_part(listener, &access, request);
                self.answer(
                    answers::DENIED,
                    format!("backend {}: {}", model.upstream(backend.upstream).name, part.why),
                );
            }
        }
    }

    fn access(&mut self, destination: &Destination<'_>, request: &ExplainRequest) {
        let listener = destination.listener;
        let caller = Caller::new(request.from(), request.address(), listener.mtls);
        let access = destination.authorize(&caller, request);
        let part = access_part(listener, &access, request);
        if !access.passes() {
            self.answer(answers::DENIED, part.why.clone());
        }
        self.access = Some(part);
    }

    fn decision(&mut self, model: &Model, decision: &Decision<'_>, live: &dyn LiveState) {
        self.policy = Some(policy_part(model, decision.policy()));
        let Some((matched, rule)) = decision.route else {
            self.backends.push(backend_part(model, decision.id, (1, 1), Vec::new(), live));
            return self.check_endpoints();
        };
        self.route = Some(RoutePart {
            kind: rule.kind.as_str(),
            name: rule.route.to_string(),
            rule: rule.name.to_string(),
            matched: words::matched(matched),
            origin: rule.origin.clone(),
        });
        self.filters = words::filters(model, rule);
        if let Some(redirect) = &rule.redirect {
            let details = words::redirect(redirect);
            self.answer.get_or_insert(AnswerPart { status: redirect.status, token: None, details });
            return;
        }
        self.backends = rule_backends(model, rule, live);
        if self.backends.is_empty() {
            self.answer(answers::NO_BACKEND, "the rule has no backend with a weight above 0".to_owned());
        }
        self.check_endpoints();
    }

    /// Known to have no endpoint is an answer; not to know is none.
    fn check_endpoints(&mut self) {
        let empty = |backend: &BackendPart| backend.endpoints.as_ref().is_some_and(Vec::is_empty);
        if !self.backends.is_empty() && self.backends.iter().all(empty) {
            let names: Vec<_> = self.backends.iter().map(|b| &*b.upstream).collect();
            let details = format!("no endpoint of {} is known", names.join(", "));
            self.answer(answers::NO_ENDPOINT, details);
        }
    }
}

fn access_part(listener: &Listener, access: &Access<'_>, request: &ExplainRequest) -> AccessPart {
    let (verdict, cause) = match access.verdict {
        Verdict::Open if listener.direction == Direction::Outbound => ("unchecked", None),
        Verdict::Open => ("open", None),
        Verdict::Allow(cause) => ("allow", Some(cause)),
        Verdict::Deny(cause) => ("deny", Some(cause)),
    };
    let mut why = words::why_access(verdict, cause.as_ref());
    if listener.mtls == MtlsMode::Strict && listener.direction == Direction::Inbound && request.from().is_none() {
        why.push_str("; but the listener is strict: a caller without an identity does not get past the handshake");
    }
    AccessPart { verdict, why, cause: cause.map(cause_part), observed: access.observed.map(cause_part) }
}

fn cause_part(cause: Cause<'_>) -> CausePart {
    CausePart { policy: cause.policy.name.to_string(), rule: cause.rule, origin: cause.policy.origin.clone() }
}

fn policy_part(model: &Model, policy: &TrafficPolicy) -> PolicyPart {
    PolicyPart {
        name: policy.name.to_string(),
        mode: words::mode(policy.mode),
        origin: policy.origin.clone(),
        settings: words::settings(model, policy),
    }
}

fn rule_backends(model: &Model, rule: &Rule, live: &dyn LiveState) -> Vec<BackendPart> {
    let share = |weight| (weight, rule.total_weight);
    let chosen = rule.backends.iter().filter(|backend| backend.weight > 0);
    chosen
        .map(|b| {
            let mut filters = words::edits("request", &b.request_headers);
            filters.extend(words::edits("response", &b.response_headers));
            backend_part(model, b.upstream, share(b.weight), filters, live)
        })
        .collect()
}

fn backend_part(
    model: &Model,
    id: UpstreamId,
    (weight, total): (u32, u32),
    filters: Vec<String>,
    live: &dyn LiveState,
) -> BackendPart {
    let upstream = model.upstream(id);
    let written = || match &upstream.source {
        EndpointSource::Static(endpoints) => Some(endpoints.iter().map(EndpointPart::from).collect()),
        _ => None,
    };
    BackendPart {
        upstream: upstream.name.to_string(),
        weight,
        // To a tenth: a share is for people.
        percent: (f64::from(weight) * 1000.0 / f64::from(total.max(1))).round() / 10.0,
        protocol: words::upstream_protocol(upstream.protocol),
        tls: words::tls(&upstream.tls),
        source: words::source(&upstream.source),
        filters,
        policy: policy_part(model, &upstream.policy),
        breaker: live.breaker(id, upstream),
        limits: live.limits(id, upstream),
        endpoints: live.endpoints(id, upstream).or_else(written),
        origin: upstream.origin.clone(),
    }
}

impl From<&crate::model::Endpoint> for EndpointPart {
    fn from(endpoint: &crate::model::Endpoint) -> Self {
        Self {
            address: endpoint.address,
            weight: endpoint.weight,
            zone: endpoint.zone.as_deref().map(str::to_owned),
            state: None,
        }
    }
}

/// The merges about what the request meets.
///
/// Subjects are `Upstream NAME`, `rule RULE of KIND [NAMESPACE/]NAME at Upstream NAME`, or say that they are about a
/// namespace or the mesh.
fn decisions(model: &Model, explanation: &Explanation) -> Vec<DecisionPart> {
    let upstream = explanation.upstream.as_ref().map_or("", |u| &*u.name);
    let about_rule = |rest: &str| {
        let Some(route) = &explanation.route else { return false };
        rest.strip_prefix(&*route.rule)
            .and_then(|rest| rest.strip_prefix(" of "))
            .and_then(|rest| rest.strip_prefix(route.kind)?.strip_prefix(' '))
            .and_then(|rest| rest.strip_suffix(upstream)?.strip_suffix(" at Upstream "))
            .is_some_and(|name| name == route.name || name.rsplit('/').next() == Some(&*route.name))
    };
    let concerns = |subject: &str| match (subject.strip_prefix("Upstream "), subject.strip_prefix("rule ")) {
        (Some(name), _) => name == upstream || explanation.backends.iter().any(|b| b.upstream == name),
        (_, Some(rest)) => about_rule(rest),
        (None, None) => true,
    };
    let about = model.decisions.iter().filter(|decision| concerns(&decision.subject));
    about
        .map(|decision| DecisionPart {
            subject: decision.subject.clone(),
            winner: decision.winner.clone(),
            origin: decision.winner_origin.clone(),
            losers: decision
                .losers
                .iter()
                .map(|(name, origin, why)| LoserPart { name: name.clone(), origin: origin.clone(), why: why.clone() })
                .collect(),
        })
        .collect()
}
