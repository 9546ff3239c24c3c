//! Generated files are checked in, and are what the types say today. `OUTRIGGER_BLESS=1` writes them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use outrigger_config::{
    documents::Kind,
    reference::{self, Example},
    schema,
};
use serde_json::Value;

#[test]
fn generated_files_are_up_to_date() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = |schema: &Value| format!("{}\n", serde_json::to_string_pretty(schema).expect("schemas are JSON"));
    let mut files = vec![
        (root.join("schemas/outrigger.json"), text(&schema::combined_schema())),
        (root.join("../charts/outrigger-crds/templates/crds.yaml"), schema::crds()),
    ];
    files.push((root.join("../docs/policy-reference.md"), policy_reference(&root)));
    for kind in Kind::ALL {
        files.push((root.join(format!("schemas/{}.json", kind.as_str().to_lowercase())), text(&schema::schema(*kind))));
    }
    for (path, wanted) in files {
        if std::env::var_os("OUTRIGGER_BLESS").is_some() {
            fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it can be made");
            fs::write(&path, wanted).expect("it can be written");
            continue;
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == wanted, "{} is out of date: run this test with OUTRIGGER_BLESS=1", path.display());
    }
}

/// The page from the types, and from the documents of `examples/reference`: KIND.yaml first, then KIND-*.yaml.
fn policy_reference(root: &Path) -> String {
    let directory = root.join("../examples/reference");
    let entries = fs::read_dir(&directory).expect("examples/reference is there");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("it can be read").file_name().into_string().expect("plain names")).collect();
    names.sort_by_key(|n| n.trim_end_matches(".yaml").to_owned());
    let examples: Vec<Example> = names
        .iter()
        .map(|name| {
            let stem = name.split(['-', '.']).next().expect("a first part");
            let kind = Kind::ALL.iter().find(|k| k.as_str().to_lowercase() == stem);
            let kind = *kind.unwrap_or_else(|| panic!("{name} is named after no kind"));
            let text = fs::read_to_string(directory.join(name)).expect("it can be read");
            Example { kind, link: format!("examples/reference/{name}"), text }
        })
        .collect();
    reference::markdown(&examples)
        .unwrap_or_else(|missing| panic!("no example in examples/reference shows {missing:#?}"))
}

/// KEP-1979 and the API server: every value has a type (or preserves unknown fields), nothing refers, nothing is `null`.
#[test]
fn crds_are_structural() {
    for document in serde_yaml::Deserializer::from_str(&schema::crds()) {
        let Ok(crd) = <Value as serde::Deserialize>::deserialize(document) else { panic!("CRDs are YAML") };
        if crd.is_null() {
            continue;
        }
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema");
        structural(schema, &crd["metadata"]["name"].to_string());
        let kind = &crd["spec"]["names"]["kind"];
        let label = crd["metadata"]["labels"].get("gateway.networking.k8s.io/policy");
        let policy = kind.as_str().is_some_and(|k| k.ends_with("Policy"));
        assert_eq!(label.is_some(), policy, "{kind}");
        let status = if policy { "ancestors" } else { "conditions" };
        assert!(schema.pointer(&format!("/properties/status/properties/{status}/items")).is_some(), "{kind}");
    }
}

fn structural(schema: &Value, place: &str) {
    const ALLOWED: &[&str] = &[
        "type",
        "description",
        "properties",
        "items",
        "required",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "additionalProperties",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    let map = schema.as_object().unwrap_or_else(|| panic!("{place} is no object"));
    for key in map.keys() {
        assert!(ALLOWED.contains(&key.as_str()), "{place}: {key}");
    }
    assert!(
        map.contains_key("type") || map.contains_key("x-kubernetes-preserve-unknown-fields"),
        "{place} has no type"
    );
    for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        structural(inner, &format!("{place}.{name}"));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get(key) {
            assert!(!(map.contains_key("properties") && key == "additionalProperties"), "{place}: both");
            structural(inner, &format!("{place}.{key}"));
        }
    }
}

/// A schema that an editor loads has no form that only our checker knows.
#[test]
fn schemas_publish_patterns() {
    for kind in Kind::ALL {
        let text = schema::schema(*kind).to_string();
        assert!(!text.contains("\"format\":\""), "{}", kind.as_str());
        assert!(!text.contains("$ref"), "{}", kind.as_str());
    }
    let patterns = schema::schema(Kind::TrafficPolicy).to_string();
    assert!(patterns.contains("([0-9]{1,5}(h|m|s|ms)){1,4}"));
}
