//! Merging, after GEP-713: which `TrafficPolicy` holds for what.
//!
//! The more specific target wins whole: rule, route, upstream. Among those for one target the oldest wins, then the first
//! by namespace and name; the others do nothing there, which is a warning. `MeshPolicy` lies under the times of all.

use std::{collections::HashMap, sync::Arc};

use crate::{
    compile::{
        Context, MAX_LOSERS,
        mesh::Mesh,
        names::{Found, RefKind, Reference},
        services::{Owner, server_side},
        traffic::{Drafts, TimeoutsLayer},
    },
    documents::{Document, Kind, Spanned, TargetRef, TrafficPolicySpec},
    load::Loaded,
    model::{Decision, TrafficPolicy, Upstream, UpstreamId},
    yaml::{Mark, excerpt},
};

/// What a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// An Upstream, or one port of a Service.
    Upstream(UpstreamId),
    /// Namespace and name.
    Service(String, String),
    /// By its label.
    Route(Kind, Arc<str>),
    /// And the name of the rule.
    Rule(Kind, Arc<str>, String),
    Namespace(String),
}

/// The policy documents for each target, the winner first, each with the place of its reference.
pub(super) type Policies = HashMap<Target, Vec<(usize, Mark)>>;

impl<'a> Context<'a> {
    pub(super) fn attach_policies(&mut self, drafts: &Drafts) -> Policies {
        let mut policies = Policies::new();
        let mut indices: Vec<usize> = drafts.keys().copied().collect();
        indices.sort_unstable();
        let documents: &'a [Loaded] = self.documents;
        for index in indices {
            let at = &documents[index];
            let Document::TrafficPolicy(resource) = &at.document else { continue };
            let spec: &TrafficPolicySpec = &resource.spec;
            let mut own: Vec<Target> = Vec::new();
            for target_ref in &spec.target_refs {
                let Some(target) = self.target(at, target_ref) else { continue };
                if own.contains(&target) {
                    self.fault(at, target_ref.mark, "this target stands here twice");
                    continue;
                }
                own.push(target.clone());
                policies.entry(target).or_default().push((index, target_ref.mark));
            }
        }
        for claims in policies.values_mut() {
            claims.sort_by_key(|(index, _)| age(&documents[*index]));
        }
        self.warn_losers(&policies);
        policies
    }

    fn target(&mut self, at: &Loaded, r: &Spanned<TargetRef>) -> Option<Target> {
        let allowed = [RefKind::Upstream, RefKind::HttpRoute, RefKind::GrpcRoute, RefKind::Service, RefKind::Namespace];
        let reference = Reference::from(r);
        let kind = match self.ref_kind(at, &reference, &allowed)? {
            RefKind::HttpRoute => Kind::HTTPRoute,
            RefKind::GrpcRoute => Kind::GRPCRoute,
            RefKind::Upstream => {
                self.no_section(at, r.section_name.as_ref(), "an Upstream");
                return match self.upstream_named(at, &r.name, r.namespace.as_ref()) {
                    Found::Here(id) => Some(Target::Upstream(id)),
                    Found::Elsewhere => None,
                };
            }
            RefKind::Namespace => {
                self.no_section(at, r.section_name.as_ref(), "a Namespace");
                return self.speaks_for(at, &r.name).then(|| Target::Namespace(r.name.inner.clone()));
            }
            RefKind::Service if self.cluster.is_some() => return self.service_target(at, r),
            // Of a cluster, where the section is a port; `service` says if there is none.
            RefKind::Service => {
                self.service(at, &reference);
                return None;
            }
        };
        let namespace = r.namespace.as_ref();
        if self.cluster.is_some() {
            let kind = if kind == Kind::HTTPRoute { RefKind::HttpRoute } else { RefKind::GrpcRoute };
            if !self.granted(at, kind, self.namespace(at, namespace), &r.name) {
                self.without_effect(at, r.mark);
                return None;
            }
        }
        let Found::Here(route) = self.route(at, kind, &r.name, namespace) else { return None };
        let label = self.label(route);
        let Some(section) = &r.section_name else {
            let whole = !at.may_have(r.mark, &["sectionName"]);
            return whole.then_some(Target::Route(kind, label));
        };
        let (rules, all_known) = rule_names(route);
        if !rules.contains(&section.as_str()) {
            let hint = match crate::suggest::suggest(section, rules.iter().copied()) {
                Some(near) => format!(": did you mean `{near}`?"),
                None if rules.is_empty() => ": none of its rules has a name".into(),
                None => format!("; its rules are {}", excerpt(&rules.join(", "))),
            };
            if all_known {
                self.fault(at, section.mark, format!("{} has no rule `{}`{hint}", route.title(), excerpt(section)));
            }
            return None;
        }
        Some(Target::Rule(kind, label, section.inner.clone()))
    }

