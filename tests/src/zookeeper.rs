//! A real ZooKeeper (Debian's), standing alone, with sessions that end within a second.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use crate::{eventually, guard::Guarded, peers, ports::free_ports};

/// A server.
#[derive(Debug)]
pub struct ZooKeeper {
    java: PathBuf,
    address: SocketAddr,
    dir: PathBuf,
    running: Mutex<Option<Guarded>>,
}

/// Where Debian puts it.
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Until it listens: two seconds on an idle machine.
const START: Duration = Duration::from_secs(60);

impl ZooKeeper {
    /// Starts it on a free port. `None`: it is missing, and that was said.
    #[must_use]
    #[track_caller]
    pub fn start(scenario: &str) -> Option<Self> {
        let java = peers::program(scenario, "java")?;
        if !PathBuf::from(JAR).is_file() {
            return peers::skip(scenario, "zookeeper missing");
        }
        let [address] = free_ports();
        // Removed by the guard, also when this process is killed.
        let dir = TempDir::new().expect("a temporary directory").keep();
        let text = format!(
            "tickTime=250\ndataDir={0}/data\nclientPort={1}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
             forceSync=no\nmaxClientCnxns=0\n",
            dir.display(),
            address.port()
        );
        fs::write(dir.join("zoo.cfg"), text).expect("the directory is writable");
        let zookeeper = Self { java, address, dir, running: Mutex::default() };
        zookeeper.restart();
        Some(zookeeper)
    }

    /// Where it serves clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(running) = self.lock().take() {
            running.kill();
        }
    }

    /// Starts it again at the same address with the data that it had, and waits until it listens.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        let mut command = Command::new(&self.java);
        command.args(["-Xmx256m", "-cp", &format!("/etc/zookeeper/conf:{JAR}")]);
        command.args(["-Dzookeeper.log.dir=.", "org.apache.zookeeper.server.quorum.QuorumPeerMain"]);
        command.arg(self.dir.join("zoo.cfg"));
        *self.lock() = Some(Guarded::start("zookeeper", &command, &self.dir));
        eventually("ZooKeeper listens", START, || TcpStream::connect(self.address).ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Guarded>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
