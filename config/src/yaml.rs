//! YAML text to trees that know where each node stands.
//!
//! One parser (`saphyr-parser`) gives values and positions alike, so that the two cannot disagree about
//! what a document says. Scalars are resolved as the core schema of YAML 1.2 says: `yes` and `0123x` are strings.
//!
//! Everything is bounded, for a cluster's users may write documents that a stranger's proxy reads:
//! text ([`MAX_BYTES`]), nesting ([`MAX_DEPTH`]), nodes ([`MAX_NODES`]) and what aliases multiply
//! ([`MAX_ALIASED`]; the "billion laughs" ends there). Recursion over a tree is safe because its depth is bounded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::fault::MAX_FAULTS;

/// Bytes of one source. Kubernetes takes 1.5 MiB per object; a file holds several.
pub(crate) const MAX_BYTES: usize = 8 << 20;
/// Nesting. The deepest field of any kind is at about 12.
pub(crate) const MAX_DEPTH: usize = 64;
/// Nodes of one source: about 100 bytes each, so at most some 50 MiB for a moment.
pub(crate) const MAX_NODES: usize = 500_000;
/// Keys of one mapping; they are compared with each other, so their number is bounded apart.
pub(crate) const MAX_KEYS: usize = 1_000;
/// Nodes that anchors and aliases copy, per source.
pub(crate) const MAX_ALIASED: usize = 50_000;

/// A position, from 1; or [`Mark::NOWHERE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Mark {
    /// Where stand-ins of [`crate::check`] are: in no text, so that no fault of them is told.
    pub(crate) const NOWHERE: Self = Self { line: 0, column: 0 };
    /// Where nothing better is known.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: clamp(span.start.line()).max(1), column: clamp(span.start.col()).saturating_add(1) }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a mapping. Keys are unique.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The path of what stands at `mark`, `spec.rules[0].name`; empty if it is this or nothing in it.
    pub(crate) fn path_to(&self, mark: Mark) -> String {
        let mut path = String::new();
        if !self.find(mark, &mut path) {
            path.clear();
        }
        path
    }

    /// Depth first, the outer of two that start together; the depth of the tree is bounded.
    fn find(&self, mark: Mark, path: &mut String) -> bool {
        if self.mark == mark {
            return true;
        }
        let length = path.len();
        match &self.value {
            Value::Seq(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    if item.find(mark, path) {
                        return true;
                    }
                    path.truncate(length);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&entry.key);
                    if entry.mark == mark || entry.value.find(mark, path) {
                        return true;
                    }
                    path.truncate(length);
                }
            }
            _ => {}
        }
        false
    }

    /// What it is, for people: `the number 1`, `a list`.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the boolean `{b}`"),
            Value::Int(n) => format!("the number `{n}`"),
            Value::Float(n) => format!("the number `{n}`"),
            Value::String(s) => format!("the string `{}`", excerpt(s)),
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            // A long string weighs as much as the nodes that would fit into its place.
            Value::String(s) => s.len() / 64,
            Value::Seq(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|e| 1 + e.key.len() / 64 + e.value.count()).sum(),
            _ => 0,
        }
    }
}

/// At most 60 characters of what someone wrote, on one line: a message must not repeat megabytes.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        short.push_str("...");
    }
    short
}

/// What is wrong with the text itself.
#[derive(Debug)]
pub(crate) struct YamlFault {
    pub(crate) mark: Mark,
    pub(crate) message: String,
}

/// What a text holds.
#[derive(Default)]
pub(crate) struct Parsed {
    /// Each whole document.
    pub(crate) documents: Vec<Node>,
    /// Every fault of the syntax and of keys.
    pub(crate) faults: Vec<YamlFault>,
    /// The reading ended at a fault: there may be more documents behind it.
    pub(crate) ended_early: bool,
}

/// All documents of `text` up to its first syntax error.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut reader = Reader::default();
    if text.len() > MAX_BYTES {
        reader.fault(Mark::START, format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len()));
        return Parsed { ended_early: true, ..reader.parsed };
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new(StrInput::new(text));
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => reader.event(event, &span),
            Err(e) => {
                let mark = Mark::of(&Span::empty(*e.marker()));
                Err(YamlFault { mark, message: format!("not YAML: {}", e.info()) })
            }
        };
        if let Err(fault) = step {
            reader.parsed.faults.push(fault);
            reader.parsed.ended_early = true;
            break;
        }
    }
    reader.parsed
}

/// An open collection.
struct Frame {
    mark: Mark,
    anchor: usize,
    value: Value,
    /// The key that waits for its value, or `None` for one that cannot be used (already reported).
    key: Option<(Option<String>, Mark)>,
}

