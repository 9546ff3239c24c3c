//! Custom resources: the Gateway API's routes, and ours.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Context, Line};

const OURS_REMEDY: &str = "outrigger crds | kubectl apply --server-side -f -";

/// Routes are the Gateway API's own: without them there are no routes, and everything else works.
pub(super) async fn gateway_api(context: &Context) -> Vec<Line> {
    const NAME: &str = "gateway-api";
    let remedy = "install the standard channel of the Gateway API: kubectl apply --server-side -f \
                  https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml";
    let served = match context.client.list_api_group_resources("gateway.networking.k8s.io/v1").await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect::<Vec<_>>(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return vec![Line::failed(NAME, "the Gateway API", &error)],
    };
    let missing: Vec<_> = ["httproutes", "grpcroutes"].into_iter().filter(|r| !served.iter().any(|s| s == r)).collect();
    if missing.is_empty() {
        return vec![Line::ok(NAME, "HTTPRoute and GRPCRoute are served as v1")];
    }
    let message = format!("the Gateway API's {} are not served as v1: there can be no such routes", missing.join(", "));
    vec![Line::warning(NAME, message, remedy)]
}

/// Ours, each as this program knows it.
pub(super) async fn ours(context: &Context) -> Vec<Line> {
    const NAME: &str = "crds";
    let crds: Api<CustomResourceDefinition> = Api::all(context.client.clone());
    let (mut missing, mut pending, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for expected in expected() {
        let Some(name) = expected["metadata"]["name"].as_str() else { continue };
        match crds.get_opt(name).await {
            Ok(None) => missing.push(name.to_owned()),
            Ok(Some(found)) if !is_established(&found) => pending.push(name.to_owned()),
            Ok(Some(found)) if !is_same(&expected, &found) => other.push(name.to_owned()),
            Ok(Some(_)) => {}
            Err(error) => return vec![Line::failed(NAME, "custom resource definitions", &error)],
        }
    }
    let mut lines = Vec::new();
    if !missing.is_empty() {
        let message = format!("these custom resources are not installed: {}", missing.join(", "));
        // The chart of the CRDs is a part of the installation.
        lines.push(match context.pre {
            true => Line::warning(NAME, message, OURS_REMEDY),
            false => Line::fault(NAME, message, OURS_REMEDY),
        });
    }
    if !pending.is_empty() {
        let message = format!("these custom resources are not established: {}", pending.join(", "));
        lines.push(Line::fault(NAME, message, "kubectl describe crd NAME says why (a conflict of names?)"));
    }
    if !other.is_empty() {
        let message = format!("these custom resources are of another version than this program: {}", other.join(", "));
        lines.push(Line::warning(NAME, message, format!("{OURS_REMEDY} (or take the program of the mesh's version)")));
    }
    if lines.is_empty() {
        lines.push(Line::ok(NAME, "Outrigger's custom resources are installed, in this program's version"));
    }
    lines
}

fn expected() -> Vec<Value> {
    let text = outrigger_config::schema::crds();
    serde_yaml::Deserializer::from_str(&text).filter_map(|document| Value::deserialize(document).ok()).collect()
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Established" && c.status == "True"))
}

/// Do both say the same of every version that we know?
fn is_same(expected: &Value, found: &CustomResourceDefinition) -> bool {
    let Ok(found) = serde_json::to_value(&found.spec.versions) else { return false };
    let versions = expected["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    versions.iter().all(|version| {
        found.iter().any(|other| other["name"] == version["name"] && covers(&other["schema"], &version["schema"]))
    })
}

/// Is everything of `part` in `whole`? The API server adds defaults.
fn covers(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| covers(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| covers(whole, part))
        }
        // 1 and 1.0 are one number in JSON.
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (whole, part) => whole == part,
    }
}
