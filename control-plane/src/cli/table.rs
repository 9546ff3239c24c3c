//! Tables of text for people: columns as wide as what is in them.

use std::fmt::Write as _;

/// How a column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Width of a column at most: a name of Kubernetes has up to 253 characters, and nobody reads those.
const WIDEST: usize = 60;

/// The rows under their heads, without colours or lines, so that it can be cut and searched.
pub(super) fn table(heads: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|(head, _)| head.chars().count()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let titles: Vec<String> = heads.iter().map(|(head, _)| (*head).to_owned()).collect();
    for row in std::iter::once(&titles).chain(&rows) {
        let mut line = String::new();
        for ((cell, (_, align)), width) in row.iter().zip(heads).zip(&widths) {
            // Writing to a String cannot fail.
            match align {
                Align::Left => write!(line, "{cell:<width$}  ").unwrap_or_default(),
                Align::Right => write!(line, "{cell:>width$}  ").unwrap_or_default(),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What comes from elsewhere must not reach a terminal as anything but text.
pub(super) fn printable(text: &str) -> String {
    let escaped = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(escaped) {
        return text.to_owned();
    }
    text.chars().map(|c| if escaped(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn clean(cell: &str) -> String {
    let cell = printable(cell);
    if cell.chars().count() <= WIDEST {
        return cell;
    }
    cell.chars().take(WIDEST - 3).collect::<String>() + "..."
}

/// `12.3ms`, `1.20s`, `-` for nothing.
pub(super) fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 0.001 => format!("{:.0}us", s * 1e6),
        Some(s) if s < 0.1 => format!("{:.1}ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0}ms", s * 1e3),
        Some(s) => format!("{s:.2}s"),
    }
}

/// `99.95%`, `-` for nothing. What is not all is never rounded up to all.
pub(super) fn share(part: Option<f64>) -> String {
    match part {
        None => "-".to_owned(),
        Some(part) if part < 1.0 => format!("{:.2}%", (part * 1e4).floor() / 1e2),
        Some(_) => "100.00%".to_owned(),
    }
}

/// The `q`-quantile of a histogram in seconds, interpolated within its bucket as Prometheus does it. `buckets` are not
/// cumulative, and one more than `bounds`. `None`: there is nothing in them.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn quantile(q: f64, buckets: &[u64], bounds: &[f64]) -> Option<f64> {
    let rank = q * buckets.iter().sum::<u64>() as f64;
    let mut seen = 0.0;
    for (i, count) in buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
        let count = *count as f64;
        if seen + count >= rank {
            let high = *bounds.get(i).or(bounds.last())?;
            let low = if i == 0 { 0.0 } else { *bounds.get(i - 1)? };
            return Some(low + (high - low).max(0.0) * ((rank - seen) / count).clamp(0.0, 1.0));
        }
        seen += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_terminals_safe() {
        let heads = [("NAME", Align::Left), ("N", Align::Right)];
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["b\u{1b}[2J".to_owned(), "7".to_owned()]];
        assert_eq!(table(&heads, &rows), "NAME         N\na           10\nb\\u{1b}[2J   7\n");
        assert_eq!(clean(&"x".repeat(100)).len(), WIDEST);
    }

    #[test]
    fn figures_are_short_and_never_too_good() {
        assert_eq!(
            [duration(Some(0.0004)), duration(Some(0.0123)), duration(Some(0.25)), duration(Some(2.0))],
            ["400us", "12.3ms", "250ms", "2.00s"]
        );
        assert_eq!([share(Some(1.0)), share(Some(0.99999)), share(None)], ["100.00%", "99.99%", "-"]);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let bounds = [0.01, 0.1, 1.0];
        assert_eq!(quantile(0.5, &[0, 0, 0, 0], &bounds), None);
        let p50 = quantile(0.5, &[10, 0, 0, 0], &bounds).unwrap();
        assert!((p50 - 0.005).abs() < 1e-9, "{p50}");
        let p99 = quantile(0.99, &[50, 50, 0, 0], &bounds).unwrap();
        assert!(p99 > 0.09 && p99 <= 0.1, "{p99}");
        assert_eq!(quantile(0.9, &[0, 0, 0, 5], &bounds), Some(1.0), "beyond the last bound");
    }
}
