//! The control thread: everything that is not forwarding, from start to exit.
//!
//! It is the main thread of the process, with a current-thread runtime of its own. It boots the proxy,
//! takes changed files and signals, and runs the resolver and the admin port. It must never be needed
//! to forward a request: workers live from the snapshot alone.
//!
//! Two lines on stderr tell where a proxy listens, also for port 0, and are kept stable for scripts:
//! `listener name=NAME address=ADDR` for each listener and `admin listening address=ADDR`.

mod context;
mod debounce;
pub mod discovered;
mod expiry;
mod leave;
mod limits;
mod pages;
mod reload;
mod signals;
pub mod sources;
mod watch;
pub mod wiring;
mod workers;
mod workload;

use std::{
    future::pending,
    io,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use outrigger_config::{Compiled, Fault, Source};
use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

pub use self::{leave::Leave, signals::Signals};
use self::{signals::Signal, watch::Watch, workers::Workers};
use crate::{
    admin::{self, app::AppEndpoints},
    cli::{self, LogFormat},
    discovery::Routing,
    observe::{
        Observer,
        diagnostics::{FilterError, Handle},
    },
    resolve::{Resolver, Servers, WrongServers},
    shared::{Phase, Shared, Snapshot},
    tls::TlsContexts,
};

/// How long the start waits for the first answers of the resolver. Connections wait in the backlog
/// meanwhile, so that the first requests after a start do not fail for want of an endpoint.
const FIRST_ANSWERS: Duration = Duration::from_millis(500);
/// How long workers have to end once nothing is waited for any more.
const STOP: Duration = Duration::from_secs(1);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum ConfigSource {
    /// Files and directories, read again when they change.
    Files(Vec<PathBuf>),
    /// A text that does not change.
    Text(Source),
}

impl ConfigSource {
    fn load(&self) -> (Vec<Source>, Vec<Fault>) {
        match self {
            Self::Files(paths) => sources::load(paths),
            Self::Text(source) => (vec![source.clone()], Vec::new()),
        }
    }
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is at fault, or an address of it is taken.
    #[error("the configuration has {} fault{}", .0.len(), if .0.len() == 1 { "" } else { "s" })]
    Faults(Vec<Fault>),
    /// The admin port.
    #[error("the admin port cannot listen on {0}: {1}; another address is set by spec.admin.address or --admin")]
    Admin(SocketAddr, #[source] io::Error),
    /// The environment.
    #[error(transparent)]
    Servers(#[from] WrongServers),
    /// The diagnostics.
    #[error("the diagnostics cannot be set up: {0}")]
    Diagnostics(#[from] FilterError),
    /// Threads or signals.
    #[error("the system refuses what the proxy needs: {0}")]
    System(#[from] io::Error),
}

/// How a proxy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Drained, or its bound was reached.
    Done,
    /// A second signal, which had this number.
    Killed(u8),
    /// A worker died.
    Broken,
}

impl Ending {
    /// 0, 128 plus the signal as shells do, or 1.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::from(cli::DONE),
            Self::Killed(signal) => ExitCode::from(128_u8.saturating_add(signal)),
            Self::Broken => ExitCode::from(cli::FOUND_FAULTS),
        }
    }
}

/// Runs a proxy until it ends: the subcommand `run`.
#[must_use]
pub fn run(source: &ConfigSource, format: LogFormat, verbose: u8) -> ExitCode {
    let diagnostics = match wiring::diagnostics(format, verbose, None) {
        Ok(diagnostics) => diagnostics,
        Err(e) => return report(&e),
    };
    let loaded = source.load();
    let known = sources::digest(&loaded, &[]);
    let result = compile(loaded).and_then(|compiled| {
        runtime()?.block_on(async {
            let mut signals = Signals::new()?;
            let watch = match source {
                ConfigSource::Files(paths) => Some(Watch::new(paths.clone(), known)),
                ConfigSource::Text(_) => None,
            };
            let mut proxy = Proxy::start(compiled, diagnostics).await?;
            Ok(proxy.serve(Some(source), watch, &mut signals).await)
        })
    });
    match result {
        Ok(ending) => ending.exit_code(),
        Err(e) => report(&e),
    }
}

/// The runtime of the control thread.
///
/// # Errors
/// The system's.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().thread_name("control").build()
}

/// Says on stderr why a proxy does not start.
pub fn report(error: &StartError) -> ExitCode {
    let mut err = io::stderr();
    if let StartError::Faults(faults) = error {
        cli::print_faults(&mut err, faults);
    }
    cli::say(&mut err, &format!("error: {error}\n"));
    ExitCode::from(cli::FOUND_FAULTS)
}

fn compile((sources, faults): watch::Loaded) -> Result<Compiled, StartError> {
    if faults.is_empty() {
        outrigger_config::compile(&sources).map_err(StartError::Faults)
    } else {
        Err(StartError::Faults(faults))
    }
}

/// A proxy that runs.
pub struct Proxy {
    shared: Arc<Shared>,
    resolver: Resolver,
    workers: Workers,
    admin: SocketAddr,
    /// Notified by the admin port.
    shutdown: Arc<Notify>,
    /// `None`: it is in no pod.
    leave: Option<Leave>,
}

/// What a proxy in a pod has beside documents.
struct InPod {
    routing: Routing,
    app: AppEndpoints,
    leave: Leave,
}

/// Who has told the proxy to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The system, by a signal: the pod ends, or the service is stopped.
    Signal,
    /// The admin port: nothing more is to come.
    Admin,
}

