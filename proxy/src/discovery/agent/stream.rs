//! The life of the stream: opened with all that is wanted, kept in step with what is wanted, left, lost.
//!
//! Dialling takes a while, and what is wanted changes meanwhile. What the first messages said is remembered, and the
//! difference is sent as soon as the stream is there: a key that is wanted and not subscribed to would count as unknown,
//! and so as outside the mesh, for as long as the stream lives.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outrigger_config::discovery::{
    Hello, ProxyMessage, Subscribe, Unsubscribe,
    proxy_message::{self, Message},
};
use tokio::time::Instant;

use super::{Agent, Connecting, LEAST_STAY};
use crate::discovery::{
    cache::{TRUST, WORKLOAD},
    link::{self, Stream},
};

impl Agent {
    /// Tries to open a stream, with all that is wanted in its first messages. `None`: there is no identity to show.
    pub(super) fn connect(&mut self) -> Option<Connecting> {
        let identity = Arc::clone(self.identity.as_ref()?);
        let hello = Hello {
            protocol: link::VERSION,
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            pod: Some(self.boot.pod.clone()),
        };
        self.explicit = self.cache.services();
        let wanted = self.wanted();
        let subscribe = wanted.iter().cloned().map(|(key, known_version)| subscribe(key, known_version));
        let first = std::iter::once(Message::Hello(hello)).chain(subscribe);
        let first = first.map(|message| ProxyMessage { message: Some(message) }).collect();
        self.sent = wanted.into_iter().collect();
        let (boot, mut roots) = (Arc::clone(&self.boot), self.roots.clone());
        Some(Box::pin(async move {
            // The file may be newer than what came by the stream, and the other way round.
            match link::bundle(&boot) {
                Ok(more) => roots.extend(more.into_iter().filter(|m| !roots.contains(m)).collect::<Vec<_>>()),
                Err(e) if roots.is_empty() => return Err(e),
                Err(e) => tracing::debug!("the trust bundle's file is not used: {e}"),
            }
            link::open(&boot, &roots, &identity, first).await
        }))
    }

    /// All that is wanted now, with the versions that are held, in the order of subscription: services first, because
    /// what they are known by then needs not be sent for the bindings that lead to them.
    fn wanted(&self) -> Vec<(String, String)> {
        let keys = [TRUST, WORKLOAD].into_iter().chain(self.explicit.iter().map(String::as_str));
        keys.chain(self.wants.keys()).map(|key| (key.to_owned(), self.cache.known_version(key))).collect()
    }

    /// The stream is open: what has changed since its first messages were written follows.
    pub(super) fn opened(&mut self, stream: Stream) {
        self.stream = Some((stream, Instant::now()));
        self.leave = None;
        let sent = std::mem::take(&mut self.sent);
        for message in difference(&sent, self.wanted()) {
            self.send(message);
        }
    }

    /// The control plane has said that it serves this stream.
    pub(super) fn connected(&mut self) {
        // What is not answered yet is asked anew by the stream's first messages.
        self.wants.renew(Instant::now());
        self.discovery.set_connected(true);
        self.shared.observer.set_control_plane(Some(true));
    }

    /// The replica wants us elsewhere. The stream serves until `wait` is over: without one, what is new is unknown.
    pub(super) fn sent_away(&mut self, wait: Duration, now: Instant) {
        let Some((_, since)) = &self.stream else { return };
        let at = (now + wait).max(*since + LEAST_STAY);
        self.leave = Some(self.leave.map_or(at, |before| before.min(at)));
    }

    /// There is no stream any more.
    pub(super) fn lost(&mut self, why: &str) {
        self.stream = None;
        self.leave = None;
        // The next stream names it as held, which says as much.
        self.unacknowledged = None;
        self.discovery.set_connected(false);
        self.shared.observer.set_control_plane(Some(false));
        // Nobody waits for an answer that will not come.
        self.wants.release();
        tracing::warn!("the control plane is lost, what is known stays in force: {why}");
    }
}

fn subscribe(key: String, known_version: String) -> Message {
    Message::Subscribe(Subscribe { key, known_version })
}

/// What brings a stream from `sent` to `wanted`. A key whose version has changed was forgotten meanwhile: it is
/// subscribed to afresh, because its version would not be sent to who claimed to have it.
fn difference(sent: &BTreeMap<String, String>, wanted: Vec<(String, String)>) -> Vec<proxy_message::Message> {
    let new: BTreeMap<_, _> = wanted.iter().map(|(key, version)| (key, version)).collect();
    let gone = sent.iter().filter(|(key, version)| new.get(key) != Some(version));
    let gone = gone.map(|(key, _)| Message::Unsubscribe(Unsubscribe { key: key.clone() }));
    let mut messages: Vec<_> = gone.collect();
    let missing = wanted.into_iter().filter(|(key, version)| sent.get(key) != Some(version));
    messages.extend(missing.map(|(key, version)| subscribe(key, version)));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_the_stream_is_opened_follows() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, version)| ((*key).to_owned(), (*version).to_owned())).collect()
        };
        let sent = pairs(&[(TRUST, "1"), ("name/kept:80", "2"), ("name/gone:80", "3"), ("name/again:80", "4")]);
        let sent = sent.into_iter().collect();
        let wanted = pairs(&[(TRUST, "1"), ("name/kept:80", "2"), ("name/again:80", ""), ("name/new:80", "")]);
        let said: Vec<_> = difference(&sent, wanted)
            .into_iter()
            .map(|message| match message {
                Message::Subscribe(s) => format!("+{} {:?}", s.key, s.known_version),
                Message::Unsubscribe(u) => format!("-{}", u.key),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, ["-name/again:80", "-name/gone:80", "+name/again:80 \"\"", "+name/new:80 \"\""]);
        assert!(difference(&sent, sent.clone().into_iter().collect()).is_empty());
    }
}
