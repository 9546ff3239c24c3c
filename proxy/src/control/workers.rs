//! The threads that forward, seen from outside: started, and waited for.

use std::{io, sync::Arc, thread};

use tokio::sync::watch;

use super::wiring;
use crate::shared::Shared;

/// The worker threads.
pub(super) struct Workers {
    count: usize,
    finished: watch::Receiver<usize>,
}

/// Counts a thread as finished however it ends, by a panic too.
struct Finished(watch::Sender<usize>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n += 1);
    }
}

impl Workers {
    /// Starts `shared.workers` threads.
    pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<Self> {
        let (sender, finished) = watch::channel(0);
        for index in 0..shared.workers {
            let (shared, finished) = (Arc::clone(shared), Finished(sender.clone()));
            // Not joined: at exit they may be stuck, and the process ends with the main thread.
            drop(thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _finished = finished;
                if let Err(e) = wiring::worker(index, shared) {
                    tracing::error!(worker = index, "cannot run: {e}");
                }
            })?);
        }
        Ok(Self { count: shared.workers, finished })
    }

    /// Waits until one has ended.
    pub(super) async fn any_finished(&mut self) {
        self.wait(1).await;
    }

    /// Waits until all have ended.
    pub(super) async fn all_finished(&mut self) {
        self.wait(self.count).await;
    }

    async fn wait(&mut self, count: usize) {
        // The senders go with the threads, so an error means that none is left.
        if self.finished.wait_for(|n| *n >= count).await.is_err() {
            tracing::debug!("no worker is left");
        }
    }
}
