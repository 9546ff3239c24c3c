//! The control plane at scale: 10,000 Services, 100,000 pods, 5,000 proxies, 100 changes of endpoints a second.
//!
//! The index and the server are the control plane's own, in a process of its own ([`server`]) so that memory and CPU time
//! are nobody else's; only the watches are missing, whose events the process makes itself. The proxies are 5,000 streams
//! of this process (`subscribers`), each over its own TCP connection and TLS handshake, with the certificate of the pod's
//! service account. Every change puts an address into a slice that is in no other, and is measured from when it was due until a
//! proxy has decoded it, by the clock that all processes of a machine share.
//!
//! Then real proxies (`proxies`) use ten Services of the large mesh and of a mesh that has no others.

mod child;
mod proxies;
mod report;
pub mod server;
mod subscribers;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use outrigger_control_plane::ca::Store;

use self::{child::Child, report::Served, subscribers::Subscribers, world::World};
use crate::{proc, stats::Summary};

/// How large, and how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Services of the mesh
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub services: u32,
    /// Pods of the mesh, the same number behind each Service
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub pods: u32,
    /// Connected proxies, each of another pod
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    pub subscribers: u32,
    /// Names of Services that each proxy asks for
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub keys_per_subscriber: u32,
    /// Changes of an endpoint
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub changes_per_second: u32,
    /// For how long endpoints change
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// 200 Services, 2,000 pods, 50 proxies, 3 s, only to see that it works
    #[arg(long)]
    pub smoke: bool,
    /// The `outrigger-proxy` binary
    #[arg(long, default_value = "target/release/outrigger-proxy")]
    pub proxy: PathBuf,
    /// Where the CA and the logs are written
    #[arg(long, default_value = "target/bench-scale")]
    pub work: PathBuf,
}

/// Turns of each of the two proxies.
const TURNS: usize = 3;
/// Services of the small mesh, which are those that proxies use of the large one.
const USED: u32 = 10;

/// Measures, and prints the tables.
///
/// # Errors
/// Something does not start, or a proxy is not told of a change.
pub fn run(options: &Options) -> Result<()> {
    let large = large(options);
    fs::create_dir_all(&options.work)?;
    let work = fs::canonicalize(&options.work)?;
    let ca = Store::init(&work.join("ca"), world::TRUST_DOMAIN, world::DAY, true, world::now()?)?;
    println!("Machine: {}.\n", proc::machine());
    let turns = if options.smoke { 1 } else { TURNS };
    let server = Child::start(large.world, &work)?;
    let served = large.serve(&server, &ca)?;
    print!("{}", served.table());
    let small = World { services: USED, pods_each: large.world.pods_each };
    let small_server = Child::start(small, &work)?;
    let mut memory = [Vec::new(), Vec::new()];
    for _ in 0..turns {
        for (server, figures) in [&small_server, &server].into_iter().zip(&mut memory) {
            figures.push(proxies::memory(&options.proxy, server, &work)?);
        }
    }
    let [small_figures, large_figures] = memory;
    let rows = [(small, small_figures), (large.world, large_figures)];
    let rows = rows.map(|(world, figures)| (world, proxies::summary(&figures)));
    print!("\n{}", report::proxies(&rows));
    Ok(())
}

/// What is run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    world: World,
    subscribers: u32,
    keys: u32,
    rate: u32,
    seconds: u32,
}

fn large(options: &Options) -> Plan {
    let plan = |services, pods: u32, subscribers, seconds| Plan {
        world: World { services, pods_each: (pods / services).max(1) },
        subscribers,
        keys: options.keys_per_subscriber.min(services),
        rate: options.changes_per_second,
        seconds,
    };
    if options.smoke {
        return plan(200, 2_000, 50, 3);
    }
    plan(options.services, options.pods, options.subscribers, options.seconds)
}

impl Plan {
    /// Connects the proxies, changes endpoints and sees what arrives.
    fn serve(self, server: &Child, ca: &Store) -> Result<Served> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let loaded = proc::resident(server.pid())?;
            let (cpu, began) = (proc::cpu_time(server.pid())?, world::clock());
            let mut subscribers = Subscribers::connect(&self, server.address(), ca).await?;
            let connect = Span { cpu: proc::cpu_time(server.pid())? - cpu, wall: world::since(began) };
            let connected = proc::resident(server.pid())?;
            let cpu = proc::cpu_time(server.pid())?;
            let start = world::clock() + u64::try_from(LEAD.as_nanos())?;
            let count = self.rate * self.seconds;
            subscribers.expect(&self, count);
            server.change(start, count, self.rate)?;
            let got = subscribers.receive(&self, start, count).await?;
            let wall = world::since(start);
            let change = Span { cpu: proc::cpu_time(server.pid())? - cpu, wall };
            let changed = proc::resident(server.pid())?;
            Ok(Served { plan: self, resident: [server.empty(), loaded, connected, changed], connect, change, got })
        })
    }
}

/// Between the order to change and the first change.
const LEAD: Duration = Duration::from_millis(200);

/// A time, and what CPU time was used in it.
#[derive(Debug, Clone, Copy)]
struct Span {
    cpu: Duration,
    wall: Duration,
}

impl Span {
    /// 100 is one CPU.
    fn percent(self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64() * 100.0
    }
}

fn file(work: &Path, name: &str) -> Result<Vec<u8>> {
    let path = work.join(name);
    fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

fn summary(figures: impl Iterator<Item = f64>) -> Option<Summary> {
    Summary::of(&figures.collect::<Vec<_>>())
}
