//! The policy reference, generated from the document types: every kind, every field, in Markdown.
//!
//! It reads the same schemas as editors and clusters do, so it cannot say another type or bound than the checker. Defaults
//! stand in the descriptions (a default is compiled, not decoded); a sentence that begins with `Default` or `Absent` becomes
//! the column. Examples come from documents that tests validate, found by the path of the field, so none can be out of date,
//! and a field that no document shows is an error here.

mod cells;
mod forms;
mod page;

#[cfg(test)]
mod tests;

use serde_yaml::Value;

use crate::documents::Kind;

/// Documents that show fields of one kind.
#[derive(Debug, Clone)]
pub struct Example {
    /// Which kind it shows; documents of others are what it refers to.
    pub kind: Kind,
    /// Where it stands, relative to the page.
    pub link: String,
    /// The YAML.
    pub text: String,
}

/// The page, in Markdown.
///
/// # Errors
/// The fields, as `KIND PATH`, that no example shows.
pub fn markdown(examples: &[Example]) -> Result<String, Vec<String>> {
    let mut page = page::Page::new(examples);
    for kind in Kind::ALL {
        page.kind(*kind);
    }
    page.finish()
}

/// The documents of one kind in `text`.
fn documents_of(kind: Kind, text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .filter_map(|d| <Value as serde::Deserialize>::deserialize(d).ok())
        .filter(|d| d.get("kind").and_then(Value::as_str) == Some(kind.as_str()))
        .collect()
}
