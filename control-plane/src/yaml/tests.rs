//! What edits leave alone, what they change, and that what they write says what it should.

mod manifests;
mod property;

use serde_json::{Value, json};

use super::*;

/// One document after a change of its value, edited in place.
fn edited(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let stream = read(text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    let mut after = stream.documents[0].value.clone();
    change(&mut after);
    let edited = stream.documents[0].rewrite(&after);
    assert_eq!(edited.anew, None, "written anew:\n{text}\n->\n{}", edited.text);
    assert_eq!(read(&edited.text).expect("YAML").documents[0].value, after);
    edited.text
}

/// As [`edited`]; and undoing the change restores the text.
fn there_and_back(text: &str, wanted: &str, change: impl FnOnce(&mut Value)) {
    let before = read(text).expect("YAML").documents[0].value.clone();
    let there = edited(text, change);
    assert_eq!(there, wanted, "\n{there}");
    assert_eq!(edited(&there, |value| *value = before), text);
}

fn insert(at: &str, key: &str, value: Value) -> impl FnOnce(&mut Value) {
    let (at, key) = (at.to_owned(), key.to_owned());
    move |root| drop(root.pointer_mut(&at).and_then(Value::as_object_mut).expect("an object").insert(key, value))
}

fn value(text: &str) -> Value {
    read(text).unwrap_or_else(|e| panic!("{e}")).documents[0].value.clone()
}

#[test]
fn entries_come_behind_the_one_they_follow() {
    there_and_back(
        "# head\na: 1   # one\n\n# about b\nb:\n  c: x\n# tail\n",
        "# head\na: 1   # one\n\n# about b\nb:\n  c: x\n  d: [] # none\n# tail\n".replace(" # none", "").as_str(),
        insert("/b", "d", json!([])),
    );
}

#[test]
fn lists_are_indented_as_the_file_does() {
    let sidecar = || json!({ "name": "p", "ports": [{ "containerPort": 1 }] });
    let prepend = |at: &'static str, item: Value| {
        move |v: &mut Value| v.pointer_mut(at).and_then(Value::as_array_mut).expect("a list").insert(0, item)
    };
    there_and_back(
        "spec:\n  c:\n  # the app\n  - name: web # w\n    image: x\n  - name: b\n",
        "spec:\n  c:\n  - name: p\n    ports:\n    - containerPort: 1\n  # the app\n  - name: web # w\n    image: x\n  - name: b\n",
        prepend("/spec/c", sidecar()),
    );
    there_and_back(
        "spec:\n    c:\n        - name: web\n          image: x\n",
        "spec:\n    c:\n        - name: p\n          ports:\n              - containerPort: 1\n        - name: web\n          image: x\n",
        prepend("/spec/c", sidecar()),
    );
    there_and_back("- - 1\n  - 2\n", "- - 0\n  - 1\n  - 2\n", prepend("/0", json!(0)));
}

#[test]
fn the_first_entry_behind_a_dash_may_go_and_come() {
    there_and_back("- a: 1\n  b: 2\n- c: 3\n", "- b: 2\n- c: 3\n", |v| {
        drop(v[0].as_object_mut().expect("a mapping").shift_remove("a"))
    });
    let text =
        edited("- a: 1\n  # about b\n  b: 2\n", |v| drop(v[0].as_object_mut().expect("a mapping").shift_remove("a")));
    assert_eq!(text, "-\n  # about b\n  b: 2\n");
    there_and_back("- b: 2\n", "- a: 1\n  b: 2\n", |v| *v = json!([{ "a": 1, "b": 2 }]));
}

#[test]
fn empty_collections_open_and_close() {
    there_and_back("a: {} # c\nb: 1\n", "a: # c\n  x: z\nb: 1\n", insert("/a", "x", json!("z")));
    there_and_back("a: []\nb: 1\n", "a:\n- x: z\nb: 1\n", |v| v["a"] = json!([{ "x": "z" }]));
    there_and_back("a:   # c\nb: 1\n", "a:   # c\n  x: z\nb: 1\n", |v| v["a"] = json!({ "x": "z" }));
    there_and_back("l: { a: {} }\n", "l: { a: { x: z } }\n", insert("/l/a", "x", json!("z")));
}

#[test]
fn flow_collections_keep_their_style() {
    there_and_back("m: { a: 1, b: x } # c\n", "m: { a: 1, b: x, c: \"10\" } # c\n", insert("/m", "c", json!("10")));
    there_and_back("m: {a: 1}\n", "m: {a: 1, c: {d: e}}\n", insert("/m", "c", json!({ "d": "e" })));
    there_and_back("l: [a, b]\n", "l: [0, a, b, \"1\"]\n", |v| v["l"] = json!([0, "a", "b", "1"]));
    there_and_back("{\"a\":1,\"b\":[1]}", "{\"a\":1,\"b\":[1,2],\"c\":{\"d\":\"e\"}}", |v| {
        *v = json!({"a": 1, "b": [1, 2], "c": {"d": "e"}})
    });
    there_and_back(
        "{\n    \"a\": {\n        \"b\": \"c\"\n    }\n}\n",
        "{\n    \"a\": {\n        \"b\": \"c\",\n        \"l\": [\n            {\n                \"x\": 1\n            }\n        ]\n    }\n}\n",
        insert("/a", "l", json!([{ "x": 1 }])),
    );
    let text = edited("l: [\n  a, # one\n  b, # two\n  c\n]\n", |v| v["l"] = json!(["a", "c"]));
    assert_eq!(text, "l: [\n  a, # one\n  c\n]\n");
}

