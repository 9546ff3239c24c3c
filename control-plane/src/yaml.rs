//! YAML text that is changed where a value changes, and nowhere else.
//!
//! People keep their manifests in files with comments, an order and a style of their own. [`Document::rewrite`] takes what a
//! document says and what it should say, and touches only the lines between the two; comments, blank lines, quoting, line ends and the
//! way lists are indented stay. JSON is YAML in flow style and goes the same way.
//!
//! In the order of the work: text becomes documents with values (`read`) and nodes that know where they stand (`place`, `node`);
//! the difference of two values becomes edits of the text (`plan` and `flow`, with `align` for lists); what is new is written in
//! the style of the document (`style`, `write`, `scalar`).
//!
//! It is never wrong: after the edits the text is read again, and if it does not say exactly what it should, the document is written
//! anew from its value ([`Edited::anew`]: its comments are lost, and whoever asked is told). That also holds where an edit cannot be
//! local: a merge key (`<<`) whose source changes, a key in the `?` form. An alias whose target and value part ways is
//! replaced by its value.
//!
//! Values are those that `kubectl` sends to the API server: YAML 1.1 words (`yes`, `on`), octal (`0644`), merge keys.
//! Everything is bounded, because a manifest may come from a stranger: [`MAX_BYTES`], [`MAX_DEPTH`], [`MAX_NODES`] and [`MAX_ALIASED`].

mod align;
mod flow;
mod node;
mod place;
mod plan;
mod read;
mod scalar;
mod style;
mod text;
mod whole;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;
use thiserror::Error;

pub use self::{read::read, write::document as to_yaml};

/// Bytes of one source: a file of manifests. Kubernetes takes 1.5 MiB per object.
pub const MAX_BYTES: usize = 16 << 20;
/// Nesting. The schemas of custom resource definitions are the deepest there are, with about 60 levels.
pub const MAX_DEPTH: usize = 128;
/// Nodes of one source.
pub const MAX_NODES: usize = 1_000_000;
/// Nodes that anchors and aliases copy, per source: a "billion laughs" ends there.
pub const MAX_ALIASED: usize = 100_000;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {message}")]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Why a document was not edited.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// The text cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There are fewer documents.
    #[error("there is no document {0}: the text has {1}")]
    NoDocument(usize, usize),
    /// The document does not say what the caller believes it says.
    #[error("document {0} is not what it was when it was read")]
    Stale(usize),
}

/// The documents of one text. Their texts, one after the other, are the text.
#[derive(Debug, Clone)]
pub struct Stream<'a> {
    /// A byte order mark, if there is one.
    pub mark: &'a str,
    /// In the order of the text. A text without any has none; an empty one between two `---` counts.
    pub documents: Vec<Document<'a>>,
    /// What follows the last document, or all of a text that has none: comments.
    pub rest: &'a str,
}

/// One document.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// All of its text, with its markers, directives, and the comments before and behind.
    pub text: &'a str,
    /// Line where its value starts, from 1, in the whole text.
    pub line: usize,
    /// What it says.
    pub value: Value,
}

/// A document that says something else now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Its whole text.
    pub text: String,
    /// It was written anew, without its comments: why.
    pub anew: Option<Anew>,
}

/// Why a document could not be edited in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// The change reaches into what an anchor or a merge key shares.
    Shared,
    /// It is written in a form in which single values cannot be changed.
    Form,
}

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "an anchor or a merge key (`<<`) shares what changes",
            Self::Form => "it is written in a form in which single values cannot be changed",
        })
    }
}

impl Document<'_> {
    /// The text of this document once it says `after`. Nothing but what differs is touched, or all of it ([`Edited::anew`]).
    #[must_use]
    pub fn rewrite(&self, after: &Value) -> Edited {
        if self.value == *after {
            return Edited { text: self.text.to_owned(), anew: None };
        }
        let why = match plan::edit(self.text, &self.value, after) {
            Ok(text) if says(&text, after) => return Edited { text, anew: None },
            Ok(_) => Anew::Form,
            Err(why) => why,
        };
        Edited { text: whole::rewrite(self.text, after), anew: Some(why) }
    }
}

/// Document `document` of `text` (from 0) says `after` instead of `before`; everything else stays as it is, to the byte.
///
/// # Errors
/// The text cannot be read, has no such document, or that one does not say `before`.
pub fn edit(text: &str, document: usize, before: &Value, after: &Value) -> Result<String, EditError> {
    let stream = read(text)?;
    let count = stream.documents.len();
    let found = stream.documents.get(document).ok_or(EditError::NoDocument(document, count))?;
    if found.value != *before {
        return Err(EditError::Stale(document));
    }
    let edited = found.rewrite(after).text;
    let mut whole = String::with_capacity(text.len() + edited.len().saturating_sub(found.text.len()));
    whole.push_str(stream.mark);
    for (index, part) in stream.documents.iter().enumerate() {
        whole.push_str(if index == document { &edited } else { part.text });
    }
    whole.push_str(stream.rest);
    Ok(whole)
}

/// Whether `text` is one document that says exactly this.
fn says(text: &str, value: &Value) -> bool {
    read(text).is_ok_and(|stream| matches!(&*stream.documents, [one] if one.value == *value))
}
