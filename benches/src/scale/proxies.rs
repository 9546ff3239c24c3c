//! What a real proxy holds that uses ten Services, by the size of the mesh around them.
//!
//! A proxy is told what it asks for and nothing else; here it shows.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{self, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use super::{USED, child::Child, world};
use crate::{
    proc,
    process::{free_address, tick},
    stats::Summary,
};

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// When it is ready.
    pub(super) ready: u64,
    /// When it has used all that it uses.
    pub(super) used: u64,
}

/// Of some: when ready, when used.
pub(super) fn summary(figures: &[Memory]) -> [Option<Summary>; 2] {
    [super::summary(figures.iter().map(|m| m.ready as f64)), super::summary(figures.iter().map(|m| m.used as f64))]
}

/// For it to be ready, and for an answer.
const LONG: Duration = Duration::from_secs(60);

/// Of a proxy of the first pod that has asked `server` for the first Services.
pub(super) fn memory(binary: &Path, server: &Child, work: &Path) -> Result<Memory> {
    let mut proxy = Proxy::start(binary, server, work)?;
    proxy.wait("is not ready", |proxy| Ok(ask(proxy.admin, "localhost", "/readyz")?.starts_with("HTTP/1.1 200")))?;
    let ready = proc::resident(proxy.process.id())?;
    // Nobody is behind the addresses of the simulation: what counts is that the proxy is told of them.
    let mut calls = Vec::new();
    for n in 0..USED {
        calls.push(call(proxy.outbound, &world::host(n), "/")?);
    }
    for (n, mut stream) in calls.into_iter().enumerate() {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("the answer of {}", world::host(n as u32)))?;
        if !answer.starts_with("HTTP/1.1 50") {
            bail!("{} is answered {:?}", world::host(n as u32), answer.lines().next().unwrap_or_default());
        }
    }
    proxy.wait("does not have all Services", |proxy| {
        let shown = ask(proxy.admin, "localhost", "/upstreams")?;
        Ok((0..USED).all(|n| shown.contains(&format!("{}/{}:80", world::namespace(n), world::name(n)))))
    })?;
    Ok(Memory { ready, used: proc::resident(proxy.process.id())? })
}

/// Ended when dropped.
struct Proxy {
    process: process::Child,
    admin: SocketAddr,
    outbound: SocketAddr,
}

impl Proxy {
    fn start(binary: &Path, server: &Child, work: &Path) -> Result<Self> {
        let (namespace, name, pod) = (world::namespace(0), world::name(0), world::pod_name(0, 0));
        let token = work.join("token");
        fs::write(&token, format!("{namespace}/{name}/{pod}"))?;
        let (admin, outbound) = (free_address()?, free_address()?);
        let log = File::create(work.join("proxy.log"))?;
        let process = Command::new(binary)
            .args(["run", "--control-plane", &server.address().to_string()])
            .args(["--control-plane-namespace", world::MESH_NAMESPACE, "--trust-domain", world::TRUST_DOMAIN])
            .args(["--pod-namespace", &namespace, "--pod-name", &pod, "--service-account", &name])
            .args(["--pod-ips", "127.0.0.1", "--workers", "1", "--inbound", "127.0.0.1:0"])
            .args(["--admin", &admin.to_string(), "--outbound", &outbound.to_string()])
            .args(["--trust-bundle".as_ref(), server.ca().join("ca.crt").as_os_str()])
            .args(["--token".as_ref(), token.as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        Ok(Self { process, admin, outbound })
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            // Until it listens, it refuses.
            let held = holds(self);
            if matches!(held, Ok(true)) {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the proxy ended: {status}; see proxy.log");
            }
            if Instant::now() > deadline {
                held?;
                bail!("the proxy {what} after {} s; see proxy.log", LONG.as_secs());
            }
            tick();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn ask(address: SocketAddr, host: &str, path: &str) -> Result<String> {
    let mut answer = String::new();
    call(address, host, path)?.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A request whose answer ends the connection.
fn call(address: SocketAddr, host: &str, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}
