//! Sources to documents: each well-formed one, and the faults of all of them.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use serde_json::json;

use crate::{
    Fault, Origin, Severity,
    check::{Cuts, Findings, Unknown, check},
    documents::{Document, Kind, Spanned},
    fault::MAX_FAULTS,
    schema,
    suggest::suggest,
    yaml::{self, Mark, Node, Value, excerpt},
};

#[cfg(test)]
mod tests;

/// Documents of one run, so that what compares each with each stays quick. One proxy uses tens.
const MAX_DOCUMENTS: usize = 10_000;

/// A file, an object of a cluster, or what stands for one.
#[derive(Debug, Clone)]
pub struct Source {
    /// As faults and origins name it; it says also how strictly the text is read.
    pub name: SourceName,
    /// YAML (of which JSON is a part), any number of documents.
    pub text: String,
}

/// What a source is called, and whether people wrote it for this version or a cluster keeps it.
///
/// An object of a cluster may be newer than the program that reads it, and has fields of which Kubernetes alone knows. So in
/// one, unknown fields of our kinds are left out with a warning (in an AccessPolicy they are a fault: without one, a rule may let
/// in more than it says), those of other kinds without a word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceName {
    text: Arc<str>,
    reading: Reading,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    /// Every unknown field is a fault; places are lines.
    File,
    /// A cluster keeps it.
    Object,
    /// Someone wants a cluster to keep it: unknown fields of our kinds are faults.
    Admission,
}

impl SourceName {
    /// Of an object of a cluster: `HTTPRoute shop/payments`.
    #[must_use]
    pub fn object(kind: &str, namespace: &str, name: &str) -> Self {
        let text = if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
        Self { text: text.into(), reading: Reading::Object }
    }

    /// True for an object of a cluster, kept or about to be.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.reading != Reading::File
    }
}

macro_rules! file_names {
    ($($type:ty),*) => {
        $(impl From<$type> for SourceName {
            /// Of a file.
            fn from(name: $type) -> Self {
                Self { text: name.into(), reading: Reading::File }
            }
        })*
    };
}

file_names!(&str, String, Arc<str>);

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::ops::Deref for SourceName {
    type Target = Arc<str>;

    fn deref(&self) -> &Arc<str> {
        &self.text
    }
}

impl Source {
    /// An object of a cluster, as JSON or YAML; `origin` is what [`SourceName::object`] writes.
    #[must_use]
    pub fn object(origin: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        Self { name: SourceName { text: origin.into(), reading: Reading::Object }, text: text.into() }
    }

    /// An object that someone wants a cluster to keep: as [`Source::object`], and unknown fields of our kinds are faults.
    #[must_use]
    pub fn admission(origin: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        Self { name: SourceName { text: origin.into(), reading: Reading::Admission }, text: text.into() }
    }
}

/// A document and where it stands.
pub(crate) struct Loaded {
    pub(crate) document: Document,
    pub(crate) file: Arc<str>,
    pub(crate) mark: Mark,
    cuts: Cuts,
    /// Of an object of a cluster: as it was written, for the paths of its fields.
    tree: Option<Arc<Node>>,
}

impl Loaded {
    pub(crate) fn origin(&self, mark: Mark) -> Origin {
        place(&self.file, self.tree.as_deref(), mark)
    }

    pub(crate) fn name(&self) -> &str {
        &self.document.metadata().name
    }

    /// True if its name and namespace are as written: it can be told apart from others, and sorted among them.
    pub(crate) fn is_named(&self) -> bool {
        let metadata = self.document.metadata();
        !metadata.name.is_stand_in() && !metadata.namespace.as_ref().is_some_and(Spanned::is_stand_in)
    }

    /// True if its namespace is known.
    pub(crate) fn is_whole(&self) -> bool {
        self.cuts.is_empty() && !self.document.metadata().namespace.as_ref().is_some_and(Spanned::is_stand_in)
    }

    /// What this document may be meant to be called, if it has no good name; empty: anything.
    pub(crate) fn probable_name(&self) -> Option<String> {
        let own = &self.document.metadata().name;
        own.is_stand_in().then(|| own.to_lowercase().replace('_', "-"))
    }

    /// Whether one of `fields` may be what an unknown field of the mapping at `place` was meant to be.
    pub(crate) fn may_have(&self, place: Mark, fields: &[&str]) -> bool {
        let meant = self.cuts.get(&place).into_iter().flatten();
        meant.into_iter().any(|near| near.as_deref().is_none_or(|near| fields.contains(&near)))
    }

