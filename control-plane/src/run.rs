//! `outrigger control-plane`: everything wired together, from the first request to the API server to the last proxy sent elsewhere.
//!
//! Ports are bound first, so that what cannot run says so at once. Then everything starts on its own and waits for what it
//! needs: the API server may be away when we start, as at any later time. Ready means that a proxy would be told the truth: every kind
//! has been listed and there is a CA. On SIGTERM readiness ends, proxies are sent elsewhere over a spread, and the program ends with 0.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use outrigger_config::{Cluster, discovery::identity_server::IdentityServer, spiffe::check_trust_domain};
use prometheus::{IntCounterVec, Opts};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::service::Routes;

use crate::{
    admin::{self, Admin},
    admission::{self, Injector, Reviewers, WebhookBundle},
    identity::{ApiServer, CaSource, CaWatch, IssueService, TrustPublisher, serving},
    index::{Index, Settings},
    inject,
    live::Live,
    observe::Metrics,
    publish::{Publisher, lease::Elector, refusals::Exchange},
    serve::{self, Discovery, Limits},
    watch::{self as watches, chain},
};

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Instead of the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// The control plane's own.
    pub namespace: String,
    /// Of all identities.
    pub trust_domain: String,
    /// Of names of Services.
    pub cluster_domain: String,
    /// Discovery and identity, gRPC.
    pub discovery: SocketAddr,
    /// Admission.
    pub webhook: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// Of this replica.
    pub name: String,
    /// Secret of the CA.
    pub ca_secret: String,
    /// ConfigMap with additional roots.
    pub ca_roots: String,
    /// Make a CA if there is none.
    pub ca_create: bool,
    /// Services by whose names the control plane is called.
    pub services: Vec<String>,
    /// The Lease of the election.
    pub lease: String,
    /// The configurations of webhooks, one of each kind, whose `caBundle` is kept up to date.
    pub webhook_name: String,
    /// What injected proxies are like.
    pub injection: inject::Settings,
    /// Whether they are native sidecars.
    pub native_sidecars: inject::NativeSidecars,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// How to reach the API server.
    #[error("{0}")]
    Kubeconfig(String),
    /// An address that is taken, or is none of this host's.
    #[error("cannot listen on {address} for {purpose}: {error}; choose another with {flag}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// For what.
        purpose: &'static str,
        /// How to change it.
        flag: &'static str,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// A name that is none.
    #[error("--trust-domain {0:?}: {1}")]
    TrustDomain(String, outrigger_config::spiffe::IdError),
    /// The CA signs nothing for ourselves.
    #[error("the control plane's own certificate cannot be made: {0}")]
    Certificate(#[from] crate::ca::CaError),
    /// A family twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// gRPC.
    #[error("the discovery server ended: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Runs until SIGTERM, SIGINT or `POST /shutdown`.
///
/// # Errors
/// It cannot start, or its server ended by itself.
pub async fn run(options: Options) -> Result<(), RunError> {
    check_trust_domain(&options.trust_domain).map_err(|e| RunError::TrustDomain(options.trust_domain.clone(), e))?;
    let client = client(&options).await?;
    let discovery_port = listen(options.discovery, "discovery", "--discovery-address").await?;
    let webhook_port = listen(options.webhook, "webhook", "--webhook-address").await?;
    let admin_port = listen(options.admin, "admin", "--admin-address").await?;
    let metrics = Metrics::new()?;
    let live = Live::new(Index::new(settings(&options)), Arc::clone(&metrics));
    let discovery = Discovery::new(Arc::clone(&live), options.name.clone(), Limits::default());
    let (elector, leads) = Elector::new(client.clone(), &options.namespace, &options.lease, &options.name);
    let (identity_there, identity) = watch::channel(false);
    let (stopping, stopped) = watch::channel(false);
    let shutdown = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let admin = Admin {
        live: Arc::clone(&live),
        proxies: Arc::clone(discovery.proxies()),
        replica: options.name.clone(),
        leads: leads.clone(),
        identity,
        stopping: stopped.clone(),
        shutdown: Arc::clone(&shutdown),
        started: Instant::now(),
    };
    tasks.spawn(admin::serve(admin_port, Arc::new(admin)));
    let (updates, watching) = watches::start(&client, &metrics);
    tasks.spawn(Arc::clone(&live).follow(updates));
    tasks.spawn(Publisher::new(client.clone(), Arc::clone(&live)).run(leads.clone()));
    let exchange = Exchange::new(client.clone(), &options.namespace, Arc::clone(&live), &options.name);
    tasks.spawn(exchange.run(leads.clone()));
    let election = tokio::spawn({
        let (metrics, stopped) = (Arc::clone(&metrics), stopped.clone());
        async move { elector.run(&metrics, is_set(stopped)).await }
    });

    let ended = tokio::select! {
        ended = Server { options: &options, client, live, discovery: discovery.clone(), leads, identity_there }
            .run(discovery_port, webhook_port, &mut tasks, stopped) => ended,
        () = stop(&shutdown, &discovery, &stopping) => Ok(()),
    };
    stopping.send_replace(true);
    drop(watching);
    if timeout(GIVE_BACK, election).await.is_err() {
        tracing::debug!("the Lease was not given back in time");
    }
    tasks.shutdown().await;
    ended
}

/// For the Lease.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// Until the CA is tried again.
const CA_RETRY: Duration = Duration::from_secs(1);

/// Waits for the signal, and then for the proxies to go.
async fn stop(shutdown: &Notify, discovery: &Discovery, stopping: &watch::Sender<bool>) {
    tokio::select! {
        () = signal() => {}
        () = shutdown.notified() => {}
    }
    stopping.send_replace(true);
    let proxies = discovery.proxies().len();
    let time = discovery.stop();
    tracing::info!(proxies, ?time, "stopping: proxies are sent elsewhere");
    let gone = async {
        while !discovery.proxies().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(time, gone).await.is_err() {
        tracing::debug!("some proxies did not go by themselves");
    }
}

/// What needs the CA.
struct Server<'a> {
    options: &'a Options,
    client: Client,
    live: Arc<Live>,
    discovery: Discovery,
    leads: watch::Receiver<bool>,
    identity_there: watch::Sender<bool>,
}

impl Server<'_> {
    async fn run(
        self,
        port: TcpListener,
        webhook: TcpListener,
        tasks: &mut JoinSet<()>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        let ca = self.authority(tasks).await;
        let names = serving::ServingNames::of_services(
            &self.options.namespace,
            &self.options.cluster_domain,
            &self.options.services.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let (serving, renewal) = serving::keep(ca.clone(), names, crate::cli::now)?;
        tasks.spawn(renewal);
        tasks.spawn(trust(Arc::clone(&self.live), ca.clone()));
        let namespaces = self.live.namespaces();
        tasks.spawn(TrustPublisher::new(self.client.clone(), ca.clone()).run(self.leads.clone(), namespaces));
        for bundle in [WebhookBundle::new, WebhookBundle::mutating] {
            tasks.spawn(bundle(self.client.clone(), self.options.webhook_name.clone(), ca.clone()).run());
        }
        tasks.spawn(admission::serve(webhook, serving.clone(), self.reviewers()?, stopped.clone()));
        let outcomes = IntCounterVec::new(
            Opts::new("outrigger_control_plane_csr_total", "Certificates asked for, by what came of it"),
            &["outcome"],
        )?;
        self.live.metrics.register(Box::new(outcomes.clone()))?;
        let issue = IssueService::new(Arc::new(ApiServer::new(self.client.clone())), ca, crate::cli::now, outcomes);
        let routes = Routes::new(self.discovery.clone()).add_service(IdentityServer::new(issue));
        self.identity_there.send_replace(true);
        let tls = Arc::new(move || Arc::clone(&serving.borrow().discovery));
        serve::run(port, tls, routes, &self.live, is_set(stopped)).await?;
        Ok(())
    }

    /// Who answers the API server.
    fn reviewers(&self) -> Result<Reviewers, prometheus::Error> {
        let Options { injection, native_sidecars, .. } = self.options;
        let live = Arc::clone(&self.live);
        let injector = Injector::new(self.client.clone(), live, injection.clone(), *native_sidecars)?;
        self.live.metrics.register(injector.metric())?;
        Ok(Reviewers { cluster: cluster(self.options), injector: Some(Arc::new(injector)) })
    }

    /// The CA, however long it takes: the API server may be away.
    async fn authority(&self, tasks: &mut JoinSet<()>) -> CaWatch {
        let source = CaSource {
            client: self.client.clone(),
            namespace: self.options.namespace.clone(),
            secret: self.options.ca_secret.clone(),
            extra_roots: self.options.ca_roots.clone(),
            trust_domain: self.options.trust_domain.clone(),
            create: self.options.ca_create,
            clock: crate::cli::now,
        };
        let mut told = String::new();
        loop {
            match source.clone().open().await {
                Ok((keeper, ca)) => {
                    tasks.spawn(keeper.run());
                    return ca;
                }
                Err(error) => {
                    let message = error.to_string();
                    if message != told {
                        tracing::error!("no certificate can be issued yet: {message}");
                        told = message;
                    }
                    sleep(CA_RETRY.mul_f64(0.5 + fastrand::f64())).await;
                }
            }
        }
    }
}

/// Tells proxies which roots to trust, now and when they change.
async fn trust(live: Arc<Live>, mut ca: CaWatch) {
    loop {
        let bundle = ca.borrow_and_update().bundle.to_message();
        live.set_trust(bundle);
        if ca.changed().await.is_err() {
            return;
        }
    }
}

async fn is_set(mut flag: watch::Receiver<bool>) {
    // A sender that is gone will set nothing: the program ends.
    drop(flag.wait_for(|set| *set).await);
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::warn!("signals cannot be received: end the program by POST /shutdown");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// The cluster that documents are judged for, which is no pod's in particular.
fn cluster(options: &Options) -> Cluster {
    Cluster {
        domain: options.cluster_domain.as_str().into(),
        mesh_namespace: options.namespace.as_str().into(),
        ..Cluster::default()
    }
}

fn settings(options: &Options) -> Settings {
    Settings {
        trust_domain: options.trust_domain.clone(),
        cluster_domain: options.cluster_domain.clone(),
        mesh_namespace: options.namespace.clone(),
    }
}

async fn listen(address: SocketAddr, purpose: &'static str, flag: &'static str) -> Result<TcpListener, RunError> {
    let failed = |error| RunError::Listen { address, purpose, flag, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    // Which port it became, where port 0 was asked for.
    tracing::info!("{purpose} listening address={}", listener.local_addr().map_err(failed)?);
    Ok(listener)
}

async fn client(options: &Options) -> Result<Client, RunError> {
    let failed = |why: String| RunError::Kubeconfig(why);
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let shown = path.display();
            let file = Kubeconfig::read_from(path)
                .map_err(|e| failed(format!("the kubeconfig {shown} cannot be used: {}", chain(&e))))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|e| failed(format!("the kubeconfig {shown} cannot be used: {}", chain(&e))))?
        }
        None => Config::incluster().map_err(|e| {
            failed(format!(
                "this is not a pod with a service account ({}): outside of a cluster give --kubeconfig FILE, \
                 for example --kubeconfig ~/.kube/config",
                chain(&e)
            ))
        })?,
    };
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    Client::try_from(config).map_err(|e| failed(format!("no client for the API server: {}", chain(&e))))
}

/// To the API server. An address that swallows packets must not hold a watch for half a minute.
const CONNECT: Duration = Duration::from_secs(5);
