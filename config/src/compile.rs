//! Documents to the model: one pure function, every fault located, every merge decision recorded.
//!
//! The parts, in the order in which they run: names (what references mean), upstreams and services, traffic (each policy
//! alone), policies (who wins), routes (matches, filters, precedence), access, proxy (listeners and hosts). A part
//! reports its faults to [`Context`] and goes on, so that one run finds them all; a model comes out only if there was none.
//!
//! What was not well-formed has a stand-in (`check`). A fault *of* it is never told ([`Context`] sees to that); a part that
//! compares it with something else, or draws on what it says to judge another field, asks `is_stand_in` first.

mod access;
mod discovery;
mod filters;
mod matches;
mod mesh;
mod names;
mod policies;
mod proxy;
mod retry;
mod routes;
mod services;
mod traffic;
mod upstreams;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    Cluster, Fault, Severity, Source,
    compile::services::Owner,
    documents::{Document, Kind},
    fault::MAX_FAULTS,
    load::{Loaded, load},
    model::{Decision, Model, UpstreamId},
    yaml::Mark,
};

pub use services::service_protocol;

/// What came of documents without a fault.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What runs.
    pub model: Model,
    /// What is probably not what was meant.
    pub warnings: Vec<Fault>,
}

/// The model of one proxy: `sources` hold exactly one `Proxy` document, and all that it refers to.
///
/// # Errors
/// Every fault, in the order of the sources and lines, warnings included.
pub fn compile(sources: &[Source]) -> Result<Compiled, Vec<Fault>> {
    finish(run(sources, true, None))
}

/// The model of one proxy in a cluster: its `Proxy` document, and the objects that it was sent.
///
/// What an object refers to and is not among `sources` is no fault: the proxy has not asked for it. A share of requests that
/// would go there is answered 500, as the Gateway API says.
///
/// # Errors
/// Every fault, in the order of the sources and lines, warnings included.
pub fn compile_in(sources: &[Source], cluster: &Cluster) -> Result<Compiled, Vec<Fault>> {
    finish(run(sources, true, Some(cluster)))
}

fn finish((model, faults): (Option<Model>, Vec<Fault>)) -> Result<Compiled, Vec<Fault>> {
    match model {
        Some(model) if faults.iter().all(|f| f.severity == Severity::Warning) => {
            Ok(Compiled { model, warnings: faults })
        }
        _ => Err(faults),
    }
}

/// Every fault and warning of any set of documents.
///
/// With a `Proxy` among them they are what [`compile`] takes. Without one, references to Services are left to a cluster,
/// and so are references to Upstreams where no Upstream is among the documents.
#[must_use]
pub fn validate(sources: &[Source]) -> Vec<Fault> {
    run(sources, false, None).1
}

/// Every fault and warning of objects of a cluster: of one, as admission sees it, or of all that a proxy would be sent.
#[must_use]
pub fn validate_in(sources: &[Source], cluster: &Cluster) -> Vec<Fault> {
    run(sources, false, Some(cluster)).1
}

fn run(sources: &[Source], needs_proxy: bool, cluster: Option<&Cluster>) -> (Option<Model>, Vec<Fault>) {
    let loads = load(sources);
    let has_proxy = loads.documents.iter().any(|d| d.document.kind() == Kind::Proxy)
        || loads.broken.iter().any(|(kind, _)| *kind == Some(Kind::Proxy));
    let may_have_proxy = has_proxy || loads.lost || loads.broken.iter().any(|(kind, _)| kind.is_none());
    let mut context = Context {
        documents: &loads.documents,
        broken: &loads.broken,
        lost: loads.lost,
        standalone: (needs_proxy || has_proxy) && cluster.is_none(),
        cluster,
        faults: loads.faults,
        decisions: Vec::new(),
        upstreams: HashMap::new(),
        routes: HashMap::new(),
        services: HashMap::new(),
        ports: HashMap::new(),
        owners: Vec::new(),
        misnamed: HashSet::new(),
        spent: Spent::default(),
    };
    if needs_proxy && !may_have_proxy {
        let file: Arc<str> = sources.first().map_or_else(|| "config".into(), |s| Arc::clone(&s.name));
        let message = "there is no document of kind `Proxy`, which names the listeners".into();
        let origin = crate::Origin::new(file, 1, 1);
        context.faults.push(Fault { origin, severity: Severity::Error, message });
    }
    context.duplicates();
    let model = context.assemble();
    let mut faults = context.faults;
    let place = |f: &Fault| sources.iter().position(|s| *s.name == f.origin.file);
    faults.sort_by_key(|f| (place(f), f.origin.line, f.origin.column));
    // A document that two references share is reported once.
    faults.dedup_by(|a, b| a.to_string() == b.to_string());
    (model, faults)
}

/// What documents multiply, counted against a bound: a short text must not make a large model.
#[derive(Default)]
struct Spent {
    /// Matches times host names times parents.
    matches: usize,
    /// Regular expressions.
    patterns: usize,
    /// Suggestions for unknown names, each of which compares with every name.
    suggestions: usize,
}

