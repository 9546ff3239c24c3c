//! What a connection costs that is open and silent: most of those that a mesh holds are.
//!
//! Resident memory of the peer is read, and again with a number of connections more that have each carried one
//! request and stay open. Memory of the kernel (socket buffers) is not in it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{client::Connection, load::Case, proc};

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
    /// After one request on one connection.
    pub at_rest: u64,
    /// Connections held beside.
    pub held: usize,
    /// With them.
    pub with_all: u64,
}

impl Memory {
    /// Bytes per idle connection.
    #[must_use]
    pub fn per_connection(&self) -> f64 {
        self.with_all.saturating_sub(self.at_rest) as f64 / self.held as f64
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
    let _first = open()?;
    let at_rest = proc::resident(pid)?;
    let _held = (0..held).map(|_| open()).collect::<Result<Vec<_>>>()?;
    Ok(Memory { at_rest, held, with_all: proc::resident(pid)? })
}