impl Proxy {
    /// Binds, starts workers, admin port and resolver. Returns when requests are taken.
    ///
    /// # Errors
    /// What cannot be bound or started; nothing runs then that outlives the runtime.
    pub async fn start(compiled: Compiled, diagnostics: Handle) -> Result<Self, StartError> {
        Self::start_with(compiled, None, diagnostics, |_, _| {}).await
    }

    /// The same, in a pod. `before` is called before requests are taken.
    async fn start_with(
        compiled: Compiled,
        pod: Option<InPod>,
        diagnostics: Handle,
        before: impl FnOnce(&Arc<Shared>, &Resolver),
    ) -> Result<Self, StartError> {
        match limits::raise_open_files() {
            Ok(limit) => tracing::debug!(limit, "open files"),
            Err(e) => tracing::warn!("the limit on open files stays as it is: {e}"),
        }
        let workers = compiled.model.proxy.workers.map_or_else(limits::default_workers, usize::from).max(1);
        let admin_address = compiled.model.proxy.admin;
        let (routing, app, leave) = match pod {
            Some(InPod { routing, app, leave }) => (Some(routing), app, Some(leave)),
            None => (None, AppEndpoints::default(), None),
        };
        let shared = Shared::start_with(compiled, routing, workers, Observer::new(workers));
        let shared = shared.map_err(StartError::Faults)?;
        let admin_listener = TcpListener::bind(admin_address).await.map_err(|e| StartError::Admin(admin_address, e))?;
        let admin_address = admin_listener.local_addr()?;
        let snapshot = shared.snapshot();
        reload::warn_of(&snapshot.warnings);
        wiring::applied(&shared);

        let resolver = Resolver::start(&shared, Servers::from_env()?);
        shared.set_resolver(resolver.kicker());
        if timeout(FIRST_ANSWERS, resolver.settled()).await.is_err() {
            tracing::warn!("some names are not resolved yet; requests to them fail until they are");
        }
        before(&shared, &resolver);
        let workers = Workers::spawn(&shared)?;
        let shutdown = Arc::new(Notify::new());
        let mut context = context::context(diagnostics, Arc::clone(&shutdown), Arc::clone(&shared));
        context.app = app;
        context.drain = leave.is_some().then_some(Phase::Leaving);
        // Ends with the phase `Stopping`.
        drop(tokio::spawn(admin::serve(admin_listener, Arc::clone(&shared), context)));

        // These run for as long as the process does, and hold nothing that has to be finished.
        drop(tokio::spawn(workload::follow(Arc::clone(&shared))));
        drop(tokio::spawn(expiry::watch(Arc::clone(&shared))));
        drop(tokio::spawn(pages::watch(Arc::clone(&shared))));

        announce(&snapshot, None);
        tracing::info!(address = %admin_address, "admin listening");
        let count = shared.workers;
        tracing::info!(version = snapshot.version, workers = count, upstreams = snapshot.upstreams.len(), "ready");
        Ok(Self { shared, resolver, workers, admin: admin_address, shutdown, leave })
    }

