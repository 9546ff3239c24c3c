//! What differs between two JSON values, as a JSON Patch (RFC 6902).
//!
//! Lists of objects with names are what injection changes, and it adds at their ends: what is the same at the start and at the end of
//! a list is left alone, so that a sidecar is one operation and not a rewriting of every container behind it.

use serde_json::{Value, json};

/// The operations that make `after` of `before`.
pub(super) fn diff(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(before, after, "", &mut operations);
    operations
}

fn compare(before: &Value, after: &Value, path: &str, into: &mut Vec<Value>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                into.push(json!({ "op": "remove", "path": step(path, key) }));
            }
            for (key, value) in after {
                match before.get(key) {
                    Some(was) => compare(was, value, &step(path, key), into),
                    None => into.push(json!({ "op": "add", "path": step(path, key), "value": value })),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => lists(before, after, path, into),
        _ => into.push(json!({ "op": "replace", "path": path, "value": after })),
    }
}

fn lists(before: &[Value], after: &[Value], path: &str, into: &mut Vec<Value>) {
    let alike = |(a, b): &(&Value, &Value)| is_same(a, b);
    let start = before.iter().zip(after).take_while(alike).count();
    let (old, new) = (&before[start..], &after[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(alike).count();
    // From the back, so that no operation moves what a later one names.
    for (i, (a, b)) in before.iter().rev().zip(after.iter().rev()).take(end).enumerate() {
        compare(a, b, &step(path, &(before.len() - 1 - i).to_string()), into);
    }
    for i in (start..before.len() - end).rev() {
        into.push(json!({ "op": "remove", "path": step(path, &i.to_string()) }));
    }
    for (i, value) in after.iter().enumerate().take(after.len() - end).skip(start) {
        into.push(json!({ "op": "add", "path": step(path, &i.to_string()), "value": value }));
    }
    for (i, (a, b)) in before.iter().zip(after).take(start).enumerate() {
        compare(a, b, &step(path, &i.to_string()), into);
    }
}

/// The same thing, maybe changed: objects by their names.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || (a["name"].is_string() && a["name"] == b["name"])
}

/// A JSON Pointer (RFC 6901) one step further.
fn step(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(mut value: Value, operations: &[Value]) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_value(operations.to_vec().into()).expect("this is a JSON Patch");
        json_patch::patch(&mut value, &patch).expect("it can be applied");
        value
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[a-z~/]{0,3}".prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let named = ("[ab]", inner.clone()).prop_map(|(name, value)| json!({ "name": name, "value": value }));
            prop_oneof![
                proptest::collection::vec(prop_oneof![named, inner.clone()], 0..5).prop_map(Value::from),
                proptest::collection::vec(("[a-c~/]{1,2}", inner), 0..4)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_one_of_the_other(before in value(), after in value()) {
            prop_assert_eq!(apply(before.clone(), &diff(&before, &after)), after);
        }
    }

    #[test]
    fn what_is_put_in_front_is_one_operation() {
        let before = json!({ "c": [{ "name": "a", "x": 1 }, { "name": "b" }] });
        let after = json!({ "c": [{ "name": "new" }, { "name": "a", "x": 2 }, { "name": "b" }] });
        let operations = diff(&before, &after);
        assert_eq!(
            operations,
            [
                json!({ "op": "replace", "path": "/c/0/x", "value": 2 }),
                json!({ "op": "add", "path": "/c/0", "value": { "name": "new" } }),
            ]
        );
        assert_eq!(diff(&before, &before), Vec::<Value>::new());
    }
}
