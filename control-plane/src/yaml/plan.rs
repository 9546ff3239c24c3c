//! The edits that lead from one value to another.
//!
//! Tree and values are walked together. What is equal is left; scalars change in their place; entries and items that go take
//! their lines with them, those that come get lines of their own behind the one that they follow. Comments on lines of their own stay.
//!
//! What is put in is taken out again to the byte: both act on whole lines (or, in flow style, from the end of one element
//! to the end of the next), so that undoing a change restores the text.

mod block;
mod replace;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    Anew, align,
    node::{Entry, Form, Item, Kind, Node, Shape},
    place, read,
    style::{FlowStyle, Style},
};

/// `text` is replaced from `start` to `end`.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

/// Where a node is; what may come in its stead depends on that.
#[derive(Clone, Copy)]
pub(super) enum Spot<'n> {
    Root,
    /// Behind the key of a block mapping.
    Value(&'n Entry),
    /// Behind a dash.
    Item(&'n Item),
    /// In a flow collection of this style.
    Flow(FlowStyle),
    /// Behind the key of a flow mapping.
    FlowValue(&'n Entry, FlowStyle),
}

pub(super) struct Plan<'n> {
    pub(super) text: &'n str,
    pub(super) style: Style,
    edits: Vec<Edit>,
    /// What anchors name before; empty if there are none.
    before: &'n HashMap<usize, Value>,
    /// What those name afterwards that are still there.
    after: HashMap<usize, &'n Value>,
    aliases: Vec<(Spot<'n>, &'n Node, usize, &'n Value)>,
    merges: Vec<usize>,
}

/// The text of a document that says `after` instead of `before`. It must be read again: see [`super::says`].
pub(super) fn edit(text: &str, before: &Value, after: &Value) -> Result<String, Anew> {
    // A lone `\r` ends a line as well; to edit such lines is not worth the trouble.
    if text.replace("\r\n", "").contains('\r') {
        return Err(Anew::Form);
    }
    let ended = text.ends_with('\n');
    let whole =
        if ended { text.to_owned() } else { format!("{text}{}", if text.contains("\r\n") { "\r\n" } else { "\n" }) };
    let mut parsed = read::parse(&whole).map_err(|_| Anew::Form)?;
    let [one] = &mut *parsed else { return Err(Anew::Form) };
    place::place(&whole, &mut one.root, one.start).ok_or(Anew::Form)?;
    let style = Style::of(&whole, &one.root);
    let mut plan = Plan {
        text: &whole,
        style,
        edits: Vec::new(),
        before: &one.anchors,
        after: HashMap::new(),
        aliases: Vec::new(),
        merges: Vec::new(),
    };
    plan.node(Spot::Root, &one.root, before, after)?;
    plan.settle()?;
    let mut edited = plan.apply()?;
    if !ended {
        let line_end = if edited.ends_with("\r\n") { 2 } else { usize::from(edited.ends_with('\n')) };
        edited.truncate(edited.len() - line_end);
    }
    Ok(edited)
}

impl<'n> Plan<'n> {
    pub(super) fn replace_range(&mut self, start: usize, end: usize, text: impl Into<String>) {
        self.edits.push(Edit { start, end, text: text.into() });
    }

    /// Makes `node` say `after`.
    pub(super) fn node(
        &mut self,
        spot: Spot<'n>,
        node: &'n Node,
        before: &'n Value,
        after: &'n Value,
    ) -> Result<(), Anew> {
        if before == after && self.before.is_empty() {
            return Ok(());
        }
        if let Shape::Alias(id) = node.shape {
            self.aliases.push((spot, node, id, after));
            return Ok(());
        }
        match (&node.shape, before, after) {
            (Shape::Map { form, entries }, Value::Object(old), Value::Object(new)) if stays(entries, old, new) => {
                match form {
                    Form::Block => self.block_map(spot, entries, old, new)?,
                    Form::Flow => self.flow_map(node, entries, old, new, spot.flow())?,
                    Form::Pair if before == after => return Ok(()),
                    Form::Pair => return Err(Anew::Form),
                }
            }
            (Shape::Seq { flow, items }, Value::Array(old), Value::Array(new)) if !items.is_empty() => {
                let pairs = align::align(old, new);
                if pairs.iter().all(Option::is_none) {
                    return self.replace(spot, node, after);
                }
                if *flow {
                    self.flow_seq(node, items, old, new, &pairs, spot.flow())?;
                } else {
                    self.block_seq(spot, items, old, new, &pairs)?;
                }
            }
            _ if before == after => {}
            _ => return self.replace(spot, node, after),
        }
        if node.anchor != 0 {
            self.after.insert(node.anchor, after);
        }
        Ok(())
    }

    /// Aliases whose target says something else than they should are replaced by their values.
    fn settle(&mut self) -> Result<(), Anew> {
        for id in std::mem::take(&mut self.merges) {
            if self.after.get(&id).copied() != self.before.get(&id) {
                return Err(Anew::Shared);
            }
        }
        for (spot, node, id, after) in std::mem::take(&mut self.aliases) {
            if self.after.get(&id).copied() != Some(after) {
                self.replace(spot, node, after)?;
            }
        }
        Ok(())
    }

    /// Entries that neither stay nor are new need the same of everybody: that merge keys keep what they bring in.
    pub(super) fn merged(
        &mut self,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Anew> {
        if entries.iter().all(|entry| entry.kind != Kind::Merge) {
            return Ok(());
        }
        let written = |key: &String| entries.iter().any(|entry| entry.kind != Kind::Merge && entry.name == *key);
        if old.keys().any(|key| !written(key) && !new.contains_key(key)) {
            return Err(Anew::Shared);
        }
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Merge) {
            self.note_merge(&entry.value)?;
        }
        Ok(())
    }

    fn note_merge(&mut self, value: &Node) -> Result<(), Anew> {
        match &value.shape {
            Shape::Alias(id) => self.merges.push(*id),
            Shape::Seq { items, .. } => items.iter().try_for_each(|item| self.note_merge(&item.node))?,
            _ => return Err(Anew::Shared),
        }
        Ok(())
    }

    fn apply(self) -> Result<String, Anew> {
        let mut edits = self.edits;
        // Stable: what is inserted at one place stays in order, and stands before what is taken out from there on.
        edits.sort_by_key(|edit| (edit.start, edit.end));
        let mut out = String::with_capacity(self.text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
        let mut at = 0;
        for edit in edits {
            out.push_str(self.text.get(at..edit.start).ok_or(Anew::Form)?);
            out.push_str(&edit.text);
            at = edit.end;
        }
        out.push_str(self.text.get(at..).ok_or(Anew::Form)?);
        Ok(out)
    }
}

impl Spot<'_> {
    fn flow(self) -> Option<FlowStyle> {
        match self {
            Self::Flow(style) | Self::FlowValue(_, style) => Some(style),
            Self::Root | Self::Value(_) | Self::Item(_) => None,
        }
    }
}

/// Whether some written entry of a mapping remains, so that it can be changed entry by entry.
fn stays(entries: &[Entry], old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    entries.iter().any(|entry| entry.kind == Kind::Merge || new.contains_key(&entry.name))
        || (old.is_empty() && new.is_empty())
}

/// The keys that have to be written: each with the written and remaining entry that it follows.
pub(super) fn new_keys<'v>(
    entries: &[Entry],
    old: &Map<String, Value>,
    new: &'v Map<String, Value>,
) -> Vec<(Option<usize>, &'v str, &'v Value)> {
    let written: HashMap<&str, usize> =
        entries.iter().enumerate().filter(|(_, e)| e.kind != Kind::Merge).map(|(at, e)| (&*e.name, at)).collect();
    let mut follows = None;
    let mut keys = Vec::new();
    for (key, value) in new {
        match written.get(&**key) {
            Some(at) => follows = Some(*at),
            // A merge key brings it in.
            None if old.get(key) == Some(value) => {}
            None => keys.push((follows, &**key, value)),
        }
    }
    keys
}
