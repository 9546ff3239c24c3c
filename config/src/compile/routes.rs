//! `HTTPRoute` and `GRPCRoute` documents: rules attached to upstreams, in the Gateway API's order of precedence.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Origin,
    compile::{
        Context, MAX_MATCHES,
        filters::{Filters, Place},
        matches::precedence,
        mesh::Mesh,
        names::Found,
        policies::{Policies, Target, age},
        retry::overlay,
        traffic::{Drafts, TimeoutsLayer},
    },
    documents::{
        BackendRef, Document, GrpcRouteRule, HttpRouteRule, Ignored, Kind, ParentRef, PathMatchWord, RouteRetry,
        RouteTimeouts, Spanned,
    },
    load::Loaded,
    model::{Backend, Decision, RouteKind, RouteMatch, RouteTable, Rule, TrafficPolicy, Upstream, UpstreamId},
    yaml::Mark,
};

/// One rule of a route, before it is known to which upstream it belongs.
struct DraftRule<'a> {
    /// Its policy is filled in for each parent.
    rule: Rule,
    section: Option<&'a str>,
    matches: Vec<RouteMatch>,
    timeouts: TimeoutsLayer,
    retry: Option<&'a RouteRetry>,
}

/// A route, ready to be attached.
struct DraftRoute<'a> {
    at: &'a Loaded,
    kind: Kind,
    parents: Vec<UpstreamId>,
    hostnames: Vec<Arc<str>>,
    rules: Vec<DraftRule<'a>>,
}

impl<'a> Context<'a> {
    pub(super) fn attach_routes(
        &mut self,
        upstreams: &mut [Upstream],
        drafts: &Drafts,
        policies: &Policies,
        mesh: &Mesh<'_>,
    ) {
        let mut routes = Vec::new();
        for at in self.documents {
            let route = match &at.document {
                Document::HTTPRoute(r) => {
                    let rules = r.spec.rules.iter().enumerate();
                    self.rule_names(at, r.spec.rules.iter().map(|r| r.name.as_ref()));
                    let rules = rules.map(|(i, rule)| self.http_rule(at, i, rule)).collect();
                    self.route_document(at, r.spec.mark, &r.spec.parent_refs, &r.spec.hostnames, rules)
                }
                Document::GRPCRoute(r) => {
                    let rules = r.spec.rules.iter().enumerate();
                    self.rule_names(at, r.spec.rules.iter().map(|r| r.name.as_ref()));
                    let rules = rules.map(|(i, rule)| self.grpc_rule(at, i, rule)).collect();
                    self.route_document(at, r.spec.mark, &r.spec.parent_refs, &r.spec.hostnames, rules)
                }
                _ => continue,
            };
            routes.push(route);
        }
        // Between equal matches: the oldest route, then by namespace and name, then the first rule, the first match.
        routes.sort_by_key(|r| age(r.at));
        let consumed = self.consumers(&routes);
        for route in &routes {
            for parent in &route.parents {
                if self.is_beaten(route, *parent, &consumed) {
                    continue;
                }
                if let Some(upstream) = upstreams.get_mut(parent.0 as usize) {
                    self.attach(upstream, *parent, route, drafts, policies, mesh);
                }
            }
        }
        for upstream in upstreams {
            upstream.routes.matches.sort_by_key(precedence);
        }
    }

