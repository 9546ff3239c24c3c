//! `AccessPolicy` documents: attached to the upstreams that they guard. All of them hold; none wins over another.

use std::sync::Arc;

use crate::{
    access,
    compile::{
        Context,
        names::{Found, RefKind, Reference},
        traffic::mode,
    },
    documents::{
        AccessPolicySpec, AccessRuleSpec, ActionWord, Document, Kind, OperationSpec, SourceSpec, Spanned, TargetRef,
    },
    load::Loaded,
    matching::normal::{self, PathUse},
    model::{AccessAction, AccessPolicy, AccessRule, Operation, Source, Upstream},
    yaml::excerpt,
};

impl Context<'_> {
    pub(super) fn attach_access(&mut self, upstreams: &mut [Upstream]) {
        let documents: Vec<&Loaded> = self.of_kind(Kind::AccessPolicy).collect();
        let hosts: Vec<&Loaded> = self.of_kind(Kind::Upstream).collect();
        for at in documents {
            let Document::AccessPolicy(resource) = &at.document else { continue };
            let policy = Arc::new(self.access_policy(at, &resource.spec));
            let mut guarded = vec![false; upstreams.len()];
            for target in &resource.spec.target_refs {
                self.guarded(at, target, &hosts, &mut guarded);
            }
            for (upstream, _) in upstreams.iter_mut().zip(&guarded).filter(|(_, guarded)| **guarded) {
                upstream.access.push(policy.clone());
            }
        }
    }

    /// Marks what `target` names.
    fn guarded(&mut self, at: &Loaded, target: &Spanned<TargetRef>, hosts: &[&Loaded], guarded: &mut [bool]) {
        let reference = Reference::from(target);
        let allowed = [RefKind::Upstream, RefKind::Service, RefKind::Namespace];
        let mut add = |index: usize| {
            if let Some(guarded) = guarded.get_mut(index) {
                *guarded = true;
            }
        };
        match self.ref_kind(at, &reference, &allowed) {
            Some(RefKind::Upstream) => {
                self.no_section(at, target.section_name.as_ref(), "an Upstream");
                if let Found::Here(id) = self.upstream_named(at, &target.name, target.namespace.as_ref()) {
                    add(id.0 as usize);
                }
            }
            Some(RefKind::Namespace) => {
                self.no_section(at, target.section_name.as_ref(), "a Namespace");
                if self.cluster.is_some() {
                    return self.guarded_namespace(at, &target.name).into_iter().for_each(add);
                }
                let inside = |d: &Loaded| d.document.metadata().namespace() == target.name.as_str();
                let known = hosts.iter().all(|d| d.is_whole());
                if self.standalone && !self.lost && known && !hosts.iter().any(|d| inside(d)) {
                    let message = format!("no Upstream is in namespace `{}`", excerpt(&target.name));
                    self.warn(at, target.name.mark, message);
                }
                hosts.iter().enumerate().filter(|(_, d)| inside(d)).for_each(|(index, _)| add(index));
            }
            Some(_) if self.cluster.is_some() => {
                let section = target.section_name.as_ref().map(|s| s.as_str());
                self.guarded_service(at, target, section).into_iter().for_each(add);
            }
            Some(_) => self.service(at, &reference),
            None => {}
        }
    }

    fn access_policy(&mut self, at: &Loaded, spec: &Spanned<AccessPolicySpec>) -> AccessPolicy {
        if spec.rules.is_empty() && !spec.is_stand_in() && !at.may_have(spec.mark, &["rules"]) {
            let mark = at.document.metadata().name.mark;
            self.warn(at, mark, format!("{} has no `rules`: it lets every caller pass", at.title()));
        }
        AccessPolicy {
            name: at.name().into(),
            mode: mode(spec.mode),
            rules: spec.rules.iter().map(|r| self.access_rule(at, r)).collect(),
            origin: at.origin(at.mark),
        }
    }

    fn access_rule(&mut self, at: &Loaded, spec: &AccessRuleSpec) -> AccessRule {
        AccessRule {
            action: match spec.action {
                None | Some(ActionWord::Allow) => AccessAction::Allow,
                Some(ActionWord::Deny) => AccessAction::Deny,
            },
            from: spec.from.iter().map(|s| self.callers(at, s)).collect(),
            to: spec.to.iter().map(|o| self.operation(at, o)).collect(),
        }
    }

    fn callers(&mut self, at: &Loaded, spec: &Spanned<SourceSpec>) -> Source {
        if spec.identities.is_empty() && spec.namespaces.is_empty() && spec.cidrs.is_empty() {
            // An empty source would mean every caller: never by accident.
            self.missing(
                at,
                spec.mark,
                &["identities", "namespaces", "cidrs"],
                "this needs `identities`, `namespaces` or `cidrs`; leave `from` out for every caller",
            );
        }
        let list = |names: &[Spanned<String>]| names.iter().map(|n| Arc::from(n.as_str())).collect();
        Source {
            identities: list(&spec.identities),
            namespaces: list(&spec.namespaces),
            // The checker has passed them.
            cidrs: spec.cidrs.iter().filter_map(|c| c.parse().ok()).collect(),
        }
    }

    fn operation(&mut self, at: &Loaded, spec: &Spanned<OperationSpec>) -> Operation {
        if spec.methods.is_empty() && spec.paths.is_empty() && spec.headers.is_empty() && spec.ports.is_empty() {
            self.missing(
                at,
                spec.mark,
                &["methods", "paths", "headers", "ports"],
                "this needs `methods`, `paths`, `headers` or `ports`; leave `to` out for every operation",
            );
        }
        for path in &spec.paths {
            if let Some(why) = bad_path(path) {
                self.fault(at, path.mark, format!("`{}` is not a path: {why}", excerpt(path)));
            }
        }
        Operation {
            methods: spec.methods.iter().filter_map(|m| m.parse().ok()).collect(),
            paths: spec.paths.iter().map(|p| Arc::from(p.as_str())).collect(),
            headers: self.value_matches(at, &spec.headers, true),
            ports: spec.ports.iter().map(|p| p.inner).collect(),
        }
    }
}

/// Why no path, in the normal form in which paths are judged, can be `path` or begin with it: a deny rule that never holds
/// is an open door.
fn bad_path(path: &str) -> Option<String> {
    let stem = path.strip_suffix('*').unwrap_or(path);
    if !(path.starts_with('/') || path == "*") || stem.contains('*') {
        return Some("it starts with `/`, and has a `*` at its end or none".to_owned());
    }
    if stem.contains(['?', '#']) {
        return Some("it has a query or fragment, which are no part of a path".to_owned());
    }
    if stem.bytes().any(|b| !b.is_ascii_graphic()) {
        return Some("blanks, control and non-ASCII characters are written percent-encoded".to_owned());
    }
    // What follows a prefix may make a segment of its last characters that they are not by themselves.
    let prefix = stem.len() < path.len();
    let example = if prefix { format!("{stem}x") } else { stem.to_owned() };
    match normal::path(&example, PathUse::Access) {
        Err(unclear) => Some(format!("no request with such a path is let through: {unclear}")),
        Ok(Some(normal)) if !access::same_path(&normal, &example) => {
            let written = if prefix { format!("{}*", normal.trim_end_matches('x')) } else { normal };
            Some(format!("paths are judged in normal form, `{written}`"))
        }
        Ok(_) => None,
    }
}
