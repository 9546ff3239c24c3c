//! The tables, in Markdown, as `benches/README.md` shows them.

use std::fmt::Write as _;

use crate::stats::{Summary, paired};

/// One figure per round, of one peer.
#[derive(Debug, Default, Clone)]
pub struct Row {
    /// The peer.
    pub name: String,
    /// The figure that is compared, one per round.
    pub figures: Vec<f64>,
    /// Further cells, one value per round: the median is shown.
    pub more: Vec<Vec<f64>>,
}

/// A table whose ratios are paired with the row called `base`, round by round.
#[must_use]
pub fn table(title: &str, unit: &str, more: &[&str], rows: &[Row], base: &str) -> String {
    let base_figures = rows.iter().find(|r| r.name == base).map(|r| r.figures.as_slice());
    let mut text = format!("### {title}\n\n| proxy | {unit} | relative to {base} |");
    for name in more {
        push(&mut text, format_args!(" {name} |"));
    }
    push(&mut text, format_args!("\n|---|---:|---:|{}\n", "---:|".repeat(more.len())));
    for row in rows {
        let ratio = base_figures.and_then(|b| Summary::of(&paired(&row.figures, b)));
        push(&mut text, format_args!("| {} | {} | {} |", row.name, cell(Summary::of(&row.figures), 1), cell(ratio, 2)));
        for values in &row.more {
            let median = Summary::of(values).map_or_else(
                || "-".into(),
                |s| if s.median < 10.0 { format!("{:.2}", s.median) } else { format!("{:.0}", s.median) },
            );
            push(&mut text, format_args!(" {median} |"));
        }
        text.push('\n');
    }
    text
}

fn cell(summary: Option<Summary>, digits: usize) -> String {
    match summary {
        None => "-".into(),
        // One round has no range.
        Some(s) if s.low == s.high => format!("{:.digits$}", s.median),
        Some(s) => format!("{:.digits$} ({:.digits$} to {:.digits$})", s.median, s.low, s.high),
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_pairs_within_rounds() {
        let row =
            |name: &str, figures: &[f64]| Row { name: name.into(), figures: figures.to_vec(), more: vec![vec![7.4]] };
        let rows = [row("outrigger", &[10.0, 20.0]), row("nginx", &[15.0, 30.0])];
        assert_eq!(
            table("T", "µs", &["req/s"], &rows, "outrigger"),
            "### T\n\n| proxy | µs | relative to outrigger | req/s |\n|---|---:|---:|---:|\n\
             | outrigger | 15.0 (10.0 to 20.0) | 1.00 | 7.40 |\n| nginx | 22.5 (15.0 to 30.0) | 1.50 | 7.40 |\n"
        );
    }
}