    /// A Service, or the port that `sectionName` names.
    fn service_target(&mut self, at: &Loaded, r: &Spanned<TargetRef>) -> Option<Target> {
        let namespace = self.namespace(at, r.namespace.as_ref());
        if !self.granted(at, RefKind::Service, namespace, &r.name) {
            self.without_effect(at, r.mark);
            return None;
        }
        let Some(section) = &r.section_name else {
            return Some(Target::Service(namespace.to_owned(), r.name.inner.clone()));
        };
        let ports = self.upstreams_of(namespace, &r.name, Some(section.as_str()), false);
        ports.first().map(|id| Target::Upstream(*id))
    }

    /// Whether a policy may be for a whole namespace: its own, or, where the authors of the mesh are, any.
    pub(super) fn speaks_for(&mut self, at: &Loaded, namespace: &Spanned<String>) -> bool {
        let Some(cluster) = self.cluster else { return true };
        let own = self.namespace(at, None);
        let may = own == namespace.as_str() || *own == *cluster.mesh_namespace;
        if !may {
            let message = format!(
                "it has no effect: a policy is for its own namespace, unless it stands in `{}`",
                cluster.mesh_namespace
            );
            self.warn(at, namespace.mark, message);
        }
        may
    }

    /// What a policy for an upstream may be for, the most specific first.
    pub(super) fn upstream_targets(&self, id: UpstreamId) -> Vec<Target> {
        let Some(owner) = self.owners.get(id.0 as usize) else { return vec![Target::Upstream(id)] };
        let mut targets = Vec::with_capacity(3);
        match self.service_of(*owner) {
            Some((namespace, name, port)) => {
                targets.extend(self.ports.get(&(namespace, name, port)).map(|port| Target::Upstream(*port)));
                targets.push(Target::Service(namespace.to_owned(), name.to_owned()));
            }
            None => targets.push(Target::Upstream(id)),
        }
        match self.namespace_of(*owner) {
            "" => {}
            namespace => targets.push(Target::Namespace(namespace.to_owned())),
        }
        targets
    }

    fn warn_losers(&mut self, policies: &Policies) {
        let documents: &'a [Loaded] = self.documents;
        let mut targets: Vec<&Target> = policies.keys().collect();
        targets.sort();
        for target in targets {
            let claims = &policies[target];
            let Some(((winner, _), losers)) = claims.split_first() else { continue };
            let winner = &documents[*winner];
            for (loser, mark) in losers {
                let at = &documents[*loser];
                // Without its name it is not known which of them wins.
                if !winner.is_named() || !at.is_named() {
                    continue;
                }
                let message = format!(
                    "{} has no effect on {}: {} at {} wins, which is {}",
                    at.title(),
                    self.target_title(target),
                    winner.title(),
                    winner.origin(winner.mark),
                    why(winner, at),
                );
                self.warn(at, *mark, message);
            }
        }
    }

    fn target_title(&self, target: &Target) -> String {
        match target {
            Target::Upstream(id) => match self.owners.get(id.0 as usize) {
                Some(Owner::Upstream(at)) => format!("Upstream {}", self.label(at)),
                Some(owner) => match self.service_of(*owner) {
                    Some((namespace, name, port)) => format!("Service {namespace}/{name}:{port}"),
                    None => "the pod itself".to_owned(),
                },
                None => "an Upstream".to_owned(),
            },
            Target::Service(namespace, name) => format!("Service {namespace}/{name}"),
            Target::Namespace(name) => format!("Namespace {name}"),
            Target::Route(kind, name) => format!("{} {name}", kind.as_str()),
            Target::Rule(kind, name, rule) => format!("rule {rule} of {} {name}", kind.as_str()),
        }
    }

