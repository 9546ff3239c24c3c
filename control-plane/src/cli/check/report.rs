//! Lines of a check, for people and for programs.

use serde::Serialize;

/// What came of all checks.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// No line is a fault.
    pub(super) ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    section: &'static str,
    #[serde(flatten)]
    line: Line,
}

/// What came of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) result: Outcome,
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Ok,
    Warning,
    Fault,
    /// It may not be looked at.
    Skipped,
}

impl Line {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, result: Outcome::Ok, message: message.into(), remedy: None }
    }

    pub(super) fn warning(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, result: Outcome::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fault(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, result: Outcome::Fault, message: message.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn skipped(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, result: Outcome::Skipped, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// `what` could not be asked.
    pub(super) fn failed(name: &'static str, what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self {
                name,
                result: Outcome::Skipped,
                message: format!("{what} may not be read with this kubeconfig"),
                remedy: Some("ask with one that may, if you want to know".to_owned()),
            },
            error => Self::fault(name, format!("{what}: {}", super::super::cluster::chain(error)), "try again"),
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self { ok: true, checks: Vec::new() }
    }
}

impl Report {
    pub(super) fn add(&mut self, section: &'static str, line: Line) {
        self.ok &= line.result != Outcome::Fault;
        self.checks.push(Check { section, line });
    }

    pub(super) fn extend(&mut self, section: &'static str, lines: impl IntoIterator<Item = Line>) {
        lines.into_iter().for_each(|line| self.add(section, line));
    }

    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for Check { section: of, line } in &self.checks {
            if *of != section {
                section = of;
                text.push_str(&format!("{section}\n"));
            }
            let (word, code) = match line.result {
                Outcome::Ok => ("ok", "32"),
                Outcome::Warning => ("warning", "33"),
                Outcome::Fault => ("FAULT", "31"),
                Outcome::Skipped => ("skipped", "36"),
            };
            let word = if colour { format!("\x1b[{code}m{word:<8}\x1b[0m") } else { format!("{word:<8}") };
            text.push_str(&format!("  {word} {}\n", line.message));
            if let Some(remedy) = &line.remedy {
                text.push_str(&format!("           -> {remedy}\n"));
            }
        }
        let count = |result| self.checks.iter().filter(|check| check.line.result == result).count();
        let (faults, warnings) = (count(Outcome::Fault), count(Outcome::Warning));
        let some = |n: usize, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        text.push_str(&format!("{}, {}\n", some(faults, "fault"), some(warnings, "warning")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_with_its_remedy_and_colour_is_an_extra() {
        let mut report = Report::default();
        report.add("a", Line::ok("x", "fine"));
        report.add("a", Line::warning("y", "soon", "do this"));
        assert!(report.ok);
        report.add("b", Line::fault("z", "broken", "do that"));
        assert!(!report.ok);
        let text = report.text(false);
        assert_eq!(
            text,
            "a\n  ok       fine\n  warning  soon\n           -> do this\nb\n  FAULT    broken\n           -> do that\n1 fault, 1 warning\n"
        );
        assert!(report.text(true).contains("\x1b[31mFAULT"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][2]["remedy"], "do that");
        assert_eq!((&json["ok"], &json["checks"][0]["result"]), (&false.into(), &"ok".into()));
    }
}
