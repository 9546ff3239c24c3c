//! One worker: a thread with its own reactor, listeners, pools and random numbers. Nothing that a request
//! writes is shared with another worker.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::Shutdown,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
    time::Duration,
};

use outrigger_config::model::Direction;
use socket2::SockRef;
use tokio::{
    runtime::LocalOptions,
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{connection, http1::Places, scratch, view::View};
use crate::{
    buffer, clock,
    inflight::Seat,
    io::{Backlog, register_late},
    observe::{ConnectionObserver, Side, WorkerObserver},
    shared::{BoundListener, Phase, Shared},
};

/// How often idle upstream connections, and what is kept for the next requests, are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// Pause of accepting when the process is out of file descriptors or memory: long enough for connections
/// to end, short enough that nobody's SYN is sent twice.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// State of one worker thread.
pub struct Worker {
    /// Which one.
    pub index: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// This worker's metrics.
    pub observer: Rc<WorkerObserver>,
    /// Where its inbound requests in flight are noted.
    pub inflight: Rc<Seat>,
    /// Random numbers for choices that need not be secret.
    pub rng: RefCell<fastrand::Rng>,
    /// Where the requests of HTTP/1 clients are served.
    pub(super) places: Places,
    /// Counters of connections, by direction, side and security.
    connections: [OnceCell<ConnectionObserver>; 8],
    view: RefCell<Rc<View>>,
    /// That of the view ([`View::rulings`]).
    rulings: Cell<u64>,
    phase: Cell<Phase>,
    /// Tasks of client connections, to be woken when the phase changes.
    wakers: RefCell<Wakers>,
    /// Tasks of HTTP/2 streams, to be woken when what decides on access changes.
    streams: RefCell<Wakers>,
    listeners: RefCell<HashMap<Arc<str>, Accepting>>,
}

/// A listener and the task that accepts on it.
type Accepting = (Arc<BoundListener>, Rc<Notify>);

#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Tasks that accept connections.
    accepting: usize,
    /// Who waits for the last connection to end.
    drained: Option<Waker>,
}

/// A client connection that is open: counted, and woken when the proxy drains.
pub struct Registered {
    worker: Rc<Worker>,
    bound: Arc<BoundListener>,
    slot: usize,
}

/// An HTTP/2 stream that is open: woken when what decides on access changes.
pub struct Stream {
    worker: Rc<Worker>,
    slot: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.worker.streams.borrow_mut().remove(self.slot);
    }
}

