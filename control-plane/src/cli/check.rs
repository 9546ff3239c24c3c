//! `outrigger check`: is everything there that the mesh needs, and is it healthy? Each line says what to do about it.
//!
//! `--pre` asks before an installation; without it the control plane and the proxies are looked at as well. Nothing is changed, and
//! what may not be read is said and skipped. Warnings are for later; a fault ends the program with 1.

mod cluster;
mod crds;
mod injection;
mod mesh;
mod report;
mod skew;

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use kube::Client;

use self::report::{Line, Report};
use super::{DONE, FOUND_FAULTS, Output, cluster::ClusterArgs, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Before an installation: only what the cluster must have, and what you must be allowed to do
    #[arg(long)]
    pre: bool,
    /// Name of the webhook configurations
    #[arg(long, default_value = "outrigger", value_name = "NAME")]
    webhook: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How it is written
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

/// What all checks share.
struct Context {
    client: Client,
    namespace: String,
    webhook: String,
    pre: bool,
    /// Seconds since 1970.
    now: u64,
}

pub(super) fn run(args: &Args) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let report = runtime.block_on(check(args));
    match args.output {
        Output::Text => {
            let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&report.text(colour))?;
        }
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.ok { DONE } else { FOUND_FAULTS })
}

async fn check(args: &Args) -> Report {
    let mut report = Report::default();
    let client = match args.cluster.client().await {
        Ok(client) => client,
        Err(why) => {
            let remedy = "give --kubeconfig FILE, or set KUBECONFIG; `kubectl get namespaces` must work";
            report.add("cluster", Line::fault("kubeconfig", why, remedy));
            return report;
        }
    };
    let context = Context {
        client,
        namespace: args.cluster.mesh_namespace.clone(),
        webhook: args.webhook.clone(),
        pre: args.pre,
        now: super::now(),
    };
    let (lines, reachable) = cluster::api_server(&context).await;
    report.extend("cluster", lines);
    if !reachable {
        return report;
    }
    report.extend("cluster", crds::gateway_api(&context).await);
    report.extend("cluster", crds::ours(&context).await);
    if args.pre {
        report.extend("permissions", cluster::permissions(&context).await);
    } else {
        report.extend("control plane", mesh::control_plane(&context).await);
        report.extend("proxies", mesh::proxies(&context).await);
    }
    report
}

const EXAMPLES: &str = "Examples:
  outrigger check --pre          before an installation
  outrigger check                afterwards, and at any time
  outrigger check -o json        for programs

Exit codes: 0 no fault (there may be warnings), 1 faults, 2 wrong usage.";
