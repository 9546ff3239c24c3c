//! Steps through a template whose shape has been checked.

use serde_json::{Map, Value};

use super::record::{Record, Was};

/// What is there, or nothing: absent and `null` are the same to Kubernetes.
pub(super) fn items<'v>(parent: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    parent.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// A string; empty: there is none.
pub(super) fn text<'v>(parent: &'v Value, key: &str) -> &'v str {
    parent.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// An annotation that is a string.
pub(super) fn annotation<'v>(template: &'v Value, name: &str) -> Option<&'v str> {
    template.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// A label that is a string.
pub(super) fn label<'v>(template: &'v Value, name: &str) -> Option<&'v str> {
    template.get("metadata")?.get("labels")?.get(name)?.as_str()
}

/// Is there a value that says something?
pub(super) fn says<'v>(parent: &'v Value, key: &str) -> Option<&'v Value> {
    parent.get(key).filter(|value| !value.is_null())
}

/// Is this the list of containers that run before the others, and is this one of them a sidecar?
pub(super) fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// A list of the spec, made if there is none.
pub(super) fn list<'v>(template: &'v mut Value, key: &'static str, record: &mut Record) -> &'v mut Vec<Value> {
    let spec = object(template, "spec");
    let made = ensure(spec, key, Value::Array(Vec::new()));
    record.made(&format!("spec.{key}"), made);
    spec.get_mut(key).and_then(Value::as_array_mut).expect("the shape has been checked")
}

/// `metadata.annotations` or `metadata.labels`, made if there are none.
pub(super) fn map<'v>(template: &'v mut Value, key: &'static str, record: &mut Record) -> &'v mut Map<String, Value> {
    let whole = template.as_object_mut().expect("the shape has been checked");
    record.made("metadata", ensure(whole, "metadata", Value::Object(Map::new())));
    let metadata = object(template, "metadata");
    record.made(&format!("metadata.{key}"), ensure(metadata, key, Value::Object(Map::new())));
    metadata.get_mut(key).and_then(Value::as_object_mut).expect("the shape has been checked")
}

/// Makes `parent[key]` be `empty` if it says nothing. What it was, if so.
pub(super) fn ensure(parent: &mut Map<String, Value>, key: &str, empty: Value) -> Option<Was> {
    match parent.get_mut(key) {
        None => {
            parent.insert(key.to_owned(), empty);
            Some(Was::Absent)
        }
        Some(value) if value.is_null() => {
            *value = empty;
            Some(Was::Null)
        }
        Some(_) => None,
    }
}

/// Sets a key where it stands, or at the end. What it was.
pub(super) fn put(map: &mut Map<String, Value>, key: &str, value: Value) -> Option<Value> {
    map.insert(key.to_owned(), value)
}

/// A key becomes another at the same place.
pub(super) fn rename(map: &mut Map<String, Value>, from: &str, to: &str, value: &Value) {
    let renamed = std::mem::take(map).into_iter();
    *map = renamed.map(|(key, old)| if key == from { (to.to_owned(), value.clone()) } else { (key, old) }).collect();
}

fn object<'v>(value: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    value.get_mut(key).and_then(Value::as_object_mut).expect("the shape has been checked")
}