    /// `KIND NAME`, or `KIND NAMESPACE/NAME`.
    pub(crate) fn title(&self) -> String {
        let metadata = self.document.metadata();
        let (kind, name) = (self.document.kind().as_str(), &*metadata.name);
        if !self.is_named() {
            return kind.to_owned();
        }
        match metadata.namespace() {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        }
    }
}

/// All that sources hold.
#[derive(Default)]
pub(crate) struct Loads {
    pub(crate) documents: Vec<Loaded>,
    /// Name of each document of an unknown kind, and the kind that was probably meant: references to it are not wrong.
    pub(crate) broken: Vec<(Option<Kind>, String)>,
    /// A source could not be read to its end: what is not here may be there.
    pub(crate) lost: bool,
    pub(crate) faults: Vec<Fault>,
}

/// The documents of one source, if it has no fault of form. What they mean is not looked at.
///
/// # Errors
/// Every fault of the form.
pub fn parse(source: &Source) -> Result<Vec<Document>, Vec<Fault>> {
    let loads = load(std::slice::from_ref(source));
    if loads.faults.is_empty() {
        Ok(loads.documents.into_iter().map(|l| l.document).collect())
    } else {
        Err(loads.faults)
    }
}

pub(crate) fn load(sources: &[Source]) -> Loads {
    let mut loads = Loads::default();
    // An object that came to a proxy with several resources is one object: the last that came counts.
    let last: HashMap<&str, usize> =
        sources.iter().enumerate().filter(|(_, s)| s.name.is_object()).map(|(i, s)| (s.name.as_ref(), i)).collect();
    for (index, source) in sources.iter().enumerate() {
        if source.name.is_object() && last.get(source.name.as_ref()) != Some(&index) {
            continue;
        }
        let parsed = yaml::parse(&source.text);
        loads.lost |= parsed.ended_early;
        for fault in parsed.faults {
            loads.fault(source, fault.mark, fault.message);
        }
        for node in parsed.documents {
            if !loads.document(source, node) {
                break;
            }
        }
    }
    loads
}

impl Loads {
    fn fault(&mut self, source: &Source, mark: Mark, message: String) {
        let tree = None;
        self.report(source, tree, Severity::Error, mark, message);
    }

    fn report(&mut self, source: &Source, tree: Option<&Node>, severity: Severity, mark: Mark, message: String) {
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let object = tree.or(source.name.is_object().then_some(&NOTHING));
        self.faults.push(Fault { origin: place(&source.name, object, mark), severity, message });
    }

    /// False: there are too many.
    fn document(&mut self, source: &Source, mut node: Node) -> bool {
        if matches!(node.value, Value::Null) {
            return true;
        }
        if self.documents.len() + self.broken.len() >= MAX_DOCUMENTS {
            self.lost = true;
            self.fault(source, node.mark, format!("more than {MAX_DOCUMENTS} documents"));
            return false;
        }
        if node.get("kind").and_then(Node::as_str) == Some(LIST) {
            return self.list(source, node);
        }
        let kind = match kind_of(&node, source.name.is_object()) {
            Ok(kind) => kind,
            Err((mark, message, near)) => {
                let name = node.get("metadata").and_then(|m| m.get("name")).and_then(Node::as_str);
                self.broken.push((near, name.unwrap_or_default().to_owned()));
                self.fault(source, mark, message);
                return true;
            }
        };
        // Before anything is cut from it.
        let tree = source.name.is_object().then(|| Arc::new(node.clone()));
        let mut found = Findings::new(MAX_FAULTS.saturating_sub(self.faults.len()));
        if tree.is_some() {
            found.unknown = unknown(kind, source.name.reading);
        }
        mend_version(kind, &mut node, &mut found);
        check(schema::internal(kind), &mut node, &mut found);
        for (mark, message) in found.faults {
            self.report(source, tree.as_deref(), Severity::Error, mark, message);
        }
        for (mark, message) in found.warnings {
            self.report(source, tree.as_deref(), Severity::Warning, mark, message);
        }
        match kind.decode(&node) {
            Ok(document) => {
                let file = Arc::clone(&source.name);
                self.documents.push(Loaded { document, file, mark: node.mark, cuts: found.cuts, tree });
            }
            Err(e) => {
                self.lost = true;
                self.fault(source, node.mark, e.to_string());
            }
        }
        true
    }

