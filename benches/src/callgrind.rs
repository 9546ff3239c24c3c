//! User-mode instructions per request, counted by valgrind.
//!
//! CPU time depends on the machine and its neighbours; the number of instructions that a program executes for a
//! request hardly does, so small changes show. A peer is run twice under callgrind with different numbers of
//! requests: the difference is what the additional requests cost, without start-up, shutdown or connections.
//! What the kernel does for a request is not in it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{client, load::Case, peers::Peer, process::Server};

/// Requests of the two runs. About 50 times slower than native, the longer one takes some seconds.
pub const COUNTS: [usize; 2] = [1_000, 11_000];
/// Enough to see that it works.
pub const FEW: [usize; 2] = [100, 600];
/// Enough for requests to overlap.
const CONNECTIONS: usize = 16;

/// Instructions that `peer` executes for one request of 1 KiB, by two runs of `counts` requests.
pub fn instructions(peer: &Peer, counts: [usize; 2], cpu: usize, work: &Path) -> Result<f64> {
    let mut totals = [0_u64; 2];
    for (count, total) in counts.into_iter().zip(&mut totals) {
        let counted = work.join(format!("{}.callgrind", peer.name));
        let mut command = vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", counted.display()),
        ];
        command.extend(peer.command.iter().cloned());
        let server = Server::start(&format!("{}-callgrind", peer.name), &command, cpu, peer.http1, work)
            .context("under valgrind (Debian: valgrind)")?;
        client::counted(peer.http1, Case::Small.path(), CONNECTIONS, count)?;
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
