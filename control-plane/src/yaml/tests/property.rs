//! Random trees in random styles, random changes: never wrong, never a panic.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-e]", 1 => "[a-z.]{1,6}/[a-z]{1,3}", 1 => Just("true".to_owned()), 1 => "[ -~]{0,4}", 1 => Just("name".to_owned())]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        "[a-z]{0,5}".prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        "([a-z #:-]{0,6}\n){1,3}".prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
        Just(json!("0644")),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn root() -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), tree()), 1..5)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

/// A change somewhere: grafts parts of another tree into this one.
fn graft(value: &Value, other: &Value, choices: &mut impl Iterator<Item = u8>) -> Value {
    match (value, choices.next().unwrap_or(0) % 8) {
        (_, 1) => other.clone(),
        (Value::Object(entries), choice) => {
            let mut new = Map::new();
            for (key, value) in entries {
                match choices.next().unwrap_or(0) % 6 {
                    1 => {}
                    2 => drop(new.insert(key.clone(), graft(value, other, choices))),
                    _ => drop(new.insert(key.clone(), value.clone())),
                }
            }
            if choice == 2 {
                new.insert("added".into(), other.clone());
            }
            Value::Object(new)
        }
        (Value::Array(items), choice) => {
            let mut new = Vec::new();
            if choice == 2 {
                new.push(other.clone());
            }
            for item in items {
                match choices.next().unwrap_or(0) % 6 {
                    1 => {}
                    2 => new.push(graft(item, other, choices)),
                    3 => new.extend([item.clone(), other.clone()]),
                    _ => new.push(item.clone()),
                }
            }
            Value::Array(new)
        }
        _ => value.clone(),
    }
}

/// The document in one of the ways in which it can be written, with comments where they can be.
fn written(value: &Value, style: u8) -> String {
    let text = match style % 4 {
        0 => to_yaml(value),
        1 => format!("{value}\n"),
        2 => serde_json::to_string_pretty(value).unwrap_or_default(),
        _ => write::block(value, 0, &style::Style { newline: "\r\n", step: 4, dash: 4 }),
    };
    if style & 4 == 0 || !matches!(style % 4, 0) {
        return text;
    }
    text.lines()
        .map(|line| {
            if line.contains(['|', '"', '>']) || !line.contains(':') {
                format!("{line}\n")
            } else {
                format!("{line} # c\n")
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn edits_are_right(value in root(), other in tree(), style in any::<u8>(), choices in prop::collection::vec(any::<u8>(), 0..64)) {
        let text = written(&value, style);
        let Ok(stream) = read(&text) else { return Ok(()) };
        let Some(one) = stream.documents.first() else { return Ok(()) };
        let after = graft(&one.value, &other, &mut choices.into_iter());
        let new = one.rewrite(&after);
        let back = read(&new.text);
        prop_assert!(back.as_ref().is_ok_and(|s| s.documents.len() == 1 && s.documents[0].value == after), "{text}\n->\n{}\n{after}", new.text);
        // An edit in place keeps every line that stays, in order; and undoing it says the same again.
        let undone = read(&new.text).expect("it was just read").documents[0].rewrite(&one.value);
        prop_assert!(says(&undone.text, &one.value), "{}\n->\n{}", new.text, undone.text);
    }

    #[test]
    fn what_is_written_says_the_value(value in root()) {
        prop_assert!(says(&to_yaml(&value), &value), "{}", to_yaml(&value));
    }

    #[test]
    fn an_added_entry_leaves_all_else(value in root(), other in tree(), style in any::<u8>()) {
        let text = written(&value, style);
        let Ok(stream) = read(&text) else { return Ok(()) };
        let Some(one) = stream.documents.first().filter(|one| one.value.as_object().is_some_and(|o| !o.is_empty())) else { return Ok(()) };
        let mut after = one.value.clone();
        after["outrigger.dev/added"] = other;
        let new = one.rewrite(&after);
        prop_assert_eq!(new.anew, None, "{}", text);
        let again = read(&new.text).expect("it was just read").documents[0].rewrite(&one.value);
        prop_assert_eq!(again.text, text, "{}", new.text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,64}") {
        drop(read(&text));
    }

    #[test]
    fn near_yaml_is_edited_or_refused(text in "([a-c]: |- |\\? |  |\n|\\[|\\]|\\{|\\}|, |: |#|&a |\\*a|\\||>|'|\"|x|!|<<: |---\n|\\.\\.\\.\n|\t|\r\n|%|é){0,24}", other in tree()) {
        let Ok(stream) = read(&text) else { return Ok(()) };
        let parts: String = stream.documents.iter().map(|d| d.text).collect();
        prop_assert_eq!(format!("{}{parts}{}", stream.mark, stream.rest), text.clone());
        for one in &stream.documents {
            let mut after = one.value.clone();
            match &mut after {
                Value::Object(entries) => drop(entries.insert("added".into(), other.clone())),
                Value::Array(items) => items.insert(0, other.clone()),
                _ => after = other.clone(),
            }
            let new = one.rewrite(&after);
            prop_assert!(says(&new.text, &after), "{text:?} -> {:?}", new.text);
        }
    }
}
