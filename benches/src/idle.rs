//! What a connection costs that is open and silent: most of those that a mesh holds are.
//!
//! Resident memory of the peer is read, and again with [`CONNECTIONS`] more that have each carried one request
//! and stay open. Memory of the kernel (socket buffers) is not in it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{client::Connection, load::Case, proc};

/// Held at once. The client needs as many file descriptors.
pub const CONNECTIONS: usize = 1_000;

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// After one request on one connection.
    pub at_rest: u64,
    /// With [`CONNECTIONS`] more.
    pub with_all: u64,
}

impl Memory {
    /// Bytes per idle connection.
    #[must_use]
    pub fn per_connection(&self) -> f64 {
        self.with_all.saturating_sub(self.at_rest) as f64 / CONNECTIONS as f64
    }
}

/// Of the process `pid`, which serves at `address`.
pub fn memory(address: SocketAddr, pid: u32) -> Result<Memory> {
    let open = || -> Result<Connection> {
        let mut connection = Connection::open(address, Case::Small.path())?;
        connection.exchange()?;
        Ok(connection)
    };
    let _first = open()?;
    let at_rest = proc::resident(pid)?;
    let _held = (0..CONNECTIONS).map(|_| open()).collect::<Result<Vec<_>>>()?;
    Ok(Memory { at_rest, with_all: proc::resident(pid)? })
}
