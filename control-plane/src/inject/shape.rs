//! Is this the template of a pod, as far as injection looks at it?
//!
//! The API server's own validation comes after ours, and `outrigger inject` reads what people typed: so nothing is taken for granted.
//! What is not looked at here is passed through as it is.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::refuse::{Reason, Refused};

/// Annotations of an object, in bytes of names and values (`TotalAnnotationSizeLimitB` of Kubernetes).
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Everything that later steps rely on.
pub(super) fn check(template: &Value) -> Result<(), Refused> {
    if !template.is_object() {
        return Err(malformed("", "this is no template of a pod: an object with `metadata` and `spec`"));
    }
    if let Some(metadata) = object(template, "metadata", "metadata")? {
        for map in ["labels", "annotations"] {
            strings(metadata, map)?;
        }
    }
    let Some(_) = object(template, "spec", "spec")? else {
        return Err(malformed("spec", "a pod needs one"));
    };
    let mut names = HashSet::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        containers(template, list, &mut names)?;
    }
    if super::tree::items(&template["spec"], "containers").next().is_none() {
        return Err(malformed("spec.containers", "a pod has at least one container"));
    }
    array(&template["spec"], "volumes", "spec.volumes").map(drop)
}

/// Whether the API server takes as many annotations.
pub(super) fn check_size(template: &Value) -> Result<(), Refused> {
    let annotations = template["metadata"]["annotations"].as_object().into_iter().flatten();
    let size: usize = annotations.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size <= MAX_ANNOTATIONS {
        return Ok(());
    }
    let message = format!(
        "with those that injection needs they have {size} bytes, and an object may have {MAX_ANNOTATIONS}: shorten them"
    );
    Err(Refused::new(Reason::TooLarge, "metadata.annotations", message))
}

pub(super) fn malformed(field: &str, message: &str) -> Refused {
    Refused::new(Reason::Malformed, field, message.to_owned())
}

fn object<'v>(parent: &'v Value, key: &str, field: &str) -> Result<Option<&'v Map<String, Value>>, Refused> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(malformed(field, "this must be a map of fields")),
    }
}

fn array<'v>(parent: &'v Value, key: &str, field: &str) -> Result<&'v [Value], Refused> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => Ok(list),
        Some(_) => Err(malformed(field, "this must be a list of objects")),
    }
}

/// YAML makes a boolean of `true` and a number of `8080`, and the API server refuses both: say so while there is a place for it.
fn strings(metadata: &Map<String, Value>, key: &str) -> Result<(), Refused> {
    match metadata.get(key) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(map)) => {
            for (name, value) in map {
                if (value.is_boolean() || value.is_number()) && is_read(name) {
                    let message = format!("this must be a string: write \"{value}\", in quotes");
                    return Err(malformed(&format!("metadata.{key}[{name}]"), &message));
                }
            }
            Ok(())
        }
        Some(_) => Err(malformed(&format!("metadata.{key}"), "this must be a map of strings")),
    }
}

fn is_read(name: &str) -> bool {
    ["outrigger.dev/", "prometheus.io/", "kubectl.kubernetes.io/"].iter().any(|prefix| name.starts_with(prefix))
}

fn containers(template: &Value, list: &str, names: &mut HashSet<String>) -> Result<(), Refused> {
    let field = format!("spec.{list}");
    for (i, container) in array(&template["spec"], list, &field)?.iter().enumerate() {
        let field = format!("{field}[{i}].name");
        let Some(name) = container.get("name").and_then(Value::as_str).filter(|name| is_dns_label(name)) else {
            return Err(malformed(
                &field,
                "a container has a name of at most 63 lower-case letters, digits and dashes",
            ));
        };
        if !names.insert(name.to_owned()) {
            return Err(malformed(&field, &format!("two containers are called {name:?}")));
        }
    }
    Ok(())
}

/// RFC 1123, as Kubernetes asks of containers: so a name is good as a segment of a path, too.
fn is_dns_label(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
