//! What `outrigger inject` prints is taken by a real API server.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use http::Method;
use outrigger_control_plane::yaml;
use outrigger_tests::{binary, kube::Cluster};
use serde_json::Value;

/// The manifests of the control plane's own tests.
fn manifests() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../control-plane/tests/manifests");
    let mut files: Vec<_> = fs::read_dir(dir).expect("a directory").map(|e| e.expect("a file").path()).collect();
    files.sort();
    files
}

fn injected(file: &PathBuf) -> String {
    let output = Command::new(binary::outrigger())
        .args(["inject", "-f"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The objects of a document, with the items of lists apart.
fn objects(document: &Value) -> Vec<Value> {
    match document["items"].as_array() {
        Some(items) if document["kind"] == "List" => items.clone(),
        _ => vec![document.clone()],
    }
}

/// Where objects of a kind are made. `None`: a custom resource that this server does not know, or what is not ours to test.
fn collection(object: &Value, namespace: &str) -> Option<String> {
    let (group, plural) = match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("v1", kind @ ("Pod" | "ReplicationController" | "Service")) => ("api/v1", kind),
        ("apps/v1", kind) => ("apis/apps/v1", kind),
        ("batch/v1", kind) => ("apis/batch/v1", kind),
        _ => return None,
    };
    Some(format!("/{group}/namespaces/{namespace}/{}s", plural.to_lowercase()))
}

#[test]
fn kube_what_inject_prints_is_accepted() {
    let Some(cluster) = Cluster::shared("kube_what_inject_prints_is_accepted") else { return };
    let namespace = cluster.namespace("shop");
    for account in ["default", "release-name-shop"] {
        cluster.service_account(&namespace, account);
    }
    let (mut accepted, mut meshed) = (0, 0);
    for file in manifests() {
        let text = injected(&file);
        let stream = yaml::read(&text).unwrap_or_else(|e| panic!("{}:{e}\n{text}", file.display()));
        for mut object in stream.documents.iter().flat_map(|document| objects(&document.value)) {
            let Some(uri) = collection(&object, &namespace) else { continue };
            object["metadata"]["namespace"] = Value::from(&*namespace);
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.retain(|key, _| !matches!(&**key, "resourceVersion" | "uid" | "generation"));
            }
            let uri = format!("{uri}?dryRun=All&fieldValidation=Strict");
            let answer = cluster.send(Method::POST, &uri, "application/json", &object);
            assert!(answer.is_ok(), "{}: {answer:?}\n{object:#}", file.display());
            accepted += 1;
            meshed += usize::from(object.to_string().contains("\"outrigger-proxy\""));
        }
    }
    assert!(accepted > 25 && meshed > 22, "{accepted} objects, {meshed} of them with a proxy");
}
