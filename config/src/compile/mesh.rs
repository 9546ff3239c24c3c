//! `MeshPolicy`: which one holds for a namespace, and what it says.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    compile::{
        Context, MAX_LOSERS,
        names::{RefKind, Reference},
        policies::{age, lost},
        traffic::TimeoutsLayer,
    },
    documents::{AttributeWord, CorrelationSpec, Document, Kind, MeshPolicySpec},
    load::Loaded,
    model::{Attribute, Correlation, Decision},
    yaml::Mark,
};

/// The winners, by namespace; the empty one is the mesh.
#[derive(Default)]
pub(super) struct Mesh<'a> {
    winners: BTreeMap<&'a str, (&'a Loaded, &'a MeshPolicySpec, TimeoutsLayer)>,
    nothing: TimeoutsLayer,
}

impl<'a> Mesh<'a> {
    fn winner(&self, namespace: &str) -> Option<&(&'a Loaded, &'a MeshPolicySpec, TimeoutsLayer)> {
        self.winners.get(namespace).or_else(|| self.winners.get(""))
    }

    /// What holds in `namespace`, whole.
    pub(super) fn spec(&self, namespace: &str) -> Option<(&'a Loaded, &'a MeshPolicySpec)> {
        self.winner(namespace).map(|(at, spec, _)| (*at, *spec))
    }

    /// The times that lie under every policy there.
    pub(super) fn timeouts(&self, namespace: &str) -> &TimeoutsLayer {
        self.winner(namespace).map_or(&self.nothing, |(_, _, layer)| layer)
    }

    /// Correlation there.
    pub(super) fn correlation(&self, namespace: &str) -> Correlation {
        let spec = self.winner(namespace).and_then(|(_, spec, _)| spec.correlation.as_ref());
        spec.map(correlation).unwrap_or_default()
    }
}

impl<'a> Context<'a> {
    pub(super) fn mesh(&mut self) -> Mesh<'a> {
        let mut claims: BTreeMap<&'a str, Vec<(&'a Loaded, Mark)>> = BTreeMap::new();
        let mut layers: Vec<(&'a Loaded, &'a MeshPolicySpec, TimeoutsLayer)> = Vec::new();
        for at in self.of_kind(Kind::MeshPolicy) {
            let Document::MeshPolicy(resource) = &at.document else { continue };
            let spec = &resource.spec;
            let mesh = !spec.is_stand_in() && !at.may_have(spec.mark, &["targetRefs"]);
            if spec.target_refs.is_empty() && mesh {
                claims.entry(self.whole(at)).or_default().push((at, resource.metadata.name.mark));
            }
            for target in &spec.target_refs {
                self.no_section(at, target.section_name.as_ref(), "a Namespace");
                let kind = self.ref_kind(at, &Reference::from(target), &[RefKind::Namespace]);
                if kind.is_some() && !target.name.is_stand_in() && self.speaks_for(at, &target.name) {
                    claims.entry(target.name.as_str()).or_default().push((at, target.mark));
                }
            }
            let layer = self.timeouts(at, spec.timeouts.as_deref());
            self.correlation_headers(at, spec);
            layers.push((at, spec, layer));
        }
        let mut mesh = Mesh::default();
        for (namespace, mut list) in claims {
            list.sort_by_key(|(at, _)| age(at));
            let Some(((winner, _), rest)) = list.split_first() else { continue };
            let subject = if namespace.is_empty() { "the mesh".into() } else { format!("Namespace {namespace}") };
            // Without their names it is not known which of them wins.
            for (at, mark) in rest.iter().filter(|(at, _)| winner.is_named() && at.is_named()) {
                let message = format!(
                    "{} has no effect on {subject}: {} at {} wins",
                    at.title(),
                    winner.title(),
                    winner.origin(winner.mark)
                );
                self.warn(at, *mark, message);
            }
            self.decisions.push(Decision {
                subject,
                winner: winner.title(),
                winner_origin: Some(winner.origin(winner.mark)),
                losers: rest
                    .iter()
                    .take(MAX_LOSERS)
                    .map(|(at, _)| (at.title(), at.origin(at.mark), lost(winner, at)))
                    .collect(),
            });
            if let Some(layer) = layers.iter().find(|(at, _, _)| std::ptr::eq(*at, *winner)) {
                mesh.winners.insert(namespace, layer.clone());
            }
        }
        mesh
    }

    /// What a policy without targets is for: the mesh, if it is a file's or its author may speak for everyone; otherwise the
    /// namespace that it stands in.
    fn whole(&self, at: &'a Loaded) -> &'a str {
        let own = self.namespace(at, None);
        if self.cluster.is_none_or(|c| *c.mesh_namespace == *own) { "" } else { own }
    }

    fn correlation_headers(&mut self, at: &Loaded, spec: &MeshPolicySpec) {
        let headers = spec.correlation.iter().flat_map(|c| c.headers.iter().flatten());
        for header in headers {
            let lower = header.to_ascii_lowercase();
            if matches!(lower.as_str(), "host" | "cookie" | "authorization" | "connection" | "traceparent") {
                self.fault(
                    at,
                    header.mark,
                    format!("`{lower}` has a meaning of its own and cannot carry the identifier"),
                );
            }
        }
    }
}

fn correlation(spec: &CorrelationSpec) -> Correlation {
    let mut correlation = Correlation::default();
    if let Some(headers) = &spec.headers {
        let mut names: Vec<Arc<str>> = Vec::new();
        for header in headers {
            let lower = header.to_ascii_lowercase();
            if !names.iter().any(|n| **n == *lower) {
                names.push(lower.into());
            }
        }
        correlation.headers = names;
    }
    if spec.attribute == Some(AttributeWord::Infer) {
        correlation.attribute = Attribute::Infer;
    }
    correlation
}
