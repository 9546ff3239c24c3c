//! What happened to each object, on stderr: one line each, where it is and why.

use std::io::{self, Write as _};

use serde_json::json;

use super::{
    super::{Global, LogFormat, say},
    find::Object,
};
use crate::yaml::{Anew, Fault};

/// What happened to one object.
#[derive(Debug)]
pub(super) struct Told {
    result: Outcome,
    /// For programs.
    reason: Option<&'static str>,
    why: String,
    advice: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// In a word.
    Changed(&'static str),
    Skipped,
    Refused,
    /// It has no template of a pod.
    Passed,
}

impl Told {
    pub(super) fn changed(word: &'static str) -> Self {
        Self { result: Outcome::Changed(word), reason: None, why: String::new(), advice: Vec::new() }
    }

    pub(super) fn skipped(why: String) -> Self {
        Self { result: Outcome::Skipped, reason: None, why, advice: Vec::new() }
    }

    pub(super) fn refused(reason: &'static str, why: String) -> Self {
        Self { result: Outcome::Refused, reason: Some(reason), why, advice: Vec::new() }
    }

    pub(super) fn passed() -> Self {
        let why = "it has no template of a pod".to_owned();
        Self { result: Outcome::Passed, reason: None, why, advice: Vec::new() }
    }

    pub(super) fn with(self, advice: Vec<String>) -> Self {
        Self { advice, ..self }
    }
}

/// Lines for stderr. They are written at the end, so that they do not stand between those of a pipe's other programs.
pub(super) struct Report {
    global: Global,
    lines: Vec<String>,
    faults: usize,
}

impl Report {
    pub(super) fn new(global: Global) -> Self {
        Self { global, lines: Vec::new(), faults: 0 }
    }

    /// Objects that were refused and texts that could not be read.
    pub(super) fn faults(&self) -> usize {
        self.faults
    }

    pub(super) fn tell(&mut self, file: &str, line: usize, object: &Object<'_>, told: &Told) {
        let word = match told.result {
            Outcome::Changed(word) => word,
            Outcome::Skipped => "skipped",
            Outcome::Refused => "refused",
            Outcome::Passed if self.global.verbose == 0 => return,
            Outcome::Passed => "passed through",
        };
        self.faults += usize::from(told.result == Outcome::Refused);
        let (kind, name, namespace) = (object.kind(), object.name(), object.namespace());
        match self.global.log_format {
            LogFormat::Text => {
                let what = if kind.is_empty() { "a document" } else { kind };
                let place = namespace.map_or_else(String::new, |namespace| format!("{namespace}/"));
                let why = if told.why.is_empty() { String::new() } else { format!(": {}", told.why) };
                self.lines.push(format!("{file}:{line}: {what} {place}{name} {word}{why}"));
                self.lines.extend(told.advice.iter().map(|advice| format!("{file}:{line}: warning: {advice}")));
            }
            LogFormat::Json => {
                let level = if told.result == Outcome::Refused { "error" } else { "info" };
                let message = if told.why.is_empty() { word } else { &told.why };
                let line = json!({
                    "level": level, "file": file, "line": line, "kind": kind, "namespace": namespace, "name": name,
                    "result": word, "reason": told.reason, "message": message, "advice": told.advice,
                });
                self.lines.push(line.to_string());
            }
        }
    }

    /// A document lost its comments.
    pub(super) fn anew(&mut self, file: &str, line: usize, why: Anew) {
        let message = format!("this document is written anew and loses its comments: {why}");
        match self.global.log_format {
            LogFormat::Text => self.lines.push(format!("{file}:{line}: warning: {message}")),
            LogFormat::Json => {
                let line = json!({ "level": "warning", "file": file, "line": line, "message": message });
                self.lines.push(line.to_string());
            }
        }
    }

    /// A text cannot be read.
    pub(super) fn fault(&mut self, file: &str, fault: &Fault) {
        self.faults += 1;
        match self.global.log_format {
            LogFormat::Text => self.lines.push(format!("{file}:{fault}")),
            LogFormat::Json => {
                let line = json!({
                    "level": "error", "file": file, "line": fault.line, "column": fault.column, "message": fault.message,
                });
                self.lines.push(line.to_string());
            }
        }
    }

    pub(super) fn print(&self) {
        if self.lines.is_empty() {
            if self.global.log_format == LogFormat::Text {
                say(LogFormat::Text, "info", "no object has a template of a pod; everything is passed through");
            }
            return;
        }
        let mut text = self.lines.join("\n");
        text.push('\n');
        // Nobody is left to be told if that fails.
        drop(io::stderr().write_all(text.as_bytes()));
    }
}
