//! Writes `status`: what became of routes and policies, where their authors look for it.
//!
//! One replica at a time (`lease`) looks at documents that changed, or whose status did, and writes only where our entries
//! differ from what they are to be. `parents` and `ancestors` are atomic lists (`x-kubernetes-list-type: atomic`): whoever applies them owns all
//! of it. So the object is read, our entries are replaced among those of other controllers, and the list is applied under the version that
//! was read; a conflict means that somebody else wrote meanwhile, and it is done again. Writes are spaced: a policy that
//! concerns a thousand routes must not become a thousand requests at once.

use std::{sync::Arc, time::Duration};

use http::Request;
use kube::{Client, Error};
use outrigger_config::documents::Kind;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    index::{DocumentRef, ObjectKind},
    live::Live,
    status::{self, CONTROLLER},
    watch::{Resource, chain},
};

pub(crate) mod lease;
pub(crate) mod refusals;
#[cfg(test)]
mod tests;

/// Writes status for as long as it leads.
pub(crate) struct Publisher {
    client: Client,
    live: Arc<Live>,
    next: Instant,
    failures: u32,
    /// Kinds whose status we may not write; said once each.
    forbidden: Vec<Kind>,
}

/// Documents looked at before the election is looked at again.
const BATCH: usize = 32;
/// Between two writes: twenty a second.
const PACE: Duration = Duration::from_millis(50);
/// After failures.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What came of one document; label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should be.
    Same,
    Written,
    /// Somebody else wrote meanwhile.
    Conflict,
    /// It is not there any more.
    Gone,
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Written => "written",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

impl Publisher {
    pub(crate) fn new(client: Client, live: Arc<Live>) -> Self {
        Self { client, live, next: Instant::now(), failures: 0, forbidden: Vec::new() }
    }

    /// Until the elector is gone.
    pub(crate) async fn run(mut self, mut leads: watch::Receiver<bool>) {
        let mut ready = self.live.ready();
        while leads.wait_for(|leads| *leads).await.is_ok() {
            // Before everything is known, a missing Service may only not have been seen.
            if ready.wait_for(|ready| *ready).await.is_err() {
                return;
            }
            // Whoever wrote before may have left anything half done.
            let all: Vec<DocumentRef> = self
                .live
                .read(|index| index.documents().map(|d| DocumentRef { kind: d.kind, at: d.at.clone() }).collect());
            self.live.documents.touch(all);
            while *leads.borrow() {
                tokio::select! {
                    () = self.work() => {}
                    changed = leads.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// Some documents, or the wait for one.
    async fn work(&mut self) {
        let documents = self.live.documents.take(BATCH);
        if documents.is_empty() {
            return self.live.documents.more().await;
        }
        // Whatever is not done, for a change of leader or a failure, is still to be done.
        let mut rest = Rest { live: Arc::clone(&self.live), documents };
        let mut failed = Vec::new();
        while let Some(document) = rest.documents.last().cloned() {
            let outcome = self.publish(&document).await;
            self.live.metrics.status_writes.with_label_values(&[outcome.as_str()]).inc();
            rest.documents.pop();
            if matches!(outcome, Outcome::Failed | Outcome::Conflict) {
                failed.push(document);
            }
        }
        if failed.is_empty() {
            self.failures = 0;
            return;
        }
        rest.documents = failed;
        let wait = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        sleep(wait.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }

    async fn publish(&mut self, document: &DocumentRef) -> Outcome {
        let Some(resource) = Resource::of(ObjectKind::Document(document.kind)) else { return Outcome::Same };
        let now = now();
        let seen = self.live.documents.seen(document);
        let Some(wanted) = self.wanted(document, seen.as_ref()) else { return Outcome::Same };
        if status::patch(seen.as_ref(), &wanted, &now).is_none() {
            return Outcome::Same;
        }
        sleep_until(self.next).await;
        self.next = Instant::now() + PACE;
        match self.write(resource, document, &wanted, &now).await {
            Ok(outcome) => outcome,
            Err(Error::Api(answer)) if answer.code == 404 => Outcome::Gone,
            Err(Error::Api(answer)) if answer.code == 409 => Outcome::Conflict,
            Err(Error::Api(answer)) if answer.code == 403 => {
                if !self.forbidden.contains(&document.kind) {
                    self.forbidden.push(document.kind);
                    let (message, group, plural) = (&answer.message, resource.group, resource.plural);
                    tracing::error!(
                        "{message}; add to the ClusterRole of the control plane the rule: \
                         apiGroups: [\"{group}\"], resources: [\"{plural}/status\"], verbs: [patch]"
                    );
                }
                Outcome::Failed
            }
            Err(error) => {
                tracing::warn!(?document, error = chain(&error), "status could not be written");
                Outcome::Failed
            }
        }
    }

    /// Our entries as they are to be. None where there is nothing to say, and nothing that was said before.
    fn wanted(&self, document: &DocumentRef, seen: Option<&Value>) -> Option<Value> {
        let refusals = self.live.documents.refusals(document);
        let wanted = self.live.read(|index| {
            index.document(document)?;
            Some(status::wanted(index, document, &refusals))
        })?;
        let list = list(document.kind);
        let ours = |entry: &Value| entry["controllerName"] == CONTROLLER;
        let said = || seen.and_then(|s| s[list].as_array()).is_some_and(|entries| entries.iter().any(ours));
        wanted.or_else(|| said().then(|| json!({ list: [] })))
    }

    async fn write(
        &self,
        resource: &Resource,
        document: &DocumentRef,
        wanted: &Value,
        now: &str,
    ) -> Result<Outcome, Error> {
        let path = resource.object_path(&document.at.namespace, &document.at.name);
        let object: Value = self.client.request(request(Request::get(&path), Vec::new())?).await?;
        let Some(status) = status::patch(object.get("status"), wanted, now) else { return Ok(Outcome::Same) };
        let body = json!({
            "apiVersion": document.kind.api_version(),
            "kind": document.kind.as_str(),
            "metadata": {
                "name": document.at.name.as_ref(),
                "namespace": document.at.namespace.as_ref(),
                "resourceVersion": object["metadata"]["resourceVersion"],
            },
            "status": status,
        });
        let path = format!("{path}/status?fieldManager={}&force=true", CONTROLLER.replace('/', "%2F"));
        let patch = Request::patch(path).header("content-type", "application/apply-patch+yaml");
        let _: Value = self.client.request(request(patch, body.to_string().into_bytes())?).await?;
        Ok(Outcome::Written)
    }
}

/// Documents that are to be looked at again if the work on them is dropped.
struct Rest {
    live: Arc<Live>,
    documents: Vec<DocumentRef>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.live.documents.touch(self.documents.drain(..));
    }
}

fn request(builder: http::request::Builder, body: Vec<u8>) -> Result<Request<Vec<u8>>, Error> {
    builder.body(body).map_err(Error::HttpError)
}

/// Where a kind has our entries.
fn list(kind: Kind) -> &'static str {
    match kind {
        Kind::HTTPRoute | Kind::GRPCRoute => "parents",
        _ => "ancestors",
    }
}

/// As `metav1.Time` is written.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
