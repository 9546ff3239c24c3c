//! What references mean: kind and group, and the document behind a name.

use crate::{
    compile::{Context, MAX_SUGGESTIONS, services::Owner},
    documents::{BackendRef, Document, Kind, OUTRIGGER, ObjectRef, ParentRef, Spanned, TargetRef},
    load::Loaded,
    model::UpstreamId,
    suggest::suggest,
    yaml::{Mark, excerpt},
};

/// What a reference can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefKind {
    Upstream,
    Service,
    HttpRoute,
    GrpcRoute,
    Namespace,
}

impl RefKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "Upstream",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::Namespace => "Namespace",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Upstream => "outrigger.dev",
            Self::Service | Self::Namespace => "",
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io",
        }
    }
}

/// The parts that every kind of reference has.
pub(super) struct Reference<'a> {
    group: Option<&'a Spanned<String>>,
    kind: Option<&'a Spanned<String>>,
    pub(super) name: &'a Spanned<String>,
    namespace: Option<&'a Spanned<String>>,
    port: Option<&'a Spanned<u16>>,
    /// Of the whole.
    mark: Mark,
}

macro_rules! reference {
    ($($type:ty),*) => {
        $(impl<'a> From<&'a Spanned<$type>> for Reference<'a> {
            fn from(r: &'a Spanned<$type>) -> Self {
                Self {
                    group: r.group.as_ref(),
                    kind: r.kind.as_ref(),
                    name: &r.name,
                    namespace: r.namespace.as_ref(),
                    port: r.port.as_ref(),
                    mark: r.mark,
                }
            }
        })*
    };
}

reference!(ObjectRef, ParentRef, BackendRef);

impl<'a> From<&'a Spanned<TargetRef>> for Reference<'a> {
    fn from(r: &'a Spanned<TargetRef>) -> Self {
        Self {
            group: r.group.as_ref(),
            kind: Some(&r.kind),
            name: &r.name,
            namespace: r.namespace.as_ref(),
            port: None,
            mark: r.mark,
        }
    }
}

/// What came of looking a name up.
pub(super) enum Found<T> {
    Here(T),
    /// Not here, and that is no fault, or one already reported.
    Elsewhere,
}

impl<'a> Context<'a> {
    pub(super) fn index_names(&mut self) {
        for (index, document) in (0..).zip(self.of_kind(Kind::Upstream)) {
            if !document.name().is_empty() {
                let namespace = self.namespace(document, None);
                self.upstreams.entry((namespace, document.name())).or_insert((index, document));
            }
            self.owners.push(Owner::Upstream(document));
        }
        for kind in [Kind::HTTPRoute, Kind::GRPCRoute] {
            for document in self.of_kind(kind) {
                let namespace = self.namespace(document, None);
                self.routes.entry((kind, namespace, document.name())).or_insert(document);
            }
        }
        for document in self.documents {
            self.misnamed.extend(document.probable_name().map(|name| (document.document.kind(), name)));
        }
    }

    /// The namespace of what `at` says is in `said`: its own if it says nothing. Files have no namespaces to tell names apart.
    pub(super) fn namespace<'n>(&self, at: &'n Loaded, said: Option<&'n Spanned<String>>) -> &'n str {
        match (self.cluster, said) {
            (None, _) => "",
            (Some(_), Some(said)) => said.as_str(),
            (Some(_), None) => at.document.metadata().namespace(),
        }
    }

    /// What a document is called in metrics: `NAMESPACE/NAME` in a cluster.
    pub(super) fn label(&self, at: &Loaded) -> std::sync::Arc<str> {
        match self.namespace(at, None) {
            "" => at.name().into(),
            namespace => format!("{namespace}/{}", at.name()).into(),
        }
    }

    /// Whether `at` may refer to something of another namespace: a ReferenceGrant there says so.
    pub(super) fn granted(&self, at: &Loaded, kind: RefKind, namespace: &str, name: &str) -> bool {
        let own = self.namespace(at, None);
        if own == namespace {
            return true;
        }
        let (its_kind, version) = (at.document.kind().as_str(), at.document.kind().api_version());
        let its_group = version.split_once('/').map_or("", |(group, _)| group);
        self.of_kind(Kind::ReferenceGrant).any(|grant| {
            let Document::ReferenceGrant(resource) = &grant.document else { return false };
            let (from, to) = (&resource.spec.from, &resource.spec.to);
            self.namespace(grant, None) == namespace
                && from.iter().any(|f| f.group == its_group && f.kind == its_kind && f.namespace == own)
                && to.iter().any(|t| {
                    t.group == kind.group() && t.kind == kind.as_str() && t.name.as_ref().is_none_or(|n| n == name)
                })
        })
    }

