//! The thread that writes the access log.
//!
//! It sleeps until a worker has logged something, lets the batch grow for a moment, takes the buffers of
//! all workers and writes them. It alone waits for the disk or for the reader of a pipe. A destination that
//! fails costs the lines of the batch, counted; it is opened again with the next batch, [`RETRY`] later at
//! the earliest.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::time::Instant;

use super::{AccessLog, GATHER, WAKE_AT};

/// Pause before a destination that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Pause before a destination that takes nothing just now is tried again (a pipe that another process has
/// made non-blocking).
const FULL: Duration = Duration::from_millis(5);

/// Capacity that an emptied buffer may keep: what a batch needs ordinarily, not what a burst needed.
const KEEP: usize = 2 * WAKE_AT;

/// Runs until the log is closed.
pub(crate) fn run(log: &AccessLog) {
    let mut destination = Destination { path: None, file: None, failed: None };
    let mut batch = Vec::new();
    loop {
        while !log.dirty.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
        // A batch that is large already is not made to wait; nor is the end.
        if !log.control().closing && !urgent(log) {
            gather(log);
        }
        let (reopen, closing) = {
            let mut control = log.control();
            (control.reopen.take(), control.closing)
        };
        if let Some(path) = reopen {
            destination = Destination { path: Some(path), file: None, failed: None };
            destination.open();
        }
        for worker in 0..log.buffers.len() {
            batch.clear();
            std::mem::swap(&mut *log.buffer(worker), &mut batch);
            if !batch.is_empty() {
                destination.write(log, &batch);
            }
            batch.shrink_to(KEEP);
        }
        if closing && !log.dirty.load(Ordering::Acquire) {
            log.control().ended = true;
            log.ended.notify_all();
            return;
        }
    }
}

/// Waits for [`GATHER`], or until something urgent comes.
fn gather(log: &AccessLog) {
    let until = Instant::now() + GATHER;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
        if log.dirty.swap(false, Ordering::Acquire) && urgent(log) {
            return;
        }
    }
}

/// Is there a reason not to wait?
fn urgent(log: &AccessLog) -> bool {
    {
        let control = log.control();
        if control.closing || control.reopen.is_some() {
            return true;
        }
    }
    (0..log.buffers.len()).any(|w| log.buffer(w).len() >= WAKE_AT)
}

struct Destination {
    path: Option<PathBuf>,
    file: Option<File>,
    /// When it failed last.
    failed: Option<Instant>,
}

impl Destination {
    fn open(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = Some(file);
                self.failed = None;
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the access log cannot be opened; its lines are dropped");
                self.failed = Some(Instant::now());
            }
        }
    }

    fn write(&mut self, log: &AccessLog, batch: &[u8]) {
        if self.file.is_none() && self.failed.is_some_and(|at| at.elapsed() >= RETRY) {
            self.open();
        }
        let left = match &mut self.file {
            None => batch,
            Some(file) => match write_all(file, batch, log) {
                Ok(()) => return,
                Err((left, error)) => {
                    tracing::error!(%error, "the access log cannot be written; lines are dropped");
                    self.file = None;
                    self.failed = Some(Instant::now());
                    left
                }
            },
        };
        log.written_off.add(memchr::memchr_iter(b'\n', left).count() as u64);
    }
}

/// Writes `batch`; what is left of it goes with the error.
fn write_all<'a>(file: &mut File, mut batch: &'a [u8], log: &AccessLog) -> Result<(), (&'a [u8], io::Error)> {
    while !batch.is_empty() {
        match file.write(batch) {
            Ok(0) => return Err((batch, ErrorKind::WriteZero.into())),
            Ok(n) => batch = &batch[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                // A reload may name another destination meanwhile; then this one has had its time.
                if log.control().reopen.is_some() {
                    return Err((batch, e));
                }
                std::thread::park_timeout(FULL);
            }
            Err(e) => return Err((batch, e)),
        }
    }
    Ok(())
}

/// Opens a destination for appending.
///
/// The standard streams are duplicated, not opened by their names: opening `/dev/stdout` anew fails where
/// it is a socket or belongs to another user, and starts at offset 0 where it is a file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let stream = match path.to_str() {
        Some("/dev/stdout" | "/proc/self/fd/1" | "-") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr" | "/proc/self/fd/2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return File::options().append(true).create(true).open(path),
    };
    Ok(File::from(stream))
}
