//! Manifests from files, directories and stdin; and their texts put together again.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::super::Usage;
use crate::yaml::MAX_BYTES;

/// Files of one call. They are all in memory until the last is read, for nothing is printed before.
const MAX_FILES: usize = 10_000;
/// Bytes of all files of one call: the manifests of a big cluster.
const MAX_TOTAL: usize = 16 * MAX_BYTES;

/// A text and what it is called in messages.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Everything that `flagged` and `plain` name; stdin if they name nothing.
pub(super) fn sources(flagged: &[PathBuf], plain: &[PathBuf]) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for path in flagged.iter().chain(plain) {
        if path.as_os_str() != "-" && path.is_dir() {
            paths.extend(manifests(path)?);
        } else {
            paths.push(path.clone());
        }
    }
    if flagged.is_empty() && plain.is_empty() {
        if io::stdin().is_terminal() {
            return Err(Usage("no manifests: name a file with -f FILE, or pipe them in".to_owned()).into());
        }
        paths.push("-".into());
    }
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Usage("`-` is named twice, and there is one stdin".to_owned()).into());
    }
    if paths.len() > MAX_FILES {
        return Err(Usage(format!("{} files are named; at most {MAX_FILES} are read at once", paths.len())).into());
    }
    let mut sources = Vec::with_capacity(paths.len());
    let mut total = 0;
    for path in paths {
        let source = read(&path)?;
        total += source.text.len();
        if total > MAX_TOTAL {
            bail!("the files have more than {MAX_TOTAL} bytes in all: name fewer at once");
        }
        sources.push(source);
    }
    Ok(sources)
}

/// The manifests of a directory by name, as `kubectl apply -f DIR` takes them; directories in it are not entered.
fn manifests(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("reading the directory {}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let manifest = path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        if manifest && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            break;
        }
    }
    if files.is_empty() {
        bail!("the directory {} has no *.yaml, *.yml or *.json", dir.display());
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Source> {
    let (name, bytes) = if path.as_os_str() == "-" {
        ("stdin".to_owned(), limited(io::stdin().lock()).context("reading stdin")?)
    } else {
        let name = path.display().to_string();
        let bytes = File::open(path).and_then(limited).with_context(|| format!("reading {name}"))?;
        (name, bytes)
    };
    if bytes.len() > MAX_BYTES {
        bail!("{name} has more than {MAX_BYTES} bytes: split it");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            bail!("{name}:{line}: this is no UTF-8: manifests are text, without an encoding of its own")
        }
    }
}

/// One byte more than there may be, to tell that there are more.
fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One text as it is; several with `---` between, where the next does not start with one.
pub(super) fn join(texts: Vec<String>) -> String {
    let mut whole = String::with_capacity(texts.iter().map(|text| text.len() + 5).sum());
    for text in texts {
        let text = if whole.is_empty() { &*text } else { text.trim_start_matches('\u{feff}') };
        if text.trim().is_empty() {
            continue;
        }
        if !whole.is_empty() {
            if !whole.ends_with('\n') {
                whole.push('\n');
            }
            // Directives are only allowed behind the end of a document.
            whole.push_str(if starts_with_directive(text) { "...\n" } else { "" });
            whole.push_str(if starts_with_marker(text) { "" } else { "---\n" });
        }
        whole.push_str(text);
    }
    whole
}

/// The first line that is no comment.
fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')).unwrap_or_default()
}

fn starts_with_directive(text: &str) -> bool {
    first_line(text).starts_with('%')
}

fn starts_with_marker(text: &str) -> bool {
    let line = first_line(text);
    line.starts_with('%')
        || line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}