    /// What workers and control thread share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where the admin port listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Runs until it is told to end, then drains; in a pod, once the app is gone ([`leave`]).
    ///
    /// A drain that the admin port was asked for does not end the process: readiness is gone, work in flight
    /// finishes, and a signal or `/shutdown` ends it. That is what a `preStop` hook wants.
    async fn serve(
        &mut self,
        source: Option<&ConfigSource>,
        mut watch: Option<Watch>,
        signals: &mut Signals,
    ) -> Ending {
        let mut phase = self.shared.phase();
        let draining = self.shared.phase();
        let told = loop {
            let snapshot = self.shared.snapshot();
            let named = watch.as_mut().is_some_and(|watch| watch.name(TlsContexts::files(&snapshot.model)));
            if named && snapshot.tls.is_outdated(&snapshot.model) {
                // A file was replaced after it was read and before it was watched: the watch knows the new content
                // only, and would not call it a change.
                let Some(loaded) = again(source, watch.as_mut()) else { continue };
                if reload::reload(&self.shared, loaded) {
                    self.resolver.sync();
                }
            }
            drop(snapshot);
            let loaded = tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload => match again(source, watch.as_mut()) {
                        Some(loaded) => loaded,
                        None => continue,
                    },
                    Signal::End(_) => break Told::Signal,
                },
                loaded = changed(&mut watch) => loaded,
                () = self.shutdown.notified() => break Told::Admin,
                _ = phase.wait_for(|p| *p == Phase::Stopping) => break Told::Admin,
                () = self.workers.any_finished(), if *draining.borrow() < Phase::Draining => {
                    if *draining.borrow() >= Phase::Draining {
                        continue;
                    }
                    tracing::error!("a worker died: this is a bug; the proxy ends");
                    return Ending::Broken;
                }
            };
            if *draining.borrow() >= Phase::Draining {
                tracing::warn!("draining: a changed configuration is not taken over");
            } else if reload::reload(&self.shared, loaded) {
                self.resolver.sync();
            }
        };
        let deadline = self.drain_deadline();
        if let (Some(leave), Told::Signal) = (self.leave.clone().filter(|l| !l.native), told)
            && let Some(ending) = self.outlive_app(&leave, deadline, signals).await
        {
            return ending;
        }
        self.drain_by(deadline, signals).await
    }

    fn drain_deadline(&self) -> Instant {
        Instant::now() + self.shared.snapshot().model.proxy.drain_timeout
    }

    /// Finishes the work in flight, for at most the drain time-out.
    pub async fn drain(&mut self, signals: &mut Signals) -> Ending {
        self.drain_by(self.drain_deadline(), signals).await
    }

    async fn drain_by(&mut self, deadline: Instant, signals: &mut Signals) -> Ending {
        let bound = deadline.saturating_duration_since(Instant::now());
        let mut phase = self.shared.phase();
        self.shared.advance(Phase::Draining);
        let connections = self.shared.open_connections.load(Ordering::Relaxed);
        tracing::info!(connections, timeout = ?bound, "draining");
        tokio::select! {
            () = self.workers.all_finished() => tracing::info!("drained"),
            () = sleep_until(deadline) => {
                let connections = self.shared.open_connections.load(Ordering::Relaxed);
                tracing::warn!(connections, "the drain time-out is over: what is left is cut off");
            }
            _ = phase.wait_for(|p| *p == Phase::Stopping) => tracing::info!("told to stop at once"),
            number = signals.end() => {
                tracing::warn!("second signal: ending at once");
                return Ending::Killed(number);
            }
        }
        self.shared.advance(Phase::Stopping);
        if timeout(STOP, self.workers.all_finished()).await.is_err() {
            tracing::warn!("workers did not end in time");
        }
        wiring::flush(&self.shared);
        Ending::Done
    }
}

/// What is loaded on demand. `None`: the control plane sends what changes without being asked.
fn again(source: Option<&ConfigSource>, watch: Option<&mut Watch>) -> Option<watch::Loaded> {
    watch.map(Watch::load).or_else(|| source.map(ConfigSource::load))
}

async fn changed(watch: &mut Option<Watch>) -> watch::Loaded {
    match watch {
        Some(watch) => watch.changed().await,
        None => pending().await,
    }
}

/// Says where each listener that `before` did not have listens.
fn announce(snapshot: &Snapshot, before: Option<&Snapshot>) {
    for listener in &snapshot.listeners {
        if !before.is_some_and(|b| b.listeners.iter().any(|l| Arc::ptr_eq(l, listener))) {
            tracing::info!(name = %listener.name, address = %listener.local, "listener");
        }
    }
}
