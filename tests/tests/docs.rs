//! The pages and the real programs agree: the programs take the examples, and know every command and flag that a page shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use outrigger_tests::binary;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().expect("the program runs")
}

/// Files below `directory` with this extension.
fn files(directory: &Path, extension: &str, to: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, to);
        } else if path.extension().is_some_and(|e| e == extension) {
            to.push(path);
        }
    }
    to.sort();
}

#[test]
fn validate_takes_the_examples() {
    let mut examples = Vec::new();
    files(&root().join("examples"), "yaml", &mut examples);
    examples.retain(|p| fs::read_to_string(p).is_ok_and(|text| text.contains("apiVersion: outrigger.dev/")));
    assert!(examples.len() > 10, "{examples:?}");
    for path in examples {
        let output = run(binary::proxy(), &["validate", &path.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.starts_with("OK: "), "{}: {said}", path.display());
    }
}

/// What stands in a page as a command: behind a prompt, in a shell block, or as a code span.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.to_owned()) };
            continue;
        }
        match fence.as_deref() {
            None => found.extend(line.split('`').skip(1).step_by(2).map(|span| (number, span.to_owned()))),
            Some("console") => {
                found.extend(line.trim_start().strip_prefix("$ ").map(|typed| (number, typed.to_owned())));
            }
            Some("bash" | "sh") => found.push((number, line.to_owned())),
            Some(_) => {}
        }
    }
    found
}

/// Each run of one of the programs in `typed`: its words without quotes, up to a comment.
fn runs(typed: &str) -> Vec<Vec<String>> {
    let typed = typed.split(" #").next().unwrap_or_default();
    let separated =
        typed.replace(" && ", "\n").replace(" | ", "\n").replace("; ", "\n").replace(" > ", "\n").replace('[', " ");
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace()
            .map(|w| w.trim_matches(['\'', '"', ']', '&', ',']).to_owned())
            .filter(|w| !w.is_empty())
            .collect()
    };
    let ours = |w: &Vec<String>| w.len() > 1 && matches!(&*w[0], "outrigger" | "outrigger-proxy");
    separated.lines().map(words).filter(ours).collect()
}

/// The help of a program's command; `None`: there is no such command.
struct Help(BTreeMap<Vec<String>, Option<String>>);

impl Help {
    fn of(&mut self, path: &[String]) -> Option<&str> {
        if !self.0.contains_key(path) {
            let program = if path[0] == "outrigger" { binary::outrigger() } else { binary::proxy() };
            let mut args: Vec<&str> = path[1..].iter().map(String::as_str).collect();
            args.push("--help");
            let output = run(program, &args);
            let text = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned());
            self.0.insert(path.to_vec(), text);
        }
        self.0[path].as_deref()
    }

    /// The commands below the one at `path`.
    fn below(&mut self, path: &[String]) -> BTreeSet<String> {
        let lines = self.of(path).unwrap_or_default().lines().skip_while(|l| *l != "Commands:").skip(1);
        lines
            .take_while(|l| !l.is_empty())
            .filter_map(|l| l.strip_prefix("  ")?.split(' ').next())
            .map(str::to_owned)
            .collect()
    }
}

/// What is wrong with a run, if anything is.
fn fault(help: &mut Help, words: &[String]) -> Option<String> {
    let mut path = vec![words[0].clone()];
    let mut rest = words[1..].iter();
    loop {
        let below = help.below(&path);
        if below.is_empty() {
            break;
        }
        match rest.next() {
            Some(word) if word.starts_with('-') => break,
            Some(word) if below.contains(word) => path.push(word.clone()),
            // `redirect install|remove`, `ca show FILE`: one of several, which help of the first would show.
            Some(word) if word.contains('|') => {
                let unknown = word.split('|').find(|w| !below.contains(*w))?;
                return Some(format!("{} has no command {unknown}", path.join(" ")));
            }
            Some(word) => return Some(format!("{} has no command {word}", path.join(" "))),
            None => break,
        }
    }
    let text = help.of(&path)?.to_owned();
    let known: BTreeSet<&str> =
        text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '<' | '=' | '`')).collect();
    let flags = words.iter().filter(|w| w.starts_with('-') && w.len() > 1 && *w != "--");
    let names = flags.filter_map(|w| w.split(['=', '|']).next());
    names.filter(|flag| !known.contains(flag)).map(|flag| format!("{} has no flag {flag}", path.join(" "))).next()
}

#[test]
fn commands_in_the_pages_are_there() {
    let mut pages = vec![root().join("README.md")];
    for directory in ["docs", "examples", "charts"] {
        files(&root().join(directory), "md", &mut pages);
    }
    let mut help = Help(BTreeMap::new());
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("it can be read");
        for (line, typed) in commands(&text) {
            for words in runs(&typed) {
                checked += 1;
                wrong.extend(fault(&mut help, &words).map(|f| format!("{}:{line}: {f}: {typed}", page.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 30, "{checked} commands");
}

/// The page about the control plane has every flag of it.
#[test]
fn the_flags_of_the_control_plane_are_listed() {
    let output = run(binary::outrigger(), &["control-plane", "--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = help.lines().filter_map(|l| l.trim_start().split_once("--"));
    let flags = lines.filter(|(before, _)| before.is_empty() || before.starts_with('-'));
    let flags: BTreeSet<&str> = flags.filter_map(|(_, rest)| rest.split([' ', '.', '=']).next()).collect();
    assert!(flags.len() > 15, "{flags:?}");
    let page = fs::read_to_string(root().join("docs/control-plane.md")).expect("it can be read");
    let missing =
        flags.iter().filter(|f| !matches!(**f, "help" | "version" | "verbose") && !page.contains(&format!("`--{f}")));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "docs/control-plane.md does not list {missing:?}");
}
