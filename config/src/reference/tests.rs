use std::collections::HashSet;

use serde_json::json;

use super::{cells, forms::FORMS};
use crate::documents::FORMATS;

#[test]
fn every_form_has_a_word_and_a_good_example() {
    let named: HashSet<&str> = FORMS.iter().map(|f| f.format).collect();
    assert_eq!(named.len(), FORMS.len());
    assert_eq!(named, FORMATS.iter().map(|f| f.name).collect());
    for form in FORMS {
        let format = FORMATS.iter().find(|f| f.name == form.format).expect("compared above");
        (format.check)(form.example).unwrap_or_else(|e| panic!("{}: {e}", form.format));
    }
}

#[test]
fn descriptions_are_taken_apart() {
    let meaning = |text: &str| cells::meaning(&json!({ "description": text }));
    let m = meaning("Attempts beyond the first. Default 2.");
    assert_eq!((&*m.text, &*m.default), ("Attempts beyond the first.", "2"));
    let m = meaning("Age. Default: none.");
    assert_eq!((&*m.text, &*m.default), ("Age.", "none"));
    let m = meaning("Absent: no breaker.");
    assert_eq!((&*m.text, &*m.default), ("", "no breaker"));
    let m = meaning("`idempotent` (the default), or a list of methods.");
    assert_eq!((&*m.text, &*m.default), ("`idempotent` (the default), or a list of methods.", "`idempotent`"));
    let m = meaning("Default `a`.\n\n`a`: First.\n`b`: Second.");
    assert_eq!((&*m.text, &*m.default), ("", "`a`"));
    assert_eq!(m.words, [("a".into(), "First.".into()), ("b".into(), "Second.".into())]);
    let m = meaning("Hosts; `*.` at the start for all\nnames below. Absent: every host.");
    assert_eq!((&*m.text, &*m.default), ("Hosts; `*.` at the start for all names below.", "every host"));
}

#[test]
fn bounds_and_types_are_in_words() {
    let codes =
        json!({ "type": "array", "items": { "type": "integer", "minimum": 400, "maximum": 599 }, "maxItems": 9 });
    assert_eq!(cells::type_of(&codes, None), "list of integer");
    assert_eq!(cells::bounds(&codes), "at most 9 items; each 400 to 599");
    let time = json!({ "type": "string", "format": "gep-2257" });
    assert_eq!(cells::type_of(&time, None), "duration");
    assert_eq!(cells::bounds(&json!({ "type": "string", "enum": ["a", "b"] })), "`a`, `b`");
    assert_eq!(
        cells::type_of(&json!({ "type": "array", "items": { "properties": {}, "type": "object" } }), Some("x")),
        "list of [object](#x)"
    );
}

#[test]
fn examples_stand_on_one_line_or_nowhere() {
    let value = |text: &str| serde_yaml::from_str::<serde_yaml::Value>(text).expect("YAML");
    let shown = |text: &str| cells::example(&value(text));
    assert_eq!(shown("'1'").as_deref(), Some("'1'"));
    assert_eq!(shown("[GET, POST]").as_deref(), Some("[GET, POST]"));
    assert_eq!(shown("{ a: 1 }").as_deref(), Some("{ a: 1 }"));
    assert_eq!(shown("''").as_deref(), Some("\"\""));
    assert_eq!(shown("\"a\\nb\""), None);
    let path = ["a".to_owned(), "b".to_owned()];
    assert_eq!(cells::find(&value("{ a: [{ c: 1 }, { b: 2 }] }"), &path), Some(&value("2")));
    assert_eq!(cells::find(&value("{ a: 1 }"), &path), None);
}
