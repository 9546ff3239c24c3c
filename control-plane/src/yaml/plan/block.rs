//! Entries and items on lines of their own.

use serde_json::{Map, Value};

use super::{
    super::{
        Anew,
        node::{Entry, Item, Kind},
        text::{column, has_comment, is_first, line_start, next_line, past_line},
        write,
    },
    Plan, Spot, new_keys,
};

impl<'n> Plan<'n> {
    pub(super) fn block_map(
        &mut self,
        spot: Spot<'n>,
        entries: &'n [Entry],
        old: &'n Map<String, Value>,
        new: &'n Map<String, Value>,
    ) -> Result<(), Anew> {
        self.merged(entries, old, new)?;
        let column = entries.first().map_or(0, |entry| column(self.text, entry.start));
        let stays: Vec<bool> = entries.iter().map(|e| e.kind == Kind::Merge || new.contains_key(&e.name)).collect();
        let kept = stays.iter().position(|stays| *stays).ok_or(Anew::Form)?;
        let mut gone = 0;
        if kept > 0 && !is_first(self.text, entries[0].start) {
            self.remove_inner(entries[0].start, entries[kept - 1].value.end, entries[kept].start)?;
            gone = kept;
        }
        for (entry, stays) in entries.iter().zip(&stays).skip(gone) {
            if entry.kind == Kind::Merge {
                continue;
            }
            if !*stays {
                self.remove_lines(entry.start, entry.value.end)?;
            } else if let (Some(old), Some(new)) = (old.get(&entry.name), new.get(&entry.name)) {
                self.node(Spot::Value(entry), &entry.value, old, new)?;
            }
        }
        for (follows, key, value) in new_keys(entries, old, new) {
            let text = write::entry(key, value, column, &self.style);
            match follows.or_else(|| entries.iter().position(|entry| entry.kind == Kind::Merge)) {
                Some(at) => self.insert_behind(entries[at].value.end, column, &text)?,
                None => self.insert_first(spot, entries[0].start, entries[kept].start, column, &text)?,
            }
        }
        Ok(())
    }

    pub(super) fn block_seq(
        &mut self,
        spot: Spot<'n>,
        items: &'n [Item],
        old: &'n [Value],
        new: &'n [Value],
        pairs: &[Option<usize>],
    ) -> Result<(), Anew> {
        let column = items.first().map_or(0, |item| column(self.text, item.dash));
        let mut becomes = vec![None; items.len()];
        for (at, pair) in pairs.iter().enumerate() {
            if let Some(slot) = pair.and_then(|pair| becomes.get_mut(pair)) {
                *slot = new.get(at);
            }
        }
        let kept = becomes.iter().position(Option::is_some).ok_or(Anew::Form)?;
        let mut gone = 0;
        if kept > 0 && !is_first(self.text, items[0].dash) {
            self.remove_inner(items[0].dash, items[kept - 1].node.end, items[kept].dash)?;
            gone = kept;
        }
        for (at, (item, becomes)) in items.iter().zip(&becomes).enumerate().skip(gone) {
            match becomes {
                None => self.remove_lines(item.dash, item.node.end)?,
                Some(after) => self.node(Spot::Item(item), &item.node, old.get(at).ok_or(Anew::Form)?, after)?,
            }
        }
        let mut follows = None;
        for (value, pair) in new.iter().zip(pairs) {
            if pair.is_some() {
                follows = *pair;
                continue;
            }
            let text = write::item(value, column, &self.style);
            match follows {
                Some(at) => self.insert_behind(items[at].node.end, column, &text)?,
                None => self.insert_first(spot, items[0].dash, items[kept].dash, column, &text)?,
            }
        }
        Ok(())
    }

    /// Takes the elements out that start behind a dash, up to the first that stays: that one takes their place.
    fn remove_inner(&mut self, start: usize, end: usize, next: usize) -> Result<(), Anew> {
        let end = past_line(self.text, end).ok_or(Anew::Form)?;
        if !has_comment(self.text.get(end..next).unwrap_or_default()) {
            self.replace_range(start, next, "");
            return Ok(());
        }
        // `-`, a comment on a line of its own, and then what stays.
        let before = self.text[..start].trim_end_matches(' ').len();
        self.replace_range(before, end, self.style.newline);
        Ok(())
    }

    fn remove_lines(&mut self, start: usize, end: usize) -> Result<(), Anew> {
        if !is_first(self.text, start) {
            return Err(Anew::Form);
        }
        let end = past_line(self.text, end).ok_or(Anew::Form)?;
        self.replace_range(line_start(self.text, start), end, "");
        Ok(())
    }

    /// Lines behind the one on which something ends.
    fn insert_behind(&mut self, end: usize, column: usize, text: &str) -> Result<(), Anew> {
        let at = past_line(self.text, end).ok_or(Anew::Form)?;
        self.insert_lines(at, column, text);
        Ok(())
    }

    fn insert_lines(&mut self, at: usize, column: usize, text: &str) {
        let newline = self.style.newline;
        self.replace_range(at, at, format!("{}{text}{newline}", " ".repeat(column)));
    }

    /// Before all others: under the key, above comments that belong to the first; or behind the dash, in the place of the first.
    fn insert_first(
        &mut self,
        spot: Spot<'n>,
        first: usize,
        kept: usize,
        column: usize,
        text: &str,
    ) -> Result<(), Anew> {
        if !is_first(self.text, first) {
            let newline = self.style.newline;
            self.replace_range(kept, kept, format!("{text}{newline}{}", " ".repeat(column)));
            return Ok(());
        }
        let line = line_start(self.text, first);
        let above = match spot {
            Spot::Value(entry) => next_line(self.text, entry.colon.ok_or(Anew::Form)?),
            Spot::Item(item) => next_line(self.text, item.dash),
            Spot::Root | Spot::Flow(_) | Spot::FlowValue(..) => line,
        };
        // An anchor or a tag on a line between belongs to the collection.
        let between = self.text.get(above..line).unwrap_or_default();
        let property = between.lines().any(|line| line.trim_start().starts_with(['&', '!']));
        self.insert_lines(if property { line } else { above.min(line) }, column, text);
        Ok(())
    }
}
