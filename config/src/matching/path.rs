//! Conditions on paths.

use crate::model::PathMatch;

impl PathMatch {
    /// True if `path` (no query) fulfils the condition.
    ///
    /// The prefix `/` is the Gateway API's "every path", and takes `*` (of `OPTIONS *`) too.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => prefix_holds(prefix, path),
            Self::Regex(pattern) => pattern.regex.is_match(path.as_bytes()),
        }
    }
}

/// Element-wise: `/a` holds for `/a`, `/a/` and `/a/b`, not for `/ab`.
fn prefix_holds(prefix: &str, path: &str) -> bool {
    // A trailing slash says nothing (Gateway API: `/abc/` equals `/abc`).
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    match path.as_bytes().strip_prefix(prefix.as_bytes()) {
        Some(rest) => prefix.is_empty() || matches!(rest.first(), None | Some(b'/')),
        None => false,
    }
}
