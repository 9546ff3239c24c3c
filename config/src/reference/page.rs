//! The page: an opening, then each kind with its example and the tables of its objects.

use std::fmt::Write as _;

use serde_json::Value as Schema;
use serde_yaml::Value;

use super::{Example, cells, documents_of, forms::FORMS};
use crate::{
    documents::{FORMATS, GATEWAY, Kind},
    schema::internal,
};

/// The page, while it grows.
pub(super) struct Page<'e> {
    examples: &'e [Example],
    /// The documents of each kind in them.
    shown: Vec<(Kind, Value)>,
    /// Every object with fields: what it is, and where it stands.
    places: Vec<(&'static Schema, Kind, Vec<String>)>,
    out: String,
    /// Objects that have a table, and the anchor of each: what several fields share stands once.
    shapes: Vec<(Schema, String)>,
    faults: Vec<String>,
}

const OPENING: &str = "\
<!-- Generated from the types of outrigger-config; see its test `generated`. -->

# Policy reference

Every kind of document and every field: its type, what holds where it is absent, its bounds, an example. The programs
check documents against the same schemas that this page is made from (`outrigger-proxy validate`, and the admission
webhook in a cluster). What the kinds are for is in [concepts.md](concepts.md).

- Field names are case-sensitive, and an unknown one is an error with a suggestion.
- **needed** means that a document without the field is refused. A dash means that nothing special holds where it is absent.
- `metadata` is the same in every kind and stands [once](#meshpolicy-metadata).
- A field of a list is written with `[]`: `spec.rules[].name` is the `name` of each rule.
- `sectionName`, `port` and references to a `Service` need a cluster; in files, targets are Upstreams and routes.
- One target has one `TrafficPolicy` and one `MeshPolicy`: the more specific wins whole (rule > route > port > Service or
  Upstream > namespace > mesh); among equals the oldest, then the first by name. `AccessPolicy` documents all hold.

For completion in an editor, put this at the top of a file, with the path of
[config/schemas/outrigger.json](../config/schemas/outrigger.json):

```yaml
# yaml-language-server: $schema=config/schemas/outrigger.json
```

";

impl<'e> Page<'e> {
    /// A page with nothing but what comes before the kinds.
    pub(super) fn new(examples: &'e [Example]) -> Self {
        let documents =
            |e: &Example| documents_of(e.kind, &e.text).into_iter().map(|d| (e.kind, d)).collect::<Vec<_>>();
        let mut places = Vec::new();
        for kind in Kind::ALL {
            objects(internal(*kind), *kind, &mut Vec::new(), &mut places);
        }
        let mut page = Self {
            examples,
            shown: examples.iter().flat_map(documents).collect(),
            places,
            out: String::new(),
            shapes: Vec::new(),
            faults: Vec::new(),
        };
        page.opening();
        page
    }

    fn opening(&mut self) {
        self.out.push_str(OPENING);
        self.out.push_str("| kind | where | says |\n| --- | --- | --- |\n");
        for kind in Kind::ALL {
            let meaning = cells::meaning(internal(*kind));
            let (name, place) = (kind.as_str(), place(*kind));
            self.line(format_args!("| [`{name}`](#{}) | {place} | {} |", slug(name), cells::escape(&meaning.text)));
        }
        self.out.push_str(
            "\n## Forms of strings\n\n| called here | example | what it is | pattern |\n| --- | --- | --- | --- |\n",
        );
        for format in FORMATS {
            let Some(form) = FORMS.iter().find(|f| f.format == format.name) else { continue };
            let pattern = cells::code(format.pattern);
            self.line(format_args!("| {} | `{}` | {} | {pattern} |", form.word, form.example, form.note));
        }
        self.out.push_str(
            "\nPatterns are those of the published schemas; the programs check more than a pattern can say.\n",
        );
    }

    /// One kind.
    pub(super) fn kind(&mut self, kind: Kind) {
        let name = kind.as_str();
        let schema = internal(kind);
        let own: Vec<&Example> = self.examples.iter().filter(|e| e.kind == kind).collect();
        self.line(format_args!("\n## {name}\n\n{}\n", cells::meaning(schema).text));
        self.line(format_args!("`apiVersion: {}`; {}.", kind.api_version(), place(kind)));
        if let Some((first, more)) = own.split_first() {
            let more: String = more.iter().map(|e| format!(", [{}](../{})", file(&e.link), e.link)).collect();
            self.line(format_args!("\n[{}](../{}){more}:\n\n```yaml", file(&first.link), first.link));
            self.line(format_args!("{}\n```", documents_text(kind, &first.text)));
        }
        let mut tables = Vec::new();
        if kind == Kind::MeshPolicy {
            tables.push(Table::new(
                kind,
                vec!["metadata".into()],
                "metadata".into(),
                &schema["properties"]["metadata"],
            ));
        }
        tables.push(Table::new(kind, vec!["spec".into()], "spec".into(), &schema["properties"]["spec"]));
        while let Some(table) = tables.pop() {
            let inner = self.table(kind, &table);
            tables.extend(inner.into_iter().rev());
        }
    }

    /// Writes one table; gives those of the objects in it that have none yet.
    fn table<'s>(&mut self, kind: Kind, table: &Table<'s>) -> Vec<Table<'s>> {
        let mut inner = Vec::new();
        let about = cells::meaning(table.schema).text;
        self.line(format_args!("\n### {}\n", table.heading(kind)));
        if !about.is_empty() && table.path.len() > 1 {
            self.line(format_args!("{about}\n"));
        }
        self.out.push_str(
            "| field | type | default | bounds | example | meaning |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        for (name, schema) in table.schema["properties"].as_object().into_iter().flatten() {
            let field = table.field(kind, name, schema);
            let anchor = field.as_ref().map(|f| self.anchor(kind, f, &mut inner));
            self.row(kind, table, name, schema, anchor.as_deref());
        }
        inner
    }

    /// The anchor of the table for an object: its own, or that of one that is the same.
    fn anchor<'s>(&mut self, kind: Kind, object: &Table<'s>, inner: &mut Vec<Table<'s>>) -> String {
        let shape = &object.schema["properties"];
        if let Some((_, anchor)) = self.shapes.iter().find(|(known, _)| known == shape) {
            return anchor.clone();
        }
        let anchor = slug(&object.heading(kind));
        self.shapes.push((shape.clone(), anchor.clone()));
        inner.push(object.clone());
        anchor
    }

    fn row(&mut self, kind: Kind, table: &Table<'_>, name: &str, schema: &Schema, anchor: Option<&str>) {
        let meaning = cells::meaning(schema);
        let needed = table.schema["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
        let default = match (&*meaning.default, needed) {
            (_, true) => "**needed**",
            ("", false) => "-",
            (said, false) => said,
        };
        let mut text = meaning.text.clone();
        for (word, means) in &meaning.words {
            let before = if text.is_empty() { "" } else { "<br>" };
            text.push_str(&format!("{before}`{word}`: {means}"));
        }
        let example = self.example(kind, table, name).cloned();
        // What is accepted and not used has no type, and needs none.
        if example.is_none() && (schema.get("type").is_some() || schema.get("anyOf").is_some()) {
            self.faults.push(format!("{} {}.{name}", kind.as_str(), table.title));
        }
        // The fields of an object have examples of their own.
        let example = example.filter(|_| anchor.is_none()).and_then(|e| cells::example(&e));
        let example = example.map_or_else(String::new, |e| cells::code(&e));
        let cell = cells::escape;
        self.line(format_args!(
            "| `{name}` | {} | {} | {} | {example} | {} |",
            cell(&cells::type_of(schema, anchor)),
            cell(default),
            cell(&cells::bounds(schema)),
            cell(&text)
        ));
    }

    /// What a document says there, or where the same object stands elsewhere.
    fn example(&self, kind: Kind, table: &Table<'_>, name: &str) -> Option<&Value> {
        let at = |kind: Kind, path: &[String]| {
            let path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
            self.shown.iter().filter(|(k, _)| *k == kind).find_map(|(_, document)| cells::find(document, &path))
        };
        let shape = &table.schema["properties"];
        let mut elsewhere = self.places.iter().filter(|(s, ..)| *s == shape);
        at(kind, &table.path).or_else(|| elsewhere.find_map(|(_, kind, path)| at(*kind, path)))
    }

    /// The text, or what is missing.
    pub(super) fn finish(self) -> Result<String, Vec<String>> {
        if self.faults.is_empty() { Ok(self.out) } else { Err(self.faults) }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{text}").expect("a String takes every write");
    }
}

