//! Text to values and nodes, with one parser for both, so that they cannot disagree.
//!
//! Offsets are the parser's, which counts characters; [`Offsets`] makes them bytes. Its spans have gaps (a block scalar starts
//! behind its header, a block collection ends where the next token is), which [`super::place`] closes.

mod build;
mod json;

use saphyr_parser::{Event, Marker, Parser, StrInput};
use serde_json::Value;

use self::build::Builder;
use super::{Document, Fault, MAX_BYTES, Stream, node::Node, text};

/// A document with its nodes.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) root: Node,
    /// Byte behind `---`, or where the content starts if there is none.
    pub(super) start: usize,
    /// Byte of `---`.
    pub(super) marker: Option<usize>,
    /// Byte of the `...` that ends it.
    pub(super) end_marker: Option<usize>,
    /// Values of what an anchor names, by the anchor's number.
    pub(super) anchors: std::collections::HashMap<usize, Value>,
}

/// All documents of `text`. JSON objects one after the other, without anything between, are documents as well.
///
/// # Errors
/// The first thing in `text` that is no YAML, or has no counterpart in JSON (as a key that is a list).
pub fn read(text: &str) -> Result<Stream<'_>, Fault> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => (&text[..text.len() - body.len()], body),
        None => ("", text),
    };
    let (documents, rest) = match parse(body) {
        Ok(parsed) => {
            let starts = starts(body, &parsed);
            let lines = Lines::default();
            (documents(body, parsed, &starts, lines), if starts.is_empty() { body } else { "" })
        }
        Err(fault) => (json::documents(body).ok_or(fault)?, ""),
    };
    Ok(Stream { mark, documents, rest })
}

/// Where the part of the text begins that belongs to each document.
fn starts(body: &str, parsed: &[Parsed]) -> Vec<usize> {
    let mut starts = Vec::with_capacity(parsed.len());
    let mut previous: Option<&Parsed> = None;
    for one in parsed {
        starts.push(match previous {
            None => 0,
            Some(Parsed { end_marker: Some(end), .. }) => text::next_line(body, *end),
            Some(_) => text::line_start(body, one.marker.unwrap_or(one.start)),
        });
        previous = Some(one);
    }
    starts
}

fn documents<'a>(body: &'a str, parsed: Vec<Parsed>, starts: &[usize], mut lines: Lines) -> Vec<Document<'a>> {
    let mut documents = Vec::with_capacity(parsed.len());
    for (index, one) in parsed.into_iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(body.len());
        let line = lines.at(body, one.root.start);
        documents.push(Document { text: body.get(starts[index]..end).unwrap_or_default(), line, value: one.value });
    }
    documents
}

/// Counts lines, each once.
#[derive(Default)]
struct Lines {
    at: usize,
    before: usize,
}

impl Lines {
    /// Line of an offset that is not before the last one asked for, from 1.
    fn at(&mut self, text: &str, at: usize) -> usize {
        let at = at.clamp(self.at, text.len());
        self.before += text.as_bytes()[self.at..at].iter().filter(|b| **b == b'\n').count();
        self.at = at;
        self.before + 1
    }
}

/// All documents of `text`, with their nodes as the parser places them.
pub(super) fn parse(text: &str) -> Result<Vec<Parsed>, Fault> {
    check_text(text)?;
    let offsets = Offsets::of(text);
    let mut builder = Builder::new(&offsets);
    let mut parser = Parser::new(StrInput::new(text));
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| fault(e.marker(), format!("not YAML: {}", e.info())))?;
        let ends = matches!(event, Event::StreamEnd);
        builder.event(event, &span)?;
        if ends {
            break;
        }
    }
    Ok(builder.documents)
}

/// What the parser must not see: it takes a NUL for the end of the text.
fn check_text(text: &str) -> Result<(), Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(Fault { line: 1, column: 1, message });
    }
    let Some(at) = text.find('\0') else { return Ok(()) };
    let line = text[..at].matches('\n').count() + 1;
    let column = text::column(text, at) + 1;
    Err(Fault { line, column, message: "not YAML: a NUL byte".to_owned() })
}

fn fault(mark: &Marker, message: impl Into<String>) -> Fault {
    Fault { line: mark.line().max(1), column: mark.col() + 1, message: message.into() }
}

/// Characters to bytes.
pub(super) struct Offsets<'a> {
    text: &'a str,
    /// Byte of every [`STEP`]th character; empty if characters are bytes.
    steps: Vec<usize>,
}

/// Characters between two remembered bytes: an eighth of the text in memory, a few dozen characters to walk.
const STEP: usize = 64;

impl<'a> Offsets<'a> {
    fn of(text: &'a str) -> Self {
        let steps =
            if text.is_ascii() { Vec::new() } else { text.char_indices().step_by(STEP).map(|(at, _)| at).collect() };
        Self { text, steps }
    }

    /// The byte where a character starts; the end of the text for all behind it.
    fn byte(&self, character: usize) -> usize {
        if self.steps.is_empty() {
            return character.min(self.text.len());
        }
        let Some(start) = self.steps.get(character / STEP).copied() else { return self.text.len() };
        self.text[start..].char_indices().nth(character % STEP).map_or(self.text.len(), |(at, _)| start + at)
    }
}
