//! Which proxies are connected, for people: `/proxies`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outrigger_config::discovery::{Hello, Key};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::stream::Question;
use crate::{index::ObjectName, live::StreamId};

/// All of them.
#[derive(Debug, Default)]
pub struct Proxies {
    connected: Mutex<BTreeMap<StreamId, Arc<Proxy>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Proxy {
    pod: ObjectName,
    version: String,
    zone: String,
    since: Instant,
    subscriptions: AtomicUsize,
    waiting: AtomicUsize,
    refused: Mutex<BTreeMap<String, Refused>>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug, Clone)]
struct Refused {
    version: String,
    reasons: Vec<String>,
    at: Instant,
}

/// Refused keys that are kept of one proxy.
const MAX_REFUSED: usize = 64;
/// For a stream to say what its proxy has.
const ANSWER: Duration = Duration::from_secs(1);

impl Proxy {
    /// Subscriptions, and keys that wait to be sent.
    pub(crate) fn note(&self, subscriptions: usize, waiting: usize) {
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, key: &Key, version: String, reasons: Vec<String>) {
        let mut refused = self.refusals();
        if refused.len() < MAX_REFUSED {
            refused.insert(key.to_string(), Refused { version, reasons, at: Instant::now() });
        }
    }

    pub(crate) fn accepted(&self, key: &Key) {
        let mut refused = self.refusals();
        if !refused.is_empty() {
            refused.remove(&key.to_string());
        }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn json(&self) -> Value {
        let refused: Vec<Value> = self
            .refusals()
            .iter()
            .map(|(key, r)| {
                json!({ "key": key, "version": r.version, "reasons": r.reasons, "seconds": r.at.elapsed().as_secs() })
            })
            .collect();
        json!({
            "namespace": self.pod.namespace.as_ref(),
            "pod": self.pod.name.as_ref(),
            "version": self.version,
            "zone": self.zone,
            "connectedSeconds": self.since.elapsed().as_secs(),
            "subscriptions": self.subscriptions.load(Ordering::Relaxed),
            "waiting": self.waiting.load(Ordering::Relaxed),
            "refused": refused,
        })
    }
}

impl Proxies {
    /// A proxy has been let in.
    pub(crate) fn enter(&self, id: StreamId, pod: ObjectName, hello: &Hello) -> (Arc<Proxy>, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1);
        let proxy = Arc::new(Proxy {
            pod,
            version: hello.proxy_version.chars().take(100).collect(),
            zone: hello.pod.iter().flat_map(|pod| pod.zone.chars().take(100)).collect(),
            since: Instant::now(),
            subscriptions: AtomicUsize::default(),
            waiting: AtomicUsize::default(),
            refused: Mutex::default(),
            questions,
        });
        self.connected().insert(id, Arc::clone(&proxy));
        (proxy, asked)
    }

    pub(crate) fn leave(&self, id: StreamId) {
        self.connected().remove(&id);
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connected().len()
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, or those of one pod (`NAMESPACE/NAME`) with every key that they have.
    pub async fn json(&self, pod: Option<&str>) -> Value {
        let Some(pod) = pod else {
            return self.connected().values().map(|proxy| proxy.json()).collect();
        };
        let named = |p: &&Arc<Proxy>| pod.split_once('/') == Some((&p.pod.namespace, &p.pod.name));
        let proxies: Vec<Arc<Proxy>> = self.connected().values().filter(named).cloned().collect();
        let mut all = Vec::new();
        for proxy in proxies {
            let mut one = proxy.json();
            let (question, answer) = oneshot::channel();
            let asked = proxy.questions.try_send(question).is_ok();
            if let (true, Ok(Ok(mut keys))) = (asked, timeout(ANSWER, answer).await) {
                keys.sort();
                let keys = keys.into_iter().map(|(key, version, acknowledged)| {
                    json!({ "key": key, "version": version, "acknowledged": acknowledged })
                });
                one["keys"] = keys.collect();
            }
            all.push(one);
        }
        all.into()
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<StreamId, Arc<Proxy>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