/// Route matches of one model, at some 200 bytes each.
const MAX_MATCHES: usize = 50_000;
/// Regular expressions of one model, each of at most 256 KiB.
const MAX_PATTERNS: usize = 1_000;
/// Suggestions of one run.
const MAX_SUGGESTIONS: usize = 100;
/// Losers that one decision lists.
const MAX_LOSERS: usize = 16;

/// What all parts share.
struct Context<'a> {
    documents: &'a [Loaded],
    broken: &'a [(Option<Kind>, String)],
    /// A source could not be read to its end.
    lost: bool,
    /// There is a proxy to run, so that every reference must lead somewhere.
    standalone: bool,
    /// The documents are objects of this cluster: what is not here is elsewhere.
    cluster: Option<&'a Cluster>,
    faults: Vec<Fault>,
    decisions: Vec<Decision>,
    /// Namespace (in a cluster) and name to document and index among the `Upstream` documents.
    upstreams: HashMap<(&'a str, &'a str), (u32, &'a Loaded)>,
    /// Route documents by kind, namespace (in a cluster) and name.
    routes: HashMap<(Kind, &'a str, &'a str), &'a Loaded>,
    /// Services by namespace and name.
    services: HashMap<(&'a str, &'a str), &'a Loaded>,
    /// The upstream of each Service port.
    ports: HashMap<(&'a str, &'a str, u16), UpstreamId>,
    /// Whose each upstream is, by its index.
    owners: Vec<Owner<'a>>,
    /// What documents without a good name may be meant to be called; empty: anything.
    misnamed: HashSet<(Kind, String)>,
    spent: Spent,
}

impl<'a> Context<'a> {
    fn fault(&mut self, document: &Loaded, mark: Mark, message: impl Into<String>) {
        self.push(document, mark, Severity::Error, message.into());
    }

    fn warn(&mut self, document: &Loaded, mark: Mark, message: impl Into<String>) {
        self.push(document, mark, Severity::Warning, message.into());
    }

    /// For what the mapping at `place` lacks, which is one of `fields`: no fault if an unknown field was meant to be it.
    fn missing(&mut self, document: &Loaded, place: Mark, fields: &[&str], message: impl Into<String>) {
        if !document.may_have(place, fields) {
            self.fault(document, place, message);
        }
    }

    fn push(&mut self, document: &Loaded, mark: Mark, severity: Severity, message: String) {
        // A stand-in: its fault has been told.
        if mark == Mark::NOWHERE {
            return;
        }
        // Each severity apart: many warnings must not hide the one error.
        if self.faults.len() >= MAX_FAULTS
            && self.faults.iter().filter(|f| f.severity == severity).count() >= MAX_FAULTS
        {
            return;
        }
        self.faults.push(Fault { origin: document.origin(mark), severity, message });
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Loaded> + use<'a> {
        self.documents.iter().filter(move |d| d.document.kind() == kind)
    }

    /// Names are unique by kind and namespace; those of upstreams in a proxy by name alone, which is their label.
    fn duplicates(&mut self) {
        let mut seen: HashMap<(Kind, &str, &str), &Loaded> = HashMap::new();
        for document in self.documents {
            let metadata = document.document.metadata();
            let kind = document.document.kind();
            let mark = metadata.name.mark;
            let one = self.standalone && kind == Kind::Upstream;
            if metadata.name.is_stand_in() || !(one || document.is_named()) {
                continue;
            }
            let namespace = if one { "" } else { metadata.namespace() };
            if let Some(first) = seen.get(&(kind, namespace, document.name())) {
                let place = first.origin(first.document.metadata().name.mark);
                self.fault(document, mark, format!("{} stands twice, first at {place}", document.title()));
            } else {
                seen.insert((kind, namespace, document.name()), document);
            }
        }
        for second in self.of_kind(Kind::Proxy).skip(1) {
            self.fault(second, second.mark, "a second `Proxy`: one process runs exactly one");
        }
    }

    fn assemble(&mut self) -> Option<Model> {
        self.index_names();
        let mesh = self.mesh();
        let mut upstreams = self.compile_upstreams();
        let traffic = self.compile_traffic();
        let policies = self.attach_policies(&traffic);
        self.apply_policies(&mut upstreams, &traffic, &policies, &mesh);
        self.attach_routes(&mut upstreams, &traffic, &policies, &mesh);
        self.attach_access(&mut upstreams);
        let mut proxies = self.of_kind(Kind::Proxy);
        let proxy = proxies.next()?;
        let hosts = self.host_table(&upstreams);
        // Only the first one runs; the others are faults, and what they say is checked.
        for other in proxies {
            let Document::Proxy(resource) = &other.document else { continue };
            self.listeners(other, &resource.spec, &upstreams, &hosts, &mesh);
        }
        let Document::Proxy(resource) = &proxy.document else { return None };
        let settings = self.settings(proxy, &resource.spec, &mesh);
        let listeners = self.listeners(proxy, &resource.spec, &upstreams, &hosts, &mesh);
        self.check_identity(proxy, &resource.spec);
        let upstreams = upstreams.into_iter().map(Arc::new).collect();
        Some(Model { proxy: settings, listeners, upstreams, decisions: std::mem::take(&mut self.decisions) })
    }
}
