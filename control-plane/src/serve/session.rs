//! What one proxy is told, and what it said to it. No socket and no clock of its own: [`super::stream`] moves the messages.
//!
//! A subscription is one the proxy asked for, or one that a resource it has leads to. Those are kept as long as they can be
//! reached from what was asked for (routes may lead in circles, so it is not a count), and go out before what refers to them.
//! A key is sent again only if its version is another than the last that was sent.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use outrigger_config::discovery::{
    Absent, Acknowledge, Key, KeyError, Refuse, Resource, Subscribe, control_message::Message, resource::Body,
};
use tokio::time::Instant;

use crate::{
    live::{Entry, Live, Made, Mailbox, StreamId, encode},
    status,
    view::Subscriber,
};

#[cfg(test)]
mod tests;

/// One stream's subscriptions.
#[derive(Debug)]
pub(crate) struct Session {
    live: Arc<Live>,
    id: StreamId,
    subscriber: Subscriber,
    mailbox: Arc<Mailbox>,
    subscriptions: HashMap<Key, Subscription>,
    /// Made and not yet sent. Bounded by those that one refresh makes ([`MAX_KEYS`]) and the answers that [`super::stream`] lets wait.
    ready: VecDeque<Bytes>,
    /// Something may not be reached any more.
    loose: bool,
    asked: usize,
}

#[derive(Debug)]
struct Subscription {
    entry: Arc<Entry>,
    /// By the proxy; otherwise another resource leads to it.
    asked: bool,
    /// The last version that was sent, or that the proxy said it had.
    sent: Option<Arc<Made>>,
    /// What it said it had, until that is compared.
    known: String,
    /// It refused the last version, so it has another, and we do not know which.
    refused: bool,
    /// When that became known which led to the last version, until it is acknowledged.
    since: Option<Instant>,
    acknowledged: bool,
}

/// Why a stream is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("a second `Hello`")]
    Hello,
    #[error("{0}")]
    Key(KeyError),
}

/// Keys that one proxy may ask for: a pod that talks to all of a mesh of 10,000 services gets them, and no stream more.
pub(crate) const MAX_ASKED: usize = 10_000;
/// Keys of one stream with those that others lead to.
const MAX_KEYS: usize = 4 * MAX_ASKED;
/// How far a chain of references is followed before the rest of it is sent afterwards.
const MAX_DEPTH: usize = 32;
/// Reasons and warnings of one message that are looked at, and bytes of each.
const MAX_REASONS: usize = 32;
const MAX_REASON: usize = 1024;

impl Session {
    pub(crate) fn new(live: Arc<Live>, id: StreamId, subscriber: Subscriber) -> Self {
        Self {
            live,
            id,
            subscriber,
            mailbox: Arc::default(),
            subscriptions: HashMap::new(),
            ready: VecDeque::new(),
            loose: false,
            asked: 0,
        }
    }