    /// Which of `allowed` the reference names. `None`: a fault has been reported.
    pub(super) fn ref_kind(&mut self, at: &Loaded, r: &Reference<'_>, allowed: &[RefKind]) -> Option<RefKind> {
        if r.kind.is_none() && at.may_have(r.mark, &["kind"]) {
            return None;
        }
        let name = r.kind.map_or("Service", |k| k.as_str());
        let Some(kind) = allowed.iter().copied().find(|k| k.as_str() == name) else {
            let mark = r.kind.map_or(r.name.mark, |k| k.mark);
            let words = allowed.iter().map(|k| k.as_str());
            let message = match suggest(name, words.clone()) {
                Some(near) => format!("`{}` cannot stand here: did you mean `{near}`?", excerpt(name)),
                None => {
                    let words: Vec<String> = words.map(|w| format!("`{w}`")).collect();
                    format!("`{}` cannot stand here; known here: {}", excerpt(name), words.join(", "))
                }
            };
            self.fault(at, mark, message);
            return None;
        };
        if let Some(group) = r.group.filter(|g| g.as_str() != kind.group()) {
            let right = match kind.group() {
                "" => "empty (`\"\"`)".into(),
                right => format!("`{right}`"),
            };
            self.fault(at, group.mark, format!("the group of {} is {right}", kind.as_str()));
        }
        Some(kind)
    }

