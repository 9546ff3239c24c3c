//! Names that the programs use, read out of their sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Every file below `directory` with one of these extensions.
pub(crate) fn files(directory: &Path, extensions: &[&str], to: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extensions, to);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            to.push(path);
        }
    }
}

/// Sources below `directory`, without tests: what stands behind `#[cfg(test)] mod tests {` and in `tests.rs`.
fn code(directory: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    files(directory, &["rs"], &mut paths);
    let test = |p: &Path| p.components().any(|c| matches!(c.as_os_str().to_str(), Some("tests.rs" | "tests")));
    let inside = |p: &Path| p.strip_prefix(directory).map(Path::to_owned).unwrap_or_default();
    paths.retain(|p| !test(&inside(p)));
    paths
        .iter()
        .map(|p| fs::read_to_string(p).expect("it can be read"))
        .map(|text| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned())
        .collect()
}

/// String literals of `text` that are nothing but a name.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split('"').filter(move |s| !s.is_empty() && s.chars().all(name))
}

/// Families of metrics that the sources below `directory` name.
pub(crate) fn metrics(directory: &Path) -> BTreeSet<String> {
    let all = code(directory);
    let found = all.iter().flat_map(|text| names(text)).filter(|n| n.starts_with("outrigger_") && !n.ends_with('_'));
    // Of a crate or a binary, not of a metric.
    found
        .filter(|n| !matches!(*n, "outrigger_proxy" | "outrigger_control_plane" | "outrigger_config"))
        .map(str::to_owned)
        .collect()
}

/// Families that the control plane makes under its prefix: the first argument of each `make.KIND("NAME", ...)`.
pub(crate) fn families(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in code(directory) {
        for kind in [".counter(", ".counters(", ".gauge(", ".gauges(", ".histogram("] {
            let first = text.split(kind).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            found.extend(first.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
        }
    }
    found
}

/// A row of the table in `proxy/src/error.rs`: `=> ("TOKEN", STATUS, GRPC, PARTY)`.
pub(crate) struct Row {
    pub(crate) token: String,
    /// As the pages write it: `HTTP 502, gRPC UNAVAILABLE. The upstream's side`.
    pub(crate) line: String,
}

/// The table of errors.
pub(crate) fn reasons(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).expect("error.rs is there");
    let rows = text.lines().filter_map(|l| l.split_once("=> (\"")?.1.strip_suffix("),"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(", ").collect();
        let [token, status, grpc, party] = cells[..] else { panic!("a row of another form: {row}") };
        let whose = match party {
            "Downstream" => "client",
            "Upstream" => "upstream",
            _ => "proxy",
        };
        let line = format!("HTTP {status}, gRPC {grpc}. The {whose}'s side");
        Row { token: token.trim_end_matches('"').to_owned(), line }
    })
    .collect()
}

/// The keys that lines of the access log have: the first argument of each `to.KIND("KEY", ...)`.
pub(crate) fn log_keys(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).expect("line.rs is there");
    let calls =
        text.split("to.").filter_map(|c| c.split_once("(\"")).filter(|(call, _)| call.chars().all(char::is_alphabetic));
    let mut keys: BTreeSet<String> = calls.filter_map(|(_, rest)| Some(rest.split_once('"')?.0.to_owned())).collect();
    keys.insert("time".to_owned());
    keys
}

/// The paths of the admin port: `("/PATH", Endpoint::NAME, ...)`.
pub(crate) fn admin_paths(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).expect("routes.rs is there");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = flat.split("\", Endpoint::").filter_map(|before| before.rsplit_once('"'));
    rows.map(|(_, path)| path.to_owned()).filter(|p| p.starts_with('/')).collect()
}
