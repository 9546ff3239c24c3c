//! What injection changed, so that it can be undone exactly: the annotation [`INJECTED`].
//!
//! What injection only adds (containers, volumes) is known by name and not recorded. Recorded is what was there before: handlers of
//! probes, values of annotations, and which lists and maps had to be made; and the values that were set. Containers are named, not
//! numbered: others may add some.
//!
//! Invariant: nothing is undone that is not as injection left it. A probe that leads elsewhere, an annotation, a label or a variable that has
//! another value by now is what somebody wants since, and stays.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Capture, Choices, PROXY_CONTAINER, REDIRECT_CONTAINER, STATE_VOLUME, Settings, TOKEN_VOLUME, TRUST_VOLUME, capture,
    probes,
    refuse::{Reason, Refused},
    sidecar, tree,
};

/// Annotation with the record, and label (`true`) of every pod that has a proxy.
pub const INJECTED: &str = "outrigger.dev/injected";

/// What a list or a map was before it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Was {
    Absent,
    Null,
}

/// What has been changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    /// Version of the program that did it.
    version: String,
    /// Of what was added: the same means that the same would be added today.
    pub(super) fingerprint: String,
    /// Lists and maps that had to be made: `spec.volumes`, `env.CONTAINER`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    made: BTreeMap<String, Was>,
    /// Handlers that were replaced: container, probe or hook, and the field as it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    handlers: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
    /// Variables that were added: container, name, and the value that they got.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, BTreeMap<String, String>>,
    /// Annotations and labels that were set: map, name, and the value that they got.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set: BTreeMap<String, BTreeMap<String, String>>,
    /// Those of them that had been there: map, name, and the value as it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    changed: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), ..Self::default() }
    }

    /// A list or a map was made, if `was` says so. What it was at first counts.
    pub(super) fn made(&mut self, place: &str, was: Option<Was>) {
        if let Some(was) = was {
            self.made.entry(place.to_owned()).or_insert(was);
        }
    }

    /// A handler was replaced.
    pub(super) fn handler(&mut self, container: &str, place: &str, field: &str, was: Value) {
        let of_container = self.handlers.entry(container.to_owned()).or_default();
        of_container.entry(place.to_owned()).or_default().insert(field.to_owned(), was);
    }

    /// A variable was added.
    pub(super) fn variable(&mut self, container: &str, name: &str, value: &str) {
        self.env.entry(container.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// An annotation or a label was set.
    pub(super) fn note(&mut self, map: &str, key: &str, value: &str, before: Option<Value>) {
        self.set.entry(map.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        if let Some(before) = before {
            self.changed.entry(map.to_owned()).or_default().insert(key.to_owned(), before);
        }
    }

    /// Writes the label and, last of all, itself.
    pub(super) fn write(mut self, template: &mut Value) {
        super::set(template, "labels", INJECTED, "true", &mut self);
        // Made now, so that it is in the record that stands in it.
        tree::map(template, "annotations", &mut self);
        let text = serde_json::to_string(&self).expect("maps of strings are JSON");
        tree::put(tree::map(template, "annotations", &mut self), INJECTED, text.into());
    }

    /// Undoes what it says, in the order in which it was done, backwards.
    fn restore(&self, template: &mut Value) {
        for list in ["initContainers", "containers"] {
            let containers = template.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                self.restore_container(container);
            }
        }
        for list in ["containers", "initContainers", "volumes"] {
            self.unmake(&mut template["spec"], list, &format!("spec.{list}"));
        }
        for map in ["annotations", "labels"] {
            if template["metadata"][map].is_object() {
                self.restore_map(template, map);
            }
        }
        self.unmake(template, "metadata", "metadata");
    }

    fn restore_container(&self, container: &mut Value) {
        let name = tree::text(container, "name").to_owned();
        for (place, was) in self.handlers.get(&name).into_iter().flatten() {
            probes::restore(container, &name, place, was);
        }
        if let Some(ours) = self.env.get(&name) {
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                let is_ours = |variable: &Value| {
                    let value = ours.get(tree::text(variable, "name"));
                    value.is_some_and(|value| tree::text(variable, "value") == value)
                };
                env.retain(|variable| !is_ours(variable));
            }
            self.unmake(container, "env", &format!("env.{name}"));
        }
    }

    fn restore_map(&self, template: &mut Value, key: &str) {
        if let Some(map) = template["metadata"][key].as_object_mut() {
            let changed = self.changed.get(key);
            for (name, ours) in self.set.get(key).into_iter().flatten() {
                let Some(value) = map.get_mut(name).filter(|value| **value == *ours) else { continue };
                match changed.and_then(|changed| changed.get(name)) {
                    Some(was) => value.clone_from(was),
                    None => drop(map.shift_remove(name)),
                }
            }
        }
        self.unmake(&mut template["metadata"], key, &format!("metadata.{key}"));
    }

    /// What was made and is empty now goes again.
    fn unmake(&self, parent: &mut Value, key: &str, place: &str) {
        let Some(was) = self.made.get(place) else { return };
        let Some(parent) = parent.as_object_mut() else { return };
        let empty = parent.get(key).is_some_and(|value| match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        });
        match was {
            Was::Absent if empty => drop(parent.shift_remove(key)),
            Was::Null if empty => drop(parent.insert(key.to_owned(), Value::Null)),
            _ => {}
        }
    }
}

