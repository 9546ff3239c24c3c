//! `AdmissionReview` (admission.k8s.io/v1): what is asked, and the answer.

use outrigger_config::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::judge::{Verdict, judge};

/// The one version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";
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

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) operation: String,
    #[serde(default)]
    pub(super) resource: Resource,
    #[serde(default)]
    pub(super) sub_resource: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) dry_run: bool,
    #[serde(default)]
    pub(super) object: Value,
    #[serde(default)]
    old_object: Value,
}

/// Of what.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) resource: String,
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, BadReview> {
        let review: Review = serde_json::from_slice(body)?;
        match review.api_version == VERSION {
            true => Ok(review.request),
            false => Err(BadReview::Version(review.api_version)),
        }
    }

    /// The answer around `response`, with the warnings in a length that arrives.
    pub(super) fn answer(&self, mut response: Value, warnings: &[String]) -> Result<Vec<u8>, BadReview> {
        response["uid"] = self.uid.as_str().into();
        if !warnings.is_empty() {
            let cut = |warning: &String| warning.chars().take(MAX_WARNING).collect::<String>();
            response["warnings"] = warnings.iter().map(cut).collect();
        }
        Ok(serde_json::to_vec(&json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response }))?)
    }
}

/// Answers a review of a document. Whether it is a dry run makes no difference: nothing here has an effect.
///
/// # Errors
/// There is nothing to answer.
pub fn answer(body: &[u8], cluster: &Cluster) -> Result<Vec<u8>, BadReview> {
    let request = Request::read(body)?;
    let verdict = if passes_unseen(&request) { None } else { judge(&request.object, cluster) }.unwrap_or_default();
    let warnings: Vec<String> = verdict.warnings.iter().map(ToString::to_string).collect();
    request.answer(response(&request.object, &verdict), &warnings)
}

/// What must stay possible even for an object that is wrong: to remove it, to write its status, to leave it alone.
fn passes_unseen(request: &Request) -> bool {
    let writes = matches!(&*request.operation, "CREATE" | "UPDATE");
    let goes = !request.object["metadata"]["deletionTimestamp"].is_null();
    let as_before = request.operation == "UPDATE" && request.object["spec"] == request.old_object["spec"];
    !writes || !request.sub_resource.is_empty() || goes || as_before
}

fn response(object: &Value, verdict: &Verdict) -> Value {
    if verdict.errors.is_empty() {
        return json!({ "allowed": true });
    }
    let kind = object["kind"].as_str().unwrap_or("object");
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let words: Vec<String> = verdict.errors.iter().map(ToString::to_string).collect();
    let causes = verdict.errors.iter().map(|e| (&*e.field, &*e.message));
    refusal(kind, name, &format!("{kind} {name:?} is invalid: {}", words.join("; ")), causes)
}

/// No, and why, as the API server itself would say it of an object that is invalid.
pub(super) fn refusal<'a>(
    kind: &str,
    name: &str,
    message: &str,
    causes: impl Iterator<Item = (&'a str, &'a str)>,
) -> Value {
    let causes: Vec<Value> = causes
        .map(|(field, message)| json!({ "reason": "FieldValueInvalid", "field": field, "message": message }))
        .collect();
    json!({
        "allowed": false,
        "status": {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": message,
            "details": { "kind": kind, "name": name, "causes": causes },
        },
    })
}
