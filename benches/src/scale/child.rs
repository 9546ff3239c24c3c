//! The process of the server, as the one that measures sees it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::world::World;

/// Ended when dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    address: SocketAddr,
    empty: u64,
    ca: PathBuf,
}

impl Child {
    /// Starts it and waits until its index is filled. `work` has the CA in `ca`.
    pub(super) fn start(world: World, work: &Path) -> Result<Self> {
        let ca = work.join("ca");
        let log = File::create(work.join(format!("server-{}.log", world.services)))?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["scale-server", "--services", &world.services.to_string()])
            .args(["--pods-each", &world.pods_each.to_string(), "--ca"])
            .arg(&ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("stdout is piped")?;
        let mut child = Self { process, address: SocketAddr::from(([0, 0, 0, 0], 0)), empty: 0, ca };
        BufReader::new(stdout).read_line(&mut line)?;
        let (address, empty) = line.trim().split_once(' ').with_context(|| {
            format!("the server did not start: see server-{}.log in {}", world.services, work.display())
        })?;
        (child.address, child.empty) = (address.parse()?, empty.parse()?);
        Ok(child)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident bytes before it had an index.
    pub(super) fn empty(&self) -> u64 {
        self.empty
    }

    /// Directory of the CA.
    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }

    /// Has endpoints changed `count` times, `rate` times a second, from `start` of the clock on.
    pub(super) fn change(&self, start: u64, count: u32, rate: u32) -> Result<()> {
        let mut stdin = self.process.stdin.as_ref().context("stdin is piped")?;
        writeln!(stdin, "{start} {count} {rate}")?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