/// Runs worker `index` until the phase says that it is over.
///
/// # Errors
/// The reactor cannot be made.
pub fn run(index: usize, shared: Arc<Shared>) -> io::Result<()> {
    // Not a `LocalSet` on a runtime: that is a second scheduler, whose every turn polls the future below.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async move { Worker::new(index, shared).follow().await });
    Ok(())
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let observer = shared.observer.worker(index);
        let view = View::new(shared.snapshot(), &observer, index, None);
        let phase = *shared.phase().borrow();
        Rc::new(Self {
            index,
            inflight: shared.inflight.seat(index),
            shared,
            observer,
            rng: RefCell::new(fastrand::Rng::new()),
            places: Places::default(),
            connections: [const { OnceCell::new() }; 8],
            view: RefCell::new(Rc::new(view)),
            rulings: Cell::new(0),
            phase: Cell::new(phase),
            wakers: RefCell::default(),
            streams: RefCell::default(),
            listeners: RefCell::default(),
        })
    }

    /// The configuration for a request that starts now.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// The counters of connections of one kind.
    #[must_use]
    pub fn connections(&self, direction: Direction, side: Side, tls: bool) -> ConnectionObserver {
        let index = usize::from(direction == Direction::Outbound) << 2
            | usize::from(side == Side::Upstream) << 1
            | usize::from(tls);
        self.connections[index].get_or_init(|| self.observer.connections(direction, side, tls)).clone()
    }

    /// Counts the changes of what access is decided by.
    #[inline]
    #[must_use]
    pub fn rulings(&self) -> u64 {
        self.rulings.get()
    }

    /// Registers the stream of the running task.
    pub async fn stream(self: &Rc<Self>) -> Stream {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let slot = self.streams.borrow_mut().insert(waker);
        Stream { worker: Rc::clone(self), slot }
    }

    /// True once clients of this side are asked to go elsewhere. In a pod that ends, that is the inbound side first.
    #[must_use]
    pub fn draining(&self, direction: Direction) -> bool {
        match self.phase.get() {
            Phase::Serving => false,
            Phase::Leaving => direction == Direction::Inbound,
            Phase::Draining | Phase::Stopping => true,
        }
    }

    /// True once the proxy takes no more connections.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.phase.get() >= Phase::Draining
    }

    /// Follows snapshots and phases; returns when all work is done or must end.
    async fn follow(self: &Rc<Self>) {
        let mut changes = self.shared.changes();
        let mut phases = self.shared.phase();
        // What came before this subscription is no change to it.
        self.phase.set(*phases.borrow_and_update());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::task::spawn_local(register_late());
        self.take_snapshot();
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.take_snapshot(),
                    Err(_) => return,
                },
                changed = phases.changed() => {
                    let phase = *phases.borrow_and_update();
                    self.enter(if changed.is_ok() { phase } else { Phase::Stopping });
                }
                now = sweep.tick() => self.sweep(now),
                () = self.drained() => return,
            }
            if self.phase.get() == Phase::Stopping {
                return;
            }
        }
    }

    /// Uses the snapshot in force now, if the news of it has not been read yet.
    pub fn catch_up(self: &Rc<Self>) {
        if self.shared.version() != self.view.borrow().snapshot.version {
            self.take_snapshot();
        }
    }

    fn take_snapshot(self: &Rc<Self>) {
        let old = self.view();
        let snapshot = self.shared.snapshot();
        if snapshot.version != old.snapshot.version {
            let view = View::new(snapshot, &self.observer, self.index, Some(&old));
            old.retire(&view);
            let changed = self.rulings.replace(view.rulings) != view.rulings;
            self.view.replace(Rc::new(view));
            if changed {
                // What is open is judged again, each by its own task.
                self.wakers.borrow().wake();
                self.streams.borrow().wake();
            }
        }
        self.listen();
    }

    /// Starts accepting on what is new, and stops on what is gone. Connections stay.
    fn listen(self: &Rc<Self>) {
        let view = self.view();
        let mut listeners = self.listeners.borrow_mut();
        let listening: Vec<_> = listeners.keys().cloned().collect();
        listeners.retain(|_, (bound, stop)| {
            let stays = !self.closing() && view.snapshot.listeners.iter().any(|b| Arc::ptr_eq(b, bound));
            if !stays {
                stop.notify_one();
            }
            stays
        });
        if self.closing() {
            // Nobody has begun to accept on what came after the drain did.
            for bound in &view.snapshot.listeners {
                if listening.iter().all(|name| *name != bound.name) {
                    drop(SockRef::from(&bound.sockets[self.index]).shutdown(Shutdown::Read));
                }
            }
            return;
        }
        for bound in &view.snapshot.listeners {
            if listeners.contains_key(&bound.name) {
                continue;
            }
            match bound.sockets[self.index].try_clone().and_then(Backlog::new) {
                Ok(backlog) => {
                    let stop = Rc::new(Notify::new());
                    let accepting = accept(Rc::clone(self), Arc::clone(bound), backlog, Rc::clone(&stop));
                    let worker = Rc::clone(self);
                    self.wakers.borrow_mut().accepting += 1;
                    tokio::task::spawn_local(async move {
                        accepting.await;
                        worker.wakers.borrow_mut().stopped();
                    });
                    listeners.insert(Arc::clone(&bound.name), (Arc::clone(bound), stop));
                }
                Err(error) => tracing::error!(listener = &*bound.name, %error, "cannot accept on a listener"),
            }
        }
    }

    fn enter(self: &Rc<Self>, phase: Phase) {
        self.phase.set(phase);
        self.listen();
        self.wakers.borrow_mut().wake();
    }

    /// Ready once the proxy drains and the last connection has ended.
    async fn drained(&self) {
        poll_fn(|cx| {
            let mut wakers = self.wakers.borrow_mut();
            if self.closing() && wakers.busy() == 0 {
                return Poll::Ready(());
            }
            wakers.drained = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn sweep(&self, now: Instant) {
        for upstream in self.view().upstreams() {
            upstream.sweep(now);
        }
        self.places.trim();
        buffer::trim();
        scratch::trim();
    }

    /// Registers the connection of the running task.
    async fn register(self: &Rc<Self>, bound: Arc<BoundListener>) -> Registered {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let slot = self.wakers.borrow_mut().insert(waker);
        Registered { worker: Rc::clone(self), bound, slot }
    }
}

impl Wakers {
    fn insert(&mut self, waker: Waker) -> usize {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some(waker);
            return slot;
        }
        self.slots.push(Some(waker));
        self.slots.len() - 1
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
        self.settle();
    }

    fn stopped(&mut self) {
        self.accepting -= 1;
        self.settle();
    }

    fn settle(&self) {
        if self.busy() == 0
            && let Some(waker) = &self.drained
        {
            waker.wake_by_ref();
        }
    }

    /// Connections that are open, and tasks that might bring more of them.
    fn busy(&self) -> usize {
        self.slots.len() - self.free.len() + self.accepting
    }

    fn wake(&self) {
        self.slots.iter().flatten().chain(&self.drained).for_each(Waker::wake_by_ref);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.wakers.borrow_mut().remove(self.slot);
        self.bound.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.shared.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections of one listener until it is told to stop.
async fn accept(worker: Rc<Worker>, bound: Arc<BoundListener>, backlog: Backlog, stop: Rc<Notify>) {
    let mut stopping = false;
    loop {
        let accepted = if stopping {
            // What waits in the backlog was promised to be served: closing now would reset it. Accepting goes on
            // until the kernel says that nothing waits; the reactor knows only what waited when it last looked.
            backlog.accept_now()
        } else {
            tokio::select! {
                biased;
                accepted = poll_fn(|cx| backlog.poll_accept(cx)) => accepted,
                () = stop.notified() => {
                    stopping = true;
                    continue;
                }
            }
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(listener = &*bound.name, %error, "accepting pauses: {NEXT_STEP}");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
            Err(error) if stopping && error.kind() != io::ErrorKind::ConnectionAborted => break,
            // The client went away before it was accepted (ECONNABORTED and its kin, accept(2)).
            Err(_) => continue,
        };
        let limit = worker.view().listener(0, &bound.name).map_or(0, |l| l.limits.max_connections);
        let open = bound.connections.fetch_add(1, Ordering::Relaxed);
        bound.accepted.fetch_add(1, Ordering::Relaxed);
        worker.shared.open_connections.fetch_add(1, Ordering::Relaxed);
        let (worker, bound) = (Rc::clone(&worker), Arc::clone(&bound));
        tokio::task::spawn_local(async move {
            let whole = std::pin::pin!(async move {
                let registered = worker.register(Arc::clone(&bound)).await;
                if open < limit {
                    connection::serve(worker, bound, tcp, peer).await;
                } else {
                    Box::pin(connection::refuse(&worker, &bound, tcp)).await;
                }
                drop(registered);
            });
            clock::per_poll(whole).await;
        });
    }
    // The snapshot, and connections of this listener, still hold descriptors of this socket: it ends for
    // all of them. A socket that is not listening any more has ended already.
    drop(SockRef::from(backlog.socket()).shutdown(Shutdown::Read));
}

const NEXT_STEP: &str = "raise the limit on open files (ulimit -n) or lower maxConnections of the listeners";

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
