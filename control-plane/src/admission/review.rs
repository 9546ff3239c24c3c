//! `AdmissionReview` (admission.k8s.io/v1): what is asked, and the answer.

use outrigger_config::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::judge::{Verdict, judge};

/// Longest warning, in characters: beyond 256 the API server may cut (and beyond 4,096 of all it drops).
const MAX_WARNING: usize = 250;

/// What was sent is no review that could be answered.
#[derive(Debug, Error)]
pub enum BadReview {
    /// Not JSON, or not of that form.
    #[error("this is no AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// Another version.
    #[error("{0:?} is not spoken here: the webhook's admissionReviewVersions must be [v1]")]
    Version(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// Answers a review. Whether it is a dry run makes no difference: nothing here has an effect.
///
/// # Errors
/// There is nothing to answer.
pub fn answer(body: &[u8], cluster: &Cluster) -> Result<Vec<u8>, BadReview> {
    const VERSION: &str = "admission.k8s.io/v1";
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != VERSION {
        return Err(BadReview::Version(review.api_version));
    }
    let request = &review.request;
    let verdict = if passes_unseen(request) { None } else { judge(&request.object, cluster) };
    let response = response(&request.uid, &request.object, &verdict.unwrap_or_default());
    Ok(serde_json::to_vec(&json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response }))?)
}

/// What must stay possible even for an object that is wrong: to remove it, to write its status, to leave it alone.
fn passes_unseen(request: &Request) -> bool {
    let writes = matches!(&*request.operation, "CREATE" | "UPDATE");
    let goes = !request.object["metadata"]["deletionTimestamp"].is_null();
    let as_before = request.operation == "UPDATE" && request.object["spec"] == request.old_object["spec"];
    !writes || !request.sub_resource.is_empty() || goes || as_before
}

fn response(uid: &str, object: &Value, verdict: &Verdict) -> Value {
    let warnings: Vec<String> =
        verdict.warnings.iter().map(|w| w.to_string().chars().take(MAX_WARNING).collect()).collect();
    let mut response = json!({ "uid": uid, "allowed": verdict.errors.is_empty() });
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    if !verdict.errors.is_empty() {
        let kind = object["kind"].as_str().unwrap_or("object");
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let words: Vec<String> = verdict.errors.iter().map(ToString::to_string).collect();
        let causes: Vec<Value> = verdict
            .errors
            .iter()
            .map(|e| json!({ "reason": "FieldValueInvalid", "field": e.field, "message": e.message }))
            .collect();
        response["status"] = json!({
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": format!("{kind} {name:?} is invalid: {}", words.join("; ")),
            "details": { "kind": kind, "name": name, "causes": causes },
        });
    }
    response
}
