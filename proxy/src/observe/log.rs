//! The access log: one line for a request, written by a thread that may wait so that workers need not.
//!
//! A worker formats a line in its own scratch space and appends it to its own buffer; the writer's thread
//! takes whole buffers, at most [`GATHER`] after the first line of a batch, and writes them. The lock of a
//! buffer is held for a copy or a swap, never for formatting or for I/O. What is full drops lines and
//! counts them ([`BUFFER_LIMIT`]), so a slow disk or a pipe that nobody reads costs log lines, not requests.
//! An idle proxy has no timer here: the first line of a batch wakes the writer.
//!
//! Without an access log in the configuration errors go to the diagnostics, [`WARNINGS`] at most.

pub(super) mod clock;
mod escape;
mod line;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, SystemTime},
};

use outrigger_config::model::{self, LogFormat};

use super::{
    cells::Counter,
    route::{ConnectionRecord, Record, RouteObserver},
};
use crate::error::Failure;

/// Bytes that one worker holds for the writer. At 400 bytes a line this is what 25,000 requests a second
/// leave in 100 ms; buffers grow to it only when the writer cannot keep up.
pub(crate) const BUFFER_LIMIT: usize = 1024 * 1024;

/// Bytes at which a worker wakes the writer before the time is over.
const WAKE_AT: usize = 64 * 1024;

/// How long the writer lets a batch grow.
const GATHER: Duration = Duration::from_millis(50);

/// Warnings of one worker per second, where no access log is configured.
const WARNINGS: u32 = 10;

/// What workers and the writer share.
pub(crate) struct AccessLog {
    /// [`Mode`], packed; read for every request, written by reloads.
    mode: AtomicU64,
    /// One per worker.
    buffers: Vec<Mutex<Vec<u8>>>,
    /// One per worker, for lines that found no room; written by that worker.
    dropped: Vec<Arc<Counter>>,
    /// For lines that could not be written; written by the writer.
    pub(crate) written_off: Arc<Counter>,
    /// There is something to do for the writer.
    dirty: AtomicBool,
    control: Mutex<Control>,
    /// Signalled when the writer has ended.
    ended: std::sync::Condvar,
}

/// What the writer is told, and what it says.
#[derive(Default)]
struct Control {
    /// Where to write from the next batch on: a reload has been there.
    reopen: Option<std::path::PathBuf>,
    /// The writer, once there is one.
    writer: Option<Thread>,
    /// It is to write what there is, and end.
    closing: bool,
    ended: bool,
}

/// The settings that workers need, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    enabled: bool,
    format: LogFormat,
    /// A random `u32` below it is sampled; `u32::MAX` is all.
    sample: u32,
}

impl Mode {
    const OFF: Self = Self { enabled: false, format: LogFormat::Json, sample: 0 };

    fn of(settings: &model::AccessLog) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let sample = (settings.sample * f64::from(u32::MAX)) as u32;
        Self { enabled: true, format: settings.format, sample }
    }

    fn pack(self) -> u64 {
        u64::from(self.enabled) << 33 | u64::from(self.format == LogFormat::Text) << 32 | u64::from(self.sample)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half is the sample")]
    fn unpack(word: u64) -> Self {
        let format = if word >> 32 & 1 == 1 { LogFormat::Text } else { LogFormat::Json };
        Self { enabled: word >> 33 & 1 == 1, format, sample: word as u32 }
    }

    /// Is a request without an error logged?
    fn sampled(self) -> bool {
        self.sample == u32::MAX || fastrand::u32(..) < self.sample
    }
}

impl AccessLog {
    /// The log of a process, for as many workers as there are counters of dropped lines.
    pub(crate) fn new(dropped: Vec<Arc<Counter>>, written_off: Arc<Counter>) -> Self {
        Self {
            mode: AtomicU64::new(Mode::OFF.pack()),
            buffers: dropped.iter().map(|_| Mutex::default()).collect(),
            dropped,
            written_off,
            dirty: AtomicBool::new(false),
            control: Mutex::default(),
            ended: std::sync::Condvar::new(),
        }
    }

    /// Takes new settings and has the file opened again.
    pub(crate) fn configure(self: &Arc<Self>, settings: Option<&model::AccessLog>) {
        let Some(settings) = settings else {
            self.mode.store(Mode::OFF.pack(), Ordering::Relaxed);
            self.wake();
            return;
        };
        {
            let mut control = self.control();
            control.reopen = Some(settings.path.clone());
            if control.writer.is_none() && !control.closing {
                let log = Arc::clone(self);
                match std::thread::Builder::new().name("access-log".into()).spawn(move || writer::run(&log)) {
                    Ok(handle) => control.writer = Some(handle.thread().clone()),
                    Err(error) => {
                        tracing::error!(%error, "the access log cannot start its thread; requests are not logged");
                        return;
                    }
                }
            }
        }
        self.mode.store(Mode::of(settings).pack(), Ordering::Relaxed);
        self.wake();
    }

