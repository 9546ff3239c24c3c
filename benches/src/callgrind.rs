//! User-mode instructions per request, counted by valgrind.
//!
//! CPU time depends on the machine and its neighbours; the number of instructions that a program executes for a
//! request hardly does, so small changes show. A peer is run twice under callgrind with different numbers of
//! requests: the difference is what the additional requests cost, without start-up, shutdown or connections.
//! What the kernel does for a request is not in it.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    load::{self, Case},
    peers::Peer,
    process::Server,
};

/// Requests of the two runs. About 50 times slower than native, the longer one takes some seconds.
pub const COUNTS: [usize; 2] = [1_000, 11_000];
/// Enough to see that it works.
pub const FEW: [usize; 2] = [100, 600];

/// Instructions that `peer` executes for one request of `case`, by two runs of `counts` requests.
pub fn instructions(peer: &Peer, case: Case, counts: [usize; 2], cpu: usize, work: &Path) -> Result<f64> {
    let address = if case == Case::Http2 { peer.http2 } else { Some(peer.http1) };
    let address = address.with_context(|| format!("{} does not speak HTTP/2", peer.name))?;
    each(&peer.name, &peer.command, peer.http1, counts, cpu, work, |count| load::counted(case, address, count))
}

/// The same of any `command` that accepts on `address`, by two runs of `ask` with one of `counts` each.
pub fn each(
    name: &str,
    command: &[String],
    address: SocketAddr,
    counts: [usize; 2],
    cpu: usize,
    work: &Path,
    ask: impl Fn(usize) -> Result<()>,
) -> Result<f64> {
    let mut totals = [0_u64; 2];
    for (count, total) in counts.into_iter().zip(&mut totals) {
        let counted = work.join(format!("{name}.callgrind"));
        let mut whole = vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", counted.display()),
        ];
        whole.extend(command.iter().cloned());
        let server = Server::start(&format!("{name}-callgrind"), &whole, cpu, address, work)
            .context("under valgrind (Debian: valgrind)")?;
        ask(count)?;
        server.finish()?;
        *total = summary(&fs::read_to_string(&counted).context("what callgrind counted")?)?;
    }
    let difference = totals[1].saturating_sub(totals[0]);
    Ok(difference as f64 / (counts[1] - counts[0]) as f64)
}

fn summary(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("summary:").or_else(|| l.strip_prefix("totals:")));
    Ok(line.context("no summary in what callgrind wrote")?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        assert_eq!(summary("events: Ir\nsummary: 1234\n\nfn=(1)\n").unwrap(), 1234);
        assert!(summary("events: Ir\n").is_err());
    }
}
