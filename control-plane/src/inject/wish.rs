//! Is a proxy wanted?
//!
//! The label of the pod decides; where it has none, that of its namespace; where neither has, whether somebody asked for this very
//! template. The mesh's own namespace and `kube-system` are never touched: what the cluster needs to start must not need the mesh.

use outrigger_config::identity::INJECT_LABEL;
use serde_json::Value;

use super::{
    Context,
    refuse::{Reason, Refused},
    settings::Settings,
    tree,
};

/// Set by the kubelet on the pods that it runs from files; they cannot have volumes with tokens, and exist already.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is wanted.
pub(super) enum Wish {
    Yes,
    /// And why.
    No(String),
}

pub(super) fn wish(template: &Value, context: &Context, settings: &Settings) -> Result<Wish, Refused> {
    let namespace = &*context.namespace;
    if settings.exempts(namespace) {
        return Ok(Wish::No(format!("the namespace {namespace} is exempt")));
    }
    if tree::annotation(template, MIRROR).is_some() {
        return Ok(Wish::No("a mirror pod: the kubelet runs it from a file".to_owned()));
    }
    match tree::label(template, INJECT_LABEL) {
        Some("enabled") => return Ok(Wish::Yes),
        Some("disabled") => return Ok(Wish::No(format!("the pod's label {INJECT_LABEL} says disabled"))),
        Some(other) => return Err(neither(&format!("metadata.labels[{INJECT_LABEL}]"), other)),
        None => {}
    }
    match context.namespace_labels.get(INJECT_LABEL).map(String::as_str) {
        Some("enabled") => Ok(Wish::Yes),
        Some("disabled") => Ok(Wish::No(format!("the label {INJECT_LABEL} of the namespace says disabled"))),
        Some(other) => Err(neither(&format!("Namespace {namespace}: metadata.labels[{INJECT_LABEL}]"), other)),
        None if context.explicit => Ok(Wish::Yes),
        None => Ok(Wish::No(format!("neither the pod nor its namespace has the label {INJECT_LABEL}: enabled"))),
    }
}

/// Whoever wrote it wanted something: a pod that runs without the proxy that was meant would be found out late.
fn neither(field: &str, said: &str) -> Refused {
    let meant = match said.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "enable" => ": write enabled",
        "false" | "no" | "off" | "disable" => ": write disabled",
        _ => "",
    };
    Refused::new(Reason::Setting, field, format!("{said:?} is neither enabled nor disabled{meant}"))
}

/// Does the template itself ask for a proxy? Then it must not run without one.
#[must_use]
pub fn asks(template: &Value) -> bool {
    tree::label(template, INJECT_LABEL) == Some("enabled")
}