    /// Has everything written, and waits for the writer to end: for `patience` at most, because a pipe
    /// that nobody reads must not keep the process alive.
    pub(crate) fn close(&self, patience: Duration) {
        let mut control = self.control();
        control.closing = true;
        if control.writer.is_none() {
            return;
        }
        drop(control);
        self.wake();
        let waited = self.ended.wait_timeout_while(self.control(), patience, |c| !c.ended);
        drop(waited);
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buffer(&self, worker: usize) -> MutexGuard<'_, Vec<u8>> {
        self.buffers[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.dirty.store(true, Ordering::Release);
        if let Some(writer) = &self.control().writer {
            writer.unpark();
        }
    }

    /// Appends a line to the buffer of a worker, or counts it as dropped.
    fn append(&self, worker: usize, line: &[u8]) {
        let (before, after) = {
            let mut buffer = self.buffer(worker);
            let before = buffer.len();
            if before + line.len() > BUFFER_LIMIT {
                drop(buffer);
                self.dropped[worker].add(1);
                return;
            }
            buffer.extend_from_slice(line);
            (before, before + line.len())
        };
        // Waking costs a system call, so only the first line of a batch and the one that fills it do.
        if before == 0 || (before < WAKE_AT && after >= WAKE_AT) {
            self.wake();
        }
    }
}

/// One worker's end of the log.
pub(crate) struct WorkerLog {
    log: Arc<AccessLog>,
    worker: usize,
    state: RefCell<State>,
}

struct State {
    scratch: Vec<u8>,
    clock: clock::Clock,
    /// Second of the last warning, and warnings in it.
    warned: (u64, u32),
    /// Warnings left out since the last one.
    suppressed: u64,
}

impl WorkerLog {
    pub(crate) fn new(log: Arc<AccessLog>, worker: usize) -> Self {
        let state = State { scratch: Vec::new(), clock: clock::Clock::new(), warned: (0, 0), suppressed: 0 };
        Self { log, worker, state: RefCell::new(state) }
    }

    /// True if requests without an error may be logged.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        Mode::unpack(self.log.mode.load(Ordering::Relaxed)).enabled
    }

    /// Logs one request, if it is to be logged.
    #[inline]
    pub(crate) fn write(&self, route: &RouteObserver, record: &Record<'_>) {
        let mode = Mode::unpack(self.log.mode.load(Ordering::Relaxed));
        let error = record.is_error();
        if !mode.enabled {
            if error {
                self.warn(route, record);
            }
            return;
        }
        if error || mode.sampled() {
            self.write_line(mode.format, route, record);
        }
    }

    /// Logs one connection, if it is to be logged. Without an access log, errors go to the diagnostics.
    pub(crate) fn write_connection(&self, route: &RouteObserver, record: &ConnectionRecord<'_>) {
        let mode = Mode::unpack(self.log.mode.load(Ordering::Relaxed));
        match record.failure {
            Some(failure) if !mode.enabled => self.warn_connection(route, record, failure),
            failure if mode.enabled && (failure.is_some() || mode.sampled()) => {
                self.line(|out, time| match mode.format {
                    LogFormat::Json => line::json_connection(out, time, route, record),
                    LogFormat::Text => line::text_connection(out, time, route, record),
                });
            }
            _ => {}
        }
    }

    fn write_line(&self, format: LogFormat, route: &RouteObserver, record: &Record<'_>) {
        self.line(|out, time| match format {
            LogFormat::Json => line::json(out, time, route, record),
            LogFormat::Text => line::text(out, time, route, record),
        });
    }

    /// Appends the line that `write` makes of the time.
    #[inline]
    fn line(&self, write: impl FnOnce(&mut Vec<u8>, &str)) {
        let mut state = self.state.borrow_mut();
        let State { scratch, clock, .. } = &mut *state;
        scratch.clear();
        write(scratch, clock.format(SystemTime::now()));
        self.log.append(self.worker, scratch);
    }

    /// The number of warnings left out since the last one; `None`: this one is left out, too.
    fn may_warn(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut state = self.state.borrow_mut();
        if state.warned.0 != now {
            state.warned = (now, 0);
        }
        if state.warned.1 >= WARNINGS {
            state.suppressed += 1;
            return None;
        }
        state.warned.1 += 1;
        Some(std::mem::take(&mut state.suppressed))
    }

    #[cold]
    fn warn_connection(&self, route: &RouteObserver, record: &ConnectionRecord<'_>, failure: &Failure) {
        let Some(suppressed) = self.may_warn() else { return };
        tracing::warn!(
            direction = route.direction.as_str(),
            upstream = &*route.upstream,
            listener = record.listener,
            peer = %record.peer_address,
            reason = failure.reason.token(),
            details = &*failure.details,
            policy = record.access.policy,
            suppressed,
            "connection failed"
        );
    }

    #[cold]
    fn warn(&self, route: &RouteObserver, record: &Record<'_>) {
        let Some(suppressed) = self.may_warn() else { return };
        tracing::warn!(
            direction = route.direction.as_str(),
            upstream = &*route.upstream,
            route = &*route.route,
            method = %line::bounded(record.method.as_str()),
            path = %line::bounded(record.target),
            status = record.status,
            reason = record.failure.map(|f| f.reason.token()),
            details = record.failure.map(|f| &*f.details),
            request_id = &*String::from_utf8_lossy(record.request_id),
            endpoint = record.endpoint.map(tracing::field::display),
            attempts = record.attempts,
            suppressed,
            "request failed"
        );
    }
}
