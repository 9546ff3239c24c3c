//! A table of faulty documents, and what is said of each: every fault, at its line and column.
//!
//! The tables are the files in `faults/`. A case is a title line `### TITLE`, YAML, and lines `=> LINE:COL: MESSAGE`; none of
//! them means that there is no fault. `### +TITLE` adds [`PROXY`] behind the YAML, so that references must lead somewhere.
//! `OUTRIGGER_BLESS=1` writes what is found into the tables, for a reviewer to read.

use std::{fmt::Write, fs, path::PathBuf};

use outrigger_config::{Source, validate};

/// A proxy and two upstreams.
const PROXY: &str = "
---
apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: p }
spec: { listeners: [{ name: out, address: 127.0.0.1:4140, direction: outbound }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: alpha }
spec: { endpoints: [{ address: 127.0.0.1:3000 }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: beta }
spec: { dns: { name: beta.internal, port: 80 } }
";

#[test]
fn syntax() {
    table("syntax.txt");
}

#[test]
fn form() {
    table("form.txt");
}

#[test]
fn proxies_and_upstreams() {
    table("proxy.txt");
}

#[test]
fn registries() {
    table("discovery.txt");
}

#[test]
fn routes() {
    table("routes.txt");
}

#[test]
fn policies() {
    table("policies.txt");
}

/// A faulty value hides no fault beside it, and makes none.
#[test]
fn faults_beside_faults() {
    table("combined.txt");
}

#[test]
fn lists() {
    table("lists.txt");
}

fn table(file: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(file);
    let written = fs::read_to_string(&path).expect("the table is there");
    let found: String = written.split("### ").skip(1).map(case).collect();
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        fs::write(&path, &found).expect("the table can be written");
        return;
    }
    for (written, found) in written.split("### ").zip(found.split("### ")) {
        assert_eq!(found, written, "in {file}");
    }
}

/// The case with what is found in place of what is expected.
fn case(text: &str) -> String {
    let (title, body) = text.split_once('\n').expect("a title and a body");
    let yaml: String = body.lines().filter(|l| !l.starts_with("=> ")).map(|l| format!("{l}\n")).collect();
    let yaml = yaml.trim_end().to_owned();
    let whole = if title.starts_with('+') { format!("{yaml}{PROXY}") } else { format!("{yaml}\n") };
    let faults = validate(&[Source { name: "f".into(), text: whole }]);
    let mut out = format!("### {title}\n{yaml}\n");
    for fault in faults {
        writeln!(out, "=> {}", fault.to_string().trim_start_matches("f:")).expect("strings take all");
    }
    out
}
