//! Is a document well-formed? Every fault of it at once, each at its own place.
//!
//! Serde stops at the first fault. So this walks the tree along the schema of its kind first and reports all that does
//! not fit. What is left always decodes, and its meaning is checked in the same run, so that one fault hides no other:
//!
//! - a faulty value, and a required one that is missing, gets a *stand-in*: harmless, of the right type, with the
//!   text that was written where any text decodes. It stands at [`Mark::NOWHERE`], where no fault is told;
//! - an unknown field is cut, and its mapping noted: what seems to be missing there may be what was meant.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::{
    documents::FORMATS,
    suggest::suggest,
    yaml::{Entry, Mark, Node, Value, excerpt},
};

/// Bytes of a faulty text that its stand-in keeps: more than any good name has, and little to compare with.
const KEPT: usize = 1024;

/// By mapping, the known field that is near to each unknown one.
pub(crate) type Cuts = HashMap<Mark, Vec<Option<String>>>;

/// What was found in one document.
pub(crate) struct Findings {
    /// So many faults are still told.
    pub(crate) room: usize,
    pub(crate) faults: Vec<(Mark, String)>,
    /// Of unknown fields that are left out.
    pub(crate) warnings: Vec<(Mark, String)>,
    /// What an unknown field is.
    pub(crate) unknown: Unknown,
    /// The mappings from which unknown fields were cut, and what each of those was probably meant to be.
    pub(crate) cuts: Cuts,
}

/// What an unknown field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// A fault: someone misspelt it.
    Fault,
    /// Left out with a warning: someone newer wrote it.
    Warn,
    /// Left out: it is not about the mesh.
    Ignore,
}

impl Findings {
    pub(crate) fn new(room: usize) -> Self {
        Self { room, faults: Vec::new(), warnings: Vec::new(), unknown: Unknown::Fault, cuts: HashMap::new() }
    }

    fn is_open(&self) -> bool {
        self.faults.len() < self.room
    }

    fn add(&mut self, mark: Mark, message: impl Into<String>) {
        if self.is_open() {
            self.faults.push((mark, message.into()));
        }
    }
}

/// Reports what does not fit `schema`, and makes `node` fit.
pub(crate) fn check(schema: &Json, node: &mut Node, found: &mut Findings) {
    if !fits(schema, node, found) {
        *node = stand_in(schema, Some(node));
    }
}

/// False: `node` itself does not fit, which has been reported.
fn fits(schema: &Json, node: &mut Node, found: &mut Findings) -> bool {
    if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
        return fits_any(choices, node, found);
    }
    let Some(kind) = schema.get("type").and_then(Json::as_str) else { return true };
    match (&mut node.value, kind) {
        (Value::Map(_), "object") => {
            check_map(schema, node, found);
            return true;
        }
        (Value::Seq(_), "array") => return check_seq(schema, node, found),
        (Value::String(text), "string") => return check_string(schema, text, node.mark, found),
        (Value::Int(n), "integer" | "number") => return check_number(schema, *n as f64, node.mark, found),
        (Value::Float(n), "number") => return check_number(schema, *n, node.mark, found),
        (Value::Bool(_), "boolean") => return true,
        _ => {}
    }
    if let Some(text) = scalar_text(node).filter(|_| kind == "string") {
        // Quotes help only if there is nothing else wrong with it.
        if check_string(schema, &text, node.mark, found) {
            found.add(node.mark, format!("expected a string, found {}: put it in quotes", node.describe()));
        }
        return false;
    }
    let wanted = match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        other => other,
    };
    found.add(node.mark, format!("expected {wanted}, found {}", node.describe()));
    false
}

/// The text of a scalar.
fn scalar_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        Value::Null | Value::Seq(_) | Value::Map(_) => None,
    }
}

