//! What a connection costs that is open and silent: most of those that a mesh holds are.
//!
//! Resident memory of the peer is read, and again with a number of connections more that have each carried one
//! request and stay open. Memory of the kernel (socket buffers) is not in it.
//!
//! What a start takes and gives back is neither memory at rest nor that of connections: nothing is read before the peer has
//! [`settled`].

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::{client::Connection, load::Case, proc, process};

/// Held at once, in turn.
const CONNECTIONS: [usize; 2] = [1_000, 10_000];
/// Descriptors for everything else.
const OTHERS: usize = 1_000;

/// How many connections to hold, in turn: as many as there are descriptors for. A proxy lets in only as many as it could forward,
/// and each takes one more then.
pub fn held() -> Result<[usize; 2]> {
    let room = proc::open_files()?.saturating_sub(OTHERS) / 2;
    // Round figures, so that runs are alike.
    Ok(CONNECTIONS.map(|wanted| wanted.min(room / 1_000 * 1_000)))
}

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Started, and never asked anything.
    pub at_rest: u64,
    /// After one request on one connection, which is open.
    pub served: u64,
    /// Connections held beside.
    pub held: usize,
    /// With them.
    pub with_all: u64,
}

impl Memory {
    /// Bytes per idle connection.
    #[must_use]
    pub fn per_connection(&self) -> f64 {
        self.with_all.saturating_sub(self.served) as f64 / self.held as f64
    }
}

/// Of the process `pid`, which serves at `address`, with `held` connections.
pub fn memory(address: SocketAddr, pid: u32, held: usize) -> Result<Memory> {
    let open = || -> Result<Connection> {
        let mut connection = Connection::open(address, Case::Small.path())?;
        connection.exchange()?;
        connection.rest();
        Ok(connection)
    };
    let at_rest = settled(pid)?;
    let _first = open()?;
    let served = proc::resident(pid)?;
    let _held = (0..held).map(|_| open()).collect::<Result<Vec<_>>>()?;
    Ok(Memory { at_rest, served, held, with_all: proc::resident(pid)? })
}

/// Resident memory of the process `pid` once it has not changed for a while.
pub fn settled(pid: u32) -> Result<u64> {
    let deadline = Instant::now() + SETTLES;
    let (mut seen, mut since) = (proc::resident(pid)?, Instant::now());
    while since.elapsed() < UNCHANGED {
        process::tick();
        let now = proc::resident(pid)?;
        if now.abs_diff(seen) > LITTLE {
            (seen, since) = (now, Instant::now());
        }
        if Instant::now() > deadline {
            bail!("the memory of process {pid} still changes after {SETTLES:?} without a request");
        }
    }
    Ok(seen)
}

/// Twice as long as Outrigger waits before it gives back what its start took.
const UNCHANGED: Duration = Duration::from_secs(2);
/// What a statistics timer or a garbage collector moves is not waited for.
const LITTLE: u64 = 64 << 10;
/// Whoever has not settled by then never does.
const SETTLES: Duration = Duration::from_secs(30);