    /// The upstream that a reference to an Upstream or Service leads to.
    pub(super) fn upstream<'r>(&mut self, at: &Loaded, r: impl Into<Reference<'r>>) -> Found<UpstreamId> {
        let r = r.into();
        if self.cluster.is_some() && self.is_foreign(at, &r) {
            return Found::Elsewhere;
        }
        match self.ref_kind(at, &r, &[RefKind::Upstream, RefKind::Service]) {
            Some(RefKind::Service) if self.cluster.is_some() => self.service_port(at, &r),
            Some(RefKind::Service) => {
                self.service(at, &r);
                Found::Elsewhere
            }
            Some(_) => {
                if let Some(port) = r.port {
                    self.warn(at, port.mark, "`port` does nothing here: an Upstream has its own");
                }
                self.upstream_named(at, r.name, r.namespace)
            }
            None => Found::Elsewhere,
        }
    }

    /// A reference to a kind that is not ours: what the Gateway API calls `InvalidKind`, and no fault of form.
    fn is_foreign(&mut self, at: &Loaded, r: &Reference<'_>) -> bool {
        let kind = r.kind.map_or("Service", |k| k.as_str());
        let known = [RefKind::Upstream, RefKind::Service].into_iter().find(|k| k.as_str() == kind);
        if known.is_some_and(|k| r.group.is_none_or(|g| g.as_str() == k.group())) {
            return false;
        }
        let mark = r.kind.map_or(r.mark, |k| k.mark);
        let message =
            format!("`{}` is no Service and no Upstream of {OUTRIGGER}: its share is answered 500", excerpt(kind));
        self.warn(at, mark, message);
        true
    }

    fn service_port(&mut self, at: &Loaded, r: &Reference<'_>) -> Found<UpstreamId> {
        let Some(port) = r.port else {
            self.fault(at, r.name.mark, "a Service needs `port`: one of the Service's own");
            return Found::Elsewhere;
        };
        let namespace = self.namespace(at, r.namespace);
        if !self.granted(at, RefKind::Service, namespace, r.name) {
            self.not_granted(at, r, RefKind::Service, namespace);
            return Found::Elsewhere;
        }
        match self.ports.get(&(namespace, r.name.as_str(), port.inner)) {
            Some(id) => Found::Here(*id),
            None => Found::Elsewhere,
        }
    }

    /// Whether grants that exist would be here. A document that is looked at alone comes without.
    fn knows_grants(&self) -> bool {
        self.documents.len() > 1
    }

    /// A policy that refers into a namespace which does not let it.
    pub(super) fn without_effect(&mut self, at: &Loaded, mark: Mark) {
        if self.knows_grants() {
            self.warn(at, mark, "it has no effect: no ReferenceGrant lets it refer to that namespace");
        }
    }

    fn not_granted(&mut self, at: &Loaded, r: &Reference<'_>, kind: RefKind, namespace: &str) {
        if !self.knows_grants() {
            return;
        }
        let message = format!(
            "no ReferenceGrant in namespace `{}` lets {} refer to {} `{}`: its share is answered 500",
            excerpt(namespace),
            at.title(),
            kind.as_str(),
            excerpt(r.name)
        );
        self.warn(at, r.name.mark, message);
    }

    /// The upstreams to which a route is attached. A route of another namespace than the Service's is a consumer's: it is for
    /// the requests of its own namespace.
    pub(super) fn parents(&mut self, at: &Loaded, parent: &Spanned<ParentRef>) -> Vec<UpstreamId> {
        let Some(cluster) = self.cluster else {
            // The section of a Service is a port of it, in a cluster.
            if parent.kind.as_ref().is_some_and(|k| k.as_str() == RefKind::Upstream.as_str()) {
                self.no_section(at, parent.section_name.as_ref(), "an Upstream");
            }
            return match self.upstream(at, parent) {
                Found::Here(id) => vec![id],
                Found::Elsewhere => Vec::new(),
            };
        };
        let namespace = self.namespace(at, parent.namespace.as_ref());
        let own = self.namespace(at, None);
        if own != namespace && *own != *cluster.namespace {
            return Vec::new();
        }
        // A Gateway is another controller's; it is also what the Gateway API means by none.
        match parent.kind.as_ref().map(|k| k.as_str()) {
            Some("Upstream") => {
                self.no_section(at, parent.section_name.as_ref(), "an Upstream");
                let found = self.upstreams.get(&(namespace, parent.name.as_str()));
                found.map(|(index, _)| UpstreamId(*index)).into_iter().collect()
            }
            Some("Service") => {
                let section = parent.section_name.as_ref().map(|s| s.as_str());
                let mut ids = self.upstreams_of(namespace, &parent.name, section, false);
                if let Some(port) = &parent.port {
                    let wanted = self.ports.get(&(namespace, parent.name.as_str(), port.inner)).copied();
                    ids.retain(|id| Some(*id) == wanted);
                }
                ids
            }
            _ => Vec::new(),
        }
    }

    /// Outside of a cluster there are no Services.
    pub(super) fn service(&mut self, at: &Loaded, r: &Reference<'_>) {
        if self.standalone {
            let mark = r.kind.map_or(r.name.mark, |k| k.mark);
            let hint = if self.upstreams.contains_key(&("", r.name.as_str())) {
                format!(": there is an Upstream `{}`, `kind: Upstream` means it", r.name.as_str())
            } else {
                ": name an Upstream (`kind: Upstream`)".into()
            };
            self.fault(at, mark, format!("a Service is known only in a cluster{hint}"));
        }
    }

    pub(super) fn upstream_named(
        &mut self,
        at: &Loaded,
        name: &Spanned<String>,
        namespace: Option<&Spanned<String>>,
    ) -> Found<UpstreamId> {
        if self.cluster.is_some() {
            let namespace = self.namespace(at, namespace);
            if !self.granted(at, RefKind::Upstream, namespace, name) {
                if self.knows_grants() {
                    let message = format!("no ReferenceGrant in namespace `{}` allows this", excerpt(namespace));
                    self.warn(at, name.mark, message);
                }
                return Found::Elsewhere;
            }
            return match self.upstreams.get(&(namespace, name.as_str())) {
                Some((index, _)) => Found::Here(UpstreamId(*index)),
                None => Found::Elsewhere,
            };
        }
        if let Some((index, document)) = self.upstreams.get(&("", name.as_str())) {
            let its = document.document.metadata().namespace();
            let known = !document.document.metadata().namespace.as_ref().is_some_and(Spanned::is_stand_in);
            match namespace.filter(|n| n.as_str() != its && self.standalone && known) {
                Some(n) => {
                    self.fault(at, n.mark, format!("there is no Upstream `{}` in this namespace", name.as_str()))
                }
                None => return Found::Here(UpstreamId(*index)),
            }
            return Found::Elsewhere;
        }
        let known = self.standalone || !self.upstreams.is_empty();
        if known {
            self.unknown(at, Kind::Upstream, name);
        }
        Found::Elsewhere
    }

    /// The route document that a policy names.
    pub(super) fn route(
        &mut self,
        at: &Loaded,
        kind: Kind,
        name: &Spanned<String>,
        namespace: Option<&Spanned<String>>,
    ) -> Found<&'a Loaded> {
        let namespace = self.namespace(at, namespace);
        if let Some(route) = self.routes.get(&(kind, namespace, name.as_str())) {
            return Found::Here(route);
        }
        if self.cluster.is_some() {
            return Found::Elsewhere;
        }
        if self.standalone || self.of_kind(kind).next().is_some() {
            self.unknown(at, kind, name);
        }
        Found::Elsewhere
    }

    fn unknown(&mut self, at: &Loaded, kind: Kind, name: &Spanned<String>) {
        let broken = self.broken.iter().any(|(k, n)| k.is_none_or(|k| k == kind) && n == name.as_str());
        let misnamed = ["", name.as_str()].iter().any(|n| self.misnamed.contains(&(kind, (*n).to_owned())));
        if self.lost || broken || misnamed || name.is_stand_in() {
            return;
        }
        self.spent.suggestions += 1;
        let hint = if self.of_kind(kind).next().is_none() {
            format!(": there is no {} at all", kind.as_str())
        } else if self.spent.suggestions > MAX_SUGGESTIONS {
            String::new()
        } else {
            // A name that cannot be is no advice.
            let named = self.of_kind(kind).filter(|d| !d.document.metadata().name.is_stand_in());
            let mut names: Vec<&str> = named.map(Loaded::name).collect();
            names.sort_unstable();
            suggest(name, names.into_iter()).map_or_else(String::new, |near| format!(": did you mean `{near}`?"))
        };
        self.fault(at, name.mark, format!("there is no {} `{}`{hint}", kind.as_str(), excerpt(name)));
    }

    /// A `sectionName` where the target has no sections.
    pub(super) fn no_section(&mut self, at: &Loaded, section: Option<&Spanned<String>>, kind: &str) {
        if let Some(section) = section {
            let mark: Mark = section.mark;
            self.fault(at, mark, format!("`sectionName` names a rule of a route; {kind} has none"));
        }
    }
}
