//! An object as text in which every line belongs to one field: the compiler says lines, and people think in fields.

use serde_json::Value;

/// JSON of many lines, and the field of each.
///
/// A field is kept as its name and the field around it: whole paths would take the product of what a document has of depth and lines.
#[derive(Debug, Default)]
pub(super) struct Located {
    pub(super) text: String,
    fields: Vec<Field>,
    /// Index into `fields` of line 1, 2, ...
    lines: Vec<usize>,
}

#[derive(Debug)]
struct Field {
    /// Index of the field around it; its own: it is the whole.
    around: usize,
    name: Name,
}

#[derive(Debug)]
enum Name {
    Key(String),
    Item(usize),
}

impl Located {
    /// Writes `value`; the parser has bounded its depth.
    pub(super) fn new(value: &Value) -> Self {
        let mut located = Self::default();
        located.fields.push(Field { around: 0, name: Name::Item(0) });
        located.lines.push(0);
        located.value(value, 0);
        located
    }

    /// `spec.retry.attempts`: the field of a line, from 1. Empty: the whole, or no such line.
    pub(super) fn field(&self, line: u32) -> String {
        let index = usize::try_from(line).unwrap_or(usize::MAX).wrapping_sub(1);
        let mut at = self.lines.get(index).copied().unwrap_or(0);
        let mut names = Vec::new();
        while at != 0 {
            let field = &self.fields[at];
            names.push(&field.name);
            at = field.around;
        }
        let mut path = String::new();
        for name in names.iter().rev() {
            path.push_str(&name.after(&path));
        }
        path
    }

    fn value(&mut self, value: &Value, field: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                self.text.push('{');
                for (i, (key, value)) in fields.iter().enumerate() {
                    let inner = self.next(field, Name::Key(key.clone()), i > 0);
                    self.text.push_str(&Value::from(key.as_str()).to_string());
                    self.text.push_str(": ");
                    self.value(value, inner);
                }
                self.close(field, '}');
            }
            Value::Array(items) if !items.is_empty() => {
                self.text.push('[');
                for (i, item) in items.iter().enumerate() {
                    let inner = self.next(field, Name::Item(i), i > 0);
                    self.value(item, inner);
                }
                self.close(field, ']');
            }
            scalar => self.text.push_str(&scalar.to_string()),
        }
    }

    /// Begins a line for a new field; returns its index.
    fn next(&mut self, around: usize, name: Name, comma: bool) -> usize {
        self.text.push_str(if comma { ",\n" } else { "\n" });
        self.fields.push(Field { around, name });
        self.lines.push(self.fields.len() - 1);
        self.fields.len() - 1
    }

    fn close(&mut self, field: usize, bracket: char) {
        self.text.push('\n');
        self.lines.push(field);
        self.text.push(bracket);
    }
}

impl Name {
    /// As Kubernetes writes field paths, behind `path`.
    fn after(&self, path: &str) -> String {
        match self {
            Self::Item(index) => format!("[{index}]"),
            Self::Key(key)
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) =>
            {
                if path.is_empty() { key.clone() } else { format!(".{key}") }
            }
            Self::Key(key) => format!("[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_field() {
        let value = serde_json::json!({"a": {"b": [1, {"c.d": "x\ny"}]}, "e": [], "f": null});
        let located = Located::new(&value);
        assert_eq!(serde_json::from_str::<Value>(&located.text).unwrap(), value);
        let lines: Vec<_> = located.text.lines().enumerate().collect();
        assert_eq!(lines.len(), located.lines.len());
        for (i, line) in lines {
            let field = located.field(u32::try_from(i + 1).unwrap());
            let expected = match line.trim() {
                l if l.starts_with("\"a\"") => "a",
                l if l.starts_with("\"b\"") => "a.b",
                l if l.starts_with('1') => "a.b[0]",
                l if l.starts_with("\"c.d\"") => "a.b[1][c.d]",
                l if l.starts_with("\"e\"") => "e",
                l if l.starts_with("\"f\"") => "f",
                _ => continue,
            };
            assert_eq!(field, expected, "{line}");
        }
        assert_eq!(located.field(0), "");
        assert_eq!(located.field(1_000_000), "");
    }
}
