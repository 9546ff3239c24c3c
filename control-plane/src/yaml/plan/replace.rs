//! A value of another kind in the place of an old one.

use serde_json::Value;

use super::{
    super::{
        Anew,
        node::{Entry, Kind, Node, Shape},
        style::FlowStyle,
        text::{column, has_comment, indent, is_first, line_start, past_line},
        write,
    },
    Plan, Spot,
};

impl<'n> Plan<'n> {
    /// Writes `after` where `node` stands.
    pub(super) fn replace(&mut self, spot: Spot<'n>, node: &'n Node, after: &'n Value) -> Result<(), Anew> {
        let newline = self.style.newline;
        match spot {
            Spot::Root => Err(Anew::Form),
            Spot::Flow(style) => {
                self.replace_flow(node, after, &style);
                Ok(())
            }
            Spot::FlowValue(entry, style) => {
                self.replace_flow_value(entry, node, after, &style);
                Ok(())
            }
            Spot::Value(entry) => {
                let behind = entry.colon.filter(|_| entry.kind == Kind::Simple).ok_or(Anew::Form)?;
                let text = match write::inline(after, Some(&node.shape)) {
                    Some(_) if after.is_null() => String::new(),
                    Some(text) => format!(" {text}"),
                    None => {
                        let mut text = String::new();
                        write::write_value(&mut text, after, column(self.text, entry.start), &self.style);
                        text
                    }
                };
                self.replace_block(behind, node, &text)
            }
            Spot::Item(item) => {
                let text = write::inline(after, Some(&node.shape))
                    .unwrap_or_else(|| write::block(after, column(self.text, item.dash) + 2, &self.style));
                debug_assert!(!text.starts_with(newline));
                self.replace_block(item.dash + 1, node, &format!(" {text}"))
            }
        }
    }

    fn replace_flow(&mut self, node: &Node, after: &Value, style: &FlowStyle) {
        let text = write::flow(after, style, self.style.newline, indent(self.text, node.start));
        self.replace_range(node.start, node.end, text);
    }

    fn replace_flow_value(&mut self, entry: &Entry, node: &Node, after: &Value, style: &FlowStyle) {
        let written = node.start != node.end;
        if written {
            return self.replace_flow(node, after, style);
        }
        let text = write::flow(after, style, self.style.newline, indent(self.text, entry.start));
        match entry.colon {
            Some(colon) => self.replace_range(colon, colon, format!(" {text}")),
            None => self.replace_range(entry.key.end, entry.key.end, format!(": {text}")),
        }
    }

    /// Puts `text` behind a colon or a dash: its first line there, with what follows a comment on that line, the others below.
    fn replace_block(&mut self, behind: usize, node: &Node, text: &str) -> Result<(), Anew> {
        let newline = self.style.newline;
        let (head, lines) = match text.split_once(newline) {
            Some((head, lines)) => (head, format!("{lines}{newline}")),
            None => (text, String::new()),
        };
        let below = self.remove_old(behind, node, head, lines.is_empty())?;
        if !lines.is_empty() {
            self.replace_range(below, below, lines);
        }
        Ok(())
    }

    /// Puts `head` in the place of a node. Says where lines below it go.
    fn remove_old(&mut self, behind: usize, node: &Node, head: &str, alone: bool) -> Result<usize, Anew> {
        let below = past_line(self.text, node.end).ok_or(Anew::Form)?;
        if matches!(node.shape, Shape::Empty) && node.start == node.end {
            self.replace_range(behind, behind, head);
            return Ok(below);
        }
        if node.is_block_collection() {
            if node.start != node.body {
                return Err(Anew::Shared);
            }
            if is_first(self.text, node.body) {
                let start = line_start(self.text, node.body);
                self.replace_range(behind, behind, head);
                self.replace_range(start, below, "");
                return Ok(start);
            }
            self.replace_range(behind, self.before_line_end(below), head);
            return Ok(below);
        }
        if matches!(node.shape, Shape::Block { .. }) {
            self.replace_range(behind, self.before_line_end(node.end), head);
            return Ok(below);
        }
        if alone && !head.is_empty() {
            self.replace_range(node.start, node.end, head.trim_start());
            return Ok(below);
        }
        if has_comment(self.text.get(behind..node.start).unwrap_or_default()) {
            return Err(Anew::Form);
        }
        self.replace_range(behind, node.end, head);
        Ok(below)
    }

    /// Before the line end that stands before `at`.
    fn before_line_end(&self, at: usize) -> usize {
        let line = &self.text[..at];
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line).len()
    }
}
