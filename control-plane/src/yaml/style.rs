//! How a document is written, so that what is new looks like the rest.

use super::{
    node::{Entry, Form, Node, Shape},
    text::{byte, column, indent, is_first},
};

/// The style of block collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) newline: &'static str,
    /// Columns from a key to the keys under it.
    pub(super) step: usize,
    /// Columns from a key to the dashes under it.
    pub(super) dash: usize,
}

/// The style of flow collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowStyle {
    /// Every string is in double quotes, as in JSON.
    pub(super) quoted: bool,
    /// `{ a: b }`, not `{a: b}`.
    pub(super) spaced: bool,
    /// `{"a":1,"b":2}`: nothing between.
    pub(super) tight: bool,
    /// Each element on a line of its own, so many columns further in than its collection.
    pub(super) lines: Option<usize>,
}

/// What is counted of a style: the first column that most have.
#[derive(Default)]
struct Votes {
    steps: [usize; MAX_STEP],
    dashes: [usize; MAX_STEP],
}

/// Indentation beyond this is alignment, no step.
const MAX_STEP: usize = 9;

impl Style {
    pub(super) const DEFAULT: Self = Self { newline: "\n", step: 2, dash: 0 };

    /// The style of most of the document.
    pub(super) fn of(text: &str, root: &Node) -> Self {
        let mut votes = Votes::default();
        votes.count(text, root);
        let crlf = text.find('\n').is_some_and(|at| at > 0 && byte(text, at - 1) == b'\r');
        let step = most(&votes.steps[1..]).map_or(Self::DEFAULT.step, |at| at + 1);
        let dash = most(&votes.dashes).unwrap_or(Self::DEFAULT.dash);
        Self { newline: if crlf { "\r\n" } else { "\n" }, step, dash }
    }
}

fn most(votes: &[usize]) -> Option<usize> {
    let most = votes.iter().max().filter(|most| **most > 0)?;
    votes.iter().position(|count| count == most)
}

impl Votes {
    fn count(&mut self, text: &str, node: &Node) {
        match &node.shape {
            Shape::Seq { flow: false, items } => items.iter().for_each(|item| self.count(text, &item.node)),
            Shape::Map { form: Form::Block, entries } => {
                for entry in entries {
                    self.vote(text, entry);
                    self.count(text, &entry.value);
                }
            }
            _ => {}
        }
    }

    fn vote(&mut self, text: &str, entry: &Entry) {
        let (votes, child) = match &entry.value.shape {
            Shape::Seq { flow: false, items } => (&mut self.dashes, items.first().map(|item| item.dash)),
            Shape::Map { form: Form::Block, entries } => (&mut self.steps, entries.first().map(|entry| entry.start)),
            _ => return,
        };
        let Some(child) = child.filter(|at| is_first(text, *at)) else { return };
        let further = column(text, child).checked_sub(column(text, entry.start));
        if let Some(count) = further.and_then(|columns| votes.get_mut(columns)) {
            *count += 1;
        }
    }
}

impl FlowStyle {
    /// Of a file that has nothing to go by.
    pub(super) const YAML: Self = Self { quoted: false, spaced: true, tight: false, lines: None };
    /// Of a JSON file.
    pub(super) const JSON: Self = Self { quoted: true, spaced: false, tight: false, lines: Some(2) };

    /// The style of one collection; what it does not show is as `outer`, the one around it.
    pub(super) fn of(text: &str, node: &Node, outer: Option<Self>) -> Self {
        let mut style = outer.unwrap_or(Self::YAML);
        let Some((first, second)) = elements(node) else { return style };
        style.lines = text[node.body..first].contains('\n').then(|| {
            let step = column(text, first).saturating_sub(indent(text, node.body));
            if step == 0 { 2 } else { step }
        });
        if let Shape::Map { entries, .. } = &node.shape {
            style.spaced = byte(text, node.body + 1) == b' ';
            style.quoted = entries.first().is_some_and(|entry| matches!(entry.key.shape, Shape::Double));
            let colon = entries.first().and_then(|entry| entry.colon);
            style.tight = style.quoted && colon.is_some_and(|at| byte(text, at) != b' ');
        } else if outer.is_none() {
            let Shape::Seq { items, .. } = &node.shape else { return style };
            style.quoted = items.iter().all(|item| is_json(&item.node));
            style.spaced = byte(text, node.body + 1) == b' ';
        }
        if let Some((end, start)) = second {
            style.tight = start == end + 1;
        }
        style
    }
}

/// Start of the first element, and where the first ends and the second starts.
fn elements(node: &Node) -> Option<(usize, Option<(usize, usize)>)> {
    match &node.shape {
        Shape::Seq { items, .. } => {
            let second = items.get(1).map(|second| (items[0].node.end, second.node.start));
            items.first().map(|first| (first.node.start, second))
        }
        Shape::Map { entries, .. } => {
            let second = entries.get(1).map(|second| (entries[0].value.end, second.start));
            entries.first().map(|first| (first.start, second))
        }
        _ => None,
    }
}

/// Whether a node is written as in JSON, as far as its first key shows.
fn is_json(node: &Node) -> bool {
    match &node.shape {
        Shape::Double => true,
        Shape::Map { form: Form::Flow, entries } => {
            entries.first().is_none_or(|e| matches!(e.key.shape, Shape::Double))
        }
        Shape::Seq { flow: true, items } => items.first().is_none_or(|item| is_json(&item.node)),
        _ => false,
    }
}