/// What injection adds to the lists of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ours {
    proxy: Value,
    redirect: Option<Value>,
    volumes: Vec<Value>,
}

impl Ours {
    /// As it would be added today.
    pub(super) fn fresh(choices: &Choices, settings: &Settings) -> Self {
        let redirect = (choices.capture != Capture::None).then(|| capture::container(choices, settings));
        Self { proxy: sidecar::container(choices, settings), redirect, volumes: sidecar::volumes(choices) }
    }

    pub(super) fn fingerprint(&self) -> String {
        let text = json!([self.proxy, self.redirect, self.volumes]).to_string();
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        // Tells settings apart; nobody gains anything by a collision in a pod of theirs.
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What was added earlier and maybe changed by others since, if it was this.
    pub(super) fn or_earlier(self, earlier: Option<Earlier>, fingerprint: &str) -> Self {
        match earlier {
            Some(Earlier { ours, record }) if record.fingerprint == fingerprint => {
                let whole =
                    ours.redirect.is_some() == self.redirect.is_some() && ours.volumes.len() == self.volumes.len();
                if whole && !ours.proxy.is_null() { ours } else { self }
            }
            _ => self,
        }
    }

    /// Tells the proxy what of the app it is to answer for.
    pub(super) fn tell_endpoints(&mut self, endpoints: &Map<String, Value>) -> Result<(), Refused> {
        const VARIABLE: &str = "OUTRIGGER_APP_ENDPOINTS";
        /// The kernel takes 128 KiB for one variable of a process that it starts.
        const LONGEST: usize = 96 * 1024;
        let text = Value::Object(endpoints.clone()).to_string();
        if text.len() > LONGEST {
            let message = format!(
                "the proxy would have to be told {} bytes about them, and can be told {LONGEST}: shorten the headers of \
                 the probes, or write the annotation {}rewrite-probes: disabled",
                text.len(),
                super::PREFIX
            );
            return Err(Refused::new(Reason::TooLarge, "spec.containers", message));
        }
        let Some(env) = self.proxy.get_mut("env").and_then(Value::as_array_mut) else { return Ok(()) };
        let at = env.iter().position(|variable| tree::text(variable, "name") == VARIABLE);
        let variable = json!({ "name": VARIABLE, "value": text });
        match (at, endpoints.is_empty()) {
            (Some(at), true) => drop(env.remove(at)),
            (Some(at), false) => env[at] = variable,
            (None, true) => {}
            (None, false) => env.push(variable),
        }
        Ok(())
    }

    /// A native sidecar first and capture second, so that everything after them finds the mesh. An ordinary container first of the
    /// containers and capture last of what runs before them: captured connections would find no proxy yet.
    pub(super) fn put_in(self, template: &mut Value, choices: &Choices, record: &mut Record) {
        if choices.native {
            if let Some(redirect) = self.redirect {
                super::put_first(template, "initContainers", redirect, record);
            }
            super::put_first(template, "initContainers", self.proxy, record);
        } else {
            if let Some(redirect) = self.redirect {
                tree::list(template, "initContainers", record).push(redirect);
            }
            super::put_first(template, "containers", self.proxy, record);
        }
        tree::list(template, "volumes", record).extend(self.volumes);
    }

    /// Takes what is ours, by name.
    fn take(template: &mut Value) -> Self {
        let mut ours = Self { proxy: Value::Null, redirect: None, volumes: Vec::new() };
        let mut take = |list: &str, name: &str| {
            let list = template["spec"].get_mut(list).and_then(Value::as_array_mut)?;
            let at = list.iter().position(|item| tree::text(item, "name") == name)?;
            Some(list.remove(at))
        };
        for list in ["initContainers", "containers"] {
            if let Some(proxy) = take(list, PROXY_CONTAINER) {
                ours.proxy = proxy;
            }
            ours.redirect = take(list, REDIRECT_CONTAINER).or(ours.redirect);
        }
        ours.volumes =
            [TOKEN_VOLUME, TRUST_VOLUME, STATE_VOLUME].iter().filter_map(|name| take("volumes", name)).collect();
        ours
    }
}

/// What an earlier injection left.
pub(super) struct Earlier {
    ours: Ours,
    record: Record,
}

/// The template as it was before injection, and what injection had added. `None`: it has not been injected.
pub(super) fn undo(template: &Value) -> Result<Option<(Value, Earlier)>, Refused> {
    let Some(text) = tree::annotation(template, INJECTED) else { return Ok(None) };
    let record: Record = serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "injection writes this, and cannot read it any more ({error}): remove the annotation, the containers \
             {PROXY_CONTAINER} and {REDIRECT_CONTAINER}, and the volumes {TOKEN_VOLUME}, {TRUST_VOLUME} and {STATE_VOLUME}"
        );
        Refused::new(Reason::Setting, &format!("metadata.annotations[{INJECTED}]"), message)
    })?;
    let mut bare = template.clone();
    let ours = Ours::take(&mut bare);
    if let Some(annotations) = bare["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(INJECTED);
    }
    record.restore(&mut bare);
    Ok(Some((bare, Earlier { ours, record })))
}
