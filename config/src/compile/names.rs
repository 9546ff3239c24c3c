//! What references mean: kind and group, and the document behind a name.

use crate::{
    compile::{Context, MAX_SUGGESTIONS},
    documents::{BackendRef, Kind, ObjectRef, ParentRef, Spanned, TargetRef},
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
                self.upstreams.entry(document.name()).or_insert((index, document));
            }
        }
        for kind in [Kind::HTTPRoute, Kind::GRPCRoute] {
            for document in self.of_kind(kind) {
                self.routes.entry((kind, document.name())).or_insert(document);
            }
        }
        for document in self.documents {
            self.misnamed.extend(document.probable_name().map(|name| (document.document.kind(), name)));
        }
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
        match self.ref_kind(at, &r, &[RefKind::Upstream, RefKind::Service]) {
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

    /// Outside of a cluster there are no Services.
    pub(super) fn service(&mut self, at: &Loaded, r: &Reference<'_>) {
        if self.standalone {
            let mark = r.kind.map_or(r.name.mark, |k| k.mark);
            let hint = if self.upstreams.contains_key(r.name.as_str()) {
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
        if let Some((index, document)) = self.upstreams.get(name.as_str()) {
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
    pub(super) fn route(&mut self, at: &Loaded, kind: Kind, name: &Spanned<String>) -> Found<&'a Loaded> {
        if let Some(route) = self.routes.get(&(kind, name.as_str())) {
            return Found::Here(route);
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
