//! The parser's events become values and nodes.
//!
//! Recursion over what is built is safe because its depth is bounded here.

use std::collections::HashMap;

use saphyr_parser::{Event, ScalarStyle, Span, Tag};
use serde_json::{Map, Value, map};

use super::{
    super::{
        Fault, MAX_ALIASED, MAX_DEPTH, MAX_NODES,
        node::{Entry, Form, Item, Kind, Node, Shape},
        scalar,
    },
    Offsets, Parsed, fault,
};

/// An open collection.
struct Frame {
    node: Node,
    value: Value,
    /// The key that waits for its value.
    key: Option<(Node, Kind, String)>,
    /// What merge keys bring in: weaker than keys, the first of them strongest.
    merged: Vec<Map<String, Value>>,
    mark: Span,
}

pub(super) struct Builder<'a> {
    pub(super) documents: Vec<Parsed>,
    offsets: &'a Offsets<'a>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Value>,
    start: usize,
    marker: Option<usize>,
    nodes: usize,
    aliased: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(offsets: &'a Offsets<'a>) -> Self {
        Self {
            documents: Vec::new(),
            offsets,
            stack: Vec::new(),
            anchors: HashMap::new(),
            start: 0,
            marker: None,
            nodes: 0,
            aliased: 0,
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(explicit) => {
                self.anchors.clear();
                let (start, end) = self.bytes(span);
                (self.start, self.marker) = if explicit { (end, Some(start)) } else { (start, None) };
            }
            Event::DocumentEnd => {
                let (start, end) = self.bytes(span);
                if let Some(last) = self.documents.last_mut() {
                    last.end_marker = (end > start && self.offsets.text[start..].starts_with("...")).then_some(start);
                    last.anchors = std::mem::take(&mut self.anchors);
                }
            }
            Event::Alias(id) => {
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(fault(&span.start, "this alias stands inside of its own anchor"));
                };
                self.spend(&value, span)?;
                let node = self.node(span, 0, false, Shape::Alias(id));
                self.place(node, value, span)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = value_of(&text, style, tag.as_deref(), span)?;
                let node = self.node(span, anchor, tag.is_some(), shape(style, &text));
                self.finish(node, value, span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let shape = Shape::Seq { flow: false, items: Vec::new() };
                self.open(span, anchor, tag.as_deref(), shape, Value::Array(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let shape = Shape::Map { form: Form::Block, entries: Vec::new() };
                self.open(span, anchor, tag.as_deref(), shape, Value::Object(Map::new()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(())
    }

    fn bytes(&self, span: &Span) -> (usize, usize) {
        (self.offsets.byte(span.start.index()), self.offsets.byte(span.end.index()))
    }

    fn node(&self, span: &Span, anchor: usize, tagged: bool, shape: Shape) -> Node {
        let (start, end) = self.bytes(span);
        Node { start, body: start, end, anchor, tagged, shape }
    }

    fn open(&mut self, span: &Span, anchor: usize, tag: Option<&Tag>, shape: Shape, value: Value) -> Result<(), Fault> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(fault(&span.start, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let suffix = if value.is_array() { "seq" } else { "map" };
        if let Some(tag) = tag.filter(|tag| !is_for(tag, suffix)) {
            return Err(fault(&span.start, format!("the tag `{tag}` has no meaning in Kubernetes")));
        }
        let node = self.node(span, anchor, tag.is_some(), shape);
        self.stack.push(Frame { node, value, key: None, merged: Vec::new(), mark: *span });
        Ok(())
    }

    fn close(&mut self, span: &Span) -> Result<(), Fault> {
        let Some(mut frame) = self.stack.pop() else { return Ok(()) };
        frame.node.end = self.bytes(span).1;
        if let Value::Object(entries) = &mut frame.value {
            for merged in frame.merged {
                for (key, value) in merged {
                    if let map::Entry::Vacant(vacant) = entries.entry(key) {
                        vacant.insert(value);
                    }
                }
            }
        }
        self.finish(frame.node, frame.value, &frame.mark)
    }

    fn spend(&mut self, value: &Value, span: &Span) -> Result<(), Fault> {
        self.aliased += weight(value);
        if self.aliased > MAX_ALIASED {
            return Err(fault(&span.start, format!("anchors and aliases copy more than {MAX_ALIASED} nodes")));
        }
        Ok(())
    }

    fn finish(&mut self, node: Node, value: Value, span: &Span) -> Result<(), Fault> {
        if node.anchor != 0 {
            self.spend(&value, span)?;
            self.anchors.insert(node.anchor, value.clone());
        }
        self.place(node, value, span)
    }

    /// Puts a whole node where it belongs: into the open collection, or among the documents.
    fn place(&mut self, node: Node, value: Value, span: &Span) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(fault(&span.start, format!("more than {MAX_NODES} nodes in one text")));
        }
        let Some(frame) = self.stack.last_mut() else {
            let (start, marker) = (self.start, self.marker);
            self.documents.push(Parsed { value, root: node, start, marker, end_marker: None, anchors: HashMap::new() });
            return Ok(());
        };
        match (&mut frame.node.shape, &mut frame.value) {
            (Shape::Seq { items, .. }, Value::Array(values)) => {
                items.push(Item { dash: node.start, node });
                values.push(value);
                Ok(())
            }
            (Shape::Map { entries, .. }, Value::Object(values)) => {
                let Some((key, kind, name)) = frame.key.take() else {
                    let (kind, name) = key_of(&node, value, span)?;
                    frame.key = Some((node, kind, name));
                    return Ok(());
                };
                if kind == Kind::Merge {
                    merge(value, &mut frame.merged, span)?;
                } else {
                    match values.entry(name.clone()) {
                        map::Entry::Occupied(_) => {
                            return Err(fault(
                                &span.start,
                                format!("the key `{}` stands twice in one mapping", excerpt(&name)),
                            ));
                        }
                        map::Entry::Vacant(vacant) => drop(vacant.insert(value)),
                    }
                }
                entries.push(Entry { name, kind, start: key.start, colon: None, key, value: node });
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What [`super::super::place`] completes: where lines end, brackets stand, and blank lines count.
fn shape(style: ScalarStyle, text: &str) -> Shape {
    match style {
        ScalarStyle::SingleQuoted => Shape::Single,
        ScalarStyle::DoubleQuoted => Shape::Double,
        ScalarStyle::Literal | ScalarStyle::Folded => Shape::Block { keeps: false },
        ScalarStyle::Plain if text.is_empty() => Shape::Empty,
        ScalarStyle::Plain => Shape::Plain,
    }
}

/// What `<<` brings in: a mapping, or a list of them.
fn merge(value: Value, merged: &mut Vec<Map<String, Value>>, span: &Span) -> Result<(), Fault> {
    let mut one = |value| match value {
        Value::Object(map) => {
            merged.push(map);
            Ok(())
        }
        _ => Err(fault(&span.start, "`<<` merges mappings, and this is none")),
    };
    match value {
        Value::Array(items) => items.into_iter().try_for_each(one),
        value => one(value),
    }
}

/// Keys such as `8080:` or `true:` become the text that `kubectl` makes of them.
fn key_of(node: &Node, value: Value, span: &Span) -> Result<(Kind, String), Fault> {
    match value {
        Value::String(name) if name == "<<" && matches!(node.shape, Shape::Plain) && !node.tagged => {
            Ok((Kind::Merge, name))
        }
        Value::String(name) => Ok((Kind::Simple, name)),
        Value::Bool(_) | Value::Number(_) => Ok((Kind::Simple, value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(fault(&span.start, "a key must be a string")),
    }
}

fn value_of(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Value, Fault> {
    let plain = || {
        let none = || fault(&span.start, format!("`{}` is no number that JSON has", excerpt(text)));
        scalar::resolve(text).ok_or_else(none)
    };
    let string = || Ok(Value::String(text.to_owned()));
    match tag {
        None if style == ScalarStyle::Plain => plain(),
        None => string(),
        Some(tag) if is_non_specific(tag) => string(),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => string(),
        Some(tag) if tag.is_yaml_core_schema() => {
            let value = plain()?;
            let fits = match &*tag.suffix {
                "null" => value.is_null(),
                "bool" => value.is_boolean(),
                "int" => value.is_i64() || value.is_u64(),
                "float" => value.is_number(),
                _ => false,
            };
            let wrong = || fault(&span.start, format!("`{}` is no `!!{}`", excerpt(text), tag.suffix));
            fits.then_some(value).ok_or_else(wrong)
        }
        Some(tag) => Err(fault(&span.start, format!("the tag `{tag}` has no meaning in Kubernetes"))),
    }
}

/// Whether a tag says of a collection what it is anyway.
fn is_for(tag: &Tag, suffix: &str) -> bool {
    is_non_specific(tag) || (tag.is_yaml_core_schema() && tag.suffix == suffix)
}

/// `!` alone: a string, a list or a mapping, by its kind.
fn is_non_specific(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

/// Nodes of a value; a long string weighs as much as the nodes that would fit into its place.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / 64,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| 1 + key.len() / 64 + weight(value)).sum(),
        _ => 0,
    }
}

/// At most 60 characters of what someone wrote, on one line.
fn excerpt(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
