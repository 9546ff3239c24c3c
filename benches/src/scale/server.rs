//! The process that is measured: the control plane's index and server, filled from numbers instead of a cluster.
//!
//! Identity is real, too, but for the API server's part: a token is the name of the account that it proves. What it is to do
//! comes on stdin, and its end is the end of stdin.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use k8s_openapi::{
    ByteString,
    api::authentication::v1::{TokenReviewStatus, UserInfo},
};
use outrigger_config::{
    discovery::identity_server::IdentityServer,
    identity::{CONTROL_PLANE_ACCOUNT, POD_NAME_EXTRA, TOKEN_AUDIENCE},
};
use outrigger_control_plane::{
    identity::{Ca, CaWatch, IssueService, ReviewError, Reviewer, serving},
    index::{Event, Index, Object},
    live::Live,
    observe::Metrics,
    serve::{self, Discovery, Limits},
};
use prometheus::{IntCounterVec, Opts};
use tokio::{net::TcpListener, sync::watch};
use tonic::service::Routes;

use super::{
    file,
    world::{self, World},
};
use crate::proc;

/// Which mesh.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Services of the mesh
    #[arg(long)]
    services: u32,
    /// Pods of each
    #[arg(long)]
    pods_each: u32,
    /// The CA's directory
    #[arg(long)]
    ca: PathBuf,
}

/// Serves until stdin ends.
///
/// # Errors
/// It cannot start.
pub fn run(options: &Options) -> Result<()> {
    let empty = proc::resident(std::process::id())?;
    let world = World { services: options.services, pods_each: options.pods_each };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (ca, watched) = watch::channel(Arc::new(authority(options)?));
    let live = load(world, &ca.borrow())?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(serve(listener, Arc::clone(&live), watched));
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{address} {empty}")?;
    stdout.flush()?;
    for line in std::io::stdin().lock().lines() {
        let numbers = line?.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [start, count, rate] = numbers[..] else { anyhow::bail!("not: START COUNT RATE") };
        runtime.spawn(change(Arc::clone(&live), world, start, count, rate));
    }
    runtime.shutdown_background();
    Ok(())
}

fn load(world: World, ca: &Ca) -> Result<Arc<Live>> {
    let mut index = Index::new(world::settings());
    index.set_trust(ca.bundle.to_message());
    for object in world.objects() {
        index.apply(Event::Upsert(object));
    }
    let live = Live::new(index, Metrics::new()?);
    live.complete();
    Ok(live)
}

/// Changes one endpoint after the other, each when it is due; those that are late follow at once.
async fn change(live: Arc<Live>, world: World, start: u64, count: u64, rate: u64) {
    for n in 0..count {
        let due = start + n * 1_000_000_000 / rate;
        let wait = due.saturating_sub(world::clock());
        if wait > 0 {
            tokio::time::sleep(Duration::from_nanos(wait)).await;
        }
        let slice = world.change(u32::try_from(n).unwrap_or_default());
        live.apply(Event::Upsert(Object::Slice(slice)));
    }
}

async fn serve(listener: TcpListener, live: Arc<Live>, ca: CaWatch) -> Result<()> {
    let now = || world::now().unwrap_or_default();
    let services = [CONTROL_PLANE_ACCOUNT];
    let names = serving::ServingNames::of_services(world::MESH_NAMESPACE, world::TRUST_DOMAIN, &services);
    let (serving, renewal) = serving::keep(ca.clone(), names, now)?;
    tokio::spawn(renewal);
    let outcomes = IntCounterVec::new(Opts::new("csr_total", "Certificates"), &["outcome"])?;
    let issue = IssueService::new(Arc::new(Believing), ca, now, outcomes);
    let discovery = Discovery::new(Arc::clone(&live), "scale".into(), Limits::default());
    let routes = Routes::new(discovery).add_service(IdentityServer::new(issue));
    let tls: serve::Tls = Arc::new(move || Arc::clone(&serving.borrow().discovery));
    serve::run(listener, tls, routes, &live, std::future::pending()).await?;
    Ok(())
}

fn authority(options: &Options) -> Result<Ca> {
    let (root, key) = (file(&options.ca, "ca.crt")?, file(&options.ca, "ca.key")?);
    let secret = BTreeMap::from([
        ("tls.crt".to_owned(), ByteString(root.clone())),
        ("tls.key".to_owned(), ByteString(key)),
        ("ca.crt".to_owned(), ByteString(root)),
    ]);
    Ca::read("the CA of the simulation", &secret, None, world::TRUST_DOMAIN, world::now()?).context("reading the CA")
}

/// An API server to which a token `NAMESPACE/ACCOUNT/POD` proves what it says.
struct Believing;

impl Reviewer for Believing {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
        let user = match token.split('/').collect::<Vec<_>>()[..] {
            [namespace, account, pod] => Some(UserInfo {
                username: Some(format!("system:serviceaccount:{namespace}:{account}")),
                extra: Some([(POD_NAME_EXTRA.to_owned(), vec![pod.to_owned()])].into()),
                ..UserInfo::default()
            }),
            _ => None,
        };
        let audiences = Some(vec![TOKEN_AUDIENCE.to_owned()]);
        let status = TokenReviewStatus { authenticated: Some(user.is_some()), audiences, error: None, user };
        Box::pin(async move { Ok(status) })
    }
}
