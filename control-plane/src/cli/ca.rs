//! `outrigger ca`: a development or offline CA, and what a certificate is.

mod rotate;
mod spelling;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use outrigger_config::{
    identity::DEFAULT_TRUST_DOMAIN,
    spiffe::{SpiffeId, check_trust_domain},
};
use rustls_pki_types::DnsName;

use super::{DONE, FOUND_FAULTS, Global, Output, Usage, duration, print, say};
use crate::ca::{self, CaError, IssueRequest, LEAF_LIFETIME, ROOT_LIFETIME, Store};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a CA: a root certificate and its key
    #[command(after_help = "Examples:
  outrigger ca init --dir ca
  outrigger ca init --dir ca --trust-domain shop.example --lifetime 43800h")]
    Init(Init),
    /// Sign a certificate for a workload: tls.crt, tls.key and ca.crt
    #[command(after_help = "Examples:
  outrigger ca issue --dir ca --id spiffe://cluster.local/ns/shop/sa/web --out web
  outrigger ca issue --dir ca --id spiffe://cluster.local/ns/shop/sa/db --out db --lifetime 24h --dns db.internal

A proxy that runs on these files takes the new ones within a second, and closes no connection.")]
    Issue(Issue),
    /// Replace the root without an outage, in three steps
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::Args),
    /// Say in words what a certificate, a bundle or a key is; keys themselves are never shown
    #[command(after_help = "Examples:
  outrigger ca show web/tls.crt
  kubectl get configmap outrigger-trust -o jsonpath='{.data.ca\\.crt}' | outrigger ca show -")]
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Directory for ca.crt and ca.key
    #[arg(long)]
    dir: PathBuf,
    /// Whom the CA speaks for: the first part of every identity
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN, value_parser = trust_domain)]
    trust_domain: String,
    /// How long the root is valid; ten years unless given
    #[arg(long, value_parser = duration::seconds)]
    lifetime: Option<u64>,
    /// Lose the CA that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Issue {
    /// Directory of the CA
    #[arg(long)]
    dir: PathBuf,
    /// Identity of the workload, spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, value_parser = spelling::spiffe_id)]
    id: SpiffeId,
    /// Directory for tls.crt, tls.key and ca.crt
    #[arg(long)]
    out: PathBuf,
    /// How long it is valid; ninety days unless given, and never longer than the CA
    #[arg(long, value_parser = duration::seconds)]
    lifetime: Option<u64>,
    /// A DNS name beside the identity, for peers that are no proxies; may be repeated
    #[arg(long = "dns", value_name = "NAME", value_parser = dns_name)]
    dns: Vec<DnsName<'static>>,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Files in PEM or DER; - is stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How it is written
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(args: &Args, global: Global) -> Result<u8> {
    let now = super::now();
    match &args.what {
        What::Init(args) => init(args, global, now),
        What::Issue(args) => issue(args, global, now),
        What::Rotate(args) => rotate::run(args, global, now),
        What::Show(args) => show(args, global, now),
    }
}

fn init(args: &Init, global: Global, now: u64) -> Result<u8> {
    let lifetime = args.lifetime.unwrap_or(ROOT_LIFETIME);
    let store = Store::init(&args.dir, &args.trust_domain, lifetime, args.force, now)?;
    let (dir, domain) = (args.dir.display(), store.authority().trust_domain());
    say(
        global.log_format,
        "info",
        &format!("{dir} is now the CA of the trust domain {domain}; keep {dir}/ca.key secret"),
    );
    Ok(DONE)
}

fn issue(args: &Issue, global: Global, now: u64) -> Result<u8> {
    let store = Store::open(&args.dir, now)?;
    // What nobody chose bends to what the CA has left.
    let left = store.authority().not_after().saturating_sub(now);
    let lifetime = args.lifetime.unwrap_or(LEAF_LIFETIME.min(left));
    let request = IssueRequest { id: &args.id, dns_names: &args.dns, lifetime, out: &args.out };
    let issued = store.issue(&request, now).map_err(|e| match e {
        CaError::TrustDomain { .. } | CaError::Lifetime(_) => Usage(e.to_string()).into(),
        e => anyhow::Error::from(e),
    })?;
    let message = format!(
        "{}: the identity of {}, valid until {}",
        args.out.display(),
        args.id,
        ca::time_in_words(issued.not_after)
    );
    say(global.log_format, "info", &message);
    Ok(DONE)
}

fn show(args: &Show, global: Global, now: u64) -> Result<u8> {
    let mut code = DONE;
    let mut descriptions = Vec::new();
    for file in &args.files {
        let described = ca::read_to_show(file)
            .map_err(anyhow::Error::from)
            .and_then(|text| ca::describe(&file.display().to_string(), &text, now).map_err(anyhow::Error::msg));
        match described {
            Ok(description) => {
                if description.is_broken() {
                    code = FOUND_FAULTS;
                }
                descriptions.push(description);
            }
            Err(error) => {
                say(global.log_format, "error", &format!("{error:#}"));
                code = FOUND_FAULTS;
            }
        }
    }
    match args.output {
        Output::Text => {
            let texts: Vec<String> = descriptions.iter().map(ToString::to_string).collect();
            print(&texts.join("\n"))?;
        }
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&descriptions)?))?,
    }
    Ok(code)
}

fn trust_domain(text: &str) -> Result<String, String> {
    check_trust_domain(text).map_err(|e| format!("{e}; write it as `cluster.local`, without spiffe://"))?;
    Ok(text.to_owned())
}

fn dns_name(text: &str) -> Result<DnsName<'static>, String> {
    let wrong = || CaError::DnsName(text.to_owned()).to_string();
    DnsName::try_from(text.to_owned()).map_err(|_| wrong())
}

fn open(dir: &Path, now: u64) -> Result<Store> {
    Ok(Store::open(dir, now)?)
}

const EXAMPLES: &str = "Examples:
  outrigger ca init --dir ca --trust-domain cluster.local
  outrigger ca issue --dir ca --id spiffe://cluster.local/ns/shop/sa/web --out web
  outrigger ca show web/tls.crt

ca.key must be kept secret; ca.crt is what proxies trust. `outrigger ca issue` again renews; `outrigger ca rotate` replaces the root.";
