//! `validate PATH...`: every fault of the documents, a line each on stdout.

use std::{io, process::ExitCode};

use outrigger_config::Severity;

use super::{DONE, FOUND_FAULTS, ValidateArgs, print_faults, say};
use crate::control::sources;

pub(super) fn run(args: &ValidateArgs) -> ExitCode {
    let mut out = io::stdout();
    let (sources, mut faults) = sources::load(&args.paths);
    faults.extend(outrigger_config::validate(&sources));
    print_faults(&mut out, &faults);
    if faults.iter().any(|f| f.severity == Severity::Error) {
        return ExitCode::from(FOUND_FAULTS);
    }
    let count: usize = sources.iter().map(|s| documents(&s.text)).sum();
    if count == 0 {
        // Nothing to find fault with is hardly what was meant.
        let paths: Vec<String> = args.paths.iter().map(|p| p.display().to_string()).collect();
        let text = format!("warning: no document in {} (directories: *.yaml and *.yml)\n", paths.join(", "));
        say(&mut io::stderr(), &text);
    }
    say(&mut out, &format!("OK: {count} document{}\n", if count == 1 { "" } else { "s" }));
    ExitCode::from(DONE)
}

/// How many documents a text has. Markers stand at the start of a line and nowhere else, so that no
/// parser is needed; a document of comments alone is none.
fn documents(text: &str) -> usize {
    let mut count = 0;
    let mut counted = false;
    for line in text.lines() {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let content = match line.strip_prefix("---").or_else(|| line.strip_prefix("...")) {
            Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
                counted = false;
                rest
            }
            _ => line,
        };
        let content = content.trim_start();
        if !counted && !content.is_empty() && !content.starts_with(['#', '%']) {
            counted = true;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn documents_are_counted() {
        for (text, want) in [
            ("", 0),
            ("# nothing\n", 0),
            ("a: 1\n", 1),
            ("---\na: 1\n---\n# empty\n---\nb: 1\n", 2),
            ("a: 1\n--- # two\nb: |\n  ---\n  x\n", 2),
            ("a: 1\n...\n", 1),
            ("--- {a: 1}\n--- {b: 1}\r\n", 2),
            ("a: ---x\n---x: 1\n", 1),
        ] {
            assert_eq!(documents(text), want, "{text:?}");
        }
    }
}
