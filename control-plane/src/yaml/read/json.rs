//! JSON objects one after the other, as `kubectl` takes them: no YAML, but what `jq` and many generators write.

use serde_json::{Deserializer, Value};

use super::super::{Document, MAX_DEPTH, MAX_NODES, text};

/// The objects of `body`. `None`: it is something else.
pub(super) fn documents(body: &str) -> Option<Vec<Document<'_>>> {
    body.trim_start().starts_with('{').then_some(())?;
    let mut stream = Deserializer::from_str(body).into_iter::<Value>();
    let mut documents: Vec<Document<'_>> = Vec::new();
    let mut nodes = 0;
    let mut start = 0;
    while let Some(value) = stream.next() {
        let value = value.ok().filter(Value::is_object)?;
        nodes += count(&value, 0)?;
        if nodes > MAX_NODES {
            return None;
        }
        let end = start + body[start..stream.byte_offset()].len();
        let content = text::skip_trivia(body, start);
        let line = body[..content].matches('\n').count() + 1;
        documents.push(Document { text: &body[start..end], line, value });
        start = end;
    }
    let last = documents.last_mut()?;
    // Blanks behind the last belong to it.
    last.text = &body[start - last.text.len()..];
    Some(documents)
}

/// Nodes of a value; `None` if it is nested too deep.
fn count(value: &Value, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut sum = 1;
    match value {
        Value::Array(items) => {
            for item in items {
                sum += count(item, depth + 1)?;
            }
        }
        Value::Object(entries) => {
            for item in entries.values() {
                sum += count(item, depth + 1)?;
            }
        }
        _ => {}
    }
    Some(sum)
}
