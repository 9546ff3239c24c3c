//! Elements of flow collections: in braces and brackets, and all of JSON.
//!
//! An element that comes is put behind the end of the one that it follows, with a comma before it; one that goes is taken out from there
//! to its own end. So putting in and taking out restores the text.

use serde_json::{Map, Value};

use super::{
    Anew,
    node::{Entry, Item, Kind, Node},
    plan::{Plan, Spot, new_keys},
    style::FlowStyle,
    text::{column, has_comment, indent},
    write,
};

/// Where an element stands, and whether it stays.
struct Element {
    start: usize,
    end: usize,
    stays: bool,
}

impl<'n> Plan<'n> {
    pub(super) fn flow_map(
        &mut self,
        node: &'n Node,
        entries: &'n [Entry],
        old: &'n Map<String, Value>,
        new: &'n Map<String, Value>,
        outer: Option<FlowStyle>,
    ) -> Result<(), Anew> {
        self.merged(entries, old, new)?;
        let style = FlowStyle::of(self.text, node, outer);
        let mut elements = Vec::with_capacity(entries.len());
        for entry in entries {
            let stays = entry.kind == Kind::Merge || new.contains_key(&entry.name);
            elements.push(Element { start: entry.start, end: entry.value.end, stays });
            if entry.kind != Kind::Merge
                && let (Some(old), Some(new)) = (old.get(&entry.name), new.get(&entry.name))
            {
                self.node(Spot::FlowValue(entry, style), &entry.value, old, new)?;
            }
        }
        self.remove(&elements)?;
        let inner = self.inner(node, &elements, &style);
        for (follows, key, value) in new_keys(entries, old, new) {
            let text = write::flow_entry(key, value, &style, self.style.newline, inner);
            self.insert(&elements, follows, &text, &style)?;
        }
        Ok(())
    }

    pub(super) fn flow_seq(
        &mut self,
        node: &'n Node,
        items: &'n [Item],
        old: &'n [Value],
        new: &'n [Value],
        pairs: &[Option<usize>],
        outer: Option<FlowStyle>,
    ) -> Result<(), Anew> {
        let style = FlowStyle::of(self.text, node, outer);
        let mut elements: Vec<Element> =
            items.iter().map(|item| Element { start: item.node.start, end: item.node.end, stays: false }).collect();
        for (value, pair) in new.iter().zip(pairs) {
            if let Some(at) = *pair {
                elements.get_mut(at).ok_or(Anew::Form)?.stays = true;
                self.node(Spot::Flow(style), &items[at].node, old.get(at).ok_or(Anew::Form)?, value)?;
            }
        }
        self.remove(&elements)?;
        let inner = self.inner(node, &elements, &style);
        let mut follows = None;
        for (value, pair) in new.iter().zip(pairs) {
            if pair.is_some() {
                follows = *pair;
                continue;
            }
            let text = write::flow(value, &style, self.style.newline, inner);
            self.insert(&elements, follows, &text, &style)?;
        }
        Ok(())
    }

    /// How far a line is indented on which an element starts.
    fn inner(&self, node: &Node, elements: &[Element], style: &FlowStyle) -> usize {
        match elements.first().filter(|_| style.lines.is_some()) {
            Some(first) => column(self.text, first.start),
            None => indent(self.text, node.body),
        }
    }

    fn remove(&mut self, elements: &[Element]) -> Result<(), Anew> {
        let kept = elements.iter().position(|element| element.stays).ok_or(Anew::Form)?;
        if kept > 0 {
            let gap = self.gap(elements[kept - 1].end, elements[kept].start);
            // A comment before the first that stays is likely to be about it.
            let end = gap.find('#').map_or(elements[kept].start, |at| elements[kept - 1].end + at);
            self.replace_range(elements[0].start, end, "");
        }
        let mut previous = kept;
        for at in kept + 1..elements.len() {
            if elements[at].stays {
                previous = at;
                continue;
            }
            if at > previous + 1 {
                // Taken out with the one before.
                continue;
            }
            let run = elements[at..].iter().take_while(|element| !element.stays).count();
            let last = at + run - 1;
            let start = elements[previous].end;
            if has_comment(self.gap(start, elements[at].start)) {
                // The comment stays; so does the comma before it, and the one behind goes.
                let next = elements.get(last + 1).ok_or(Anew::Form)?;
                self.replace_range(elements[at].start, next.start, "");
            } else {
                self.replace_range(start, elements[last].end, "");
            }
        }
        Ok(())
    }

    fn gap(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn insert(
        &mut self,
        elements: &[Element],
        follows: Option<usize>,
        text: &str,
        style: &FlowStyle,
    ) -> Result<(), Anew> {
        let first = elements.iter().find(|element| element.stays).ok_or(Anew::Form)?;
        let separator = match style.lines {
            Some(_) => format!(",{}{}", self.style.newline, " ".repeat(column(self.text, elements[0].start))),
            None if style.tight => ",".to_owned(),
            None => ", ".to_owned(),
        };
        match follows {
            Some(at) => self.replace_range(elements[at].end, elements[at].end, format!("{separator}{text}")),
            None => self.replace_range(first.start, first.start, format!("{text}{separator}")),
        }
        Ok(())
    }
}
