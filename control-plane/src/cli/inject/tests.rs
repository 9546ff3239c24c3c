//! Manifests as people write them: injected and back, to the byte; and where templates are.

use std::fs;

use serde_json::json;

use super::*;

/// Each is a file of `control-plane/tests/manifests`.
fn manifests() -> Vec<(String, String)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a text");
    files.iter().map(|path| (path.display().to_string(), text(path))).collect()
}

/// The text with every template changed, and how many were. No document may lose its comments.
fn each(name: &str, text: &str, change: &impl Fn(&Object<'_>, &Value) -> Change) -> (String, usize) {
    let stream = yaml::read(text).unwrap_or_else(|e| panic!("{name}:{e}"));
    let mut out = stream.mark.to_owned();
    let mut count = 0;
    for document in &stream.documents {
        let mut report = Report::new(Global { verbose: 0, log_format: super::super::LogFormat::Text });
        let after = changed(document, name, change, &mut report);
        count += usize::from(after != document.value);
        let edited = document.rewrite(&after);
        assert_eq!(edited.anew, None, "{name}: {}", document.text);
        out.push_str(&edited.text);
    }
    (out + stream.rest, count)
}

fn inject_all(object: &Object<'_>, template: &Value) -> Change {
    let namespace = object.namespace().unwrap_or_default().to_owned();
    injected(template, &Context { namespace, explicit: true, ..Context::default() }, &Settings::default())
}

fn uninject_all(_: &Object<'_>, template: &Value) -> Change {
    match inject::uninject(template) {
        Some(bare) => Change::To(Box::new(bare), Told::changed("uninjected")),
        None => Change::None(Told::skipped(String::new())),
    }
}

/// What is lost of a probe that cannot be kept as it is, because a proxy asks in its stead: how it was written, and comments inside.
const REWRITTEN: &[(&str, &str, &str)] = &[
    (
        "04-statefulset.yaml",
        "                        tcpSocket: {port: mysql}\n",
        "                        tcpSocket:\n                            port: mysql\n",
    ),
    (
        "17-comments.yaml",
        "            grpc: # thirty-seven\n              # thirty-eight\n              port: 9000 # thirty-nine\n",
        "            grpc:\n              port: 9000\n",
    ),
];

/// Lines of `text` that do not stand in `whole` in this order.
fn missing<'t>(text: &'t str, whole: &str) -> Vec<&'t str> {
    let mut rest = whole.lines();
    text.lines().filter(|line| !rest.clone().any(|other| other == *line) || !rest.any(|other| other == *line)).collect()
}

#[test]
fn what_was_injected_is_taken_out_to_the_byte() {
    let files = manifests();
    assert!(files.len() >= 20, "{}", files.len());
    for (name, text) in files {
        let (there, count) = each(&name, &text, &inject_all);
        assert!(count > 0, "{name}: nothing is injected");
        assert!(there.contains(inject::PROXY_CONTAINER), "{name}");
        let wanted =
            REWRITTEN.iter().filter(|(file, ..)| name.ends_with(file)).fold(text.clone(), |text, (_, old, new)| {
                assert!(text.contains(old), "{name}");
                text.replace(old, new)
            });
        let lost: Vec<_> =
            missing(&wanted, &there).into_iter().filter(|line| line.trim_start().starts_with('#')).collect();
        assert!(lost.is_empty(), "{name} loses comments: {lost:#?}\n{there}");
        let (again, changes) = each(&name, &there, &inject_all);
        assert!(changes == 0 && again == there, "{name}: injecting twice is injecting once");
        let (back, _) = each(&name, &there, &uninject_all);
        assert_eq!(back, wanted, "{name}\n{there}");
        let crlf = text.replace('\n', "\r\n");
        let (there, _) = each(&name, &crlf, &inject_all);
        assert!(!there.replace("\r\n", "").contains('\n'), "{name}: {there:?}");
        assert_eq!(each(&name, &there, &uninject_all).0, wanted.replace('\n', "\r\n"), "{name}");
    }
}

#[test]
fn templates_are_found_by_kind_and_shape() {
    let spec = json!({ "containers": [{ "name": "web" }] });
    let template = json!({ "metadata": {}, "spec": spec });
    for (value, wanted) in [
        (json!({ "kind": "Pod", "spec": spec }), Some("")),
        (json!({ "kind": "Deployment", "spec": { "template": template } }), Some("/spec/template")),
        (json!({ "kind": "Deployment", "spec": { "template": {} } }), Some("/spec/template")),
        (
            json!({ "kind": "Service", "apiVersion": "serving.knative.dev/v1", "spec": { "template": template } }),
            Some("/spec/template"),
        ),
        (
            json!({ "kind": "CronJob", "spec": { "jobTemplate": { "spec": { "template": template } } } }),
            Some("/spec/jobTemplate/spec/template"),
        ),
        (json!({ "kind": "PodTemplate", "template": template }), Some("/template")),
        (json!({ "kind": "Service", "spec": { "ports": [] } }), None),
        (json!({ "kind": "SecretTemplate", "spec": { "template": { "data": {} } } }), None),
        (json!({ "kind": "Runner", "spec": spec }), None),
        (json!("text"), None),
    ] {
        let all = objects(&value);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].template().map(|(at, _)| at).as_deref(), wanted, "{value}");
    }
    let list = json!({ "kind": "List", "items": [{ "kind": "Pod", "spec": spec }, { "kind": "PodList", "items": [{ "kind": "Pod", "spec": spec }] }] });
    let found: Vec<_> = objects(&list).iter().filter_map(|o| o.template()).map(|(at, _)| at).collect();
    assert_eq!(found, ["/items/0", "/items/1/items/0"]);
    assert!(objects(&Value::Null).is_empty());
}

#[test]
fn texts_are_joined_as_documents() {
    let join = |texts: &[&str]| source::join(texts.iter().map(|text| (*text).to_owned()).collect());
    assert_eq!(join(&["a: 1", "# b\nb: 2\n", "", "---\nc: 3\n"]), "a: 1\n---\n# b\nb: 2\n---\nc: 3\n");
    assert_eq!(join(&["a: 1\n", "%YAML 1.2\n---\nb: 2\n"]), "a: 1\n...\n%YAML 1.2\n---\nb: 2\n");
    assert_eq!(join(&["{}"]), "{}");
}
