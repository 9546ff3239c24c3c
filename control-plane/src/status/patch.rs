//! From what is wanted and what stands there to what is to be written.
//!
//! The lists of `status` are atomic: whoever applies one applies it whole. So the entries of other controllers are written back as
//! they were read, and the write carries the `resourceVersion` that they were read with, or they could be lost.

use serde_json::{Map, Value};

use super::{CONTROLLER, REFUSED};

/// Entries that the API takes in `status.ancestors`. The last of ours are left out: those of others were there before.
const MAX_ANCESTORS: usize = 16;
/// Entries that the API takes in `status.parents`.
const MAX_PARENTS: usize = 32;

/// The `status` to apply over `current` (the object's own, with entries of other controllers) so that our entries are `wanted`, with
/// `lastTransitionTime` `now` (RFC 3339) where a condition's status changes. `None`: it is so already.
#[must_use]
pub fn patch(current: Option<&Value>, wanted: &Value, now: &str) -> Option<Value> {
    let mut status = Map::new();
    let mut differs = false;
    for (field, wanted) in wanted.as_object()? {
        let there = current.and_then(|c| c.get(field)).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
        let there: Vec<Value> = match field.as_str() {
            "conditions" => there.iter().filter(|c| is_ours(c)).cloned().collect(),
            _ => there.to_vec(),
        };
        let mut written = match field.as_str() {
            "conditions" => merge_conditions(&there, wanted, now),
            _ => entries(&there, wanted, now),
        };
        written.truncate(if field == "ancestors" { MAX_ANCESTORS } else { MAX_PARENTS });
        differs |= !same(&there, &written);
        status.insert(field.clone(), written.into());
    }
    differs.then_some(Value::Object(status))
}

/// A list of conditions has no names of controllers; its entries are told apart by type.
fn is_ours(condition: &Value) -> bool {
    matches!(condition["type"].as_str(), Some("Accepted" | "ResolvedRefs" | REFUSED))
}

/// Entries of others as they are, then ours.
fn entries(there: &[Value], wanted: &[Value], now: &str) -> Vec<Value> {
    let (ours, others): (Vec<&Value>, Vec<&Value>) = there.iter().partition(|e| e["controllerName"] == CONTROLLER);
    let mut written: Vec<Value> = others.into_iter().cloned().collect();
    for entry in wanted {
        let before = ours.iter().find(|o| reference(o) == reference(entry));
        let conditions = |e: &Value| e["conditions"].as_array().cloned().unwrap_or_default();
        let merged = merge_conditions(&before.map(|b| conditions(b)).unwrap_or_default(), &conditions(entry), now);
        let mut entry = entry.clone();
        entry["conditions"] = merged.into();
        written.push(entry);
    }
    written
}

fn reference(entry: &Value) -> Option<&Value> {
    entry.get("parentRef").or_else(|| entry.get("ancestorRef"))
}

/// A condition whose status is as before keeps its time.
fn merge_conditions(there: &[Value], wanted: &[Value], now: &str) -> Vec<Value> {
    let with_time = |condition: &Value| {
        let before = there.iter().find(|c| c["type"] == condition["type"] && c["status"] == condition["status"]);
        let time = before.and_then(|c| c["lastTransitionTime"].as_str()).unwrap_or(now);
        let mut condition = condition.clone();
        condition["lastTransitionTime"] = time.into();
        condition
    };
    wanted.iter().map(with_time).collect()
}

/// Order of the entries says nothing.
fn same(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.contains(x)) && b.iter().all(|x| a.contains(x))
}
