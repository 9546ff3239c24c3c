//! A document written anew: what is left when it cannot be edited in place.
//!
//! Lines before its content stay (directives, `---`, comments), and so does the `...` behind it.

use serde_json::Value;

use super::{
    read,
    style::{FlowStyle, Style},
    text::{byte, line_start, next_line, skip_trivia},
    write,
};

/// `text`, a document, as one that says `after`.
pub(super) fn rewrite(text: &str, after: &Value) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let parsed = read::parse(text).ok();
    let one = parsed.as_ref().and_then(|parsed| parsed.first());
    let json = is_json(text, one.map_or_else(|| skip_trivia(text, 0), |one| one.root.start));
    let tail = one.and_then(|one| one.end_marker).map_or("", |at| &text[line_start(text, at)..]);
    let mut out = head(text, newline);
    if json {
        let style = FlowStyle { lines: text.trim_end().contains('\n').then_some(2), ..FlowStyle::JSON };
        out.push_str(&write::flow(after, &style, newline, 0));
    } else {
        out.push_str(&write::block(after, 0, &Style { newline, ..Style::DEFAULT }));
    }
    if text.ends_with('\n') || !tail.is_empty() {
        out.push_str(newline);
    }
    out.push_str(tail);
    out
}

/// Whether the content is an object whose first key is in quotes, or empty.
fn is_json(text: &str, content: usize) -> bool {
    byte(text, content) == b'{' && matches!(byte(text, skip_trivia(text, content + 1)), b'"' | b'}')
}

/// The lines before the content, with `---` alone on its line.
fn head(text: &str, newline: &str) -> String {
    let mut at = 0;
    while at < text.len() {
        let end = next_line(text, at);
        let line = text[at..end].trim_end();
        let content = line.trim_start_matches('\u{feff}');
        if content.starts_with("---") && matches!(byte(content, 3), 0 | b' ' | b'\t') {
            let behind = content[3..].trim_start();
            let rest = if behind.is_empty() || behind.starts_with('#') { &text[at..end] } else { "" };
            let marker = if rest.is_empty() { format!("---{newline}") } else { rest.to_owned() };
            return format!("{}{marker}", &text[..at]);
        }
        let trimmed = content.trim_start();
        if !(trimmed.is_empty() || trimmed.starts_with('#') || content.starts_with('%')) {
            break;
        }
        at = end;
    }
    text[..at].to_owned()
}
