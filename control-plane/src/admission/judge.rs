//! What the compiler says of one object.

use outrigger_config::{Cluster, Severity, Source, validate_in};
use serde_json::{Map, Value, json};

use super::text::Located;

/// Our group.
const OURS: &str = "outrigger.dev";
/// The Gateway API's.
const GATEWAY: &str = "gateway.networking.k8s.io";
/// Faults and warnings of one answer. A person reads fewer, and an answer must fit into an event.
const MAX_FINDINGS: usize = 20;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What keeps it out.
    pub errors: Vec<Finding>,
    /// What is let in, and probably not meant.
    pub warnings: Vec<Finding>,
}

/// One fault, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `spec.retry.attempts`; empty: the object as a whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// Compiles `object` as a proxy of its namespace would. `None`: it is not ours to judge.
#[must_use]
pub fn judge(object: &Value, cluster: &Cluster) -> Option<Verdict> {
    let (group, _) = object["apiVersion"].as_str()?.split_once('/')?;
    let ours = group == OURS;
    let ours_to_judge = ours || (group == GATEWAY && is_of_the_mesh(object));
    if !ours_to_judge {
        return None;
    }
    let located = Located::new(&trimmed(object));
    let kind = object["kind"].as_str().unwrap_or("object");
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default();
    let origin = outrigger_config::SourceName::object(kind, namespace, name);
    // Whoever writes one of ours is told of a field that does not exist; the routes are the Gateway API's to check.
    let source = if ours {
        Source { name: origin.to_string().into(), text: located.text.clone() }
    } else {
        Source { name: origin, text: located.text.clone() }
    };
    let cluster = Cluster { namespace: namespace.into(), ..cluster.clone() };
    let mut verdict = Verdict::default();
    for fault in validate_in(&[source], &cluster) {
        let list = match fault.severity {
            Severity::Error => &mut verdict.errors,
            Severity::Warning => &mut verdict.warnings,
        };
        if list.len() < MAX_FINDINGS {
            list.push(Finding { field: located.field(fault.origin.line), message: fault.message });
        }
    }
    Some(verdict)
}

/// Does a route speak of the mesh? Its other parents are gateways, of which we know nothing.
fn is_of_the_mesh(route: &Value) -> bool {
    let parents = route["spec"]["parentRefs"].as_array().map(Vec::as_slice).unwrap_or_default();
    parents.iter().any(|parent| {
        let group = parent["group"].as_str().unwrap_or(GATEWAY);
        let kind = parent["kind"].as_str().unwrap_or("Gateway");
        matches!((group, kind), ("" | "core", "Service") | (OURS, "Upstream"))
    })
}

/// Without what the API server adds: nobody wrote it, and the compiler would not know it.
fn trimmed(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = Map::new();
    // An object that is named when it is stored has a name that is good by then.
    let name = metadata["name"].as_str().unwrap_or("generated");
    kept.insert("name".into(), name.into());
    for field in ["namespace", "labels", "annotations"] {
        if let Some(value) = metadata.get(field).filter(|value| !value.is_null()) {
            kept.insert(field.into(), value.clone());
        }
    }
    let mut whole = object.as_object().cloned().unwrap_or_default();
    whole.shift_remove("status");
    whole.insert("metadata".into(), json!(kept));
    Value::Object(whole)
}
