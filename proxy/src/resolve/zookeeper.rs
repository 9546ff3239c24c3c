//! ZooKeeper: the children of a node, watched.
//!
//! A client that only reads owns no ephemeral node, so a session has nothing to lose: each connection begins a new one,
//! reads everything and sets its watches anew, and an expired session is a connection that ended. That is all that the
//! protocol (`wire`) is needed for, and why a client library with sessions, locks and its own runtime is not used.
//!
//! The watch on the node tells of children that come and go, the watch on each child that its data changed; a watch
//! fires once, and is set again by the read that follows it.

mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use outrigger_config::model::{Endpoint, RegistryTls};
use tokio::time::timeout;

use self::wire::{Failure, Session, Watched};
use super::{
    policy::Answer,
    registry::{ANSWER_TIMEOUT, endpoint, failed},
    source::Source,
};

/// Children that are read; more are left out with a warning. As many as endpoints are used.
const MAX_CHILDREN: usize = super::policy::MAX_LISTED;

/// The children of one node.
pub(super) struct ZooKeeper {
    servers: VecDeque<Arc<str>>,
    path: Arc<str>,
    tls: Option<RegistryTls>,
    session: Option<Session>,
    /// What each child says whose watch is set; `None`: nothing of use.
    known: BTreeMap<String, Option<Endpoint>>,
}

impl ZooKeeper {
    pub(super) fn new(servers: Vec<Arc<str>>, path: Arc<str>, tls: Option<RegistryTls>) -> Self {
        Self { servers: servers.into(), path, tls, session: None, known: BTreeMap::new() }
    }

    /// Reads what is there now, over a new connection if need be, and sets the watches.
    async fn read(&mut self) -> Result<(), String> {
        let server = self.servers.front().cloned().ok_or("no servers")?;
        let read = self.read_from(&server).await.map_err(|why| format!("{server}: {why}"));
        if read.is_err() {
            self.session = None;
            self.servers.rotate_left(1);
        }
        read
    }

    async fn read_from(&mut self, server: &str) -> Result<(), String> {
        let late = |_| "no answer in time".to_owned();
        if self.session.is_none() {
            self.known.clear();
            self.session =
                Some(timeout(ANSWER_TIMEOUT, Session::open(server, self.tls.as_ref())).await.map_err(late)??);
        }
        timeout(ANSWER_TIMEOUT, self.refresh()).await.map_err(late)?
    }

    async fn refresh(&mut self) -> Result<(), String> {
        let Some(session) = &mut self.session else { return Err("no session".into()) };
        let mut children = match session.children(&self.path).await {
            Ok(children) => children,
            // The watch that is set then tells when the node comes to be.
            Err(Failure::NoNode) => match session.exists(&self.path).await {
                Ok(true) => session.children(&self.path).await.map_err(|e| e.to_string())?,
                Ok(false) => Vec::new(),
                Err(failure) => return Err(failure.to_string()),
            },
            Err(failure) => return Err(failure.to_string()),
        };
        if children.len() > MAX_CHILDREN {
            tracing::warn!(found = children.len(), "a node of ZooKeeper has more than {MAX_CHILDREN} children");
            children.sort();
            children.truncate(MAX_CHILDREN);
        }
        self.known.retain(|name, _| children.contains(name));
        for name in children {
            if self.known.contains_key(&name) {
                continue;
            }
            let path = child(&self.path, &name);
            match session.data(&path).await {
                Ok(data) => {
                    let found = endpoint(&data);
                    if let Err(why) = &found {
                        tracing::warn!(path, "a node of ZooKeeper is left out: {why}");
                    }
                    self.known.insert(name, found.ok());
                }
                // It went since; the watch on its parent has fired.
                Err(Failure::NoNode) => {}
                Err(failure) => return Err(failure.to_string()),
            }
        }
        Ok(())
    }

    /// Waits until a watch fires, and takes all that have.
    async fn changed(&mut self) -> Result<(), String> {
        let Some(session) = &mut self.session else { return Err("no session".into()) };
        let mut fired = session.watched().await?;
        loop {
            match fired {
                Watched::Node(path) => {
                    if let Some(name) = path.strip_prefix(&*self.path) {
                        self.known.remove(name.trim_start_matches('/'));
                    }
                }
                Watched::Session => return Err("the session ended".to_owned()),
            }
            match session.pending() {
                Some(next) => fired = next,
                None => return Ok(()),
            }
        }
    }
}

impl Source for ZooKeeper {
    async fn next(&mut self, fresh: bool) -> Answer {
        if !fresh
            && self.session.is_some()
            && let Err(details) = self.changed().await
        {
            tracing::info!("the session with ZooKeeper ended, and its nodes are read again: {details}");
            self.session = None;
        }
        match self.read().await {
            Ok(()) => Answer::Listed { endpoints: self.known.values().flatten().cloned().collect() },
            Err(details) => failed(details),
        }
    }
}

fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}
