//! What is known of the cluster, kept up to date: one `Reflector` for each kind, all into one bounded channel.
//!
//! The channel is what makes a slow index slow down the watches (and, through TCP, the API server) instead of filling
//! memory. Objects are trimmed when they are decoded; nothing larger is ever queued.

use std::sync::{Arc, atomic::AtomicBool};

use kube::Client;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    index::{ObjectKind, ObjectName},
    observe::Metrics,
};

mod api;
mod backoff;
mod decode;
mod reflect;
mod resource;
#[cfg(test)]
mod tests;

pub(crate) use api::chain;
pub(crate) use decode::Trimmed;
pub use resource::{RESOURCES, Resource};

use self::{
    api::Api,
    decode::{AnyDocument, AnyGrant, AnyNamespace, AnyPod, AnyService, AnySlice, Arrived},
    reflect::Reflector,
};

/// What a watch tells, and when it arrived.
#[derive(Debug)]
pub(crate) enum Update {
    Upsert(Trimmed, Instant),
    Delete(ObjectKind, ObjectName, Instant),
    /// All there are of a kind.
    Replace(ObjectKind, Vec<Trimmed>, Instant),
}

/// Updates that wait for the index. A burst of a rolling update fits; beyond it the watches wait.
const QUEUE: usize = 1024;

/// Starts watching everything. The tasks end when the receiver is dropped, or with the set.
pub(crate) fn start(client: &Client, metrics: &Arc<Metrics>) -> (mpsc::Receiver<Update>, JoinSet<()>) {
    let (out, updates) = mpsc::channel(QUEUE);
    let streaming = Arc::new(AtomicBool::new(true));
    let mut tasks = JoinSet::new();
    for resource in &RESOURCES {
        let api = Api { client: client.clone(), resource };
        let context = (out.clone(), Arc::clone(metrics), Arc::clone(&streaming));
        match resource.kind {
            ObjectKind::Namespace => spawn::<AnyNamespace>(&mut tasks, api, context),
            ObjectKind::Service => spawn::<AnyService>(&mut tasks, api, context),
            ObjectKind::Slice => spawn::<AnySlice>(&mut tasks, api, context),
            ObjectKind::Pod => spawn::<AnyPod>(&mut tasks, api, context),
            ObjectKind::Grant => spawn::<AnyGrant>(&mut tasks, api, context),
            ObjectKind::Document(_) => spawn::<AnyDocument>(&mut tasks, api, context),
        }
    }
    (updates, tasks)
}

type Context = (mpsc::Sender<Update>, Arc<Metrics>, Arc<AtomicBool>);

fn spawn<T: Arrived>(tasks: &mut JoinSet<()>, api: Api, (out, metrics, streaming): Context) {
    tasks.spawn(Reflector::<T>::new(api, out, metrics, streaming).run());
}