    /// Upstreams for which there are routes of their callers.
    fn consumers(&self, routes: &[DraftRoute<'a>]) -> HashMap<UpstreamId, &'a Loaded> {
        let mut consumed = HashMap::new();
        for route in routes {
            for parent in &route.parents {
                if self.is_consumer(route.at, *parent) {
                    consumed.entry(*parent).or_insert(route.at);
                }
            }
        }
        consumed
    }

    fn is_consumer(&self, route: &Loaded, parent: UpstreamId) -> bool {
        let owner = self.owners.get(parent.0 as usize);
        self.cluster.is_some() && owner.is_some_and(|o| self.namespace_of(*o) != self.namespace(route, None))
    }

    /// GAMMA: routes of the caller's namespace stand in place of those of the Service's. Recorded.
    fn is_beaten(
        &mut self,
        route: &DraftRoute<'a>,
        parent: UpstreamId,
        consumed: &HashMap<UpstreamId, &'a Loaded>,
    ) -> bool {
        let Some(winner) = consumed.get(&parent).filter(|_| !self.is_consumer(route.at, parent)) else { return false };
        let name = self.owners.get(parent.0 as usize).and_then(|o| self.service_of(*o));
        let subject = name.map_or_else(String::new, |(namespace, name, port)| format!("{namespace}/{name}:{port}"));
        self.decisions.push(Decision {
            subject: format!("Upstream {subject}"),
            winner: winner.title(),
            winner_origin: Some(winner.origin(winner.mark)),
            losers: vec![(
                route.at.title(),
                route.at.origin(route.at.mark),
                "the caller's namespace has routes of its own".into(),
            )],
        });
        true
    }

    fn route_document(
        &mut self,
        at: &'a Loaded,
        place: Mark,
        refs: &[Spanned<ParentRef>],
        hostnames: &[Spanned<String>],
        rules: Vec<DraftRule<'a>>,
    ) -> DraftRoute<'a> {
        let mut parents = Vec::new();
        for parent in refs {
            let ids = self.parents(at, parent);
            if self.cluster.is_none() && ids.iter().any(|id| parents.contains(id)) {
                self.fault(at, parent.mark, "this parent stands here twice");
            }
            // In a cluster one reference may name a port of a Service, and another the whole.
            parents.extend(ids.into_iter().filter(|id| !parents.contains(id)).collect::<Vec<_>>());
        }
        if refs.is_empty() && place != Mark::NOWHERE && !at.may_have(place, &["parentRefs"]) {
            let mark = at.document.metadata().name.mark;
            self.warn(at, mark, format!("{} has no `parentRefs`: it is attached to nothing", at.title()));
        }
        let kind = at.document.kind();
        let hostnames = hostnames.iter().map(|h| Arc::from(h.as_str())).collect();
        DraftRoute { at, kind, parents, hostnames, rules }
    }

    fn rule_names<'r>(&mut self, at: &Loaded, names: impl Iterator<Item = Option<&'r Spanned<String>>>) {
        let mut seen: Vec<&str> = Vec::new();
        for name in names.flatten() {
            if seen.contains(&name.as_str()) {
                self.fault(at, name.mark, format!("a rule `{}` stands here already", name.as_str()));
            }
            seen.push(name);
        }
    }

    fn attach(
        &mut self,
        upstream: &mut Upstream,
        id: UpstreamId,
        route: &DraftRoute<'_>,
        drafts: &Drafts,
        policies: &Policies,
        mesh: &Mesh<'_>,
    ) {
        let layer = mesh.timeouts(route.at.document.metadata().namespace()).clone();
        for draft in &route.rules {
            self.spent.matches += draft.matches.len() * route.hostnames.len().max(1);
            if self.spent.matches > MAX_MATCHES {
                let message = format!("matches, host names and parents multiply to more than {MAX_MATCHES}");
                return self.fault(route.at, route.at.mark, message);
            }
            let name = self.label(route.at);
            let mut targets = Vec::with_capacity(5);
            targets.extend(draft.section.map(|s| Target::Rule(route.kind, name.clone(), s.to_owned())));
            targets.push(Target::Route(route.kind, name));
            targets.extend(self.upstream_targets(id));
            let subject = format!("rule {} of {} at Upstream {}", draft.rule.name, route.at.title(), upstream.name);
            let mut policy = self.resolve(&subject, &targets, drafts, policies, Some(&layer));
            draft.timeouts.over(&mut policy.timeouts);
            if let Some(retry) = draft.retry {
                policy.retry = Some(overlay(policy.retry.take(), retry));
            }
            let rule = Rule { policy: Arc::new(policy), ..draft.rule.clone() };
            push_rule(&mut upstream.routes, rule, &draft.matches, &route.hostnames);
        }
    }

    fn http_rule(&mut self, at: &'a Loaded, index: usize, spec: &'a Spanned<HttpRouteRule>) -> DraftRule<'a> {
        self.no_sessions(at, spec.session_persistence.as_ref());
        let prefix = spec.matches.iter().all(|m| {
            let kind = m.path.as_ref().and_then(|p| p.r#type.as_ref());
            kind.is_none_or(|t| t.is_stand_in() || t.inner == PathMatchWord::PathPrefix)
        });
        let filters = self.filters(at, &spec.filters, Place::HttpRule { prefix });
        if let (Some(_), Some(backend)) = (&filters.redirect, spec.backend_refs.iter().find(|b| !b.is_stand_in())) {
            self.fault(at, backend.mark, "a rule that redirects has no `backendRefs`: nothing is forwarded");
        }
        let backends = self.backends(at, &spec.backend_refs);
        let matches = match spec.matches.as_slice() {
            [] => vec![every_request(false)],
            matches => matches.iter().map(|m| self.http_match(at, m)).collect(),
        };
        DraftRule {
            rule: rule(
                (RouteKind::Http, self.label(at)),
                rule_name(index, spec.name.as_ref()),
                filters,
                backends,
                at.origin(spec.mark),
            ),
            section: spec.name.as_ref().map(|n| n.as_str()),
            matches,
            timeouts: self.route_timeouts(at, spec.timeouts.as_ref()),
            retry: spec.retry.as_deref(),
        }
    }

