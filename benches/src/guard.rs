//! The guard: a change that makes requests dearer is noticed when it is made.
//!
//! Instructions are counted as in the comparison ([`callgrind`]) and held against those that
//! `benches/instructions.toml` has on record. CPU time could not be guarded like that: it varies by more than a
//! careless change costs. Two workers are held against one: what they share shows as locks that wait and as
//! compare-and-swap that is tried again, if not as the time that a cache line takes to change hands. Only growth fails; who makes requests cheaper is asked to record it, so that the gain is
//! not given away again unseen.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    callgrind, compare,
    load::Case,
    mtls,
    peers::{Kind, Parts, Peer},
    process::free_address,
};

/// What to hold against what.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The `outrigger-proxy` binary, built with `--release`
    #[arg(long, default_value = "target/release/outrigger-proxy")]
    pub proxy: PathBuf,
    /// The figures on record
    #[arg(long, default_value = "benches/instructions.toml")]
    pub record: PathBuf,
    /// Write what is counted there instead of comparing
    #[arg(long)]
    pub renew: bool,
    /// The CPU of the proxy
    #[arg(long, default_value_t = 0)]
    pub proxy_cpu: usize,
    /// The CPU of the origin
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// Where configurations and logs are written
    #[arg(long, default_value = "target/bench")]
    pub work: PathBuf,
}

/// What is guarded, besides mutual TLS: the name on record, which peer, which case.
const GUARDED: [(&str, Kind, Case); 4] = [
    ("http1", Kind::Outrigger, Case::Small),
    ("http1-two", Kind::OutriggerTwo, Case::Small),
    ("http1-log", Kind::OutriggerLog, Case::Small),
    ("http2", Kind::Outrigger, Case::Http2),
];

/// Growth that is let pass, in percent. Two counts of one binary differ by less than a fifth of that.
const TOLERANCE: f64 = 3.0;

/// Counts, and compares with the record or renews it.
pub fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = fs::canonicalize(&options.work)?;
    let origins = [free_address()?, free_address()?, free_address()?];
    let _origin = compare::start_origin(options.client_cpu, &origins, &work)?;
    let parts = Parts { proxy: &options.proxy, pgo: None, envoy: Path::new(""), work: &work, origins: &origins };
    let mut counted = Vec::new();
    for (name, kind, case) in GUARDED {
        let peer = Peer::prepare(kind, &parts)?;
        let figure = callgrind::instructions(&peer, case, callgrind::COUNTS, options.proxy_cpu, &work)
            .with_context(|| format!("{name}: counting instructions"))?;
        counted.push((name, figure));
    }
    let mtls = mtls::instructions(&options.proxy, &work, [options.proxy_cpu, options.client_cpu]);
    counted.push(("mtls", mtls.context("mtls: counting instructions")?));
    if options.renew {
        return fs::write(&options.record, written(&counted)).context("writing the record");
    }
    let text = fs::read_to_string(&options.record).with_context(|| format!("reading {}", options.record.display()))?;
    let (lines, grown) = judge(&counted, &text)?;
    print!("{lines}");
    alike(&counted)?;
    if grown {
        bail!(
            "requests take more instructions than {} has on record, by more than {TOLERANCE} %: find out why; if it \
            has to be, `benches/compare --guard --renew` records it",
            options.record.display()
        );
    }
    Ok(())
}

/// One line for each figure, and whether one has grown too much.
fn judge(counted: &[(&str, f64)], record: &str) -> Result<(String, bool)> {
    let (mut lines, mut grown) = (String::new(), false);
    for (name, figure) in counted {
        let before = recorded(record, name).with_context(|| format!("there is no figure for {name} on record"))?;
        let change = (figure / before - 1.0) * 100.0;
        let remark = if change > TOLERANCE {
            grown = true;
            ": TOO MANY"
        } else if change < -TOLERANCE {
            ": fewer; record it (`benches/compare --guard --renew`), or the gain is not guarded"
        } else {
            ""
        };
        lines.push_str(&format!(
            "{name}: {figure:.0} instructions per request, {before:.0} on record, {change:+.1} %{remark}\n"
        ));
    }
    Ok((lines, grown))
}

/// A request takes the same whether one worker is there or two.
fn alike(counted: &[(&str, f64)]) -> Result<()> {
    let of = |name: &str| counted.iter().find(|(n, _)| *n == name).map(|(_, figure)| *figure);
    let (Some(one), Some(two)) = (of("http1"), of("http1-two")) else { return Ok(()) };
    let change = (two / one - 1.0) * 100.0;
    if change.abs() > TOLERANCE {
        bail!("a request takes {change:+.1} % instructions with two workers: they share what each should have");
    }
    Ok(())
}

/// The figure behind `name = `.
fn recorded(record: &str, name: &str) -> Option<f64> {
    let value = record.lines().find_map(|l| l.split_once('=').filter(|(key, _)| key.trim() == name))?.1;
    value.trim().replace('_', "").parse().ok().filter(|figure| *figure > 0.0)
}

fn written(counted: &[(&str, f64)]) -> String {
    let lines: String = counted.iter().map(|(name, figure)| format!("{name} = {figure:.0}\n")).collect();
    format!("{HEAD}{lines}")
}

const HEAD: &str =
    "# User-mode instructions per request of the proxy built with --release, its whole pipeline on (benches/README.md).
# `benches/compare --guard` fails when one has grown by more than 3 %; `benches/compare --guard --renew` writes this.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_fails_and_gain_does_not() {
        let record = written(&[("http1", 20_000.0), ("http2", 30_000.4)]);
        assert!(record.ends_with("http1 = 20000\nhttp2 = 30000\n"), "{record}");
        let (lines, grown) = judge(&[("http1", 20_599.0), ("http2", 25_000.0)], &record).unwrap();
        assert!(!grown && lines.contains("+3.0 %\n") && lines.contains("fewer; record it"), "{lines}");
        let (lines, grown) = judge(&[("http1", 20_601.0)], &record).unwrap();
        assert!(grown && lines.contains("TOO MANY"), "{lines}");
        assert!(judge(&[("http1-log", 1.0)], &record).is_err());
        assert!(alike(&[("http1", 20_000.0), ("http1-two", 20_500.0)]).is_ok());
        assert!(alike(&[("http1", 20_000.0), ("http1-two", 21_000.0)]).is_err());
        assert_eq!(recorded("a = 20_100 \n", "a"), Some(20_100.0));
        assert_eq!(recorded("a = 0\n", "a"), None);
    }
}
