//! `outrigger check` where all is well: the injecting webhook answers its dry run, through the API server.

use std::process::{Command, Stdio};

use outrigger_tests::{binary, eventually};
use serde_json::Value;

use crate::world::{MESH, MINUTE, World};

/// Both lines about injection are good, and nothing is left of the pod that was tried. Called where a control plane runs.
#[track_caller]
pub(crate) fn tries_injection(world: &World) {
    let cluster = &world.cluster;
    // What a controller would have made.
    cluster.service_account("default", "default");
    let check = || -> Value {
        let mut command = Command::new(binary::outrigger());
        command.args(["check", "-o", "json", "--mesh-namespace", MESH]).env("KUBECONFIG", cluster.kubeconfig());
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        serde_json::from_slice(&output.stdout).expect("a report")
    };
    let (tried, report) = eventually("a pod that opts in gets a proxy", MINUTE, || {
        let report = check();
        let all = report["checks"].as_array().expect("checks").iter();
        let lines: Vec<(String, String)> = all
            .filter(|line| line["name"] == "injection")
            .map(|line| (text(&line["result"]), text(&line["message"])))
            .collect();
        lines.iter().all(|(result, _)| result == "ok").then_some((lines, report))
    });
    assert!(tried.len() == 2 && tried[0].1.contains("trusts the injecting webhook"), "{report:#}");
    assert!(tried[1].1.contains("gets a proxy (tried as a dry run)"), "{report:#}");
    assert!(cluster.list("Pod", "default").is_empty(), "it was a dry run");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
