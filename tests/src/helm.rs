//! Helm (built by `tests/setup.sh` from its Go module) and the charts of this repository.
//!
//! ```no_run
//! # use outrigger_tests::{helm::{Helm, chart}, kube::Cluster};
//! let (Some(helm), Some(cluster)) = (Helm::find("a_scenario"), Cluster::start("a_scenario")) else { return };
//! helm.install(&cluster, "outrigger-system", "outrigger", &chart("outrigger"), &["--set", "replicas=2"]);
//! ```
//!
//! It runs with a home of its own, so nothing of the machine's user (repositories, plugins, the kubeconfig) gets in.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::{binary::target_dir, kube::Cluster, peers::skip, process};

/// One command of Helm takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Helm, and where it keeps what it keeps.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

/// The folder of a chart of this repository.
#[must_use]
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(name)
}

/// The values files that come with a chart, `values.yaml` first.
///
/// # Panics
/// The chart cannot be read.
#[must_use]
#[track_caller]
pub fn values_files(chart: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(chart).expect("the chart is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("values") && name.ends_with(".yaml")
    });
    files.sort_by_key(|file| (file.file_name() != Some("values.yaml".as_ref()), file.clone()));
    files
}

impl Helm {
    /// `None`: it is missing, and that was said.
    #[must_use]
    pub fn find(scenario: &str) -> Option<Self> {
        let program = target_dir().join("test-tools/helm");
        if !program.is_file() {
            return skip(scenario, "helm missing");
        }
        Some(Self { program, home: TempDir::new().expect("a temporary directory") })
    }

    /// `helm lint --strict`.
    ///
    /// # Errors
    /// What it says.
    pub fn lint(&self, chart: &Path, args: &[&str]) -> Result<String, String> {
        self.run(None, &[&["lint", "--strict", path(chart)], args].concat())
    }

    /// `helm template`: the documents, in Helm's order.
    ///
    /// # Errors
    /// What it says.
    pub fn template(&self, chart: &Path, args: &[&str]) -> Result<Vec<Value>, String> {
        let ours = ["template", "outrigger", path(chart), "--namespace", "outrigger-system"];
        self.run(None, &[&ours, args].concat()).map(|text| documents(&text))
    }

    /// `helm install` of a release of this name; makes the namespace.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn install(&self, cluster: &Cluster, namespace: &str, release: &str, chart: &Path, args: &[&str]) {
        let ours = ["install", release, path(chart), "--namespace", namespace, "--create-namespace"];
        self.on(cluster, &[&ours, args].concat());
    }

    /// `helm upgrade`.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn upgrade(&self, cluster: &Cluster, namespace: &str, release: &str, chart: &Path, args: &[&str]) {
        self.on(cluster, &[&["upgrade", release, path(chart), "--namespace", namespace], args].concat());
    }

    /// `helm uninstall`; returns what it says (kept resources, for one).
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn uninstall(&self, cluster: &Cluster, namespace: &str, release: &str) -> String {
        self.on(cluster, &["uninstall", release, "--namespace", namespace])
    }

    /// Any command against a cluster, which has to succeed; its stdout.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn on(&self, cluster: &Cluster, args: &[&str]) -> String {
        self.run(Some(cluster), args).unwrap_or_else(|said| panic!("helm {args:?}: {said}"))
    }

    /// Any command; stdout.
    ///
    /// # Errors
    /// All that it says, where it fails.
    pub fn run(&self, cluster: Option<&Cluster>, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), self.home.path().join(kind));
        }
        // A template never asks a cluster; nothing listens on that port.
        let kubeconfig = cluster.map(Cluster::kubeconfig);
        command.env("HOME", self.home.path()).env_remove("KUBECONFIG").env_remove("HELM_NAMESPACE");
        if let Some(file) = &kubeconfig {
            command.env("KUBECONFIG", file);
        }
        let output = process::finish(&mut command, PATIENCE);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&[&output.stdout[..], &output.stderr[..]].concat())),
        }
    }
}

/// The documents of YAML as Helm renders it, empty ones left out.
///
/// # Panics
/// It is no YAML.
#[must_use]
#[track_caller]
pub fn documents(yaml: &str) -> Vec<Value> {
    let parsed = serde_yaml::Deserializer::from_str(yaml);
    let values = parsed.map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{e}:\n{yaml}")));
    values.filter(|value| !value.is_null()).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of the repository are UTF-8")
}