#[test]
fn scalars_keep_their_quotes_and_comments() {
    let text = "a: 'x' # c\nb: \"x\" # c\nc: x # c\nd: |\n  x\n  y\ne: >-\n  f\n  g\n\nz: 1\n";
    let text = edited(text, |v| {
        for key in ["a", "b", "c"] {
            v[key] = json!("it's");
        }
        v["d"] = json!("1\n2\n");
        v["e"] = json!("yes");
    });
    assert_eq!(text, "a: 'it''s' # c\nb: \"it's\" # c\nc: \"it's\" # c\nd: |\n  1\n  2\ne: \"yes\"\n\nz: 1\n");
}

#[test]
fn kinds_change() {
    there_and_back("a: 5 # c\nb: 1\n", "a: # c\n  x: 1\nb: 1\n", |v| v["a"] = json!({ "x": 1 }));
    there_and_back("a:\n  x: 1\nb: 1\n", "a:\n- 1\nb: 1\n", |v| v["a"] = json!([1]));
    let text = edited("- 5 # c\n- 6\n", |v| v[0] = json!({ "x": 1, "z": 2 }));
    assert_eq!(text, "- x: 1\n  z: 2\n- 6\n");
}

#[test]
fn line_ends_stay() {
    there_and_back("a: 1\r\nb:\r\n  c: 1\r\n", "a: 1\r\nb:\r\n  c: 1\r\n  d: 2\r\n", insert("/b", "d", json!(2)));
    there_and_back("a: 1\nb:\n  c: 1", "a: 1\nb:\n  c: 1\n  d: 2\ne: 3", |v| {
        *v = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "e": 3 })
    });
}

#[test]
fn markers_directives_and_neighbours_stay() {
    let text = "\u{feff}# first\n---\na: 1\n...\n%YAML 1.2\n---\n# second\nb: 1 # x\n---\n---\nc: 1\n...\n# end\n";
    let stream = read(text).expect("YAML");
    let values: Vec<_> = stream.documents.iter().map(|d| d.value.clone()).collect();
    assert_eq!(values, [json!({ "a": 1 }), json!({ "b": 1 }), json!(null), json!({ "c": 1 })]);
    let parts: String = stream.documents.iter().map(|d| d.text).collect();
    assert_eq!(format!("{}{parts}{}", stream.mark, stream.rest), text);
    let lines: Vec<_> = stream.documents.iter().map(|d| d.line).collect();
    assert_eq!((lines[0], lines[1], lines[3]), (3, 8, 11));
    let new = edit(text, 1, &json!({ "b": 1 }), &json!({ "b": 2, "d": "e" })).expect("it is edited");
    assert_eq!(new, text.replace("b: 1 # x\n", "b: 2 # x\nd: e\n"));
    let new = edit(text, 3, &json!({ "c": 1 }), &json!({ "c": 1, "d": "e" })).expect("it is edited");
    assert_eq!(new, text.replace("c: 1\n", "c: 1\nd: e\n"));
    assert_eq!(edit(text, 4, &json!(1), &json!(2)), Err(EditError::NoDocument(4, 4)));
    assert_eq!(edit(text, 0, &json!(1), &json!(2)), Err(EditError::Stale(0)));
    for empty in ["", "# nothing\n", "\n\n"] {
        let stream = read(empty).expect("YAML");
        assert!(stream.documents.is_empty() && stream.rest == empty);
    }
}

#[test]
fn aliases_and_anchors() {
    let text = "a: &x { k: 1 }\nb: *x\nc: *x # c\n";
    assert_eq!(edited(text, |v| v["b"] = json!({ "k": 2 })), "a: &x { k: 1 }\nb:\n  k: 2\nc: *x # c\n");
    assert_eq!(
        edited(text, |v| v["a"] = json!({ "k": 1, "l": 2 })),
        "a: &x { k: 1, l: 2 }\nb:\n  k: 1\nc: # c\n  k: 1\n"
    );
    let all = |v: &mut Value| *v = json!({ "a": { "k": 3 }, "b": { "k": 3 }, "c": { "k": 3 } });
    assert_eq!(edited(text, all), "a: &x { k: 3 }\nb: *x\nc: *x # c\n");
    let gone = |v: &mut Value| *v = json!({ "b": { "k": 1 }, "c": { "k": 1 } });
    assert_eq!(edited(text, gone), "b:\n  k: 1\nc: # c\n  k: 1\n");
}

