//! The trust bundle where pods find it: ConfigMap `outrigger-trust` of every namespace.
//!
//! A proxy needs the root before it can trust the control plane that would tell it; a ConfigMap is mounted before the proxy
//! starts, and holds nothing secret. Every namespace has one, as Kubernetes does with its own root (`kube-root-ca.crt`): a pod that joins the mesh
//! then never waits for it. The control plane may touch ConfigMaps of that one name alone. One replica writes, the
//! elected one; it writes what differs. A namespace that comes is served at once, and those that have the bundle are not asked
//! about again but at intervals, when what others changed or deleted is put right.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use outrigger_config::identity::{TRUST_CONFIG_MAP, TRUST_CONFIG_MAP_KEY};
use tokio::{sync::watch, time::Instant};

use super::CaWatch;

/// Between two looks at all of it, when nothing seems to have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Between two writes: a mesh of a thousand namespaces is done in 20 s, and the API server does not feel it.
const PACE: Duration = Duration::from_millis(20);
/// Namespaces of one page of a list.
const PAGE: u32 = 500;
/// Between two lists of namespaces, however often they change.
const CALM: Duration = Duration::from_secs(1);

/// Writes the bundle into namespaces.
pub struct TrustPublisher {
    client: Client,
    ca: CaWatch,
    /// UIDs of namespaces that have the bundle as it is now.
    served: HashSet<String>,
}

impl TrustPublisher {
    /// For the cluster of `client`.
    #[must_use]
    pub fn new(client: Client, ca: CaWatch) -> Self {
        Self { client, ca, served: HashSet::new() }
    }

    /// Writes while `leads` is true. `namespaces` is a counter that changes with every namespace that comes; a mesh that
    /// does not watch them gives one that never changes, and namespaces are seen at intervals.
    pub async fn run(mut self, mut leads: watch::Receiver<bool>, mut namespaces: watch::Receiver<u64>) {
        let mut all_at = Instant::now();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            self.ca.borrow_and_update();
            namespaces.borrow_and_update();
            if Instant::now() >= all_at {
                self.served.clear();
                all_at = Instant::now() + LOOK_AGAIN;
            }
            let done = self.publish().await;
            if let Err(error) = &done {
                tracing::warn!(%error, "the trust bundle could not be published everywhere; trying again");
            }
            let again = if done.is_ok() { all_at } else { Instant::now() + RETRY };
            tokio::select! {
                () = tokio::time::sleep_until(again) => {}
                changed = self.ca.changed() => match changed {
                    Ok(()) => self.served.clear(),
                    Err(_) => return,
                },
                // A sender that is gone would be ready for ever: then the interval has to do.
                Ok(()) = namespaces.changed() => tokio::time::sleep(CALM).await,
                // Another replica may have written meanwhile.
                changed = leads.changed() => match changed {
                    Ok(()) => self.served.clear(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Writes it wherever it is not known to be, and differs.
    ///
    /// # Errors
    /// The first failure, after every other namespace was tried.
    pub async fn publish(&mut self) -> Result<(), kube::Error> {
        let pem = self.ca.borrow().bundle.to_pem();
        let mut failure = None;
        let namespaces = self.namespaces().await?;
        self.served.retain(|uid| namespaces.contains_key(uid));
        for (uid, namespace) in namespaces {
            if self.served.contains(&uid) {
                continue;
            }
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
            match self.publish_in(&maps, &pem).await {
                Ok(wrote) => {
                    self.served.insert(uid);
                    if wrote {
                        tokio::time::sleep(PACE).await;
                    }
                }
                // The namespace went meanwhile, or is going: nothing can be made in it.
                Err(kube::Error::Api(status)) if status.code == 404 || is_terminating(&status) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// `true`: it was written.
    async fn publish_in(&self, maps: &Api<ConfigMap>, pem: &str) -> Result<bool, kube::Error> {
        let found = maps.get_opt(TRUST_CONFIG_MAP).await?;
        let data = found.as_ref().and_then(|map| map.data.as_ref());
        if data.and_then(|data| data.get(TRUST_CONFIG_MAP_KEY)).is_some_and(|text| text == pem) {
            return Ok(false);
        }
        let map = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": TRUST_CONFIG_MAP, "labels": { "app.kubernetes.io/part-of": "outrigger" } },
            "data": { (TRUST_CONFIG_MAP_KEY): pem },
        });
        let ours = PatchParams::apply(outrigger_config::identity::CONTROL_PLANE_ACCOUNT).force();
        maps.patch(TRUST_CONFIG_MAP, &ours, &Patch::Apply(&map)).await.map(|_| true)
    }

    /// UID and name of every namespace that stays.
    async fn namespaces(&self) -> Result<HashMap<String, String>, kube::Error> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let mut names = HashMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = namespaces.list_metadata(&page).await?;
            let alive = list.items.into_iter().filter(|n| n.metadata.deletion_timestamp.is_none());
            names.extend(alive.filter_map(|n| Some((n.metadata.uid?, n.metadata.name?))));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(names),
            }
        }
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("being terminated")
}
