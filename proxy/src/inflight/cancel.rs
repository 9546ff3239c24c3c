//! Telling the calls behind a request that it was given up.
//!
//! A flag, and the wakers of those that look at it. A call that polls registers its waker once and takes it
//! out when it ends, so the list is as long as the calls in flight, and never longer than [`WAKERS`].

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{Entry, lock};

/// Calls of one request that are woken; what fans out wider has its deadline.
pub(super) const WAKERS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Cancel {
    flag: AtomicBool,
    next: AtomicU64,
    wakers: Mutex<Vec<(u64, Waker)>>,
}

impl Cancel {
    /// The request was given up.
    pub(super) fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // Woken outside the lock: a waker may run code that looks at the flag.
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// One call's view of the request that caused it.
#[derive(Debug)]
pub struct Cancelled {
    entry: Arc<Entry>,
    id: u64,
    registered: bool,
}

impl Cancelled {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        let id = entry.cancel.next.fetch_add(1, Ordering::Relaxed);
        Self { entry, id, registered: false }
    }

    /// True if the request was given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.entry.cancel.flag.load(Ordering::SeqCst)
    }

    /// Ready when the request was given up; registers for a wake-up otherwise. Never ready after a request
    /// that was answered.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let cancel = &self.entry.cancel;
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        {
            let mut wakers = lock(&cancel.wakers);
            let own = if self.registered { wakers.iter().position(|(id, _)| *id == self.id) } else { None };
            if let Some(own) = own {
                wakers[own].1.clone_from(cx.waker());
            } else if wakers.len() < WAKERS {
                wakers.push((self.id, cx.waker().clone()));
                self.registered = true;
            }
        }
        // It may have been given up between the look and the registration.
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if self.registered {
            lock(&self.entry.cancel.wakers).retain(|(id, _)| *id != self.id);
        }
    }
}
