//! Faults and places: where a thing was written, and what is wrong with it.

use std::{fmt, sync::Arc};

/// The place of a node in a source: `FILE:LINE:COL`, both counted from 1, or `OBJECT: PATH` in a cluster, where lines mean nothing.
///
/// Two origins compare equal whatever they say: moving a document to another line changes no behaviour,
/// so it must not look like a change of the model.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file, or what stands for it (`--listen`, `kubernetes`).
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// In an object of a cluster, the field: `spec.rules[0].name`; empty for the object itself. `None` in a file.
    pub path: Option<Arc<str>>,
}

impl Origin {
    /// A place in `file`.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column, path: None }
    }

    /// A field of an object of a cluster.
    #[must_use]
    pub fn field(object: impl Into<Arc<str>>, path: impl Into<Arc<str>>) -> Self {
        Self { file: object.into(), line: 1, column: 1, path: Some(path.into()) }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            None => write!(f, "{}:{}:{}", self.file, self.line, self.column),
            Some(path) if path.is_empty() => f.write_str(&self.file),
            Some(path) => write!(f, "{}: {path}", self.file),
        }
    }
}

/// Faults of one severity that one run tells. A person reads fewer; a hostile document could make a million.
pub(crate) const MAX_FAULTS: usize = 1_000;

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing of the configuration is taken.
    Error,
    /// It is taken, and probably not what was meant.
    Warning,
}

/// One fault, as `validate` prints it: `FILE:LINE:COL: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub origin: Origin,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{}: {kind}{}", self.origin, self.message)
    }
}
