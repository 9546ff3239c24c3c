//! The trust bundle in the webhooks' configurations: the API server believes whom the mesh believes.
//!
//! Every replica does it, as they all would write the same. Only what differs is written, so a configuration that the chart
//! applies again is repaired once, and nobody fights over it.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::identity::CaWatch;

/// Before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps `caBundle` of one configuration of webhooks equal to the trust bundle.
pub struct WebhookBundle {
    api: Api<DynamicObject>,
    kind: String,
    name: String,
    ca: CaWatch,
}

impl WebhookBundle {
    /// For the `ValidatingWebhookConfiguration` called `name`.
    #[must_use]
    pub fn new(client: Client, name: String, ca: CaWatch) -> Self {
        Self::of(client, &ApiResource::erase::<ValidatingWebhookConfiguration>(&()), name, ca)
    }

    /// For the `MutatingWebhookConfiguration` called `name`.
    #[must_use]
    pub fn mutating(client: Client, name: String, ca: CaWatch) -> Self {
        Self::of(client, &ApiResource::erase::<MutatingWebhookConfiguration>(&()), name, ca)
    }

    fn of(client: Client, resource: &ApiResource, name: String, ca: CaWatch) -> Self {
        Self { api: Api::all_with(client, resource), kind: resource.kind.clone(), name, ca }
    }

    /// Until the CA is gone. Needs `get`, `list`, `watch` and `patch` of that one configuration.
    pub async fn run(mut self) {
        let seen = watcher::watch_object(self.api.clone(), &self.name);
        let mut seen = seen.map_ok(drop).default_backoff().boxed();
        loop {
            let wrote = self.write().await;
            if let Err(error) = &wrote {
                let (kind, name) = (&self.kind, &self.name);
                tracing::warn!(%error, kind, name, "the webhook's caBundle could not be written; trying again");
            }
            tokio::select! {
                () = sleep(RETRY), if wrote.is_err() => {}
                Some(change) = seen.next() => if change.is_err() { sleep(RETRY).await },
                changed = self.ca.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Writes it if it differs; a configuration that is not there is no error. `true`: it was written.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn write(&mut self) -> Result<bool, kube::Error> {
        let bundle = json!(ByteString(self.ca.borrow_and_update().bundle.to_pem().into_bytes()));
        let Some(found) = self.api.get_opt(&self.name).await? else { return Ok(false) };
        let webhooks = found.data.get("webhooks").and_then(Value::as_array);
        let differing: Vec<_> = webhooks
            .into_iter()
            .flatten()
            .filter(|webhook| webhook["clientConfig"]["caBundle"] != bundle)
            .map(|webhook| json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } }))
            .collect();
        if differing.is_empty() {
            return Ok(false);
        }
        // Webhooks are merged by name, so the other fields stay as they are.
        let patch = Patch::Strategic(json!({ "webhooks": differing }));
        self.api.patch(&self.name, &PatchParams::default(), &patch).await.map(|_| true)
    }
}
