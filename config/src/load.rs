//! Sources to documents: each well-formed one, and the faults of all of them.

use std::sync::{Arc, LazyLock};

use serde_json::json;

use crate::{
    Fault, Origin, Severity,
    check::{Cuts, Findings, check},
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

/// A file, or what stands for one.
#[derive(Debug, Clone)]
pub struct Source {
    /// As faults and origins name it.
    pub name: Arc<str>,
    /// YAML, any number of documents.
    pub text: String,
}

/// A document and where it stands.
pub(crate) struct Loaded {
    pub(crate) document: Document,
    pub(crate) file: Arc<str>,
    pub(crate) mark: Mark,
    cuts: Cuts,
}

impl Loaded {
    pub(crate) fn origin(&self, mark: Mark) -> Origin {
        Origin::new(self.file.clone(), mark.line, mark.column)
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
    for source in sources {
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
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let origin = Origin::new(source.name.clone(), mark.line, mark.column);
        self.faults.push(Fault { origin, severity: Severity::Error, message });
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
        let kind = match kind_of(&node) {
            Ok(kind) => kind,
            Err((mark, message, near)) => {
                let name = node.get("metadata").and_then(|m| m.get("name")).and_then(Node::as_str);
                self.broken.push((near, name.unwrap_or_default().to_owned()));
                self.fault(source, mark, message);
                return true;
            }
        };
        let mut found = Findings::new(MAX_FAULTS.saturating_sub(self.faults.len()));
        mend_version(kind, &mut node, &mut found);
        check(schema::internal(kind), &mut node, &mut found);
        for (mark, message) in found.faults {
            self.fault(source, mark, message);
        }
        match kind.decode(&node) {
            Ok(document) => {
                let file = source.name.clone();
                self.documents.push(Loaded { document, file, mark: node.mark, cuts: found.cuts });
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

type NoKind = (Mark, String, Option<Kind>);

fn kind_of(node: &Node) -> Result<Kind, NoKind> {
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
    Kind::from_name(name).ok_or_else(|| {
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
        let message = format!("unknown apiVersion `{}` of {}: it is `{expected}`", excerpt(version), kind.as_str());
        found.faults.push((entry.value.mark, message));
        *version = expected.to_owned();
    }
}
