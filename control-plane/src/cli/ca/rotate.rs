//! `outrigger ca rotate`: one root after another, and no moment at which a certificate is not believed.

use std::path::PathBuf;

use anyhow::Result;

use super::super::{DONE, Global, duration, say};
use crate::ca::ROOT_LIFETIME;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory of the CA
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    step: Step,
    /// How long the new root is valid; ten years unless given
    #[arg(long, value_parser = duration::seconds, requires = "prepare")]
    lifetime: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Step {
    /// Add a new root to the bundle; the old one goes on signing
    #[arg(long)]
    prepare: bool,
    /// Let the new root sign; the old one is still trusted
    #[arg(long)]
    switch: bool,
    /// Drop the old root from the bundle
    #[arg(long)]
    finish: bool,
}

pub(super) fn run(args: &Args, global: Global, now: u64) -> Result<u8> {
    let mut store = super::open(&args.dir, now)?;
    let next = if args.step.prepare {
        store.prepare(args.lifetime.unwrap_or(ROOT_LIFETIME), now)?;
        "the bundle has the new root. Bring ca.crt to every proxy (or issue every certificate anew), then --switch"
    } else if args.step.switch {
        store.switch(now)?;
        "the new root signs. Issue every certificate anew, then --finish"
    } else {
        store.finish()?;
        "the old root is gone from the bundle. Bring ca.crt to every proxy (or issue every certificate anew)"
    };
    say(global.log_format, "info", &format!("{}: {next}", args.dir.display()));
    Ok(DONE)
}

pub(super) const EXAMPLES: &str = "Examples, in this order:
  outrigger ca rotate --dir ca --prepare    then bring ca/ca.crt to every proxy
  outrigger ca rotate --dir ca --switch     then `outrigger ca issue` every certificate anew
  outrigger ca rotate --dir ca --finish     then bring ca/ca.crt to every proxy

A proxy takes changed files by itself. Wait between the steps until every proxy's /certificates shows the change.";
