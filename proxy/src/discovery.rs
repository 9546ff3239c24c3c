//! Discovery: what a proxy in a pod is told by its control plane, and how the data plane uses it.
//!
//! One task of the control thread ([`agent`]) holds the stream to the control plane ([`link`]), the resources
//! ([`cache`]), and what workers ask for; another keeps the identity ([`identity`]). Workers see two things only: the
//! snapshot, which is compiled from the documents as if they were files, and the [`Directory`], which says where
//! an address or a name leads. A destination that is met for the first time is asked for and waited for, within bounds;
//! everything that is known is found without a lock.
//!
//! Static on discovery, closed on identity: with no control plane what is known stays in force, what is not known goes
//! where the app sent it, and a certificate that expires is not used a second longer.

pub mod agent;
pub mod assemble;
pub mod backoff;
pub mod bootstrap;
pub mod cache;
pub mod directory;
pub mod explicit;
pub mod identity;
pub mod isolate;
pub mod link;
pub mod routing;
pub mod saved;
pub mod wants;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use outrigger_config::discovery::Key;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub use bootstrap::Bootstrap;
pub use directory::{Directory, Entry, Verdict};
pub use explicit::Explicit;
pub use routing::Routing;

use crate::observe::Observer;

/// Questions of workers that wait to be read by the control thread. It reads them as fast as it wakes; a burst of more new
/// destinations than this goes where the app sent it.
const MAX_ASKS: usize = 1024;
/// How long a connection waits for the verdict on an address. A control plane that is there answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a request waits for the verdict on a name: outside the mesh a name server answers after the control plane.
const NAME_PATIENCE: Duration = Duration::from_secs(6);

/// What workers and the control thread share of discovery.
pub struct Discovery {
    directory: ArcSwap<Directory>,
    asks: mpsc::Sender<Ask>,
    connected: AtomicBool,
}

/// A destination that is not in the directory.
#[derive(Debug)]
pub struct Ask {
    /// Which.
    pub key: Key,
    /// Told when the directory has it, or when nothing more is to be waited for.
    pub done: oneshot::Sender<()>,
}

impl Discovery {
    /// With nothing known; the other end is the agent's.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(MAX_ASKS);
        let this = Self { directory: ArcSwap::default(), asks, connected: AtomicBool::new(false) };
        (Arc::new(this), receiver)
    }

    /// What is known now.
    #[must_use]
    pub fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.directory.load()
    }

    /// Puts another directory in force.
    pub fn publish(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
    }

    /// Whether the control plane is connected.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Notes whether it is.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Waits until the directory knows `address`, or it is not worth waiting. Known ones cost a lookup.
    pub async fn settle_address(&self, observer: &Observer, address: SocketAddr) {
        if self.directory().address(address).is_some() {
            return;
        }
        if !self.connected() {
            observer.discovery("unknown_passed");
            return;
        }
        if !self.ask(observer, Key::address(address), PATIENCE).await || self.directory().address(address).is_none() {
            observer.discovery("unknown_passed");
        }
    }

    /// Waits until the directory knows `authority`, or it is not worth waiting. Known ones cost a lookup.
    pub async fn settle_name(&self, observer: &Observer, authority: &str) {
        let (host, port) = host_and_port(authority);
        if self.directory().name(host, port).is_some() {
            return;
        }
        match Key::authority(authority) {
            Some(Key::Address(address)) => self.settle_address(observer, address).await,
            // Asked for without a connection, too: a name outside the mesh is resolved without the control plane.
            Some(key) => drop(self.ask(observer, key, NAME_PATIENCE).await),
            None => {}
        }
    }

    /// False: it was not answered in time.
    async fn ask(&self, observer: &Observer, key: Key, patience: Duration) -> bool {
        let (done, answered) = oneshot::channel();
        if self.asks.try_send(Ask { key, done }).is_err() {
            return false;
        }
        observer.discovery("asked");
        timeout(patience, answered).await.is_ok()
    }
}

/// Host and port of an authority; 80 where it names none.
#[must_use]
pub fn host_and_port(authority: &str) -> (&str, &str) {
    let (host, port) = outrigger_config::matching::split_authority(authority);
    (host, port.and_then(|p| p.strip_prefix(':')).unwrap_or("80"))
}
