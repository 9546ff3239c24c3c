//! Schemas, generated from the document types: for editors, for clusters, and for the checker.
//!
//! All three read one normal form: no `$ref`, no `null`, enumerations as plain lists. That is what a structural schema of
//! Kubernetes wants, and what makes the checker small. Forms of strings are `format` inside, and `pattern` outside.

use std::{borrow::Cow, sync::OnceLock};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::documents::{FORMATS, Kind};

/// JSON Schema (draft 2020-12) of documents of one kind, for editors.
#[must_use]
pub fn schema(kind: Kind) -> Value {
    let mut schema = published(internal(kind).clone());
    if let Some(map) = schema.as_object_mut() {
        map.shift_insert(0, "$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    }
    schema
}

/// JSON Schema of a document of any kind, for editors: `# yaml-language-server: $schema=...`.
#[must_use]
pub fn combined_schema() -> Value {
    // With a chain of conditions on `kind` an editor's faults stay within the kind that was meant.
    let conditions: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| {
            let mut then = published(internal(*kind).clone());
            if let Some(map) = then.as_object_mut() {
                map.shift_remove("title");
            }
            json!({
                "if": { "properties": { "kind": { "const": kind.as_str() } }, "required": ["kind"] },
                "then": then,
            })
        })
        .collect();
    let kinds: Vec<&str> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Outrigger documents",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": { "kind": { "type": "string", "enum": kinds } },
        "allOf": conditions,
    })
}

/// The CRDs of our kinds that clusters know, as YAML documents.
#[must_use]
pub fn crds() -> String {
    let kinds = [
        (Kind::Upstream, "upstreams", None),
        (Kind::TrafficPolicy, "trafficpolicies", Some("direct")),
        (Kind::AccessPolicy, "accesspolicies", Some("direct")),
        (Kind::MeshPolicy, "meshpolicies", Some("inherited")),
    ];
    let mut text = String::from("# Generated from the types of outrigger-config; see its test `generated`.\n");
    for (kind, plural, policy) in kinds {
        text.push_str("---\n");
        let crd = crd(kind, plural, policy);
        for line in serde_yaml::to_string(&crd).expect("JSON values are YAML values").lines() {
            text.push_str(&quoted(line));
            text.push('\n');
        }
    }
    text
}

/// A line as readers of YAML 1.1 (Helm and `kubectl` among them) have to see it: there a bare `on` is `true`.
fn quoted(line: &str) -> Cow<'_, str> {
    const BOOLEANS: [&str; 8] = ["on", "off", "yes", "no", "y", "n", "Y", "N"];
    let body = line.trim_start_matches([' ', '-']);
    let word = body.strip_suffix(':').unwrap_or(body);
    if !BOOLEANS.contains(&word) {
        return Cow::Borrowed(line);
    }
    let (before, after) = line.split_at(line.len() - body.len());
    Cow::Owned(format!("{before}\"{word}\"{}", &after[word.len()..]))
}

fn crd(kind: Kind, plural: &str, policy: Option<&str>) -> Value {
    let mut schema = published(internal(kind).clone());
    let mut labels = json!({ "app.kubernetes.io/name": "outrigger", "app.kubernetes.io/component": "crds" });
    if let (Some(policy), Some(labels)) = (policy, labels.as_object_mut()) {
        labels.insert("gateway.networking.k8s.io/policy".into(), policy.into());
    }
    if let Some(map) = schema.as_object_mut() {
        // The API server checks these itself and wants to hear no more of them than their types.
        map.shift_remove("title");
        map.shift_remove("additionalProperties");
        map.insert("required".into(), json!(["spec"]));
        if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("apiVersion".into(), json!({ "type": "string" }));
            properties.insert("kind".into(), json!({ "type": "string" }));
            properties.insert("metadata".into(), json!({ "type": "object" }));
            properties.insert("status".into(), if policy.is_some() { policy_status() } else { conditions_status() });
        }
    }
    structural(&mut schema);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.outrigger.dev"),
            "labels": labels,
            // Without it `helm uninstall` would delete every policy with its definition.
            "annotations": { "helm.sh/resource-policy": "keep" },
        },
        "spec": {
            "group": "outrigger.dev",
            "names": {
                "kind": kind.as_str(),
                "listKind": format!("{}List", kind.as_str()),
                "plural": plural,
                "singular": kind.as_str().to_lowercase(),
                "categories": ["outrigger"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(policy.is_some()),
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// What `kubectl get` shows.
fn columns(policy: bool) -> Value {
    let accepted = r#"conditions[?(@.type=="Accepted")].status"#;
    let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" });
    if policy {
        json!([
            { "name": "Target", "type": "string", "jsonPath": ".spec.targetRefs[*].name" },
            { "name": "Accepted", "type": "string", "jsonPath": format!(".status.ancestors[*].{accepted}") },
            age,
        ])
    } else {
        json!([{ "name": "Accepted", "type": "string", "jsonPath": format!(".status.{accepted}") }, age])
    }
}

/// `PolicyStatus` of GEP-713, with the bounds of the Gateway API.
fn policy_status() -> Value {
    let name = |max| json!({ "type": "string", "minLength": 1, "maxLength": max });
    json!({
        "type": "object",
        "description": "What became of the policy at each of its targets.",
        "properties": { "ancestors": {
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["ancestorRef", "controllerName"],
                "properties": {
                    "ancestorRef": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "group": { "type": "string", "maxLength": 253 },
                            "kind": name(63),
                            "namespace": name(63),
                            "name": name(253),
                            "sectionName": name(253),
                            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
                        },
                    },
                    "controllerName": name(253),
                    "conditions": conditions(),
                },
            },
        } },
    })
}