#[test]
fn merge_keys_are_read_and_kept() {
    let text = "d: &d\n  a: 1\n  b: 2\nm:\n  <<: *d\n  b: 3 # mine\n";
    assert_eq!(value(text)["m"], json!({ "a": 1, "b": 3 }));
    there_and_back(text, "d: &d\n  a: 1\n  b: 2\nm:\n  <<: *d\n  b: 3 # mine\n  c: 4\n", insert("/m", "c", json!(4)));
    assert_eq!(edited(text, |v| v["m"]["a"] = json!(9)), text.replace("# mine\n", "# mine\n  a: 9\n"));
    let stream = read(text).expect("YAML");
    let after = json!({ "d": { "a": 1, "b": 5 }, "m": { "a": 1, "b": 3 } });
    let anew = stream.documents[0].rewrite(&after);
    assert_eq!((anew.anew, value(&anew.text)), (Some(Anew::Shared), after));
}

#[test]
fn words_mean_what_they_mean_to_kubectl() {
    let text = "a: yes\nb: 0644\nc: 1_000\nd: 0x1F\ne: 1e3\nf: 2001-01-01\ng: 1.2.3\nh: ~\ni: !!str 5\nj: 'no'\nk: 12:30\n8080: x\ntrue: y\n0o7: z\nl: 08\nm: 18446744073709551615\n";
    let wanted = json!({
        "a": true, "b": 420, "c": 1000, "d": 31, "e": 1000.0, "f": "2001-01-01", "g": "1.2.3", "h": null, "i": "5",
        "j": "no", "k": "12:30", "8080": "x", "true": true, "7": "z", "l": 8.0, "m": u64::MAX,
    });
    assert_eq!(value(text), wanted);
    assert_eq!(edited(text, |v| v["b"] = json!(420)), text);
}

#[test]
fn faults_have_their_place() {
    for (text, place) in [
        ("a: 1\na: 2\n", "2:4: the key `a` stands twice"),
        ("a: [\n", "2:1: not YAML"),
        ("a:\n\t- b\n", "not YAML"),
        ("? [a]\n: b\n", "1:3: a key must be a string"),
        ("a: !Ref x\n", "1:4: the tag `!Ref` has no meaning"),
        ("a: .inf\n", "1:4: `.inf` is no number"),
        ("a: *b\n", "1:4: not YAML"),
        ("a: b\0c\n", "1:5: not YAML: a NUL"),
        ("a: !!int x\n", "1:4: `x` is no `!!int`"),
    ] {
        let fault = read(text).expect_err(text).to_string();
        assert!(fault.contains(place), "{text:?}: {fault}");
    }
    let deep = "[".repeat(MAX_DEPTH + 1);
    assert!(read(&deep).expect_err("too deep").message.contains("nested deeper"));
    let laughs: String = (0..9)
        .map(|n| {
            format!(
                "l{n}: &l{n} [{}]\n",
                if n == 0 { "x".to_owned() } else { vec![format!("*l{}", n - 1); 9].join(",") }
            )
        })
        .collect();
    assert!(read(&laughs).expect_err("it copies too much").message.contains("copy more than"));
}

#[test]
fn json_documents_may_follow_each_other() {
    let stream = read("{\"a\": 1}\n{\n\t\"b\": 2\n}\n").expect("JSON");
    assert_eq!(stream.documents.len(), 2);
    assert_eq!((stream.documents[0].text, stream.documents[1].line), ("{\"a\": 1}", 2));
    let edited = stream.documents[1].rewrite(&json!({ "b": 3 }));
    assert_eq!(value(&edited.text), json!({ "b": 3 }));
    assert!(read("{\"a\": 1} x").is_err());
}

#[test]
fn strings_are_quoted_where_parsers_differ() {
    for text in [
        "y",
        "No",
        "0644",
        "1e3",
        "0x1f",
        "",
        " a",
        "a ",
        "a: b",
        "a #b",
        "- a",
        "12:30:45",
        "2001-01-01",
        "~",
        "null",
        "*a",
        "&a",
        "!a",
        "{a}",
        "[a",
        "a:",
        "%a",
        "@a",
        "`a",
        "'a",
        "\"a",
        "\u{85}",
        "\u{feff}",
        "a\tb",
        "é",
        "=",
        "<<",
        ".5",
        "+1",
        "-",
        "?",
        "|",
        ">",
        "1_0",
        "0b1",
    ] {
        let written = to_yaml(&json!({ "k": text }));
        assert!(written.contains('"'), "{written}");
        assert_eq!(value(&written)["k"], json!(text), "{written}");
    }
    for text in [
        "web",
        "ghcr.io/a/b:1.2",
        "100m",
        "64Mi",
        "10s",
        "/app/web",
        "spiffe://a/b",
        "runtime/default",
        "a b",
        "1h30m",
        "$(POD_IP)",
    ] {
        assert_eq!(to_yaml(&json!({ "k": text })), format!("k: {text}\n"));
    }
}
