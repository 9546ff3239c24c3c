//! Where templates of pods are: in an object of any kind, in a list.
//!
//! By shape and not by kind, so that custom resources (a Rollout, a Knative Service) are found as well.

use std::collections::BTreeMap;

use serde_json::Value;

/// Where a template of a pod may be; the kinds that have it there.
const PLACES: &[(&str, &[&str])] = &[
    ("", &["Pod"]),
    (
        "/spec/template",
        &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Rollout"],
    ),
    ("/spec/jobTemplate/spec/template", &["CronJob"]),
    ("/template", &["PodTemplate"]),
];

/// An object among the documents, and where in its document it is.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) value: &'a Value,
    pointer: String,
}

/// The objects of a document: those of a list, also of lists in lists; else itself. A document without anything has none.
pub(super) fn objects(document: &Value) -> Vec<Object<'_>> {
    let mut objects = Vec::new();
    collect(document, String::new(), &mut objects);
    objects
}

/// The depth of a document is bounded by its reader.
fn collect<'a>(value: &'a Value, pointer: String, objects: &mut Vec<Object<'a>>) {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value.get("items").and_then(Value::as_array) {
        Some(items) if is_list => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{pointer}/items/{index}"), objects);
            }
        }
        _ if value.is_null() => {}
        _ => objects.push(Object { value, pointer }),
    }
}

impl<'a> Object<'a> {
    /// The template of its pods, and the JSON pointer of that in the document.
    pub(super) fn template(&self) -> Option<(String, &'a Value)> {
        let found = PLACES.iter().find_map(|(place, kinds)| {
            let template = self.value.pointer(place).filter(|value| value.is_object())?;
            let known = kinds.contains(&self.kind());
            // A pod has its containers at its own `spec`; so has many a thing that is none.
            let shaped = !place.is_empty() && template.pointer("/spec/containers").is_some_and(Value::is_array);
            (known || shaped).then_some((*place, template))
        });
        found.map(|(place, template)| (format!("{}{place}", self.pointer), template))
    }

    pub(super) fn kind(&self) -> &'a str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &'a str {
        let metadata = &self.value["metadata"];
        metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> Option<&'a str> {
        self.value["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty())
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.value["metadata"]["labels"].as_object().into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}
