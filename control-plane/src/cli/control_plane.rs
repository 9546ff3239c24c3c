//! `outrigger control-plane`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use outrigger_config::identity::DEFAULT_TRUST_DOMAIN;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::{DONE, Global, LogFormat, Usage};
use crate::{
    inject,
    run::{self, Options},
};

/// Run the control plane: watch the cluster, feed the proxies, issue identities
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to reach the API server [default: the service account of the pod]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane itself; a MeshPolicy there holds for the whole mesh
    #[arg(long, env = "POD_NAMESPACE", default_value = "outrigger-system")]
    namespace: String,
    /// Trust domain of all identities: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, env = "OUTRIGGER_TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,
    /// What names of Services end with
    #[arg(long, env = "OUTRIGGER_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Where proxies connect to: discovery and identity
    #[arg(long, env = "OUTRIGGER_DISCOVERY_ADDRESS", default_value = "0.0.0.0:9980", value_name = "ADDR")]
    discovery_address: SocketAddr,
    /// Where the API server connects to: admission
    #[arg(long, env = "OUTRIGGER_WEBHOOK_ADDRESS", default_value = "0.0.0.0:9443", value_name = "ADDR")]
    webhook_address: SocketAddr,
    /// Health, metrics, and who is connected
    #[arg(long, env = "OUTRIGGER_ADMIN_ADDRESS", default_value = "0.0.0.0:9981", value_name = "ADDR")]
    admin_address: SocketAddr,
    /// Name of this replica [default: the host's name]
    #[arg(long, env = "POD_NAME")]
    name: Option<String>,
    /// Secret with the CA: tls.crt, tls.key, ca.crt
    #[arg(long, env = "OUTRIGGER_CA_SECRET", default_value = "outrigger-ca", value_name = "NAME")]
    ca_secret: String,
    /// ConfigMap whose ca.crt has more roots to trust, while a root is replaced
    #[arg(long, env = "OUTRIGGER_CA_ROOTS", default_value = "outrigger-roots", value_name = "NAME")]
    ca_roots: String,
    /// Do not make a CA where there is none: somebody else brings it
    #[arg(long, env = "OUTRIGGER_CA_EXTERNAL")]
    ca_external: bool,
    /// Services by whose names the control plane is called; they go into its certificate
    #[arg(
        long,
        env = "OUTRIGGER_SERVICES",
        value_delimiter = ',',
        default_value = "outrigger-control-plane,outrigger-webhook",
        value_name = "NAME"
    )]
    service: Vec<String>,
    /// Lease by which replicas agree on who writes status
    #[arg(long, env = "OUTRIGGER_LEASE", default_value = "outrigger-control-plane", value_name = "NAME")]
    lease: String,
    /// ValidatingWebhookConfiguration and MutatingWebhookConfiguration whose caBundle is kept up to date
    #[arg(long, env = "OUTRIGGER_WEBHOOK_NAME", default_value = "outrigger", value_name = "NAME")]
    webhook_name: String,
    #[command(flatten)]
    injection: inject::Flags,
}

pub(crate) fn run(args: &Args, global: Global) -> Result<u8> {
    let options = options(args)?;
    log(global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("outrigger")
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(run::run(options));
    // What still runs has nothing to finish.
    runtime.shutdown_background();
    outcome?;
    Ok(DONE)
}

fn options(args: &Args) -> Result<Options> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let name = args.name.clone().unwrap_or_else(host);
    let injection = args.injection.settings(&args.namespace, &args.trust_domain, &args.cluster_domain);
    Ok(Options {
        kubeconfig: args.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
        namespace: args.namespace.clone(),
        trust_domain: args.trust_domain.clone(),
        cluster_domain: args.cluster_domain.clone(),
        discovery: args.discovery_address,
        webhook: args.webhook_address,
        admin: args.admin_address,
        name: if name.is_empty() { "outrigger-control-plane".to_owned() } else { name },
        ca_secret: args.ca_secret.clone(),
        ca_roots: args.ca_roots.clone(),
        ca_create: !args.ca_external,
        services: args.service.clone(),
        lease: args.lease.clone(),
        webhook_name: args.webhook_name.clone(),
        injection: injection.map_err(|error| Usage(error.to_string()))?,
        native_sidecars: args.injection.native_sidecars,
    })
}

/// Diagnostics go to stderr; `RUST_LOG` says more precisely than `-v` what is wanted.
fn log(global: Global) -> Result<()> {
    let level = match global.verbose {
        0 => "info",
        1 => "outrigger_control_plane=debug,info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match global.log_format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(lines.json()).try_init(),
    }
    .context("setting up the log")
}

const EXAMPLES: &str = "Examples:
  outrigger control-plane                                    in a pod, as the chart runs it
  outrigger control-plane --kubeconfig ~/.kube/config        on your own machine, against a cluster
  outrigger control-plane --kubeconfig k --namespace mesh --discovery-address 127.0.0.1:9980 -v

Ports: 9980 proxies, 9443 admission, 9981 health (/readyz?verbose), /metrics, /proxies, /explain.
It ends on SIGTERM, after it has sent its proxies to other replicas.";