/// What stands in for `faulty`, or for what is missing. The depth is that of the schema, which has an end.
fn stand_in(schema: &Json, faulty: Option<&Node>) -> Node {
    let choice = schema.get("anyOf").and_then(|choices| choices.get(0));
    let schema = choice.unwrap_or(schema);
    let value = match schema.get("type").and_then(Json::as_str) {
        Some("object") => Value::Map(required(schema).map(|key| entry(schema, key)).collect()),
        // Not empty, for an empty list says the same as none.
        Some("array") => Value::Seq(vec![stand_in(schema.get("items").unwrap_or(&Json::Null), None)]),
        Some("boolean") => Value::Bool(true),
        Some("integer" | "number") => {
            // 1 where the bounds take it: zero has a meaning of its own in too many places.
            let bound = |name| schema.get(name).and_then(Json::as_f64);
            let least = bound("minimum").filter(|min| *min > 1.0);
            Value::Int(least.or_else(|| bound("maximum").filter(|max| *max < 1.0)).unwrap_or(1.0) as i64)
        }
        Some("string") => {
            let word = schema.get("enum").and_then(|words| words.get(0)).and_then(Json::as_str);
            let name = schema.get("format").and_then(Json::as_str);
            let format = FORMATS.iter().find(|f| Some(f.name) == name).and_then(|f| f.stand_in);
            let text = word.or(format).map(str::to_owned);
            let written = || scalar_text(faulty?).filter(|text| text.len() <= KEPT);
            Value::String(text.or_else(written).unwrap_or_default())
        }
        _ => Value::Null,
    };
    Node { mark: Mark::NOWHERE, value }
}