    /// The policy of an upstream's own requests and connections.
    pub(super) fn apply_policies(
        &mut self,
        upstreams: &mut [Upstream],
        drafts: &Drafts,
        policies: &Policies,
        mesh: &Mesh<'_>,
    ) {
        for (id, upstream) in (0..).zip(upstreams) {
            let targets = self.upstream_targets(UpstreamId(id));
            let owner = self.owners.get(id as usize).copied();
            let layer = owner.map(|owner| mesh.timeouts(self.namespace_of(owner)));
            let policy = self.resolve(&format!("Upstream {}", upstream.name), &targets, drafts, policies, layer);
            let local = matches!(owner, Some(Owner::Local(_)));
            upstream.policy = Arc::new(if local { server_side(policy) } else { policy });
        }
    }

    /// The first policy of the most specific of `targets` that has one, over the defaults of the mesh. Recorded.
    pub(super) fn resolve(
        &mut self,
        subject: &str,
        targets: &[Target],
        drafts: &Drafts,
        policies: &Policies,
        mesh: Option<&TimeoutsLayer>,
    ) -> TrafficPolicy {
        let documents: &'a [Loaded] = self.documents;
        let mut claims = targets
            .iter()
            .enumerate()
            .flat_map(|(rank, t)| policies.get(t).into_iter().flatten().map(move |(index, _)| (rank, *index)));
        let mut policy = TrafficPolicy::default();
        if let Some(layer) = mesh {
            layer.over(&mut policy.timeouts);
        }
        let Some((rank, index)) = claims.next() else { return policy };
        let winner = &documents[index];
        let losers = claims
            .filter(|(_, loser)| *loser != index)
            .take(MAX_LOSERS)
            .map(|(its, loser)| {
                let at = &documents[loser];
                let reason = if its > rank { "less specific".to_owned() } else { lost(winner, at) };
                (at.title(), at.origin(at.mark), reason)
            })
            .collect();
        self.decisions.push(Decision {
            subject: subject.to_owned(),
            winner: winner.title(),
            winner_origin: Some(winner.origin(winner.mark)),
            losers,
        });
        if let Some(draft) = drafts.get(&index) {
            let timeouts = policy.timeouts;
            policy = draft.policy.clone();
            policy.timeouts = timeouts;
            draft.timeouts.over(&mut policy.timeouts);
        }
        policy
    }
}

/// The names of the rules of a route, and whether they are all of them.
fn rule_names(route: &Loaded) -> (Vec<&str>, bool) {
    type Rule<'a> = (Mark, Option<&'a Spanned<String>>);
    let (place, rules): (Mark, Vec<Rule<'_>>) = match &route.document {
        Document::HTTPRoute(r) => (r.spec.mark, r.spec.rules.iter().map(|r| (r.mark, r.name.as_ref())).collect()),
        Document::GRPCRoute(r) => (r.spec.mark, r.spec.rules.iter().map(|r| (r.mark, r.name.as_ref())).collect()),
        _ => return (Vec::new(), true),
    };
    let known = |(mark, name): &Rule<'_>| match name {
        Some(name) => !name.is_stand_in(),
        None => *mark != Mark::NOWHERE && !route.may_have(*mark, &["name"]),
    };
    let all_known = !route.may_have(place, &["rules"]) && rules.iter().all(known);
    (rules.iter().filter_map(|(_, name)| Some(name.as_ref()?.as_str())).collect(), all_known)
}

/// GEP-713: the oldest first, then by namespace and name. What has no time of creation, in a file, is newer.
pub(super) fn age(document: &Loaded) -> (bool, &str, &str, &str) {
    let metadata = document.document.metadata();
    let created = metadata.creation_timestamp.as_deref();
    (created.is_none(), created.unwrap_or_default(), metadata.namespace(), &metadata.name)
}

fn why(winner: &Loaded, loser: &Loaded) -> &'static str {
    let (w, l) = (age(winner), age(loser));
    if (w.0, w.1) == (l.0, l.1) { "the first by name" } else { "older" }
}

pub(super) fn lost(winner: &Loaded, loser: &Loaded) -> String {
    match why(winner, loser) {
        "older" => "newer".into(),
        _ => "later by name".into(),
    }
}
