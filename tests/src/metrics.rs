//! Reading of the Prometheus text format, strict enough to notice a broken line.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Name, labels, value; in the order of the text.
    pub series: Vec<(String, BTreeMap<String, String>, f64)>,
    /// Types by family.
    pub types: BTreeMap<String, String>,
}

impl Metrics {
    /// Parses text 0.0.4. Panics on a line that is none, and on a series that occurs twice.
    #[must_use]
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                metrics.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                metrics.series.push(sample(line).unwrap_or_else(|| panic!("no sample: {line}")));
            }
        }
        let mut keys: Vec<_> = metrics.series.iter().map(|(name, labels, _)| (name, labels)).collect();
        keys.sort();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "a series occurs twice");
        metrics
    }

    /// Sum of the series of `name` that have all these labels. `name` may leave out `outrigger_`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(_, value)| value).sum()
    }

    /// Values of `label` among the series of `name` that have all these labels and are not zero.
    #[must_use]
    pub fn values(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<String> {
        let nonzero = self.matching(name, labels).filter(|(_, value)| *value != 0.0);
        let mut found: Vec<_> = nonzero.filter_map(|(labels, _)| labels.get(label).cloned()).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Whether the family is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.types.contains_key(&prefixed(name)) || self.types.contains_key(name)
    }

    fn matching<'a>(
        &'a self,
        name: &str,
        wanted: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let (plain, prefixed) = (name.to_owned(), prefixed(name));
        self.series
            .iter()
            .filter(move |(name, labels, _)| {
                (*name == plain || *name == prefixed)
                    && wanted.iter().all(|(k, v)| labels.get(*k).is_some_and(|have| have == v))
            })
            .map(|(_, labels, value)| (labels, *value))
    }
}

fn prefixed(name: &str) -> String {
    format!("outrigger_{name}")
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.trim().split(' ').next()?;
    Some((name.to_owned(), labels, value.parse().ok()?))
}

/// The text up to the closing quote, unescaped, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unescaped_and_summed() {
        let text =
            "# TYPE outrigger_a counter\noutrigger_a{x=\"1\",y=\"a\\\"b\"} 2\noutrigger_a{x=\"1\",y=\"c\"} 3\nb 4.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[("x", "1")]), 5.0);
        assert_eq!(metrics.values("a", &[], "y"), ["a\"b", "c"]);
        assert_eq!(metrics.sum("b", &[]), 4.5);
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_duplicate_is_noticed() {
        drop(Metrics::parse("a{x=\"1\"} 1\na{x=\"1\"} 2\n"));
    }
}
