//! Injection: the template of a pod becomes that of a pod of the mesh, and back.
//!
//! Pure functions on JSON, the same for the mutating webhook and for `outrigger inject`: what they add follows from the template, from
//! where it is to run ([`Context`]) and from how the mesh is set up ([`Settings`]), and from nothing else. In the order of the work:
//! the template is looked at (`shape`), it is decided whether a proxy is wanted (`wish`) and possible (`refuse`), annotations
//! become [`Choices`] (`annotations`, `values`), probes, scrapes and environments are rewritten (`rewrite`), and the containers and volumes
//! are built (`sidecar`, `capture`) and put in.
//!
//! Invariants, each with a property test: `uninject(inject(t)) == t`; `inject(inject(t)) == inject(t)`; nothing panics. Both follow from one
//! habit: every change of what was there is noted in a [`record`](self) that goes into the annotation [`INJECTED`], and injecting again
//! undoes the first injection before it starts. So containers that other webhooks add in between get what the others got. What
//! others changed in our own containers (a mirror's image name, for one) stays, as long as we would add the same as before.

mod annotations;
mod capture;
mod flags;
mod page;
mod probes;
mod record;
mod refuse;
mod rewrite;
mod scrape;
mod settings;
mod shape;
mod sidecar;
mod tree;
mod values;
mod wish;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::{
    annotations::{ANNOTATIONS, Annotation, Capture, Choices, PREFIX},
    flags::Flags,
    page::page,
    record::INJECTED,
    refuse::{Reason, Refused},
    settings::{NativeSidecars, Settings, SettingsError},
    wish::asks,
};

use self::{record::Record, tree::put};

/// Name of the sidecar: a pod that has it, as a container or a native sidecar, is in the mesh.
pub const PROXY_CONTAINER: &str = "outrigger-proxy";
/// Name of the container that installs the capture rules.
pub const REDIRECT_CONTAINER: &str = "outrigger-redirect";
/// Volume of the token that proves the pod's identity to the control plane.
pub const TOKEN_VOLUME: &str = "outrigger-token";
/// Volume of the trust bundle.
pub const TRUST_VOLUME: &str = "outrigger-trust";
/// Volume of what the proxy remembers across restarts of its container.
pub const STATE_VOLUME: &str = "outrigger-state";

/// User and group of the proxy; its connections are not captured.
pub const PROXY_UID: u32 = 2112;
/// Where the proxy is asked how it is, and the app by way of the proxy.
pub const ADMIN_PORT: u16 = 9990;
/// Where captured connections of the app arrive; without capture, an HTTP proxy on loopback.
pub const OUTBOUND_PORT: u16 = 9991;
/// Where captured connections to the pod arrive.
pub const INBOUND_PORT: u16 = 9992;

/// Ports that the proxy takes in every pod: an app cannot have them, and is never asked there.
const OWN_PORTS: [u16; 3] = [ADMIN_PORT, OUTBOUND_PORT, INBOUND_PORT];

/// Where a template is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Its namespace; empty: not known, as of a text without one.
    pub namespace: String,
    /// Labels of the namespace, as far as they are known.
    pub namespace_labels: BTreeMap<String, String>,
    /// Somebody asked for this very template (`outrigger inject`): a proxy is wanted unless a label says otherwise.
    pub explicit: bool,
}

/// What became of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With the proxy. The same as the template if that had it already.
    Injected(Box<Value>),
    /// No proxy is wanted; why, in words.
    Skipped(String),
}

/// Adds the proxy to `template` (`metadata` and `spec` of a pod or of a pod template; what else it has stays).
///
/// # Errors
/// A proxy is wanted and cannot be added: the field, why, and what would be right.
pub fn inject(template: &Value, context: &Context, settings: &Settings) -> Result<Outcome, Refused> {
    shape::check(template)?;
    if let wish::Wish::No(why) = wish::wish(template, context, settings)? {
        return Ok(Outcome::Skipped(why));
    }
    let (bare, earlier) = match record::undo(template)? {
        Some((bare, ours)) => (bare, Some(ours)),
        None => (template.clone(), None),
    };
    let choices = Choices::of(&bare, settings)?;
    refuse::check(&bare, context, &choices)?;
    let mut injected = bare;
    let mut record = Record::new();
    let endpoints = rewrite::rewrite(&mut injected, &choices, &mut record)?;
    let fresh = record::Ours::fresh(&choices, settings);
    record.fingerprint = fresh.fingerprint();
    let mut ours = fresh.or_earlier(earlier, &record.fingerprint);
    ours.tell_endpoints(&endpoints)?;
    ours.put_in(&mut injected, &choices, &mut record);
    record.write(&mut injected);
    shape::check_size(&injected)?;
    Ok(Outcome::Injected(Box::new(injected)))
}

/// The template as it was before [`inject`], with what people changed since. `None`: it has not been injected.
#[must_use]
pub fn uninject(template: &Value) -> Option<Value> {
    shape::check(template).ok()?;
    record::undo(template).ok()?.map(|(bare, _)| bare)
}

/// What whoever writes `template` should know although it is injected: for `stderr`, and warnings of the API server.
#[must_use]
pub fn advice(template: &Value, settings: &Settings) -> Vec<String> {
    let Ok(choices) = Choices::of(template, settings) else { return Vec::new() };
    let mut advice = Vec::new();
    let restarts = template["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    if !choices.native && restarts != "Always" {
        advice.push(format!(
            "without native sidecars (Kubernetes 1.29) this pod ends only when its app says so: \
             POST http://127.0.0.1:{ADMIN_PORT}/shutdown"
        ));
    }
    if choices.capture == Capture::None && choices.inbound_listeners.is_empty() {
        advice.push(format!(
            "without capture and {}inbound-listeners nothing that arrives at this pod is authenticated or authorized by the mesh",
            annotations::PREFIX
        ));
    }
    advice
}

/// Puts a container before all others of its list.
fn put_first(template: &mut Value, list: &'static str, container: Value, record: &mut Record) {
    tree::list(template, list, record).insert(0, container);
}

/// Sets an annotation or a label and notes what was there.
fn set(template: &mut Value, map: &'static str, key: &str, value: &str, record: &mut Record) {
    let before = put(tree::map(template, map, record), key, value.into());
    record.note(map, key, value, before);
}
