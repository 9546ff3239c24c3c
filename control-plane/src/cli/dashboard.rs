//! `outrigger dashboard`: the page of a proxy, or of the control plane, in a browser.
//!
//! A proxy's page shows what only its own host may see, so in a cluster a port of this machine's loopback is forwarded to
//! the pod, as kubectl does it. That port is open to all who are on this machine for as long as the command runs, which it says.

use std::{
    io::IsTerminal as _,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use outrigger_config::identity::CONTROL_PLANE_ACCOUNT;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Duration, timeout},
};

use super::{
    DONE, LogFormat,
    cluster::chain,
    print,
    reach::{Proxy, Target},
    say,
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only print the address
    #[arg(long)]
    no_open: bool,
    /// Port of this machine's loopback that leads to the page [default: a free one]
    #[arg(long, default_value_t = 0, value_name = "PORT", hide_default_value = true)]
    port: u16,
}

/// The admin port of the control plane.
const CONTROL_PLANE_PORT: u16 = 9981;

/// Connections that are forwarded at once: a browser makes six to one place.
const CONNECTIONS: usize = 32;

/// For the first answer through a new way.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Args, log: LogFormat) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(show(args, log))
}

async fn show(args: &Args, log: LogFormat) -> Result<u8> {
    if let Some(address) = args.target.admin() {
        let proxy = Proxy::Admin(address.to_owned());
        proxy.get("/livez").await.map_err(|e| anyhow!("{address}: {e}"))?;
        let url = format!("http://{address}/");
        print(&format!("{url}\n"))?;
        open(args, &url, log);
        return Ok(DONE);
    }
    let proxy = chosen(args, log).await?;
    // Before anybody waits for a page that does not come.
    let first = timeout(PATIENCE, proxy.connect()).await;
    drop(
        first
            .map_err(|_| anyhow!("{proxy}: no connection within {} s", PATIENCE.as_secs()))?
            .map_err(|e| anyhow!("{proxy}: {e}"))?,
    );
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))).await;
    let listener = listener.with_context(|| format!("port {} of this machine", args.port))?;
    let url = format!("http://{}/", listener.local_addr()?);
    print(&format!("{url}\n"))?;
    say(log, "info", &format!("the page of {proxy}, open to all on this machine until Ctrl-C"));
    open(args, &url, log);
    tokio::select! {
        forwarded = forward(listener, proxy, log) => forwarded,
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| DONE).context("waiting for Ctrl-C"),
    }
}

/// The proxy that is meant; without a target the control plane.
async fn chosen(args: &Args, log: LogFormat) -> Result<Proxy> {
    if args.target.is_open() {
        return control_plane(args).await;
    }
    let proxies = args.target.proxies().await?;
    let mut proxies = proxies.into_iter();
    let first = proxies.next().context("at least one proxy")?;
    let more = proxies.len();
    if more > 0 {
        say(log, "info", &format!("{more} more proxies are meant; this is the page of {first}"));
    }
    Ok(first)
}

/// A running replica.
async fn control_plane(args: &Args) -> Result<Proxy> {
    let cluster = args.target.cluster();
    let client = cluster
        .client()
        .await
        .map_err(|e| anyhow!("{e}; `outrigger check` says what to do, --admin ADDR opens one proxy's"))?;
    let namespace = cluster.mesh_namespace.clone();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let running =
        ListParams::default().fields(&format!("status.phase=Running,spec.serviceAccountName={CONTROL_PLANE_ACCOUNT}"));
    let found =
        pods.list(&running).await.map_err(|e| anyhow!("pods of {namespace} cannot be listed: {}", chain(&e)))?;
    let ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    let pod = found.items.iter().find(ready).or(found.items.first());
    let name = pod.and_then(|pod| pod.metadata.name.clone()).ok_or_else(|| {
        anyhow!("no replica of the control plane runs in {namespace}: name its namespace with --mesh-namespace, or a proxy with deploy/NAME")
    })?;
    Ok(Proxy::Pod { client, namespace, name, port: CONTROL_PLANE_PORT })
}

/// Every connection becomes one to the pod, until the listener fails.
async fn forward(listener: TcpListener, proxy: Proxy, log: LogFormat) -> Result<u8> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.context("nobody closes the semaphore")?;
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let proxy = proxy.clone();
        tokio::spawn(async move {
            if let Err(why) = pass(stream, &proxy).await {
                say(log, "warning", &format!("{proxy}: {why}"));
            }
            drop(place);
        });
    }
}

async fn pass(mut stream: TcpStream, proxy: &Proxy) -> Result<(), String> {
    let mut way = timeout(PATIENCE, proxy.connect()).await.map_err(|_| "no connection in time".to_owned())??;
    // How a connection of a browser ends is the browser's affair.
    drop(copy_bidirectional(&mut stream, &mut way).await);
    Ok(())
}

/// Opens the address in a browser: `$BROWSER`, or what the desktop has.
fn open(args: &Args, url: &str, log: LogFormat) {
    let named = std::env::var("BROWSER").ok().filter(|b| !b.trim().is_empty());
    // Where nobody looks, nothing is opened, unless a browser is named.
    if args.no_open || (named.is_none() && !std::io::stdout().is_terminal()) {
        return;
    }
    let candidates = named.map_or_else(|| vec!["xdg-open".to_owned(), "open".to_owned()], |b| vec![b]);
    let started = candidates.iter().any(|program| {
        let mut words = program.split_whitespace();
        let Some(name) = words.next() else { return false };
        let mut command = Command::new(name);
        command.args(words).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    });
    if !started {
        say(log, "warning", "no browser starts (set BROWSER to one): open the address yourself");
    }
}

const EXAMPLES: &str = "Examples:
  outrigger dashboard                        the control plane's page
  outrigger dashboard deploy/orders -n shop  the page of one of its proxies
  outrigger dashboard --admin 127.0.0.1:9990 the page of a proxy that needs no cluster
  outrigger dashboard --no-open              only print the address, and forward until Ctrl-C";