    fn grpc_rule(&mut self, at: &'a Loaded, index: usize, spec: &'a Spanned<GrpcRouteRule>) -> DraftRule<'a> {
        self.no_sessions(at, spec.session_persistence.as_ref());
        let filters = self.filters(at, &spec.filters, Place::GrpcRule);
        let backends = self.backends(at, &spec.backend_refs);
        let matches = match spec.matches.as_slice() {
            [] => vec![every_request(true)],
            matches => matches.iter().map(|m| self.grpc_match(at, m)).collect(),
        };
        DraftRule {
            rule: rule(
                (RouteKind::Grpc, self.label(at)),
                rule_name(index, spec.name.as_ref()),
                filters,
                backends,
                at.origin(spec.mark),
            ),
            section: spec.name.as_ref().map(|n| n.as_str()),
            matches,
            timeouts: TimeoutsLayer::default(),
            retry: None,
        }
    }

    fn no_sessions(&mut self, at: &Loaded, field: Option<&Spanned<Ignored>>) {
        if let Some(field) = field {
            self.fault(
                at,
                field.mark,
                "`sessionPersistence` is not supported; `loadBalancing.hashOn` of a TrafficPolicy is",
            );
        }
    }

    fn route_timeouts(&mut self, at: &Loaded, spec: Option<&Spanned<RouteTimeouts>>) -> TimeoutsLayer {
        let Some(spec) = spec else { return TimeoutsLayer::default() };
        self.backend_within_request(at, spec.request.as_ref(), spec.backend_request.as_ref());
        TimeoutsLayer {
            request: spec.request.as_ref().map(|d| d.inner.0),
            backend_request: spec.backend_request.as_ref().map(|d| d.inner.0),
            ..TimeoutsLayer::default()
        }
    }

    /// Those that take a share, and the sum of the weights of all: what is missing in it is answered 500 (GEP-1364). One of
    /// weight 0 is checked, and dropped.
    fn backends(&mut self, at: &Loaded, refs: &[Spanned<BackendRef>]) -> (Vec<Backend>, u32) {
        let mut backends = Vec::with_capacity(refs.len());
        // Each weight is at most a million, and a file holds fewer than a million backends; the sum is kept in bounds all the same.
        let mut total = 0u32;
        for backend in refs {
            let filters = self.filters(at, &backend.filters, Place::Backend);
            let found = self.upstream(at, backend);
            let weight = backend.weight.as_ref().map_or(1, |w| w.inner);
            total = total.saturating_add(weight);
            if let (Found::Here(upstream), 1..) = (found, weight) {
                backends.push(Backend {
                    upstream,
                    weight,
                    request_headers: filters.request_headers,
                    response_headers: filters.response_headers,
                });
            }
        }
        (backends, total)
    }
}

/// Its name, or its place.
fn rule_name(index: usize, name: Option<&Spanned<String>>) -> Arc<str> {
    name.map_or_else(|| index.to_string().into(), |n| n.as_str().into())
}

fn rule(
    (kind, route): (RouteKind, Arc<str>),
    name: Arc<str>,
    filters: Filters,
    (backends, total_weight): (Vec<Backend>, u32),
    origin: Origin,
) -> Rule {
    Rule {
        route,
        kind,
        name,
        request_headers: filters.request_headers,
        response_headers: filters.response_headers,
        rewrite: filters.rewrite,
        redirect: filters.redirect,
        mirrors: filters.mirrors,
        total_weight,
        backends,
        policy: Arc::new(TrafficPolicy::default()),
        origin,
    }
}

/// Each host name makes a match of its own, for each has its own precedence.
fn push_rule(table: &mut RouteTable, rule: Rule, matches: &[RouteMatch], hostnames: &[Arc<str>]) {
    let index = u32::try_from(table.rules.len()).unwrap_or(u32::MAX);
    table.rules.push(Arc::new(rule));
    for one in matches {
        let mut push = |hostnames: Vec<Arc<str>>| {
            table.matches.push(RouteMatch { hostnames, rule: index, ..one.clone() });
        };
        match hostnames {
            [] => push(Vec::new()),
            names => names.iter().for_each(|n| push(vec![n.clone()])),
        }
    }
}

fn every_request(grpc: bool) -> RouteMatch {
    RouteMatch {
        hostnames: Vec::new(),
        path: crate::model::PathMatch::Prefix("/".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
        grpc,
        rule: 0,
    }
}
