//! The cells of a row: what a schema says about one field, in words.

use serde_json::Value as Schema;
use serde_yaml::Value;

use super::forms;

/// Longest example in a cell, in characters; longer ones are in the document above.
const MAX_EXAMPLE: usize = 72;

/// A description, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// What the field is for.
    pub(super) text: String,
    /// What holds where it is absent; empty if nothing is said.
    pub(super) default: String,
    /// Words of an enumeration, and what each means.
    pub(super) words: Vec<(String, String)>,
}

/// Takes the description of `schema` apart. Words of an enumeration stand behind an empty line (see `schema::normalise`);
/// those of a list stand in its items.
pub(super) fn meaning(schema: &Schema) -> Meaning {
    let description = |s: &Schema| s["description"].as_str().unwrap_or_default().to_owned();
    let own = description(schema);
    let (text, words) = own.split_once("\n\n").unwrap_or((&own, ""));
    let inner = description(&schema["items"]);
    let words = if words.is_empty() { inner.split_once("\n\n").map_or("", |(_, w)| w) } else { words };
    let mut meaning = Meaning::default();
    for sentence in sentences(&text.replace('\n', " ")) {
        match default_of(&sentence) {
            Some(default) if meaning.default.is_empty() => meaning.default = default,
            _ => {
                if !meaning.text.is_empty() {
                    meaning.text.push(' ');
                }
                meaning.text.push_str(&sentence);
            }
        }
    }
    if meaning.default.is_empty() {
        meaning.default = in_parentheses(&meaning.text);
    }
    let pairs = words.lines().filter_map(|l| l.strip_prefix('`')?.split_once("`: "));
    meaning.words = pairs.map(|(word, means)| (word.to_owned(), means.to_owned())).collect();
    meaning
}

/// `Default 2.`, `Default: none.` and `Absent: no breaker.` say what holds where the field is absent.
fn default_of(sentence: &str) -> Option<String> {
    let said = sentence.strip_suffix('.').unwrap_or(sentence);
    if let Some(default) = said.strip_prefix("Default: ").or_else(|| said.strip_prefix("Default ")) {
        return Some(default.to_owned());
    }
    said.strip_prefix("Absent: ").or_else(|| said.strip_prefix("None: ")).map(str::to_owned)
}

/// "`a` (the default), or `b`" has it inside.
fn in_parentheses(text: &str) -> String {
    let Some((before, _)) = text.split_once(" (the default)") else { return String::new() };
    let word = before.rsplit_once(' ').map_or(before, |(_, word)| word);
    if word.starts_with('`') { word.to_owned() } else { String::new() }
}

/// Sentences, each with its full stop: cut before a capital or a code span that follows a stop and a blank.
fn sentences(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(". ") {
        let next = text[at + 2..].chars().next();
        if next.is_some_and(|c| c.is_uppercase() || c == '`') {
            parts.push(text[start..=at].to_owned());
            start = at + 2;
        }
    }
    if start < text.len() {
        parts.push(text[start..].to_owned());
    }
    parts
}

/// The type, as people would say it. `link` leads to the table of an object.
pub(super) fn type_of(schema: &Schema, link: Option<&str>) -> String {
    if let Some(choices) = schema["anyOf"].as_array() {
        let words: Vec<String> = choices.iter().map(|c| type_of(c, link)).collect();
        return words.join(" or ");
    }
    match schema["type"].as_str() {
        Some("array") => {
            let inner = type_of(&schema["items"], link);
            format!("list of {inner}")
        }
        Some("object") if schema.get("properties").is_some() => {
            link.map_or_else(|| "object".to_owned(), |anchor| format!("[object](#{anchor})"))
        }
        Some("object") => "map of strings".to_owned(),
        Some("string") if schema.get("enum").is_some() => "word".to_owned(),
        Some("string") => schema["format"].as_str().map_or("string", forms::word).to_owned(),
        Some("integer") => "integer".to_owned(),
        Some("number") => "number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        _ => "anything".to_owned(),
    }
}

/// The bounds, as people would say them.
pub(super) fn bounds(schema: &Schema) -> String {
    let mut parts = Vec::new();
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(|w| Some(format!("`{}`", w.as_str()?))).collect();
        // One alone is said by `kind` and `apiVersion` only.
        parts.push(words.join(", "));
    }
    parts.extend(between(&schema["minimum"], &schema["maximum"], ""));
    parts.extend(between(&schema["minLength"], &schema["maxLength"], " characters"));
    parts.extend(between(&schema["minItems"], &schema["maxItems"], " items"));
    if schema["type"] == "array" && schema["items"].get("properties").is_none() {
        let inner = bounds(&schema["items"]);
        if !inner.is_empty() {
            parts.push(format!("each {inner}"));
        }
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        let inner = bounds(choice);
        if !inner.is_empty() {
            parts.push(inner);
        }
    }
    parts.join("; ")
}

fn between(low: &Schema, high: &Schema, unit: &str) -> Option<String> {
    match (low.is_number(), high.is_number()) {
        (true, true) => Some(format!("{low} to {high}{unit}")),
        // `0 or more` says nothing.
        (true, false) if low.as_f64() == Some(0.0) => None,
        (true, false) => Some(format!("{low} or more{unit}")),
        (false, true) => Some(format!("at most {high}{unit}")),
        (false, false) => None,
    }
}

/// A value as YAML on one line. `None`: too long for a cell.
pub(super) fn example(value: &Value) -> Option<String> {
    let text = flow(value)?;
    (text.chars().count() <= MAX_EXAMPLE).then_some(text)
}

fn flow(value: &Value) -> Option<String> {
    match value {
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(flow).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Value::Mapping(fields) => {
            let fields: Option<Vec<String>> =
                fields.iter().map(|(key, v)| Some(format!("{}: {}", flow(key)?, flow(v)?))).collect();
            Some(format!("{{ {} }}", fields?.join(", ")))
        }
        Value::String(text) if text.is_empty() => Some("\"\"".to_owned()),
        scalar => {
            let text = serde_yaml::to_string(scalar).ok()?;
            let text = text.trim_end();
            (!text.contains('\n')).then(|| text.to_owned())
        }
    }
}

/// The first value at `path` in `value`, whichever item of a list has it.
pub(super) fn find<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value) };
    match value {
        Value::Sequence(items) => items.iter().find_map(|item| find(item, path)),
        Value::Mapping(fields) => find(fields.get(first.as_str())?, rest),
        _ => None,
    }
}

/// Text that may stand in a cell of a table.
pub(super) fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The same as code: between more backticks than it has in a row.
pub(super) fn code(text: &str) -> String {
    let text = escape(text);
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}
