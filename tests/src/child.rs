//! An origin in a process of its own, which can be frozen and killed.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::process;

/// A running `child-origin`; killed when it is dropped.
#[derive(Debug)]
pub struct ChildOrigin {
    child: Child,
    address: SocketAddr,
}

impl ChildOrigin {
    /// Runs `binary` (`env!("CARGO_BIN_EXE_child-origin")`) at `address`, port 0 for any; its answers carry
    /// `x-endpoint: NAME`. Returns when it listens.
    #[must_use]
    #[track_caller]
    pub fn start(binary: impl AsRef<Path>, address: SocketAddr, name: &str) -> Self {
        let mut command = Command::new(binary.as_ref());
        command.args([address.to_string(), name.to_owned()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the origin starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let address = line.trim().parse().expect("its address");
        Self { child, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a signal by name (`STOP`, `CONT`).
    #[track_caller]
    pub fn signal(&self, name: &str) {
        process::signal(self.child.id(), name);
    }
}

impl Drop for ChildOrigin {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