    /// The items of a `List`, as `kubectl get -o yaml` prints it, are documents like others. One list may hold
    /// another; the nesting of the text bounds that.
    fn list(&mut self, source: &Source, mut node: Node) -> bool {
        let mut found = Findings::new(MAX_FAULTS.saturating_sub(self.faults.len()));
        check(&LIST_SCHEMA, &mut node, &mut found);
        // Without items it is not known what they say.
        self.lost |= node.get("items").is_none_or(|items| items.mark == Mark::NOWHERE);
        for (mark, message) in found.faults {
            self.fault(source, mark, message);
        }
        let Value::Map(entries) = node.value else { return true };
        let items = entries.into_iter().find(|e| e.key == "items").map(|e| e.value.value);
        let Some(Value::Seq(items)) = items else { return true };
        items.into_iter().all(|item| {
            if matches!(item.value, Value::Null) && item.mark != Mark::NOWHERE {
                self.fault(source, item.mark, "expected a document with `apiVersion` and `kind`, found nothing".into());
            }
            self.document(source, item)
        })
    }
}

/// The kind of a document that holds documents.
const LIST: &str = "List";

/// Its form. Kubernetes sets `metadata`.
static LIST_SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "items"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": { "type": "string", "enum": ["v1"] },
            "kind": { "type": "string", "enum": [LIST] },
            "metadata": {},
            "items": { "type": "array", "items": {} },
        },
    })
});

/// What an unknown field of an object is. One that an AccessPolicy would lose could narrow whom it lets in.
fn unknown(kind: Kind, reading: Reading) -> Unknown {
    match kind {
        Kind::AccessPolicy => Unknown::Fault,
        _ if kind.is_ours() && reading == Reading::Admission => Unknown::Fault,
        Kind::Service | Kind::ReferenceGrant => Unknown::Ignore,
        _ => Unknown::Warn,
    }
}

/// For a fault of an object that could not be read.
const NOTHING: Node = Node { mark: Mark::START, value: Value::Null };

/// Line and column in a file; the path of the field in an object of a cluster.
fn place(name: &Arc<str>, object: Option<&Node>, mark: Mark) -> Origin {
    let origin = Origin::new(Arc::clone(name), mark.line, mark.column);
    Origin { path: object.map(|tree| tree.path_to(mark).into()), ..origin }
}

type NoKind = (Mark, String, Option<Kind>);

fn kind_of(node: &Node, object: bool) -> Result<Kind, NoKind> {
    if !matches!(node.value, Value::Map(_)) {
        return Err((
            node.mark,
            format!("expected a document with `apiVersion` and `kind`, found {}", node.describe()),
            None,
        ));
    }
    let Some(kind) = node.get("kind") else {
        return Err((node.mark, "missing field `kind`".into(), None));
    };
    let Some(name) = kind.as_str() else {
        return Err((kind.mark, format!("expected a string, found {}", kind.describe()), None));
    };
    let known = Kind::from_name(name);
    if let Some(kind) = known.filter(|k| !k.is_written() && !object) {
        let instead = match kind {
            Kind::Service => {
                "a Service is an object of a cluster; in a file write an `Upstream` with `endpoints` or `dns`"
            }
            _ => "a ReferenceGrant is an object of a cluster; in a file every reference is allowed",
        };
        return Err((node.get("kind").map_or(node.mark, |k| k.mark), instead.into(), Some(kind)));
    }
    known.ok_or_else(|| {
        let names = || Kind::ALL.iter().map(|k| k.as_str());
        let near = suggest(name, names());
        let hint = match near {
            Some(near) => format!(": did you mean `{near}`?"),
            None => format!("; known are {}", names().collect::<Vec<_>>().join(", ")),
        };
        (kind.mark, format!("unknown kind `{}`{hint}", excerpt(name)), near.and_then(Kind::from_name))
    })
}

/// A wrong version is one fault; the rest of the document is read all the same.
fn mend_version(kind: Kind, node: &mut Node, found: &mut Findings) {
    let Value::Map(entries) = &mut node.value else { return };
    let Some(entry) = entries.iter_mut().find(|e| e.key == "apiVersion") else { return };
    let expected = kind.api_version();
    if let Value::String(version) = &mut entry.value.value
        && version != expected
    {
        // Other versions of these say the same, in what is read of them.
        if !kind.is_written() {
            *version = expected.to_owned();
            return;
        }
        let message = format!("unknown apiVersion `{}` of {}: it is `{expected}`", excerpt(version), kind.as_str());
        found.faults.push((entry.value.mark, message));
        *version = expected.to_owned();
    }
}
