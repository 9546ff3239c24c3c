//! What proxies refuse, from the replicas that they are connected to to the one that writes status.
//!
//! One ConfigMap, one key for each replica, applied with a field manager of its own, so that no replica touches another's.
//! The writer of status reads it at intervals. A replica says it again now and then, and one whose words have not changed
//! for [`STALE`], by the reader's clock, has gone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use outrigger_config::documents::Kind;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    index::{DocumentRef, ObjectName},
    live::Live,
    status::Refusal,
    watch::chain,
};

/// Name of the ConfigMap.
const NAME: &str = "outrigger-refusals";
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Between two repetitions of the same.
const REPEAT: Duration = Duration::from_secs(60);
/// After which a replica that repeats nothing has gone.
const STALE: Duration = Duration::from_secs(180);
/// Documents of one replica, and refusals of each, so that all replicas fit into the 1 MiB of an object.
const MAX_DOCUMENTS: usize = 64;
const MAX_EACH: usize = 2;

/// Tells and hears.
pub(crate) struct Exchange {
    api: Api<ConfigMap>,
    live: Arc<Live>,
    replica: String,
    said: Option<(Value, Instant)>,
    heard: HashMap<String, (String, Instant)>,
}

impl Exchange {
    pub(crate) fn new(client: Client, namespace: &str, live: Arc<Live>, replica: &str) -> Self {
        let replica = replica.to_owned();
        Self { api: Api::namespaced(client, namespace), live, replica, said: None, heard: HashMap::new() }
    }

    /// For as long as the program runs.
    pub(crate) async fn run(mut self, leads: watch::Receiver<bool>) {
        loop {
            sleep(LOOK).await;
            let leader = *leads.borrow();
            // Its own are in its memory.
            let outcome = if leader { self.hear().await } else { self.say().await };
            if let Err(error) = outcome {
                tracing::debug!(error = chain(&error), "refusals could not be exchanged with other replicas");
            }
            if !leader {
                self.live.documents.set_refused_elsewhere(BTreeMap::new());
            }
        }
    }

    async fn say(&mut self) -> Result<(), kube::Error> {
        let refused = write(&self.live.documents.refused_here());
        let is_empty = refused.as_array().is_some_and(Vec::is_empty);
        let again = match &self.said {
            None => !is_empty,
            Some((said, at)) => *said != refused || (!is_empty && at.elapsed() >= REPEAT),
        };
        if !again {
            return Ok(());
        }
        let data = match is_empty {
            true => json!({}),
            false => {
                let text = json!({ "at": jiff::Timestamp::now().as_second(), "refused": refused });
                json!({ (self.replica.as_str()): text.to_string() })
            }
        };
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME }, "data": data });
        let manager = format!("outrigger.dev/replica-{}", self.replica).chars().take(128).collect::<String>();
        self.api.patch(NAME, &PatchParams::apply(&manager).force(), &Patch::Apply(map)).await?;
        self.said = Some((refused, Instant::now()));
        Ok(())
    }

    async fn hear(&mut self) -> Result<(), kube::Error> {
        let data = self.api.get_opt(NAME).await?.and_then(|map| map.data).unwrap_or_default();
        self.heard.retain(|replica, _| data.contains_key(replica));
        let mut all: BTreeMap<DocumentRef, Vec<Refusal>> = BTreeMap::new();
        for (replica, text) in data {
            if replica == self.replica {
                continue;
            }
            let known = self.heard.get(&replica).filter(|(before, _)| *before == text).map(|(_, since)| *since);
            let since = known.unwrap_or_else(Instant::now);
            if since.elapsed() < STALE {
                for (document, refusals) in read(&text) {
                    all.entry(document).or_default().extend(refusals);
                }
            }
            self.heard.insert(replica, (text, since));
        }
        self.live.documents.set_refused_elsewhere(all);
        Ok(())
    }
}

fn write(refused: &BTreeMap<DocumentRef, Vec<Refusal>>) -> Value {
    let documents = refused.iter().take(MAX_DOCUMENTS).map(|(document, refusals)| {
        let refusals: Vec<Value> =
            refusals.iter().take(MAX_EACH).map(|r| json!({ "pod": r.pod, "reason": r.reason })).collect();
        json!({
            "kind": document.kind.as_str(),
            "namespace": document.at.namespace.as_ref(),
            "name": document.at.name.as_ref(),
            "refusals": refusals,
        })
    });
    documents.collect()
}

/// What cannot be read was written by another version, and is left out.
fn read(text: &str) -> Vec<(DocumentRef, Vec<Refusal>)> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let documents = value["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |document: &Value| {
        let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
        let at = ObjectName { namespace: text(document, "namespace")?.into(), name: text(document, "name")?.into() };
        let refusals = document["refusals"]
            .as_array()?
            .iter()
            .take(MAX_EACH)
            .filter_map(|refusal| Some(Refusal { pod: text(refusal, "pod")?, reason: text(refusal, "reason")? }));
        Some((DocumentRef { kind: Kind::from_name(document["kind"].as_str()?)?, at }, refusals.collect()))
    };
    documents.iter().take(MAX_DOCUMENTS).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_replica_writes_another_reads() {
        let document =
            DocumentRef { kind: Kind::HTTPRoute, at: ObjectName { namespace: "shop".into(), name: "web".into() } };
        let refusal = Refusal { pod: "shop/web-1".into(), reason: "HTTPRoute shop/web: no".into() };
        let refused = BTreeMap::from([(document.clone(), vec![refusal.clone(); 5])]);
        let text = json!({ "at": 1, "refused": write(&refused) }).to_string();
        assert_eq!(read(&text), [(document, vec![refusal; MAX_EACH])]);
        assert_eq!(read("not JSON"), []);
        assert_eq!(read(r#"{"refused": [{"kind": "Newer"}, 7]}"#), []);
    }
}
