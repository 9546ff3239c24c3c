//! Starting, waiting for and ending the servers of a comparison.
//!
//! A [`Server`] owns its process: it is ended and reaped when dropped, whatever happened in between. It is asked first, because
//! a program that is instrumented writes what it has counted when it ends by itself. Pinning is
//! done by `taskset`, which replaces itself by the command, so the process id stays the server's own.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

/// A running server, ended when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
}

impl Server {
    /// Start `command` (program first) on `cpu`, with its output in `logs/NAME.log`, and wait until it accepts
    /// connections on `address`.
    pub fn start(name: &str, command: &[String], cpu: usize, address: SocketAddr, logs: &Path) -> Result<Self> {
        let path = logs.join(format!("{name}.log"));
        let log = File::create(&path)?;
        let child = Command::new("taskset")
            .args(["--cpu-list", &cpu.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting taskset (Debian: util-linux)")?;
        let mut server = Self { name: name.to_owned(), child };
        server.wait_until_accepting(address).with_context(|| {
            let said = fs::read_to_string(&path).unwrap_or_default();
            format!("starting {name}; it said:\n{}", said.trim())
        })?;
        Ok(server)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ask it to end (SIGTERM) and wait until it has; only then has callgrind written what it counted.
    pub fn finish(mut self) -> Result<()> {
        self.end_within(END)
    }

    fn end_within(&mut self, bound: Duration) -> Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).stderr(Stdio::null()).status()?;
        if !sent.success() {
            bail!("{} is gone already", self.name);
        }
        let deadline = Instant::now() + bound;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end on SIGTERM", self.name);
            }
            tick();
        }
        Ok(())
    }

    fn wait_until_accepting(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once: {status}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} does not accept on {address}", self.name);
            }
            tick();
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, or be waited for; then there is nothing to end.
        if matches!(self.child.try_wait(), Ok(None)) && self.end_within(END_AT_DROP).is_ok() {
            return;
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address of loopback that nobody listens on. It is free, not held: servers that know no port 0 get one.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The pause between two looks at a condition that nothing announces.
#[expect(clippy::disallowed_methods, reason = "the condition is looked at again, up to a deadline")]
pub fn tick() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Under valgrind a server takes some seconds to start.
const START: Duration = Duration::from_secs(60);
/// Long enough for a drain with idle connections, and for valgrind to write its file.
const END: Duration = Duration::from_secs(60);
/// Nobody needs more for ending without clients, also when what is dropped is a failure's.
const END_AT_DROP: Duration = Duration::from_secs(5);