#[derive(Default)]
struct Reader {
    parsed: Parsed,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    aliased: usize,
}

impl Reader {
    fn fault(&mut self, mark: Mark, message: impl Into<String>) {
        tell(&mut self.parsed.faults, mark, message.into());
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlFault> {
        let mark = Mark::of(span);
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(YamlFault { mark, message: "this alias stands inside of its own anchor".into() });
                };
                self.spend(node.count(), mark)?;
                self.place(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), mark);
                // An empty value stands nowhere; the key before it is where to look.
                let place = match self.stack.last() {
                    Some(Frame { key: Some((_, key)), .. }) if span.is_empty() => *key,
                    _ => mark,
                };
                self.finish(Node { mark: place, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.open(mark, anchor, Value::Seq(Vec::new()), tag.as_deref()),
            Event::MappingStart(anchor, tag) => self.open(mark, anchor, Value::Map(Vec::new()), tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(frame) => self.finish(Node { mark: frame.mark, value: frame.value }, frame.anchor),
                None => Ok(()),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, mark: Mark, anchor: usize, value: Value, tag: Option<&Tag>) -> Result<(), YamlFault> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(YamlFault { mark, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema()) {
            self.fault(mark, format!("the tag `{tag}` means nothing here"));
        }
        self.stack.push(Frame { mark, anchor, value, key: None });
        Ok(())
    }

    fn spend(&mut self, nodes: usize, mark: Mark) -> Result<(), YamlFault> {
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            return Err(YamlFault { mark, message: format!("anchors and aliases copy more than {MAX_ALIASED} nodes") });
        }
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), YamlFault> {
        if anchor != 0 {
            self.spend(node.count(), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Puts a whole node where it belongs: into the open collection, or among the documents.
    fn place(&mut self, node: Node) -> Result<(), YamlFault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(YamlFault { mark: node.mark, message: format!("more than {MAX_NODES} nodes in one file") });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.parsed.documents.push(node);
            return Ok(());
        };
        match &mut frame.value {
            Value::Seq(items) => items.push(node),
            Value::Map(entries) => match frame.key.take() {
                Some((Some(key), mark)) => match entries.iter().find(|e| e.key == key) {
                    Some(first) => {
                        let message = format!(
                            "`{}` stands twice in one mapping, first at line {}",
                            excerpt(&key),
                            first.mark.line
                        );
                        tell(&mut self.parsed.faults, mark, message);
                    }
                    None if entries.len() >= MAX_KEYS => {
                        return Err(YamlFault { mark, message: format!("more than {MAX_KEYS} keys in one mapping") });
                    }
                    None => entries.push(Entry { key, mark, value: node }),
                },
                Some((None, _)) => {}
                None => {
                    let mark = node.mark;
                    let key = key_text(node);
                    if key.is_none() {
                        tell(&mut self.parsed.faults, mark, "a key must be a string".into());
                    }
                    frame.key = Some((key, mark));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, mark: Mark) -> Value {
        match tag {
            None if style == ScalarStyle::Plain => resolve(text),
            None => Value::String(text.to_owned()),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Value::String(text.to_owned()),
            Some(tag) if tag.is_yaml_core_schema() => resolve(text),
            Some(tag) => {
                self.fault(mark, format!("the tag `{tag}` means nothing here"));
                Value::String(text.to_owned())
            }
        }
    }
}

fn tell(faults: &mut Vec<YamlFault>, mark: Mark, message: String) {
    if faults.len() < MAX_FAULTS {
        faults.push(YamlFault { mark, message });
    }
}

/// Keys such as `8080:` or `true:` are taken as the text they are, which is what label maps mean.
fn key_text(node: Node) -> Option<String> {
    match node.value {
        Value::String(s) => Some(s),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        Value::Null | Value::Seq(_) | Value::Map(_) => None,
    }
}

/// YAML 1.2, 10.3.2: the core schema.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let radix = |digits: &str, radix| {
        let digits = digits.bytes().all(|b| b.is_ascii_alphanumeric()).then_some(digits)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let int = if let Some(hex) = text.strip_prefix("0x") {
        radix(hex, 16)
    } else if let Some(octal) = text.strip_prefix("0o") {
        radix(octal, 8)
    } else {
        text.parse().ok()
    };
    if let Some(n) = int {
        return Value::Int(n);
    }
    // `f64::from_str` also takes `inf`, `nan` and `infinity`, which are strings in YAML. A number beyond its range is
    // taken as the text it is, as `serde_yaml` does: it prints the name `1e310` without quotes.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse() {
        Ok(n) if numeric && f64::is_finite(n) => Value::Float(n),
        _ => Value::String(text.to_owned()),
    }
}
