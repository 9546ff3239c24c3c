//! The mutating webhook: a pod that asks for a proxy gets it where it is created.
//!
//! Only the creation of pods is answered; everything else (updates, subresources such as ephemeral containers, other kinds) passes
//! as it is, whatever rules a configuration has. The labels of the namespace come from the control plane's own watch. Where that says
//! that no proxy is wanted, or nothing, the API server is asked: it has called because of labels that it has seen, and the watch may be a moment
//! behind. If it does not answer, neither do we: `failurePolicy` then decides, and a pod never runs without a proxy because we did not
//! know better.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use outrigger_config::identity::INJECT_LABEL;
use prometheus::{IntCounterVec, Opts, core::Collector};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    patch,
    review::{BadReview, Request, refusal},
};
use crate::{
    inject::{self, Context, NativeSidecars, Outcome, Settings},
    live::Live,
};

/// For one question to the API server; it waits for our answer ten seconds at most.
const ASK: Duration = Duration::from_secs(2);
/// How long the API server's version is believed: an upgrade takes longer, and what it brings can wait.
const VERSION_LIFE: Duration = Duration::from_secs(10 * 60);
/// First version whose native sidecars are on by default.
const NATIVE_SINCE: (u32, u32) = (1, 29);

/// Answers reviews of pods.
pub struct Injector {
    client: Client,
    live: Arc<Live>,
    settings: Settings,
    native: NativeSidecars,
    /// Whether the API server's version has native sidecars, and when it was asked.
    version: Mutex<Option<(bool, Instant)>>,
    outcomes: IntCounterVec,
}

/// Why no answer can be given: the review is good, and what it takes is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unknown(String);

impl Injector {
    /// With the settings of the mesh.
    ///
    /// # Errors
    /// The metric is there already.
    pub fn new(
        client: Client,
        live: Arc<Live>,
        settings: Settings,
        native: NativeSidecars,
    ) -> Result<Self, prometheus::Error> {
        let options =
            Opts::new("outrigger_control_plane_injections_total", "Pods that were reviewed, by what became of them");
        let outcomes = IntCounterVec::new(options, &["outcome"])?;
        for outcome in ["injected", "skipped", "unmeshed", "refused", "failed"] {
            outcomes.with_label_values(&[outcome]);
        }
        Ok(Self { client, live, settings, native, version: Mutex::default(), outcomes })
    }

    /// Its metric, to be registered.
    #[must_use]
    pub fn metric(&self) -> Box<dyn Collector> {
        Box::new(self.outcomes.clone())
    }

    /// What it takes to answer `request`.
    pub(super) async fn knowledge(&self, request: &Request) -> Result<(Context, Settings), Unknown> {
        let found = async { Ok((self.context(request).await?, self.settings().await?)) };
        let found: Result<_, Unknown> = found.await;
        if let Err(error) = &found {
            self.outcomes.with_label_values(&["failed"]).inc();
            tracing::warn!(%error, namespace = request.namespace, "a pod cannot be reviewed");
        }
        found
    }

    async fn context(&self, request: &Request) -> Result<Context, Unknown> {
        let namespace = &request.namespace;
        let known = self.live.read(|index| index.namespace_labels(namespace));
        let asks = |labels: &BTreeMap<String, String>| labels.get(INJECT_LABEL).is_some_and(|said| said == "enabled");
        let namespace_labels = match known {
            Some(labels) if asks(&labels) || inject::asks(&request.object) => labels,
            _ => self.labels(namespace).await?,
        };
        Ok(Context { namespace: namespace.clone(), namespace_labels, explicit: false })
    }

