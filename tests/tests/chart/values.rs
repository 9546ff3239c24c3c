//! Values and their documentation: each has a comment that begins with its name, and a row in the README.

use std::fmt::Write as _;

use outrigger_tests::helm::{chart, documents};
use serde_json::Value;

/// A value that people set.
struct Setting {
    path: Vec<String>,
    comment: String,
}

/// Keys with a comment, in the order of the file. A key below one that has a comment is a part of its default.
fn settings(yaml: &str) -> Vec<Setting> {
    let (mut path, mut comment, mut found) = (Vec::<(usize, String)>::new(), String::new(), Vec::<Setting>::new());
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let body = line.trim_start();
        if let Some(words) = body.strip_prefix('#') {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(words.trim());
            continue;
        }
        let key = body.split_once(':').map(|(key, _)| key).filter(|key| !body.starts_with('-') && !key.contains(' '));
        if let Some(key) = key {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key.to_owned()));
            let names: Vec<String> = path.iter().map(|(_, name)| name.clone()).collect();
            if !comment.is_empty() {
                let inner = |setting: &&Setting| names.starts_with(&setting.path) && names.len() > setting.path.len();
                assert!(
                    found.iter().find(inner).is_none(),
                    "{names:?} is a part of a value that has a comment already"
                );
                found.push(Setting { path: names, comment: comment.clone() });
            }
        }
        comment.clear();
    }
    found
}

/// Every leaf is a setting, or a part of one.
fn check_all_documented(value: &Value, path: &mut Vec<String>, known: &[Setting]) {
    if known.iter().any(|setting| setting.path == *path) {
        return;
    }
    let map = value.as_object().unwrap_or_else(|| panic!("values.yaml: {} has no comment", path.join(".")));
    for (key, inner) in map {
        path.push(key.clone());
        check_all_documented(inner, path, known);
        path.pop();
    }
}

fn table(yaml: &str) -> String {
    let values = documents(yaml).remove(0);
    let settings = settings(yaml);
    check_all_documented(&values, &mut Vec::new(), &settings);
    let mut rows = "| value | default | |\n| --- | --- | --- |\n".to_owned();
    for setting in &settings {
        let key = setting.path.last().expect("a key");
        assert!(
            setting.comment.starts_with(key.as_str()),
            "the comment of {key} begins with {key}: {}",
            setting.comment
        );
        let default = setting.path.iter().fold(&values, |value, name| &value[name]);
        let (name, default) = (setting.path.join("."), default.to_string());
        let words = setting.comment.replace('|', "\\|");
        writeln!(rows, "| `{name}` | `{default}` | {words} |").expect("text");
    }
    rows
}

/// `OUTRIGGER_BLESS=1` writes the table.
#[test]
fn the_readme_has_every_value() {
    const START: &str = "<!-- values -->\n";
    const END: &str = "<!-- /values -->";
    let file = chart("outrigger").join("README.md");
    let readme = super::text(&file);
    let (before, rest) = readme.split_once(START).expect("the mark of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let wanted = format!("{before}{START}{}{END}{after}", table(&super::text(&chart("outrigger").join("values.yaml"))));
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        std::fs::write(&file, wanted).expect("it can be written");
        return;
    }
    assert!(readme == wanted, "{} is out of date: run this test with OUTRIGGER_BLESS=1", file.display());
}

/// A value that the schema does not know could not be set; one that the chart does not have would do nothing.
#[test]
fn the_schema_knows_the_values_and_no_others() {
    let schema: Value =
        serde_json::from_str(&super::text(&chart("outrigger").join("values.schema.json"))).expect("JSON");
    let values = documents(&super::text(&chart("outrigger").join("values.yaml"))).remove(0);
    compare(&schema, &values, "");
}

fn compare(schema: &Value, values: &Value, place: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let Some(values) = values.as_object() else { return };
    for key in values.keys() {
        assert!(properties.contains_key(key), "the schema lacks {place}.{key}");
    }
    for (key, inner) in properties {
        // What Helm hands to subcharts; what Kubernetes knows of resources beyond our defaults.
        if key == "global" || place.ends_with(".resources") {
            continue;
        }
        let value = values.get(key).unwrap_or_else(|| panic!("values.yaml lacks {place}.{key}"));
        compare(inner, value, &format!("{place}.{key}"));
    }
}
