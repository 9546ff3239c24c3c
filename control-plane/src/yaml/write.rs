//! Values to text, in the style of the document around.
//!
//! Strings stand without quotes only if every version of YAML takes them for strings ([`super::scalar::is_plain`]); text of several
//! lines becomes a literal block where that says the same.

use serde_json::Value;

use super::{
    node::Shape,
    scalar,
    style::{FlowStyle, Style},
};

/// `value` as a document of its own, as `kubectl -o yaml` would write it (but for the order of keys, which is kept).
#[must_use]
pub fn document(value: &Value) -> String {
    format!("{}\n", block(value, 0, &Style::DEFAULT))
}

/// What fits behind `key:` or `-` on the same line. `None`: a mapping or a list with something in it, or a text of lines.
pub(super) fn inline(value: &Value, like: Option<&Shape>) -> Option<String> {
    match value {
        Value::Array(items) => items.is_empty().then(|| "[]".to_owned()),
        Value::Object(entries) => entries.is_empty().then(|| "{}".to_owned()),
        Value::String(text) if literal(text).is_some() => None,
        _ => Some(scalar_text(value, like)),
    }
}

fn scalar_text(value: &Value, like: Option<&Shape>) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let kept = match like {
        Some(Shape::Single) => scalar::single_quoted(text),
        Some(Shape::Double) => None,
        _ => scalar::is_plain(text, false).then(|| text.clone()),
    };
    kept.unwrap_or_else(|| scalar::quoted(text))
}

/// Lines from `column` on: the first is not indented, the last not ended.
pub(super) fn block(value: &Value, column: usize, style: &Style) -> String {
    let mut out = String::new();
    write_block(&mut out, value, column, style);
    out
}

/// A key with its value, likewise.
pub(super) fn entry(key: &str, value: &Value, column: usize, style: &Style) -> String {
    let mut out = String::new();
    write_entry(&mut out, key, value, column, style);
    out
}

/// An item of a list with its dash at `column`, likewise.
pub(super) fn item(value: &Value, column: usize, style: &Style) -> String {
    let mut out = String::new();
    write_item(&mut out, value, column, style);
    out
}

fn write_block(out: &mut String, value: &Value, column: usize, style: &Style) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    line(out, column, style);
                }
                write_entry(out, key, value, column, style);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    line(out, column, style);
                }
                write_item(out, value, column, style);
            }
        }
        value => write_scalar(out, value, column, style),
    }
}

fn write_entry(out: &mut String, key: &str, value: &Value, column: usize, style: &Style) {
    out.push_str(&key_text(key, false));
    out.push(':');
    write_value(out, value, column, style);
}

/// What stands behind the colon of a key at `column`: ` value`, or lines.
pub(super) fn write_value(out: &mut String, value: &Value, column: usize, style: &Style) {
    let inner = column + if value.is_array() { style.dash } else { style.step };
    match value {
        Value::Object(entries) if !entries.is_empty() => line(out, inner, style),
        Value::Array(items) if !items.is_empty() => line(out, inner, style),
        _ => out.push(' '),
    }
    write_block(out, value, inner, style);
}

fn write_item(out: &mut String, value: &Value, column: usize, style: &Style) {
    out.push_str("- ");
    write_block(out, value, column + 2, style);
}

/// `column` is where the lines of a text go.
fn write_scalar(out: &mut String, value: &Value, column: usize, style: &Style) {
    let lines = if let Value::String(text) = value { literal(text) } else { None };
    let Some((header, text)) = lines else {
        out.push_str(&inline(value, None).unwrap_or_default());
        return;
    };
    out.push_str(header);
    for content in text.split('\n') {
        if content.is_empty() {
            out.push_str(style.newline);
        } else {
            line(out, column.max(1), style);
            out.push_str(content);
        }
    }
}

/// Header and lines of a literal block that says `text`, if there is one without an indentation indicator.
fn literal(text: &str) -> Option<(&'static str, &str)> {
    text.contains('\n').then_some(())?;
    let (header, lines) = text.strip_suffix('\n').map_or(("|-", text), |lines| ("|", lines));
    let odd = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let fits = !lines.is_empty()
        && !lines.starts_with([' ', '\t', '\n'])
        && !lines.ends_with('\n')
        && !text.contains(odd)
        && lines.split('\n').all(|line| line.is_empty() || !line.trim().is_empty());
    fits.then_some((header, lines))
}

fn line(out: &mut String, column: usize, style: &Style) {
    out.push_str(style.newline);
    out.extend(std::iter::repeat_n(' ', column));
}

fn key_text(key: &str, flow: bool) -> String {
    if scalar::is_plain(key, flow) { key.to_owned() } else { scalar::quoted(key) }
}

/// A value in flow style; `indent` is how far the line is indented on which it starts.
pub(super) fn flow(value: &Value, style: &FlowStyle, newline: &str, indent: usize) -> String {
    let inner = indent + style.lines.unwrap_or(0);
    let (open, close, elements): (_, _, Vec<String>) = match value {
        Value::Array(items) => ('[', ']', items.iter().map(|item| flow(item, style, newline, inner)).collect()),
        Value::Object(entries) => {
            let each = entries.iter().map(|(key, value)| flow_entry(key, value, style, newline, inner));
            ('{', '}', each.collect())
        }
        Value::String(text) if style.quoted || !scalar::is_plain(text, true) => return scalar::quoted(text),
        Value::String(text) => return text.clone(),
        value => return value.to_string(),
    };
    if elements.is_empty() {
        return format!("{open}{close}");
    }
    if style.lines.is_some() {
        let separator = format!(",{newline}{}", " ".repeat(inner));
        return format!("{open}{}{}{newline}{}{close}", &separator[1..], elements.join(&separator), " ".repeat(indent));
    }
    let pad = if style.spaced && open == '{' { " " } else { "" };
    format!("{open}{pad}{}{pad}{close}", elements.join(if style.tight { "," } else { ", " }))
}

/// A key with its value in flow style.
pub(super) fn flow_entry(key: &str, value: &Value, style: &FlowStyle, newline: &str, indent: usize) -> String {
    let key = if style.quoted { scalar::quoted(key) } else { key_text(key, true) };
    let space = if style.quoted && style.tight { "" } else { " " };
    format!("{key}:{space}{}", flow(value, style, newline, indent))
}