    async fn labels(&self, namespace: &str) -> Result<BTreeMap<String, String>, Unknown> {
        if namespace.is_empty() {
            return Ok(BTreeMap::new());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match timeout(ASK, namespaces.get_metadata(namespace)).await {
            Ok(Ok(found)) => Ok(found.metadata.labels.unwrap_or_default()),
            Ok(Err(error)) => Err(Unknown(format!("the namespace {namespace} could not be read: {error}"))),
            Err(_) => Err(Unknown(format!("the namespace {namespace} could not be read within {ASK:?}"))),
        }
    }

    async fn settings(&self) -> Result<Settings, Unknown> {
        let native_sidecars = match self.native {
            NativeSidecars::True => true,
            NativeSidecars::False => false,
            NativeSidecars::Auto => self.version().await?,
        };
        Ok(Settings { native_sidecars, ..self.settings.clone() })
    }

    /// An answer that is old is better than none.
    async fn version(&self) -> Result<bool, Unknown> {
        let known = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((native, since)) = known
            && since.elapsed() < VERSION_LIFE
        {
            return Ok(native);
        }
        let asked = match timeout(ASK, self.client.apiserver_version()).await {
            Ok(Ok(info)) => Ok(is_native(&info.major, &info.minor)),
            Ok(Err(error)) => Err(Unknown(format!("the version of the API server could not be read: {error}"))),
            Err(_) => Err(Unknown(format!("the version of the API server could not be read within {ASK:?}"))),
        };
        match (asked, known) {
            (Ok(native), _) => {
                *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some((native, Instant::now()));
                Ok(native)
            }
            (Err(_), Some((native, _))) => Ok(native),
            (Err(error), None) => Err(error),
        }
    }

    /// The answer, counted and told.
    pub(super) fn answer(
        &self,
        request: &Request,
        context: &Context,
        settings: &Settings,
    ) -> Result<Vec<u8>, BadReview> {
        let verdict = review(request, context, settings);
        if !request.dry_run {
            self.outcomes.with_label_values(&[verdict.outcome]).inc();
        }
        let (namespace, pod) = (&request.namespace, name(&request.object));
        match (verdict.outcome, verdict.why.as_str()) {
            (outcome @ ("refused" | "unmeshed"), why) => {
                tracing::info!(namespace, pod, outcome, why, "a pod gets no proxy")
            }
            (outcome, why) => tracing::debug!(namespace, pod, outcome, why, "a pod was reviewed"),
        }
        request.answer(verdict.response, &verdict.warnings)
    }
}

/// `1.29` and later; a minor may have a `+`.
fn is_native(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    (number(major), number(minor)) >= NATIVE_SINCE
}

/// Whether a request is one to answer: somebody creates a pod.
pub(super) fn concerns(request: &Request) -> bool {
    let pods = request.resource.group.is_empty() && request.resource.resource == "pods";
    pods && request.sub_resource.is_empty() && request.operation == "CREATE"
}

/// What is answered, and what is told of it.
#[derive(Debug)]
pub(super) struct Reviewed {
    pub(super) outcome: &'static str,
    why: String,
    pub(super) response: Value,
    pub(super) warnings: Vec<String>,
}

/// The whole decision.
pub(super) fn review(request: &Request, context: &Context, settings: &Settings) -> Reviewed {
    let allowed = |outcome, why: String, warnings| {
        let response = json!({ "allowed": true, "auditAnnotations": { "injection": outcome } });
        Reviewed { outcome, why, response, warnings }
    };
    let pod = &request.object;
    match inject::inject(pod, context, settings) {
        Ok(Outcome::Skipped(why)) => allowed("skipped", why, Vec::new()),
        Ok(Outcome::Injected(injected)) => {
            let mut reviewed = allowed("injected", String::new(), inject::advice(pod, settings));
            let operations = patch::diff(pod, &injected);
            if !operations.is_empty() {
                reviewed.response["patchType"] = "JSONPatch".into();
                reviewed.response["patch"] = STANDARD.encode(Value::from(operations).to_string()).into();
            }
            reviewed
        }
        Err(refused) if refused.reason.is_nature() && !inject::asks(pod) => {
            let why = refused.to_string();
            let warning = format!("outrigger: this pod runs without a proxy: {why}");
            allowed("unmeshed", why, vec![warning])
        }
        Err(refused) => {
            let name = name(pod);
            let message = format!("Pod {name:?} cannot have a proxy ({}): {refused}", refused.reason.token());
            let causes = std::iter::once((&*refused.field, &*refused.message));
            let response = refusal("Pod", name, &message, causes);
            Reviewed { outcome: "refused", why: refused.to_string(), response, warnings: Vec::new() }
        }
    }
}

/// A pod that is named when it is stored has at least how its name begins.
fn name(pod: &Value) -> &str {
    let metadata = &pod["metadata"];
    metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
