//! The pages keep what they promise: links lead somewhere, documents in them are valid, and what the programs can say is
//! explained. Pages and sources are read as text, so that a page cannot be behind any crate of the workspace.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use outrigger_config::{Cluster, Source, documents::TOKENS, validate, validate_in};

#[path = "docs/markdown.rs"]
mod markdown;
#[path = "docs/sources.rs"]
mod sources;

use markdown::Page;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository is there")
}

/// Every page: those at the top, and those below the directories that have some.
fn pages() -> Vec<Page> {
    let root = root();
    let mut found = Vec::new();
    markdown::collect(&root, false, &mut found);
    for directory in ["docs", "examples", "charts", "benches", "tests", "image"] {
        markdown::collect(&root.join(directory), true, &mut found);
    }
    found.sort();
    assert!(found.len() > 5, "{found:?}");
    found.iter().map(|path| Page::read(path, path.strip_prefix(&root).expect("inside"))).collect()
}

/// `a/b/../c` as `a/c`, without asking the file system.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn relative_links_lead_somewhere() {
    let (root, pages) = (root(), pages());
    let mut dead = Vec::new();
    for page in &pages {
        for (line, link) in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(f, a)| (f, Some(a)));
            let directory = page.name.parent().expect("a page is in a directory");
            let target = if file.is_empty() { page.name.clone() } else { plain(&directory.join(file)) };
            let place = format!("{}:{line}: {link}", page.name.display());
            if !root.join(&target).exists() {
                dead.push(format!("{place}: there is no {}", target.display()));
            } else if let Some(anchor) = anchor
                && let Some(other) = pages.iter().find(|p| p.name == target)
                && !other.anchors().contains(anchor)
            {
                dead.push(format!("{place}: {} has no such heading", target.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Messages, comments of values and notes of the charts name pages for whoever reads them.
#[test]
fn pages_that_programs_name_are_there() {
    let root = root();
    let mut paths = Vec::new();
    for directory in ["config/src", "proxy/src", "control-plane/src", "charts", "examples"] {
        sources::files(&root.join(directory), &["rs", "yaml", "yml", "txt", "tpl", "json"], &mut paths);
    }
    let mut dead = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("it can be read");
        for (at, _) in text.match_indices("docs/") {
            let end = text[at..].find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)));
            let name = text[at..end.map_or(text.len(), |e| at + e)].trim_end_matches(['.', '/']);
            if name.ends_with(".md") && !root.join(name).exists() {
                dead.insert(format!("{}: there is no {name}", path.strip_prefix(&root).expect("inside").display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Whether a page shows it as a document of ours: the control plane or a proxy would read it.
fn is_ours(text: &str) -> bool {
    ["apiVersion: outrigger.dev/", "kind: HTTPRoute", "kind: GRPCRoute"].iter().any(|t| text.contains(t))
}

/// A document that speaks of Services or namespaces is for a cluster.
fn faults(name: &str, text: &str) -> Vec<String> {
    let source = [Source { name: name.into(), text: text.to_owned() }];
    let cluster = text.contains("kind: Service") || text.contains("kind: Namespace");
    let faults = if cluster { validate_in(&source, &Cluster::default()) } else { validate(&source) };
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn documents_in_pages_are_valid() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for fence in page.fences() {
            if !matches!(&*fence.language, "yaml" | "yml") || !is_ours(&fence.text) {
                continue;
            }
            // What others say of theirs stands beside ours: a Gateway, a Deployment.
            let parts = fence.text.split("\n---\n").filter(|part| is_ours(part));
            let text = parts.collect::<Vec<_>>().join("\n---\n");
            checked += 1;
            wrong.extend(faults(&format!("{}:{}", page.name.display(), fence.line), &text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 10, "{checked} blocks");
}

#[test]
fn examples_are_valid() {
    let mut files = Vec::new();
    sources::files(&root().join("examples"), &["yaml", "yml"], &mut files);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for path in files {
        let text = fs::read_to_string(&path).expect("it can be read");
        if is_ours(&text) {
            checked += 1;
            wrong.extend(faults(&path.display().to_string(), &text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 10, "{checked} files");
}

#[test]
fn every_error_token_is_explained() {
    let page = page("docs/troubleshooting.md");
    let reasons = sources::reasons(&root().join("proxy/src/error.rs"));
    assert!(reasons.len() > 30, "{}", reasons.len());
    for reason in &reasons {
        let first = page.below(&format!("`{}`", reason.token));
        assert!(first.starts_with(&reason.line), "{}: {first:?} does not begin with {:?}", reason.token, reason.line);
    }
    let mut tokens: BTreeSet<String> = reasons.into_iter().map(|r| r.token).collect();
    tokens.extend(TOKENS.iter().map(|t| (*t).to_owned()));
    // A section for each, and none for what no program says.
    let marked: BTreeSet<String> =
        page.headings().filter_map(|h| Some(h.strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect();
    assert_eq!(marked, tokens, "sections of troubleshooting.md (left), tokens (right)");
}

#[test]
fn every_metric_is_listed() {
    let listed = page("docs/observability.md").code_words("outrigger_");
    let mut exported = sources::metrics(&root().join("proxy/src"));
    // Counted for another family, and not shown.
    exported.remove("outrigger_connections_closed");
    assert!(exported.len() > 20, "{exported:?}");
    assert_eq!(listed, exported, "metrics in observability.md (left) and in the sources of the proxy (right)");
}

#[test]
fn every_metric_of_the_control_plane_is_listed() {
    let directory = root().join("control-plane/src");
    let prefix = "outrigger_control_plane_";
    let mut exported = sources::families(&directory);
    exported.extend(sources::metrics(&directory).iter().filter_map(|n| n.strip_prefix(prefix)).map(str::to_owned));
    assert!(exported.len() > 20, "{exported:?}");
    let listed = page("docs/control-plane.md").code_words("");
    let missing: Vec<&String> = exported.iter().filter(|name| !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/control-plane.md does not list {missing:?}");
}

#[test]
fn the_keys_of_log_lines_are_listed() {
    let listed = page("docs/observability.md").code_words("");
    let keys = sources::log_keys(&root().join("proxy/src/observe/log/line.rs"));
    assert!(keys.len() > 20, "{keys:?}");
    let missing: Vec<&String> = keys.iter().filter(|key| !listed.contains(*key)).collect();
    assert!(missing.is_empty(), "docs/observability.md does not list {missing:?}");
}

#[test]
fn the_paths_of_the_admin_port_are_listed() {
    let paths = sources::admin_paths(&root().join("proxy/src/admin/routes.rs"));
    assert!(paths.len() > 10, "{paths:?}");
    let page = page("docs/observability.md");
    let missing: Vec<&String> = paths.iter().filter(|path| !page.has_span(path)).collect();
    assert!(missing.is_empty(), "docs/observability.md does not list {missing:?}");
}

fn page(name: &str) -> Page {
    Page::read(&root().join(name), Path::new(name))
}
