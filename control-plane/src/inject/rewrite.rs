//! What changes in the app's own part of a template: probes, scrapes, and how it is told of the proxy.

use serde_json::{Map, Value, json};

use super::{Capture, Choices, OUTBOUND_PORT, probes, record::Record, refuse::Refused, scrape, shape, tree};

/// What `kubectl logs` and `kubectl exec` look at, where nobody says which container.
const DEFAULTS: [&str; 2] = ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"];

/// What is never reached by way of the proxy: the pod itself, and what clouds serve to each node alone.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal";

/// Rewrites, and returns what the proxy is to answer for: path and target.
pub(super) fn rewrite(
    template: &mut Value,
    choices: &Choices,
    record: &mut Record,
) -> Result<Map<String, Value>, Refused> {
    let mut endpoints = Map::new();
    let grace = template["spec"]["terminationGracePeriodSeconds"].as_u64();
    for list in ["initContainers", "containers"] {
        let containers = template.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for (i, container) in containers.into_iter().flatten().enumerate() {
            let serves = list == "containers" || tree::is_sidecar(container);
            if choices.probes && serves {
                probes::rewrite(container, choices, grace, &mut endpoints, record);
            }
            // Before an ordinary container there is no proxy yet.
            if choices.capture == Capture::None && (choices.native || list == "containers") {
                environment(container, &format!("spec.{list}[{i}]"), record)?;
            }
        }
    }
    if choices.scrape {
        scrape::rewrite(template, choices, &mut endpoints, record);
    }
    let first = tree::items(&template["spec"], "containers").next().map(|c| tree::text(c, "name").to_owned());
    for (annotation, name) in DEFAULTS.into_iter().zip(first.iter().cycle()) {
        if template["metadata"]["annotations"].get(annotation).is_none() {
            super::set(template, "annotations", annotation, name, record);
        }
    }
    Ok(endpoints)
}

/// Tells an app of the HTTP proxy on loopback, unless it knows of one. Names of both cases are in use: what is set in one is not set
/// in the other.
fn environment(container: &mut Value, field: &str, record: &mut Record) -> Result<(), Refused> {
    let proxy = format!("http://127.0.0.1:{OUTBOUND_PORT}");
    let name = tree::text(container, "name").to_owned();
    if container.get("env").is_some_and(|env| !env.is_array() && !env.is_null()) {
        return Err(shape::malformed(&format!("{field}.env"), "this must be a list of objects"));
    }
    let mut missing = Vec::new();
    for (both, value) in [(["HTTP_PROXY", "http_proxy"], &*proxy), (["NO_PROXY", "no_proxy"], NO_PROXY)] {
        if !tree::items(container, "env").any(|variable| both.contains(&tree::text(variable, "name"))) {
            missing.extend(both.map(|variable| (variable, value)));
        }
    }
    let Some(fields) = container.as_object_mut().filter(|_| !missing.is_empty()) else { return Ok(()) };
    record.made(&format!("env.{name}"), tree::ensure(fields, "env", json!([])));
    let Some(env) = fields.get_mut("env").and_then(Value::as_array_mut) else { return Ok(()) };
    for (variable, value) in missing {
        env.push(json!({ "name": variable, "value": value }));
        record.variable(&name, variable, value);
    }
    Ok(())
}