    /// Where changes are announced.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Subscriptions, unasked ones included.
    pub(crate) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Something may be there to be sent.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.mailbox.is_empty()
    }

    /// Messages that are made and wait. Each read of a message of the proxy can add one, so who reads looks here first.
    pub(crate) fn backlog(&self) -> usize {
        self.ready.len()
    }

    /// The next message, made of what is known now.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let (key, since) = self.mailbox.take()?;
            self.refresh(&key, since, 0);
            self.tidy();
        }
    }

    /// The proxy asks for a key, which may be one that we do not know the kind of.
    pub(crate) fn subscribe(&mut self, ask: Subscribe) -> Result<(), Misuse> {
        let key = match ask.key.parse::<Key>() {
            Ok(key) => key,
            Err(error @ KeyError::TooLong(_)) => return Err(Misuse::Key(error)),
            Err(error) => {
                self.absent(ask.key, error.to_string());
                return Ok(());
            }
        };
        match self.subscriptions.get(&key) {
            Some(subscription) if subscription.asked => {}
            there if self.asked >= MAX_ASKED || (there.is_none() && self.subscriptions.len() >= MAX_KEYS) => {
                self.live.metrics.subscriptions_refused.inc();
                self.absent(ask.key, format!("more than {MAX_ASKED} subscriptions of one proxy"));
                return Ok(());
            }
            _ => self.asked += 1,
        }
        let subscription = self.subscription(&key);
        subscription.asked = true;
        let has = subscription.sent.as_ref().is_some_and(|made| made.version() == ask.known_version);
        if !has || ask.known_version.is_empty() {
            subscription.sent = None;
            subscription.known = ask.known_version;
            self.mailbox.mark(key, None);
        }
        Ok(())
    }

    /// The proxy does not want a key any more. What others lead to stays.
    pub(crate) fn unsubscribe(&mut self, key: &str) {
        let Ok(key) = key.parse::<Key>() else { return };
        if let Some(subscription) = self.subscriptions.get_mut(&key).filter(|s| s.asked) {
            subscription.asked = false;
            self.asked -= 1;
            self.loose = true;
        }
    }

    /// The proxy uses a version. Gives the key if it is one that it has.
    pub(crate) fn acknowledge(&mut self, ack: &Acknowledge, now: Instant) -> Option<Key> {
        let metrics = &self.live.metrics;
        metrics.acknowledgements.inc();
        metrics.warnings.inc_by(ack.warnings.len().try_into().unwrap_or(u64::MAX));
        let key = ack.key.parse::<Key>().ok()?;
        let subscription = self.subscriptions.get_mut(&key)?;
        if subscription.sent.as_ref()?.version() != ack.version {
            return Some(key);
        }
        if !std::mem::replace(&mut subscription.acknowledged, true) {
            for warning in ack.warnings.iter().take(MAX_REASONS) {
                tracing::warn!(pod = ?self.subscriber.pod, %key, "a proxy says: {:?}", cut(warning));
            }
        }
        subscription.refused = false;
        if let Some(since) = subscription.since.take() {
            metrics.event_to_ack.observe(now.saturating_duration_since(since).as_secs_f64());
        }
        self.live.documents.accept(self.id, &key);
        Some(key)
    }

    /// The proxy does not take a version, and keeps the last good one.
    pub(crate) fn refuse(&mut self, refusal: &Refuse) -> Option<(Key, Vec<String>)> {
        self.live.metrics.refusals.inc();
        let reasons: Vec<String> = refusal.reasons.iter().take(MAX_REASONS).map(|r| cut(r).to_owned()).collect();
        let key = refusal.key.parse::<Key>().ok()?;
        let subscription = self.subscriptions.get_mut(&key)?;
        let sent = subscription.sent.as_ref().filter(|sent| sent.version() == refusal.version)?;
        subscription.since = None;
        // Once for a version, however often it is said.
        if !std::mem::replace(&mut subscription.refused, true) {
            tracing::warn!(pod = ?self.subscriber.pod, %key, ?reasons, "a proxy refuses what it was sent");
        }
        let blame = |reason: &String| Some((status::blamed(reason)?, reason.clone()));
        let blamed = reasons.iter().filter_map(blame).filter(|(document, _)| sent.has(document));
        self.live.documents.refuse(self.id, &self.subscriber.pod, &key, blamed.collect());
        Some((key, reasons))
    }

    /// Keys with the version that was sent last, and whether it was acknowledged: for people.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&Key, Option<&str>, bool)> {
        self.subscriptions.iter().map(|(key, s)| (key, s.sent.as_ref().map(|m| m.version()), s.acknowledged))
    }

    /// Lets go of what cannot be reached from what was asked for.
    pub(crate) fn tidy(&mut self) {
        if !std::mem::take(&mut self.loose) {
            return;
        }
        let mut reached: HashSet<Key> = HashSet::new();
        let mut next: Vec<Key> = self.subscriptions.iter().filter(|(_, s)| s.asked).map(|(k, _)| k.clone()).collect();
        while let Some(key) = next.pop() {
            if let Some(made) = self.subscriptions.get(&key).and_then(|s| s.sent.as_ref()) {
                next.extend(made.references().iter().filter(|k| !reached.contains(*k)).cloned());
            }
            reached.insert(key);
        }
        let lost: Vec<Key> = self.subscriptions.keys().filter(|k| !reached.contains(*k)).cloned().collect();
        for key in lost {
            self.drop_subscription(&key);
        }
    }

    /// Sends the latest version of `key`, and before it what it leads to, if the proxy does not have it.
    fn refresh(&mut self, key: &Key, since: Option<Instant>, depth: usize) {
        let Some(subscription) = self.subscriptions.get_mut(key) else { return };
        let made = self.live.latest(&subscription.entry);
        let known = std::mem::take(&mut subscription.known);
        let old = subscription.sent.take();
        if old.as_ref().is_some_and(|old| old.version() == made.version()) {
            subscription.sent = old;
            return;
        }
        // Before it is sent, so that a circle ends here.
        subscription.sent = Some(Arc::clone(&made));
        let base = old.as_ref().filter(|_| !subscription.refused);
        let has = old.is_none() && known == made.version();
        subscription.acknowledged = has;
        subscription.refused = false;
        subscription.since = since.filter(|_| !has);
        let delta = base.and_then(|base| made.since(base));
        self.loose |= old.is_some_and(|old| old.references() != made.references());
        for reference in made.references() {
            self.follow(reference, depth);
        }
        if !has {
            self.push(key, delta, &made);
        }
    }

    /// Makes sure that the proxy is sent what another resource leads to.
    fn follow(&mut self, reference: &Key, depth: usize) {
        if self.subscriptions.contains_key(reference) || self.subscriptions.len() >= MAX_KEYS {
            // It is subscribed to: if it has not gone out yet, it waits in the mailbox.
            let waits = self.subscriptions.get(reference).is_some_and(|s| s.sent.is_none());
            if waits && depth < MAX_DEPTH {
                self.refresh(reference, None, depth + 1);
            }
            return;
        }
        self.subscription(reference);
        if depth < MAX_DEPTH {
            self.refresh(reference, None, depth + 1);
        } else {
            self.mailbox.mark(reference.clone(), None);
        }
    }

    fn push(&mut self, key: &Key, delta: Option<Bytes>, made: &Made) {
        let metrics = &self.live.metrics;
        match delta {
            Some(delta) => {
                metrics.deltas.inc();
                self.ready.push_back(delta);
            }
            None => {
                metrics.pushes.with_label_values(&[kind(key)]).inc();
                self.ready.push_back(made.whole());
            }
        }
    }

    /// An answer that is no subscription: nothing will ever come of the key.
    fn absent(&mut self, key: String, reason: String) {
        let body = Some(Body::Absent(Absent { reason }));
        self.ready.push_back(encode(Message::Resource(Resource { key, version: String::new(), body })));
    }

    fn subscription(&mut self, key: &Key) -> &mut Subscription {
        self.subscriptions.entry(key.clone()).or_insert_with(|| Subscription {
            entry: self.live.subscribe(self.id, &self.mailbox, &self.subscriber, key),
            asked: false,
            sent: None,
            known: String::new(),
            refused: false,
            since: None,
            acknowledged: false,
        })
    }

    fn drop_subscription(&mut self, key: &Key) {
        if let Some(subscription) = self.subscriptions.remove(key) {
            self.live.unsubscribe(self.id, &subscription.entry);
            self.live.documents.accept(self.id, key);
            self.mailbox.forget(key);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for subscription in self.subscriptions.values() {
            self.live.unsubscribe(self.id, &subscription.entry);
        }
        self.live.documents.end(self.id);
    }
}

/// Label of metrics.
fn kind(key: &Key) -> &'static str {
    match key {
        Key::Workload => "workload",
        Key::Trust => "trust",
        Key::Address(_) => "address",
        Key::Name { .. } => "name",
        Key::Service { .. } => "service",
        Key::Upstream { .. } => "upstream",
    }
}

/// A text of a proxy's, for the log.
fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_REASON).map_or(text, |(end, _)| &text[..end])
}