/// Of what is no policy and has no parents.
fn conditions_status() -> Value {
    json!({ "type": "object", "properties": { "conditions": conditions() } })
}

/// `metav1.Condition`s; whoever applies one owns it alone.
fn conditions() -> Value {
    json!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "minimum": 0 },
                "lastTransitionTime": { "type": "string" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
            },
        },
    })
}

/// What OpenAPI of Kubernetes forbids goes: `additionalProperties: false` (unknown fields are pruned or refused
/// there anyway), and types inside of `anyOf`.
fn structural(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                map.shift_remove("additionalProperties");
            }
            if map.contains_key("x-kubernetes-preserve-unknown-fields") {
                map.shift_remove("anyOf");
            }
            map.values_mut().for_each(structural);
        }
        Value::Array(items) => items.iter_mut().for_each(structural),
        _ => {}
    }
}

/// The normal form of the schema of `kind`, made once.
pub(crate) fn internal(kind: Kind) -> &'static Value {
    static SCHEMAS: OnceLock<Vec<Value>> = OnceLock::new();
    let all = SCHEMAS.get_or_init(|| Kind::EVERY.iter().map(|k| generate(*k)).collect());
    &all[kind as usize]
}

fn generate(kind: Kind) -> Value {
    let generator = || {
        let settings = SchemaSettings::draft2020_12().with(|s| {
            s.inline_subschemas = true;
            s.meta_schema = None;
        });
        settings.into_generator()
    };
    let mut schema = kind.raw_schema(generator()).to_value();
    normalise(&mut schema);
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".into(), kind.as_str().into());
        let description = kind.raw_spec(generator()).get("description").cloned().unwrap_or_default();
        map.insert("description".into(), description.clone());
        if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("apiVersion".into(), json!({ "type": "string", "enum": [kind.api_version()] }));
            properties.insert("kind".into(), json!({ "type": "string", "enum": [kind.as_str()] }));
            // The field's own comment is that of every kind.
            if let Some(spec) = properties.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("description".into(), description);
            }
        }
    }
    schema
}

fn normalise(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    // `Option<T>`: absent and `null` are the same, which the checker handles for every field.
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = map.get_mut("enum") {
        choices.retain(|c| !c.is_null());
    }
    if let Some(Value::Array(mut choices)) = map.shift_remove("anyOf") {
        choices.retain(|c| c.get("type") != Some(&Value::String("null".into())));
        match choices.as_mut_slice() {
            [Value::Object(only)] => merge(map, std::mem::take(only)),
            _ => drop(map.insert("anyOf".into(), choices.into())),
        }
    }
    // Words with a description each.
    if let Some(Value::Array(choices)) = map.shift_remove("oneOf") {
        let words: Vec<Value> = choices.iter().filter_map(|c| c.get("const").cloned()).collect();
        let meanings: Vec<String> = choices
            .iter()
            .filter_map(|c| Some(format!("`{}`: {}", c.get("const")?.as_str()?, c.get("description")?.as_str()?)))
            .collect();
        map.insert("type".into(), "string".into());
        map.insert("enum".into(), words.into());
        let own = map.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = format!("{own}\n\n{}", meanings.join("\n"));
        map.insert("description".into(), description.trim().into());
    }
    // Rust's number formats mean nothing to editors and clusters; their bounds are said by minimum and maximum.
    let rusty = matches!(
        map.get("format").and_then(Value::as_str),
        Some("uint8" | "uint16" | "uint32" | "uint64" | "int64" | "double")
    );
    if rusty {
        if map.get("format").and_then(Value::as_str) == Some("uint32") && !map.contains_key("maximum") {
            map.insert("maximum".into(), u32::MAX.into());
        }
        map.shift_remove("format");
    }
    if map.get("default").is_some_and(|d| d.is_null() || d == &json!([])) {
        map.shift_remove("default");
    }
    for key in ["properties", "items", "additionalProperties", "anyOf"] {
        match map.get_mut(key) {
            Some(Value::Object(inner)) if key == "properties" => inner.values_mut().for_each(normalise),
            Some(Value::Array(inner)) => inner.iter_mut().for_each(normalise),
            Some(inner) => normalise(inner),
            None => {}
        }
    }
}

/// The outer description says what a field is for, so it wins over that of its type.
fn merge(outer: &mut Map<String, Value>, inner: Map<String, Value>) {
    for (key, value) in inner {
        outer.entry(key).or_insert(value);
    }
}

fn published(mut schema: Value) -> Value {
    publish(&mut schema);
    schema
}

fn publish(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let name = map.get("format").and_then(Value::as_str);
            if let Some(format) = FORMATS.iter().find(|f| Some(f.name) == name) {
                map.shift_remove("format");
                map.insert("pattern".into(), format.pattern.into());
            }
            map.values_mut().for_each(publish);
        }
        Value::Array(items) => items.iter_mut().for_each(publish),
        _ => {}
    }
}
