//! What a stream has still to be told: keys, not messages.
//!
//! A key is there once, however often it changes, so a proxy that reads slowly costs one slot for each of its
//! subscriptions, and when it reads it gets the latest. That is all the back-pressure there is, and it slows nobody else down.
//! Bounded by the subscriptions of the stream, because only keys that it subscribes to are marked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use outrigger_config::discovery::Key;
use tokio::{sync::Notify, time::Instant};

/// Keys that may have changed, in the order in which they first did.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    marked: Mutex<Marked>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    order: VecDeque<Key>,
    since: HashMap<Key, Option<Instant>>,
}

impl Mailbox {
    /// `key` may have changed, because of something that became known at `since`; `None`: it was asked for.
    pub(crate) fn mark(&self, key: Key, since: Option<Instant>) {
        let mut marked = self.marked();
        if let Some(first) = marked.since.get_mut(&key) {
            *first = (*first).or(since);
        } else {
            marked.order.push_back(key.clone());
            marked.since.insert(key, since);
        }
        drop(marked);
        self.more.notify_one();
    }

    /// The key that waits longest, and since when.
    pub(crate) fn take(&self) -> Option<(Key, Option<Instant>)> {
        let mut marked = self.marked();
        let key = marked.order.pop_front()?;
        let since = marked.since.remove(&key).flatten();
        Some((key, since))
    }

    /// `key` is not subscribed to any more.
    pub(crate) fn forget(&self, key: &Key) {
        let mut marked = self.marked();
        if marked.since.remove(key).is_some() {
            marked.order.retain(|k| k != key);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marked().order.is_empty()
    }

    /// Keys that wait.
    pub(crate) fn len(&self) -> usize {
        self.marked().order.len()
    }

    /// Until something is marked. It may have been taken since: look.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_once_and_since_it_first_changed() {
        let mailbox = Mailbox::default();
        let first = Instant::now();
        mailbox.mark(Key::Trust, Some(first));
        mailbox.mark(Key::Workload, None);
        mailbox.mark(Key::Trust, Some(first + std::time::Duration::from_secs(1)));
        assert_eq!(mailbox.len(), 2);
        assert_eq!(mailbox.take(), Some((Key::Trust, Some(first))));
        mailbox.forget(&Key::Workload);
        assert_eq!(mailbox.take(), None);
        assert!(mailbox.is_empty());
    }
}
