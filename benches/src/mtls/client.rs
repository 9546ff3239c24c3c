//! A client with a certificate: blocking rustls, one thread per connection.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::Instant;

use super::pki::Files;
use crate::{
    client::{self, HEADERS},
    load::Case,
};

/// Which key exchange is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// X25519.
    Classic,
    /// X25519MLKEM768.
    Hybrid,
}

/// What is shown to servers, for both key exchanges.
pub(super) struct Shown([Arc<ClientConfig>; 2]);

impl Shown {
    pub(super) fn load(files: &Files) -> Result<Self> {
        let config = |group| -> Result<Arc<ClientConfig>> {
            let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&files.ca)?)?;
            let chain = vec![CertificateDer::from_pem_file(&files.client[0])?];
            let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.client[1])?)?;
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        Ok(Self([config(kx_group::X25519)?, config(kx_group::X25519MLKEM768)?]))
    }

    fn connect(&self, groups: Groups, address: SocketAddr) -> Result<Connection> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(ANSWER))?;
        let config = Arc::clone(&self.0[usize::from(groups == Groups::Hybrid)]);
        let tls = ClientConnection::new(config, "localhost".try_into()?)?;
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", Case::Small.path());
        for (name, value) in HEADERS {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Connection { stream: StreamOwned::new(tls, tcp), request, buffer: vec![0; 16 << 10] })
    }
}

/// One connection under TLS.
pub(super) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    request: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// One request and its whole answer, which has 1 KiB.
    fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(self.request.as_bytes())?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => bail!("the connection was closed within an answer"),
                read => filled += read,
            }
            let text = &self.buffer[..filled];
            if !text.starts_with(b"HTTP/1.1 200") {
                bail!("answered {:?}", String::from_utf8_lossy(&text[..filled.min(80)]));
            }
            if memmem::find(text, b"\r\n\r\n").is_some_and(|end| filled >= end + 4 + 1024) {
                return Ok(());
            }
        }
    }
}

/// An open connection that has carried a request. Keeps nothing that its answer took.
pub(super) fn held(shown: &Shown, address: SocketAddr) -> Result<Connection> {
    let mut connection = shown.connect(Groups::Classic, address)?;
    connection.exchange()?;
    connection.buffer = Vec::new();
    Ok(connection)
}

/// Requests over kept connections for `time`, at `rate` a second together if there is one. Returns how many.
pub(super) fn looped(
    shown: &Shown,
    groups: Groups,
    address: SocketAddr,
    connections: usize,
    time: Duration,
    rate: Option<u32>,
) -> Result<u64> {
    let begin = Instant::now() + Duration::from_millis(100);
    let gap = rate.map(|rate| Duration::from_secs(1) * u32::try_from(connections).unwrap_or(1) / rate.max(1));
    side_by_side(connections, |index| {
        let mut connection = shown.connect(groups, address)?;
        let mut due = begin + gap.unwrap_or_default() * u32::try_from(index)? / u32::try_from(connections)?;
        let mut done = 0;
        while Instant::now() < begin + time {
            if let Some(gap) = gap {
                client::wait_until(due);
                due += gap;
            }
            connection.exchange()?;
            done += 1;
        }
        Ok(done)
    })
}

/// Exactly `count` requests over kept connections.
pub(super) fn counted(shown: &Shown, address: SocketAddr, connections: usize, count: usize) -> Result<()> {
    side_by_side(connections, |index| {
        let mut connection = shown.connect(Groups::Classic, address)?;
        let share = count / connections + usize::from(index < count % connections);
        for _ in 0..share {
            connection.exchange()?;
        }
        Ok(share as u64)
    })?;
    Ok(())
}

/// Full handshakes, each with one request, for `time`. Returns how many.
pub(super) fn handshakes(
    shown: &Shown,
    groups: Groups,
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<u64> {
    let end = Instant::now() + time;
    side_by_side(connections, |_| {
        let mut done = 0;
        while Instant::now() < end {
            shown.connect(groups, address)?.exchange()?;
            done += 1;
        }
        Ok(done)
    })
}

fn side_by_side(connections: usize, work: impl Fn(usize) -> Result<u64> + Sync) -> Result<u64> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..connections).map(|index| scope.spawn(move || work(index))).collect();
        let mut sum = 0;
        for one in running {
            sum += one.join().ok().context("a client thread panicked")??;
        }
        Ok(sum)
    })
}

/// An answer that takes this long is lost.
const ANSWER: Duration = Duration::from_secs(20);
