//! Exact places: where dashes, colons and headers are, and where nodes end.
//!
//! The text is walked along the tree, from token to token; between two there are only blanks, line ends and comments. Whatever is found
//! elsewhere than expected ends the walk with `None`, and the document is not edited in place.

use super::{
    node::{Entry, Form, Item, Kind, Node, Shape},
    text::{byte, line_start, skip_blanks, skip_trivia},
};

/// Places `root`, which starts behind `from`.
pub(super) fn place(text: &str, root: &mut Node, from: usize) -> Option<()> {
    node(text, root, from, false)
}

/// A node somewhere behind `from`; there it stands if nothing is written. Inside of a flow collection all are of flow style.
fn node(text: &str, node: &mut Node, from: usize, inside: bool) -> Option<()> {
    let raw_end = node.end;
    if matches!(node.shape, Shape::Empty) && node.anchor == 0 && !node.tagged {
        (node.start, node.body, node.end) = (from, from, from);
        return Some(());
    }
    node.start = skip_trivia(text, from);
    node.body = node.start;
    for _ in 0..usize::from(node.anchor != 0) + usize::from(node.tagged) {
        let end = property(text, node.body)?;
        if matches!(node.shape, Shape::Empty) {
            node.body = end;
            node.end = end;
            let next = skip_blanks(text, end);
            if matches!(byte(text, next), b'&' | b'!') {
                node.body = next;
            }
        } else {
            node.body = skip_trivia(text, end);
        }
    }
    let first = byte(text, node.body);
    match &mut node.shape {
        Shape::Empty => {}
        Shape::Plain => (raw_end > node.body).then(|| node.end = raw_end)?,
        Shape::Alias(_) => (first == b'*' && raw_end > node.body).then(|| node.end = raw_end)?,
        Shape::Single | Shape::Double => node.end = quoted_end(text, node.body, first)?,
        Shape::Block { keeps } => {
            matches!(first, b'|' | b'>').then_some(())?;
            *keeps = text[node.body + 1..]
                .bytes()
                .take(2)
                .take_while(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'))
                .any(|b| b == b'+');
            node.end = block_end(text, node.body, raw_end, *keeps);
        }
        Shape::Seq { flow, items } => {
            *flow = first == b'[';
            node.end = if *flow { flow_seq(text, items, node.body)? } else { block_seq(text, items, node.body)? };
        }
        Shape::Map { form, entries } => {
            *form = match first {
                b'{' => Form::Flow,
                _ if inside => Form::Pair,
                _ => Form::Block,
            };
            node.end = match form {
                Form::Flow => flow_map(text, entries, node.body)?,
                Form::Pair | Form::Block => block_map(text, entries, node.body, inside)?,
            };
        }
    }
    Some(())
}

/// Past the closing quote: the parser's end is behind the blanks and the comment that follow.
fn quoted_end(text: &str, body: usize, quote: u8) -> Option<usize> {
    matches!(quote, b'\'' | b'"').then_some(())?;
    let mut at = body + 1;
    loop {
        match byte(text, at) {
            b'\\' if quote == b'"' => at += 2,
            b if b == quote && quote == b'\'' && byte(text, at + 1) == quote => at += 2,
            b if b == quote => return Some(at + 1),
            _ if at >= text.len() => return None,
            _ => at += 1,
        }
    }
}

/// Past an anchor or a tag.
fn property(text: &str, at: usize) -> Option<usize> {
    matches!(byte(text, at), b'&' | b'!').then_some(())?;
    let stop = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}');
    Some(at + text[at..].find(stop).unwrap_or(text.len() - at))
}

/// The parser's end may be in the indentation of what follows, and blank lines count only where they are kept.
fn block_end(text: &str, header: usize, raw_end: usize, keeps: bool) -> usize {
    let first = super::text::next_line(text, header);
    let mut end = line_start(text, raw_end.min(text.len())).max(first);
    if raw_end >= text.len() && text[end..].trim_matches(' ').is_empty() {
        end = text.len();
    }
    while !keeps && end > first {
        let previous = line_start(text, end - 1);
        if !text[previous..end].trim_matches([' ', '\r', '\n']).is_empty() || previous < first {
            break;
        }
        end = previous;
    }
    end
}

fn block_seq(text: &str, items: &mut [Item], body: usize) -> Option<usize> {
    let mut from = body;
    for item in items {
        item.dash = skip_trivia(text, from);
        (byte(text, item.dash) == b'-').then_some(())?;
        node(text, &mut item.node, item.dash + 1, false)?;
        from = item.node.end;
    }
    Some(from)
}

fn block_map(text: &str, entries: &mut [Entry], body: usize, inside: bool) -> Option<usize> {
    let mut from = body;
    for entry in entries {
        from = self::entry(text, entry, from, inside)?;
    }
    Some(from)
}

/// One entry of any mapping; where it ends.
fn entry(text: &str, entry: &mut Entry, from: usize, flow: bool) -> Option<usize> {
    entry.start = skip_trivia(text, from);
    let mut key = entry.start;
    if byte(text, key) == b'?' && matches!(byte(text, key + 1), b' ' | b'\t' | b'\r' | b'\n') {
        entry.kind = if entry.kind == Kind::Merge { Kind::Merge } else { Kind::Explicit };
        key += 1;
    }
    let explicit = key != entry.start;
    node(text, &mut entry.key, key, flow)?;
    let after = entry.key.end;
    let colon = if flow || explicit { skip_trivia(text, after) } else { skip_blanks(text, after) };
    if byte(text, colon) == b':' {
        entry.colon = Some(colon + 1);
        node(text, &mut entry.value, colon + 1, flow)?;
        return Some(entry.value.end);
    }
    (flow || explicit).then_some(())?;
    node(text, &mut entry.value, after, flow)?;
    matches!(entry.value.shape, Shape::Empty).then_some(after)
}

fn flow_seq(text: &str, items: &mut [Item], body: usize) -> Option<usize> {
    (byte(text, body) == b'[').then_some(())?;
    let mut from = body + 1;
    for item in items {
        node(text, &mut item.node, from, true)?;
        item.dash = item.node.start;
        from = past_comma(text, item.node.end);
    }
    let end = skip_trivia(text, from);
    (byte(text, end) == b']').then_some(end + 1)
}

fn flow_map(text: &str, entries: &mut [Entry], body: usize) -> Option<usize> {
    let mut from = body + 1;
    for entry in entries {
        let end = self::entry(text, entry, from, true)?;
        from = past_comma(text, end);
    }
    let end = skip_trivia(text, from);
    (byte(text, end) == b'}').then_some(end + 1)
}

fn past_comma(text: &str, at: usize) -> usize {
    let comma = skip_trivia(text, at);
    if byte(text, comma) == b',' { comma + 1 } else { at }
}
