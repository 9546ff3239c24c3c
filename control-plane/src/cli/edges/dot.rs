//! Edges as a picture: Graphviz's language.

use std::collections::BTreeMap;

use super::{Edge, short};

/// Between two names one line: what the caller's proxy says, or else the server's.
pub(super) fn picture(edges: &[Edge]) -> String {
    let mut lines: BTreeMap<(String, String), Vec<&Edge>> = BTreeMap::new();
    for edge in edges {
        lines.entry((short(&edge.from), short(&edge.to))).or_default().push(edge);
    }
    let mut text = "digraph mesh {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n".to_owned();
    for ((from, to), all) in &lines {
        let side = if all.iter().any(|e| e.seen_by == "client") { "client" } else { "server" };
        let of_side = all.iter().filter(|e| e.seen_by == side);
        let (requests, failures) = of_side.clone().fold((0, 0), |(r, f), e| (r + e.requests, f + e.failures));
        let secure = of_side.clone().all(|e| e.mtls);
        let style = if secure { "solid" } else { "dashed" };
        let colour = if failures > 0 { ", color=red" } else { "" };
        let label = format!("{requests} requests, {failures} failed{}", if secure { "" } else { ", no mTLS" });
        text.push_str(&format!(
            "  {} -> {} [label={}, style={style}{colour}];\n",
            quoted(from),
            quoted(to),
            quoted(&label)
        ));
    }
    text.push_str("}\n");
    text
}

/// A string of the DOT language: only quotes and backslashes mean something in it.
fn quoted(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let text = picture(&super::super::tests::edges());
        assert!(
            text.contains(
                r#"  "shop/payments" -> "bank/\"ledger" [label="10 requests, 1 failed", style=solid, color=red];"#
            ),
            "{text}"
        );
        assert!(
            text.contains(
                r#""(no identity)" -> "shop/payments" [label="10 requests, 1 failed, no mTLS", style=dashed"#
            ),
            "{text}"
        );
    }
}
