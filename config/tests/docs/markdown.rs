//! As much of Markdown as the checks need: headings, links, fences, code spans.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A page of Markdown.
pub(crate) struct Page {
    /// Relative to the repository.
    pub(crate) name: PathBuf,
    text: String,
}

/// A block between ``` lines.
pub(crate) struct Fence {
    pub(crate) language: String,
    /// The line of its beginning, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Every page in `directory`.
pub(crate) fn collect(directory: &Path, deep: bool, to: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let generated = path.file_name().is_some_and(|n| n == "node_modules" || n == "target");
        if path.is_dir() && deep && !generated {
            collect(&path, deep, to);
        } else if path.extension().is_some_and(|e| e == "md") {
            to.push(path);
        }
    }
}

impl Page {
    pub(crate) fn read(path: &Path, name: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", name.display()));
        Self { name: name.to_owned(), text }
    }

    /// Lines outside of fences, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let mark = line.trim_start().starts_with("```");
            inside ^= mark;
            !inside && !mark
        })
    }

    pub(crate) fn headings(&self) -> impl Iterator<Item = &str> {
        self.prose().filter_map(|(_, line)| {
            let text = line.trim_start_matches('#');
            (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten().map(str::trim)
        })
    }

    /// The first line of text below a heading.
    pub(crate) fn below(&self, heading: &str) -> &str {
        let mut lines =
            self.prose().map(|(_, line)| line).skip_while(|l| l.trim_start_matches('#').trim() != heading).skip(1);
        lines.find(|l| !l.is_empty()).unwrap_or_default()
    }

    /// What renderers make of headings; the second of the same name ends in `-1`.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for heading in self.headings() {
            let slug = slug(heading);
            let mut candidate = slug.clone();
            for n in 1.. {
                if anchors.insert(candidate) {
                    break;
                }
                candidate = format!("{slug}-{n}");
            }
        }
        anchors
    }

    /// Targets of links and images, those of HTML's `src` and `srcset` too.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let line = without_code(line);
            for (open, close) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
                for (at, _) in line.match_indices(open) {
                    let rest = &line[at + open.len()..];
                    if let Some((target, _)) = rest.split_once(close) {
                        links.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
                    }
                }
            }
        }
        links
    }

    pub(crate) fn fences(&self) -> Vec<Fence> {
        let mut fences: Vec<Fence> = Vec::new();
        let mut open: Option<Fence> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    open = Some(Fence { language: language.trim().to_owned(), line: number, text: String::new() });
                }
                (Some(_), Some(_)) => fences.extend(open.take()),
                (None, Some(fence)) => {
                    fence.text.push_str(line);
                    fence.text.push('\n');
                }
                (None, None) => {}
            }
        }
        fences
    }

    /// Whether the prose has this code span.
    pub(crate) fn has_span(&self, span: &str) -> bool {
        self.prose().any(|(_, line)| line.split('`').skip(1).step_by(2).any(|s| s == span))
    }

    /// Code spans of the prose that are one word with this prefix; labels behind `{` are cut off.
    pub(crate) fn code_words(&self, prefix: &str) -> BTreeSet<String> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        self.prose()
            .flat_map(|(_, line)| line.split('`').skip(1).step_by(2))
            .map(|span| span.split('{').next().unwrap_or_default())
            .filter(|span| !span.is_empty() && span.starts_with(prefix) && span.chars().all(word))
            .map(str::to_owned)
            .collect()
    }
}

fn without_code(line: &str) -> String {
    // A link's own text may be code: only the span goes, and what is around it stays.
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}

/// Lower case, blanks to hyphens, punctuation gone.
fn slug(heading: &str) -> String {
    // Of a link only its text is there.
    let mut text = heading.to_owned();
    while let Some((start, middle)) = text.split_once("](") {
        let (start, rest) = (start.to_owned(), middle.split_once(')').map_or("", |(_, rest)| rest).to_owned());
        text = format!("{start}{rest}");
    }
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
