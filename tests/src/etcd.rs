//! A real etcd: the store of the API server of [`kube`](crate::kube), and a registry of endpoints.
//!
//! Its data survives [`Etcd::kill`] and goes with [`Etcd::replace`]; its address stays. Nothing is synced to the disk:
//! what a power cut would lose is no matter of these tests.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use crate::{binary::target_dir, eventually, guard::Guarded, peers::skip, ports::free_ports, wire};

/// A member of one.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    dir: PathBuf,
    running: Mutex<Option<Guarded>>,
}

/// Until it answers: a second on an idle machine.
const START: Duration = Duration::from_secs(60);

impl Etcd {
    /// Starts it on free ports. `None`: it is missing, and that was said.
    #[must_use]
    #[track_caller]
    pub fn start(scenario: &str) -> Option<Self> {
        let program = target_dir().join("test-tools/etcd");
        if !program.is_file() {
            return skip(scenario, "etcd missing");
        }
        let [client, peer] = free_ports();
        // Removed by the guard, also when this process is killed.
        let dir = TempDir::new().expect("a temporary directory").keep();
        let etcd = Self { program, client, peer, dir, running: Mutex::default() };
        etcd.restart();
        Some(etcd)
    }

    /// Where it serves clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(running) = self.lock().take() {
            running.kill();
        }
    }

    /// Starts it again at the same address with the data that it had, and waits until it answers.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        *self.lock() = Some(Guarded::start("etcd", &self.command(), &self.dir));
        eventually("etcd is healthy", START, || {
            std::net::TcpStream::connect(self.client).ok()?;
            (wire::get(self.client, "/health").status == 200).then_some(())
        });
    }

    /// Starts it again at the same address with no data: its revisions begin anew.
    #[track_caller]
    pub fn replace(&self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.join("data")).expect("the data is there");
        self.restart();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let (client, peer) = (format!("http://{}", self.client), format!("http://{}", self.peer));
        command.arg("--data-dir").arg(self.dir.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync", "--log-level", "error"]);
        command
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Guarded>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