fn entry(schema: &Json, key: &str) -> Entry {
    let property = schema.get("properties").and_then(|p| p.get(key)).unwrap_or(&Json::Null);
    Entry { key: key.to_owned(), mark: Mark::NOWHERE, value: stand_in(property, None) }
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

/// The choices differ in type, so that the faults of the one that was meant can be told.
fn fits_any(choices: &[Json], node: &mut Node, found: &mut Findings) -> bool {
    let kind = match &node.value {
        Value::Map(_) => "object",
        Value::Seq(_) => "array",
        Value::String(_) => "string",
        _ => "",
    };
    match choices.iter().find(|c| c.get("type").and_then(Json::as_str) == Some(kind)) {
        Some(choice) => fits(choice, node, found),
        None => {
            let kinds: Vec<&str> = choices
                .iter()
                .filter_map(|c| c.get("type").and_then(Json::as_str))
                .map(|k| if k == "array" { "a list" } else { "a string" })
                .collect();
            found.add(node.mark, format!("expected {}, found {}", kinds.join(" or "), node.describe()));
            false
        }
    }
}

fn check_map(schema: &Json, node: &mut Node, found: &mut Findings) {
    let Value::Map(entries) = &mut node.value else { return };
    let properties = schema.get("properties").and_then(Json::as_object);
    let rest = schema.get("additionalProperties");
    let known = || properties.into_iter().flat_map(|p| p.keys()).map(String::as_str);
    // Known fields for which an unknown one was written.
    let mut meant: Vec<&str> = Vec::new();
    let mark = node.mark;
    entries.retain_mut(|entry| {
        let property = properties.and_then(|p| p.get(&entry.key));
        let needed = || required(schema).any(|key| key == entry.key);
        match (property, rest) {
            (Some(_), _) if matches!(entry.value.value, Value::Null) && !needed() => return false,
            (Some(property), _) => check(property, &mut entry.value, found),
            (None, Some(Json::Bool(false))) if found.unknown != Unknown::Fault => {
                if found.unknown == Unknown::Warn && found.warnings.len() < found.room {
                    let message =
                        format!("field `{}` is left out: it is not known to this version", excerpt(&entry.key));
                    found.warnings.push((entry.mark, message));
                }
                return false;
            }
            (None, Some(Json::Bool(false))) => {
                // The hint costs more than the rest.
                let near = if found.is_open() { suggest(&entry.key, known()) } else { None };
                found.cuts.entry(mark).or_default().push(near.map(str::to_owned));
                meant.extend(near);
                if found.is_open() {
                    let message = format!("unknown field `{}`{}", excerpt(&entry.key), hint(&entry.key, known));
                    found.add(entry.mark, message);
                }
                return false;
            }
            (None, Some(rest)) => check(rest, &mut entry.value, found),
            (None, None) => {}
        }
        true
    });
    let missing: Vec<&str> = required(schema).filter(|key| !entries.iter().any(|e| e.key == *key)).collect();
    entries.extend(missing.iter().map(|key| entry(schema, key)));
    let told: Vec<String> = missing.iter().filter(|key| !meant.contains(key)).map(|key| format!("`{key}`")).collect();
    if !told.is_empty() {
        let plural = if told.len() > 1 { "fields" } else { "field" };
        found.add(mark, format!("missing {plural} {}", told.join(", ")));
    }
}

/// The nearest of the known words, or all of them where they are few.
fn hint<'a, I: Iterator<Item = &'a str>>(word: &str, known: impl Fn() -> I) -> String {
    if let Some(near) = suggest(word, known()) {
        return format!(": did you mean `{near}`?");
    }
    // More would hide what the line is about.
    const LISTED: usize = 12;
    let mut all: Vec<String> = known().take(LISTED).map(|k| format!("`{k}`")).collect();
    let more = known().count().saturating_sub(LISTED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    if all.is_empty() { String::new() } else { format!("; known here: {}", all.join(", ")) }
}

fn check_seq(schema: &Json, node: &mut Node, found: &mut Findings) -> bool {
    let Value::Seq(items) = &mut node.value else { return false };
    let bound = |name| schema.get(name).and_then(Json::as_u64).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if bound("minItems").is_some_and(|min| items.len() < min) {
        found.add(node.mark, "this list needs an element");
        return false;
    }
    if let Some(max) = bound("maxItems").filter(|max| items.len() > *max) {
        found.add(node.mark, format!("this list has {} elements; at most {max} are taken", items.len()));
        items.truncate(max);
    }
    if let Some(schema) = schema.get("items") {
        items.iter_mut().for_each(|item| check(schema, item, found));
    }
    true
}

fn check_string(schema: &Json, text: &str, mark: Mark, found: &mut Findings) -> bool {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        let known = || words.iter().filter_map(Json::as_str);
        if known().any(|w| w == text) {
            return true;
        }
        if found.is_open() {
            found.add(mark, format!("`{}` is not known here{}", excerpt(text), hint(text, known)));
        }
        return false;
    }
    let bound = |name| schema.get(name).and_then(Json::as_u64).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if bound("minLength").is_some_and(|min| text.chars().count() < min) {
        found.add(mark, "this must not be empty");
        return false;
    }
    if let Some(max) = bound("maxLength").filter(|max| text.chars().count() > *max) {
        found.add(mark, format!("this is longer than {max} characters"));
        return false;
    }
    let name = schema.get("format").and_then(Json::as_str);
    if let Some(format) = FORMATS.iter().find(|f| Some(f.name) == name)
        && let Err(message) = (format.check)(text)
    {
        found.add(mark, message);
        return false;
    }
    true
}

fn check_number(schema: &Json, n: f64, mark: Mark, found: &mut Findings) -> bool {
    let bound = |name| schema.get(name).and_then(Json::as_f64);
    let (min, max) = (bound("minimum"), bound("maximum"));
    if !n.is_nan() && min.is_none_or(|min| n >= min) && max.is_none_or(|max| n <= max) {
        return true;
    }
    let range = match (min, max) {
        (Some(min), Some(max)) => format!("a number from {min} to {max}"),
        (Some(min), None) => format!("a number of at least {min}"),
        (None, Some(max)) => format!("a number of at most {max}"),
        (None, None) => "a number".into(),
    };
    found.add(mark, format!("`{n}` is not {range}"));
    false
}