/// A table of the fields of an object.
#[derive(Clone)]
struct Table<'s> {
    /// Of names alone.
    path: Vec<String>,
    /// For people: `spec.rules[].filters[]`.
    title: String,
    schema: &'s Schema,
}

impl<'s> Table<'s> {
    fn new(kind: Kind, path: Vec<String>, title: String, schema: &'s Schema) -> Self {
        debug_assert!(schema.get("properties").is_some(), "{} {title}", kind.as_str());
        Self { path, title, schema }
    }

    fn heading(&self, kind: Kind) -> String {
        format!("{} {}", kind.as_str(), self.title)
    }

    /// The table for the object in the field `name`, or in the list there, if it is one.
    fn field(&self, kind: Kind, name: &str, schema: &'s Schema) -> Option<Self> {
        let (object, list) = if schema["type"] == "array" { (&schema["items"], "[]") } else { (schema, "") };
        object.get("properties")?;
        let path = self.path.iter().cloned().chain([name.to_owned()]).collect();
        Some(Self::new(kind, path, format!("{}.{name}{list}", self.title), object))
    }
}

/// Collects every object with fields in `schema`.
fn objects(
    schema: &'static Schema,
    kind: Kind,
    path: &mut Vec<String>,
    to: &mut Vec<(&'static Schema, Kind, Vec<String>)>,
) {
    let object = if schema["type"] == "array" { &schema["items"] } else { schema };
    let Some(fields) = object["properties"].as_object() else { return };
    to.push((&object["properties"], kind, path.clone()));
    for (name, field) in fields {
        path.push(name.clone());
        objects(field, kind, path, to);
        path.pop();
    }
}

/// The documents of the example up to the first of another kind, which are only what it refers to. What a Proxy refers to
/// must be there.
fn documents_text(kind: Kind, text: &str) -> String {
    if kind == Kind::Proxy {
        return text.trim_end().to_owned();
    }
    let wanted = format!("kind: {}", kind.as_str());
    let parts = text.split("\n---\n").take_while(|part| part.lines().any(|line| line == wanted));
    parts.collect::<Vec<_>>().join("\n---\n").trim_end().to_owned()
}

fn file(link: &str) -> &str {
    link.rsplit_once('/').map_or(link, |(_, file)| file)
}

/// Where documents of a kind stand.
fn place(kind: Kind) -> &'static str {
    match kind {
        Kind::Proxy => "in files only; in a cluster the control plane says all of it",
        _ if kind.api_version() == GATEWAY => "in files, and in clusters with the Gateway API's definitions",
        _ => "in files, and in clusters as a custom resource",
    }
}

/// The anchor that renderers of Markdown give a heading: lower case, blanks to hyphens, punctuation gone.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
